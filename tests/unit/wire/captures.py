"""The captures of the C prototype in tests/vectors, dissected. A capture that is missing fails the tests that need it."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from ouroboros_tools.ocap import pcap
from ouroboros_tools.ocap.dissect import Dissector
from ouroboros_tools.ocap.layer import Packet

VECTORS = Path(__file__).resolve().parents[2] / "vectors"

# Every capture, and how many packets it has: a file that is cut or lost is noticed.
CAPTURES = {
    "bc4-ab.pcap": 17,
    "bc4-bc.pcap": 15,
    "c-reply-misaddressed-eth-dix.pcap": 7,
    "c-reply-misaddressed-eth-llc.pcap": 39,
    "c-stale-directory-after-restart.pcap": 259,
    "c-stale-forwarding-after-reconnect.pcap": 300,
    "e1.pcap": 8,
    "enc.pcap": 6,
    "eth-dix-alloc.pcap": 6,
    "eth-llc.pcap": 8,
    "h1.pcap": 10,
    "h2.pcap": 6,
    "h5.pcap": 9,
    "mixed-broadcast.pcap": 39,
    "mixed-encryption-certificates.pcap": 968,
    "mixed-unicast-c-boots-ours-enrols.pcap": 250,
    "n1.pcap": 3,
    "oping-eth.pcap": 49,
    "qos.pcap": 27,
    "t2.pcap": 14,
    "t3.pcap": 14,
    "u2.pcap": 4,
    "udp4.pcap": 10,
    "uni4-ab.pcap": 60,
    "uni4-bc.pcap": 61,
    "unicast-enroll-eth.pcap": 45,
}

MISADDRESSED = {
    "c-reply-misaddressed-eth-dix.pcap": [4],
    "c-reply-misaddressed-eth-llc.pcap": [14],
    "mixed-encryption-certificates.pcap": [622, 678, 945],
}
"""Replies of a prototype to an address that it had not stored yet: malformed, and the only packets that are."""


@cache
def dissected(name: str) -> tuple[Packet, ...]:
    """The packets of a capture."""
    dissector = Dissector()
    with open(VECTORS / name, "rb") as file:
        return tuple(dissector.dissect(captured) for captured in pcap.read(file, name))


def values(kind: type, *names: str) -> list[object]:
    """What layers of all captures (or of these) were decoded to, where it is of that type."""
    packets = (packet for name in names or CAPTURES for packet in dissected(name))
    return [layer.value for packet in packets for layer in packet.layers if isinstance(layer.value, kind)]
