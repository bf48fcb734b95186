"""The transfers that are measured, their order, and the handling of a subject that fails."""

from __future__ import annotations

from contextlib import ExitStack
from typing import cast

import pytest

from tests.bench.measure import burst_of
from tests.bench.pair import OneWay, Pair
from tests.bench.plan import Effort, Lane, by_path, run, tasks
from tests.bench.process import PeerError
from tests.bench.row import Mode, What


class FakePair:
    """A pair whose figures are numbers that we choose."""

    def __init__(self, log: list[str], name: str, pps: float = 1e5, breaks: bool = False) -> None:
        self.log, self.name, self.pps, self.breaks = log, name, pps, breaks
        self.starts = self.ends = 0

    def start(self, stack: ExitStack) -> Pair:
        self.starts += 1
        stack.callback(self.end)
        return cast(Pair, self)

    def end(self) -> None:
        self.ends += 1

    def round_trips(self, size: int, count: int) -> tuple[float, float]:
        self.log.append(self.name)
        if self.breaks:
            raise PeerError("gone")
        return 10.0, 20.0

    def paced(self, size: int, count: int, seconds: float) -> tuple[float, float]:
        self.log.append(self.name)
        return 40.0, 80.0

    def one_way(self, size: int, count: int, burst: bool) -> OneWay:
        self.log.append(self.name)
        if burst:
            assert count % burst_of(size) == 0
        return OneWay(self.pps, 1.5, count)


SIZES = (64, 1500, 65000)


def lane(pair: FakePair, paths: tuple[str, ...] = ("direct",), burst: bool = True) -> Lane:
    return Lane(pair.name, dict.fromkeys(paths, SIZES), pair.start, burst)


def ignore(text: str) -> None:
    """Neither progress nor failures matter here."""


def everything(what: What) -> bool:
    return True


def test_tasks_follow_what_is_wanted() -> None:
    assert not tasks(lambda what: what is What.LIST_MS, SIZES)
    only = tasks(lambda what: what is What.RTT_P99, SIZES)
    assert [(t.one_way, t.size, t.mode) for t in only] == [(False, s, Mode.SINGLE) for s in SIZES]
    assert len(tasks(everything, SIZES)) == 3 * len(SIZES) + 1


def test_subjects_take_turns_within_a_round() -> None:
    log: list[str] = []
    lanes = [lane(FakePair(log, n)) for n in "abc"]
    run(lanes, tasks(lambda what: what is What.RTT_P50, SIZES)[:1], Effort(3, 0.1), ignore, ignore)
    assert "".join(log) == "cba" + "abc" + "cba" + "abc"


def test_a_lane_measures_no_other_modes_than_its_paths_want() -> None:
    only = Lane(
        "ouroboros", {"data/direct": SIZES}, FakePair([], "a").start, True, modes=frozenset({Mode.BURST})
    )
    one_way = [task for task in tasks(everything, SIZES) if task.one_way]
    assert {task.mode for task in one_way if only.can(task)} == {Mode.BURST}
    assert len([task for task in one_way if only.can(task)]) == len(SIZES)


def test_rows_are_medians_and_stand_beside_every_path() -> None:
    log: list[str] = []
    shared = lane(FakePair(log, "seqpacket", pps=1e6), ("direct", "local"), burst=False)
    ours = lane(FakePair(log, "ouroboros", pps=4e6), ("local",))
    run([ours, shared], tasks(everything, SIZES), Effort(3, 0.1), ignore, pytest.fail)
    rows = by_path([ours, shared], everything)
    values = {(r.path, r.subject, r.what, r.mode): r.value for r in rows if r.size == 1500}
    assert values["direct", "seqpacket", What.PPS, Mode.SINGLE] == 1e6
    assert values["local", "seqpacket", What.PPS, Mode.SINGLE] == 1e6
    assert values["local", "ouroboros", What.GBPS, Mode.BURST] == pytest.approx(48)
    assert values["local", "ouroboros", What.RTT_P99, Mode.SINGLE] == 20
    assert ("direct", "ouroboros", What.PPS, Mode.SINGLE) not in values
    assert ("direct", "seqpacket", What.PPS, Mode.BURST) not in values
    assert [r.path for r in rows] == sorted((r.path for r in rows), key=["local", "direct"].index)


def test_a_measure_that_fails_is_reported_once_and_the_others_go_on() -> None:
    log: list[str] = []
    failures: list[str] = []
    pair = FakePair(log, "bad", breaks=True)
    bad, good = lane(pair), lane(FakePair(log, "good"))
    run(
        [bad, good],
        [t for t in tasks(everything, SIZES) if not t.paced][:2],
        Effort(2, 0.1),
        ignore,
        failures.append,
    )
    assert len(failures) == 1 and "bad" in failures[0] and "gone" in failures[0]
    assert {r.what for r in bad.rows(everything)} == {What.PPS, What.GBPS, What.CPU}
    assert (pair.starts, pair.ends) == (2, 1)  # its peers were ended after the failure, and started again
    assert {r.what for r in good.rows(everything)} == {
        What.RTT_P50,
        What.RTT_P99,
        What.PPS,
        What.GBPS,
        What.CPU,
    }
    bad.close()
    assert pair.ends == 2


def test_count_stays_within_bounds() -> None:
    effort = Effort(1, 0.5)
    assert [effort.count(rate, 10, 1000) for rate in (0, 100, 1e9)] == [10, 50, 1000]
