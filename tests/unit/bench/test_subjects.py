"""Subjects: properties that need no clock. Each moves packets between two ends in this process."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ouroboros.qos import QOS_DATA, QoSSpec
from tests.bench import measure
from tests.bench.link import Link
from tests.bench.pair import Pair
from tests.bench.path import Direct
from tests.bench.process import PeerError
from tests.bench.reliable import DATA, Stream
from tests.bench.subjects import SUBJECTS, raw
from tests.bench.subjects.ping import echo_request
from tests.bench.subjects.stream import StreamEnd
from tests.bench.subjects.subject import Endpoint, Wiring
from tests.bench.subjects.udp import OVERHEAD, window

IN_C = (
    "floor",
    "veth",
    "ping",
    "udp_floor",
    "udp_gso",
)  # with one state for each process, or another place to live
RIVALS = [name for name, kind in SUBJECTS.items() if not kind.over_path and name != "quic"]


def ends(name: str, stack: ExitStack) -> tuple[Endpoint, Endpoint]:
    """Server's and client's end of a subject, both here. Each owns descriptors of its own, as two processes would."""
    kind = SUBJECTS[name]
    if reason := kind.missing():
        pytest.skip(reason)
    wiring = kind.provide(stack)
    for args in (wiring.server, wiring.client):
        if "fd" in args:
            args["fd"] = os.dup(args["fd"])
    server, client = kind(), kind()
    hello = server.listen(wiring.server)
    there = client.connect(wiring.client, hello)
    stack.callback(there.close)
    here = server.accept()
    stack.callback(here.close)
    return here, there


Result = dict[str, Any]


def together(first: Callable[[], Result], then: Callable[[], Result]) -> Result:
    """Run `first` in a thread and `then` here, at the same time; the result of `first`."""
    results: list[Result] = []
    thread = threading.Thread(target=lambda: results.append(first()), daemon=True)
    thread.start()
    then()
    thread.join()
    return results[0]


@pytest.mark.parametrize("name", [n for n in RIVALS if n not in IN_C])
@pytest.mark.parametrize("size", [64, 65000])
def test_packets_arrive_one_way_and_round_trip(name: str, size: int) -> None:
    with ExitStack() as stack:
        server, client = (end.calls(size) for end in ends(name, stack))
        armed = threading.Event()
        got = together(
            lambda: measure.sink(server, size, 500, False, armed.set),
            lambda: measure.flood(client, size, 500, False),
        )
        assert got["got"] == 500 and armed.is_set()
        together(lambda: measure.echo(server, size, 50), lambda: measure.ping(client, size, 40, 10))


def test_names_are_those_of_the_rows() -> None:
    assert list(SUBJECTS) == [
        "ouroboros",
        "seqpacket",
        "udp",
        "pipe",
        "zmq",
        "floor",
        "veth",
        "ping",
        "udp_floor",
        "udp_gso",
        "raw",
        "tcp",
        "quic",
    ]


@pytest.mark.parametrize("name", IN_C)
@pytest.mark.parametrize("size", [64, 1400])
def test_packets_arrive_between_two_processes(name: str, size: int) -> None:
    kind = SUBJECTS[name]
    if reason := kind.missing():
        pytest.skip(f"{name}: {reason}")
    with ExitStack() as stack:
        wiring = kind.provide(stack)
        if kind.linked:
            server, client = Link(stack).ends
            wiring = replace(wiring, server_enter=server.enter, client_enter=client.enter)
        pair = Pair(name, wiring, stack)
        p50, p99 = pair.round_trips(size, 50)
        assert 0 < p50 <= p99
        paced, _ = pair.paced(size, 3, 0.001)
        assert paced > 0
        if kind.one_way:
            for burst in (False, kind.burst):
                assert pair.one_way(size, 1280, burst).received == 1280


@pytest.mark.parametrize("size", [64, 65000])
def test_a_stream_is_counted_in_packets(size: int) -> None:
    with ExitStack() as stack:
        server, client = (end.calls(size) for end in ends("tcp", stack))
        got = together(
            lambda: measure.sink(server, size, 200, True, lambda: None),
            lambda: measure.flood(client, size, 200, True),
        )
        assert got["got"] == 200
        client.send(bytes(size - 1))
        client.send(bytes(1))
        server.recv(server.room)  # all of it, so that nothing is left for the next
        client.send(b"+" * size)
        server.recv(server.room)
        assert bytes(server.room) == b"+" * size


class FakeStream:
    """A flow whose two files are the ends of a pipe."""

    def __init__(self) -> None:
        self.ends = dict(zip(("rb", "wb"), os.pipe(), strict=True))

    def makefile(self, mode: str, *, buffering: int) -> Any:
        return open(self.ends[mode], mode, buffering=buffering)


@pytest.mark.parametrize("size", [64, 65000])
def test_a_flow_as_a_stream_is_counted_in_packets(size: int) -> None:
    calls = StreamEnd(FakeStream(), 0).calls(size)
    got = together(
        lambda: measure.sink(calls, size, 200, True, lambda: None),
        lambda: measure.flood(calls, size, 200, True),
    )
    assert got["got"] == 200


def test_paths_of_streams_and_of_data_say_so() -> None:
    wiring = Wiring({"window": 512}, {"window": 512})
    stream = Stream(Direct("direct", rivals=(), ratios=()))
    stream.data.over.wire = lambda world, word="": wiring  # type: ignore[method-assign]
    made = stream.wire(None)  # type: ignore[arg-type]
    assert made.client == {"window": 0, "qos": DATA, "stream": True}
    assert made.server == {"window": 0, "stream": True}
    assert QoSSpec(**DATA) == QOS_DATA


def test_quic_arrives_between_two_processes() -> None:
    kind = SUBJECTS["quic"]
    if reason := kind.missing():
        pytest.skip(reason)
    with ExitStack() as stack:
        pair = Pair("quic", kind.provide(stack), stack)
        p50, p99 = pair.round_trips(64, 10, 2)
        assert 0 < p50 <= p99
        # Less than what it tells at once, exactly as much, and more.
        for count in (1, 1024, 1500):
            assert pair.one_way(1024, count, True).received == count


class FakeFlow:
    """A flow with small packets; what is written can be read."""

    max_packet = 100

    def __init__(self) -> None:
        self.queue: list[bytes] = []

    def writev(self, packets: list[bytes]) -> int:
        self.queue += packets
        return len(packets)

    def readv(self, count: int) -> list[bytes]:
        count = min(count, 3)  # never all at once
        taken, self.queue = self.queue[:count], self.queue[count:]
        return taken


@given(st.integers(1, 1000), st.integers(1, 1000))
def test_pieces_are_whole_and_as_large_as_they_may_be(size: int, largest: int) -> None:
    found = raw.pieces(size, largest)
    assert sum(map(len, found)) == size
    assert all(len(piece) == largest for piece in found[:-1]) and 0 < len(found[-1]) <= largest


def test_what_goes_in_pieces_is_counted_whole() -> None:
    flow = FakeFlow()
    calls = raw.in_pieces(flow, 450, 512)
    assert calls.writev is not None and calls.readv is not None
    assert calls.writev([bytes(450)] * 4) == 4 and len(flow.queue) == 20
    whole = 0
    while flow.queue:
        whole += calls.readv(4 - whole)
    assert whole == 4
    calls.send(b"")
    assert sum(map(len, flow.queue)) == 450
    calls.recv(None)
    assert not flow.queue
    assert calls.window == 102  # packets of 450 octets, of which there are five each


def test_what_is_left_over_is_read_before_the_next_measure() -> None:
    with ExitStack() as stack:
        here, there = ends("udp", stack)
        for _ in range(3):
            there.calls(64).send(bytes(64))
        assert here.settle(0.05) == 3
        assert here.settle(0) == 0


def test_round_trips_beside_a_stale_answer_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [{"p50": 1.0, "p99": 2.0, "left": 1}, {"p50": 30.0, "p99": 40.0, "left": 0}]
    monkeypatch.setattr(Pair, "_both", lambda *_: ({}, answers.pop(0)))
    pair = Pair.__new__(Pair)
    assert pair.round_trips(64, 10) == (30.0, 40.0)
    answers += [{"p50": 1.0, "p99": 2.0, "left": 1}] * 9
    with pytest.raises(PeerError, match="another measure"):
        pair.round_trips(64, 10)


def test_an_echo_request_has_a_sum_that_checks() -> None:
    request = echo_request(64, 0xBEEF)
    total = sum(int.from_bytes(request[i : i + 2]) for i in range(0, 64, 2))
    assert total % 0xFFFF == 0


@given(st.integers(1, 65507), st.integers(0, 8 << 20))
def test_window_is_even_and_fits_the_buffer(size: int, buffer: int) -> None:
    packets = window(size, buffer)
    assert packets % 2 == 0 and 2 <= packets <= 512
    assert packets == 2 or packets * (size + OVERHEAD) * 2 <= buffer


@given(st.integers(1, 65507))
def test_burst_is_at_least_one_packet(size: int) -> None:
    assert 1 <= measure.burst_of(size) <= 64
