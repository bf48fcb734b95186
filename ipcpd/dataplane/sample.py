"""Sample of a path: the content of one report of a neighbour, in the record of the packet thread (`src/path.h`; spec/path). Pure."""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct

_SAMPLE = Struct("=II3q4Q2I")  # struct path_sample
_SECOND = 1e9


@dataclass(frozen=True, slots=True)
class Sample:
    """One report. Times in seconds; `marked` and `now` by the clock of this end, `arrived` by that of the neighbour."""

    now: float
    marked: float
    arrived: float
    sent_packets: int
    sent_octets: int
    arrived_packets: int
    arrived_octets: int
    busy: bool = True
    """Packets waited for the pace."""
    held: bool = False
    """The device was full."""
    path: int = 0
    """The path's number in the data plane."""
    silent_ms: int = 0
    """For how long no report has arrived: then this is none, and has no counts."""

    @property
    def rtt(self) -> float:
        """Seconds."""
        return max(self.now - self.marked, 1e-6)


def decode_report(record: bytes) -> Sample:
    """A record that the packet thread handed over."""
    path, silent, *times, sent_packets, sent_octets, packets, octets, busy, held = _SAMPLE.unpack(record)
    now, marked, arrived = (time / _SECOND for time in times)
    counts = sent_packets, sent_octets, packets, octets
    return Sample(now, marked, arrived, *counts, bool(busy), bool(held), path, silent)
