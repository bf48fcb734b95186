"""Neighbours of a unicast IPCP, in a network of Python: connected, silent, dead, cut off."""

from __future__ import annotations

import errno
from dataclasses import replace
from typing import Any

import pytest

from ouroboros.flow_event import FlowEvent
from ouroboros.qos import QOS_DATA, QOS_VIDEO, QOS_VOICE, QoSSpec
from tests.unit.ipcpd.unicast.applications import NAME, serving, talk
from tests.unit.ipcpd.unicast.network import DT, MGMT, Network, Node


def test_connections_carry_what_they_are_for(network: Network) -> None:
    _, b = network.line(2)
    kinds = {c.component: QoSSpec.from_proto(c.lower.qos) for c in b.member.adjacencies.connections.values()}
    assert set(kinds) == {MGMT, DT}


@pytest.mark.parametrize("qos", [QOS_VOICE, QOS_VIDEO, QOS_DATA])
def test_data_transfer_is_never_in_order_and_management_always_raw(network: Network, qos: QoSSpec) -> None:
    network.bootstrap("a")
    b = network.enroll("b", "a")
    network.connect(b, "a", qos=qos.replace(timeout=700))
    for connection in b.member.adjacencies.connections.values():
        asked = QoSSpec.from_proto(connection.lower.qos)
        assert (asked.in_order, asked.timeout) == (0, 700) and asked.ber
        assert asked.cube == (qos.cube if connection.component == DT else 0)


def test_a_neighbour_with_our_address_is_not_taken(network: Network) -> None:
    a = network.bootstrap("a")
    b = network.enroll("b", "a")
    b.member.link_state.address = a.member.address  # as a prototype may draw it
    for component in b.connections._components.values():
        component.record = replace(component.record, address=a.member.address)
    answer = b.ask(ipcp_connect={"dst": "a", "component": MGMT})
    assert answer.error and "address" in answer.text
    network.settle()
    assert not a.member.adjacencies.connections and not network.open


def links(node: Node) -> list[Any]:
    return [c for c in node.member.adjacencies.connections.values() if c.component == DT]


def both(network: Network, node: Node, *, cut: bool) -> None:
    """Packets of all flows of a node vanish, in both directions, and nobody gets a new one; or all is well again."""
    network.silent = set(network.names) if cut else set()
    for (owner, _), end in network.open.items():
        if owner is node and end.peer is not None and end.fd not in node.apps:  # type: ignore[comparison-overlap]
            end.cut = end.peer.cut = cut


def test_a_silent_neighbour_is_noticed_and_taken_back(network: Network) -> None:
    network.bootstrap("a")
    b = network.enroll("b", "a")
    a = network.ipcps[0]
    assert isinstance(a, Node)
    network.connect(b, "a", qos=QoSSpec(timeout=1000))
    flows = serving(a)
    client = network.allocate(b, NAME)
    talk(network, client, flows[0])
    both(network, b, cut=True)
    network.pass_time(3)
    for node in (a, b):
        assert not node.member.link_state.tables[0].entries and len(node.member.silent()) == 2
        assert not any(node.dt.lowers[link.lower.fd] for link in links(node))
        (status,) = node.ipcp.readout("status")
        assert (status["members"], status["neighbours"], status["unreachable"]) == (1, 0, 2)
    both(network, b, cut=False)
    network.pass_time(40)
    for node in (a, b):
        assert len(node.member.link_state.tables[0].entries) == 1 and not node.member.silent()
    talk(network, client, flows[0])


def test_alternates_are_told_before_routes_move(network: Network) -> None:
    a, b = network.line(2, routing="lfa")
    (link,) = links(b)
    b.relay.raise_events(link.lower.fd, FlowEvent.DOWN)
    network.pass_time(0)
    network.pass_time(0)
    assert b.dt.lowers[link.lower.fd] is False
    b.relay.raise_events(link.lower.fd, FlowEvent.UP)
    network.pass_time(2)  # a link may come up so often, and not more
    assert b.dt.lowers[link.lower.fd] is True and b.member.link_state.tables[0].entries
    assert a.member.link_state.tables[0].entries


def test_a_neighbour_that_dies_is_forgotten(network: Network) -> None:
    a, b, c = network.line(3)
    network.settle()
    network.dies(b)  # type: ignore[arg-type]
    network.settle()
    for node in (a, c):
        assert not node.member.adjacencies.connections and not node.member.link_state.tables[0].entries
        assert not node.relay.ends


def test_disconnect_is_felt_by_both(network: Network) -> None:
    a, b = network.line(2)
    network.settle()
    for component in (DT, MGMT):
        b.ok(ipcp_disconnect={"dst": "a", "component": component})
    assert b.ask(ipcp_disconnect={"dst": "a", "component": DT}).error == errno.ENOENT
    network.settle()
    for node in (a, b):
        assert not node.member.adjacencies.connections and not node.member.link_state.tables[0].entries
    assert not network.open
    network.connect(b, "a")
    network.settle()
    assert a.member.link_state.tables[0].entries


def test_a_database_that_did_not_fit_is_sent_again(network: Network) -> None:
    a, b = network.line(2)
    network.settle()
    send = a.relay.send
    a.relay.send = lambda fd, packet: False  # type: ignore[method-assign]
    c = network.enroll("c", "b")
    network.connect(c, "b")
    network.pass_time(16)  # a says again what its links are
    assert a.member.adjacencies.unsent
    a.relay.send = send  # type: ignore[method-assign]
    network.pass_time(2)
    assert (
        a.member.link_state.lsdb.live() == b.member.link_state.lsdb.live() == c.member.link_state.lsdb.live()
    )
