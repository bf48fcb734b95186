"""One RPC connection to the IRMd, and the process that owns it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asyncio import Task

    from ouroboros.rpc.aio_session import Session
    from ouroboros.rpc.messages_pb2 import Envelope

    from .ipcp import Ipcp
    from .peer import Peer
    from .pending_request import PendingRequest
    from .process import Process


@dataclass(slots=True, eq=False)
class Connection:
    """A connection; `kind` is None until its Hello has arrived."""

    session: Session
    peer: Peer
    pidfd: int
    trusted: bool
    """Whether it may manage the system and share its pool."""
    kind: int | None = None
    process: Process | None = None
    ipcp: Ipcp | None = None
    requests: dict[int, PendingRequest | Task[Envelope] | None] = field(default_factory=dict)
    """Requests that are not answered yet. For those of management: the task if it can be cancelled, or None."""

    def __str__(self) -> str:
        return f"connection of pid {self.peer.pid} (uid {self.peer.uid})"
