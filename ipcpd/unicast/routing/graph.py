"""The graph of a layer, as announced: vertices are addresses, an edge is a link that both of its ends announce.

Runs in the unicast IPCP; pure data (paper 2.4; spec/link-state 3). Weights count only while *every* edge has them from both ends.
A prototype computes hop counts whatever the others announce; if only some members used weights, two neighbours could each hold
the other to be the way to a third, and packets would loop between them. One end without weights, known to all members,
therefore makes all use hop counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ipcpd.wire.lsm import Weights
from ouroboros.cubes import CUBES

from .weight import UNIT, worst_of


@dataclass(frozen=True, slots=True)
class View:
    """The graph as one cube sees it, with vertices numbered from 0 in ascending order of address.

    adjacency  for each vertex (neighbour, weight), ascending
    unit       every weight is 1
    """

    addresses: list[int]
    index: dict[int, int]
    adjacency: list[list[tuple[int, int]]]
    unit: bool


class Graph:
    """The announced links. `announce` and `withdraw` return whether an edge of the graph changed by it."""

    __slots__ = ("_announced",)

    def __init__(self) -> None:
        self._announced: dict[int, dict[int, Weights | None]] = {}

    def announce(self, source: int, target: int, weights: Weights | None = None) -> bool:
        """`source` announces a link to `target`; the weights are None when it announces none."""
        links = self._announced.setdefault(source, {})
        before = links.get(target, ())
        links[target] = weights
        return before != weights and self._announces(target, source)

    def withdraw(self, source: int, target: int) -> bool:
        """That link is no longer announced; a link that never was changes nothing."""
        links = self._announced.get(source, {})
        if target not in links:
            return False
        del links[target]
        if not links:
            del self._announced[source]
        return self._announces(target, source)

    def _announces(self, source: int, target: int) -> bool:
        return target in self._announced.get(source, ())

    def neighbours(self, vertex: int) -> list[int]:
        """The other ends of the edges of a vertex, ascending."""
        return sorted(t for t in self._announced.get(vertex, ()) if self._announces(t, vertex))

    def edges(self) -> Iterator[tuple[int, int, Weights | None]]:
        """Every edge once, as (lower address, higher address, weights or None when an end gives none)."""
        announced = self._announced
        for source, links in announced.items():
            for target, weights in links.items():
                if source < target and source in announced.get(target, ()):
                    back = announced[target][source]
                    known = weights is not None and back is not None
                    yield source, target, worst_of(weights, back) if known else None  # type: ignore[arg-type]

    @property
    def vertices(self) -> set[int]:
        """Every address that is an end of an edge."""
        return {end for low, high, _ in self.edges() for end in (low, high)}

    def views(self) -> list[View]:
        """The graph as each cube sees it. Cubes to which it is the same get the same object."""
        edges = list(self.edges())
        weighted = all(weights is not None for _, _, weights in edges)
        addresses = sorted({end for low, high, _ in edges for end in (low, high)})
        index = {address: number for number, address in enumerate(addresses)}
        seen: dict[tuple[int, ...], View] = {}
        views = []
        for cube in range(len(CUBES)):
            costs = tuple((weights or UNIT)[cube] if weighted else 1 for _, _, weights in edges)
            if len(set(costs)) == 1:
                costs = (1,) * len(edges)  # the same everywhere: hop count, which is quicker
            if costs not in seen:
                seen[costs] = _view(addresses, index, edges, costs)
            views.append(seen[costs])
        return views


def _view(
    addresses: list[int],
    index: dict[int, int],
    edges: list[tuple[int, int, Weights | None]],
    costs: tuple[int, ...],
) -> View:
    adjacency: list[list[tuple[int, int]]] = [[] for _ in addresses]
    for (low, high, _), cost in zip(edges, costs, strict=True):
        one, other = index[low], index[high]
        adjacency[one].append((other, cost))
        adjacency[other].append((one, cost))
    for links in adjacency:
        links.sort()
    return View(addresses, index, adjacency, all(cost == 1 for cost in costs))
