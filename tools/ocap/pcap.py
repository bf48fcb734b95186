"""Capture files: classic pcap, as tcpdump and dumpcap -P write it; `pcapng` reads those of the other format. Runs in the tool.

Both byte orders, micro- and nanoseconds; the link type has to be Ethernet. Every length in the file is checked before it is
used.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import BinaryIO

from ..program import ToolError
from . import pcapng
from .captured import ETHERNET, MAX_PACKET, Captured, cut, wrong_link_type

# The first four octets determine byte order and resolution (fractions of a second).
_MAGIC = {
    b"\xa1\xb2\xc3\xd4": (">", 1_000_000),
    b"\xd4\xc3\xb2\xa1": ("<", 1_000_000),
    b"\xa1\xb2\x3c\x4d": (">", 1_000_000_000),
    b"\x4d\x3c\xb2\xa1": ("<", 1_000_000_000),
}
_FILE_HEADER = 24


def read(file: BinaryIO, name: str) -> Iterator[Captured]:
    """The packets of an open capture file. Raises ToolError when it is none, or ends in the middle of a packet."""
    first = file.read(4)
    if first == pcapng.SECTION:
        yield from pcapng.read(file, name, first)
        return
    header = first + file.read(_FILE_HEADER - len(first))
    if len(header) < _FILE_HEADER or header[:4] not in _MAGIC:
        raise ToolError(f'"{name}" is not a pcap file')
    order, fractions = _MAGIC[header[:4]]
    link_type = int.from_bytes(header[20:24], "big" if order == ">" else "little") & 0x0FFFFFFF
    if link_type != ETHERNET:
        raise wrong_link_type(name, link_type)
    record, number = Struct(order + "IIII"), 0
    while head := file.read(record.size):
        number += 1
        if len(head) < record.size:
            raise cut(name, f"in the header of packet {number}")
        seconds, fraction, captured, length = record.unpack(head)
        octets = file.read(captured) if captured <= MAX_PACKET else b""
        if len(octets) < captured:
            raise cut(name, f"in packet {number}, which has {captured} octets by its header")
        time = seconds * 1_000_000_000 + fraction * (1_000_000_000 // fractions)
        yield Captured(number, time, length, octets)
