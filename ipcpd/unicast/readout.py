"""The rows of a unicast IPCP's read-outs (paper 5.3).

Runs in the unicast IPCP, on its loop; only reads. A row is a dict for json to write, with the same keys in every row of a table.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

from ipcpd.common.connmgr import Connection
from ipcpd.common.ipcp import Row
from ipcpd.common.lower import EVENT_COMPONENT, RAW_COMPONENT
from ipcpd.dataplane.dt import CONGESTION
from ipcpd.wire.address import DIRECTORY, FLOW_ALLOCATOR, to_text
from ouroboros.qos import QoSSpec

from .adjacency import DATA_TRANSFER
from .lsdb import State
from .member import Member
from .routing.weight import CUBES

_COMPONENTS = {
    FLOW_ALLOCATOR: "flow allocator",
    DIRECTORY: "directory",
    RAW_COMPONENT: "connections",
    EVENT_COMPONENT: "events of flows",
    CONGESTION: "congestion updates",
}
_CUBES = ("best effort", "video", "voice")


def neighbours(member: Member) -> list[Row]:
    """Connections with neighbours, by address, and those that are being made again."""
    rows = [_neighbour(member, connection) for connection in member.adjacencies.connections.values()]
    rows.sort(key=lambda row: (str(row["address"]), str(row["component"]), str(row["fd"])))
    for name, component, attempts, trouble in member.connections.trying():
        rows.append(
            _row(name=name, component=component, state="connecting", attempts=attempts, trouble=trouble)
        )
    return rows


def _row(**known: object) -> Row:
    row: Row = dict.fromkeys(
        (
            "name",
            "certificate",
            "encrypted",
            "address",
            "component",
            "state",
            "layer",
            "fd",
            "cube",
            "weights",
            "timeout_ms",
            "max_packet",
            "since",
            "attempts",
            "trouble",
        )
    )
    return row | known


def _neighbour(member: Member, connection: Connection) -> Row:
    lower = connection.lower
    link = member.link_state.dt_flows.get(lower.fd)
    return _row(
        name=connection.peer or None,
        certificate=lower.peer_identity.name if lower.peer_identity.certificate else None,
        encrypted=lower.peer_identity.encrypted,
        address=to_text(connection.peer_address),
        component="dt" if connection.component == DATA_TRANSFER else "mgmt",
        state="up" if lower.usable else "down" if lower.down else "silent",
        layer=lower.layer or None,
        fd=lower.fd,
        cube=_CUBES[QoSSpec.from_proto(lower.qos).cube],
        weights=list(link.weights) if link else None,
        timeout_ms=connection.record.timeout or lower.qos.timeout,
        max_packet=lower.max_packet,
        since=round(member.now - connection.since, 3),
    )


def routes(member: Member) -> list[Row]:
    """For each member that can be reached, the flows that lead there, cube by cube."""
    tables = member.link_state.tables
    hops = {fd: flow.address for fd, flow in member.link_state.dt_flows.items()}
    found = sorted({address for table in tables for address in table.entries})
    far = member.distances()
    return [
        {
            "address": to_text(address),
            "distance": far.get(address),
            "cube": _CUBES[cube],
            "next": [to_text(hops[fd]) for fd in table.entries.get(address, ()) if fd in hops],
            "fds": list(table.entries.get(address, ())),
        }
        for address in found
        for cube, table in enumerate(tables[:CUBES])
    ]


def links(member: Member) -> list[Row]:
    """The link-state database."""
    return [
        {
            "from": to_text(entry.source),
            "to": to_text(entry.target),
            "sequence": entry.sequence,
            "state": entry.state.value,
            "weights": list(entry.weights) if entry.weights else None,
            "age": round(member.now - entry.updated, 3),
        }
        for entry in member.link_state.lsdb
        if entry.state is not State.AGED
    ]


def directory(member: Member) -> list[Row]:
    """Names that are registered here, and values that are kept for other members."""
    dht = member.directory.dht
    rows: list[Row] = [
        {
            "hash": key.hex(),
            "address": to_text(member.address),
            "kept": "own",
            "copies": copies,
            "expires": None,
        }
        for key, copies in sorted(dht.names.items())
    ]
    for key, address, value in sorted(dht.values, key=lambda entry: entry[:2]):
        rows.append(
            {
                "hash": key.hex(),
                "address": to_text(address),
                "kept": "for others",
                "copies": None,
                "expires": value.expires,
            }
        )
    return rows


def contacts(member: Member) -> list[Row]:
    """Members that the directory knows."""
    known = member.directory.dht.contacts.nearest(member.directory.dht.own.id, 1 << 16)
    return [{"address": to_text(contact.address), "id": contact.id.hex()} for contact in known]


def counters(member: Member) -> list[Row]:
    """Every counter, one a row."""
    rows: list[Row] = []

    def count(component: str, of: str, values: dict[str, object]) -> None:
        rows.extend(
            {"component": component, "of": of, "counter": name, "value": value}
            for name, value in values.items()
        )

    for cube, packets in enumerate(member.dt.counters()):
        count("data transfer", _CUBES[cube], packets._asdict())
    count("data transfer", "", {"keepalives": member.dt.keepalives})
    for flow in member.fa:
        try:
            count("data transfer", f"flow {flow.end.fd}", member.dt.flow_counters(flow.end.fd)._asdict())
        except OSError:
            continue  # it is not allocated yet, or does not leave this member
    count("flow allocator", "", asdict(member.fa.counters))
    count("flow allocator", "", {"congestion_malformed": member.congestion_malformed})
    count("link state", "", asdict(member.link_state.counters) | {"unsent": member.adjacencies.unsent})
    count("directory", "", asdict(member.directory.dht.counters))
    count("connections", "", asdict(member.connections.counters))
    count("connections", "", asdict(member.lowers.counters))
    count("machines", "", {"defects": member.defects})
    for number, name in _COMPONENTS.items():
        count("punt", name, member.punt.counters(number)._asdict())
    for component, counters in member.ipcp.message_counters().items():
        count(component, "", counters)
    return rows


def status(member: Member) -> list[Row]:
    """Identity and condition of this member: one row."""
    unicast = member.config.unicast
    dht = member.directory.dht
    return [
        {
            "layer": member.config.layer,
            "address": to_text(member.address),
            "since": int(member.since),
            "hash": member.config.hash.name,
            "routing": unicast.link_state.policy.word,
            "congestion": unicast.cong_avoid.word,
            "ttl": unicast.max_ttl,
            "max_packet": member.max_packet or None,
            "require": member.config.access.require.words,
            "admit": list(member.config.access.admit),
            "neighbours": len({flow.address for flow in member.link_state.dt_flows.values() if flow.up}),
            "unreachable": len(member.silent()),
            "contested": member.link_state.contention.contested,
            "members": len(member.link_state.tables[0].entries) + 1,
            "links": sum(entry.state is State.LIVE for entry in member.link_state.lsdb),
            "contacts": len(dht.contacts),
            "names": len(member.directory.registered),
            "values": dht.values.count,
            "flows": len(member.fa),
            "waiting": member.fa.waiting,
        }
    ]


READOUTS: dict[str, Callable[[Member], list[Row]]] = {
    "neighbours": neighbours,
    "routes": routes,
    "links": links,
    "directory": directory,
    "contacts": contacts,
    "counters": counters,
    "status": status,
}
"""The read-outs, by the word that asks for each."""
