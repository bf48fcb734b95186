"""Results of oping's client, and their printed form (docs/reference/oping.md, paper Listings 5 and 14). Pure."""

from ..program import warn_of_peer
from ..sequence import Arrival, Sequence, loss_percent, unwrap32
from ..stats import Histogram, Running

_NS_PER_MS = 1e6


class Statistics:
    """Counters and round-trip times of one run."""

    __slots__ = ("_histogram", "_rtt", "_sequence", "name", "resent", "size", "transmitted")

    def __init__(self, name: str, size: int) -> None:
        self.name = name
        self.size = size
        self.transmitted = 0
        self.resent: int | None = None
        """Packets that were sent again on the way there; None on a flow that does not retransmit."""
        self._sequence = Sequence()
        self._rtt = Running()
        self._histogram = Histogram()

    @property
    def received(self) -> int:
        """Replies, each number counted once."""
        return self._sequence.received

    def reply(self, number: int, rtt_ns: int) -> str | None:
        """Take note of a reply; the line to print, or None when this number was never sent."""
        sequence = unwrap32(number, self._sequence.expected)
        if not 0 <= sequence < self.transmitted:
            return None
        arrival = self._sequence.arrived(sequence)
        if arrival is not Arrival.DUPLICATE:
            self._rtt.add(rtt_ns / _NS_PER_MS)
            self._histogram.add(rtt_ns)
        note = _NOTES[arrival]
        return f"{self.size} bytes from {self.name}: seq={sequence} time={rtt_ns / _NS_PER_MS:.3f} ms{note}"

    def render(self, elapsed_ns: int) -> str:
        """The closing lines."""
        loss = loss_percent(self.transmitted, self.received)
        lines = [
            "",
            f"--- {self.name} ping statistics ---",
            f"{self.transmitted} packets transmitted, {self.received} received, "
            f"{self._sequence.out_of_order} out-of-order, {loss}% packet loss, "
            f"time: {elapsed_ns / _NS_PER_MS:.3f} ms",
        ]
        rtt = self._rtt
        if rtt.count:
            lines.append(
                f"rtt min/avg/max/mdev = "
                f"{rtt.minimum:.3f}/{rtt.mean:.3f}/{rtt.maximum:.3f}/{rtt.deviation:.3f} ms"
            )
        if self.resent:
            lines.append(f"{self.resent} packets sent again")
        return "\n".join(lines)

    def to_json(self, elapsed_ns: int) -> dict[str, object]:
        """The same, and percentiles, as JSON; `rtt_ms` is null when there was no reply."""
        lost = max(0, self.transmitted - self.received)
        return {
            "name": self.name,
            "size": self.size,
            "transmitted": self.transmitted,
            "received": self.received,
            "out_of_order": self._sequence.out_of_order,
            "duplicates": self._sequence.duplicates,
            "resent": self.resent,
            "loss_percent": 100 * lost / self.transmitted if self.transmitted else 0.0,
            "time_ms": elapsed_ns / _NS_PER_MS,
            "rtt_ms": self._rtt_json() if self._rtt.count else None,
        }

    def _rtt_json(self) -> dict[str, float]:
        rtt = self._rtt
        percentiles = {
            f"p{percent:g}": self._histogram.percentile(percent) / _NS_PER_MS
            for percent in (50, 90, 99, 99.9)
        }
        return {
            "min": rtt.minimum,
            "avg": rtt.mean,
            "max": rtt.maximum,
            "mdev": rtt.deviation,
            **percentiles,
        }


_NOTES = {
    Arrival.IN_ORDER: "",
    Arrival.OUT_OF_ORDER: " [out-of-order]",
    Arrival.DUPLICATE: " [duplicate]",
}


def invalid_message(fd: int) -> None:
    """Report a packet that is not oping's."""
    warn_of_peer(f"Invalid message on fd {fd}.")
