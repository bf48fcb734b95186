"""Punt: packets for the IPCP's own components, on their way from the packet threads to Python (`src/punt.h`)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from errno import EAGAIN
from typing import NamedTuple

from ouroboros.errors import error
from ouroboros.guard import Guard

from ._ipcp import ffi, lib
from .handle import Handle

Handler = Callable[[int, bytes], None]
"""Gets (descriptor of the flow it came over, packet)."""

_BURST = 64  # packets handled in one go: then other work of the loop has its turn
_LARGEST = 1 << 17


class PuntCounters(NamedTuple):
    """Packets of one component that were passed to it, and packets that exceeded its quota."""

    passed: int
    dropped: int


class Punt:
    """Hands packets to components, by their number. Every component has a quota of octets under way."""

    def __init__(self, octets: int = 1 << 20) -> None:
        punt = lib.punt_create(octets)
        if not punt:
            raise MemoryError(f"no memory for {octets} octets of packets on their way to the control plane")
        self.handle = Handle(punt, lib.punt_destroy, "the way of packets to the control plane")
        """Of `struct punt`, for components that push packets into it."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._guard = Guard()
        self._handlers: dict[int, Handler] = {}
        self._buffer = ffi.new("char[]", _LARGEST)
        self._component = ffi.new("uint32_t *")
        self._fd = ffi.new("uint32_t *")

    def component(self, number: int, quota: int, handler: Handler) -> None:
        """Register a component: `quota` octets of its packets may wait. Raises ValueError on a number out of range."""
        with self.handle as punt:
            result = lib.punt_quota(punt, number, quota)
        if result < 0:
            raise error(-result, f"component {number} with a quota of {quota} octets is out of range")
        self._handlers[number] = handler

    def push(self, component: int, fd: int, packet: bytes) -> bool:
        """Hand over a packet from Python; False when it was dropped. Packet threads call the C function."""
        with self.handle as punt:
            return bool(lib.punt_push(punt, component, fd, packet, len(packet)))

    @property
    def defects(self) -> int:
        """Packets that a component could not handle."""
        return self._guard.defects

    def fileno(self) -> int:
        """Readable while packets wait."""
        with self.handle as punt:
            return int(punt.eventfd)

    def dispatch(self) -> int:
        """Give waiting packets to their components; returns how many, at most a burst."""
        for count in range(_BURST):
            if self.handle.closed:  # by the handler of the last packet
                return count
            with self.handle as punt:
                n = lib.punt_pop(punt, self._buffer, _LARGEST, self._component, self._fd)
            if n == -EAGAIN:
                return count
            if n < 0:
                raise error(-n, "a packet for the control plane is larger than any can be")
            with self._guard("a packet for the control plane"):
                self._handlers[self._component[0]](self._fd[0], ffi.unpack(self._buffer, n))
        return _BURST

    def run(self, loop: asyncio.AbstractEventLoop) -> None:
        """Dispatch from an event loop, until it is closed."""
        loop.add_reader(self.fileno(), self.dispatch)
        self._loop = loop

    def counters(self, component: int) -> PuntCounters:
        """Packets of a component that were passed on and dropped."""
        counts = ffi.new("uint64_t[2]")
        with self.handle as punt:
            lib.punt_counters(punt, component, counts, counts + 1)
        return PuntCounters(counts[0], counts[1])

    def close(self) -> None:
        """Dispatch no more; the buffer is freed with the last component that pushes into it. May be repeated."""
        if self._loop is not None:
            self._loop.remove_reader(self.fileno())
            self._loop = None
        self.handle.close()
