"""Goals: ratios within one run, and verdicts."""

from __future__ import annotations

import pytest

from tests.bench.goal import GOALS, Goal, Sense, judge, ratio, table_of
from tests.bench.row import Mode, Row, What, row


def pps(mode: Mode, subject: str, value: float) -> Row:
    return row("direct", What.PPS, 64, mode, subject, value)


@pytest.mark.parametrize(
    ("sense", "below", "equal", "above"),
    [
        (Sense.AT_MOST, True, True, False),
        (Sense.BELOW, True, False, False),
        (Sense.AT_LEAST, False, True, True),
    ],
)
def test_sense(sense: Sense, below: bool, equal: bool, above: bool) -> None:
    assert [sense.holds(v, 10) for v in (9, 10, 11)] == [below, equal, above]


def test_ratio_of_single_calls() -> None:
    rows = table_of([pps(Mode.SINGLE, "ouroboros", 4e6), pps(Mode.SINGLE, "seqpacket", 8e5)])
    assert ratio(rows, ("direct", What.PPS, 64, Mode.SINGLE, "ouroboros"), "seqpacket") == pytest.approx(5)


def test_burst_is_compared_with_single_calls_of_those_that_have_no_burst() -> None:
    rows = table_of([pps(Mode.BURST, "ouroboros", 9e6), pps(Mode.SINGLE, "seqpacket", 1e6)])
    assert ratio(rows, ("direct", What.PPS, 64, Mode.BURST, "ouroboros"), "seqpacket") == pytest.approx(9)


def test_burst_is_compared_with_burst_where_there_is_one() -> None:
    rows = table_of(
        [pps(Mode.BURST, "ouroboros", 9e6), pps(Mode.SINGLE, "floor", 1e6), pps(Mode.BURST, "floor", 18e6)]
    )
    assert ratio(rows, ("direct", What.PPS, 64, Mode.BURST, "ouroboros"), "floor") == pytest.approx(0.5)


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [pps(Mode.SINGLE, "ouroboros", 1)],
        [pps(Mode.SINGLE, "seqpacket", 1)],
        [pps(Mode.SINGLE, "ouroboros", 1), pps(Mode.SINGLE, "seqpacket", 0)],
    ],
)
def test_no_ratio_where_one_is_missing_or_nothing_came(rows: list[Row]) -> None:
    assert ratio(table_of(rows), ("direct", What.PPS, 64, Mode.SINGLE, "ouroboros"), "seqpacket") is None
    assert judge(table_of(rows)) == {}


def test_verdicts_name_figure_and_outcome() -> None:
    rows = [
        pps(Mode.SINGLE, "ouroboros", 3.9e6),
        pps(Mode.BURST, "ouroboros", 10e6),
        pps(Mode.SINGLE, "seqpacket", 1e6),
        row("system", What.LIST_MS, 0, Mode.SINGLE, "ouroboros", 120),
        row("system", What.IDLE_CPU, 0, Mode.SINGLE, "ouroboros", 1),
    ]
    verdicts = {(k[1], k[3]): v for k, (v,) in judge(table_of(rows)).items()}
    assert {k: v.reached for k, v in verdicts.items()} == {
        (What.PPS, Mode.SINGLE): False,
        (What.PPS, Mode.BURST): True,
        (What.LIST_MS, Mode.SINGLE): True,
        (What.IDLE_CPU, Mode.SINGLE): False,
    }
    assert verdicts[(What.PPS, Mode.SINGLE)].figure == pytest.approx(3.9)


def test_no_row_has_two_goals_against_the_same() -> None:
    assert len({(g.key, g.against) for g in GOALS}) == len(GOALS)


def test_a_row_may_be_held_against_several() -> None:
    rows = [
        row("udp4", What.PPS, 64, Mode.BURST, subject, value)
        for subject, value in (("ouroboros", 5.0), ("udp_floor", 5.0), ("udp_gso", 10.0))
    ]
    (verdicts,) = judge(table_of(rows)).values()
    assert [(v.goal.against, v.reached) for v in verdicts] == [("udp_floor", True), ("udp_gso", False)]


def test_text_of_goals() -> None:
    ratio_goal = Goal("p", What.RTT_P50, 64, Mode.SINGLE, Sense.AT_MOST, 1 / 6, "seqpacket")
    plain_goal = Goal("p", What.LIST_MS, 0, Mode.SINGLE, Sense.AT_MOST, 120)
    assert (ratio_goal.text, plain_goal.text) == ("<= 0.167x", "<= 120")
