"""Forwarding policy `alternate`: the first descriptor that is not down (spec/link-state 5).

Several flows to the same neighbour are alternates of each other before another neighbour is. Which descriptors are
down is the forwarder's own state, which is kept when the table is replaced.
"""

from __future__ import annotations

from ..routing.shortest_path import Routes
from .table import Function, Neighbours, Table, fds_of


def table(routes: Routes, neighbours: Neighbours) -> Table:
    """All descriptors to all next hops, in order of preference; destinations without are left out."""
    entries = {}
    for destination, hops in routes.items():
        if fds := fds_of(hops, neighbours):
            entries[destination] = fds
    return Table(Function.ALTERNATE, entries)
