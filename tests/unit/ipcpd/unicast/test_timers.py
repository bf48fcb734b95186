"""Timers are made when they are due, in order, and cannot catch the machine."""

from __future__ import annotations

from ipcpd.unicast.timers import SWEEP, Timers


def test_calls_are_made_in_order_and_once() -> None:
    timers, seen = Timers(), []
    timers.at(2, lambda now: seen.append(("b", now)))
    timers.at(1, lambda now: seen.append(("a", now)))
    timers.at(2, lambda now: seen.append(("c", now)))
    assert timers.deadline == 1
    timers.run(0.5)
    assert seen == []
    timers.run(2.5)
    assert seen == [("a", 2.5), ("b", 2.5), ("c", 2.5)]
    assert timers.deadline is None


def test_a_cancelled_call_is_not_made() -> None:
    timers, seen = Timers(), []
    timer = timers.at(1, seen.append)
    timers.at(2, seen.append)
    timer.cancel()
    assert timers.deadline == 2
    timers.run(3)
    assert seen == [3]


def test_a_call_that_asks_for_itself_at_once_waits_for_the_next_time() -> None:
    timers, seen = Timers(), []

    def again(now: float) -> None:
        seen.append(now)
        timers.at(now, again)

    timers.at(1, again)
    timers.run(1)
    assert (seen, timers.deadline) == ([1], 1)
    timers.run(1)
    assert seen == [1, 1]


def test_cancelled_timers_take_no_memory() -> None:
    timers = Timers()
    made = []
    running = timers.at(5, made.append)
    for _ in range(100_000):
        timers.at(1000, made.append).cancel()
    assert len(timers) <= SWEEP + 1
    timers.run(5)
    assert made == [5] and running.call is None
