"""Two members with one address: how many contradictions count, when a member draws again, and how often."""

from __future__ import annotations

from random import Random

import pytest

from ipcpd.unicast.contention import (
    CONTRADICTIONS,
    DRAWS_PERIOD,
    MAX_DRAWS,
    MAX_LINKS,
    QUIET,
    SENIORITY,
    SHORTEST,
    SPREAD,
    WINDOW,
    Contention,
    Verdict,
)

LINK = 7
START = 10_000.0


class Half(Random):
    """Draws the middle."""

    def random(self) -> float:
        return 0.5


def contention(*, age: float = 0.0, left: list[float] | None = None) -> Contention:
    return Contention(START - age, Half(), left or [])


def contradict(machine: Contention, times: int, now: float = START) -> list[Verdict]:
    return [machine.contradicted(LINK, now) for _ in range(times)]


def leaves_at(machine: Contention) -> float:
    """When it draws again, to a tenth of a second, while contradictions go on; it must be contested already."""
    now = START
    while machine.contradicted(LINK, now) is not Verdict.LEAVE:
        now = round(now + 0.1, 1)
        assert now < START + 100
    return now - START


def test_it_is_contested_by_so_many_contradictions_of_one_link() -> None:
    machine = contention()
    assert contradict(machine, CONTRADICTIONS - 1) == [Verdict.NOTHING] * (CONTRADICTIONS - 1)
    assert not machine.contested and machine.deadline is None
    assert contradict(machine, 3) == [Verdict.CONTESTED, Verdict.NOTHING, Verdict.NOTHING]
    assert machine.contested and machine.deadline == START + QUIET


def test_old_contradictions_do_not_count() -> None:
    machine = contention()
    contradict(machine, CONTRADICTIONS - 1)
    assert contradict(machine, 1, START + WINDOW) == [Verdict.NOTHING]
    machine = contention()
    contradict(machine, CONTRADICTIONS - 1)
    assert contradict(machine, 1, START + WINDOW - 1) == [Verdict.CONTESTED]


def test_those_of_several_links_are_not_added_up() -> None:
    machine = contention()
    for link in range(CONTRADICTIONS * 2):
        assert machine.contradicted(link, START) is Verdict.NOTHING


@pytest.mark.parametrize(
    "age, share", [(0.0, 0.0), (SENIORITY / 2, 0.5), (SENIORITY, 1.0), (9 * SENIORITY, 1.0)]
)
def test_the_newer_member_leaves_first(age: float, share: float) -> None:
    machine = contention(age=age)
    contradict(machine, CONTRADICTIONS)
    assert leaves_at(machine) == pytest.approx(SHORTEST + SPREAD * (0.5 + share), abs=0.11)


def test_the_link_contradicted_longest_ago_is_deleted() -> None:
    machine = contention()
    contradict(machine, CONTRADICTIONS - 1)
    for link in range(1000, 1000 + MAX_LINKS - 1):
        machine.contradicted(link, START)
    assert machine.contradicted(LINK, START) is Verdict.CONTESTED
    machine = contention()
    contradict(machine, CONTRADICTIONS - 1)
    for link in range(1000, 1000 + MAX_LINKS):
        machine.contradicted(link, START)
    assert machine.contradicted(LINK, START) is Verdict.NOTHING
    assert machine.contradicted(1000 + MAX_LINKS - 1, START) is Verdict.NOTHING


def test_it_leaves_once() -> None:
    machine = contention()
    contradict(machine, CONTRADICTIONS)
    leaves_at(machine)
    assert len(machine.left) == 1
    assert contradict(machine, 3, START + 50) == [Verdict.NOTHING] * 3


def test_it_leaves_so_often_in_an_hour() -> None:
    now = START + SHORTEST + 2 * SPREAD
    machine = contention(left=[now - 1.0] * MAX_DRAWS)
    contradict(machine, CONTRADICTIONS)
    assert contradict(machine, 2, now) == [Verdict.NOTHING] * 2
    assert machine.contested
    machine = contention(left=[now - 1.0] * (MAX_DRAWS - 1) + [now - DRAWS_PERIOD])
    contradict(machine, CONTRADICTIONS)
    assert contradict(machine, 1, now) == [Verdict.LEAVE]
    assert machine.left == [now - 1.0] * (MAX_DRAWS - 1) + [now]


def test_when_the_other_member_has_gone_nothing_is_kept() -> None:
    machine = contention()
    contradict(machine, CONTRADICTIONS)
    contradict(machine, 1, START + 1)
    assert machine.deadline == START + 1 + QUIET
    machine.expired(START + QUIET)
    assert machine.contested
    machine.expired(START + 1 + QUIET)
    assert not machine.contested and machine.deadline is None
    assert contradict(machine, CONTRADICTIONS - 1, START + 1 + QUIET) == [Verdict.NOTHING] * (
        CONTRADICTIONS - 1
    )
