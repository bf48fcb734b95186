"""Allocations that wait for an accept, by the name they are for, in the order in which they came."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .acceptor import Acceptor
    from .attempt import Attempt
    from .registry import Name


class Waiting:
    """The queue of each name. An attempt enters and leaves it as its machine goes from phase to phase."""

    def __init__(self) -> None:
        self._queues: dict[Name, OrderedDict[Attempt, None]] = {}

    def __bool__(self) -> bool:
        return bool(self._queues)

    def __iter__(self) -> Iterator[Attempt]:
        return iter([attempt for queue in self._queues.values() for attempt in queue])

    def of(self, entry: Name) -> list[Attempt]:
        """Those who wait for an accept of this name, oldest first."""
        return list(self._queues.get(entry, ()))

    def enter(self, attempt: Attempt) -> None:
        """An allocation waits for an accept of its name; if it does already, it keeps its place."""
        if attempt.entry is not None:
            self._queues.setdefault(attempt.entry, OrderedDict())[attempt] = None

    def leave(self, attempt: Attempt) -> None:
        """It does so no longer."""
        if attempt.entry is None:
            return
        queue = self._queues.get(attempt.entry)
        if queue is not None:
            queue.pop(attempt, None)
            if not queue:
                del self._queues[attempt.entry]

    def serve(self, acceptor: Acceptor) -> bool:
        """Serve the allocation that has waited longest for one of the names of an accept."""
        for name in acceptor.process.names:
            for attempt in self._queues.get(name, ()):
                if attempt.suits(acceptor.process):
                    attempt.serve(acceptor)
                    return True
        return False

    def recheck(self, entry: Name, now: float) -> None:
        """Somebody was unbound from a name, or it was destroyed: those who wait for nobody go on."""
        for attempt in self.of(entry):
            if not any(attempt.suits(process) for process in entry.processes):
                attempt.run(attempt.machine.bound_gone(now))

    def start_failed(self, entry: Name, now: float, error: int, text: str) -> None:
        """A program that was started for this name will not accept."""
        for attempt in self.of(entry):
            attempt.run(attempt.machine.start_failed(now, error, text))
