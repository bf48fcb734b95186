"""Capture files in pcapng, as Wireshark, tshark and dumpcap write them by default. Runs in the tool.

Sections of either byte order, any number of interfaces, all of link type Ethernet; blocks of other kinds are skipped. Every length in the
file is checked before it is used.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import BinaryIO, NamedTuple

from ..program import ToolError
from .captured import ETHERNET, MAX_PACKET, Captured, cut, wrong_link_type

SECTION = b"\x0a\x0d\x0d\x0a"
_INTERFACE, _SIMPLE, _ENHANCED = 1, 3, 6
_ORDERS = {b"\x1a\x2b\x3c\x4d": ">", b"\x4d\x3c\x2b\x1a": "<"}
_RESOLUTION = 9  # the option if_tsresol
MAX_BLOCK = MAX_PACKET + (1 << 16)  # octets: a packet, with its options


class _Interface(NamedTuple):
    """Ticks of its clock in a second."""

    ticks: int


def read(file: BinaryIO, name: str, first: bytes) -> Iterator[Captured]:
    """The packets of an open file of which `first`, the type of the first block, was read. Raises ToolError."""
    order, interfaces, number = "<", list[_Interface](), 0
    kind = first
    while kind:
        length = file.read(4)
        if kind == SECTION:
            magic = file.read(4)
            if magic not in _ORDERS:
                raise ToolError(f'"{name}" is not a pcapng file: its byte order is not known')
            order, interfaces = _ORDERS[magic], []
            _body(file, name, order, length, had=len(magic))
        else:
            body = _body(file, name, order, length)
            block = Struct(order + "I").unpack(kind)[0] if len(kind) == 4 else 0
            if block == _INTERFACE:
                interfaces.append(_interface(body, order, name))
            elif block in (_ENHANCED, _SIMPLE):
                number += 1
                yield _packet(block, body, order, interfaces, name, number)
        kind = file.read(4)


def _body(file: BinaryIO, name: str, order: str, length: bytes, had: int = 0) -> bytes:
    """The rest of a block, without its lengths. Raises ToolError."""
    octets = Struct(order + "I").unpack(length)[0] if len(length) == 4 else 0
    if octets % 4 or not 12 + had <= octets <= MAX_BLOCK:
        raise cut(name, f"in a block with {octets} octets by its header")
    rest = file.read(octets - 8 - had)
    if len(rest) < octets - 8 - had:
        raise cut(name, "in a block")
    return rest[:-4]


def _interface(body: bytes, order: str, name: str) -> _Interface:
    if len(body) < 8:
        raise cut(name, "in the description of an interface")
    link_type = Struct(order + "H").unpack_from(body)[0]
    if link_type != ETHERNET:
        raise wrong_link_type(name, link_type)
    ticks, at, option = 1_000_000, 8, Struct(order + "HH")
    while at + option.size <= len(body):
        code, length = option.unpack_from(body, at)
        value = body[at + 4 : at + 4 + length]
        if code == _RESOLUTION and value:
            ticks = 2 ** (value[0] & 0x7F) if value[0] & 0x80 else 10 ** min(value[0], 18)
        if code == 0:
            break
        at += 4 + (length + 3 & ~3)
    return _Interface(ticks)


def _packet(
    block: int, body: bytes, order: str, interfaces: list[_Interface], name: str, number: int
) -> Captured:
    head = Struct(order + ("IIIII" if block == _ENHANCED else "I"))
    if len(body) < head.size:
        raise cut(name, f"in the header of packet {number}")
    time = 0
    if block == _ENHANCED:
        interface, high, low, captured, length = head.unpack_from(body)
        if interface >= len(interfaces):
            raise ToolError(f'"{name}" has no interface {interface}, from which packet {number} is')
        time = (high << 32 | low) * 1_000_000_000 // interfaces[interface].ticks
    else:
        (length,) = head.unpack_from(body)
        captured = min(length, len(body) - head.size)
    octets = body[head.size : head.size + captured]
    if len(octets) < captured or captured > MAX_PACKET:
        raise cut(name, f"in packet {number}, which has {captured} octets by its header")
    return Captured(number, time, length, octets)
