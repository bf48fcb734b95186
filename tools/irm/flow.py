"""irm flow: the flows of the system."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..text import print_json, rows_table, table
from .words import Arguments, Command, Group

if TYPE_CHECKING:
    from ouroboros.readout import FlowInfo

_BEFORE = ("alloc-pending", "accept-pending")  # states in which the layer of the flow is not known yet
_COLUMNS = (
    ("flow", 7),
    ("state", 15),
    ("name", 20),
    ("layer", 12),
    ("ends, as pid/fd", 23),
    ("queued", 11),
    ("lost", 9),
)


def _list(arguments: Arguments) -> int:
    from ouroboros import irm

    flows = irm.list_flows()
    if arguments.json:
        print_json({"flows": [_record(flow) for flow in flows]})
    elif flows:
        print(table(_COLUMNS, map(_row, flows)), end="\n\n")
    else:
        print("No flows in system.", end="\n\n")
    return 0


def _counters(arguments: Arguments) -> int:
    from ouroboros import irm

    rows = irm.readout_irmd()
    if arguments.json:
        print_json({"counters": rows})
    else:
        print(rows_table(rows) if rows else "No counters.", end="\n\n")
    return 0


def _record(flow: FlowInfo) -> dict[str, Any]:
    return {
        "flow_id": flow.flow_id,
        "state": flow.state,
        "down": flow.down,
        "name": flow.name,
        "layer": flow.layer or None,
        "cipher": flow.cipher or None,
        "ends": [end._asdict() for end in flow.ends],
        "qos": None if flow.qos is None else dict(zip(flow.qos.__slots__, flow.qos, strict=True)),
    }


def _row(flow: FlowInfo) -> tuple[object, ...]:
    return (
        flow.flow_id,
        "down" if flow.down else flow.state,
        flow.name,
        flow.layer or ("" if flow.state in _BEFORE else "(direct)"),
        " ".join(f"{end.pid}/{end.fd}" for end in flow.ends),
        " ".join(str(end.queued) for end in flow.ends),
        sum(end.dropped + end.refused for end in flow.ends),
    )


GROUP = Group(
    "flow",
    "the flows of the system",
    (
        Command(
            "list",
            "list the flows: their processes, and how many packets wait to be read, or were lost",
            _list,
            json=True,
        ),
        Command(
            "counters",
            "the IRMd's counters: messages that arrived after the flow or process they name had ended",
            _counters,
            json=True,
        ),
    ),
)
