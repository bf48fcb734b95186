"""Raw: this library, a flow without FRCP (QOS_RAW) over the same path as the flow of data that it stands beside.

Data larger than the path's maximum are sent as packets of the maximum size, the last one smaller: a figure then counts
groups of packets with that number of octets.
"""

from __future__ import annotations

from typing import Any

from tests.bench.subjects.ouroboros import FlowEnd, Ouroboros
from tests.bench.subjects.subject import Calls


def pieces(size: int, largest: int) -> list[bytes]:
    """Packets of at most `largest` octets that have `size` octets together."""
    whole, rest = divmod(size, largest)
    return [bytes(largest)] * whole + ([bytes(rest)] if rest else [])


class RawEnd(FlowEnd):
    """One end of a raw flow."""

    def calls(self, size: int) -> Calls:
        """As of any flow; in pieces where it must be."""
        calls = super().calls(size)
        if size <= self._flow.max_packet:
            return calls
        return in_pieces(self._flow, size, calls.window)


class Raw(Ouroboros):
    """A raw flow; the path provides the wiring."""

    name = "raw"
    end = RawEnd


def in_pieces(flow: Any, size: int, window: int) -> Calls:
    """Calls for `size` octets at a time, on a flow whose packets are smaller. The window is of as many packets."""
    packets = pieces(size, flow.max_packet)
    each = len(packets)
    begun = 0  # packets of a whole that has not come whole

    def readv(count: int) -> int:
        nonlocal begun
        whole, begun = divmod(begun + len(flow.readv(count * each - begun)), each)
        return whole

    def recv(room: None) -> None:
        left = each
        while left:
            left -= len(flow.readv(left))

    return Calls(
        lambda packet: flow.writev(packets),
        recv,
        None,
        writev=lambda batch: flow.writev(packets * len(batch)) // each,
        readv=readv,
        window=max(window // each, 2) & ~1 if window else 0,
    )
