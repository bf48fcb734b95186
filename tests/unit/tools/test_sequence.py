"""tools/sequence.py against a model that remembers everything."""

import sys
from collections.abc import Iterable
from types import FrameType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ouroboros_tools.sequence import GAPS, Arrival, Sequence, loss_percent, unwrap32


@given(st.lists(st.integers(0, 40), max_size=120))
def test_every_arrival_is_classified(numbers: list[int]) -> None:
    sequence = Sequence()
    seen: set[int] = set()
    for number in numbers:
        if number in seen:
            expected = Arrival.DUPLICATE
        elif seen and number < max(seen):
            expected = Arrival.OUT_OF_ORDER
        else:
            expected = Arrival.IN_ORDER
        assert sequence.arrived(number) is expected
        seen.add(number)
    assert sequence.received == len(seen)
    assert sequence.received + sequence.duplicates == len(numbers)
    assert sequence.expected == max(seen, default=-1) + 1


def test_a_huge_gap_takes_bounded_memory_and_late_packets_still_count() -> None:
    sequence = Sequence()
    sequence.arrived((1 << 64) - 1)
    assert sequence.arrived(5) is Arrival.OUT_OF_ORDER
    assert sequence.arrived((1 << 64) - 2) is Arrival.OUT_OF_ORDER
    assert sequence.arrived((1 << 64) - 2) is Arrival.DUPLICATE


def test_many_gaps_forget_the_oldest() -> None:
    sequence = Sequence()
    for number in range(1, 1 << 18, 2):  # every even number is missing
        sequence.arrived(number)
    assert sequence.arrived((1 << 18) - 2) is Arrival.OUT_OF_ORDER
    assert sequence.arrived((1 << 18) - 2) is Arrival.DUPLICATE
    assert sequence.arrived(0) is Arrival.OUT_OF_ORDER


def steps(sequence: Sequence, numbers: Iterable[int]) -> int:
    """Lines of Python that are run for these numbers: what they cost, on any machine."""
    lines = 0

    def count(_frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal lines
        lines += event == "line"
        return count

    before = sys.gettrace()
    sys.settrace(count)
    try:
        for number in numbers:
            sequence.arrived(number)
    finally:
        sys.settrace(before)
    return lines


@pytest.mark.parametrize("gap", [2, 300, 1 << 16, 1 << 60])
def test_what_a_packet_costs_does_not_depend_on_its_number(gap: int) -> None:
    sequence = Sequence()
    numbers = range(gap, 6000 * gap, gap)
    assert steps(sequence, numbers) < 20 * len(numbers)
    late = [number - gap // 2 for number in numbers]
    assert steps(sequence, late) < 20 * len(late)
    assert sequence.received == len(numbers) + len(late)


def test_ranges_are_bounded() -> None:
    sequence = Sequence()
    for number in range(0, 8 * GAPS, 4):
        sequence.arrived(number)
        assert len(sequence._starts) == len(sequence._ends) <= GAPS
    for number in range(2, 8 * GAPS, 4):  # each splits a range
        sequence.arrived(number)
        assert len(sequence._starts) == len(sequence._ends) <= GAPS


@given(st.integers(0, 1 << 40), st.integers(-(1 << 31), (1 << 31) - 1))
def test_unwrap32_finds_the_nearest(near: int, offset: int) -> None:
    assert unwrap32((near + offset) & 0xFFFFFFFF, near) == near + offset


@pytest.mark.parametrize(
    ("sent", "received", "percent"),
    [(10000, 9995, 1), (10000, 10000, 0), (4, 0, 100), (0, 0, 0), (3, 2, 34), (1, 2, 0)],
)
def test_loss_is_rounded_up(sent: int, received: int, percent: int) -> None:
    assert loss_percent(sent, received) == percent
