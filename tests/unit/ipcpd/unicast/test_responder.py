"""The flow allocator's machine with a fake clock, of the member that is asked for a flow."""

from __future__ import annotations

import errno

import pytest

from ipcpd.unicast.fa import (
    MAX_OFFERS,
    MAX_OFFERS_OF_NAME,
    MAX_OFFERS_OF_ONE,
    MAX_REPEATED,
    MAX_REPEATED_OF_ONE,
    OFFER_LIMIT,
    REPLY_TRIES,
    FlowAllocator,
)
from ipcpd.unicast.fa_events import (
    Announce,
    Connected,
    Lost,
    Opened,
    Packet,
)
from ipcpd.wire.fa import FlowReply, FlowRequest
from ouroboros.errors import ENAME
from ouroboros.qos import QOS_VOICE
from tests.unit.ipcpd.ends import end
from tests.unit.ipcpd.unicast.allocator import (
    NAME,
    PEER,
    PEER_EID,
    accepted,
    arrived,
    at_rest,
    reply_of,
)


def test_a_request_is_announced_and_answered(fa: FlowAllocator) -> None:
    event = arrived(fa)
    assert (event.key, event.qos, event.data) == (NAME, QOS_VOICE, b"oap")
    fa.announced(event.offer, end(80), 0.1)
    assert fa.respond(end(80), 0, b"answer", 0.2)
    reply = reply_of(fa)
    assert (reply.to, reply.response, reply.data) == (PEER_EID, 0, b"answer")
    assert reply.eid & 0xFFFFFFFF == 80 and reply.eid >> 32
    assert fa.take_events() == [Opened(end(80), reply.eid, 2), Connected(end(80), PEER_EID, PEER)]
    assert fa.deadline is None and not fa.waiting


@pytest.mark.parametrize("number", [ENAME, errno.ETIMEDOUT, errno.ECONNREFUSED])
def test_what_the_irmd_declines_is_refused(fa: FlowAllocator, number: int) -> None:
    fa.declined(arrived(fa).offer, number, 0.1)
    assert reply_of(fa) == FlowReply(PEER_EID, 0, -number)
    assert at_rest(fa)


def test_what_the_process_refuses_is_refused(fa: FlowAllocator) -> None:
    fa.announced(arrived(fa).offer, end(80), 0.1)
    assert fa.respond(end(80), errno.EACCES, b"", 0.2)
    assert reply_of(fa).response == -errno.EACCES
    assert at_rest(fa) and not fa.take_events()


def test_a_process_that_ends_before_it_answers_has_refused(fa: FlowAllocator) -> None:
    fa.announced(arrived(fa).offer, end(80), 0.1)
    fa.deallocate(end(80), 0.2)
    assert reply_of(fa).response == -errno.ECONNREFUSED
    assert at_rest(fa)
    assert not fa.respond(end(80), 0, b"", 0.3)


def test_a_response_without_a_request_is_not_taken(fa: FlowAllocator) -> None:
    assert not fa.respond(end(80), 0, b"", 0.0)
    accepted(fa)
    assert not fa.respond(end(80), 0, b"", 0.0)


@pytest.mark.parametrize("with_end", [False, True])
def test_a_request_that_the_irmd_leaves_open_is_refused_in_the_end(fa: FlowAllocator, with_end: bool) -> None:
    event = arrived(fa)
    if with_end:
        fa.announced(event.offer, end(80), 1.0)
    assert fa.deadline == OFFER_LIMIT
    fa.timer(OFFER_LIMIT)
    assert reply_of(fa).response == -errno.ETIMEDOUT
    assert fa.take_events() == ([Lost(end(80))] if with_end else [])
    assert at_rest(fa)
    fa.declined(event.offer, ENAME, 21.0)
    assert not fa.take_packets()
    fa.announced(event.offer, end(81), 21.0)
    assert fa.take_events() == [Lost(end(81))]  # the IRMd has to take that back


def test_a_request_that_comes_twice_is_answered_once(fa: FlowAllocator) -> None:
    event = arrived(fa)
    fa.receive(FlowRequest(PEER, PEER_EID, NAME), 0.0)
    fa.announced(event.offer, end(80), 0.1)
    fa.receive(FlowRequest(PEER, PEER_EID, NAME), 0.1)
    fa.respond(end(80), 0, b"", 0.2)
    fa.take_events()
    fa.receive(FlowRequest(PEER, PEER_EID, NAME), 0.3)
    assert not fa.take_events() and len(fa.take_packets()) == 1
    assert fa.counters.duplicates == 3
    fa.deallocate(end(80), 0.4)
    assert isinstance(arrived(fa, now=0.5), Announce)  # the descriptor of the peer may serve again


def test_too_many_requests_are_refused_not_dropped(fa: FlowAllocator) -> None:
    for number in range(MAX_OFFERS):
        fa.receive(FlowRequest(PEER + number % 3, PEER_EID + (number << 32), NAME + bytes([number % 3])), 0.0)
    assert len(fa.take_events()) == MAX_OFFERS
    fa.receive(FlowRequest(PEER, PEER_EID - (1 << 32), NAME), 0.0)
    assert reply_of(fa).response == -errno.EAGAIN
    fa.timer(OFFER_LIMIT)
    assert len(fa.take_packets()) == MAX_OFFERS and at_rest(fa)


def test_one_member_leaves_room_for_the_others(fa: FlowAllocator) -> None:
    for number in range(MAX_OFFERS):
        fa.receive(FlowRequest(PEER, PEER_EID + (number << 32), NAME + bytes([number % 3])), 0.0)
    offers = [event.offer for event in fa.take_events() if isinstance(event, Announce)]
    assert len(offers) == MAX_OFFERS_OF_ONE
    assert len(fa.take_packets()) == MAX_OFFERS - MAX_OFFERS_OF_ONE == fa.counters.refused
    fa.receive(FlowRequest(PEER + 1, PEER_EID, NAME), 0.0)
    assert len(fa.take_events()) == 1
    fa.declined(offers[0], ENAME, 0.0)
    fa.receive(FlowRequest(PEER, PEER_EID - (1 << 32), NAME), 0.0)
    assert len(fa.take_events()) == 1
    fa.timer(OFFER_LIMIT)
    fa.take_packets()
    assert at_rest(fa) and not fa._offering


def test_one_name_leaves_room_for_the_others(fa: FlowAllocator) -> None:
    for number in range(MAX_OFFERS):
        fa.receive(FlowRequest(PEER + number % 3, PEER_EID + (number << 32), NAME), 0.0)
    offers = [event.offer for event in fa.take_events() if isinstance(event, Announce)]
    assert len(offers) == MAX_OFFERS_OF_NAME
    assert {packet.message.response for packet in fa.take_packets()} == {-errno.EAGAIN}  # type: ignore[union-attr]
    fa.receive(FlowRequest(PEER, PEER_EID - (1 << 32), NAME[::-1]), 0.0)
    assert len(fa.take_events()) == 1
    fa.declined(offers[0], ENAME, 0.0)
    fa.receive(FlowRequest(PEER, PEER_EID - (2 << 32), NAME), 0.0)
    assert len(fa.take_events()) == 1
    fa.timer(OFFER_LIMIT)
    fa.take_packets()
    assert at_rest(fa) and not fa._wanted


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
    assert fa.take_events() == [Lost(end(80))] and at_rest(fa)


def test_a_reply_is_not_sent_again_for_a_flow_that_has_gone(fa: FlowAllocator) -> None:
    reply = accepted(fa)
    fa.unsent(Packet(PEER, reply), 1.0)
    fa.deallocate(end(80), 1.0)
    fa.timer(2.0)
    assert not fa.take_packets() and at_rest(fa)


def test_requests_without_a_way_back_take_bounded_memory(fa: FlowAllocator) -> None:
    """Refusals that cannot be sent are given up; an answer to a flow that was accepted is sent again."""
    for number in range(MAX_OFFERS + 3 * MAX_REPEATED):
        fa.receive(FlowRequest(1000 + number, number, NAME + bytes([number % 3]), QOS_VOICE, b""), 0)
        for packet in fa.take_packets():
            fa.unsent(packet, 0)
    assert len(fa._timers) <= MAX_OFFERS + MAX_REPEATED
    assert fa.counters.given_up == 2 * MAX_REPEATED
    offer = next(event for event in fa.take_events() if isinstance(event, Announce)).offer
    fa.announced(offer, end(80), 0)
    assert fa.respond(end(80), 0, b"", 0)
    (reply,) = fa.take_packets()
    fa.unsent(reply, 0)
    now = 0.0
    for _ in range(REPLY_TRIES):
        now += 30
        fa.timer(now)
        for packet in fa.take_packets():
            fa.unsent(packet, now)
    assert not fa._repeated


def test_replies_to_one_member_leave_room_for_those_to_others(fa: FlowAllocator) -> None:
    def refuse(source: int, number: int) -> None:
        fa.receive(FlowRequest(source, number, NAME + bytes([number % 3]), QOS_VOICE, b""), 0)
        for event in fa.take_events():
            if isinstance(event, Announce):
                fa.declined(event.offer, ENAME, 0)
        for packet in fa.take_packets():
            fa.unsent(packet, 0)

    for number in range(MAX_REPEATED_OF_ONE + 3):
        refuse(PEER, number)
    assert fa.counters.given_up == 3
    refuse(PEER + 1, 0)
    assert fa.counters.given_up == 3
    fa.timer(60.0)
    assert len(fa.take_packets()) == MAX_REPEATED_OF_ONE + 1 and not fa._repeated
