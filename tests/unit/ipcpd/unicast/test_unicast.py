"""The unicast IPCP as a whole, in a network of Python: life, directory, flows, read-outs."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from ouroboros.errors import EIPCPSTATE, ENAME, ENOTALLOC
from ouroboros.facts import words_of
from ouroboros.policies import LinkStatePolicy
from ouroboros.qos import QOS_VOICE, QoSSpec
from ouroboros.rpc.messages_pb2 import SHA3_512, Envelope
from tests.unit.ipcpd.unicast.applications import NAME, outcome, serving, talk
from tests.unit.ipcpd.unicast.network import DT, App, Network

# ---------------------------------------------------------------- life


def test_nothing_goes_before_it_is_a_member(network: Network) -> None:
    node = network.node("a")
    for body in (
        {"ipcp_reg": {"hash": NAME}},
        {"ipcp_flow_alloc": {"dst": NAME}},
        {"ipcp_connect": {"dst": "b", "component": DT}},
        {"readout": {"what": "status"}},
    ):
        assert node.ask(**body).error == EIPCPSTATE
    node.request(ipcp_flow_dealloc={"fd": 64})


def test_bootstrap_takes_every_option(network: Network) -> None:
    node = network.bootstrap(
        "a",
        hash="SHA3_512",
        ttl="9",
        routing="lfa",
        congestion="none",
        dht_alpha="2",
        dht_k="5",
        dht_t_expire="600",
        dht_t_refresh="10",
        dht_t_replicate="20",
        ls_t_recalc="1",
        ls_t_update="2",
        ls_t_timeo="8",
        max_packet="1200",
    )
    member = node.member
    assert node.ipcp.hash == SHA3_512 and member.config.key_length == 64
    assert (node.dt.max_ttl, node.dt.policy) == (9, False)
    assert member.link_state.config.pol is LinkStatePolicy.LFA
    ls, dht = member.config.link_state, member.config.dht
    assert (ls.t_recalc, ls.t_update, ls.t_timeo) == (1, 2, 8)
    assert (dht.alpha, dht.k, dht.t_expire, dht.t_refresh, dht.t_replicate) == (2, 5, 600, 10, 20)
    assert member.max_packet == 1200


def test_a_newcomer_gets_the_whole_configuration(network: Network) -> None:
    a = network.bootstrap(
        "a", hash="SHA3_512", ttl="9", routing="ecmp", congestion="none", dht_k="5", ls_t_timeo="33"
    )
    b = network.enroll("b", "a")
    assert b.ipcp.layer == "unicast" and b.ipcp.hash == SHA3_512
    ours, theirs = a.member.config, b.member.config
    assert theirs.peer == a.member.address and not ours.peer
    assert (theirs.unicast.link_state, theirs.unicast.max_ttl) == (ours.unicast.link_state, 9)
    assert theirs.dht == ours.dht and theirs.unicast.cong_avoid is ours.unicast.cong_avoid
    c = network.enroll("c", "b")  # and hands it on
    assert c.member.config.peer == b.member.address and c.member.config.link_state == ours.link_state
    assert len({node.member.address for node in (a, b, c)}) == 3
    assert not a.member.adjacencies.connections  # an enrolment makes no adjacency


def test_enrolment_into_the_wrong_layer_leaves_nothing(network: Network) -> None:
    network.bootstrap("a")
    node = network.node("b")
    answer = node.ask(ipcp_enroll={"dst": "a", "layer": "another"})
    assert answer.error == errno.EINVAL and "another" in answer.text
    network.settle()
    assert not network.open and node.ipcp._member is None
    node.ok(ipcp_enroll={"dst": "a", "layer": "unicast"})  # and it can still join another


def test_an_address_that_is_taken_is_drawn_again(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = network.line(2)
    network.settle()
    drawn = iter([a.member.address, b.member.address, 77])
    monkeypatch.setattr("ipcpd.unicast.unicast.draw", lambda: next(drawn))
    assert network.enroll("c", "a").member.address == 77


def test_the_end_answers_everybody(network: Network) -> None:
    a, b = network.line(2)
    network.settle()
    a.dt.refuse = {b.member.address}
    number = a.request(ipcp_query={"hash": NAME})
    network.pass_time(0)
    a.ipcp.stop()
    network.pass_time(0.01)
    assert a.session.answers[number].error
    assert a.dt.closed and a.punt.closed
    a.ipcp.stop()  # once more does nothing


# ---------------------------------------------------------------- names and flows


def test_a_flow_through_the_layer(network: Network) -> None:
    a, b, c = network.line(3)
    flows = serving(c)
    client = network.allocate(a, NAME)
    assert outcome(client) == (0, "")
    body = client.outcome.ipcp_flow_alloc_reply  # type: ignore[union-attr]
    assert (body.mpl_ms, body.max_packet, body.data) == (100, 1400 - 15, b"answer")
    talk(network, client, flows[0])
    assert b.dt.counts["forwarded"] >= 2
    a.deallocate(client)
    c.deallocate(flows[0])
    assert not len(a.member.fa) and not len(c.member.fa)
    assert set(a.relay.ends) == set(a.member.adjacencies.connections)


def test_data_that_overtakes_the_reply_is_delivered(network: Network) -> None:
    """The acceptor writes at once: its packet is right behind the reply, which Python still has to handle."""
    a, b = network.line(2)

    def serve(app: App) -> int:
        network.loop.call_later(0.001, app.write, b"welcome")
        return 0

    b.register(NAME, serve)
    client = network.allocate(a, NAME)
    network.settle()
    assert client.heard == [b"welcome"]


def test_the_irmd_is_told_what_arrived(network: Network) -> None:
    a, b = network.line(2)
    seen: list[Envelope] = []
    serving(b)
    announced = b.announced
    b.announced = lambda envelope, reply: (seen.append(envelope), announced(envelope, reply))[1]  # type: ignore[method-assign]
    network.allocate(a, NAME, QOS_VOICE)
    body = seen[0].ipcp_flow_req
    assert (body.hash, body.mpl_ms, body.max_packet, body.data) == (NAME, 100, 1385, b"request")
    assert QoSSpec.from_proto(body.qos) == QOS_VOICE
    (upper,) = b.dt.uppers.values()
    assert upper.cube == 2


@pytest.mark.parametrize("where", ["here", "there"])
def test_a_name_that_nobody_accepts_for_is_refused_at_once(network: Network, where: str) -> None:
    a, b = network.line(2)
    (a if where == "here" else b).register(NAME, None)
    started = network.loop.time()
    client = network.allocate(a, NAME)
    assert outcome(client)[0] == ENAME and client.gone
    assert network.loop.time() - started < 1  # of the clock that passes when nothing happens
    assert not len(a.member.fa) and not b.member.fa.waiting


def test_an_unknown_name(network: Network) -> None:
    a, _ = network.line(2)
    assert a.ask(ipcp_query={"hash": NAME}).error == errno.ENOENT
    assert outcome(network.allocate(a, NAME))[0] == ENAME


def test_a_query_finds_what_is_registered_anywhere(network: Network) -> None:
    a, _, c = network.line(3)
    serving(c)
    for node in (a, c):
        node.ok(ipcp_query={"hash": NAME})
    c.ok(ipcp_unreg={"hash": NAME})
    assert c.ask(ipcp_unreg={"hash": NAME}).error == errno.ENOENT
    network.settle()
    network.settle()
    for node in (a, c):
        assert node.ask(ipcp_query={"hash": NAME}).error == errno.ENOENT


def test_what_a_query_found_is_not_looked_up_again_for_the_flow(network: Network) -> None:
    a, b = network.line(2)
    serving(b)
    a.ok(ipcp_query={"hash": NAME})
    before = a.member.directory.dht.counters.lookups
    assert outcome(network.allocate(a, NAME))[0] == 0
    assert a.member.directory.dht.counters.lookups == before


def test_a_name_that_was_taken_back_is_refused_by_who_had_it(network: Network) -> None:
    """The directory may still say that it is there."""
    a, b = network.line(2)
    flows = serving(b)
    a.ok(ipcp_query={"hash": NAME})
    b.ok(ipcp_unreg={"hash": NAME})
    assert outcome(network.allocate(a, NAME))[0] == ENAME and not flows


def test_a_flow_between_two_processes_of_one_member(network: Network) -> None:
    a = network.bootstrap("a")
    flows = serving(a)
    client = network.allocate(a, NAME)
    assert outcome(client)[0] == 0
    talk(network, client, flows[0])
    a.deallocate(client)
    network.pass_time(0.01)
    assert flows[0].gone and not a.relay.ends


def test_anycast_tries_the_nearest_and_then_the_next(network: Network) -> None:
    a, b, c = network.line(3)
    near, far = serving(b), serving(c)
    network.settle()
    assert outcome(network.allocate(a, NAME))[0] == 0 and (len(near), len(far)) == (1, 0)
    b.servers[NAME] = None  # nobody accepts there any more
    network.pass_time(2)
    assert outcome(network.allocate(a, NAME))[0] == 0 and (len(near), len(far)) == (1, 1)


def test_who_gives_up_leaves_nothing(network: Network) -> None:
    a, b = network.line(2)
    late: list[App] = []

    def slow(app: App) -> int:
        late.append(app)
        return -1  # does not answer yet

    b.register(NAME, slow)
    client = network.request(a, NAME)
    network.settle()
    assert len(late) == 1 and client.outcome is None
    a.deallocate(client)
    assert not len(a.member.fa)
    b.ok(ipcp_flow_alloc_resp={"fd": late[0].fd, "instance": late[0].instance, "data": b""})
    network.settle()
    assert a.member.fa.counters.unknown == 1  # the reply came too late
    b.deallocate(late[0])
    assert not len(b.member.fa)


def test_both_sides_of_a_request_that_is_never_answered_are_cleaned_up(network: Network) -> None:
    a, b = network.line(2)
    late: list[App] = []
    b.register(NAME, lambda app: late.append(app) or -1)  # type: ignore[func-returns-value]
    client = network.allocate(a, NAME)
    assert outcome(client)[0] == errno.ETIMEDOUT
    network.pass_time(2)
    assert late[0].gone and not len(a.member.fa) and not len(b.member.fa) and not b.member.fa.waiting
    answer = b.ask(ipcp_flow_alloc_resp={"fd": late[0].fd, "instance": late[0].instance, "data": b""})
    assert answer.error == ENOTALLOC


def test_a_server_that_ends_before_it_answers(network: Network) -> None:
    a, b = network.line(2)
    late: list[App] = []
    b.register(NAME, lambda app: late.append(app) or -1)  # type: ignore[func-returns-value]
    client = network.request(a, NAME)
    network.settle()
    b.deallocate(late[0])
    network.settle()
    assert outcome(client)[0] == errno.ECONNREFUSED


def test_requests_that_do_not_fit_are_refused(network: Network) -> None:
    a = network.bootstrap("a")
    for key, data, number in ((NAME[:31], b"", errno.EINVAL), (NAME, bytes(1956), errno.EMSGSIZE)):
        app = a.app()
        answer = a.ask(ipcp_flow_alloc={"endpoint": {"fd": app.fd}, "dst": key, "data": data})
        assert answer.error == number and not a.relay.ends
        a._gone(app)
    assert a.ask(ipcp_reg={"hash": b"short"}).error == errno.EINVAL
    assert a.ask(ipcp_query={"hash": b"short"}).error == errno.EINVAL


def test_an_end_that_cannot_be_used_fails_that_flow_only(network: Network) -> None:
    a, b = network.line(2)
    flows = serving(b)
    b.relay.refuse = OSError(errno.ENOMEM, "no memory")
    assert outcome(network.allocate(a, NAME))[0] == errno.ENOMEM
    b.relay.refuse = None
    assert outcome(network.allocate(a, NAME))[0] == 0
    assert len(flows) == 2


# ---------------------------------------------------------------- congestion


def test_updates_reach_the_sender(network: Network) -> None:
    a, b = network.line(2)
    flows = serving(b)
    client = network.allocate(a, NAME)
    b.dt.mark(flows[0].fd, 35)
    network.settle()
    assert a.dt.uppers[client.fd].levels == [35]
    b.deallocate(flows[0])
    b.dt.mark(flows[0].fd, 40)  # no update for a flow that is gone
    b.punt.push(4, flows[0].fd, b"odd")
    network.settle()
    assert a.dt.uppers[client.fd].levels == [35] and b.member.congestion_malformed == 1


# ---------------------------------------------------------------- the largest packet


def test_the_layer_carries_what_its_first_lower_flow_can(network: Network) -> None:
    a = network.bootstrap("a")
    assert a.member.max_packet == 0  # there is none yet
    b = network.enroll("b", "a")
    assert a.member.max_packet == b.member.max_packet == 1400 - 15
    assert b.member.config.unicast.max_packet == 1385  # it came with the configuration


def test_a_lower_flow_that_carries_less_is_said(network: Network, caplog: pytest.LogCaptureFixture) -> None:
    network.bootstrap("a", max_packet="2000")
    b = network.enroll("b", "a")
    assert b.member.max_packet == 2000
    with caplog.at_level("WARNING"):
        network.connect(b, "a")
    assert "takes packets of 1385 octets" in caplog.text


# ---------------------------------------------------------------- read-outs


def test_every_read_out(network: Network) -> None:
    a, b, c = network.line(3)
    serving(c)
    network.allocate(a, NAME)
    network.settle()
    for what in words_of("unicast"):
        for node in (a, b, c):
            answer = node.ok(readout={"what": what})
            assert answer.readout_table.rows or what == "flows", what
            assert len({tuple(row) for row in node.ipcp.readout(what)}) <= 1, "every row has the same keys"
    refused = a.ask(readout={"what": "weather"})
    assert refused.error == errno.EINVAL and "status" in refused.text


def test_a_defect_does_not_stop_the_rest(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = network.line(2)
    flows = serving(b)

    def fail(*_: Any) -> None:
        raise RuntimeError("a defect")

    with monkeypatch.context() as broken:
        broken.setattr(a.member.directory, "reachable", fail)
        c = network.enroll("c", "a")
        network.connect(c, "a")
        network.pass_time(0.2)
    network.pass_time(20)
    client = network.allocate(a, NAME)
    assert outcome(client)[0] == 0
    talk(network, client, flows[0])


def test_two_ends_here_that_close_together_leave_the_next_flows_alone(network: Network) -> None:
    """The descriptors pass to the next flows before what the first close made of the other end is carried out."""
    a = network.bootstrap("a")
    flows = serving(a)
    client = network.allocate(a, NAME)
    for end in (client, flows[0]):
        a.request(ipcp_flow_dealloc={"fd": end.fd, "instance": end.instance})
        a._gone(end)
    again = network.request(a, NAME)
    assert again.fd == client.fd and again.instance != client.instance
    network.settle()
    assert outcome(again)[0] == 0 and not again.gone and not flows[1].gone
    talk(network, again, flows[1])
    assert a.ipcp.late == {"Lost": 1}
    counters = a.ipcp.readout("counters")
    assert {"component": "late messages", "of": "", "counter": "Lost", "value": 1} in counters


def test_what_the_irmd_says_of_an_end_that_is_another_by_now_is_late(network: Network) -> None:
    a = network.bootstrap("a")
    flows = serving(a)
    client = network.allocate(a, NAME)
    for end in (client, flows[0]):
        a.ok(ipcp_flow_dealloc={"fd": end.fd, "instance": end.instance + 1000})
        answer = a.ask(ipcp_flow_alloc_resp={"fd": end.fd, "instance": end.instance + 1000})
        assert answer.error == ENOTALLOC
    talk(network, client, flows[0])
    assert a.ipcp.late == {"ipcp_flow_dealloc": 2, "ipcp_flow_alloc_resp": 2}
