"""One line per second about a running test, on a terminal only."""

import sys

from .results import rate

_PERIOD_NS = 1_000_000_000


class Progress:
    """Prints how much was sent since the last line; `enabled` is false for JSON and for pipes."""

    __slots__ = ("_enabled", "_last", "_octets", "_packets", "_start", "next_at")

    def __init__(self, *, enabled: bool, start: int) -> None:
        self._enabled = enabled
        self._start = start
        self._last = start
        self._packets = 0
        self._octets = 0
        #: When the next line is due, ns of the monotonic clock.
        self.next_at = start + _PERIOD_NS

    def tick(self, now: int, packets: int, octets: int) -> None:
        """Print the difference to the totals at `now`; called when `next_at` is reached."""
        elapsed = now - self._last
        if self._enabled:
            print(
                f"[{(now - self._start) / 1e9:6.1f} s] {rate(packets - self._packets, elapsed):.0f} packets/s, "
                f"{rate((octets - self._octets) * 8, elapsed) / 1e6:.3f} Mb/s",
                flush=True,
            )
        self._last, self._packets, self._octets = now, packets, octets
        self.next_at += _PERIOD_NS * (1 + (now - self.next_at) // _PERIOD_NS)


def wanted(as_json: bool) -> bool:
    """Whether the output is for a person: a terminal, and no JSON."""
    return not as_json and sys.stdout.isatty()
