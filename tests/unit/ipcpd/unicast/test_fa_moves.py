"""The legal moves of a flow of a unicast layer, stated once more (docs/spec/fa.md, 2 and 3)."""

from __future__ import annotations

import errno

import pytest

from ipcpd.unicast.fa import MOVES, Event, FlowAllocator, Phase
from ipcpd.unicast.fa_events import Lost
from ipcpd.wire.fa import FlowReply, FlowRequest
from ouroboros.qos import QOS_RAW
from tests.unit.ipcpd.ends import end

LEGAL = """
    RESOLVING  RESOLVED     REQUESTED ENDED
    RESOLVING  EXPIRED      ENDED
    RESOLVING  DEALLOCATED  ENDED
    RESOLVING  ABANDONED    ENDED
    REQUESTED  NEXT_MEMBER  REQUESTED ENDED
    REQUESTED  OTHERS       REQUESTED ENDED
    REQUESTED  UNSENT       REQUESTED ENDED
    REQUESTED  REFUSED      REQUESTED ENDED
    REQUESTED  REPEAT       REQUESTED
    REQUESTED  GRANTED      ALLOCATED
    REQUESTED  EXPIRED      ENDED
    REQUESTED  DEALLOCATED  ENDED
    REQUESTED  ABANDONED    ENDED
    ANNOUNCED  ANNOUNCED    OFFERED
    ANNOUNCED  DECLINED     ENDED
    ANNOUNCED  REPLACED     ENDED
    ANNOUNCED  EXPIRED      ENDED
    ANNOUNCED  ABANDONED    ENDED
    OFFERED    ACCEPTED     ALLOCATED
    OFFERED    REJECTED     ENDED
    OFFERED    EXPIRED      ENDED
    OFFERED    DEALLOCATED  ENDED
    OFFERED    ABANDONED    ENDED
    ALLOCATED  DEALLOCATED  ENDED
    ALLOCATED  LEFT         ENDED
    ALLOCATED  UNREACHABLE  ENDED
    ALLOCATED  ABANDONED    ENDED
"""
"""The phases to which each event may lead, the preferred one first."""

ME, PEER, EID = 0xBF51DA27, 0x84C730CF, 0x8173F8EE00000042


def test_the_table_has_the_legal_moves() -> None:
    legal = {(phase, event): after for phase, event, *after in map(str.split, LEGAL.strip().splitlines())}
    moves = {
        (phase.name, event.name): [move.after.name for move in found]
        for (phase, event), found in MOVES.items()
    }
    assert moves == legal


@pytest.mark.parametrize("event", Event)
def test_nothing_happens_to_a_flow_that_has_ended(event: Event) -> None:
    assert (Phase.ENDED, event) not in MOVES


@pytest.mark.parametrize("number", [errno.EALREADY, errno.ECONNREFUSED])
def test_a_request_that_was_announced_cannot_be_declined(number: int) -> None:
    fa = FlowAllocator(address=ME)
    fa.receive(FlowRequest(PEER, EID, bytes(32), QOS_RAW, b""), 0.0)
    fa.announced(1, end(70), 0.1)
    fa.declined(1, number, 0.2)
    assert fa.waiting == 1 and fa.take_packets() == []
    assert fa.respond(end(70), 0, b"", 0.3)
    (packet,) = fa.take_packets()
    assert isinstance(packet.message, FlowReply) and packet.message.response == 0


def test_a_member_that_leaves_its_address_ends_every_flow_once() -> None:
    fa = FlowAllocator(address=ME)
    for number in range(3):
        fa.receive(FlowRequest(PEER, EID + number, bytes(32), QOS_RAW, b""), 0.0)
    fa.announced(1, end(70), 0.1)
    fa.announced(2, end(71), 0.1)
    assert fa.respond(end(71), 0, b"", 0.2)
    fa.take_events(), fa.take_packets()
    fa.abandon(0.3)
    assert fa.take_events() == [Lost(end(70)), Lost(end(71))] and fa.take_packets() == []
    assert (len(fa), fa.waiting) == (0, 0)
