"""The fake clock moves only when the test advances it, and makes scheduled calls in order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ouroboros.testing import FakeClock


def test_it_stands_still_until_it_is_moved() -> None:
    clock = FakeClock(5)
    assert (clock.now, clock.time(), clock(), clock.time_ns()) == (5.0, 5.0, 5.0, 5_000_000_000)
    clock.advance(0.25)
    assert clock.now == 5.25


@given(st.lists(st.integers(min_value=0, max_value=20)))
def test_calls_are_made_in_order_of_time_and_then_of_asking(delays: list[int]) -> None:
    clock = FakeClock()
    seen: list[tuple[int, int]] = []
    for serial, delay in enumerate(delays):
        clock.call_later(delay, lambda delay=delay, serial=serial: seen.append((delay, serial)))
    clock.advance(20)
    assert seen == sorted((delay, serial) for serial, delay in enumerate(delays))
    assert clock.deadline is None


def test_a_call_sees_the_time_at_which_it_was_due_and_may_ask_for_more() -> None:
    clock, seen = FakeClock(), []

    def again() -> None:
        seen.append(clock.now)
        clock.call_later(2, again)

    clock.call_at(1, again)
    clock.advance_to(6)
    assert seen == [1, 3, 5]
    assert (clock.now, clock.deadline) == (6, 7)


def test_a_cancelled_call_is_not_made() -> None:
    clock, seen = FakeClock(), []
    timer = clock.call_later(1, seen.append, "cancelled")
    clock.call_later(2, seen.append, "made")
    assert timer.pending
    timer.cancel()
    assert clock.deadline == 2
    clock.advance(3)
    assert seen == ["made"]
    assert not timer.pending


def test_a_time_that_has_passed_means_at_the_next_move() -> None:
    clock, seen = FakeClock(10), []
    clock.call_at(3, seen.append, 1)
    assert seen == []
    clock.advance(0)
    assert seen == [1]
    assert clock.now == 10


def test_run_stops_when_the_condition_holds_or_at_the_limit() -> None:
    clock, seen = FakeClock(), []
    for second in range(1, 6):
        clock.call_at(second, seen.append, second)
    assert clock.run(lambda: len(seen) == 3, limit=10)
    assert clock.now == 3
    assert not clock.run(lambda: len(seen) == 9, limit=10)
    assert clock.now == 13


def test_it_cannot_go_back() -> None:
    with pytest.raises(ValueError, match="cannot go back"):
        FakeClock().advance(-1)
