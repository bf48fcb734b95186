"""Allocations that wait for an accept, by the name they are for, in the order in which they came."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .acceptor import Acceptor
    from .attempt import Attempt
    from .process import Process
    from .registry import Name


class Waiting:
    """The queue of each name. An attempt enters and leaves it as its machine goes from phase to phase."""

    def __init__(self) -> None:
        self._queues: dict[Name, OrderedDict[Attempt, int]] = {}
        self._tickets = count()

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
            queue = self._queues.setdefault(attempt.entry, OrderedDict())
            if attempt not in queue:
                queue[attempt] = next(self._tickets)

    def leave(self, attempt: Attempt) -> None:
        """It does so no longer."""
        if attempt.entry is None:
            return
        queue = self._queues.get(attempt.entry)
        if queue is not None:
            queue.pop(attempt, None)
            if not queue:
                del self._queues[attempt.entry]

    def serve(self, acceptor: Acceptor) -> None:
        """Serve the allocation that has waited longest for any of the names of an accept; when that fails, the next."""
        process = acceptor.process
        while acceptor in process.accepts and (attempt := self._oldest(process)) is not None:
            attempt.serve(acceptor)

    def _oldest(self, process: Process) -> Attempt | None:
        queues = (self._queues.get(name, OrderedDict()) for name in process.names)
        heads = (self._head(queue, process) for queue in queues)
        return min((head for head in heads if head), default=(0, None))[1]

    @staticmethod
    def _head(queue: dict[Attempt, int], process: Process) -> tuple[int, Attempt] | None:
        return next(((ticket, attempt) for attempt, ticket in queue.items() if attempt.suits(process)), None)

    def recheck(self, entry: Name, now: float) -> None:
        """A process was unbound from a name, or it was destroyed: what waited for that process alone goes on."""
        for attempt in self.of(entry):
            machine = attempt.machine
            before = machine.phase
            actions = machine.bound_changed(now)
            if machine.phase is not before:
                attempt.run(actions)

    def start_failed(self, entry: Name, now: float, error: int, text: str) -> None:
        """A program that was started for this name will not accept."""
        for attempt in self.of(entry):
            attempt.run(attempt.machine.start_failed(now, error, text))
