"""Quantiles of samples: nearest rank, so that a percentile is always a value that was measured."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile of values in ascending order.

    Raises ValueError for no values, or for a percentage outside 0..100.
    """
    if not ordered:
        raise ValueError("no samples: a percentile needs at least one")
    if not 0 <= percent <= 100:
        raise ValueError(f"percentile {percent} is not within 0..100")
    # Rounded first: 0.07 * 100 is a little above 7 in binary, and would otherwise be rank 8.
    rank = ceil(round(len(ordered) * percent / 100, 9))
    return ordered[max(rank, 1) - 1]


def median(values: Sequence[float]) -> float:
    """The middle value; the mean of the two middle ones of an even number."""
    ordered = sorted(values)
    if not ordered:
        raise ValueError("no samples: a median needs at least one")
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2
