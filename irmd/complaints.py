"""Complaints about processes and peers, in the log: as many as help, and no more than a hostile one could want.

Runs on the IRMd's loop. About one culprit at most BURST lines are written in PERIOD seconds; what was left out is
counted, and told with the first line of the next period.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

BURST = 20
PERIOD = 10.0
_CULPRITS = 1024  # beyond, the oldest is forgotten


@dataclass(slots=True)
class _Window:
    since: float
    lines: int = 0
    dropped: int = 0


class Complaints:
    """Warnings about culprits, e.g. "processes of uid 1000". `clock` tells seconds."""

    def __init__(self, log: logging.Logger, clock: Callable[[], float]) -> None:
        self._log = log
        self._clock = clock
        self._windows: dict[str, _Window] = {}

    def warn(self, about: str, text: str, *args: object) -> None:
        """Log a warning, unless there were enough of them about the same culprit lately."""
        now = self._clock()
        window = self._windows.get(about)
        if window is None or now - window.since >= PERIOD:
            if window is not None and window.dropped:
                self._log.warning("%d more complaints about %s", window.dropped, about)
            self._windows.pop(about, None)
            while len(self._windows) >= _CULPRITS:
                del self._windows[next(iter(self._windows))]
            window = self._windows[about] = _Window(now)
        if window.lines >= BURST:
            window.dropped += 1
            return
        window.lines += 1
        self._log.warning(text, *args)
