"""The flow descriptors of a process, and the instances that messages name (docs/design/rpc.md, "Names of instances").

Runs in the IRMd; no I/O. A descriptor names an end of a flow only while the end exists, and messages about the end may arrive
after the descriptor has passed to the next one. So each use of a descriptor is an instance with a serial of its own, and every message
carries both.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

FIRST_FD = 64
"""The first flow descriptor of a process (paper 5.3: lower ones are for the components of an IPCP)."""


class Numbers:
    """Hands out numbers, lowest free first, from `first` up to `first + limit - 1`."""

    __slots__ = ("_first", "_free", "_limit", "_next")

    def __init__(self, first: int, limit: int) -> None:
        self._first = first
        self._limit = limit
        self._next = first
        self._free: list[int] = []

    def take(self) -> int | None:
        """The lowest free number, or None when all are in use."""
        if self._free:
            return heapq.heappop(self._free)
        if self._next >= self._first + self._limit:
            return None
        self._next += 1
        return self._next - 1

    def give_back(self, number: int) -> None:
        """Return a number that `take` handed out."""
        heapq.heappush(self._free, number)
        if len(self._free) == self._next - self._first:  # all are free: forget the heap
            self._free.clear()
            self._next = self._first

    @property
    def used(self) -> int:
        """How many numbers are in use."""
        return self._next - self._first - len(self._free)


class Descriptor(NamedTuple):
    """One use of a flow descriptor, from the request for a flow until the process has returned the descriptor."""

    fd: int
    instance: int
    """Never used again in this system."""


class Descriptors:
    """The descriptors of one process, the lowest free one first; `instances` gives serials to all processes of the system."""

    __slots__ = ("_instances", "_live", "_numbers")

    def __init__(self, limit: int, instances: Iterator[int]) -> None:
        self._numbers = Numbers(FIRST_FD, limit)
        self._instances = instances
        self._live: set[Descriptor] = set()

    def take(self) -> Descriptor | None:
        """A new use of the lowest free descriptor, or None when all are in use."""
        fd = self._numbers.take()
        if fd is None:
            return None
        descriptor = Descriptor(fd, next(self._instances))
        self._live.add(descriptor)
        return descriptor

    def give_back(self, descriptor: Descriptor) -> None:
        """End a use that `take` began. Raises KeyError when it has ended: a defect of the IRMd."""
        self._live.remove(descriptor)
        self._numbers.give_back(descriptor.fd)

    @property
    def used(self) -> int:
        """How many descriptors are in use."""
        return len(self._live)


class Late(Counter[str]):
    """Messages that arrived after their instance had ended, by the name of the message. They have no effect."""
