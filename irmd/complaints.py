"""Complaints about processes, in the log: as many as help, and no more than a hostile one could want.

Runs on the IRMd's loop. Of each user at most BURST lines are written in PERIOD seconds; what was left out is counted,
and told with the first line of the next period.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

BURST = 20
PERIOD = 10.0
_USERS = 1024  # beyond, the oldest is forgotten


@dataclass(slots=True)
class _Window:
    since: float
    lines: int = 0
    dropped: int = 0


class Complaints:
    """Warnings caused by the processes of a user. `clock` tells seconds."""

    def __init__(self, log: logging.Logger, clock: Callable[[], float]) -> None:
        self._log = log
        self._clock = clock
        self._windows: dict[int, _Window] = {}

    def warn(self, uid: int, text: str, *args: object) -> None:
        """Log a warning, unless this user has caused enough of them lately."""
        now = self._clock()
        window = self._windows.get(uid)
        if window is None or now - window.since >= PERIOD:
            if window is not None and window.dropped:
                self._log.warning("%d more complaints about processes of uid %d", window.dropped, uid)
            self._windows.pop(uid, None)
            while len(self._windows) >= _USERS:
                del self._windows[next(iter(self._windows))]
            window = self._windows[uid] = _Window(now)
        if window.lines >= BURST:
            window.dropped += 1
            return
        window.lines += 1
        self._log.warning(text, *args)
