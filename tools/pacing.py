"""When the next packet of a constant-rate stream is due.

The due times lie on a straight line from the start, so that rounding and a late wake-up do not change the
average rate. A sender that falls behind by more than `_SLACK_NS` does not catch up with a burst: the line
moves. Pure: time is an argument (nanoseconds of the monotonic clock); used by ocbr and operf.
"""

_SLACK_NS = 100_000_000


class Pacer:
    """Due times of packets of `size` bytes at `bits_per_second`, the first at `start` ns."""

    __slots__ = ("_gap", "_origin", "_sent")

    def __init__(self, *, size: int, bits_per_second: float, start: int) -> None:
        self._gap = 8e9 * size / bits_per_second
        self._origin = float(start)
        self._sent = 0

    @property
    def next_at(self) -> int:
        """When the next packet is due, in ns."""
        return int(self._origin + self._sent * self._gap)

    def sent(self, now: int, packets: int = 1) -> None:
        """`packets` left at `now`."""
        self._sent += packets
        behind = now - self.next_at
        if behind > _SLACK_NS:
            self._origin += behind - _SLACK_NS
