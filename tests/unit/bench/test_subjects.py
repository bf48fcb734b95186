"""Subjects: what can be said of them without a clock. Each moves packets between two ends in this process."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.bench import measure
from tests.bench.subjects import SUBJECTS
from tests.bench.subjects.subject import Endpoint
from tests.bench.subjects.udp import OVERHEAD, window

RIVALS = [name for name in SUBJECTS if name != "ouroboros"]


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


@pytest.mark.parametrize("name", [n for n in RIVALS if n != "floor"])  # the floor has one state per process
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
        together(lambda: measure.echo(server, size, 50), lambda: measure.ping(client, size, 50))


def test_names_are_those_of_the_rows() -> None:
    assert list(SUBJECTS) == ["ouroboros", "seqpacket", "udp", "pipe", "zmq", "floor"]


@given(st.integers(1, 65507), st.integers(0, 8 << 20))
def test_window_is_even_and_fits_the_buffer(size: int, buffer: int) -> None:
    packets = window(size, buffer)
    assert packets % 2 == 0 and 2 <= packets <= 512
    assert packets == 2 or packets * (size + OVERHEAD) * 2 <= buffer


@given(st.integers(1, 65507))
def test_burst_is_at_least_one_packet(size: int) -> None:
    assert 1 <= measure.burst_of(size) <= 64
