"""Until when the next accept of a process is expected."""

from __future__ import annotations

from irmd.pace import NEVER, Pace


def test_a_process_that_has_never_accepted_has_its_first_second() -> None:
    pace = Pace(since=10.0)
    assert not pace.accepts and pace.expected_by(1.0, 20.0) == 11.0
    assert Pace().expected_by(1.0, 20.0) == NEVER


def test_one_that_accepts_has_a_second_from_its_last_accept() -> None:
    pace = Pace(since=10.0)
    pace.accept(50.0)
    assert pace.accepts and pace.expected_by(1.0, 20.0) == 51.0
    pace.served(90.0)  # it waited for a flow: that says nothing about how long it is away
    pace.accept(90.1)
    assert pace.expected_by(1.0, 20.0) == 91.1


def test_a_slow_one_has_twice_as_long_as_it_was_away() -> None:
    pace = Pace(since=0.0)
    pace.accept(1.0)
    pace.served(2.0)
    pace.accept(5.0)
    assert pace.expected_by(1.0, 20.0) == 11.0
    pace.served(6.0)
    pace.accept(66.0)
    assert pace.expected_by(1.0, 20.0) == 86.0
    pace.accept(70.0)  # one that had no flow in its time
    assert pace.expected_by(1.0, 20.0) == 90.0
