"""Forwarding policy `multipath`: every descriptor in turn, packet by packet (spec/link-state 5)."""

from __future__ import annotations

from ..routing.shortest_path import Routes
from .table import Function, Neighbours, Table, fds_of


def table(routes: Routes, neighbours: Neighbours) -> Table:
    """All descriptors to all next hops; destinations without are left out."""
    entries = {}
    for destination, hops in routes.items():
        if fds := fds_of(hops, neighbours):
            entries[destination] = fds
    return Table(Function.MULTIPATH, entries)
