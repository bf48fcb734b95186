"""Running statistics in bounded memory.

`Running` keeps minimum, mean, maximum and deviation (Welford's method); `Histogram` answers percentiles
from log-linear buckets: 128 linear buckets for every power of two, so that a percentile is wrong by less
than one percent whatever the range, and a test of any length takes the same memory. Pure; runs in the tools.
"""

from math import sqrt

_SUB_BITS = 7
_SUB = 1 << _SUB_BITS
_TOP_BITS = 64  # values are nanoseconds in 64 bits


class Running:
    """Minimum, mean, maximum and sample deviation of the values seen so far, in the unit of the values."""

    __slots__ = ("_squares", "count", "maximum", "mean", "minimum")

    def __init__(self) -> None:
        self.count = 0
        self.minimum = 0.0
        self.maximum = 0.0
        self.mean = 0.0
        self._squares = 0.0

    def add(self, value: float) -> None:
        """Take one more value."""
        if not self.count or value < self.minimum:
            self.minimum = value
        if not self.count or value > self.maximum:
            self.maximum = value
        self.count += 1
        delta = value - self.mean
        self.mean += delta / self.count
        self._squares += delta * (value - self.mean)

    @property
    def deviation(self) -> float:
        """Standard deviation of a sample (the `mdev` of a ping); 0 for fewer than two values."""
        if self.count < 2:
            return 0.0
        return sqrt(max(0.0, self._squares / (self.count - 1)))


class Histogram:
    """Counts of non-negative 64-bit integers in buckets less than 1 % wide."""

    __slots__ = ("_buckets", "count", "maximum", "minimum")

    def __init__(self) -> None:
        self._buckets = [0] * ((_TOP_BITS - _SUB_BITS + 1) * _SUB)
        self.count = 0
        self.minimum = 0
        self.maximum = 0

    def add(self, value: int) -> None:
        """Count `value`; a negative value counts as 0, one of more than 64 bits as the largest."""
        value = min(max(value, 0), (1 << _TOP_BITS) - 1)
        if not self.count or value < self.minimum:
            self.minimum = value
        if value > self.maximum:
            self.maximum = value
        self.count += 1
        self._buckets[_bucket_of(value)] += 1

    def percentile(self, percent: float) -> int:
        """The value that `percent` of the values do not exceed (0 < percent <= 100); 0 without values."""
        if not self.count:
            return 0
        rank = max(1, -int(-self.count * percent // 100))
        seen = 0
        for index, number in enumerate(self._buckets):
            seen += number
            if seen >= rank:
                return min(max(_middle_of(index), self.minimum), self.maximum)
        return self.maximum


def _bucket_of(value: int) -> int:
    if value < _SUB:
        return value
    shift = value.bit_length() - _SUB_BITS - 1
    return (shift + 1) * _SUB + (value >> shift) - _SUB


def _middle_of(index: int) -> int:
    if index < _SUB:
        return index
    shift = index // _SUB - 1
    low = (index % _SUB + _SUB) << shift
    return low + ((1 << shift) >> 1)
