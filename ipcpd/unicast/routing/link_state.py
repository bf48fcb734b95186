"""Routing policy `link_state`: the shortest path, one next hop for each destination (spec/link-state 5). Goes with pff `simple`.

Among paths of equal length the next hop with the lowest address is taken.
"""

from __future__ import annotations

from ..pff.simple import table
from .graph import View
from .shortest_path import Routes, hops_of, paths

__all__ = ["routes", "table"]


def routes(view: View, source: int) -> Routes:
    """Next hop from the address `source` to every other that can be reached; empty when it has no edge."""
    here = view.index.get(source)
    if here is None:
        return {}
    alone = [(hop,) for hop in hops_of(view, here)]
    _, masks = paths(view, here)
    return {
        address: alone[(mask & -mask).bit_length() - 1]
        for address, mask in zip(view.addresses, masks, strict=True)
        if mask
    }
