"""Capture files: classic pcap, as tcpdump, dumpcap -P and Wireshark write it. Runs in the tool.

Both byte orders, micro- and nanoseconds; the link type has to be Ethernet. Every length in the file is checked before it is
used.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import BinaryIO, NamedTuple

from ..program import ToolError

ETHERNET = 1
MAX_PACKET = 1 << 18  # octets: the longest captured packet that the format allows

_PCAPNG = b"\x0a\x0d\x0d\x0a"
# The first four octets determine byte order and resolution (fractions of a second).
_MAGIC = {
    b"\xa1\xb2\xc3\xd4": (">", 1_000_000),
    b"\xd4\xc3\xb2\xa1": ("<", 1_000_000),
    b"\xa1\xb2\x3c\x4d": (">", 1_000_000_000),
    b"\x4d\x3c\xb2\xa1": ("<", 1_000_000_000),
}
_FILE_HEADER = 24


class Captured(NamedTuple):
    """A packet of a capture: `number` from 1, `time` in ns since 1970, `length` as it was on the wire (octets).

    segment  from 1: which of the datagrams that are joined in the packet; 0: the packet is not split
    """

    number: int
    time: int
    length: int
    octets: bytes
    segment: int = 0


def read(file: BinaryIO, name: str) -> Iterator[Captured]:
    """The packets of an open capture file. Raises ToolError when it is none, or ends in the middle of a packet."""
    header = file.read(_FILE_HEADER)
    if header[:4] == _PCAPNG:
        raise ToolError(f'"{name}" is in pcapng format; convert it: tshark -r "{name}" -F pcap -w NEW.pcap')
    if len(header) < _FILE_HEADER or header[:4] not in _MAGIC:
        raise ToolError(f'"{name}" is not a pcap file')
    order, fractions = _MAGIC[header[:4]]
    link_type = int.from_bytes(header[20:24], "big" if order == ">" else "little") & 0x0FFFFFFF
    if link_type != ETHERNET:
        raise ToolError(f'"{name}" was captured on link type {link_type}; only Ethernet (1) can be read')
    record, number = Struct(order + "IIII"), 0
    while head := file.read(record.size):
        number += 1
        if len(head) < record.size:
            raise ToolError(f'"{name}" ends in the header of packet {number}')
        seconds, fraction, captured, length = record.unpack(head)
        octets = file.read(captured) if captured <= MAX_PACKET else b""
        if len(octets) < captured:
            raise ToolError(f'"{name}" ends in packet {number}, which has {captured} octets by its header')
        time = seconds * 1_000_000_000 + fraction * (1_000_000_000 // fractions)
        yield Captured(number, time, length, octets)
