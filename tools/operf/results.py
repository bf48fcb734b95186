"""Results of a test, as text and as JSON. Pure."""

from ..sequence import loss_percent
from ..stats import Histogram
from .wire import Kind, Report

_PERCENTILES = (50, 90, 99, 99.9)
_NS_PER_MS = 1e6


class Results:
    """Both ends of one test. `report` is the server's, None when it never arrived; `echoes` counts the returned packets."""

    __slots__ = ("echoes", "elapsed_ns", "kind", "name", "octets", "packets", "report", "rtt", "size")

    def __init__(self, name: str, kind: Kind, size: int) -> None:
        self.name = name
        self.kind = kind
        self.size = size
        self.packets = 0
        self.octets = 0
        self.elapsed_ns = 0
        self.report: Report | None = None
        self.echoes: Report | None = None
        self.rtt = Histogram()

    @property
    def received(self) -> Report | None:
        """The packets that completed the tested way: to the server, or there and back."""
        return self.report if self.kind is Kind.UNIDIRECTIONAL else self.echoes

    def render(self) -> str:
        """The lines for a person."""
        lines = [f"--- {self.name} perf statistics ---", self._summary(), "sender:   " + self._sender_line()]
        if self.report is not None:
            lines.append("receiver: " + receiver_line(self.report))
        if self.echoes is not None:
            lines.append("echoes:   " + receiver_line(self.echoes))
        if self.rtt.count:
            lines.append(self._rtt_line())
        return "\n".join(lines)

    def to_json(self) -> dict[str, object]:
        """The same as JSON; an unknown value is null."""
        received = self.received
        lost = None if received is None else max(0, self.packets - received.packets)
        return {
            "name": self.name,
            "test": "uni" if self.kind is Kind.UNIDIRECTIONAL else "bi",
            "size": self.size,
            "sender": _rates_json(self.packets, self.octets, self.elapsed_ns),
            "receiver": _report_json(self.report),
            "echoes": _report_json(self.echoes),
            "lost": lost,
            "loss_percent": None if lost is None else 100 * lost / max(1, self.packets),
            "rtt_ms": self._rtt_json() if self.rtt.count else None,
        }

    def _summary(self) -> str:
        received = self.received
        time = f"time: {self.elapsed_ns / _NS_PER_MS:.3f} ms"
        if received is None:
            return f"{self.packets} packets transmitted, no report received, {time}"
        bandwidth = rate(received.octets * 8, received.elapsed_ns) / 1e6
        return (
            f"{self.packets} packets transmitted, {received.packets} received, "
            f"{loss_percent(self.packets, received.packets)}% packet loss, {time}, bandwidth: {bandwidth:.3f} Mb/s."
        )

    def _sender_line(self) -> str:
        return traffic_line(self.packets, self.octets, self.elapsed_ns)

    def _rtt_line(self) -> str:
        names = "/".join(f"p{percent:g}" for percent in _PERCENTILES)
        values = "/".join(f"{self.rtt.percentile(percent) / _NS_PER_MS:.3f}" for percent in _PERCENTILES)
        return f"rtt {names}/max = {values}/{self.rtt.maximum / _NS_PER_MS:.3f} ms"

    def _rtt_json(self) -> dict[str, float]:
        percentiles = {f"p{percent:g}": self.rtt.percentile(percent) / _NS_PER_MS for percent in _PERCENTILES}
        return {
            "min": self.rtt.minimum / _NS_PER_MS,
            **percentiles,
            "max": self.rtt.maximum / _NS_PER_MS,
        }


def rate(amount: int, elapsed_ns: int) -> float:
    """Amount per second; 0 when no time passed (a single packet has no rate)."""
    return amount * 1e9 / elapsed_ns if elapsed_ns > 0 else 0.0


def traffic_line(packets: int, octets: int, elapsed_ns: int) -> str:
    """Packets, bytes, time and rates."""
    return (
        f"{packets} packets ({octets} bytes) in {elapsed_ns / _NS_PER_MS:.3f} ms, "
        f"{rate(packets, elapsed_ns):.0f} packets/s, {rate(octets * 8, elapsed_ns) / 1e6:.3f} Mb/s"
    )


def receiver_line(report: Report) -> str:
    """A receiver's counters in one line."""
    line = traffic_line(report.packets, report.octets, report.elapsed_ns)
    return f"{line}, {report.out_of_order} out-of-order, {report.duplicates} duplicates"


def _rates_json(packets: int, octets: int, elapsed_ns: int) -> dict[str, float]:
    return {
        "packets": packets,
        "bytes": octets,
        "time_ms": elapsed_ns / _NS_PER_MS,
        "packets_per_second": rate(packets, elapsed_ns),
        "bits_per_second": rate(octets * 8, elapsed_ns),
    }


def _report_json(report: Report | None) -> dict[str, float] | None:
    if report is None:
        return None
    return report_json(report)


def report_json(report: Report) -> dict[str, float]:
    """A receiver's counters as JSON."""
    return {
        **_rates_json(report.packets, report.octets, report.elapsed_ns),
        "out_of_order": report.out_of_order,
        "duplicates": report.duplicates,
    }
