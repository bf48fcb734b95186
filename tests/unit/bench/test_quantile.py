"""Quantiles: nearest rank, against their definition."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.bench.quantile import median, percentile

SAMPLES = st.lists(st.integers(0, 10**9), min_size=1, max_size=300)


@given(SAMPLES, st.integers(0, 100))
def test_percentile_is_the_least_value_that_covers_the_share(samples: list[int], percent: int) -> None:
    samples.sort()
    value = percentile(samples, percent)
    assert value in samples
    assert sum(s <= value for s in samples) * 100 >= percent * len(samples)
    below = [s for s in samples if s < value]
    assert not below or len(below) * 100 < percent * len(samples)


def test_percentiles_of_a_hundred_are_themselves() -> None:
    assert [percentile(range(1, 101), p) for p in (0, 1, 7, 50, 99, 100)] == [1, 1, 7, 50, 99, 100]


@given(SAMPLES)
def test_median_has_as_many_below_as_above(samples: list[int]) -> None:
    value = median(samples)
    assert sum(s < value for s in samples) * 2 <= len(samples)
    assert sum(s > value for s in samples) * 2 <= len(samples)


def test_median_of_an_even_number_lies_between() -> None:
    assert median([4, 1, 3, 2]) == 2.5


def test_no_samples_is_an_error() -> None:
    with pytest.raises(ValueError, match="no samples"):
        percentile([], 50)
    with pytest.raises(ValueError, match="no samples"):
        median([])


@pytest.mark.parametrize("percent", [-1, 101])
def test_percentage_out_of_range_is_an_error(percent: int) -> None:
    with pytest.raises(ValueError, match="not within"):
        percentile([1], percent)
