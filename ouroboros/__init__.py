"""Ouroboros: a recursive network; this is the library that applications import (paper 4.1).

    from ouroboros import flow_alloc, flow_accept

Its modules are `ouroboros.dev`, `event`, `qos`, `errors`, `aio`, `irm`, `cli`, `testing` and others; `dir(ouroboros)` lists them, and
`python -m ouroboros` shows what is running. Importing needs no IRMd; the first call that needs one raises IrmdError with the places where it looked.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .dev import (
        Fccntl,
        Flow,
        FlowProperties,
        fccntl,
        flow_accept,
        flow_alloc,
        flow_dealloc,
        flow_join,
        flow_read,
        flow_write,
    )
    from .errors import FlowDownException, FlowException, FlowPeerException, FlowTimeout, IrmdError
    from .event import FEventQueue, FEventType, FlowSet
    from .qos import (
        QOS_BEST_EFFORT,
        QOS_DATA,
        QOS_RAW,
        QOS_RAW_NO_ERRORS,
        QOS_VIDEO,
        QOS_VOICE,
        QoSSpec,
    )

from .version import __version__

__all__ = [
    "QOS_BEST_EFFORT",
    "QOS_DATA",
    "QOS_RAW",
    "QOS_RAW_NO_ERRORS",
    "QOS_VIDEO",
    "QOS_VOICE",
    "FEventQueue",
    "FEventType",
    "Fccntl",
    "Flow",
    "FlowDownException",
    "FlowException",
    "FlowPeerException",
    "FlowProperties",
    "FlowSet",
    "FlowTimeout",
    "IrmdError",
    "QoSSpec",
    "__version__",
    "fccntl",
    "flow_accept",
    "flow_alloc",
    "flow_dealloc",
    "flow_join",
    "flow_read",
    "flow_write",
]

_HOMES = {
    "dev": (
        "Fccntl",
        "Flow",
        "FlowProperties",
        "fccntl",
        "flow_accept",
        "flow_alloc",
        "flow_dealloc",
        "flow_join",
        "flow_read",
        "flow_write",
    ),
    "errors": ("FlowDownException", "FlowException", "FlowPeerException", "FlowTimeout", "IrmdError"),
    "event": ("FEventQueue", "FEventType", "FlowSet"),
    "qos": tuple(name for name in __all__ if name.startswith("QOS_")) + ("QoSSpec",),
}


_MODULES = ("aio", "certificates", "cli", "dev", "errors", "event", "irm", "protocols", "qos", "testing")


def __dir__() -> list[str]:
    """The names of the package for programs, and its modules."""
    return sorted([*__all__, *_MODULES])


def __getattr__(name: str) -> Any:
    """Import what is asked for and no more: `irm`, which moves no packet, starts in half the time."""
    from importlib import import_module

    if name in _MODULES:
        return import_module(f".{name}", __name__)

    for module, names in _HOMES.items():
        if name in names:
            value = globals()[name] = getattr(import_module(f".{module}", __name__), name)
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
