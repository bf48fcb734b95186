"""The flow allocator's machine with a fake clock: every way into a flow and out of it."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipcpd.unicast import fa as machine
from ipcpd.unicast.fa import LIMIT, MAX_OFFERS, OFFER_LIMIT, PATIENCE, REPLY_TRIES, FlowAllocator, Phase
from ipcpd.unicast.fa_events import (
    Announce,
    Congestion,
    Connected,
    Event,
    Failed,
    Granted,
    Joined,
    Lost,
    Opened,
    Packet,
    Resolve,
)
from ipcpd.unicast.wire import fa as wire
from ipcpd.unicast.wire.fa import FlowReply, FlowRequest, FlowUpdate
from ouroboros.errors import ENAME
from ouroboros.qos import QOS_RAW, QOS_VOICE
from ouroboros.wire import MalformedPacket

ME, PEER, OTHER = 0xBF51DA27, 0x84C730CF, 0x84442466
NAME = bytes(range(32))
PEER_EID = 0x8173F8EE00000042


@pytest.fixture
def fa() -> FlowAllocator:
    return FlowAllocator(address=ME, layer="unicast", random=Random(1))


def asked(fa: FlowAllocator, *members: int, fd: int = 70, now: float = 0.0) -> FlowRequest | None:
    """The IRMd asks for a flow to a name that these members hold; the request that was sent."""
    fa.allocate(fd, NAME, QOS_RAW, b"oap", now)
    assert fa.take_events() == [Resolve(NAME)]
    fa.resolved(NAME, members, now)
    packets = fa.take_packets()
    if not packets:
        return None
    (packet,) = packets
    assert isinstance(packet.message, FlowRequest) and packet.address == members[0]
    return packet.message


def allocated(fa: FlowAllocator, *, fd: int = 70, eid: int = PEER_EID) -> int:
    """A flow that we asked for; our endpoint id."""
    request = asked(fa, PEER, fd=fd)
    assert request is not None
    fa.receive(FlowReply(request.eid, eid), 0.1)
    fa.take_events()
    return request.eid


def arrived(fa: FlowAllocator, *, eid: int = PEER_EID, now: float = 0.0) -> Announce:
    """A request of a peer."""
    fa.receive(FlowRequest(PEER, eid, NAME, QOS_VOICE, b"oap"), now)
    (event,) = fa.take_events()
    assert isinstance(event, Announce)
    return event


def accepted(fa: FlowAllocator, *, fd: int = 80, eid: int = PEER_EID) -> FlowReply:
    fa.announced(arrived(fa, eid=eid).offer, fd, 0.0)
    assert fa.respond(fd, 0, b"answer", 0.0)
    fa.take_events()
    return reply_of(fa)


def reply_of(fa: FlowAllocator) -> FlowReply:
    (packet,) = fa.take_packets()
    assert isinstance(packet.message, FlowReply) and packet.address == PEER
    return packet.message


def failure(events: Sequence[Event]) -> Failed:
    (event,) = events
    assert isinstance(event, Failed)
    return event


def at_rest(fa: FlowAllocator) -> bool:
    """Nothing is kept of any flow, and no timer runs."""
    return not len(fa) and not fa.waiting and not fa._by_eid and not fa._arrived and fa.deadline is None


# ---------------------------------------------------------------- requester


def test_a_flow_is_asked_for_where_the_directory_says_the_name_is(fa: FlowAllocator) -> None:
    request = asked(fa, PEER)
    assert request is not None
    assert (request.source, request.name_hash, request.qos, request.data) == (ME, NAME, QOS_RAW, b"oap")
    assert request.eid & 0xFFFFFFFF == 70 and request.eid >> 32
    # It can receive before its peer has heard of it: data may overtake the reply.
    assert fa.take_events() == [Opened(70, request.eid, 0)]
    fa.receive(FlowReply(request.eid, PEER_EID, 0, b"answer"), 0.1)
    assert fa.take_events() == [Connected(70, PEER_EID, PEER), Granted(70, b"answer")]
    assert fa.deadline is None
    (flow,) = fa
    assert (flow.phase, flow.address, flow.peer_eid) == (Phase.ALLOCATED, PEER, PEER_EID)


def test_the_cube_follows_from_the_qos(fa: FlowAllocator) -> None:
    fa.allocate(70, NAME, QOS_VOICE, b"", 0.0)
    fa.resolved(NAME, [PEER], 0.0)
    assert [event.cube for event in fa.take_events() if isinstance(event, Opened)] == [2]


def test_endpoint_ids_are_fresh_for_each_flow(fa: FlowAllocator) -> None:
    seen = set()
    for _ in range(20):
        seen.add(allocated(fa))
        fa.deallocate(70, 1.0)
    assert len(seen) == 20 and at_rest(fa)


def test_an_unknown_name_fails_at_once(fa: FlowAllocator) -> None:
    assert asked(fa) is None
    failed = failure(fa.take_events())
    assert failed.errno == ENAME and 'layer "unicast"' in failed.text
    assert at_rest(fa)


def test_one_answer_of_the_directory_serves_all_who_wait_for_it(fa: FlowAllocator) -> None:
    fa.allocate(70, NAME, QOS_RAW, b"", 0.0)
    fa.allocate(71, NAME, QOS_RAW, b"", 0.0)
    fa.allocate(72, bytes(32), QOS_RAW, b"", 0.0)
    fa.resolved(NAME, [PEER], 0.0)
    assert [packet.address for packet in fa.take_packets()] == [PEER, PEER]
    assert [flow.phase for flow in fa] == [Phase.REQUESTED, Phase.REQUESTED, Phase.RESOLVING]


def test_a_refusal_is_told_with_its_reason(fa: FlowAllocator) -> None:
    request = asked(fa, PEER)
    fa.take_events()
    assert request is not None
    fa.receive(FlowReply(request.eid, 0, -ENAME), 0.1)
    failed = failure(fa.take_events())
    assert failed.errno == ENAME and "cf.30.c7.84" in failed.text
    assert at_rest(fa) and fa.counters.refused == 1


@pytest.mark.parametrize(
    ("response", "number"), [(-1009, 1009), (-111, 111), (80, 80), (-5000, 111), (-(1 << 31), 111)]
)
def test_whatever_is_not_0_is_a_refusal(fa: FlowAllocator, response: int, number: int) -> None:
    request = asked(fa, PEER)
    fa.take_events()
    assert request is not None
    fa.receive(FlowReply(request.eid, 0, response), 0.1)
    assert failure(fa.take_events()).errno == number


def test_without_an_answer_it_fails_before_the_irmd_gives_up(fa: FlowAllocator) -> None:
    asked(fa, PEER)
    fa.take_events()
    assert fa.deadline == LIMIT < 20
    fa.timer(LIMIT)
    failed = failure(fa.take_events())
    assert failed.errno == errno.ETIMEDOUT and "cf.30.c7.84" in failed.text
    assert at_rest(fa) and fa.counters.timeouts == 1


def test_a_directory_that_does_not_answer_ends_it_too(fa: FlowAllocator) -> None:
    fa.allocate(70, NAME, QOS_RAW, b"", 0.0)
    fa.take_events()
    fa.timer(LIMIT)
    assert failure(fa.take_events()).errno == errno.ETIMEDOUT
    fa.resolved(NAME, [PEER], LIMIT + 1)  # late
    assert not fa.take_packets() and at_rest(fa)


def test_no_way_to_the_member_fails_at_once(fa: FlowAllocator) -> None:
    request = asked(fa, PEER)
    fa.take_events()
    assert request is not None
    fa.unsent(Packet(PEER, request), 0.0)
    assert failure(fa.take_events()).errno == errno.EHOSTUNREACH
    assert at_rest(fa) and fa.counters.unsent == 1


def test_given_up_by_the_irmd_nothing_is_left(fa: FlowAllocator) -> None:
    request = asked(fa, PEER)
    fa.take_events()
    assert request is not None
    fa.deallocate(70, 1.0)
    assert at_rest(fa)
    fa.receive(FlowReply(request.eid, PEER_EID), 2.0)
    assert not fa.take_events() and fa.counters.unknown == 1
    fa.deallocate(70, 3.0)  # once more does nothing


def test_given_up_while_the_directory_is_asked(fa: FlowAllocator) -> None:
    fa.allocate(70, NAME, QOS_RAW, b"", 0.0)
    fa.deallocate(70, 0.1)
    fa.take_events()
    fa.resolved(NAME, [PEER], 0.2)
    assert not fa.take_packets() and at_rest(fa)


def test_a_second_reply_changes_nothing(fa: FlowAllocator) -> None:
    eid = allocated(fa)
    for reply in (FlowReply(eid, PEER_EID + (1 << 32)), FlowReply(eid, 0, -1)):
        fa.receive(reply, 1.0)
    assert not fa.take_events() and fa.counters.late == 2
    (flow,) = fa
    assert (flow.phase, flow.peer_eid) == (Phase.ALLOCATED, PEER_EID)


# ---------------------------------------------------------------- anycast


def test_after_a_refusal_the_next_member_is_asked(fa: FlowAllocator) -> None:
    first = asked(fa, PEER, OTHER)
    assert first is not None
    fa.receive(FlowReply(first.eid, 0, -ENAME), 0.1)
    (packet,) = fa.take_packets()
    assert packet.address == OTHER and isinstance(packet.message, FlowRequest)
    assert (
        packet.message.eid != first.eid
    )  # or a late reply of the first could be taken for that of the second
    fa.take_events()
    fa.receive(FlowReply(first.eid, PEER_EID), 0.2)
    assert fa.counters.unknown == 1 and not fa.take_events()
    fa.receive(FlowReply(packet.message.eid, PEER_EID), 0.3)
    assert Connected(70, PEER_EID, OTHER) in fa.take_events()


def test_a_silent_member_is_left_behind_while_there_are_others(fa: FlowAllocator) -> None:
    asked(fa, PEER, OTHER, now=1.0)
    assert fa.deadline == 1.0 + PATIENCE
    fa.timer(1.0 + PATIENCE)
    assert [packet.address for packet in fa.take_packets()] == [OTHER]
    assert fa.deadline == 1.0 + LIMIT  # the last one gets all the time that is left
    fa.take_events()
    fa.timer(1.0 + LIMIT)
    assert failure(fa.take_events()).errno == errno.ETIMEDOUT
    assert at_rest(fa)


def test_a_member_without_a_way_is_passed_over(fa: FlowAllocator) -> None:
    first = asked(fa, PEER, OTHER)
    assert first is not None
    fa.unsent(Packet(PEER, first), 0.0)
    assert [packet.address for packet in fa.take_packets()] == [OTHER]


def test_the_last_refusal_is_the_one_that_is_told(fa: FlowAllocator) -> None:
    first = asked(fa, PEER, OTHER)
    assert first is not None
    fa.receive(FlowReply(first.eid, 0, -errno.ETIMEDOUT), 0.1)
    (packet,) = fa.take_packets()
    assert isinstance(packet.message, FlowRequest)
    fa.take_events()
    fa.receive(FlowReply(packet.message.eid, 0, -ENAME), 0.2)
    assert failure(fa.take_events()).errno == ENAME


# ---------------------------------------------------------------- responder


def test_a_request_is_announced_and_answered(fa: FlowAllocator) -> None:
    event = arrived(fa)
    assert (event.key, event.qos, event.data) == (NAME, QOS_VOICE, b"oap")
    fa.announced(event.offer, 80, 0.1)
    assert fa.respond(80, 0, b"answer", 0.2)
    reply = reply_of(fa)
    assert (reply.to, reply.response, reply.data) == (PEER_EID, 0, b"answer")
    assert reply.eid & 0xFFFFFFFF == 80 and reply.eid >> 32
    assert fa.take_events() == [Opened(80, reply.eid, 2), Connected(80, PEER_EID, PEER)]
    assert fa.deadline is None and not fa.waiting


@pytest.mark.parametrize("number", [ENAME, errno.ETIMEDOUT, errno.ECONNREFUSED])
def test_what_the_irmd_declines_is_refused(fa: FlowAllocator, number: int) -> None:
    fa.declined(arrived(fa).offer, number, 0.1)
    assert reply_of(fa) == FlowReply(PEER_EID, 0, -number)
    assert at_rest(fa)


def test_what_the_process_refuses_is_refused(fa: FlowAllocator) -> None:
    fa.announced(arrived(fa).offer, 80, 0.1)
    assert fa.respond(80, errno.EACCES, b"", 0.2)
    assert reply_of(fa).response == -errno.EACCES
    assert at_rest(fa) and not fa.take_events()


def test_a_process_that_ends_before_it_answers_has_refused(fa: FlowAllocator) -> None:
    fa.announced(arrived(fa).offer, 80, 0.1)
    fa.deallocate(80, 0.2)
    assert reply_of(fa).response == -errno.ECONNREFUSED
    assert at_rest(fa)
    assert not fa.respond(80, 0, b"", 0.3)


def test_a_response_without_a_request_is_not_taken(fa: FlowAllocator) -> None:
    assert not fa.respond(80, 0, b"", 0.0)
    accepted(fa)
    assert not fa.respond(80, 0, b"", 0.0)


@pytest.mark.parametrize("with_end", [False, True])
def test_a_request_that_the_irmd_leaves_open_is_refused_in_the_end(fa: FlowAllocator, with_end: bool) -> None:
    event = arrived(fa)
    if with_end:
        fa.announced(event.offer, 80, 1.0)
    assert fa.deadline == OFFER_LIMIT
    fa.timer(OFFER_LIMIT)
    assert reply_of(fa).response == -errno.ETIMEDOUT
    assert fa.take_events() == ([Lost(80)] if with_end else [])
    assert at_rest(fa)
    fa.declined(event.offer, ENAME, 21.0)
    assert not fa.take_packets()
    fa.announced(event.offer, 81, 21.0)
    assert fa.take_events() == [Lost(81)]  # the IRMd has to take that back


def test_a_request_that_comes_twice_is_answered_once(fa: FlowAllocator) -> None:
    event = arrived(fa)
    fa.receive(FlowRequest(PEER, PEER_EID, NAME), 0.0)
    fa.announced(event.offer, 80, 0.1)
    fa.receive(FlowRequest(PEER, PEER_EID, NAME), 0.1)
    fa.respond(80, 0, b"", 0.2)
    fa.take_events()
    fa.receive(FlowRequest(PEER, PEER_EID, NAME), 0.3)
    assert not fa.take_events() and len(fa.take_packets()) == 1
    assert fa.counters.duplicates == 3
    fa.deallocate(80, 0.4)
    assert isinstance(arrived(fa, now=0.5), Announce)  # the descriptor of the peer may serve again


def test_too_many_requests_are_refused_not_dropped(fa: FlowAllocator) -> None:
    for number in range(MAX_OFFERS):
        fa.receive(FlowRequest(PEER, PEER_EID + (number << 32), NAME), 0.0)
    assert len(fa.take_events()) == MAX_OFFERS
    fa.receive(FlowRequest(PEER, PEER_EID - (1 << 32), NAME), 0.0)
    assert reply_of(fa).response == -errno.EAGAIN
    fa.timer(OFFER_LIMIT)
    assert len(fa.take_packets()) == MAX_OFFERS and at_rest(fa)


def test_a_reply_without_a_way_is_sent_again(fa: FlowAllocator) -> None:
    fa.declined(arrived(fa).offer, ENAME, 0.0)
    (packet,) = fa.take_packets()
    now = 0.0
    for attempt in range(REPLY_TRIES - 1):
        fa.unsent(packet, now)
        assert fa.deadline is not None and fa.deadline > now
        now = fa.deadline
        fa.timer(now)
        (packet,) = fa.take_packets()
        assert packet.tries == attempt + 2
    fa.unsent(packet, now)
    fa.timer(now + 60)
    assert not fa.take_packets() and at_rest(fa)


def test_a_flow_whose_requester_never_hears_of_it_is_given_up(fa: FlowAllocator) -> None:
    reply = accepted(fa)
    fa.unsent(Packet(PEER, reply, REPLY_TRIES), 1.0)
    fa.timer(60.0)
    assert fa.take_events() == [Lost(80)] and at_rest(fa)


def test_a_reply_is_not_sent_again_for_a_flow_that_has_gone(fa: FlowAllocator) -> None:
    reply = accepted(fa)
    fa.unsent(Packet(PEER, reply), 1.0)
    fa.deallocate(80, 1.0)
    fa.timer(2.0)
    assert not fa.take_packets() and at_rest(fa)


# ---------------------------------------------------------------- a flow to ourselves


def test_a_name_that_is_here_only_joins_two_ends_of_ours(fa: FlowAllocator) -> None:
    assert asked(fa, ME) is None
    (event,) = fa.take_events()
    assert isinstance(event, Announce) and event.data == b"oap"
    fa.announced(event.offer, 80, 0.0)
    assert fa.respond(80, 0, b"answer", 0.0)
    assert fa.take_events() == [Joined(70, 80), Granted(70, b"answer")]
    assert not fa.take_packets()
    fa.deallocate(70, 1.0)
    assert fa.take_events() == [Lost(80)] and at_rest(fa)


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
    fa.congested(70, 11, 1.0)
    assert fa.take_packets() == [Packet(PEER, FlowUpdate(PEER_EID, 11))]
    fa.receive(FlowUpdate(eid, 35), 1.0)
    assert fa.take_events() == [Congestion(70, 35)]


def test_no_update_for_or_from_a_flow_that_is_not_there(fa: FlowAllocator) -> None:
    eid = allocated(fa)
    fa.deallocate(70, 1.0)
    fa.congested(70, 11, 1.0)
    fa.receive(FlowUpdate(eid, 35), 1.0)
    asked(fa, PEER, fd=71)
    fa.take_events()
    fa.congested(71, 11, 1.0)
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
                assert event.fd in self.asking
                self.asking.remove(event.fd)
            if isinstance(event, Failed | Lost):
                self.open.remove(event.fd)
            if isinstance(event, Announce):
                self.offered.append(event.offer)
            if isinstance(event, Opened | Connected | Congestion):
                assert event.fd in self.open
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
        assert {flow.fd for flow in self.fa} == self.open

    def allocate(self, fd: int) -> None:
        if fd not in self.open:
            self.open.add(fd)
            self.asking.add(fd)
            self.fa.allocate(fd, NAME, QOS_RAW, b"", self.now)

    def resolved(self, members: list[int]) -> None:
        self.fa.resolved(NAME, members, self.now)

    def announced(self, at: int) -> None:
        if at < len(self.offered):
            fd = next(self.fds)
            self.open.add(fd)
            self.fa.announced(self.offered.pop(at), fd, self.now)

    def declined(self, at: int) -> None:
        if at < len(self.offered):
            self.fa.declined(self.offered.pop(at), ENAME, self.now)

    def respond(self, fd: int) -> None:
        self.fa.respond(fd, 0, b"", self.now)

    def deallocate(self, fd: int) -> None:
        self.open.discard(fd)
        self.asking.discard(fd)
        self.fa.deallocate(fd, self.now)

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
    assert {flow.fd for flow in driver.fa} == driver.open
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
    assert machine.LIMIT < 20 and machine.PATIENCE > 5 and machine.OFFER_LIMIT <= 20


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
        assert fa.take_events() == [Connected(70, reply.eid, PEER), Granted(70, reply.data)]
        fa.deallocate(70, 0.0)
