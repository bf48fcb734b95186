"""Routing policy `ecmp`: every next hop that lies on some shortest path (spec/link-state 5). Goes with pff `multipath`.

Each of them is nearer to the destination than this member is, so packets cannot loop whichever is taken.
"""

from __future__ import annotations

from ..pff.multipath import table
from .graph import View
from .shortest_path import Routes, hops_of, paths

__all__ = ["routes", "table"]


def routes(view: View, source: int) -> Routes:
    """Next hops of equal cost from the address `source`, ascending, to every other that can be reached."""
    here = view.index.get(source)
    if here is None:
        return {}
    hops = hops_of(view, here)
    _, masks = paths(view, here)
    shared: dict[int, tuple[int, ...]] = {}  # most destinations have one of a few sets of next hops
    found: Routes = {}
    for address, mask in zip(view.addresses, masks, strict=True):
        if mask:
            if mask not in shared:
                shared[mask] = tuple(hop for bit, hop in enumerate(hops) if mask >> bit & 1)
            found[address] = shared[mask]
    return found
