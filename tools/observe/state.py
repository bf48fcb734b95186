"""State: the data that the page of `irm web` shows of a system, as one object for JSON (docs/howto/observe.md)."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from . import events
from .reader import Reader, peer_of

if TYPE_CHECKING:
    from ouroboros.readout import IpcpInfo

MAX_EVENTS = 200
"""Events that the page shows; the oldest are deleted."""


class State:
    """A system, and its last events. Each look that is `KEPT` seconds (of the reader) after another is compared with that one."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._before: events.Things | None = None
        self._events: deque[dict[str, Any]] = deque(maxlen=MAX_EVENTS)

    def look(self) -> dict[str, Any]:
        """The system now. Raises IrmError."""
        things = events.look(self._reader)
        changed = [events.started(things)] if self._before is None else events.changes(self._before, things)
        self._before = things
        now = round(time.time(), 3)
        self._events.extend({"time": now, "line": event.line()} for event in changed)
        return {
            "time": now,
            "ipcps": [self._ipcp(ipcp) for ipcp in self._reader.ipcps()],
            "names": [_name(info) for info in self._reader.names()],
            "flows": self._flows(),
            "events": list(self._events),
        }

    def _ipcp(self, ipcp: IpcpInfo) -> dict[str, Any]:
        neighbours: list[dict[str, Any]] = []
        words = self._reader.words(ipcp)
        try:
            if events.connects(ipcp):
                counted = self._reader.rows(ipcp, "endpoints") if "endpoints" in words else []
                packets = {row["id"]: _sum(row) for row in counted}
                for row in self._reader.rows(ipcp, "neighbours"):
                    neighbours.append(
                        {
                            "peer": peer_of(row) or "",
                            "component": row["component"],
                            "state": row["state"],
                            "layer": row["layer"],
                            "fd": row["fd"],
                            "packets": packets.get(row["fd"], _sum(row)),
                        }
                    )
            state = ipcp.state
        except OSError:
            state = "does not answer"
        return {
            "name": ipcp.name,
            "pid": ipcp.pid,
            "type": ipcp.type.type_name,
            "layer": ipcp.layer,
            "state": state,
            "neighbours": neighbours,
        }

    def _flows(self) -> list[dict[str, Any]]:
        flows: dict[object, dict[str, Any]] = {}
        for end in self._reader.flow_ends():
            flow = flows.setdefault(
                end["flow_id"],
                {key: end[key] for key in ("name", "layer", "state")} | {"id": end["flow_id"], "ends": []},
            )
            shown = {key: end[key] for key in ("pid", "fd", "program", "queued", "packets")}
            flow["ends"].append(shown | {"lost": int(str(end["dropped"])) + int(str(end["refused"]))})
        return list(flows.values())


def _sum(row: Mapping[str, object]) -> int:
    return sum(int(str(row.get(key) or 0)) for key in ("sent", "received"))


def _name(info: Any) -> dict[str, Any]:
    return {
        "name": info.name,
        "programs": len(info.programs),
        "processes": len(info.processes),
        "registrations": [{"ipcp": one.ipcp, "layer": one.layer} for one in info.registrations],
    }
