"""N-1 flows and the connections over them: in good order, out of order, lost, silent, and with strangers."""

from __future__ import annotations

import asyncio
import errno
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ipcpd.common.admission import PeerIdentity
from ipcpd.common.claims import KEPT, MAX_CLAIMS, Claims
from ipcpd.common.connection import is_same_link
from ipcpd.common.connmgr import MOST_RESPONDING, Connection
from ipcpd.common.lower import LEAST_TIMEOUT_MS, Lower
from ipcpd.wire import connmgr as wire
from ipcpd.wire.connmgr import Record, Syntax
from ouroboros.backoff import Backoff
from ouroboros.flow_event import FlowEvent
from ouroboros.qos import QOS_VOICE
from ouroboros.rpc.messages_pb2 import Envelope
from ouroboros.rpc.service import Refusal
from tests.unit.ipcpd.world import FakeIpcp, World, make_world, raw

MANAGEMENT = "Management"


class Member:
    """An IPCP with a component that keeps what happens."""

    def __init__(self, world: World, name: str, address: int, **options: Any) -> None:
        self.ipcp: FakeIpcp = world.ipcp(name, **options)
        self.made: list[Connection] = []
        self.lost: list[Connection] = []
        self.states: list[FlowEvent] = []
        self.heard: list[bytes] = []
        connections = self.ipcp.connections
        connections.on_lost = self.lost.append
        connections.on_state = lambda connection, event: self.states.append(event)
        connections.component(wire.management(address), self._on_connection)
        connections.serve()
        world.pass_time(0)

    def _on_connection(self, connection: Connection) -> None:
        self.made.append(connection)
        self.ipcp.lowers.listen(connection.lower, self.heard.append)

    async def connect(self, dst: str, *, timeout_ms: int = 0) -> Connection:
        return await self.ipcp.connections.connect(dst, MANAGEMENT, raw(timeout_ms), timeout=5.0)


def refusal(world: World, work: Any) -> Refusal:
    with pytest.raises(Refusal) as caught:
        world.run(work)
    return caught.value


def test_both_sides_get_a_connection(world: World) -> None:
    a, b = Member(world, "a", 1), Member(world, "b", 2)
    connection = world.run(a.connect("b"))
    assert (connection.peer_address, connection.initiator, connection.peer) == (2, True, "b")
    (theirs,) = b.made
    assert (theirs.peer_address, theirs.initiator, theirs.peer) == (1, False, "")
    assert a.made == [connection] and connection.record.protocol == "LSP"
    a.ipcp.lowers.send(connection.lower, b"hello")
    a.ipcp.lowers.send(connection.lower, b"")
    b.ipcp.lowers.send(theirs.lower, b"good day")
    world.pass_time(0.1)
    assert b.heard == [b"hello"] and a.heard == [b"good day"]
    assert a.ipcp.lowers.counters.strays == b.ipcp.lowers.counters.strays == 0


def test_what_follows_the_record_at_once_is_not_lost(world: World) -> None:
    """The neighbour may speak as soon as it has our record: what is behind it waits for the component."""
    a, b = Member(world, "a", 1), Member(world, "b", 2)

    async def impatient() -> None:
        lower = await a.ipcp.lowers.allocate("b", raw(), timeout=1.0)
        for packet in (wire.encode(wire.management(1)), b"one", b"", b"two"):
            a.ipcp.lowers.send(lower, packet)

    world.run(impatient())
    world.pass_time(0.1)
    assert b.heard == [b"one", b"two"]


def test_disconnecting_ends_it_on_both_sides(world: World) -> None:
    a, b = Member(world, "a", 1), Member(world, "b", 2)
    connection = world.run(a.connect("b"))
    a.ipcp.connections.disconnect("b", MANAGEMENT)
    world.pass_time(60)
    assert a.lost == [connection] and b.lost == b.made and len(a.made) == 1
    assert not world.open and not a.ipcp.relay.ends and not b.ipcp.relay.ends
    with pytest.raises(Refusal) as caught:
        a.ipcp.connections.disconnect("b", MANAGEMENT)
    assert caught.value.errno == errno.ENOENT
    with pytest.raises(Refusal):
        b.ipcp.connections.disconnect("a", MANAGEMENT)


def test_one_connection_for_each_cube(world: World) -> None:
    a, b = Member(world, "a", 1), Member(world, "b", 2)
    world.run(a.connect("b"))
    twice = refusal(world, a.connect("b"))
    assert twice.errno == errno.EEXIST and "already" in str(twice)
    voice = QOS_VOICE.replace(in_order=0, timeout=0).to_proto()
    world.run(a.ipcp.connections.connect("b", MANAGEMENT, voice, timeout=1.0))
    assert len(b.made) == 2
    a.ipcp.connections.disconnect("b", MANAGEMENT)
    world.pass_time(1)
    assert not world.open


def test_connecting_twice_at_the_same_time(world: World) -> None:
    a, b = Member(world, "a", 1), Member(world, "b", 2)

    async def both() -> list[Any]:
        return await asyncio.gather(a.connect("b"), a.connect("b"), return_exceptions=True)

    one, two = world.run(both())
    assert isinstance(one, Connection) and isinstance(two, Refusal) and two.errno == errno.EALREADY
    assert len(b.made) == 1


@pytest.mark.parametrize(
    ("record", "text"),
    [
        (Record(MANAGEMENT, "XYZ", 1, 0, 1), 'protocol "XYZ"'),
        (Record(MANAGEMENT, "LSP", 2, 0, 1), "version 2 of LSP"),
        (Record(MANAGEMENT, "LSP", 1, Syntax.FIXED, 1), "syntax 2"),
        (wire.UNKNOWN, f'no component "{MANAGEMENT}"'),
        (wire.refusal("go \x1b[31maway"), "refuses: go \N{REPLACEMENT CHARACTER}[31maway"),
    ],
)
def test_the_initiator_checks_what_it_gets(world: World, record: Record, text: str) -> None:
    a = Member(world, "a", 1)
    strange = world.ipcp("strange")
    strange.lowers.accept(
        lambda lower: strange.lowers.listen(
            lower, lambda packet: None if strange.lowers.send(lower, wire.encode(record)) else None
        )
    )
    world.pass_time(0)
    assert text in str(refusal(world, a.connect("strange")))
    world.pass_time(0.1)
    assert not a.made and not a.lost and not world.open.keys() & {(a.ipcp, fd) for fd in range(64, 100)}
    world.pass_time(100)
    assert world.allocations == 1, "what never was is not tried again"


def test_an_unknown_component_gets_the_empty_record(world: World) -> None:
    a, b = Member(world, "a", 1), Member(world, "b", 2)
    a.ipcp.connections.component(Record("Nonsense", "x", 1), a.made.append)
    refused = refusal(world, a.ipcp.connections.connect("b", "Nonsense", raw(), timeout=1.0))
    assert 'no component "Nonsense"' in str(refused)
    world.pass_time(0.1)
    assert not world.open and b.ipcp.connections.counters.refused == 1
    unknown = refusal(world, a.ipcp.connections.connect("b", "Other", raw(), timeout=1.0))
    assert unknown.errno == errno.ENOTSUP and "it has Management, Nonsense" in str(unknown)


def test_a_mismatch_is_answered_with_our_record(world: World) -> None:
    """So that a prototype, which does not understand reasons, finds out."""
    a, b = Member(world, "a", 1), Member(world, "b", 2)

    async def ask() -> bytes:
        lower = await a.ipcp.lowers.allocate("b", raw(), timeout=1.0)
        answer: asyncio.Future[bytes] = world.loop.create_future()
        a.ipcp.lowers.listen(lower, answer.set_result)
        a.ipcp.lowers.send(lower, wire.encode(Record(MANAGEMENT, "LSP", 7, 0, 9)))
        return await answer

    assert wire.decode(world.run(ask())) == wire.management(2)
    world.pass_time(0.1)
    assert not world.open and not b.made


def test_a_member_of_a_layer_of_the_other_type_is_named_as_such(world: World) -> None:
    a, b = Member(world, "a", 1), Member(world, "b", 2)
    a.ipcp.connections.component(wire.data_transfer(1), a.made.append)
    b.ipcp.connections.component(wire.BROADCAST, b.made.append)
    refused = refusal(world, a.ipcp.connections.connect("b", "Data Transfer", raw(), timeout=1.0))
    assert "it is in a broadcast layer, and this IPCP in a unicast layer" in str(refused)
    assert b.ipcp.connections.counters.refused == 1 and not a.made


def test_a_neighbour_may_be_refused_with_a_reason(world: World) -> None:
    a, b = Member(world, "a", 1), Member(world, "b", 2)
    b.ipcp.connections.component(
        wire.management(2), b.made.append, admit=lambda theirs, _: "not you" if theirs.address == 1 else ""
    )
    refused = refusal(world, a.connect("b"))
    assert refused.errno == errno.ECONNREFUSED and '"b" refuses: not you' in str(refused)
    c = Member(world, "c", 3)
    world.run(c.connect("b"))
    assert not a.made and len(b.made) == 1


@pytest.mark.parametrize("initiates", [True, False])
def test_a_component_may_refuse_what_it_gets(world: World, initiates: bool) -> None:
    a, b = Member(world, "a", 1), Member(world, "b", 2)

    def refuse(_connection: Connection) -> None:
        raise Refusal(errno.ELOOP, "that would be a loop")

    (a if initiates else b).ipcp.connections.component(wire.management(1), refuse)
    if initiates:
        assert refusal(world, a.connect("b")).errno == errno.ELOOP
    else:
        assert refusal(world, a.connect("b")).errno == errno.ECONNRESET
    world.pass_time(0.4)
    assert not a.lost if initiates else not b.lost
    assert not world.open
    a.ipcp.connections.close()


def test_nobody_says_anything(world: World) -> None:
    a, b = Member(world, "a", 1), Member(world, "b", 2)
    mute = world.ipcp("mute")
    mute.lowers.accept(lambda lower: None)
    world.pass_time(0)
    before = world.loop.time()
    refused = refusal(world, a.connect("mute"))
    assert refused.errno == errno.ETIMEDOUT and world.loop.time() == before + 1.0
    lower = world.run(mute.lowers.allocate("b", raw(), timeout=1.0))
    world.pass_time(0.99)
    assert (mute, lower.fd) in world.open and lower.usable
    world.pass_time(0.02)
    assert not world.open and b.ipcp.connections.counters.silent == 1
    assert not a.ipcp.relay.ends and not b.ipcp.relay.ends


def test_keep_alives_are_not_records(world: World) -> None:
    a, b = Member(world, "a", 1), Member(world, "b", 2)

    async def hesitant() -> None:
        lower = await a.ipcp.lowers.allocate("b", raw(), timeout=1.0)
        a.ipcp.lowers.send(lower, b"")
        await asyncio.sleep(0.5)
        a.ipcp.lowers.send(lower, wire.encode(wire.management(1)))

    world.run(hesitant())
    world.pass_time(1)
    assert len(b.made) == 1


def test_refused_and_unanswered_allocations(world: World) -> None:
    a = Member(world, "a", 1)
    assert refusal(world, a.connect("nowhere")).errno == 1007
    world.silent.add("b")
    before = world.loop.time()
    assert refusal(world, a.connect("b")).errno == errno.ETIMEDOUT
    assert world.loop.time() == before + 5.0 and not world.open


def test_a_flow_that_cannot_be_attached_is_given_back(world: World) -> None:
    a, b = Member(world, "a", 1), Member(world, "b", 2)
    a.ipcp.relay.refuse = OSError(errno.ENOSPC, "too many trust domains")
    assert refusal(world, a.connect("b")).errno == errno.ENOSPC
    world.pass_time(2)
    assert not world.open
    a.ipcp.relay.refuse = None
    b.ipcp.relay.refuse = OSError(errno.ENOSPC, "too many trust domains")
    assert refusal(world, a.connect("b")).errno == errno.ECONNRESET
    b.ipcp.relay.refuse = None
    world.pass_time(20)
    world.run(a.connect("b"))


def test_giving_up_while_the_flow_is_being_allocated(world: World) -> None:
    """What is granted afterwards is deallocated."""
    a, _b = Member(world, "a", 1), Member(world, "b", 2)
    world.delay = 1.0

    async def hasty() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await a.connect("b")

    world.run(hasty())
    assert len(world.cancelled) == 1
    world.pass_time(3)
    assert not world.open and not a.ipcp.relay.ends
    world.delay = 0.0
    world.run(a.connect("b"))


def test_giving_up_while_waiting_for_the_record(world: World) -> None:
    a = Member(world, "a", 1)
    world.ipcp("mute").lowers.accept(lambda lower: None)
    world.pass_time(0)

    async def hasty() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await a.connect("mute")

    world.run(hasty())
    assert not a.ipcp.relay.ends


# ---------------------------------------------------------------- what is lost


def test_a_neighbour_that_dies_is_taken_back_when_it_returns(world: World) -> None:
    a, b = Member(world, "a", 1, backoff=Backoff(1.0, 8.0)), Member(world, "b", 2)
    first = world.run(a.connect("b"))
    world.dies(b.ipcp)
    world.pass_time(0.1)
    assert a.lost == [first] and first.lost
    world.pass_time(20)
    attempts = world.allocations - 1
    assert attempts == 4, "after 1, 2, 4 and 8 seconds"
    ((dst, component, tries, trouble),) = a.ipcp.connections.trying()
    assert (dst, component, tries) == ("b", MANAGEMENT, 4) and 'nobody knows "b"' in trouble
    again = Member(world, "b", 3)
    world.pass_time(8)
    assert [one.peer_address for one in a.made] == [2, 3] and len(again.made) == 1
    assert not a.ipcp.connections.trying()
    world.dies(again.ipcp)
    world.pass_time(0.5)
    a.ipcp.connections.disconnect("b", MANAGEMENT)
    before = world.allocations
    world.pass_time(100)
    assert world.allocations == before, "a user who disconnects means it"


def test_the_side_that_accepted_does_not_try(world: World) -> None:
    a, b = Member(world, "a", 1), Member(world, "b", 2)
    world.run(a.connect("b"))
    world.dies(a.ipcp)
    world.pass_time(100)
    assert b.lost == b.made and world.allocations == 1 and not world.open


def test_disconnecting_while_connecting_again(world: World) -> None:
    a, b = Member(world, "a", 1), Member(world, "b", 2)
    world.run(a.connect("b"))
    world.dies(b.ipcp)
    Member(world, "b", 2)
    world.delay = 5.0
    world.pass_time(2)
    a.ipcp.connections.disconnect("b", MANAGEMENT)
    world.pass_time(30)
    assert not world.open and len(a.made) == 1


def test_a_user_who_connects_while_we_try(world: World) -> None:
    a, b = Member(world, "a", 1, backoff=Backoff(50.0, 50.0)), Member(world, "b", 2)
    world.run(a.connect("b"))
    world.dies(b.ipcp)
    world.pass_time(0.1)
    assert refusal(world, a.connect("b")).errno == 1007
    assert a.ipcp.connections.trying(), "it goes on as before"
    Member(world, "b", 2)
    world.run(a.connect("b"))
    assert len(a.made) == 2 and not a.ipcp.connections.trying()


def test_down_and_up(world: World) -> None:
    """The layer below sees its link: nothing is lost, nothing is tried."""
    a, _b = Member(world, "a", 1), Member(world, "b", 2)
    connection = world.run(a.connect("b"))
    fd = connection.lower.fd
    for event in (FlowEvent.DOWN, FlowEvent.DOWN, FlowEvent.UP, FlowEvent.UP):
        a.ipcp.relay.raise_events(fd, event)
        world.pass_time(10)
    assert a.states == [FlowEvent.DOWN, FlowEvent.UP] and not a.lost
    assert world.allocations == 1 and connection.lower.usable


def test_a_link_that_comes_back_without_the_neighbour(world: World) -> None:
    """While the link is down nothing is tried; when it is back and the neighbour is not, it is."""
    a, _b = Member(world, "a", 1), Member(world, "b", 2)
    connection = world.run(a.connect("b", timeout_ms=1000))
    fd = connection.lower.fd
    silence(connection, world, a.ipcp, True)
    a.ipcp.relay.raise_events(fd, FlowEvent.DOWN)
    world.pass_time(50)
    assert a.states == [FlowEvent.DOWN, FlowEvent.PEER] and world.allocations == 1
    a.ipcp.relay.raise_events(fd, FlowEvent.UP)
    world.pass_time(5)
    assert a.states[2:] == [FlowEvent.PEER] and a.lost == [connection] and len(a.made) == 2


def silence(connection: Connection, world: World, ipcp: FakeIpcp, cut: bool) -> None:
    end = world.end(ipcp, connection.lower.fd)
    assert end.peer is not None
    end.cut = end.peer.cut = cut


def test_a_silent_neighbour_that_returns(world: World) -> None:
    a, b = Member(world, "a", 1, backoff=Backoff(100.0, 100.0)), Member(world, "b", 2)
    connection = world.run(a.connect("b", timeout_ms=1000))
    world.pass_time(10)
    assert not a.states and not b.states, "keep-alives keep it alive"
    silence(connection, world, a.ipcp, True)
    world.pass_time(1.3)
    assert a.states == b.states == [FlowEvent.PEER]
    world.pass_time(20)
    silence(connection, world, a.ipcp, False)
    world.pass_time(1)
    assert a.states == b.states == [FlowEvent.PEER, FlowEvent.UP]
    assert not a.ipcp.connections.trying() and not a.lost and not b.lost
    world.pass_time(200)
    assert len(a.made) == 1


def test_a_silent_neighbour_is_connected_anew(world: World) -> None:
    """It may have started again on a layer that does not say so: a new connection takes the place of the old."""
    a, b = Member(world, "a", 1, backoff=Backoff(1.0, 1.0)), Member(world, "b", 2)
    connection = world.run(a.connect("b", timeout_ms=1000))
    silence(connection, world, a.ipcp, True)
    world.pass_time(1.3)
    assert a.states == [FlowEvent.PEER]
    world.pass_time(2)
    assert a.lost == [connection] and len(a.made) == 2
    assert len(b.lost) == 1 and len(b.made) == 2, "the accepted one that is silent is superseded"
    assert len(world.open) == 2
    world.pass_time(100)
    assert len(a.made) == 2


def test_an_accepted_connection_that_stays_silent_is_given_up_in_the_end(world: World) -> None:
    a, b = Member(world, "a", 1), Member(world, "b", 2)
    connection = world.run(a.connect("b", timeout_ms=1000))
    silence(connection, world, a.ipcp, True)
    a.ipcp.close()
    world.pass_time(3000)
    assert not b.lost
    world.pass_time(700)
    assert b.lost == b.made


# ---------------------------------------------------------------- descriptors, crowds, strangers


def test_packets_of_an_old_flow_do_not_reach_the_next_with_its_descriptor(world: World) -> None:
    a, b = Member(world, "a", 1), Member(world, "b", 2)
    connection = world.run(a.connect("b"))
    fd = b.made[0].lower.fd
    for i in range(5):
        a.ipcp.lowers.send(connection.lower, b"old %d" % i)
    b.ipcp.connections.drop(b.made[0])  # while they are on their way to Python
    assert (b.ipcp, fd) in world.open, "not given back before they have passed"
    world.pass_time(0.1)
    assert (b.ipcp, fd) not in world.open
    assert b.heard == [] and b.ipcp.lowers.counters.strays == 5


def test_a_crowd(world: World) -> None:
    """As many as can be answered; those who only come and say nothing do not keep others out for long."""
    b = Member(world, "b", 2)
    crowd = world.ipcp("crowd")

    async def come() -> None:
        flows = [crowd.lowers.allocate("b", raw(), timeout=1.0) for _ in range(MOST_RESPONDING + 10)]
        await asyncio.gather(*flows)

    world.run(come())
    assert b.ipcp.connections.counters.crowded == 10
    early = Member(world, "early", 3)
    world.run(early.connect("b"))  # before the crowd has been given up
    world.pass_time(1.1)
    a = Member(world, "a", 1)
    world.run(a.connect("b"))
    assert b.ipcp.connections.counters.silent == MOST_RESPONDING - 1
    assert len(world.open) == 4


def test_accepting_goes_on_after_a_failure(world: World) -> None:
    b = Member(world, "b", 2)
    (accept,) = world._accepts
    world._accepts.clear()
    accept.on_reply(Envelope(error=errno.EBADF, text="none left"), [])
    world.pass_time(1)
    a = Member(world, "a", 1)
    world.run(a.connect("b"))
    assert len(b.made) == 1


noise = st.one_of(
    st.binary(max_size=300),
    st.just(b"\n\x00" * 2000),
    st.tuples(
        st.sampled_from([wire.management(1), wire.data_transfer(7), wire.ENROLMENT, wire.UNKNOWN]),
        st.integers(0, 40),
        st.integers(0, 255),
    ).map(lambda t: bytes(c ^ t[2] if i == t[1] else c for i, c in enumerate(wire.encode(t[0])))),
    st.integers(0, 40).map(lambda n: wire.encode(wire.management(1))[:n]),
)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(packets=st.lists(noise, max_size=4))
@example(packets=[wire.encode(wire.management(0xFFFFFFFF)), b"x"])
@example(packets=[wire.encode(wire.management(1)), b"x"])
def test_any_octets_on_any_flow(packets: list[bytes]) -> None:
    """Counted and dropped; the connection of other members is not disturbed, even if a record claims their address, and nothing is
    leaked."""
    with make_world() as world:
        a, b = Member(world, "a", 1), Member(world, "b", 2)
        connection = world.run(a.connect("b"))
        stranger = world.ipcp("stranger")
        answers: list[bytes] = []

        def accepted(lower: Lower) -> None:
            stranger.lowers.listen(lower, answers.append)
            for packet in packets:
                stranger.lowers.send(lower, packet)

        async def both_ways() -> None:
            accepted(await stranger.lowers.allocate("b", raw(), timeout=1.0))
            stranger.lowers.accept(accepted)
            try:
                await a.connect("stranger")
            except Refusal:
                pass

        world.run(both_ways())
        world.pass_time(2)
        a.ipcp.lowers.send(connection.lower, b"still here")
        world.pass_time(0.1)
        assert b"still here" in b.heard
        for member in (a, b):
            assert member.ipcp.lowers.counters.failures == 0
            assert len(member.ipcp.relay.ends) == len(member.ipcp.connections.connections)
            assert len(member.made) == len(member.lost) + len(member.ipcp.connections.connections)


# ---------------------------------------------------------------- a neighbour that comes back


def lose_without_a_word(world: World, member: Member) -> None:
    """The flows of a member vanish under it: it is told, and the other side is not."""
    for connection in list(member.ipcp.connections.connections.values()):
        end = world.end(member.ipcp, connection.lower.fd)
        end.peer, other = None, end.peer
        assert other is not None
        other.peer = None
        member.ipcp.relay.raise_events(end.fd, FlowEvent.DOWN | FlowEvent.DEALLOC)


def test_a_neighbour_that_connects_anew_replaces_what_is_still_thought_of_it(world: World) -> None:
    """The IPCP below it was killed: it knows, and we would find out by its silence, two minutes later."""
    a, b = Member(world, "a", 1), Member(world, "b", 2)
    world.run(a.connect("b", timeout_ms=120_000))
    lose_without_a_word(world, a)
    world.pass_time(5)
    old, new = b.made
    assert b.lost == [old] and list(b.ipcp.connections.connections.values()) == [new]
    assert b.ipcp.connections.counters.superseded == 1
    a.ipcp.lowers.send(a.made[-1].lower, b"back again")
    world.pass_time(1)
    assert b.heard == [b"back again"]


def two_layers(world: World) -> None:
    """Member b has a name in each of two layers."""
    for name in ("b.eth", "b.udp"):
        world.names[name] = world.names["b"]
        world.layers[name] = name.partition(".")[2]


def test_links_to_one_neighbour_over_two_layers_coexist(world: World) -> None:
    a, b = Member(world, "a", 1), Member(world, "b", 2)
    two_layers(world)
    eth = world.run(a.connect("b.eth", timeout_ms=120_000))
    udp = world.run(a.connect("b.udp", timeout_ms=120_000))
    world.pass_time(1)
    assert not b.lost and len(b.ipcp.connections.connections) == 2
    # One that is made anew replaces itself, and not the other.
    end = world.end(a.ipcp, eth.lower.fd)
    end.peer, other = None, end.peer
    assert other is not None
    other.peer = None
    a.ipcp.relay.raise_events(end.fd, FlowEvent.DOWN | FlowEvent.DEALLOC)
    world.pass_time(5)
    assert b.lost == b.made[:1] and b.ipcp.connections.counters.superseded == 1
    assert list(b.ipcp.connections.connections.values()) == b.made[1:]
    assert not udp.lost and a.lost == [eth]
    assert not a.ipcp.connections.trying()


def test_links_to_two_names_of_one_neighbour_over_one_layer_coexist(world: World) -> None:
    """The neighbour could not know otherwise which of two that its user wants is made anew: each would replace the other."""
    a, b = Member(world, "a", 1), Member(world, "b", 2)
    world.names["b.other"] = world.names["b"]
    world.run(a.connect("b", timeout_ms=1000))
    world.run(a.connect("b.other", timeout_ms=1000))
    world.pass_time(100)
    assert not b.lost and len(b.ipcp.connections.connections) == 2
    lose_without_a_word(world, a)
    world.pass_time(5)
    assert b.lost == b.made[:2] and len(b.ipcp.connections.connections) == 2


def test_a_member_that_starts_again_replaces_its_link(world: World) -> None:
    a, b = Member(world, "a", 1), Member(world, "b", 2)
    world.run(a.connect("b", timeout_ms=120_000))
    for connection in a.made:
        end = world.end(a.ipcp, connection.lower.fd).peer
        assert end is not None
        end.peer = None  # the layer does not notify the other end
        world.end(a.ipcp, connection.lower.fd).peer = None
    world.dies(a.ipcp)
    again = Member(world, "a", 1)
    world.run(again.connect("b", timeout_ms=120_000))
    world.pass_time(1)
    assert b.lost == b.made[:1]


def test_without_certificates_no_stranger_displaces_a_neighbour(world: World) -> None:
    """It claims the address, and comes by another path."""
    a, b = Member(world, "a", 1), Member(world, "b", 2)
    mallory = Member(world, "m", 1)
    mine = world.run(a.connect("b", timeout_ms=120_000))
    world.run(mallory.connect("b", timeout_ms=120_000))
    world.pass_time(10)
    assert not b.lost
    a.ipcp.lowers.send(mine.lower, b"still here")
    world.pass_time(1)
    assert b.heard == [b"still here"]


def test_a_flow_without_a_path_replaces_nothing(world: World) -> None:
    a, b = Member(world, "a", 1), Member(world, "b", 2)
    world.run(a.connect("b", timeout_ms=120_000))
    b.made[0].lower.path = b""
    connection = replace(b.made[0], lower=replace(b.made[0].lower, fd=99))
    assert not is_same_link(connection, b.made[0])


def test_a_neighbour_cannot_choose_a_time_out_that_keeps_us_busy(world: World) -> None:
    a, b = Member(world, "a", 1), Member(world, "b", 2)
    world.run(a.connect("b", timeout_ms=1))
    before = world.end(b.ipcp, b.made[0].lower.fd).sent
    world.pass_time(1)
    assert world.end(b.ipcp, b.made[0].lower.fd).sent - before <= 4 * 1000 / LEAST_TIMEOUT_MS + 1


def test_the_new_connection_is_there_before_the_old_one_goes(world: World) -> None:
    """So that the link to the neighbour is never withdrawn."""
    a, b = Member(world, "a", 1), Member(world, "b", 2)
    world.run(a.connect("b", timeout_ms=120_000))
    count: list[int] = []
    b.ipcp.connections.on_lost = lambda _connection: count.append(len(b.made))
    lose_without_a_word(world, a)
    world.pass_time(5)
    assert count == [2]


@pytest.mark.parametrize("certificate", [None, "mallory"])
def test_no_member_displaces_another_by_claiming_its_address(world: World, certificate: str | None) -> None:
    a, b = Member(world, "a", 1), Member(world, "b", 2)
    mallory = Member(world, "m", 1)
    a.ipcp.certificate, mallory.ipcp.certificate = "alice", certificate
    world.run(a.connect("b"))
    refused = refusal(world, mallory.connect("b"))
    assert "belongs to" in str(refused)
    assert not b.lost and len(b.ipcp.connections.connections) == 1
    # Nor while its neighbour is away, nor when it is the one that is asked.
    a.ipcp.connections.disconnect("b", MANAGEMENT)
    world.pass_time(100)
    assert "belongs to" in str(refusal(world, mallory.connect("b")))
    assert "belongs to" in str(refusal(world, b.connect("m")))
    world.run(a.connect("b"))
    assert len(b.made) == 2


def test_an_address_is_free_when_its_neighbour_has_been_away_for_long(world: World) -> None:
    a, _ = Member(world, "a", 1), Member(world, "b", 2)
    heir = Member(world, "h", 1)
    a.ipcp.certificate, heir.ipcp.certificate = "alice", "heir"
    world.run(a.connect("b"))
    a.ipcp.connections.disconnect("b", MANAGEMENT)
    world.pass_time(KEPT + 1)
    world.run(heir.connect("b"))


def test_claims_are_bounded() -> None:
    claims = Claims()
    for address in range(1, MAX_CLAIMS + 10):
        claims.claimed(wire.management(address), PeerIdentity(certificate=True, name=f"n{address}"), 0.0)
    assert len(claims._claims) == MAX_CLAIMS
    assert not claims.objection(wire.management(1), PeerIdentity(), 1.0)
    assert claims.objection(wire.management(MAX_CLAIMS), PeerIdentity(), 1.0)


def test_a_member_id_is_claimed_as_an_address_is() -> None:
    """A broadcast member has an id and no address."""
    claims, alice = Claims(), PeerIdentity(certificate=True, name="alice")
    theirs = replace(wire.BROADCAST, member=7)
    claims.claimed(theirs, alice, 0.0)
    assert not claims.objection(theirs, alice, 1.0)
    assert "member id 0000000000000007 belongs to" in claims.objection(theirs, PeerIdentity(), 1.0)
    assert not claims.objection(replace(theirs, member=8), PeerIdentity(), 1.0)
    assert not claims.objection(wire.BROADCAST, PeerIdentity(), 1.0), "a prototype claims nothing"
