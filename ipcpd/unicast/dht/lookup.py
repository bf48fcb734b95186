"""An iterative look-up: asks nodes ever nearer to a key until the k nearest have answered (spec/dht 3).

Runs in the unicast IPCP, inside the directory's machine; pure logic, it neither sends nor waits. Up to alpha nodes are asked at
the same time. One that is slow gives its place to the next, so that a dead node delays nothing but the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum

from ipcpd.wire.dht import Contact

from .contacts import number


class Status(Enum):
    """Status of a candidate."""

    NEW = "not asked yet"
    ASKED = "asked"
    SLOW = "asked, and late"
    ANSWERED = "answered"
    FAILED = "did not answer"


@dataclass(slots=True)
class Candidate:
    """A node that may be near to the key."""

    contact: Contact
    distance: int
    status: Status = Status.NEW


Done = Callable[[list[Contact], float], None]
"""Called at the end with the nearest nodes that have answered, nearest first, and the time."""


Found = Callable[[tuple[bytes, ...]], object]
"""Called with the values in each answer."""


class Lookup:
    """key  the target; found  gets the values under it, None when only nodes near it are wanted"""

    __slots__ = ("_alpha", "_avoid", "_candidates", "_k", "_target", "done", "ended", "found", "key")

    def __init__(
        self, key: bytes, *, own: Contact, k: int, alpha: int, found: Found | None, done: Done
    ) -> None:
        self.key = key
        self.found = found
        self.done = done
        self.ended = False
        self._target = number(key)
        self._avoid = own
        self._k = k
        self._alpha = alpha
        self._candidates: dict[int, Candidate] = {}  # by address

    def add(self, contacts: Iterable[Contact]) -> None:
        """Add nodes that may be near. Our own node and known candidates are skipped."""
        for contact in contacts:
            address = contact.address
            if (
                address not in self._candidates
                and address != self._avoid.address
                and contact.id != self._avoid.id
            ):
                self._candidates[address] = Candidate(contact, number(contact.id) ^ self._target)

    def _nearest(self) -> list[Candidate]:
        alive = [c for c in self._candidates.values() if c.status is not Status.FAILED]
        alive.sort(key=lambda candidate: candidate.distance)
        return alive[: self._k]

    def next(self) -> list[Contact]:
        """Nodes that have to be asked now; they count as asked from here on."""
        room = self._alpha - sum(c.status is Status.ASKED for c in self._candidates.values())
        chosen = [c for c in self._nearest() if c.status is Status.NEW][: max(0, room)]
        for candidate in chosen:
            candidate.status = Status.ASKED
        return [candidate.contact for candidate in chosen]

    def mark(self, address: int, status: Status) -> None:
        """Set the status of a question. ANSWERED is final."""
        candidate = self._candidates.get(address)
        if candidate is not None and candidate.status is not Status.ANSWERED:
            candidate.status = status

    @property
    def finished(self) -> bool:
        """Whether the k nearest that are alive have answered."""
        return all(candidate.status is Status.ANSWERED for candidate in self._nearest())

    @property
    def answered(self) -> list[Contact]:
        """The nearest nodes that have answered, nearest first, at most k."""
        found = [c for c in self._candidates.values() if c.status is Status.ANSWERED]
        found.sort(key=lambda candidate: candidate.distance)
        return [candidate.contact for candidate in found[: self._k]]
