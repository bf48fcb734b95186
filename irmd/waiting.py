"""The driver of an allocation, and the queues of allocations that wait for an accept.

A driver carries out the actions of one `Allocation` and keeps its timer; outgoing.py and incoming.py have the two kinds. The
queues are by name, in the order of arrival.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from collections import OrderedDict
from collections.abc import Callable, Iterator
from itertools import count

from ouroboros.rpc.service import Refusal

from .allocation import Allocation, Bound, Fail, QueryLayers, RequestFlow, StartProgram, Times
from .records import Ipcp, Name, PendingAccept, Process
from .registry import Registry
from .superserver import SuperServer

log = logging.getLogger("irmd/flow")


class AllocationDriver:
    """The common part of both kinds: carries out the actions of the machine, and keeps its deadline."""

    __slots__ = ("_superserver", "_timer", "_waiting", "entry", "machine", "name")

    def __init__(
        self,
        waiting: Waiting,
        superserver: SuperServer,
        name: str,
        entry: Name | None,
        machine: Allocation[Ipcp],
    ) -> None:
        self._waiting = waiting
        self._superserver = superserver
        self.name = name
        self.entry = entry
        self.machine = machine
        self._timer: asyncio.TimerHandle | None = None

    def suits(self, process: Process) -> bool:
        """Whether `process` could accept this flow."""
        raise NotImplementedError

    def serve(self, accept: PendingAccept) -> None:
        """Serve a suitable accept."""
        raise NotImplementedError

    def fail(self, error: int, text: str) -> None:
        """Refuse the request, and undo its effects."""
        raise NotImplementedError

    def query(self, layers: tuple[Ipcp, ...]) -> None:
        """Query layers for the name."""

    def request_flow(self, ipcp: Ipcp) -> None:
        """Request the flow from a layer."""

    def run(self, actions: list[object]) -> None:
        """Carry out the actions of the machine, then wait for its next deadline. A defect ends this allocation, and undoes its
        effects."""
        with self:
            self._run(actions)

    def __enter__(self) -> None:
        """In a `with` of an allocation, an exception ends this allocation, not its caller."""

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> bool:
        if not isinstance(error, Exception):
            return False
        log.error("cannot go on with the allocation of a flow to %s", self.name, exc_info=error)
        self.machine.cancel()
        self.stop()
        self.fail(errno.EIO, f"the IRMd failed on this request: {type(error).__name__}")
        return True

    def _run(self, actions: list[object]) -> None:
        for action in actions:
            if isinstance(action, StartProgram):
                self._start_program()
            elif isinstance(action, QueryLayers):
                self.query(action.layers)
            elif isinstance(action, RequestFlow):
                self.request_flow(action.layer)
            elif isinstance(action, Fail):
                self.stop()
                self.fail(action.errno, action.text)
                return
        self._wait()

    def stop(self) -> None:
        """The machine is done: no timer, no place in the queue of the name."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._waiting.leave(self)

    def _wait(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = self.machine.due
        if due is None:
            return
        self._timer = self._waiting.loop.call_at(due, self._expired)
        if not self.machine.waits_locally:
            self._waiting.leave(self)
            return
        self._waiting.enter(self)
        # A process may have begun to accept during the query.
        accept = None if self.entry is None else self.entry.pick(self.suits)
        if accept is not None:
            self.serve(accept)

    def _expired(self) -> None:
        self._timer = None
        # A timer may fire a tick early; the machine needs a `now` at or after the deadline.
        due = self.machine.due
        now = self._waiting.loop.time()
        self.run(self.machine.expired(now if due is None else max(now, due)))

    def _start_program(self) -> None:
        assert self.entry is not None
        binding = self.entry.startable()
        try:
            if binding is None:
                raise Refusal(errno.ENOENT, f'no program is bound to "{self.name}" any more')
            self._superserver.start(self.name, binding)
        except Refusal as refused:
            self.run(self.machine.start_failed(self._waiting.loop.time(), refused.errno, refused.text))


class Waiting:
    """The queue of each name. An allocation enters and leaves it as its machine goes from phase to phase."""

    def __init__(self, loop: asyncio.AbstractEventLoop, registry: Registry, times: Times) -> None:
        self.loop = loop
        self.times = times
        self._registry = registry
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

    def recheck(self, entry: Name) -> None:
        """A process was unbound from a name, or the name was destroyed: allocations that waited for that process alone go on."""
        for allocation in self.of(entry):
            machine = allocation.machine
            before = machine.phase
            actions = machine.bound_changed(self.loop.time())
            if machine.phase is not before:
                allocation.run(actions)

    def start_failed(self, name: str, error: int, text: str) -> None:
        """A program that was started for this name will not accept."""
        entry = self._registry.names.get(name)
        for allocation in [] if entry is None else self.of(entry):
            allocation.run(allocation.machine.start_failed(self.loop.time(), error, text))

    def bound(self, entry: Name, suits: Callable[[Process], bool]) -> Bound:
        """The processes that are bound to a name and suit a request."""
        times = self.times

        def servers() -> float:
            if entry.pick(suits) is not None:
                return self.loop.time() + times.bound
            return entry.expected_by(suits, times.bound, times.layer)

        def newcomers() -> float:
            known = entry.newcomers_by(suits, times.bound)
            return self.loop.time() + times.bound if self._registry.expects(entry) else known

        return Bound(servers, newcomers)
