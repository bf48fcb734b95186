"""The routing policies by number, each with the forwarding function that goes with it (spec/link-state 2, 5).

Runs in the unicast IPCP. A new policy is a file in this folder and a line in this table.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ouroboros.ipcp_config import LinkStatePolicy

from ..pff import alternate, multipath, simple
from ..pff.table import Neighbours, Table
from . import ecmp, lfa, link_state
from .graph import View
from .shortest_path import Routes


@dataclass(frozen=True, slots=True)
class Policy:
    """routes  from the graph to next hops; table  from next hops to the forwarder's entries"""

    routes: Callable[[View, int], Routes]
    table: Callable[[Routes, Neighbours], Table]


POLICIES: dict[LinkStatePolicy, Policy] = {
    LinkStatePolicy.SIMPLE: Policy(link_state.routes, simple.table),
    LinkStatePolicy.LFA: Policy(lfa.routes, alternate.table),
    LinkStatePolicy.ECMP: Policy(ecmp.routes, multipath.table),
}
