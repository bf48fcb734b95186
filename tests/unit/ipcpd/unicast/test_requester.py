"""The flow allocator's machine with a fake clock, of the member that asks for a flow: answers, refusals, anycast."""

from __future__ import annotations

import errno

import pytest

from ipcpd.unicast.fa import LIMIT, NEXT_MEMBER, FlowAllocator, Phase
from ipcpd.unicast.fa_events import (
    Connected,
    Granted,
    Opened,
    Packet,
)
from ipcpd.wire.fa import FlowReply, FlowRequest
from ouroboros.errors import ENAME
from ouroboros.qos import QOS_RAW, QOS_VOICE
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

# ---------------------------------------------------------------- requester


def test_a_flow_is_asked_for_where_the_directory_says_the_name_is(fa: FlowAllocator) -> None:
    request = asked(fa, PEER)
    assert request is not None
    assert (request.source, request.name_hash, request.qos, request.data) == (ME, NAME, QOS_RAW, b"oap")
    assert request.eid & 0xFFFFFFFF == 70 and request.eid >> 32
    # It can receive before its peer has heard of it: data may overtake the reply.
    assert fa.take_events() == [Opened(end(70), request.eid, 0)]
    fa.receive(FlowReply(request.eid, PEER_EID, 0, b"answer"), 0.1)
    assert fa.take_events() == [Connected(end(70), PEER_EID, PEER), Granted(end(70), b"answer")]
    assert fa.deadline is None
    (flow,) = fa
    assert (flow.phase, flow.address, flow.peer_eid) == (Phase.ALLOCATED, PEER, PEER_EID)


def test_the_cube_follows_from_the_qos(fa: FlowAllocator) -> None:
    fa.allocate(end(70), NAME, QOS_VOICE, b"", 0.0)
    fa.resolved(NAME, [PEER], 0.0)
    assert [event.cube for event in fa.take_events() if isinstance(event, Opened)] == [2]


def test_endpoint_ids_are_fresh_for_each_flow(fa: FlowAllocator) -> None:
    seen = set()
    for _ in range(20):
        seen.add(allocated(fa))
        fa.deallocate(end(70), 1.0)
    assert len(seen) == 20 and at_rest(fa)


def test_an_unknown_name_fails_at_once(fa: FlowAllocator) -> None:
    assert asked(fa) is None
    failed = failure(fa.take_events())
    assert failed.errno == ENAME and 'layer "unicast"' in failed.text
    assert at_rest(fa)


def test_one_answer_of_the_directory_serves_all_who_wait_for_it(fa: FlowAllocator) -> None:
    fa.allocate(end(70), NAME, QOS_RAW, b"", 0.0)
    fa.allocate(end(71), NAME, QOS_RAW, b"", 0.0)
    fa.allocate(end(72), bytes(32), QOS_RAW, b"", 0.0)
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
    fa.allocate(end(70), NAME, QOS_RAW, b"", 0.0)
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
    fa.deallocate(end(70), 1.0)
    assert at_rest(fa)
    fa.receive(FlowReply(request.eid, PEER_EID), 2.0)
    assert not fa.take_events() and fa.counters.unknown == 1
    fa.deallocate(end(70), 3.0)  # once more does nothing


def test_given_up_while_the_directory_is_asked(fa: FlowAllocator) -> None:
    fa.allocate(end(70), NAME, QOS_RAW, b"", 0.0)
    fa.deallocate(end(70), 0.1)
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
    assert Connected(end(70), PEER_EID, OTHER) in fa.take_events()


def test_a_silent_member_is_left_behind_while_there_are_others(fa: FlowAllocator) -> None:
    asked(fa, PEER, OTHER, now=1.0)
    assert fa.deadline == 1.0 + NEXT_MEMBER
    fa.timer(1.0 + NEXT_MEMBER)
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
