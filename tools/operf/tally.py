"""A receiver's counters of a stream of DATA (or ECHO) packets. Pure; a thread of the server, or the client."""

from ..sequence import Arrival, Sequence
from .wire import HEADER, TYPE_AND_NUMBER, Report, Type


class Tally:
    """Counts packets of one type by their numbers."""

    __slots__ = ("_first_ns", "_last_ns", "_type", "octets", "sequence")

    def __init__(self, kind: Type) -> None:
        self._type = int(kind)
        self._first_ns = 0
        self._last_ns = 0
        self.octets = 0
        self.sequence = Sequence()

    def take(self, packets: list[bytes], now: int) -> list[bytes]:
        """Count the packets of this tally's type, which arrived at `now` (ns); return the others."""
        sequence = self.sequence
        others = []
        octets = 0
        for packet in packets:
            if len(packet) < HEADER.size:
                others.append(packet)
                continue
            kind, number = TYPE_AND_NUMBER.unpack_from(packet)
            if kind != self._type:
                others.append(packet)
            elif number == sequence.expected:  # Sequence.arrived in line: this is most of a flood's cost
                sequence.expected = number + 1
                sequence.received += 1
                octets += len(packet)
            elif sequence.arrived(number) is not Arrival.DUPLICATE:
                octets += len(packet)
        if len(others) < len(packets):
            self._last_ns = now
            self._first_ns = self._first_ns or now
        self.octets += octets
        return others

    def report(self) -> Report:
        """The counters so far."""
        sequence = self.sequence
        return Report(
            packets=sequence.received,
            octets=self.octets,
            out_of_order=sequence.out_of_order,
            duplicates=sequence.duplicates,
            elapsed_ns=self._last_ns - self._first_ns,
        )
