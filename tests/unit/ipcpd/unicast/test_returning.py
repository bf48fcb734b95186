"""Whole members that come back with the address that they had, meet another that has it, or find a machine broken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ipcpd.unicast.adjacency import (
    MANAGEMENT,
    MEMBER_TIMEOUT_MS,
    grant_keep_alive,
    offer_keep_alive,
)
from ipcpd.unicast.directory import MOST_SILENT, _Found
from ipcpd.unicast.pursuit import OTHERS
from ipcpd.wire.connmgr import management
from ipcpd.wire.lsm import Lsm
from ouroboros.flow_event import FlowEvent
from ouroboros.identity import IdentityFile
from ouroboros.qos import QOS_RAW
from tests.unit.ipcpd.unicast.network import DT, App, Network, Node

KEY = bytes(range(32))


def newcomer(network: Network, name: str, dst: str, folder: Path) -> Node:
    """One that keeps its identity in a folder."""
    node = network.node(name)
    node.ipcp.identity = IdentityFile(name, str(folder))
    node.ok(ipcp_enroll={"dst": dst})
    network.connect(node, dst)
    network.settle()
    return node


def kill(network: Network, node: Node) -> None:
    """The process of a member ends, and those at the other ends of its flows are not told."""
    for (owner, _), end in list(network.open.items()):
        if owner is node and end.peer is not None:
            end.peer.peer, end.peer = None, None
    node.ipcp.identity.close()
    network.dies(node)  # type: ignore[arg-type]
    network.ipcps.remove(node)  # type: ignore[arg-type]


def test_a_member_that_was_killed_has_its_address_and_its_node_again(
    network: Network, tmp_path: Path
) -> None:
    a, b = network.line(2)
    c = newcomer(network, "c", "b", tmp_path)
    address, node = c.member.address, c.member.directory.dht.own.id
    c.register(KEY)
    kill(network, c)
    c = newcomer(network, "c", "b", tmp_path)  # while the layer still thinks that it is there
    assert (c.member.address, c.member.directory.dht.own.id) == (address, node)
    c.register(KEY)
    network.pass_time(2)
    app = network.allocate(a, KEY)
    assert app.outcome is not None and not app.outcome.ipcp_flow_alloc_reply.response
    assert (
        sum(one.peer_address == address and one.component == DT for one in b.connections.connections.values())
        == 1
    )


def lose_flows(network: Network, node: Node) -> None:
    """The IPCP below a member is killed: the member is notified that its flows have ended, and the other ends are not."""
    for connection in list(node.connections.connections.values()):
        end = network.end(node, connection.lower.fd)  # type: ignore[arg-type]
        assert end.peer is not None
        end.peer.peer, end.peer = None, None
        node.relay.raise_events(end.fd, FlowEvent.DOWN | FlowEvent.DEALLOC)


@pytest.mark.parametrize("default", [True, False])
def test_flows_that_the_acceptor_has_lost_are_made_anew(network: Network, default: bool) -> None:
    """Members of ours agree on a shorter time-out than the default; one that the user chose stays."""
    a, b = network.bootstrap("a"), network.enroll("b", "a")
    timeout = MEMBER_TIMEOUT_MS if default else 60_000
    network.connect(b, "a", qos=QOS_RAW if default else QOS_RAW.replace(timeout=timeout))
    network.settle()
    for node in (a, b):
        assert {row["timeout_ms"] for row in node.ipcp.readout("neighbours")} == {timeout}
    network.pass_time(10)
    lose_flows(network, a)
    network.pass_time(timeout / 1000 - 10)
    assert not a.connections.connections
    network.pass_time(15)
    for node in (a, b):
        assert sorted(one.component for one in node.connections.connections.values()) == [DT, MANAGEMENT]
        assert all(one.lower.usable for one in node.connections.connections.values())


def test_a_neighbour_that_grants_no_keep_alive_keeps_that_of_the_flow() -> None:
    """A prototype skips the offer."""
    own = management(1)
    assert grant_keep_alive(own, management(2)) == own
    offered, qos = offer_keep_alive(own, QOS_RAW.replace(timeout=0).to_proto())
    assert offered == own and not qos.timeout


def test_the_address_of_a_member_that_lives_is_given_to_no_other(network: Network, tmp_path: Path) -> None:
    network.line(2)
    c = newcomer(network, "c", "b", tmp_path)
    c.ipcp.identity.close()
    other = newcomer(network, "c", "a", tmp_path)
    assert other.member.address != c.member.address
    assert not c.member.link_state.contention.contested


def test_two_that_came_by_the_same_address_are_told_and_one_draws_again(
    network: Network, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    a, b = network.line(2)
    with monkeypatch.context() as patch:
        patch.setattr("ipcpd.unicast.unicast.draw", lambda **_: 77)
        c, d = network.node("c"), network.node("d")
        asked = [c.request(ipcp_enroll={"dst": "a"}), d.request(ipcp_enroll={"dst": "b"})]
        for node, number in zip((c, d), asked, strict=True):
            assert not network.run(node.answer(number)).error
    assert c.member.address == d.member.address == 77
    d.register(KEY)
    network.connect(c, "a")
    network.connect(d, "b")
    network.pass_time(90)
    assert c.member.address != d.member.address
    assert "has our address" in caplog.text and "left to another member" in caplog.text
    assert not c.ipcp.readout("status")[0]["contested"] and not d.ipcp.readout("status")[0]["contested"]
    for one in (a, b, c, d):
        assert one.member.link_state.tables[0].entries.keys() == {
            other.member.address for other in (a, b, c, d) if other is not one
        }
    app = network.allocate(c, KEY)  # names are registered anew
    assert app.outcome is not None and not app.outcome.ipcp_flow_alloc_reply.response


def test_a_message_that_cannot_be_encoded_holds_up_no_other(
    network: Network, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    a, b = network.line(2)

    def broken(message: Any) -> bytes:
        if message.target == 0xBAD:
            raise ValueError("no way to write this")
        return real(message)

    from ipcpd.unicast import adjacency

    real = adjacency._encode
    monkeypatch.setattr(adjacency, "_encode", broken)
    (fd,) = a.member.link_state._mgmt
    flow = a.member.link_state._mgmt[fd]
    assert flow.ours
    a.member.link_state._packets += [
        (fd, Lsm(5, 0xBAD, 1)),
        (fd, Lsm(5, 6, 1)),
    ]
    a.member.schedule()
    network.settle()
    assert b.member.link_state.lsdb.get(5, 6) is not None
    assert a.member.defects == 1 and "no way to write this" in caplog.text
    counters = {
        row["counter"]: row["value"] for row in a.ipcp.readout("counters") if row["component"] == "machines"
    }
    assert counters == {"defects": 1}
    monkeypatch.setattr(adjacency, "_encode", real)


def test_a_machine_that_fails_at_every_deadline_does_not_spin(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    (a,) = network.line(1)
    calls = 0

    def broken(_self: object, now: float) -> None:
        nonlocal calls
        calls += 1
        raise ValueError

    monkeypatch.setattr("ipcpd.unicast.link_state.LinkState.timer", broken)
    network.pass_time(60)
    assert 0 < calls < 200
    monkeypatch.undo()
    network.pass_time(5)


def silent_server(node: Node) -> list[App]:
    """The first request for a flow is left without an answer; the others are accepted."""
    asked: list[App] = []

    def serve(app: App) -> int:
        asked.append(app)
        return -1 if len(asked) == 1 else 0

    node.register(KEY, serve)
    return asked


def test_a_request_without_an_answer_is_repeated_with_another_handshake(network: Network) -> None:
    a, b = network.line(2)
    asked = silent_server(b)
    app = network.request(a, KEY)
    network.pass_time(2.5)
    a.request(ipcp_flow_again={"fd": app.fd, "instance": app.instance, "data": b"second"})
    network.settle()
    assert len(asked) == 2 and app.outcome is not None
    assert not app.outcome.ipcp_flow_alloc_reply.response
    assert a.member.fa.counters.again == 1
    app.write(b"hello")
    network.settle()
    assert asked[1].heard == [b"hello"] and not asked[0].heard


@pytest.mark.parametrize("answered", [0, 1])
def test_the_first_answer_is_taken_whichever_request_it_is_for(network: Network, answered: int) -> None:
    """It may have been on its way when the request was repeated: an accept has been spent on it."""
    a, b = network.line(2)
    asked: list[App] = []
    b.register(KEY, lambda app: asked.append(app) or -1)  # type: ignore[func-returns-value]
    app = network.request(a, KEY)
    network.pass_time(2.5)
    a.request(ipcp_flow_again={"fd": app.fd, "instance": app.instance, "data": b"second"})
    network.settle()
    for one in (asked[answered], asked[1 - answered]):
        b.request(ipcp_flow_alloc_resp={"fd": one.fd, "instance": one.instance, "data": b"answer"})
        network.settle()
    assert app.outcome is not None and not app.outcome.ipcp_flow_alloc_reply.response
    assert a.member.fa.counters.unknown == 1  # the later answer
    assert len(a.member.fa._by_eid) == 1
    app.write(b"hello")
    network.settle()
    assert asked[answered].heard == [b"hello"] and not asked[1 - answered].heard


def test_when_the_only_holder_that_is_known_is_silent_others_are_asked(network: Network) -> None:
    a, b, c = network.line(3)
    b.register(KEY, lambda _app: -1)
    c.register(KEY)
    now = a.member.now
    a.member.directory._found[KEY] = _Found((b.member.address,), now + 1)  # what the directory said first
    app = network.request(a, KEY)
    network.pass_time(OTHERS + 1)
    assert app.outcome is not None and not app.outcome.ipcp_flow_alloc_reply.response
    (flow,) = a.member.fa
    assert flow.address == c.member.address
    # And the next time the silent one is passed over at first.
    network.pass_time(2)
    app = network.request(a, KEY)
    network.settle()
    assert app.outcome is not None and not app.outcome.ipcp_flow_alloc_reply.response


def test_a_silent_holder_is_waited_for_when_there_is_no_other(network: Network) -> None:
    a, b = network.line(2)
    asked: list[App] = []
    b.register(KEY, lambda app: asked.append(app) or -1)  # type: ignore[func-returns-value]
    app = network.request(a, KEY)
    network.pass_time(OTHERS + 4)
    assert len(asked) == 1 and app.outcome is None
    (waiting,) = asked
    b.ok(ipcp_flow_alloc_resp={"fd": waiting.fd, "instance": waiting.instance, "data": b"late"})
    network.settle()
    assert app.outcome is not None and not app.outcome.ipcp_flow_alloc_reply.response


def test_silent_members_are_bounded(network: Network) -> None:
    (a,) = network.line(1)
    directory = a.member.directory
    for address in range(1, MOST_SILENT + 10):
        directory.seek(KEY, address, lambda _found: None, a.member.now)
    assert len(directory._silent) == MOST_SILENT and 1 not in directory._silent
    a.member.schedule()
    network.pass_time(10)
    assert not directory._seeking
