"""A fake flow behaves as a flow does, on the time of the fake clock."""

from __future__ import annotations

import pytest

from ouroboros.errors import FlowDownException, FlowNotAllocatedException, FlowTimeout
from ouroboros.testing import FakeClock, Impairment, flow_pair


def test_a_read_moves_the_clock_to_the_packet() -> None:
    clock = FakeClock()
    near, far = flow_pair(clock, impairment=Impairment(delay=0.25))
    assert near.write(b"hello") == 5
    assert far.read() == b"hello"
    assert clock.now == 0.25


def test_a_server_is_a_function() -> None:
    near, far = flow_pair(FakeClock())
    far.on_packet = lambda packet: far.write(packet.upper())
    near.write(bytearray(b"hello, all"), 5)
    assert near.recv() == b"HELLO"


def test_a_packet_is_read_in_parts_with_an_end_mark() -> None:
    near, far = flow_pair(FakeClock())
    near.write(b"abcdef")
    near.write(b"gh")
    assert [far.read(4), far.read(4), far.read(2), far.read(2)] == [b"abcd", b"ef", b"gh", b""]


def test_a_read_ends_with_its_time_and_keep_alives_are_not_read() -> None:
    clock = FakeClock()
    near, far = flow_pair(clock)
    far.rcv_timeout = 2
    near.write(b"")
    with pytest.raises(FlowTimeout, match="within 2 s"):
        far.read()
    assert clock.now == 2


def test_what_had_arrived_is_read_before_the_end() -> None:
    clock = FakeClock()
    near, far = flow_pair(clock)
    with near:
        near.write(b"last words")
        clock.advance(1)
    assert list(far) == [b"last words"]
    for call in (far.recv, lambda: far.write(b"?")):
        with pytest.raises(FlowDownException):
            call()
    with pytest.raises(FlowNotAllocatedException):
        near.write(b"?")
