"""Manager: commands of a peer that does other things than packets between two processes: creating IPCPs, allocating
flows, being the forwarder of `forwarder`.

Runs in a peer process with the run directory of the private system in its environment, where there is one.
"""

from __future__ import annotations

from itertools import repeat
from time import perf_counter
from typing import Any

from tests.bench.subjects.ouroboros import PATIENCE, reach


def create(names: list[str]) -> dict[str, Any]:
    """Create a local IPCP of each name: pids, and how long each call took, in ms."""
    from ouroboros.irm import IpcpType, create_ipcp

    pids, took = [], []
    for name in names:
        began = perf_counter()
        pids.append(create_ipcp(name, IpcpType.LOCAL))
        took.append((perf_counter() - began) * 1e3)
    return {"pids": pids, "ms": took}


def allocate(name: str, layer: str | None, count: int) -> dict[str, Any]:
    """Allocate and release `count` flows one after the other: seconds it took."""
    from ouroboros import flow_alloc

    reach(name, layer).dealloc()
    began = perf_counter()
    for _ in repeat(None, count):
        flow_alloc(name, timeo=PATIENCE, layer=layer).dealloc()
    return {"seconds": perf_counter() - began}


def accept(count: int) -> dict[str, Any]:
    """The other side of `allocate`: accept and release `count` flows, and the one with which it finds us."""
    from ouroboros import flow_accept

    for _ in repeat(None, count + 1):
        flow_accept().dealloc()
    return {}


def handle(command: dict[str, Any]) -> dict[str, Any]:
    """Carry out one command."""
    match command.pop("do"):
        case "create":
            return create(**command)
        case "allocate":
            return allocate(**command)
        case "accept":
            return accept(**command)
        case "forward" | "routes" | "stall" as do:
            from tests.bench import forwarder  # brings all of a unicast IPCP along

            result: dict[str, Any] = getattr(forwarder, do)(**command)
            return result
        case "gather" | "trace" | "idle" | "poke" | "talk" as do:
            from tests.bench import crowded

            held: dict[str, Any] = getattr(crowded, do)(**command)
            return held
        case other:
            raise ValueError(f"unknown command {other!r}")
