"""Delivery: packets with contents, and whether all of them arrived, in order, each once. Runs in the peer processes.

A packet begins with its number; the rest is a part of random octets, at a position that depends on the number. The
receiver checks each number and each octet, and both ends hash the data that they wrote and read.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterator
from time import monotonic_ns
from typing import Any

from tests.bench.subjects.subject import burst_of

NUMBER = struct.Struct("!Q")
QUIET = 0.5  # seconds in which no more may come


class Contents:
    """The packets of `size` octets of a run, by its seed."""

    def __init__(self, size: int, seed: int) -> None:
        if size < NUMBER.size:
            raise ValueError(f"a packet of {size} octets has no room for its number")
        self._body = size - NUMBER.size
        self._block = hashlib.shake_128(NUMBER.pack(seed)).digest(self._body + 65537)

    def packet(self, number: int) -> bytes:
        """The packet of that number, from 0."""
        at = number * 40503 % 65537
        return NUMBER.pack(number) + self._block[at : at + self._body]


def deliver(writev: Callable[[list[bytes]], int], size: int, count: int, seed: int) -> dict[str, Any]:
    """Write `count` packets; when the first call began, and the hash of all."""
    contents, digest = Contents(size, seed), hashlib.sha256()
    packets = [contents.packet(number) for number in range(count)]
    step = burst_of(size)
    began = monotonic_ns()
    for first in range(0, count, step):
        batch = packets[first : first + step]
        while batch:
            batch = batch[writev(batch) :]
    for packet in packets:
        digest.update(packet)
    return {"began": began, "hash": digest.hexdigest()}


def verify(packets: Iterator[bytes], size: int, count: int, seed: int) -> dict[str, Any]:
    """Read `count` packets: when the last one came, and the hash of all. Raises ValueError for one that is wrong."""
    contents, digest = Contents(size, seed), hashlib.sha256()
    for number in range(count):
        packet = next(packets)
        if packet != contents.packet(number):
            raise ValueError(what_is_wrong(packet, number, size))
        digest.update(packet)
    return {"ended": monotonic_ns(), "hash": digest.hexdigest()}


def what_is_wrong(packet: bytes, number: int, size: int) -> str:
    """The packet that arrived in place of packet `number`."""
    if len(packet) != size:
        return f"packet {number} came with {len(packet)} octets instead of {size}"
    (found,) = NUMBER.unpack_from(packet)
    if found != number:
        how = "once more" if found < number else "too early"
        return f"packet {found} came {how}, where packet {number} was due"
    return f"packet {number} came with other contents"
