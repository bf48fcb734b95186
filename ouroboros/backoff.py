"""Backoff: growing pauses between attempts to do something again.

A library module of the daemons; pure: the caller sleeps.
"""

from __future__ import annotations

from typing import NamedTuple


class Backoff(NamedTuple):
    """Pauses in seconds: the first, doubled after each attempt, up to the longest."""

    first: float = 0.5
    most: float = 30.0

    def after(self, attempt: int) -> float:
        """The pause after the attempt with this number, from 0 up."""
        return min(self.first * 2.0 ** min(attempt, 32), self.most)

    def with_jitter(self, attempt: int, share: float) -> float:
        """Half of that pause, and `share` (0 to 1) of the other half: parties that failed together do not try again together."""
        return self.after(attempt) * (1 + share) / 2
