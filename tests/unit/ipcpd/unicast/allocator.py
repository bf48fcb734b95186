"""Common helpers for tests of the flow allocator's machine."""

from __future__ import annotations

from collections.abc import Sequence

from ipcpd.unicast.fa import FlowAllocator
from ipcpd.unicast.fa_events import (
    Announce,
    Failed,
    Output,
    Resolve,
)
from ipcpd.wire.fa import FlowReply, FlowRequest
from ouroboros.qos import QOS_RAW, QOS_VOICE
from tests.unit.ipcpd.ends import end

ME, PEER, OTHER = 0xBF51DA27, 0x84C730CF, 0x84442466
NAME = bytes(range(32))
PEER_EID = 0x8173F8EE00000042


def asked(fa: FlowAllocator, *members: int, fd: int = 70, now: float = 0.0) -> FlowRequest | None:
    """The IRMd asks for a flow to a name that these members hold; the request that was sent."""
    fa.allocate(end(fd), NAME, QOS_RAW, b"oap", now)
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
    fa.announced(arrived(fa, eid=eid).offer, end(fd), 0.0)
    assert fa.respond(end(fd), 0, b"answer", 0.0)
    fa.take_events()
    return reply_of(fa)


def reply_of(fa: FlowAllocator) -> FlowReply:
    (packet,) = fa.take_packets()
    assert isinstance(packet.message, FlowReply) and packet.address == PEER
    return packet.message


def failure(events: Sequence[Output]) -> Failed:
    (event,) = events
    assert isinstance(event, Failed)
    return event


def at_rest(fa: FlowAllocator) -> bool:
    """Nothing is kept of any flow, and no timer runs."""
    return not len(fa) and not fa.waiting and not fa._by_eid and not fa._arrived and fa.deadline is None
