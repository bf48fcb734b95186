"""The flow descriptors of a process, and the instances that messages name (docs/design/rpc.md, "Names of instances").

Runs in the IRMd; no I/O. A descriptor names an end of a flow only while the end exists, and messages about the end may arrive
after the descriptor has passed to the next one. So each use of a descriptor is an instance with a serial of its own, and every message
carries both.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from .flow import FIRST_FD, Numbers


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
