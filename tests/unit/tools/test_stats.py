"""tools/stats.py against the standard library and against sorted lists."""

import statistics

from hypothesis import given
from hypothesis import strategies as st
from ouroboros_tools.stats import Histogram, Running
from pytest import approx


@given(st.lists(st.floats(0, 1e9), min_size=2, max_size=200))
def test_running_agrees_with_the_standard_library(values: list[float]) -> None:
    running = Running()
    for value in values:
        running.add(value)
    assert running.minimum == min(values)
    assert running.maximum == max(values)
    assert running.mean == approx(statistics.fmean(values), abs=1e-3)
    assert running.deviation == approx(statistics.stdev(values), rel=1e-6, abs=1e-3)


def test_deviation_of_listing_14() -> None:
    running = Running()
    for value in (1.166, 1.083, 1.158, 1.136):
        running.add(value)
    assert f"{running.deviation:.3f}" == "0.037"


def test_one_sample_deviates_by_nothing() -> None:
    running = Running()
    running.add(5)
    assert running.deviation == 0


@given(
    st.lists(st.integers(0, (1 << 64) - 1), min_size=1, max_size=300),
    st.sampled_from([1, 50, 90, 99, 99.9, 100]),
)
def test_percentile_is_within_one_percent(values: list[int], percent: float) -> None:
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    ordered = sorted(values)
    exact = ordered[max(1, -int(-len(values) * percent // 100)) - 1]
    assert abs(histogram.percentile(percent) - exact) <= exact / 100
    assert ordered[0] <= histogram.percentile(percent) <= ordered[-1]


def test_values_out_of_range_are_clamped() -> None:
    histogram = Histogram()
    histogram.add(-5)
    histogram.add(1 << 70)
    assert histogram.percentile(50) == 0
    assert histogram.maximum == (1 << 64) - 1


def test_nothing_has_no_percentile() -> None:
    assert Histogram().percentile(99) == 0
