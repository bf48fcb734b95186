"""Fake clock: time that moves only when a test moves it, and a queue of calls that fall due on the way.

Used by tests and simulators, in one thread. Calls that are due at the same instant are made in the order in which
they were asked for, so a run is the same every time.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any

from .. import arguments


class Timer:
    """A call to be made later. `cancel()` takes it back; cancelling one that was made does nothing."""

    __slots__ = ("_args", "_call", "when")

    def __init__(self, when: float, call: Callable[..., object], args: tuple[Any, ...]) -> None:
        self.when = when
        """The time of the clock at which the call is due, seconds."""
        self._call: Callable[..., object] | None = call
        self._args = args

    @property
    def pending(self) -> bool:
        """Whether the call is still to be made."""
        return self._call is not None

    def cancel(self) -> None:
        """Do not make the call."""
        self._call = None
        self._args = ()

    def _fire(self) -> bool:
        call, args = self._call, self._args
        if call is None:
            return False
        self.cancel()
        call(*args)
        return True


class FakeClock:
    """A clock that stands still until it is moved.

    start  its first time, seconds

    The clock can be called, and has a method `time`: either fits where code wants `time.monotonic`.
    """

    __slots__ = ("_heap", "_now", "_serial")

    def __init__(self, start: float = 0.0) -> None:
        self._now = arguments.number("start", start)
        self._heap: list[tuple[float, int, Timer]] = []
        self._serial = 0

    @property
    def now(self) -> float:
        """The current time, seconds."""
        return self._now

    def time(self) -> float:
        """The current time, seconds."""
        return self._now

    __call__ = time

    def time_ns(self) -> int:
        """The current time, nanoseconds."""
        return round(self._now * 1_000_000_000)

    def call_at(self, when: float, call: Callable[..., object], *args: Any) -> Timer:
        """Make a call when the clock shows `when`; a time that has passed already means at the next move."""
        if not callable(call):
            arguments.function("call", call)
        try:
            when = max(self._now, when)  # a NaN is not larger
        except TypeError:
            arguments.number("when", when)
            raise
        timer = Timer(when, call, args)
        self._serial += 1
        heapq.heappush(self._heap, (timer.when, self._serial, timer))
        return timer

    def call_later(self, delay: float, call: Callable[..., object], *args: Any) -> Timer:
        """Make a call `delay` seconds from now."""
        try:
            when = self._now + delay
        except TypeError:
            arguments.number("delay", delay)
            raise
        return self.call_at(when, call, *args)

    @property
    def deadline(self) -> float | None:
        """When the next call is due, or None when nothing waits."""
        heap = self._heap
        while heap and not heap[0][2].pending:
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def step(self) -> bool:
        """Move to the next call and make it. False when nothing waits."""
        if self.deadline is None:
            return False
        when, _, timer = heapq.heappop(self._heap)
        self._now = max(self._now, when)
        timer._fire()
        return True

    def advance(self, seconds: float) -> None:
        """Advance by `seconds`, making every call that falls due. Raises ValueError for a negative span."""
        if arguments.number("seconds", seconds) < 0:
            raise ValueError(f"a clock cannot go back by {-seconds} s")
        self.advance_to(self._now + seconds)

    def advance_to(self, when: float) -> None:
        """Move on to a time, making every call that falls due; one that has passed already changes nothing."""
        arguments.number("when", when)
        while (due := self.deadline) is not None and due <= when:
            self.step()
        self._now = max(self._now, when)

    def run(self, until: Callable[[], bool], *, limit: float) -> bool:
        """Move from call to call until `until()` holds, for at most `limit` seconds of this clock.

        Returns whether it holds. When it does not, the clock shows the end of the limit.
        """
        arguments.function("until", until)
        end = self._now + arguments.number("limit", limit)
        while not until():
            due = self.deadline
            if due is None or due > end:
                self._now = max(self._now, end)
                return until()
            self.step()
        return True

    def __repr__(self) -> str:
        return f"FakeClock({self._now:.6f} s, next call {self.deadline})"
