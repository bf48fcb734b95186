"""A routing policy with the forwarding function that goes with it (spec/link-state 2, 5).

Runs in the unicast IPCP. A policy is a member of `LinkStatePolicy`, and the module of its word in this folder.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module

from ouroboros.policies import LinkStatePolicy

from ..pff.table import Neighbours, Table
from .graph import View
from .shortest_path import Routes


@dataclass(frozen=True, slots=True)
class Policy:
    """routes  from the graph to next hops; table  from next hops to the forwarder's entries"""

    routes: Callable[[View, int], Routes]
    table: Callable[[Routes, Neighbours], Table]


def load(policy: LinkStatePolicy) -> Policy:
    """The routing policy of a layer."""
    module = import_module(f".{policy.word}", __package__)
    return Policy(module.routes, module.table)
