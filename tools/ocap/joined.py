"""Joined datagrams: what one send with UDP_SEGMENT looks like where a capture is taken before the kernel, or the card, splits it. Runs in the tool.

All datagrams of such a packet have the size of the first, except the last, which may be smaller. No field tells the size. But every
datagram begins with the endpoint id of a flow at the receiver: the size is the smallest at which all of them do.
"""

from __future__ import annotations

from collections.abc import Callable

from ipcpd.wire import udp
from ouroboros.wire import MAX_EID

EID = 4  # octets


def split(octets: bytes, known: Callable[[int], bool]) -> list[bytes]:
    """The datagrams that are joined in these octets; one, if they are none or one. `known`: whether a flow has this endpoint id.

    Two datagrams are told from one only by a flow that is known, because application data may happen to contain an endpoint id.
    """
    first = _eid(octets, 0)
    if first == udp.MANAGEMENT or first > MAX_EID:
        return [octets]
    for size in range(EID + 1, len(octets) - EID + 1):
        if octets[size] or not _begins(octets, size, first, known):
            continue
        starts = range(0, len(octets), size)
        whole = len(octets) - starts[-1] >= EID
        if whole and all(_begins(octets, at, first, known) for at in starts[1:]):
            if len(starts) > 2 or known(_eid(octets, size)):
                return [octets[at : at + size] for at in starts]
    return [octets]


def _begins(octets: bytes, at: int, first: int, known: Callable[[int], bool]) -> bool:
    eid = _eid(octets, at)
    return eid == first or (0 < eid <= MAX_EID and known(eid))


def _eid(octets: bytes, at: int) -> int:
    return int.from_bytes(octets[at : at + EID], "big")
