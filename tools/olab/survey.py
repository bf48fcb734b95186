"""Survey: queries the present state of each system of a lab, and puts the answers together: IPCPs, layers, adjacencies.

A system knows its own IPCPs and flows only. The far end of an adjacency is found by the identifier of a member in its layer:
the address of a unicast IPCP, the number of a broadcast member; where there is neither, by the name in the connect command.
The far end's answer is kept too, because on a link that is cut the two may disagree: the worse counts.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any

from ouroboros.ipcp_types import ENROLLING

from .lab import Lab, LabSystem

MAX_PARALLEL = 4
STATES = ("up", "connecting", "silent", "down")
"""Of an adjacency, from good to bad."""
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True, order=True)
class IpcpKey:
    """An IPCP: its system, and its pid there."""

    system: str
    pid: int


@dataclass(slots=True, kw_only=True)
class Ipcp:
    """An IPCP as it is now. `device`: its device or IP address; `member`: its identifier in its layer."""

    key: IpcpKey
    name: str
    type: str
    layer: str = ""
    device: str = ""
    member: str = ""
    below: list[IpcpKey] = field(default_factory=list)
    """The IPCPs of the same system that carry its flows to neighbours."""


@dataclass(slots=True, kw_only=True)
class Adjacency:
    """Two members of a layer that exchange packets. `over`: the IPCPs at its two ends that carry it."""

    ends: tuple[IpcpKey, IpcpKey]
    over: tuple[IpcpKey | None, IpcpKey | None] = (None, None)
    state: str = "up"


@dataclass(slots=True, kw_only=True)
class Cable:
    """A link of the lab: system and device at both ends, addresses if it has any, how it is cut (empty: it is not)."""

    name: str
    kind: str
    ends: tuple[tuple[str, str], tuple[str, str]]
    addresses: tuple[str, ...] = ()
    cut: str = ""
    emulated: tuple[str, ...] = ()
    """Impairments of frames from either end, in words; empty for a plain cable."""


@dataclass(slots=True, kw_only=True)
class Survey:
    """All facts of a picture."""

    name: str
    systems: list[str]
    ipcps: dict[IpcpKey, Ipcp] = field(default_factory=dict)
    adjacencies: list[Adjacency] = field(default_factory=list)
    cables: list[Cable] = field(default_factory=list)
    silent_systems: list[str] = field(default_factory=list)
    """Systems whose IRMd does not run."""

    def facts(self) -> dict[str, Any]:
        """The same for programs."""

        def name(key: IpcpKey | None) -> dict[str, Any] | None:
            return (
                None if key is None else {"system": key.system, "ipcp": self.ipcps[key].name, "pid": key.pid}
            )

        return {
            "lab": self.name,
            "systems": self.systems,
            "not_running": self.silent_systems,
            "ipcps": [
                {
                    "system": ipcp.key.system,
                    "pid": ipcp.key.pid,
                    "name": ipcp.name,
                    "type": ipcp.type,
                    "layer": ipcp.layer or None,
                    "device": ipcp.device or None,
                    "member": ipcp.member or None,
                    "below": [self.ipcps[key].name for key in ipcp.below],
                }
                for ipcp in self.ipcps.values()
            ],
            "adjacencies": [
                {
                    "ends": [name(key) for key in adjacency.ends],
                    "over": [name(key) for key in adjacency.over],
                    "state": adjacency.state,
                }
                for adjacency in self.adjacencies
            ],
            "links": [asdict(cable) for cable in self.cables],
        }


@dataclass(slots=True, kw_only=True)
class Answers:
    """The answers of one system: IPCPs, flows, and for each IPCP (by pid) its neighbours and its status."""

    ipcps: list[Row]
    flows: list[Row]
    neighbours: dict[int, list[Row]]
    status: dict[int, Row]


def survey(lab: Lab) -> Survey:
    """The present state of a lab. Raises HolderError, HolderExited."""
    status = lab.status()
    running = [system for system in lab.systems if status["systems"][system.name]["state"] == "ready"]
    with ThreadPoolExecutor(MAX_PARALLEL) as pool:
        # A system whose IRMd ends just now gives no answer either.
        answers = dict(zip((one.name for one in running), pool.map(_ask, running), strict=True))
    found = assemble(lab.description.name, {name: one for name, one in answers.items() if one is not None})
    found.systems = [system.name for system in lab.systems]
    found.silent_systems = [name for name in found.systems if answers.get(name) is None]
    found.cables = [
        Cable(
            name=link.name,
            kind=link.kind.value,
            ends=tuple((end.system, link.interface(number)) for number, end in enumerate(link.ends)),  # type: ignore[arg-type]
            addresses=tuple(str(address) for address in link.addresses),
            cut=status["cuts"].get(link.name, ""),
            emulated=tuple(status["emulated"].get(link.name, ())),
        )
        for link in lab.description.links
    ]
    return found


def _ask(system: LabSystem) -> Answers | None:
    result = system.run(sys.executable, "-P", "-m", "ouroboros_tools.olab.interview", check=False)
    if result.returncode != 0:
        return None
    answer = json.loads(result.stdout)
    return Answers(
        ipcps=answer["ipcps"],
        flows=answer["flows"],
        neighbours={int(pid): rows for pid, rows in answer["neighbours"].items()},
        status={int(pid): rows[0] if rows else {} for pid, rows in answer["status"].items()},
    )


# ---------------------------------------------------------------- putting it together


def assemble(name: str, answers: Mapping[str, Answers]) -> Survey:
    """The survey, from the answers of each system."""
    found = Survey(name=name, systems=list(answers))
    for system, answer in answers.items():
        for row in answer.ipcps:
            status = answer.status.get(row["pid"], {})
            key = IpcpKey(system, row["pid"])
            found.ipcps[key] = Ipcp(
                key=key,
                name=row["name"],
                type=row["type"],
                layer=row["layer"] or "",
                device=_device(status),
                member=_member(row["type"], status),
            )
    seen: dict[tuple[IpcpKey, IpcpKey], Adjacency] = {}
    for system, answer in answers.items():
        for pid, rows in answer.neighbours.items():
            ipcp = found.ipcps[IpcpKey(system, pid)]
            carriers = _carriers(pid, answer.flows)
            for row in rows:
                _add(found, seen, ipcp, row, carriers.get(row.get("fd", -1)))
    found.adjacencies = list(seen.values())
    for adjacency in found.adjacencies:
        for end, over in zip(adjacency.ends, adjacency.over, strict=True):
            if over is not None and over not in found.ipcps[end].below:
                found.ipcps[end].below.append(over)
    return found


def _device(status: Row) -> str:
    return str(status.get("device") or status.get("address", "").rpartition(":")[0])


def _member(kind: str, status: Row) -> str:
    return str(status.get("member") or status.get("address", "")) if kind in ENROLLING else ""


def _carriers(pid: int, flows: Iterable[Row]) -> dict[int, int]:
    """For each flow descriptor of a process, the pid at the other end of the flow in the same system: the IPCP below."""
    found = {}
    for flow in flows:
        ends = flow["ends"]
        if len(ends) == 2:
            for mine, other in (ends, ends[::-1]):
                if mine["pid"] == pid and other["pid"] != pid:
                    found[mine["fd"]] = other["pid"]
    return found


def _add(
    found: Survey, seen: dict[tuple[IpcpKey, IpcpKey], Adjacency], ipcp: Ipcp, row: Row, carrier: int | None
) -> None:
    peer = _peer(found, ipcp, row)
    if peer is None or peer.key == ipcp.key:
        return
    over = IpcpKey(ipcp.key.system, carrier) if carrier is not None else None
    if over is not None and over not in found.ipcps:
        over = None
    first, second = sorted((ipcp.key, peer.key))
    adjacency = seen.setdefault((first, second), Adjacency(ends=(first, second)))
    state = row.get("state", "up")
    state = state if state in STATES else "up"
    adjacency.state = max(adjacency.state, state, key=STATES.index)
    if over is not None:
        one, other = adjacency.over
        adjacency.over = (over, other) if ipcp.key == first else (one, over)


def _peer(found: Survey, ipcp: Ipcp, row: Row) -> Ipcp | None:
    members = [one for one in found.ipcps.values() if one.layer == ipcp.layer and one.type == ipcp.type]
    identity = row.get("member") or row.get("address")
    if identity:
        return next((one for one in members if one.member == identity), None)
    return next((one for one in members if one.name == row.get("name")), None)
