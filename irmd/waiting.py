"""Allocations that wait for an accept, by name, in the order of their arrival."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from itertools import count
from typing import TYPE_CHECKING

from .records import Name, PendingAccept, Process

if TYPE_CHECKING:
    from .outgoing import AllocationDriver


class Waiting:
    """The queue of each name. An allocation enters and leaves it as its machine goes from phase to phase."""

    def __init__(self) -> None:
        self._queues: dict[Name, OrderedDict[AllocationDriver, int]] = {}
        self._tickets = count()

    def __bool__(self) -> bool:
        return bool(self._queues)

    def __iter__(self) -> Iterator[AllocationDriver]:
        return iter([allocation for queue in self._queues.values() for allocation in queue])

    def of(self, entry: Name) -> list[AllocationDriver]:
        """The allocations that wait for an accept of this name, oldest first."""
        return list(self._queues.get(entry, ()))

    def enter(self, allocation: AllocationDriver) -> None:
        """An allocation waits for an accept of its name; if it does already, it keeps its place."""
        if allocation.entry is not None:
            queue = self._queues.setdefault(allocation.entry, OrderedDict())
            if allocation not in queue:
                queue[allocation] = next(self._tickets)

    def leave(self, allocation: AllocationDriver) -> None:
        """An allocation waits no longer."""
        if allocation.entry is None:
            return
        queue = self._queues.get(allocation.entry)
        if queue is not None:
            queue.pop(allocation, None)
            if not queue:
                del self._queues[allocation.entry]

    def serve(self, accept: PendingAccept) -> None:
        """Serve the allocation that has waited longest for any of the names of an accept; when that fails, the next."""
        process = accept.process
        while accept in process.accepts and (allocation := self._oldest(process)) is not None:
            allocation.serve(accept)

    def _oldest(self, process: Process) -> AllocationDriver | None:
        queues = (self._queues.get(name, OrderedDict()) for name in process.names)
        heads = (self._head(queue, process) for queue in queues)
        return min((head for head in heads if head), default=(0, None))[1]

    @staticmethod
    def _head(queue: dict[AllocationDriver, int], process: Process) -> tuple[int, AllocationDriver] | None:
        return next(
            ((ticket, allocation) for allocation, ticket in queue.items() if allocation.suits(process)), None
        )

    def recheck(self, entry: Name, now: float) -> None:
        """A process was unbound from a name, or the name was destroyed: allocations that waited for that process alone go on."""
        for allocation in self.of(entry):
            machine = allocation.machine
            before = machine.phase
            actions = machine.bound_changed(now)
            if machine.phase is not before:
                allocation.run(actions)

    def start_failed(self, entry: Name, now: float, error: int, text: str) -> None:
        """A program that was started for this name will not accept."""
        for allocation in self.of(entry):
            allocation.run(allocation.machine.start_failed(now, error, text))
