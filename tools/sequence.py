"""What became of numbered packets: received, lost, late or doubled.

A sender numbers its packets 0, 1, 2 ...; the receiver tells a `Sequence` each number that arrives. The
numbers that were skipped are remembered (the newest 65536 of them), so that a late packet is told from
one that came twice in bounded memory. Pure; runs in oping's client and at both ends of operf.
"""

from enum import Enum

_REMEMBERED_GAPS = 1 << 16
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

    __slots__ = ("_forgotten", "_missing", "duplicates", "expected", "out_of_order", "received")

    def __init__(self) -> None:
        self.expected = 0
        self.received = 0
        self.out_of_order = 0
        self.duplicates = 0
        self._missing: dict[int, None] = {}  # in ascending order of insertion
        self._forgotten = 0  # gaps below this number are no longer known

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
        if number in self._missing:
            del self._missing[number]
        elif number >= self._forgotten:
            self.duplicates += 1
            return Arrival.DUPLICATE
        self.received += 1
        self.out_of_order += 1
        return Arrival.OUT_OF_ORDER

    def _skip_to(self, number: int) -> None:
        first = max(self.expected, number - _REMEMBERED_GAPS)
        if first > self.expected:
            self._missing.clear()
            self._forgotten = first
        for skipped in range(first, number):
            self._missing[skipped] = None
        while len(self._missing) > _REMEMBERED_GAPS:
            oldest = next(iter(self._missing))
            del self._missing[oldest]
            self._forgotten = oldest + 1


def unwrap32(number: int, near: int) -> int:
    """The full number whose low 32 bits are `number` and that lies closest to `near`; may be negative."""
    return near + (number - near + _HALF32) % (1 << 32) - _HALF32


def loss_percent(sent: int, received: int) -> int:
    """Loss in whole percent, rounded up, so that 0 % means that nothing was lost (paper Listing 5)."""
    if sent <= 0 or received >= sent:
        return 0
    return -(-100 * (sent - received) // sent)
