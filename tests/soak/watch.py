"""Watch: the resources of a system's daemons: memory, descriptors, flows, blocks of the packet pools."""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from tests.bench.path import patiently
from tests.bench.process import PeerError
from tests.bench.system import PrivateSystem

SETTLED = 30.0
"""Seconds that the flows of processes that have ended may take to go."""


class Held(NamedTuple):
    """Of one process."""

    octets: int
    """Of its own memory: shared memory is counted as blocks."""
    descriptors: int


def held(pid: int) -> Held:
    """The resources that a process holds at present."""
    octets = 0
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8").splitlines():
        key, _, value = line.partition(":")
        if key in ("Private_Dirty", "Swap"):
            octets += int(value.split()[0]) * 1024
    return Held(octets, len(list(Path(f"/proc/{pid}/fd").iterdir())))


def daemons(system: PrivateSystem) -> dict[str, Held]:
    """The resources of the IRMd and of each IPCP."""
    ipcps = ask(system, "ipcp", "list", key="ipcps")
    named = {f"IPCP {ipcp['name']}": int(ipcp["pid"]) for ipcp in ipcps}
    named["IRMd"] = system.pids()[0]
    return {name: held(pid) for name, pid in named.items()}


def ipcps(system: PrivateSystem) -> list[dict[str, Any]]:
    """The IPCPs of a system."""
    return ask(system, "ipcp", "list", key="ipcps")


def gone(system: PrivateSystem, pid: int) -> None:
    """Wait until the IRMd has noticed that an IPCP has ended. Raises PeerError."""
    patiently(lambda: _gone(system, pid))


def _gone(system: PrivateSystem, pid: int) -> None:
    if any(ipcp["pid"] == pid for ipcp in ipcps(system)):
        raise PeerError(f"the IRMd still lists IPCP {pid}, which was killed")


def restore(system: PrivateSystem, state: str) -> None:
    """Bring a system to a state that was saved. Raises PeerError."""
    with tempfile.NamedTemporaryFile("w", suffix=".conf") as file:
        file.write(state)
        file.flush()
        patiently(lambda: system.irm("apply", file.name))


def ask(system: PrivateSystem, *words: str, key: str) -> list[dict[str, Any]]:
    """The rows of a list of `irm`."""
    rows: list[dict[str, Any]] = json.loads(system.irm(*words, "--json"))[key]
    return rows


def lower_flows(system: PrivateSystem) -> int:
    """Flows that IPCPs have over other layers: they stay."""
    flows = ask(system, "flow", "list", key="flows")
    ipcps = {ipcp["pid"] for ipcp in ask(system, "ipcp", "list", key="ipcps")}
    return sum(flow["ends"][0]["pid"] in ipcps for flow in flows if flow["ends"])


def idle(system: PrivateSystem) -> str:
    """Wait until no process but IPCPs has a flow; the remaining flows if that does not happen, else ""."""
    deadline = time.monotonic() + SETTLED
    while True:
        flows = ask(system, "flow", "list", key="flows")
        ipcps = {ipcp["pid"] for ipcp in ask(system, "ipcp", "list", key="ipcps")}
        left = [flow for flow in flows if not flow["ends"] or flow["ends"][0]["pid"] not in ipcps]
        if not left:
            return ""
        if time.monotonic() > deadline:
            return f"{len(left)} flows are left, of which the first is {left[0]}"
        time.sleep(0.2)


def blocks_out(system: PrivateSystem) -> str:
    """Which blocks are not back once every IPCP has been destroyed; "" when all are."""
    for ipcp in ask(system, "ipcp", "list", key="ipcps"):
        system.irm("ipcp", "destroy", "name", str(ipcp["name"]))
    deadline = time.monotonic() + SETTLED
    while True:
        pools = ask(system, "pool", "show", key="pools")
        out = [
            (pool["name"], row["size"], row["total"] - row["free"])
            for pool in pools
            for row in pool["classes"]
            if row["free"] != row["total"]
        ]
        if not out:
            return ""
        if time.monotonic() > deadline:
            return f"blocks that are not back, by pool and size: {out}"
        time.sleep(0.2)
