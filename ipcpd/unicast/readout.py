"""The rows of a unicast IPCP's read-outs (paper 5.3).

Runs in the unicast IPCP, on its loop; only reads. The columns and counters are declared in `ouroboros.facts`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict

from ipcpd.common.connmgr import Connection
from ipcpd.common.lower import EVENT_COMPONENT, RAW_COMPONENT
from ipcpd.dataplane.dt import CONGESTION
from ipcpd.wire.address import DIRECTORY, FLOW_ALLOCATOR, to_text
from ouroboros.cubes import CUBES
from ouroboros.facts import (
    CONNECTIONS,
    CONTACTS,
    DT_CUBE,
    DT_FLOW,
    DT_MEMBER,
    ENDPOINTS,
    LINK_STATE,
    LINKS,
    LOWERS,
    MACHINES,
    PUNT,
    ROUTES,
    UNICAST_DIRECTORY,
    UNICAST_FA,
    UNICAST_FLOWS,
    UNICAST_NEIGHBOURS,
    UNICAST_STATUS,
    Row,
)
from ouroboros.facts import DIRECTORY as DHT
from ouroboros.qos import QoSSpec

from .adjacency import DATA_TRANSFER
from .lsdb import State
from .member import Member

_COMPONENTS = {
    FLOW_ALLOCATOR: "flow allocator",
    DIRECTORY: "directory",
    RAW_COMPONENT: "connections",
    EVENT_COMPONENT: "events of flows",
    CONGESTION: "congestion updates",
}


def neighbours(member: Member) -> list[Row]:
    """Connections with neighbours, by address, and those that are being made again."""
    rows = [_neighbour(member, connection) for connection in member.adjacencies.connections.values()]
    rows.sort(key=lambda row: (str(row["address"]), str(row["component"]), str(row["fd"])))
    for name, component, attempts, last_error in member.connections.trying():
        rows.append(
            UNICAST_NEIGHBOURS.row(
                name=name, component=component, state="connecting", attempts=attempts, trouble=last_error
            )
        )
    return rows


def _neighbour(member: Member, connection: Connection) -> Row:
    lower = connection.lower
    link = member.link_state.dt_flows.get(lower.fd)
    return UNICAST_NEIGHBOURS.row(
        name=connection.peer or None,
        certificate=lower.peer_identity.name if lower.peer_identity.certificate else None,
        encrypted=lower.peer_identity.encrypted,
        address=to_text(connection.peer_address),
        component="dt" if connection.component == DATA_TRANSFER else "mgmt",
        state="up" if lower.usable else "down" if lower.down else "silent",
        layer=lower.layer or None,
        fd=lower.fd,
        cube=CUBES[QoSSpec.from_proto(lower.qos).cube].name,
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
        ROUTES.row(
            address=to_text(address),
            distance=far.get(address),
            cube=CUBES[cube].name,
            next=[to_text(hops[fd]) for fd in table.entries.get(address, ()) if fd in hops],
            fds=list(table.entries.get(address, ())),
        )
        for address in found
        for cube, table in enumerate(tables[: len(CUBES)])
    ]


def links(member: Member) -> list[Row]:
    """The link-state database."""
    return [
        LINKS.row(
            **{"from": to_text(entry.source), "to": to_text(entry.target)},
            sequence=entry.sequence,
            state=entry.state.value,
            weights=list(entry.weights) if entry.weights else None,
            age=round(member.now - entry.updated, 3),
        )
        for entry in member.link_state.lsdb
        if entry.state is not State.AGED
    ]


def directory(member: Member) -> list[Row]:
    """Names that are registered here, and values that are kept for other members."""
    dht = member.directory.dht
    rows: list[Row] = [
        UNICAST_DIRECTORY.row(hash=key.hex(), address=to_text(member.address), kept="own", copies=copies)
        for key, copies in sorted(dht.names.items())
    ]
    for key, address, value in sorted(dht.values, key=lambda entry: entry[:2]):
        rows.append(
            UNICAST_DIRECTORY.row(
                hash=key.hex(), address=to_text(address), kept="for others", expires=value.expires
            )
        )
    return rows


def contacts(member: Member) -> list[Row]:
    """Members that the directory knows."""
    known = member.directory.dht.contacts.nearest(member.directory.dht.own.id, 1 << 16)
    return [CONTACTS.row(address=to_text(contact.address), id=contact.id.hex()) for contact in known]


def flows(member: Member) -> list[Row]:
    """The flows of the layer at this member, by descriptor."""
    return [
        UNICAST_FLOWS.row(
            fd=flow.end.fd,
            state=flow.phase.value,
            address=to_text(flow.address) if flow.address else None,
            eid=flow.eid or None,
            peer_eid=flow.peer_eid or None,
            cube=CUBES[flow.cube].name,
        )
        for flow in member.fa
    ]


def endpoints(member: Member) -> list[Row]:
    """The components that packets are addressed to, and the flows to neighbours, with their packets."""
    rows: list[Row] = []
    for number in (FLOW_ALLOCATOR, DIRECTORY):
        punted = member.punt.counters(number)
        rows.append(
            ENDPOINTS.row(
                id=number,
                endpoint=_COMPONENTS[number],
                since=int(member.since),
                received=punted.passed,
                dropped=punted.dropped,
            )
        )
    clock = time.time() - member.now
    for connection in member.adjacencies.connections.values():
        if connection.component == DATA_TRANSFER:
            stats = member.lowers.stats(connection.lower.fd)
            rows.append(
                ENDPOINTS.row(
                    id=connection.lower.fd,
                    endpoint=to_text(connection.peer_address),
                    since=int(clock + connection.since),
                    queued=stats.queued,
                    received=stats.packets,
                    received_octets=stats.octets,
                    sent=stats.sent,
                    dropped=stats.dropped,
                    refused=stats.refused,
                )
            )
    return rows


def counters(member: Member) -> list[Row]:
    """Every counter, one a row."""
    rows: list[Row] = []
    for cube, packets in enumerate(member.dt.counters()):
        rows += DT_CUBE.rows(packets._asdict(), CUBES[cube].name)
    rows += DT_MEMBER.rows({"keepalives": member.dt.keepalives})
    for flow in member.fa:
        try:
            rows += DT_FLOW.rows(member.dt.flow_counters(flow.end.fd)._asdict(), f"flow {flow.end.fd}")
        except OSError:
            continue  # it is not allocated yet, or does not leave this member
    rows += UNICAST_FA.rows(
        asdict(member.fa.counters) | {"congestion_malformed": member.congestion_malformed}
    )
    rows += LINK_STATE.rows(asdict(member.link_state.counters) | {"unsent": member.adjacencies.unsent})
    rows += DHT.rows(asdict(member.directory.dht.counters))
    rows += CONNECTIONS.rows(asdict(member.connections.counters))
    rows += LOWERS.rows(asdict(member.lowers.counters))
    rows += MACHINES.rows({"defects": member.defects})
    for number, name in _COMPONENTS.items():
        rows += PUNT.rows(member.punt.counters(number)._asdict(), name)
    return rows + member.ipcp.message_counters()


def status(member: Member) -> list[Row]:
    """Identity and condition of this member: one row."""
    unicast = member.config.unicast
    dht = member.directory.dht
    times = unicast.dht
    return [
        UNICAST_STATUS.row(
            layer=member.config.layer,
            address=to_text(member.address),
            since=int(member.since),
            hash=member.config.hash.name,
            routing=unicast.link_state.policy.word,
            congestion=unicast.cong_avoid.word,
            ttl=unicast.max_ttl,
            max_packet=member.max_packet or None,
            require=member.config.access.require.words,
            admit=list(member.config.access.admit),
            neighbours=len({flow.address for flow in member.link_state.dt_flows.values() if flow.up}),
            unreachable=len(member.silent()),
            contested=member.link_state.contention.contested,
            members=len(member.link_state.tables[0].entries) + 1,
            links=sum(entry.state is State.LIVE for entry in member.link_state.lsdb),
            contacts=len(dht.contacts),
            names=len(member.directory.registered),
            values=dht.values.count,
            flows=len(member.fa),
            waiting=member.fa.waiting,
            dht_id=dht.own.id.hex(),
            dht_alpha=times.alpha,
            dht_k=times.k,
            dht_t_expire=times.t_expire,
            dht_t_refresh=times.t_refresh,
            dht_t_replicate=times.t_replicate,
        )
    ]


READOUTS: dict[str, Callable[[Member], list[Row]]] = {
    "neighbours": neighbours,
    "routes": routes,
    "links": links,
    "directory": directory,
    "contacts": contacts,
    "flows": flows,
    "endpoints": endpoints,
    "counters": counters,
    "status": status,
}
"""The read-outs, by the word that asks for each."""
