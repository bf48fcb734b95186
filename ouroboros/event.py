"""Events on many flows (paper 4.1, Listings 6 and 7; docs/reference/api.md).

    with FlowSet([flow, other]) as flows:
        queue = FEventQueue()
        flows.wait(queue)
        for flow, event in queue:
            ...

FlowPkt is a level: it is reported as long as packets wait. The other events are reported once; FlowDown and FlowUp
report the current state. No number of packets makes a set overflow. `FlowSet.fileno()` and `Flow.fileno()`
work with select, poll, selectors and every event loop.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from enum import IntFlag
from errno import EBADF, EINTR, ENOMEM, EPERM, ETIMEDOUT
from time import monotonic_ns
from types import TracebackType
from typing import TYPE_CHECKING, Any

from . import arguments, dev, end
from .dataplane._dataplane import ffi, lib
from .dev import *  # noqa: F403 - as the existing binding has it: a program imports all from here
from .dev import Flow
from .errors import EIRMD, FlowEventError, FlowEventTimeout, FlowEventValueError, IrmdError, strerror
from .library import Library, close_eventfd, library
from .owner import Owner

if TYPE_CHECKING:
    from .dataplane._dataplane import struct_fset

__all__ = ["FEventQueue", "FEventType", "FlowEventError", "FlowEventTimeout", "FlowSet"]
__all__ += dev.__all__

_NO_SET = lib.fset_none()
"""The handle of a set that has no connection yet, or was destroyed: C takes it and answers EBADF."""

_BATCH = 512  # events of one look
_FIRST_SLEEP = 20_000_000  # ns, see dev._FIRST_SLEEP


class FEventType(IntFlag):
    """The type of an event on a flow."""

    FlowPkt = 1
    """Packets are waiting."""
    FlowDown = 2
    """The flow is down."""
    FlowUp = 4
    """The flow, which was down, is up again."""
    FlowAlloc = 8
    """An asynchronous allocation is over: `flow.allocated`, or `flow.error` is the reason."""
    FlowDealloc = 16
    """The peer has deallocated the flow."""
    FlowPeer = 32
    """The peer does not answer any more."""


_TYPES = {int(event): event for event in FEventType}


class FEventQueue:
    """Events that a FlowSet has found. Iterating takes them out, oldest first; one queue is for one thread."""

    __slots__ = ("_events", "_last")

    def __init__(self) -> None:
        self._events: deque[tuple[Flow, FEventType]] = deque()
        self._last: FEventType | None = None

    def next(self) -> tuple[Flow, FEventType]:
        """The oldest event. Raises FlowEventError (EPERM) when there is none left."""
        for event in self:
            return event
        raise FlowEventError(EPERM, "the event queue is empty: wait on a FlowSet first")

    def __iter__(self) -> Iterator[tuple[Flow, FEventType]]:
        """The events, until there are none; those of flows deallocated meanwhile are dropped."""
        while self._events:
            flow, event = self._events.popleft()
            if flow.fd >= 0 or event is FEventType.FlowAlloc:
                self._last = event
                yield flow, event

    @property
    def type(self) -> FEventType:
        """The type of the event last taken out. Raises FlowEventError (EPERM) when there was none."""
        if self._last is None:
            raise FlowEventError(EPERM, "no event has been taken out of the queue yet")
        return self._last

    def __len__(self) -> int:
        return len(self._events)

    def __bool__(self) -> bool:
        return bool(self._events)

    def __repr__(self) -> str:
        return f"<FEventQueue of {len(self._events)}>"


class FlowSet(Owner):
    """Flows to wait for. A flow is in at most one set. A context manager: leaves by `destroy()`.

    Threads may share a set, each with a queue of its own.
    """

    def __init__(self, flows: Iterable[Flow] | None = None) -> None:
        self._library: Library | None = None
        self._set: struct_fset = _NO_SET
        self._destroyed = False
        self._flows: dict[int, Flow] = {}
        self._allocating: set[Flow] = set()
        self._eventfd = -1
        try:
            for flow in self._members(flows or ()):
                self.add(flow)
        except BaseException:
            self.destroy()
            raise

    @staticmethod
    def _members(flows: Any) -> list[Any]:
        """The argument of the constructor, checked before any of them is added."""
        if not isinstance(flows, Iterable) or isinstance(flows, (str, bytes)):
            arguments.wrong_type("flows", "several Flow, as in a list", flows)
        return list(flows)

    # ------------------------------------------------------------ members

    def add(self, flow: Flow) -> None:
        """Add a flow; adding it again does nothing. Packets that wait on it already are reported immediately.

        Raises FlowEventError (EPERM) when it is in another set, or has no flow.
        """
        arguments.instance("flow", flow, Flow)
        owner, handle = self._open(flow._library)
        with end.switching:
            if flow._set is self:
                return
            fd = flow.fd
            if fd < 0 or flow._library is not owner:
                raise FlowEventError(EPERM, f"{flow!r} cannot be waited for")
            result = lib.fset_add(handle, fd) if flow._set is None else -EPERM
            if result == -EBADF:
                raise self._no_set()
            if result < 0:
                raise FlowEventError(EPERM, f"{flow!r} is in another set already")
            flow._set = self
            self._flows[fd] = flow
            if not flow._outcome_reported:
                self._allocating.add(flow)

    def remove(self, flow: Flow) -> None:
        """Take a flow out; one that is not in the set is left alone."""
        arguments.instance("flow", flow, Flow)
        self._discard(flow)

    def _discard(self, flow: Flow) -> None:
        with end.switching:
            if flow._set is not self:
                return
            flow._set = None
            self._allocating.discard(flow)
            if self._flows.pop(flow._fd, None) is not None:
                lib.fset_remove(self._set, flow._fd)

    def zero(self) -> None:
        """Take all flows out."""
        for flow in list(self._flows.values()):
            self._discard(flow)

    def has(self, flow: Flow) -> bool:
        """Whether the flow is in the set."""
        arguments.instance("flow", flow, Flow)
        return flow._set is self

    def __contains__(self, flow: object) -> bool:
        return getattr(flow, "_set", None) is self

    def __len__(self) -> int:
        return len(self._flows)

    def __iter__(self) -> Iterator[Flow]:
        return iter(list(self._flows.values()))

    def __repr__(self) -> str:
        return f"<FlowSet of {len(self._flows)}>"

    # ------------------------------------------------------------ waiting

    def wait(self, fq: FEventQueue, timeo: float | None = None) -> FEventQueue:
        """Wait until there are events, and put them into `fq`, which is returned.

        timeo  seconds; None waits for ever, 0 only looks
        A queue that is not empty returns immediately. Raises FlowEventTimeout (a TimeoutError and a FlowEventError),
        and IrmdError once the IRMd has exited and every flow's FlowDown has been reported.
        """
        arguments.instance("fq", fq, FEventQueue)
        limit = arguments.seconds("timeo", timeo)
        if fq:
            return fq
        handle = self._open(None)[1]
        deadline = -1 if limit is None else monotonic_ns() + limit
        until = 0
        while not self._look(handle, fq, patient=timeo != 0):
            now = monotonic_ns()
            if 0 <= deadline <= now:
                raise FlowEventTimeout(ETIMEDOUT, f"no event on {len(self._flows)} flows within {timeo:g} s")
            # A short sleep first: it ends for a signal that arrived just before it.
            until = (
                deadline
                if until
                else (now + _FIRST_SLEEP if deadline < 0 else min(deadline, now + _FIRST_SLEEP))
            )
            self._sleep(handle, until)
        return fq

    def _look(self, handle: struct_fset, fq: FEventQueue, *, patient: bool) -> bool:
        if self._allocating:
            self._report_allocations(fq)
        events = ffi.new("struct fevent[]", _BATCH)
        count = lib.fset_take(handle, events, _BATCH, patient and not fq)
        if count < 0:
            raise self._no_set()
        for event in ffi.unpack(events, count):
            flow = self._flows.get(event.fd)
            if flow is None:
                continue
            if event.type != FEventType.FlowAlloc:
                fq._events.append((flow, _TYPES[event.type]))
        if self._allocating:
            self._report_allocations(fq)
        return bool(fq)

    def _report_allocations(self, fq: FEventQueue) -> None:
        """Asynchronous allocations that are over; their outcomes wait on the connection to the IRMd."""
        for flow in list(self._allocating):
            if not flow.pending:
                self._allocating.discard(flow)
                flow._outcome_reported = True
                fq._events.append((flow, FEventType.FlowAlloc))

    def _sleep(self, handle: struct_fset, until: int) -> None:
        result = lib.fset_sleep(handle, until)
        if result == -EIRMD:
            raise IrmdError(EIRMD, "the IRMd has disconnected; start it with `irmd`")
        if result == -EBADF:
            raise self._no_set()
        if result < 0 and -result not in (ETIMEDOUT, EINTR):
            raise FlowEventError(-result, strerror(-result))

    def fileno(self) -> int:
        """A descriptor for select, poll and event loops: readable while `wait(queue, 0)` may find events."""
        handle = self._open(None)[1]
        with end.switching:
            if self._eventfd < 0:
                eventfd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
                if lib.fset_set_eventfd(handle, eventfd) < 0:
                    os.close(eventfd)
                    raise self._no_set()
                self._eventfd = eventfd
            return self._eventfd

    # ------------------------------------------------------------ life

    def _open(self, owner: Library | None) -> tuple[Library, struct_fset]:
        """The connection of the set, that of its first flow, else the process's; and the handle, for the whole of a call."""
        if self._library is None and owner is None and not self._destroyed:
            owner = library()
        with end.switching:
            if self._destroyed:
                raise self._no_set()
            if self._library is None:
                assert owner is not None
                handle = lib.fset_create(owner.process)
                if not handle:
                    raise FlowEventError(ENOMEM, "no memory for a flow set")
                self._library = owner
                # Freed when it is closed, and the last thread that waits on it has let go of it.
                self._set = ffi.gc(handle, lib.fset_destroy)
            return self._library, self._set

    def _no_set(self) -> FlowEventError:
        why = "was destroyed: make another one" if self._destroyed else "belongs to the parent process"
        return FlowEventValueError(EBADF, f"this FlowSet {why}")

    def destroy(self) -> None:
        """Remove all flows and free the set; it cannot be used again. May be repeated."""
        with end.switching:
            self._destroyed = True
            self.zero()
            handle, self._set = self._set, _NO_SET
            eventfd, self._eventfd = self._eventfd, -1
        lib.fset_close(handle)
        if eventfd >= 0:
            close_eventfd(eventfd)

    def __enter__(self) -> FlowSet:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.destroy()

    def __del__(self) -> None:
        if self._set is not _NO_SET:
            self.destroy()
