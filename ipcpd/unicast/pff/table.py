"""Forwarding table: the descriptors that the data plane looks up for each packet, as pure data (paper 5.3; spec/link-state 5).

Made in Python whenever routes change, one for each QoS cube, and then loaded into C as a whole. `Table.next_hop` is the
same lookup in Python: it specifies the lookup in C, and serves tests and the simulator.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from enum import IntEnum

Neighbours = Mapping[int, tuple[int, ...]]
"""For each neighbour's address the descriptors of the flows to it that are up, the preferred one first."""

MAX_FDS = 8
"""Descriptors in an entry; C keeps an entry in one cache line."""


class Function(IntEnum):
    """How the forwarder uses an entry."""

    SIMPLE = 0
    """Take the one descriptor that there is."""
    ALTERNATE = 1
    """Take the first that is not down."""
    MULTIPATH = 2
    """Take each in turn that is not down."""


@dataclass(slots=True)
class Table:
    """entries  for each destination address the descriptors to use, from 1 to MAX_FDS of them"""

    function: Function
    entries: dict[int, tuple[int, ...]] = field(default_factory=dict)

    def next_hop(self, destination: int, *, down: Container[int] = (), turn: int = 0) -> int | None:
        """The descriptor on which a packet leaves, or None when it has to be dropped.

        down  descriptors of flows that are down; the table need not be rebuilt for them
        turn  number of packets that took this entry before: only `multipath` uses it
        """
        fds = self.entries.get(destination, ())
        if self.function is Function.SIMPLE:
            return fds[0] if fds else None
        up = [fd for fd in fds if fd not in down]
        if not up:
            return None
        return up[turn % len(up)] if self.function is Function.MULTIPATH else up[0]


def fds_of(hops: tuple[int, ...], neighbours: Neighbours) -> tuple[int, ...]:
    """The descriptors to a list of next hops, in its order; hops to which no flow is up are left out."""
    return tuple(dict.fromkeys(fd for hop in hops for fd in neighbours.get(hop, ())))[:MAX_FDS]
