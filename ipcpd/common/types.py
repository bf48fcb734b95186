"""The class of each IPCP type, loaded on demand; `ouroboros.ipcp_types` has the table of the types."""

from __future__ import annotations

import importlib

from ouroboros.ipcp_types import IpcpType

from .ipcp import Ipcp


def load(number: int) -> type[Ipcp] | None:
    """The class of a type, or None when this version does not have it."""
    implementation = IpcpType(number).row.implementation if number in set(IpcpType) else ""
    if not implementation:
        return None
    module, _, name = implementation.partition(":")
    found: type[Ipcp] = getattr(importlib.import_module(module), name)
    return found
