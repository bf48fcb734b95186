"""A process that uses Ouroboros: its identity, its pool, its event regions and its flow descriptors.

One record for each connection of kind application or IPCP (paper 5.2: the process table). Its token names
it in shared memory and is never used again, so no object of an exited process is confused with one of a running process.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .descriptors import Descriptor, Descriptors
from .pace import Pace

if TYPE_CHECKING:
    from ouroboros.rpc.aio_session import Session

    from .flow import Flow
    from .ipcp import Ipcp
    from .memory import Events, Pool
    from .peer import Peer
    from .pending_accept import PendingAccept
    from .pending_request import PendingRequest
    from .registry import Name


@dataclass(slots=True, eq=False)
class Process:
    """A process whose Hello has arrived and that has not exited."""

    token: int
    peer: Peer
    program: str
    """Real path of its program or script."""
    session: Session
    pool: Pool
    fds: Descriptors
    events: dict[int, Events] = field(default_factory=dict)
    """Event region by pool id: an application has one, an IPCP one for each trust domain."""
    ipcp: Ipcp | None = None
    names: dict[Name, None] = field(default_factory=dict)
    """Names it is bound to."""
    accepts: dict[PendingAccept, None] = field(default_factory=dict)
    """Its accepts that wait."""
    flows: dict[Descriptor, Flow] = field(default_factory=dict)
    """Flows by descriptor."""
    pending: dict[Descriptor, PendingRequest] = field(default_factory=dict)
    """Asynchronous requests by descriptor, until the process returns the descriptor."""
    known: set[tuple[int, int]] = field(default_factory=set)
    """Shared-memory objects (kind, id) that the IRMd has sent it."""
    pace: Pace = field(default_factory=Pace)
    """How it accepts."""
    disconnected: bool = False

    def __str__(self) -> str:
        return f"process {self.peer.pid} ({self.program})"
