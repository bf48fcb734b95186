"""The behaviour of the flow allocator for UDP that `tests/unit/ipcpd/eth/test_fa.py` does not cover; fake clock."""

from __future__ import annotations

import errno
from random import Random

import pytest

from ipcpd.link.endpoints import Endpoints
from ipcpd.link.fa import FlowAllocator
from ipcpd.link.fa_events import Allocated, Announce, Connect, Doubt, Open, Refused, Stale
from ipcpd.udp.address import Address
from ipcpd.udp.udp import EIDS
from ipcpd.wire.link import FlowReply, FlowRequest
from ouroboros.errors import EAUTH, EIPCP, ENAME, strerror
from ouroboros.qos import QOS_RAW
from tests.unit.ipcpd.ends import end

NAME, OTHER = b"n" * 16, b"o" * 16
A, B = Address.of("10.0.0.1", 3435).packed, Address.of("2001:db8::1", 3435).packed
NAT = Address.of("10.0.0.1", 40001).packed


def allocator() -> FlowAllocator:
    endpoints = Endpoints(EIDS, len(EIDS), lambda _: True, Random(1), rest=5.0)
    return FlowAllocator(endpoints, {NAME}, show=lambda peer: str(Address.unpack(peer)), alone=True)


def ask(it: FlowAllocator, fd: int, *peers: bytes, now: float = 0.0) -> int:
    it.request(end(fd), NAME, QOS_RAW, b"oap%d" % fd, peers or (A,), now)
    event = it.take_events()[-1]
    assert isinstance(event, Open)
    return event.endpoint


def accept(it: FlowAllocator, fd: int, peer: bytes, endpoint: int, now: float = 0.0) -> None:
    """Another machine asks, and our process accepts."""
    it.received(FlowRequest(endpoint, NAME, QOS_RAW, b"oap%d" % fd), peer, now)
    announce = it.take_events()[-1]
    assert isinstance(announce, Announce)
    it.announced(announce.ticket, end(fd), now)
    assert it.responded(end(fd), 0, b"yes", now)


def test_replies_come_from_the_socket_address_that_was_asked() -> None:
    it = allocator()
    endpoint = ask(it, 64)
    for stranger in (B, NAT):
        it.received(FlowReply(70, endpoint, 0, b"mine"), stranger, 0.1)
        it.received(FlowReply(70, endpoint, -ENAME), stranger, 0.1)
    assert it.take_events() == [] and it.counters.strange == 4
    it.received(FlowReply(70, endpoint, 0, b"yes"), A, 0.1)
    assert it.take_events() == [Connect(end(64), 70, A), Allocated(end(64), b"yes")]


def test_a_name_that_is_not_registered_is_refused_at_once() -> None:
    it = allocator()
    it.received(FlowRequest(70, OTHER, QOS_RAW, b"oap"), NAT, 0.0)
    assert it.take_events() == []
    assert it.take_messages() == [(NAT, FlowReply(0, 70, -ENAME))]
    it.received(FlowRequest(70, OTHER, QOS_RAW, b"oap"), NAT, 0.1)
    assert it.take_messages() == [], "the network made a second copy: one reply is enough"


def test_a_refusal_says_who_refused() -> None:
    it = allocator()
    it.received(FlowReply(0, ask(it, 64), -ENAME), A, 0.1)
    doubt, refused = it.take_events()
    assert doubt == Doubt(NAME, A)
    assert refused == Refused(end(64), ENAME, "refused by 10.0.0.1:3435")
    it.received(FlowReply(0, ask(it, 65), -EAUTH), A, 0.2)
    assert Refused(end(65), EAUTH, f"refused by 10.0.0.1:3435: {strerror(EAUTH)}") in it.take_events()


def test_the_next_host_is_asked_when_one_refuses_or_cannot_be_reached() -> None:
    it = allocator()
    endpoint = ask(it, 64, A, B, NAT)
    ((_, request),) = it.take_messages()
    assert isinstance(request, FlowRequest)
    it.unsent(request, B, errno.ENETUNREACH, "not the one that is asked", 0.0)
    assert it.take_messages() == []
    it.unsent(request, A, errno.ENETUNREACH, "no route", 0.0)
    assert [to for to, _ in it.take_messages()] == [B]
    assert it.take_events() == [Doubt(NAME, A), Open(end(64), endpoint, B)]
    it.received(FlowReply(0, endpoint, -EIPCP), B, 0.1)
    assert [to for to, _ in it.take_messages()] == [NAT]
    it.take_events()
    it.unsent(request, NAT, errno.ENETUNREACH, "no route", 0.2)
    assert it.take_events()[-1] == Refused(end(64), errno.ENETUNREACH, "no route")
    assert it.pending == 0


@pytest.mark.parametrize("accepted", [True, False])
def test_a_new_flow_at_the_endpoint_of_an_old_one_ends_the_old_one(accepted: bool) -> None:
    """Endpoints are used again at once by a prototype, and by one that was started again."""
    it = allocator()
    accept(it, 64, A, 70)
    accept(it, 65, A, 71)
    accept(it, 66, NAT, 70)
    it.take_events()
    if accepted:
        accept(it, 67, A, 70, now=1.0)
    else:
        it.received(FlowReply(70, ask(it, 67), 0, b"yes"), A, 1.0)
    events = it.take_events()
    assert [event for event in events if isinstance(event, Stale)] == [Stale(end(64))]
    assert Connect(end(67), 70, A) in events
    assert set(it.flows) == {end(65), end(66), end(67)} and it.counters.stale == 1
    it.deallocate(end(64), 2.0)  # the IRMd hears of it, and says so; it changes nothing
    it.deallocate(end(67), 2.0)
    assert set(it.flows) == {end(65), end(66)} and it.endpoints.used == 2
    accept(it, 68, A, 70, now=3.0)
    assert it.counters.stale == 1, "67 had ended in order"


def test_a_request_alone_ends_nothing() -> None:
    """Only a flow that was allocated does: whoever sends a request under another's address must not end its flows."""
    it = allocator()
    accept(it, 64, A, 70)
    it.received(FlowRequest(70, NAME, QOS_RAW, b"forged"), A, 1.0)
    announce = it.take_events()[-1]
    assert isinstance(announce, Announce)
    it.turned_down(announce.ticket, EIPCP, 1.0)
    it.received(FlowRequest(70, OTHER, QOS_RAW, b"forged"), A, 1.0)
    assert set(it.flows) == {end(64)} and it.counters.stale == 0


def test_endpoints_are_those_a_prototype_can_bear_and_rest() -> None:
    it = allocator()
    seen = {ask(it, fd) for fd in range(len(EIDS))}
    assert seen == set(EIDS) and max(seen) == 4095 and min(seen) == 64
    it.deallocate(end(7), 0.0)
    assert it.endpoints.take(4.9) is None
    # One that was asked for may still be answered: it rests longer than one of a flow.
    assert it.endpoints.take(29.9) is None and it.endpoints.take(30.0) is not None


def test_hundreds_at_once() -> None:
    """To two hosts; each reply is seen once, all flows come, and no host has more than a few to answer at a time."""
    it = allocator()
    for fd in range(600):
        it.request(end(fd), NAME, QOS_RAW, b"oap%d" % fd, (A if fd % 2 else B,), 0.0)
    answered, now = 0, 0.0
    while answered < 600:
        sent = it.take_messages()
        assert 0 < len(sent) <= 8
        for peer, message in sent:
            assert isinstance(message, FlowRequest)
            now += 0.001
            it.received(FlowReply(64 + answered, message.endpoint, 0, message.data), peer, now)
            answered += 1
    assert len(it.flows) == 600 and it.pending == 0
    assert len({event.end.fd for event in it.take_events() if isinstance(event, Allocated)}) == 600
