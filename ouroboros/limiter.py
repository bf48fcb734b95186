"""A bound of the frequency of an action for each cause: a number in each period; the excess is counted.

Used by the log of the daemons and by the error lines of tools. Invented causes do not exhaust the memory: the number of causes
is bounded.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable

PERIOD = 10.0
"""Seconds after which counting starts again, unless a limiter has a period of its own."""

SUBJECTS = 1024
"""Causes that are remembered; beyond, the one whose period began longest ago is forgotten."""


class _Window:
    __slots__ = ("admitted", "left_out", "since")

    def __init__(self, since: float) -> None:
        self.since = since
        self.admitted = 0
        self.left_out = 0


class Limiter:
    """Counts by subject. `clock` gives seconds, `period` is in seconds."""

    __slots__ = ("_clock", "_period", "_windows")

    def __init__(self, clock: Callable[[], float], period: float = PERIOD) -> None:
        self._clock = clock
        self._period = period
        self._windows: OrderedDict[Hashable, _Window] = OrderedDict()

    def __len__(self) -> int:
        return len(self._windows)

    def admit(self, subject: Hashable, burst: int) -> int | None:
        """None: there were `burst` in this period. Else how many were left out before this one."""
        now = self._clock()
        window = self._windows.get(subject)
        left_out = 0
        if window is None or now - window.since >= self._period:
            left_out = window.left_out if window is not None else 0
            window = self._windows[subject] = _Window(now)
            self._windows.move_to_end(subject)
            if len(self._windows) > SUBJECTS:
                self._windows.popitem(last=False)
        if window.admitted >= burst:
            window.left_out += 1
            return None
        window.admitted += 1
        return left_out
