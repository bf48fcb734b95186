"""The IRMd's record of one IPCP (paper 5.2: the IPCP table)."""

from __future__ import annotations

import asyncio
import errno
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ouroboros.rpc.codec import close_fds
from ouroboros.rpc.messages_pb2 import (
    ETH_DIX,
    ETH_LLC,
    LOCAL,
    RAPTOR,
    SHA3_256,
    UDP4,
    UDP6,
    UNICAST,
    Access,
    Cancel,
    Envelope,
    IpcpInfo,
    IpcpType,
)

from .allocation import ipcp_exited
from .oap.header import MAX_LENGTH
from .refused import Refused

if TYPE_CHECKING:
    from ouroboros.rpc.aio_session import Session

    from .process import Process

QUERY_ORDER = (LOCAL, UNICAST, ETH_LLC, ETH_DIX, UDP4, UDP6, RAPTOR)
"""Types in the order in which their layers are preferred (spec/rpc 4); broadcast is joined only."""

# seconds that an operation may take (spec/rpc RPC-8)
BOOT_TIME = 5.0
BOOTSTRAP_TIME = 5.0
ENROLL_TIME = 20.0
REGISTER_TIME = 20.0
UNREGISTER_TIME = 0.5
CONNECT_TIME = 20.0
DISCONNECT_TIME = 0.5
# The prototype's time-out is 0.5 s for these two; when it expires on a busy system, half a flow is left.
RESPONSE_TIME = 5.0
JOIN_TIME = 5.0
READOUT_TIME = 5.0

QUERY_TIME: dict[int, float] = {
    LOCAL: 2.5,  # it answers immediately, unless the machine is overloaded
    UNICAST: 3.5,  # its directory queries one member after the other, for 3 s
    ETH_LLC: 2.5,  # these wait 2 s for answers from the link
    ETH_DIX: 2.5,
    UDP4: 2.5,  # resolvers are slow
    UDP6: 2.5,
    RAPTOR: 2.5,
}
"""Seconds that a layer may take to answer whether it knows a name; the prototype's IRMd waits 0.2 s for any."""

HANDSHAKE_ROOM: dict[int, int] = {
    UNICAST: 1280,  # over ethernet, with two more layers in between
    ETH_LLC: 1385,  # of 1497 a fixed part and the hash of a name, of 112 at most
    ETH_DIX: 1384,  # with frames of 1500
    UDP4: 1936,
    UDP6: 1936,
}
"""Octets of a handshake that a layer certainly carries."""

_TYPE_NAMES: dict[int, str] = {
    int(number): name.lower().replace("_", "-") for name, number in IpcpType.items()
}


def type_name(number: int) -> str:
    """The name of an IPCP type, e.g. `eth-dix`."""
    return _TYPE_NAMES.get(number, str(number))


@dataclass(slots=True, eq=False)
class Ipcp:
    """An IPCP of this system, from the moment its process was forked."""

    name: str
    type: int
    pid: int
    instance: int
    """Never used again, unlike the pid."""
    pidfd: int
    session: Session
    up: asyncio.Future[None]
    """Done when it is in state boot, or has exited."""
    exited: asyncio.Future[None]
    """Done when its process has exited."""
    process: Process | None = None
    state: str = "init"
    layer: str = ""
    hash: int = SHA3_256
    joining: str | None = None
    """The layer that it is enrolling in, empty for any layer; None when it is not enrolling."""
    access: Access = field(default_factory=Access)
    """The rule by which its layer admits members."""
    progress: str = ""
    """The operation that is being tried again, and the reason."""

    @property
    def query_time(self) -> float:
        """Seconds that it may take to answer whether its layer knows a name."""
        return QUERY_TIME.get(self.type, 2.5)

    @property
    def handshake_room(self) -> int:
        """Octets of a handshake that its layer certainly carries."""
        return HANDSHAKE_ROOM.get(self.type, MAX_LENGTH)

    @property
    def inside(self) -> bool:
        """Whether the packets of its layer stay in the memory of this system."""
        return self.type == LOCAL

    @property
    def operational(self) -> bool:
        """Whether it is a member of a layer and alive."""
        return self.state == "operational" and self.process is not None

    def info(self) -> IpcpInfo:
        """Its row in lists."""
        return IpcpInfo(
            pid=self.pid,
            instance=self.instance,
            name=self.name,
            type=self.type,  # type: ignore[arg-type]
            layer=self.layer,
            hash=self.hash,  # type: ignore[arg-type]
            state=self.state,
            progress=self.progress,
            access=self.access if self.layer else None,
        )

    async def ask(self, envelope: Envelope, what: str, timeout: float) -> Envelope:
        """Send a request to the IPCP. Raises Refused with its error, or when it does not answer in time.

        When the caller is cancelled, the IPCP gets a Cancel.
        """
        answer: asyncio.Future[Envelope | None] = asyncio.get_running_loop().create_future()

        def answered(reply: Envelope | None, fds: list[int]) -> None:
            close_fds(fds)
            if not answer.done():
                answer.set_result(reply)

        number = self.session.request(envelope, answered, timeout=timeout)
        try:
            reply = await answer
        except asyncio.CancelledError:
            self.session.send(Envelope(cancel=Cancel(id=number)))
            raise
        if reply is None:
            self.session.send(Envelope(cancel=Cancel(id=number)))
            raise self.no_answer(what, timeout)
        if reply.error:
            raise Refused(reply.error, reply.text or f'IPCP "{self.name}" cannot {what}')
        return reply

    def no_answer(self, what: str, timeout: float) -> Refused:
        """The refusal when it did not answer: it has exited, or is too slow."""
        if self.session.closed:
            fail = ipcp_exited(self.name)
            return Refused(fail.errno, fail.text)
        return Refused(errno.ETIMEDOUT, f'IPCP "{self.name}" did not answer within {timeout:g} s: {what}')
