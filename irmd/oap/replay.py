"""Time and replay: refuses flow requests that are too old, too young, or have arrived before (spec/oap 5 step 3).

Used by the IRMd; no clock of its own. Clocks must agree: a request may be at most 100 ms ahead of this system and 20 s behind. A pair
of timestamp and id is accepted once; it is remembered for as long as its timestamp would be accepted.
"""

from __future__ import annotations

import heapq
from collections import Counter
from enum import Enum

from ouroboros.errors import EAUTH

MAX_AGE_MS = 20_000
MAX_AHEAD_MS = 100
CAPACITY = 131_072  # pairs that are remembered: bounds the memory that a flood of requests takes
SHARE = 2  # requests over one layer take at most 1/SHARE of them, which leaves the rest for other layers

_MS = 1_000_000


class Fault(Enum):
    """Reasons to refuse a request."""

    AHEAD = "is from the future"
    OLD = "is too old"
    REPLAYED = "has been here before"
    FLOOD = "is one of too many"


class Refused(OSError):
    """The request must be answered with -1009; errno EAUTH. `fault` is the reason."""

    def __init__(self, fault: Fault, detail: str) -> None:
        super().__init__(EAUTH, f"the flow request {fault.value}: {detail}")
        self.fault = fault


class ReplayGuard:
    """Remembers the requests of the last 20 s. Times are ns since 1970 (wall clock)."""

    __slots__ = ("_capacity", "_of", "_order", "_seen")

    def __init__(self, *, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._seen: set[tuple[int, bytes]] = set()
        self._order: list[tuple[int, bytes, str]] = []
        self._of: Counter[str] = Counter()  # by layer

    def __len__(self) -> int:
        return len(self._seen)

    def check(self, timestamp: int, identity: bytes, *, now: int, layer: str = "") -> None:
        """Accept the request with this timestamp and id, once, whatever layer carried it. Raises Refused."""
        self.examine(timestamp, identity, now=now, layer=layer)
        self._seen.add((timestamp, identity))
        self._of[layer] += 1
        heapq.heappush(self._order, (timestamp, identity, layer))

    def examine(self, timestamp: int, identity: bytes, *, now: int, layer: str = "") -> None:
        """Whether `check` would accept it; it is not remembered. Raises Refused."""
        age = _milliseconds(now - timestamp)
        if age < -MAX_AHEAD_MS:
            raise Refused(Fault.AHEAD, f"its clock is {-age} ms ahead of ours, {MAX_AHEAD_MS} ms is the most")
        if age > MAX_AGE_MS:
            raise Refused(Fault.OLD, f"it was made {age} ms ago, {MAX_AGE_MS} ms is the most")
        self._expire(now)
        if (timestamp, identity) in self._seen:
            raise Refused(Fault.REPLAYED, f"id {identity.hex()}")
        if len(self._seen) >= self._capacity or self._of[layer] >= self._capacity // SHARE:
            raise Refused(
                Fault.FLOOD,
                f"{self._of[layer]} requests arrived within {MAX_AGE_MS // 1000} s over this layer, "
                f"{len(self._seen)} in all",
            )

    def _expire(self, now: int) -> None:
        while self._order and _milliseconds(now - self._order[0][0]) > MAX_AGE_MS:
            timestamp, identity, layer = heapq.heappop(self._order)
            self._seen.remove((timestamp, identity))
            self._of[layer] -= 1
            if not self._of[layer]:
                del self._of[layer]


def _milliseconds(nanoseconds: int) -> int:
    """Whole milliseconds, towards zero as in the prototype."""
    return nanoseconds // _MS if nanoseconds >= 0 else -(-nanoseconds // _MS)
