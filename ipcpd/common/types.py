"""The types of IPCP: a type is a folder with a module of the same name and a class in it.

To add one: make `ipcpd/<folder>/<folder>.py` with a subclass of `Ipcp`, and name it here.
"""

from __future__ import annotations

import importlib

from ouroboros.rpc.messages_pb2 import IpcpType

from .ipcp import Ipcp

TYPES: dict[str, tuple[str, str]] = {
    "local": ("ipcpd.local.local", "LocalIpcp"),
    "eth-dix": ("ipcpd.eth.eth", "EthDixIpcp"),
    "eth-llc": ("ipcpd.eth.eth", "EthLlcIpcp"),
    "broadcast": ("ipcpd.broadcast.broadcast", "BroadcastIpcp"),
    "udp4": ("ipcpd.udp.udp", "Udp4Ipcp"),
    "udp6": ("ipcpd.udp.udp", "Udp6Ipcp"),
    "unicast": ("ipcpd.unicast.unicast", "UnicastIpcp"),
}
"""Module and class by the name of the type."""


def word(number: int) -> str:
    """The name of a type, as on the command line, from its number in messages."""
    try:
        return IpcpType.Name(IpcpType.ValueType(number)).lower().replace("_", "-")
    except ValueError:
        return str(number)


def load(kind: str) -> type[Ipcp] | None:
    """The class of a type, or None when this version does not have it."""
    where = TYPES.get(kind)
    if where is None:
        return None
    found: type[Ipcp] = getattr(importlib.import_module(where[0]), where[1])
    return found
