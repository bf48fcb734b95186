"""What the IRMd knows of one IPCP (paper 5.2: the IPCP table)."""

from __future__ import annotations

import asyncio
import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ouroboros.rpc.messages_pb2 import (
    ETH_DIX,
    ETH_LLC,
    LOCAL,
    RAPTOR,
    SHA3_256,
    UDP4,
    UDP6,
    UNICAST,
    Envelope,
    IpcpInfo,
    IpcpType,
)

from .allocation import gone
from .refused import Refused

if TYPE_CHECKING:
    from ouroboros.rpc.aio_session import Session

    from .process import Process

QUERY_ORDER = (LOCAL, UNICAST, ETH_LLC, ETH_DIX, UDP4, UDP6, RAPTOR)
"""Types in the order in which their layers are preferred (spec/irm-rpc.md 6.2); broadcast is joined only."""

# seconds that an operation may take (spec/irm-rpc.md 5)
BOOT_TIME = 5.0
BOOTSTRAP_TIME = 5.0
ENROLL_TIME = 20.0
REGISTER_TIME = 20.0
UNREGISTER_TIME = 0.5
CONNECT_TIME = 20.0
DISCONNECT_TIME = 0.5
# The prototype gives these two 0.5 s and, when that passes on a busy system, is left with half a flow.
RESPONSE_TIME = 5.0
JOIN_TIME = 5.0

_TYPE_WORDS: dict[int, str] = {
    int(number): name.lower().replace("_", "-") for name, number in IpcpType.items()
}


def type_word(number: int) -> str:
    """An IPCP type as people write it, e.g. `eth-dix`."""
    return _TYPE_WORDS.get(number, str(number))


@dataclass(slots=True, eq=False)
class Ipcp:
    """An IPCP of this system, from the moment its process was forked."""

    name: str
    type: int
    pid: int
    pidfd: int
    session: Session
    up: asyncio.Future[None]
    """Ends when it is in state boot, or dead."""
    ended: asyncio.Future[None]
    """Ends when its process has."""
    process: Process | None = None
    state: str = "init"
    layer: str = ""
    hash: int = SHA3_256

    @property
    def operational(self) -> bool:
        """Whether it is a member of a layer and alive."""
        return self.state == "operational" and self.process is not None

    def info(self) -> IpcpInfo:
        """What the lists show."""
        return IpcpInfo(
            pid=self.pid,
            name=self.name,
            type=self.type,  # type: ignore[arg-type]
            layer=self.layer,
            hash=self.hash,  # type: ignore[arg-type]
            state=self.state,
        )

    async def ask(self, envelope: Envelope, what: str, timeout: float) -> Envelope:
        """Ask the IPCP to do something. Raises Refused with its error, or when it does not answer in time."""
        reply = await self.session.call(envelope, timeout=timeout)
        if reply is None:
            raise self.silent(what, timeout)
        if reply.error:
            raise Refused(reply.error, reply.text or f'IPCP "{self.name}" cannot {what}')
        return reply

    def silent(self, what: str, timeout: float) -> Refused:
        """The refusal when it did not answer: dead, or too slow."""
        if self.session.closed:
            fail = gone(self.name)
            return Refused(fail.errno, fail.text)
        return Refused(errno.ETIMEDOUT, f'IPCP "{self.name}" did not answer within {timeout:g} s: {what}')
