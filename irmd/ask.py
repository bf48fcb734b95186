"""A request of the IRMd to an IPCP, and how long each kind may take (spec/rpc RPC-8)."""

from __future__ import annotations

import asyncio
import errno
from typing import TYPE_CHECKING

from ouroboros.rpc.codec import close_fds
from ouroboros.rpc.messages_pb2 import Cancel, Envelope
from ouroboros.rpc.service import Refusal

from .allocation import ipcp_exited

if TYPE_CHECKING:
    from .records import Ipcp

# seconds
BOOT_TIME = 5.0
BOOTSTRAP_TIME = 5.0
ENROLL_TIME = 20.0
REGISTER_TIME = 20.0
UNREGISTER_TIME = 0.5
CONNECT_TIME = 20.0
DISCONNECT_TIME = 0.5
# The prototype's time-out is 0.5 s for these two; when it expires on a busy system, half a flow is left.
RESPONSE_TIME = 5.0
READOUT_TIME = 5.0


async def ask(ipcp: Ipcp, envelope: Envelope, what: str, timeout: float) -> Envelope:
    """Send a request to the IPCP. Raises Refusal with its error, or when it does not answer in time.

    When the caller is cancelled, the IPCP gets a Cancel.
    """
    answer: asyncio.Future[Envelope | None] = asyncio.get_running_loop().create_future()

    def answered(reply: Envelope | None, fds: list[int]) -> None:
        close_fds(fds)
        if not answer.done():
            answer.set_result(reply)

    number = ipcp.session.request(envelope, answered, timeout=timeout)
    try:
        reply = await answer
    except asyncio.CancelledError:
        ipcp.session.send(Envelope(cancel=Cancel(id=number)))
        raise
    if reply is None:
        ipcp.session.send(Envelope(cancel=Cancel(id=number)))
        raise no_answer(ipcp, what, timeout)
    if reply.error:
        raise Refusal(reply.error, reply.text or f'IPCP "{ipcp.name}" cannot {what}')
    return reply


def no_answer(ipcp: Ipcp, what: str, timeout: float) -> Refusal:
    """The refusal when an IPCP did not answer: it has exited, or is too slow."""
    if ipcp.session.closed:
        fail = ipcp_exited(ipcp.name)
        return Refusal(fail.errno, fail.text)
    return Refusal(errno.ETIMEDOUT, f'IPCP "{ipcp.name}" did not answer within {timeout:g} s: {what}')
