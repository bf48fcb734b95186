"""Shortest paths from one vertex to all: Dijkstra's algorithm, or a search by levels where every weight is 1.

Runs in the unicast IPCP; pure functions (paper 2.4; spec/link-state 5). Two things make it quick in Python: the heap holds whole
numbers (distance and vertex in one) instead of tuples, and the next hops of a vertex are the bits of one number,
bit i for the i-th neighbour of the source, so that joining paths of equal length is one `or`.
"""

from __future__ import annotations

from heapq import heappop, heappush

from .graph import View

UNREACHABLE = 1 << 62
"""Distance of a vertex to which there is no path."""

_VERTEX_BITS = 24
_VERTEX = (1 << _VERTEX_BITS) - 1

Routes = dict[int, tuple[int, ...]]
"""Addresses of next hops for each address that can be reached, the preferred one first."""


def distances(view: View, source: int) -> list[int]:
    """The distance of each vertex from the vertex number `source`."""
    return _levels(view, source)[0] if view.unit else _dijkstra(view, source)[0]


def paths(view: View, source: int) -> tuple[list[int], list[int]]:
    """Distance and next hops of each vertex: bit i stands for the i-th neighbour of `source` in the view.

    A vertex that cannot be reached, and the source itself, have no next hop.
    """
    return _levels(view, source, hops=True) if view.unit else _dijkstra(view, source, hops=True)


def hops_of(view: View, source: int) -> list[int]:
    """Addresses of the neighbours of `source`, in the order of the bits of `paths`."""
    return [view.addresses[neighbour] for neighbour, _ in view.adjacency[source]]


def _first_hops(view: View, source: int) -> dict[int, int]:
    return {neighbour: 1 << bit for bit, (neighbour, _) in enumerate(view.adjacency[source])}


def _levels(view: View, source: int, *, hops: bool = False) -> tuple[list[int], list[int]]:
    adjacency = view.adjacency
    distance = [UNREACHABLE] * len(adjacency)
    mask = [0] * len(adjacency)
    distance[source] = 0
    first = _first_hops(view, source) if hops else {}
    level = [source]
    depth = 0
    while level:
        depth += 1
        following = []
        for vertex in level:
            via = mask[vertex]
            for neighbour, _ in adjacency[vertex]:
                known = distance[neighbour]
                if known == UNREACHABLE:
                    distance[neighbour] = depth
                    mask[neighbour] = via or first.get(neighbour, 0)
                    following.append(neighbour)
                elif known == depth:
                    mask[neighbour] |= via
        level = following
    return distance, mask


def _dijkstra(view: View, source: int, *, hops: bool = False) -> tuple[list[int], list[int]]:
    adjacency = view.adjacency
    distance = [UNREACHABLE] * len(adjacency)
    mask = [0] * len(adjacency)
    distance[source] = 0
    first = _first_hops(view, source) if hops else {}
    heap = [source]
    while heap:
        item = heappop(heap)
        vertex = item & _VERTEX
        here = item >> _VERTEX_BITS
        if here != distance[vertex]:
            continue  # a shorter path was found after this was queued
        via = mask[vertex]
        for neighbour, weight in adjacency[vertex]:
            there = here + weight
            known = distance[neighbour]
            if there < known:
                distance[neighbour] = there
                mask[neighbour] = via if vertex != source else first.get(neighbour, 0)
                heappush(heap, there << _VERTEX_BITS | neighbour)
            elif there == known:
                mask[neighbour] |= via if vertex != source else first.get(neighbour, 0)
    return distance, mask
