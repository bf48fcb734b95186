"""Routing policy `lfa`: the shortest path, and behind it loop-free alternates (spec/link-state 5; RFC 5286). Goes with pff `alternate`.

A neighbour N is an alternate for a destination D if its own path there does not lead through this member, M:
dist(N, D) < dist(N, M) + dist(M, D). It takes over while the first next hop is down and routing has not converged.
Alternates are ordered by the length of the path through them. Shortest paths are computed from each neighbour, which is the
cost of this policy; of many neighbours only the nearest are considered.
"""

from __future__ import annotations

from ..pff.alternate import table
from .graph import View
from .shortest_path import UNREACHABLE, Routes, distances, hops_of, paths

__all__ = ["routes", "table"]

MAX_NEIGHBOURS = 16
"""Neighbours that are considered as alternates."""

MAX_HOPS = 4
"""Next hops that are kept for a destination, the first included."""


def routes(view: View, source: int) -> Routes:
    """Next hop and alternates from the address `source` to every other that can be reached."""
    here = view.index.get(source)
    if here is None:
        return {}
    hops = hops_of(view, here)
    distance, masks = paths(view, here)
    nearest = sorted(enumerate(view.adjacency[here]), key=lambda item: (item[1][1], item[0]))
    # (bit, number, weight of the link, distances from there)
    candidates = [
        (bit, neighbour, weight, distances(view, neighbour))
        for bit, (neighbour, weight) in nearest[:MAX_NEIGHBOURS]
    ]
    found: Routes = {}
    for number, address in enumerate(view.addresses):
        mask = masks[number]
        if not mask:
            continue
        primary = (mask & -mask).bit_length() - 1
        ours = distance[number]
        ranked = []
        for bit, neighbour, weight, theirs in candidates:
            length = theirs[number]
            if bit != primary and length != UNREACHABLE and length < distance[neighbour] + ours:
                ranked.append((weight + length, bit))
        ranked.sort()
        found[address] = (hops[primary], *(hops[bit] for _, bit in ranked[: MAX_HOPS - 1]))
    return found
