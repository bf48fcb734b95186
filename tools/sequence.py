"""The fate of numbered packets: received, lost, late or doubled.

A sender numbers its packets 0, 1, 2 ...; the receiver passes each number that arrives to a `Sequence`. It remembers
skipped numbers as ranges (the newest GAPS of them), which distinguishes a late packet from one that arrived twice. The
cost of a packet does not depend on the number in it. Pure; runs in oping's client and at both ends of operf.
"""

from bisect import bisect_right
from enum import Enum

GAPS = 1 << 14
"""Ranges of missing numbers that are remembered; beyond, the oldest are forgotten."""

_FORGET = (
    GAPS // 8
)  # ranges that are forgotten together: taking one from the front of a list costs as much as taking many

_HALF32 = 1 << 31


class Arrival(Enum):
    """How a packet arrived."""

    IN_ORDER = 0
    OUT_OF_ORDER = 1
    DUPLICATE = 2


class Sequence:
    """Bookkeeping of one numbered stream.

    `received` counts each number once, `expected` is one above the highest number seen.
    """

    __slots__ = ("_ends", "_forgotten", "_starts", "duplicates", "expected", "out_of_order", "received")

    def __init__(self) -> None:
        self.expected = 0
        self.received = 0
        self.out_of_order = 0
        self.duplicates = 0
        self._starts: list[int] = []  # of the ranges of missing numbers, ascending
        self._ends: list[int] = []  # one above the last number of each
        self._forgotten = 0  # it is not known which numbers below this one are missing

    def arrived(self, number: int) -> Arrival:
        """Take note of packet `number`."""
        if number == self.expected:
            self.expected += 1
            self.received += 1
            return Arrival.IN_ORDER
        if number > self.expected:
            self._skip_to(number)
            self.expected = number + 1
            self.received += 1
            return Arrival.IN_ORDER
        if not self._found(number) and number >= self._forgotten:
            self.duplicates += 1
            return Arrival.DUPLICATE
        self.received += 1
        self.out_of_order += 1
        return Arrival.OUT_OF_ORDER

    def _skip_to(self, number: int) -> None:
        self._starts.append(self.expected)
        self._ends.append(number)
        self._bound()

    def _found(self, number: int) -> bool:
        """Whether the number was missing; it no longer is."""
        at = bisect_right(self._starts, number) - 1
        if at < 0 or number >= self._ends[at]:
            return False
        start, end = self._starts[at], self._ends[at]
        if start < number:
            self._ends[at] = number
            if number + 1 < end:
                self._starts.insert(at + 1, number + 1)
                self._ends.insert(at + 1, end)
                self._bound()
        elif number + 1 < end:
            self._starts[at] = number + 1
        else:
            del self._starts[at], self._ends[at]
        return True

    def _bound(self) -> None:
        if len(self._starts) > GAPS:
            self._forgotten = self._ends[_FORGET - 1]
            del self._starts[:_FORGET], self._ends[:_FORGET]


def unwrap32(number: int, near: int) -> int:
    """The full number whose low 32 bits are `number` and that lies closest to `near`; may be negative."""
    return near + (number - near + _HALF32) % (1 << 32) - _HALF32


def loss_percent(sent: int, received: int) -> int:
    """Loss in whole percent, rounded up, so that 0 % means that nothing was lost (paper Listing 5)."""
    if sent <= 0 or received >= sent:
        return 0
    return -(-100 * (sent - received) // sent)
