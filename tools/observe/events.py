"""Events of a system: the differences between two looks at it (docs/howto/observe.md).

`look` reads; `changes` is pure. A thing that comes and goes between two looks makes no event.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from ouroboros.facts import fact_of, tables_of

from .reader import Reader, peer_of

if TYPE_CHECKING:
    from ouroboros.readout import IpcpInfo

Things = Mapping[tuple[str, ...], Mapping[str, object]]
"""Kind and name of each thing, and its state."""


class Verbs(NamedTuple):
    """The words for a thing that appears and one that disappears, and the field of its state, if a change of that is an event."""

    appears: str
    disappears: str
    state: str = ""


VERBS: Mapping[str, Verbs] = {
    "ipcp": Verbs("created", "ended", "layer"),
    "neighbour": Verbs("up", "lost", "state"),
    "route": Verbs("added", "removed", "next"),
    "flow": Verbs("up", "deallocated", "state"),
    "name": Verbs("created", "destroyed"),
    "registration": Verbs("added", "removed"),
}
"""The kinds of things, in the order in which their events are reported."""

RESTARTED = "ipcp restarted"
_NAMED = {
    "ipcp": ("ipcp", "pid"),
    "neighbour": ("ipcp", "neighbour", "component", "fd"),
    "route": ("ipcp", "address", "cube"),
    "flow": ("flow_id",),
    "name": ("name",),
    "registration": ("name", "ipcp"),
}


class Event(NamedTuple):
    """A change of a thing."""

    event: str
    fields: Mapping[str, object]

    def line(self) -> str:
        """For people."""
        return f"{self.event} {' '.join(f'{key}={value}' for key, value in self.fields.items() if value not in (None, ''))}"

    def record(self) -> dict[str, Any]:
        """For programs."""
        return {"event": self.event, **self.fields}


def look(reader: Reader) -> Things:
    """All things of a system now; those of an IPCP that does not answer are missing. Raises IrmError."""
    found: dict[tuple[str, ...], Mapping[str, object]] = {}
    for ipcp in reader.ipcps():
        found["ipcp", ipcp.name, str(ipcp.pid)] = {"type": ipcp.type.type_name, "layer": ipcp.layer}
        words = reader.words(ipcp)
        try:
            for row in reader.rows(ipcp, "neighbours") if connects(ipcp) else ():
                key = ("neighbour", ipcp.name, str(peer_of(row)), str(row["component"]), str(row["fd"]))
                found[key] = {"state": row["state"], "layer": ipcp.layer}
            for row in reader.rows(ipcp, "routes") if "routes" in words else ():
                found["route", ipcp.name, str(row["address"]), str(row["cube"])] = {"next": row["next"]}
        except OSError:
            continue
    for end in reader.flow_ends():
        found["flow", str(end["flow_id"])] = {
            "name": end["name"],
            "layer": end["layer"],
            "state": end["state"],
        }
    for info in reader.names():
        found["name", info.name] = {}
        for registration in info.registrations:
            found["registration", info.name, registration.ipcp] = {"layer": registration.layer}
    return found


def connects(ipcp: IpcpInfo) -> bool:
    """Whether its neighbours are connections: they have a state."""
    table = tables_of(ipcp.type.type_name).get("neighbours")
    return bool(ipcp.layer) and table is not None and fact_of(table.facts, "state") is not None


def started(things: Things) -> Event:
    """The first event: how many things of each kind there are."""
    return Event("monitor started", {f"{kind}s": sum(key[0] == kind for key in things) for kind in VERBS})


def changes(before: Things, after: Things) -> list[Event]:
    """The events that led from one look to the next."""
    return [event for kind in VERBS for event in _changes(kind, before, after)]


def _changes(kind: str, before: Things, after: Things) -> Iterator[Event]:
    verbs = VERBS[kind]
    new = [key for key in after if key[0] == kind and key not in before]
    old = [key for key in before if key[0] == kind and key not in after]
    restarted = {key[1] for key in new} & {key[1] for key in old} if kind == "ipcp" else set[str]()
    for key in old:
        if key[1] not in restarted:
            yield _event(f"{kind} {verbs.disappears}", key, before[key])
    for key in new:
        appears = _verb(verbs, after[key].get(verbs.state)) if verbs.state == "state" else verbs.appears
        yield _event(RESTARTED if key[1] in restarted else f"{kind} {appears}", key, after[key])
    for key in after:
        if key[0] == kind and key in before and verbs.state:
            now = after[key].get(verbs.state)
            if now != before[key].get(verbs.state):
                yield _event(f"{kind} {_verb(verbs, now)}", key, after[key])


def _verb(verbs: Verbs, now: object) -> str:
    if verbs.state != "state":
        return "changed"
    return verbs.appears if now == "allocated" else str(now)


def _event(event: str, key: tuple[str, ...], state: Mapping[str, object]) -> Event:
    return Event(event, {**dict(zip(_NAMED[key[0]], key[1:], strict=True)), **state})
