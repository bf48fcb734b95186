"""Packets and bytes over a time, and the lines ocbr prints about them (docs/reference/ocbr.md). Pure."""

DEFAULT_SIZE = 1000
"""Octets of a packet by default; less on a flow that carries less."""


class Counter:
    """Packets and octets since `start` (ns of the monotonic clock)."""

    __slots__ = ("octets", "packets", "start")

    def __init__(self, start: int) -> None:
        self.start = start
        self.packets = 0
        self.octets = 0

    def add(self, packets: int, octets: int) -> None:
        """Count some more."""
        self.packets += packets
        self.octets += octets

    def sent_line(self, now: int) -> str:
        """The client's summary."""
        milliseconds = (now - self.start) // 1_000_000
        return (
            f"sent statistics: {self.packets:9d} packets, {self.octets:12d} bytes "
            f"in {milliseconds:9d} ms, {self._bits_per_second(now) / 1e6:4.4f} Mb/s"
        )

    def received_line(self, fd: int, now: int) -> str:
        """The server's line for one interval of the flow `fd`."""
        milliseconds = (now - self.start) // 1_000_000
        return (
            f"Flow {fd:4d}: {self.packets:9d} packets ({self.octets:12d} bytes) in {milliseconds:9d} ms "
            f"=> {self._packets_per_second(now):9.4f} pps, {self._bits_per_second(now) / 1e6:9.4f} Mbps"
        )

    def to_json(self, now: int) -> dict[str, float]:
        """The same as JSON."""
        return {
            "packets": self.packets,
            "bytes": self.octets,
            "time_ms": (now - self.start) / 1e6,
            "packets_per_second": self._packets_per_second(now),
            "bits_per_second": self._bits_per_second(now),
        }

    def _packets_per_second(self, now: int) -> float:
        return self.packets * 1e9 / max(1, now - self.start)

    def _bits_per_second(self, now: int) -> float:
        return self.octets * 8e9 / max(1, now - self.start)
