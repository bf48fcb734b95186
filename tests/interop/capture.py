"""The contents of a capture of prototypes, flow by flow: decoded by hand, not with this project's codecs (`tests/vectors`).

Used by the tests that replay captures. Knows eth-dix with ethertype 0xA000 and UDP on port 3435; VLANs, fragments and options of IP are
in none.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

VECTORS = Path(__file__).resolve().parents[1] / "vectors"


@dataclass(frozen=True, slots=True)
class Sent:
    """A packet of the lower layer: its sender, its endpoint id, and its octets."""

    source: bytes
    eid: int
    payload: bytes
    frame: bytes


def frames(name: str) -> Iterator[bytes]:
    """The frames of a capture, in order."""
    octets = (VECTORS / name).read_bytes()
    order = "<" if octets[:4] in (b"\xd4\xc3\xb2\xa1", b"\x4d\x3c\xb2\xa1") else ">"
    at = 24
    while at < len(octets):
        length = struct.unpack_from(f"{order}I", octets, at + 8)[0]
        yield octets[at + 16 : at + 16 + length]
        at += 16 + length


def sent(name: str) -> list[Sent]:
    """The prototypes' packets over an eth-dix or a udp4 layer."""
    found = []
    for frame in frames(name):
        ethertype = frame[12:14]
        if ethertype == b"\xa0\x00":
            eid, length = struct.unpack_from(">HH", frame, 14)
            found.append(Sent(frame[6:12], eid, frame[18 : 18 + length], frame))
        elif ethertype == b"\x08\x00" and frame[23] == 17:
            (length,) = struct.unpack_from(">H", frame, 38)
            datagram = frame[42 : 34 + length]
            (eid,) = struct.unpack_from(">I", datagram)
            found.append(Sent(frame[26:30], eid, datagram[4:], frame))
    return found


def conversation(name: str) -> list[Sent]:
    """Without what allocates flows."""
    return [packet for packet in sent(name) if packet.eid]
