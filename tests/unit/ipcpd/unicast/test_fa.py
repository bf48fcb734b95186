"""The flow allocator's machine with a fake clock: flows to itself, congestion, random input, the messages of a prototype."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from ipcpd.unicast import fa as machine
from ipcpd.unicast.fa import FlowAllocator, Phase
from ipcpd.unicast.fa_events import (
    Announce,
    Congestion,
    Connected,
    Failed,
    Granted,
    Joined,
    Lost,
    Opened,
    Packet,
)
from ipcpd.wire import fa as wire
from ipcpd.wire.fa import FlowReply, FlowRequest, FlowUpdate
from ouroboros.errors import ENAME
from ouroboros.qos import QOS_RAW
from ouroboros.wire import MalformedPacket
from tests.unit.ipcpd.ends import end
from tests.unit.ipcpd.unicast.allocator import (
    ME,
    NAME,
    OTHER,
    PEER,
    PEER_EID,
    allocated,
    asked,
    at_rest,
    failure,
)

# ---------------------------------------------------------------- a flow to ourselves


def test_a_name_that_is_here_only_joins_two_ends_of_ours(fa: FlowAllocator) -> None:
    assert asked(fa, ME) is None
    (event,) = fa.take_events()
    assert isinstance(event, Announce) and event.data == b"oap"
    fa.announced(event.offer, end(80), 0.0)
    assert fa.respond(end(80), 0, b"answer", 0.0)
    assert fa.take_events() == [Joined(end(70), end(80)), Granted(end(70), b"answer")]
    assert not fa.take_packets()
    fa.deallocate(end(70), 1.0)
    assert fa.take_events() == [Lost(end(80))] and at_rest(fa)


def test_refused_by_ourselves(fa: FlowAllocator) -> None:
    asked(fa, ME)
    (event,) = fa.take_events()
    assert isinstance(event, Announce)
    fa.declined(event.offer, ENAME, 0.0)
    assert failure(fa.take_events()).errno == ENAME and at_rest(fa)


def test_nobody_else_can_ask_in_our_name(fa: FlowAllocator) -> None:
    fa.receive(FlowRequest(ME, PEER_EID, NAME), 0.0)
    assert fa.counters.malformed == 1 and at_rest(fa) and not fa.take_events()


def test_a_stranger_cannot_join_a_flow_to_ourselves(fa: FlowAllocator) -> None:
    asked(fa, ME)
    fa.take_events()
    (flow,) = fa
    fa.receive(FlowReply(flow.eid, PEER_EID), 0.0)
    assert fa.counters.unknown == 1 and flow.phase is Phase.REQUESTED


# ---------------------------------------------------------------- congestion


def test_updates_go_both_ways(fa: FlowAllocator) -> None:
    eid = allocated(fa)
    fa.congested(end(70), 11, 1.0)
    assert fa.take_packets() == [Packet(PEER, FlowUpdate(PEER_EID, 11))]
    fa.receive(FlowUpdate(eid, 35), 1.0)
    assert fa.take_events() == [Congestion(end(70), 35)]


def test_no_update_for_or_from_a_flow_that_is_not_there(fa: FlowAllocator) -> None:
    eid = allocated(fa)
    fa.deallocate(end(70), 1.0)
    fa.congested(end(70), 11, 1.0)
    fa.receive(FlowUpdate(eid, 35), 1.0)
    asked(fa, PEER, fd=71)
    fa.take_events()
    fa.congested(end(71), 11, 1.0)
    (flow,) = fa
    fa.receive(FlowUpdate(flow.eid, 35), 1.0)
    assert not fa.take_packets() and not fa.take_events() and fa.counters.unknown == 2


# ---------------------------------------------------------------- anything at all

eids = st.sampled_from([64, 70 | 5 << 32, 80 | 7 << 32, (1 << 64) - 2]) | st.integers(64, (1 << 64) - 2)
messages = st.one_of(
    st.builds(FlowRequest, st.sampled_from([ME, PEER, OTHER]), eids, st.just(NAME)),
    st.builds(FlowReply, eids, eids, st.integers(-(1 << 31), (1 << 31) - 1)),
    st.builds(FlowUpdate, eids, st.integers(0, 0xFFFF)),
)
steps = st.lists(
    st.one_of(
        messages,
        st.tuples(st.just("allocate"), st.integers(64, 68)),
        st.tuples(st.just("resolved"), st.lists(st.sampled_from([ME, PEER, OTHER]), unique=True)),
        st.tuples(st.just("announced"), st.integers(0, 6)),
        st.tuples(st.just("declined"), st.integers(0, 6)),
        st.tuples(st.just("respond"), st.integers(64, 90)),
        st.tuples(st.just("deallocate"), st.integers(64, 90)),
        st.tuples(st.just("answer"), st.sampled_from([0, -1007])),
        st.tuples(st.just("unsent"), st.just(0)),
        st.tuples(st.just("wait"), st.floats(0, 25)),
    ),
    max_size=40,
)


class Driver:
    """Does to the machine what a list says, and keeps account of what the IRMd was told."""

    def __init__(self) -> None:
        self.fa = FlowAllocator(address=ME, random=Random(2))
        self.now = 0.0
        self.fds = iter(range(80, 10_000))
        self.open: set[int] = set()  # descriptors that the IRMd holds for us
        self.asking: set[int] = set()
        self.offered: list[int] = []
        self.sent: list[Packet] = []

    def settle(self) -> None:
        for event in self.fa.take_events():
            if isinstance(event, Failed | Granted):
                assert event.end.fd in self.asking
                self.asking.remove(event.end.fd)
            if isinstance(event, Failed | Lost):
                self.open.remove(event.end.fd)
            if isinstance(event, Announce):
                self.offered.append(event.offer)
            if isinstance(event, Opened | Connected | Congestion):
                assert event.end.fd in self.open
        for packet in self.fa.take_packets():
            assert packet.address != ME
            wire.decode(wire.encode(packet.message), hash_length=32)  # never what may not be sent
            self.sent.append(packet)

    def do(self, step: object) -> None:
        if not isinstance(step, tuple):
            self.fa.receive(step, self.now)  # type: ignore[arg-type]
        else:
            getattr(self, step[0])(step[1])
        self.settle()
        assert {flow.end.fd for flow in self.fa} == self.open

    def allocate(self, fd: int) -> None:
        if fd not in self.open:
            self.open.add(fd)
            self.asking.add(fd)
            self.fa.allocate(end(fd), NAME, QOS_RAW, b"", self.now)

    def resolved(self, members: list[int]) -> None:
        self.fa.resolved(NAME, members, self.now)

    def announced(self, at: int) -> None:
        if at < len(self.offered):
            fd = next(self.fds)
            self.open.add(fd)
            self.fa.announced(self.offered.pop(at), end(fd), self.now)

    def declined(self, at: int) -> None:
        if at < len(self.offered):
            self.fa.declined(self.offered.pop(at), ENAME, self.now)

    def respond(self, fd: int) -> None:
        self.fa.respond(end(fd), 0, b"", self.now)

    def deallocate(self, fd: int) -> None:
        self.open.discard(fd)
        self.asking.discard(fd)
        self.fa.deallocate(end(fd), self.now)

    def answer(self, response: int) -> None:
        requests = [packet.message for packet in self.sent if isinstance(packet.message, FlowRequest)]
        if requests:
            eid = 0 if response else PEER_EID
            self.fa.receive(FlowReply(requests[-1].eid, eid, response), self.now)

    def unsent(self, _: int) -> None:
        if self.sent:
            self.fa.unsent(self.sent.pop(), self.now)

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.fa.timer(self.now)


@given(steps)
def test_in_whatever_order_things_happen_everybody_is_answered_once(todo: list[object]) -> None:
    driver = Driver()
    for step in todo:
        driver.do(step)
    for _ in range(200):  # time alone ends all that is not allocated
        if driver.fa.deadline is None:
            break
        driver.wait(driver.fa.deadline - driver.now)
        driver.settle()
    assert not driver.asking and not driver.fa.waiting and driver.fa.deadline is None
    assert all(flow.phase is Phase.ALLOCATED for flow in driver.fa)
    assert {flow.end.fd for flow in driver.fa} == driver.open
    for fd in list(driver.open):
        if fd in driver.open:
            driver.deallocate(fd)
            driver.settle()
    assert at_rest(driver.fa)


@given(st.binary(max_size=200))
def test_octets_of_strangers(payload: bytes) -> None:
    fa = FlowAllocator(address=ME, random=Random(3))
    try:
        message = wire.decode(payload, hash_length=32)
    except MalformedPacket:
        fa.malformed()
    else:
        fa.receive(message, 0.0)
    counters = fa.counters
    assert counters.malformed + counters.requests + counters.replies + counters.updates == 1


def test_all_times_fit_those_of_the_irmd() -> None:
    assert machine.LIMIT < 20 and machine.NEXT_MEMBER > 5 and machine.OFFER_LIMIT <= 20


# ---------------------------------------------------------------- what a prototype said


def captured(kind: type[wire.Message]) -> list[wire.Message]:
    from tests.unit.wire.captures import CAPTURES, dissected

    return [
        layer.value
        for name in CAPTURES
        for packet in dissected(name)
        for layer in packet.layers
        if isinstance(layer.value, kind)
    ]


def test_requests_of_a_prototype_are_taken(fa: FlowAllocator) -> None:
    requests = captured(FlowRequest)
    assert requests
    for request in requests:
        assert isinstance(request, FlowRequest)
        fa.receive(request, 0.0)
    announced = [event for event in fa.take_events() if isinstance(event, Announce)]
    assert len(announced) + fa.counters.duplicates == len(requests)  # each was captured on several links
    for event in announced:
        fa.declined(event.offer, ENAME, 0.0)
    assert {packet.address for packet in fa.take_packets()} == {request.source for request in requests}  # type: ignore[union-attr]


def test_replies_of_a_prototype_are_taken(fa: FlowAllocator) -> None:
    replies = captured(FlowReply)
    assert replies
    for reply in replies:
        assert isinstance(reply, FlowReply)
        request = asked(fa, PEER)
        assert request is not None
        fa.take_events()
        fa.receive(FlowReply(request.eid, reply.eid, reply.response, reply.data), 0.0)
        assert fa.take_events() == [Connected(end(70), reply.eid, PEER), Granted(end(70), reply.data)]
        fa.deallocate(end(70), 0.0)
