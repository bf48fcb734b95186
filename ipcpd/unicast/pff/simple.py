"""Forwarding policy `simple`: one descriptor for each destination (spec/link-state 5)."""

from __future__ import annotations

from ..routing.shortest_path import Routes
from .table import Function, Neighbours, Table, fds_of


def table(routes: Routes, neighbours: Neighbours) -> Table:
    """The first descriptor to the first next hop that has one; destinations without are left out."""
    entries = {}
    for destination, hops in routes.items():
        if fds := fds_of(hops, neighbours):
            entries[destination] = fds[:1]
    return Table(Function.SIMPLE, entries)
