"""The flow allocator of the ethernet IPCPs, with a fake clock: every order of events, and packets that must not be sent to a prototype."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import asdict
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipcpd.eth.framing import DixFraming, Framing, LlcFraming
from ipcpd.link import fa
from ipcpd.link.endpoints import Endpoints
from ipcpd.link.fa import (
    FALLBACK,
    LATE,
    MOST,
    QUERY_AGAIN,
    REFUSAL_HELD,
    REPLAY,
    SILENCE,
    WINDOW,
    FlowAllocator,
    NoEndpoint,
)
from ipcpd.link.fa_events import Allocated, Announce, Ask, Close, Connect, Doubt, Open, Refused
from ipcpd.wire.eth import Message
from ipcpd.wire.link import FlowReply, FlowRequest
from ouroboros.errors import ENAME
from ouroboros.qos import QOS_RAW, QOS_VOICE
from tests.unit.ipcpd.ends import end

NAME = b"n" * 32
A, B = b"\2\0\0\0\0\1", b"\2\0\0\0\0\2"
DIX, LLC = DixFraming(0xA000), LlcFraming()


def allocator(framing: Framing = DIX, seed: int = 1) -> FlowAllocator:
    endpoints = Endpoints(framing.endpoints, framing.block, lambda _: True, Random(seed))
    return FlowAllocator(endpoints, {NAME}, answered_at=lambda name, peer: HEARD.get(peer, float("-inf")))


HEARD: dict[bytes, float] = {}
"""When machines said that they have the name."""


@pytest.fixture(autouse=True)
def nothing_was_heard() -> Iterator[None]:
    yield
    HEARD.clear()


def ask(it: FlowAllocator, fd: int = 64, *holders: bytes, now: float = 0.0) -> int:
    """Our process asks for a flow; its endpoint."""
    it.request(end(fd), NAME, QOS_VOICE, b"oap", holders or (A,), now)
    event = it.take_events()[-1]
    assert isinstance(event, Open) and event.end.fd == fd
    return event.endpoint


def arrive(it: FlowAllocator, endpoint: int = 70, data: bytes = b"oap", now: float = 0.0) -> int:
    """Another machine asks for a flow; the ticket."""
    it.received(FlowRequest(endpoint, NAME, QOS_VOICE, data), A, now)
    event = it.take_events()[-1]
    assert event == Announce(event.ticket, NAME, QOS_VOICE, data, A)  # type: ignore[union-attr]
    return event.ticket  # type: ignore[union-attr]


# ---------------------------------------------------------------- our processes ask


def test_a_request_its_reply_and_a_flow() -> None:
    it = allocator()
    endpoint = ask(it)
    assert it.take_messages() == [(A, FlowRequest(endpoint, NAME, QOS_VOICE, b"oap"))]
    it.received(FlowReply(77, endpoint, 0, b"answer"), A, 0.1)
    assert it.take_events() == [Connect(end(64), 77, A), Allocated(end(64), b"answer")]
    assert it.flows[end(64)].peer_endpoint == 77
    assert it.deadline is None and it.pending == 0


def test_it_can_receive_before_the_request_leaves() -> None:
    it = allocator()
    it.request(end(64), NAME, QOS_RAW, b"", (A,), 0.0)
    assert isinstance(it.take_events()[0], Open)


def test_a_refusal_reaches_who_asked_and_the_endpoint_rests() -> None:
    it = allocator()
    endpoint = ask(it)
    it.received(FlowReply(0, endpoint, -ENAME), A, 0.1)
    assert it.take_events() == [] and it.deadline == 0.1 + REFUSAL_HELD
    it.expired(0.1 + REFUSAL_HELD)
    doubt, refused = it.take_events()
    assert doubt == Doubt(NAME, A)
    assert isinstance(refused, Refused) and (refused.end.fd, refused.errno) == (64, ENAME)
    assert it.endpoints.used == 0
    assert "02:00:00:00:00:01" in refused.text


@pytest.mark.parametrize("response", [5, 2**31 - 1, -(2**31), -70000])
def test_a_response_that_nobody_should_send_is_a_refusal(response: int) -> None:
    it = allocator()
    it.received(FlowReply(70, ask(it), response, b"junk"), A, 0.1)
    it.expired(0.1 + REFUSAL_HELD)
    event = it.take_events()[-1]
    assert isinstance(event, Refused) and event.errno == errno.ECONNREFUSED


def test_replies_that_nobody_waits_for_change_nothing() -> None:
    it = allocator()
    endpoint = ask(it)
    it.take_messages()
    it.received(FlowReply(77, endpoint, 0), B, 0.1)  # not who was asked
    it.received(FlowReply(77, endpoint ^ 1, 0), A, 0.1)
    assert it.take_events() == []
    it.received(FlowReply(77, endpoint, 0), A, 0.1)
    it.take_events()
    it.received(FlowReply(78, endpoint, 0), A, 0.2)  # a second one
    it.received(FlowReply(78, endpoint, -1009), A, 0.2)
    assert it.take_events() == []
    assert it.flows[end(64)].peer_endpoint == 77
    assert it.counters.strange == 4


def test_one_that_is_given_up_is_forgotten_and_its_late_reply_too() -> None:
    it = allocator(LLC)
    endpoint = ask(it)
    it.deallocate(end(64), 20.0)
    assert it.take_events() == [Doubt(NAME, A)]
    it.received(FlowReply(5, endpoint, 0), A, 20.1)
    assert it.take_events() == []
    # Its endpoint is not that of another request while the reply may come.
    seen = set()
    while True:
        try:
            seen.add(ask(it, 100 + len(seen), now=20.0 + LATE - 1))
        except NoEndpoint:
            break
    assert endpoint not in seen and len(seen) == 61
    assert ask(it, 99, now=20.0 + LATE) == endpoint


def test_no_endpoint_left() -> None:
    it = allocator(LLC)
    for fd in range(62):
        it.request(end(fd), NAME, QOS_RAW, b"", (A,), 0.0)
    with pytest.raises(NoEndpoint):
        it.request(end(62), NAME, QOS_RAW, b"", (A,), 0.0)
    assert it.pending == 62


def test_of_several_ipcps_at_one_address_one_that_grants_counts() -> None:
    """Two IPCPs on one device, both with the name: one finds a process, the other does not."""
    it = allocator()
    endpoint = ask(it)
    it.take_messages()
    others = [ask(it, 65 + n) for n in range(WINDOW)]
    assert len(it.take_messages()) == WINDOW - 1
    it.received(FlowReply(70, endpoint, -ENAME), A, 0.1)
    assert len(it.take_messages()) == 1, "what is refused makes way"
    it.received(FlowReply(70, endpoint, -1009), A, 0.11)
    it.received(FlowReply(71, endpoint, 0, b"yes"), A, 0.15)
    assert it.take_events() == [Connect(end(64), 71, A), Allocated(end(64), b"yes")]
    for other in others:
        it.received(FlowReply(other, other, 0), A, 0.2)
    assert it.deadline is None and it.pending == 0 and not it._lanes
    assert it.flows[end(64)].peer_endpoint == 71


def test_one_whose_refusal_is_held_can_be_given_up() -> None:
    it = allocator()
    it.received(FlowReply(70, ask(it), -ENAME), A, 0.1)
    it.deallocate(end(64), 0.15)
    assert it.deadline is None and it.pending == 0 and not it._lanes
    assert all(isinstance(event, Doubt) for event in it.take_events())


# ---------------------------------------------------------------- many at once


def test_only_a_few_are_under_way_to_one_machine() -> None:
    it = allocator()
    endpoints = [ask(it, 64 + n) for n in range(20)]
    assert len(it.take_messages()) == WINDOW
    for done, endpoint in enumerate(endpoints):
        it.received(FlowReply(100 + done, endpoint, 0), A, 0.1)
        assert len(it.take_messages()) == (1 if done + WINDOW < 20 else 0)
    assert len(it.flows) == 20


def test_other_machines_do_not_wait() -> None:
    it = allocator()
    for n in range(20):
        ask(it, 64 + n, A)
    it.take_messages()
    ask(it, 99, B)
    assert [to for to, _ in it.take_messages()] == [B]


def test_requests_that_nobody_answers_do_not_hold_up_the_others_for_ever() -> None:
    """But never are there so many under way that a prototype breaks."""
    it = allocator()
    for n in range(40):
        ask(it, 64 + n)
    asked, wakes = {0.0: len(it.take_messages())}, 0
    while (due := it.deadline) is not None and due < 9.0:
        it.expired(due)
        wakes += 1
        if sent := len(it.take_messages()):
            asked[due] = sent
    assert asked == {
        0.0: WINDOW,
        SILENCE: WINDOW,
        2 * SILENCE: MOST - 2 * WINDOW,
        FALLBACK: WINDOW,
        FALLBACK + SILENCE: WINDOW,
        FALLBACK + 2 * SILENCE: MOST - 2 * WINDOW,
        2 * FALLBACK: WINDOW,
        2 * FALLBACK + SILENCE: WINDOW,
    }
    assert wakes < 200, "a deadline that does not move would be a loop"


def test_one_that_waits_in_the_queue_can_be_given_up() -> None:
    it = allocator()
    endpoints = [ask(it, 64 + n) for n in range(8)]
    it.take_messages()
    for n in range(WINDOW, 8):
        it.deallocate(end(64 + n), 0.1)
    assert it.take_events() == []
    for endpoint in endpoints[:WINDOW]:
        it.received(FlowReply(99, endpoint, 0), A, 0.2)
    assert it.take_messages() == []
    assert it.deadline is None and it.pending == 0


def test_a_thousand_at_once_against_one_of_ours() -> None:
    """Both machines, back to back: all of them come up, and nothing is left."""
    client, server = allocator(seed=1), allocator(seed=2)
    for fd in range(64, 1064):
        client.request(end(fd), NAME, QOS_RAW, fd.to_bytes(4, "big"), (B,), 0.0)
    now, most = 0.0, 0
    while client.pending:
        now += 0.001
        messages = client.take_messages()
        most = max(most, len(messages))
        for _, message in messages:
            server.received(message, A, now)
        for event in server.take_events():
            if isinstance(event, Announce):
                fd = 64 + len(server.flows)
                server.announced(event.ticket, end(fd), now)
                assert server.responded(end(fd), 0, event.data, now)
        for _, message in server.take_messages():
            client.received(message, B, now)
    assert len(client.flows) == len(server.flows) == 1000
    assert most <= WINDOW
    ends = {(flow.endpoint, flow.peer_endpoint) for flow in client.flows.values()}
    assert ends == {(flow.peer_endpoint, flow.endpoint) for flow in server.flows.values()}
    assert client.deadline is None and not client._lanes


# ---------------------------------------------------------------- anycast


def test_the_next_machine_is_asked_when_one_refuses() -> None:
    it = allocator()
    endpoint = ask(it, 64, A, B)
    it.take_messages()
    it.received(FlowReply(70, endpoint, -1007), A, 0.1)
    it.expired(0.1 + REFUSAL_HELD)
    assert it.take_events() == [Doubt(NAME, A), Open(end(64), endpoint, B)]
    assert [to for to, _ in it.take_messages()] == [B]
    it.received(FlowReply(70, endpoint, 0), A, 0.3)  # too late
    assert it.take_events() == []
    it.received(FlowReply(71, endpoint, 0), B, 0.3)
    assert it.take_events() == [Connect(end(64), 71, B), Allocated(end(64), b"")]


def until(it: FlowAllocator, when: float) -> list[tuple[float, object]]:
    """Let its deadlines pass: what happened when, and questions that were put."""
    seen: list[tuple[float, object]] = []
    while (due := it.deadline) is not None and due <= when:
        it.expired(due)
        seen += [(due, event) for event in it.take_events()]
    return seen


def test_the_next_machine_is_asked_when_one_is_silent_for_long() -> None:
    it = allocator()
    endpoint = ask(it, 64, A, B)
    it.take_messages()
    seen = until(it, FALLBACK)
    asked = [(wait, Ask(NAME)) for wait in QUERY_AGAIN]
    assert seen == [*asked, (FALLBACK, Doubt(NAME, A)), (FALLBACK, Open(end(64), endpoint, B))]
    assert [to for to, _ in it.take_messages()] == [B]


def test_one_that_answers_for_the_name_is_waited_for() -> None:
    it = allocator()
    ask(it)
    assert until(it, 1.0) == [(1.0, Ask(NAME))]
    HEARD[A] = 1.001
    assert until(it, 100.0) == []
    assert it.deadline is None and it.pending == 1


def test_one_that_answers_for_the_name_but_never_the_request_makes_way_for_another() -> None:
    it = allocator()
    endpoint = ask(it, 64, A, B)
    HEARD[A] = 0.5
    assert until(it, 100.0)[:2] == [(FALLBACK, Doubt(NAME, A)), (FALLBACK, Open(end(64), endpoint, B))]


def test_one_that_answers_nothing_any_more_is_given_up_before_the_irmd_does() -> None:
    it = allocator()
    ask(it)
    HEARD[A], HEARD[B] = -0.1, 1.001
    (when, event) = until(it, 100.0)[-1]
    assert when == FALLBACK and isinstance(event, Refused) and event.errno == ENAME
    assert it.pending == it.endpoints.used == 0


# ---------------------------------------------------------------- others ask


def test_another_machine_gets_a_flow() -> None:
    it = allocator()
    ticket = arrive(it)
    it.announced(ticket, end(64), 0.1)
    (opened,) = it.take_events()
    assert isinstance(opened, Open) and opened.peer == A
    assert it.take_messages() == []
    assert it.responded(end(64), 0, b"answer", 0.2)
    assert it.take_events() == [Connect(end(64), 70, A)]
    assert it.take_messages() == [(A, FlowReply(opened.endpoint, 70, 0, b"answer"))]
    assert not it.responded(end(64), 0, b"", 0.3)


@pytest.mark.parametrize("framing", [DIX, LLC])
def test_a_refusal_is_one_that_a_prototype_survives(framing: Framing) -> None:
    it = allocator(framing)
    it.turned_down(arrive(it, 60), ENAME, 0.1)
    ((to, message),) = it.take_messages()
    assert to == A and isinstance(message, FlowReply)
    assert message.response == -ENAME and message.data == b""
    assert message.endpoint in framing.endpoints
    assert framing.encode(A, B, message)
    assert it.endpoints.used == 0 and it.pending == 0


def test_a_process_that_refuses_or_goes_before_it_has_accepted() -> None:
    it = allocator()
    it.announced(arrive(it, 70), end(64), 0.1)
    assert it.responded(end(64), errno.EPERM, b"data", 0.2)
    it.announced(arrive(it, 71), end(65), 0.1)
    it.deallocate(end(65), 0.2)
    assert [message.response for _, message in it.take_messages()] == [  # type: ignore[union-attr]
        -errno.EPERM,
        -errno.ECONNREFUSED,
    ]
    assert it.endpoints.used == 0


def test_a_name_that_is_not_registered_here_may_be_at_another_ipcp_of_the_device() -> None:
    it = allocator()
    it.received(FlowRequest(70, b"x" * 32), A, 0.0)
    assert it.take_events() == [] and it.take_messages() == []
    assert it.counters.unregistered == 1


def test_a_request_that_the_network_copied_is_answered_once() -> None:
    it = allocator()
    arrive(it)
    it.received(FlowRequest(70, NAME, QOS_VOICE, b"oap"), A, 1.0)
    assert it.take_events() == [] and it.counters.repeated == 1
    arrive(it, data=b"another header")
    arrive(it, 71)
    arrive(it, now=REPLAY + 1)


def test_too_many_at_once_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fa, "MAX_ARRIVALS", 3)
    monkeypatch.setattr(fa, "MAX_REMEMBERED", 5)
    it = allocator()
    for endpoint in range(100, 110):
        it.received(FlowRequest(endpoint, NAME), A, 0.0)
    assert len(it.take_events()) == 3 and it.counters.crowded == 7
    assert len(it._seen) <= 5


def test_one_machine_leaves_room_for_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fa, "MAX_ARRIVALS_OF_ONE", 3)
    it = allocator()
    for endpoint in range(100, 110):
        it.received(FlowRequest(endpoint, NAME), A, 0.0)
    tickets = [event.ticket for event in it.take_events() if isinstance(event, Announce)]
    assert len(tickets) == 3 and it.counters.crowded == 7
    it.received(FlowRequest(100, NAME), B, 0.0)
    assert len(it.take_events()) == 1
    it.turned_down(tickets[0], 111, 0.0)
    it.announced(tickets[1], end(80), 0.0)
    it.responded(end(80), 0, b"", 0.0)
    it.announced(tickets[2], end(81), 0.0)
    it.deallocate(end(81), 0.0)
    assert it._arriving == {B: 1}


def test_one_name_leaves_room_for_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """And requests for it that are too many are told so."""
    monkeypatch.setattr(fa, "MAX_ARRIVALS_OF_NAME", 3)
    it = allocator()
    it._registered.add(b"other")
    for endpoint in range(100, 110):
        it.received(FlowRequest(endpoint, NAME), A, 0.0)
    (ticket, *_) = tickets = [event.ticket for event in it.take_events() if isinstance(event, Announce)]
    refusals = [message for _, message in it.take_messages() if isinstance(message, FlowReply)]
    assert len(tickets) == 3 and it.counters.crowded == 7
    assert [reply.response for reply in refusals] == [-errno.EAGAIN] * 7
    it.received(FlowRequest(110, b"other"), A, 0.0)
    assert len(it.take_events()) == 1
    it.turned_down(ticket, 111, 0.0)
    it.received(FlowRequest(111, NAME), A, 0.0)
    assert len(it.take_events()) == 1 and it.endpoints.used == 0


def test_without_an_endpoint_a_request_is_refused() -> None:
    it = allocator(LLC)
    ticket = arrive(it, 60)
    for fd in range(62):
        it.request(end(fd), NAME, QOS_RAW, b"", (B,), 0.0)
    it.take_messages()
    with pytest.raises(NoEndpoint):
        it.announced(ticket, end(99), 0.1)
    assert it.take_messages() == [(A, FlowReply(0, 60, -errno.ENOSPC))]


# ---------------------------------------------------------------- anything at all

_messages = st.one_of(
    st.builds(
        FlowRequest,
        st.integers(1, 4095),
        st.sampled_from([NAME, b"x" * 32]),
        st.just(QOS_RAW),
        st.binary(max_size=3),
    ),
    st.builds(
        FlowReply,
        st.integers(1, 4095),
        st.integers(60, 4095),
        st.sampled_from([0, -1007, 7]),
        st.binary(max_size=3),
    ),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(64, 70), _messages, st.floats(0, 3)), max_size=60))
def test_whatever_happens_it_sends_only_what_may_be_sent_and_loses_no_endpoint(
    steps: list[tuple[int, int, Message, float]],
) -> None:
    it, now = allocator(), 0.0
    tickets: list[int] = []
    asked: set[int] = set()
    for step, fd, message, wait in steps:
        now += wait
        if step == 0 and fd not in asked:
            it.request(end(fd), NAME, QOS_RAW, b"x", (A, B), now)
            asked.add(fd)
        elif step == 1:
            it.received(message, A, now)  # type: ignore[arg-type]
        elif step == 2 and (pending := list(it._waiting)):
            it.received(FlowReply(99, pending[fd % len(pending)], -(fd & 1)), (A, B)[fd & 1], now)
        elif step == 3 and tickets:
            it.announced(tickets.pop(), fd + 100 * len(steps) + int(now * 1e6), now)
        elif step == 4 and it._accepting:
            it.responded(next(iter(it._accepting)), fd & 1, b"", now)
        elif step == 5:
            it.deallocate(end(fd), now)
            asked.discard(fd)
        elif it.deadline is not None and it.deadline <= now:
            it.expired(now)
        for event in it.take_events():
            if isinstance(event, Announce):
                tickets.append(event.ticket)
            elif isinstance(event, Refused):
                asked.discard(event.end.fd)
        for to, out in it.take_messages():
            assert DIX.encode(to, B, out)
    held = len(it.flows) + len(it._requests) + len(it._accepting)
    assert it.endpoints.used == held
    assert set(it._waiting) == {request.endpoint for request in it._requests.values()}
    open_requests = [request for request in it._requests.values() if request.refusal is None]
    assert sum(len(lane.queue) + len(lane.sent) for lane in it._lanes.values()) == len(open_requests)
    assert all(lane.queue or lane.sent or lane.repeated for lane in it._lanes.values())


# ---------------------------------------------------------------- a reply that was sent to nowhere


def test_a_request_without_an_answer_is_followed_by_another_from_another_endpoint() -> None:
    it = allocator()
    first = ask(it)
    it.take_messages()
    it.again(end(64), b"second", 2.5)
    assert not it.take_messages(), "the machine has not answered for the name since"
    HEARD[A] = 1.0
    it.again(end(64), b"second", 2.5)
    close, opened = it.take_events()
    assert close == Close(end(64), first) and isinstance(opened, Open) and opened.endpoint != first
    ((peer, request),) = it.take_messages()
    assert (peer, request) == (A, FlowRequest(opened.endpoint, NAME, QOS_VOICE, b"second"))
    # A refusal of the first one means nothing: the second will have an answer.
    it.received(FlowReply(90, first, -111), A, 3.0)
    assert it.counters.strange == 1 and not it.take_events()
    it.received(FlowReply(91, opened.endpoint, 0, b"answer"), A, 3.1)
    assert it.take_events() == [Connect(end(64), 91, A), Allocated(end(64), b"answer")]
    assert it.endpoints.used == 1 and not it.pending


def test_the_first_answer_is_taken_whichever_request_it_is_for() -> None:
    """It may have been on its way when the request was repeated: an accept has been spent on it."""
    it = allocator()
    HEARD[A] = 9.0
    first = ask(it)
    it.again(end(64), b"second", 2.5)
    it.again(end(64), b"third", 6.5)
    _, _, _, opened = it.take_events()
    assert isinstance(opened, Open)
    it.received(FlowReply(90, first, 0, b"answer"), A, 6.6)
    assert it.take_events() == [
        Close(end(64), opened.endpoint),
        Open(end(64), first, A),
        Connect(end(64), 90, A),
        Allocated(end(64), b"answer"),
    ]
    it.received(FlowReply(91, opened.endpoint, 0, b"late"), A, 6.7)
    assert it.counters.strange == 1 and not it.take_events()
    assert it.endpoints.used == 1 and not it.pending and not it._waiting
    while (due := it.deadline) is not None:
        it.expired(due)
    assert not it._lanes


def test_requests_that_are_repeated_count_among_those_under_way_to_a_machine() -> None:
    """A prototype that is slow has them all, and twenty end it."""
    it = allocator()
    HEARD[A] = 9.0
    for n in range(MOST - 1):
        ask(it, 64 + n)
    it.expired(SILENCE)
    it.expired(2 * SILENCE)
    assert len(it.take_messages()) == MOST - 1
    for n in range(MOST - 1):
        it.again(end(64 + n), b"second", 2.5)
    assert len(it.take_messages()) == it.counters.again == 1
    for n in range(20):
        ask(it, 100 + n, now=2.5)
    assert not it.take_messages(), "there is no room until the first ones are old"
    it.expired(FALLBACK)
    assert len(it.take_messages()) == WINDOW


def test_the_next_machine_is_asked_without_the_requests_to_the_one_before() -> None:
    it = allocator()
    HEARD[A] = 9.0
    first = ask(it, 64, A, B)
    it.again(end(64), b"second", 2.5)
    it.expired(FALLBACK)
    it.received(FlowReply(90, first, 0, b"late"), A, FALLBACK)
    assert it.counters.strange == 1 and not it.flows
    assert [to for to, _ in it.take_messages()] == [A, A, B]
    it.deallocate(end(64), 5.0)
    assert not it._waiting and it.endpoints.used == 0


def test_a_flow_that_was_answered_or_given_up_is_not_asked_for_again() -> None:
    it = allocator()
    HEARD[A] = 1.0
    endpoint = ask(it)
    it.received(FlowReply(91, endpoint, 0, b"answer"), A, 0.1)
    ask(it, 65)
    it.deallocate(end(65), 0.2)
    it.take_messages()
    it.take_events()
    for fd in (64, 65, 66):
        it.again(end(fd), b"second", 2.5)
    assert not it.take_messages() and not it.take_events()


def test_a_request_whose_place_another_has_taken_is_forgotten_without_a_word() -> None:
    it = allocator()
    ticket = arrive(it)
    it.turned_down(ticket, errno.EALREADY, 3.0)
    assert not it.take_messages() and it.pending == it.endpoints.used == 0
    assert it.counters.repeated == 1


def test_a_second_copy_is_ignored_as_long_as_the_header_lives_at_any_time() -> None:
    it = allocator()
    arrive(it, now=5000.0)
    it.received(FlowRequest(70, NAME, QOS_VOICE, b"oap"), A, 5000.0 + REPLAY - 0.1)
    assert it.take_events() == [] and it.counters.repeated == 1
    arrive(it, now=5000.0 + REPLAY)


def test_of_the_requests_that_are_remembered_the_oldest_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fa, "MAX_REMEMBERED", 2)
    it = allocator()
    for endpoint in (70, 71, 72):
        arrive(it, endpoint)
    for endpoint in (71, 72):
        it.received(FlowRequest(endpoint, NAME, QOS_VOICE, b"oap"), A, 0.0)
    assert it.take_events() == [] and it.counters.repeated == 2
    arrive(it, 70)


def test_counters_begin_at_0_and_count_replies() -> None:
    it = allocator()
    assert set(asdict(it.counters).values()) == {0}
    it.received(FlowReply(77, ask(it), 0, b""), A, 0.1)
    assert it.counters.replies == 1
