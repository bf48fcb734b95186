"""Timers of a protocol machine: calls that fall due, made when the machine is run with the current time.

Used inside the machines of the unicast IPCP; no clock of its own.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable

from ouroboros.guard import Guard

Call = Callable[[float], None]
"""Gets the time at which it is made, seconds."""


class Timer:
    """A call to be made; `cancel()` takes it back."""

    __slots__ = ("call", "when")

    def __init__(self, when: float, call: Call) -> None:
        self.when = when
        self.call: Call | None = call

    def cancel(self) -> None:
        """Do not make the call; one that was made already stays made."""
        self.call = None


NONE = Timer(0.0, lambda _now: None)
"""A timer that is not running."""
NONE.cancel()

SWEEP = 64
"""Number of timers below which cancelled ones are not removed."""


class Timers:
    """Calls by the time at which they are due; those of the same time are made in the order of `at`. Timers that were cancelled
    take no more memory than those that run."""

    __slots__ = ("_heap", "_serial", "_sweep_at", "guard")

    def __init__(self) -> None:
        self.guard = Guard()
        self._heap: list[tuple[float, int, Timer]] = []
        self._serial = 0
        self._sweep_at = SWEEP

    def __len__(self) -> int:
        return len(self._heap)

    def at(self, when: float, call: Call) -> Timer:
        """Make a call when it is `when`."""
        if len(self._heap) >= self._sweep_at:
            self._heap = [item for item in self._heap if item[2].call is not None]
            heapq.heapify(self._heap)
            self._sweep_at = max(SWEEP, 2 * len(self._heap))
        timer = Timer(when, call)
        self._serial += 1
        heapq.heappush(self._heap, (when, self._serial, timer))
        return timer

    @property
    def deadline(self) -> float | None:
        """When the next call is due; None when there is none."""
        heap = self._heap
        while heap and heap[0][2].call is None:
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def run(self, now: float) -> None:
        """Make the calls that are due. A call that one of them schedules, and that is due already, waits for the next run:
        a machine cannot loop here for ever."""
        last = self._serial
        later = []
        while self._heap and self._heap[0][0] <= now:
            item = heapq.heappop(self._heap)
            call = item[2].call
            if call is None:
                continue
            if item[1] > last:
                later.append(item)
                continue
            item[2].call = None
            with self.guard("a call that was due"):
                call(now)
        for item in later:
            heapq.heappush(self._heap, item)
