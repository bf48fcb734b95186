"""Guard: a failure while handling one packet or event ends that handling alone, and not the round that it is part of.

A library module of the daemons, used by the shells around protocol machines. An exception there is a defect of this software
that another party may have found: it is counted and logged through a limiter, and the round goes on with the next packet.

    with guard("a packet for the directory"):
        ...
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from types import TracebackType

from .log import LogLimiter

log = logging.getLogger("guard")


class Guard:
    """`defects` counts the failures. A context manager that is called first, with a description of the work."""

    __slots__ = ("_doing", "_limiter", "defects")

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.defects = 0
        self._doing: list[str] = []
        self._limiter = LogLimiter(log, clock)

    def __call__(self, doing: str) -> Guard:
        """Guard the next work: `doing` stands behind "cannot handle" in the log."""
        self._doing.append(doing)
        return self

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> bool:
        doing = self._doing.pop()
        if error is None or not isinstance(error, Exception):
            return False
        self.defects += 1
        self._limiter.exception("defects", "cannot handle %s: a defect", doing)
        return True
