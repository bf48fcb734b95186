"""Connection: what a component of one IPCP has with that of another, over an N-1 flow of its own (paper 2.8).

Data of unicast and broadcast IPCPs; the connection manager makes, keeps and ends them.
"""

from __future__ import annotations

from dataclasses import dataclass

from ipcpd.unicast.wire.connmgr import Record

from .lower import Lower


@dataclass(frozen=True, slots=True)
class Backoff:
    """Pauses between attempts to connect again, seconds: the first, doubled each time, up to the longest."""

    first: float = 0.5
    most: float = 30.0

    def after(self, attempt: int) -> float:
        """The pause before the attempt with this number, from 0 up."""
        return min(self.first * 2.0 ** min(attempt, 32), self.most)


@dataclass(slots=True, eq=False)
class Connection:
    """A connection of one of our components. `peer` is the name that it was made to, "" when the other side made it."""

    lower: Lower
    component: str
    peer_address: int
    initiator: bool
    peer: str
    record: Record
    """What the other side said of itself."""
    since: float = 0.0
    """Monotonic time at which it was made, seconds."""
    lost: bool = False


@dataclass(slots=True)
class Counters:
    """What became of handshakes."""

    accepted: int = 0
    initiated: int = 0
    refused: int = 0
    """By us, or by the other side."""
    silent: int = 0
    """Flows on which nothing was said in time."""
    malformed: int = 0
    lost: int = 0
    crowded: int = 0
    """Flows that came while too many others had said nothing yet."""
