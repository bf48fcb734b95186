"""Buffers through which packets pass between C and Python; kept for re-use, shared by all flows of the process.

A buffer in use is in no list, so threads need no lock: list.pop and list.append are atomic.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from struct import Struct
from typing import Any

from .dataplane._dataplane import ffi

BURST_OCTETS = 131072
BURST_PACKETS = 1024

_allocate = ffi.new_allocator(should_clear_after_alloc=False)

_splitters: dict[tuple[int, int], Struct] = {}
_MAX_SPLITTERS = 4096


class Burst:
    """Space for packets, one behind the other, and their lengths: a `struct burst`, and the memory it points to."""

    __slots__ = ("_buffer", "_lengths", "c", "view")

    def __init__(self, size: int = BURST_OCTETS) -> None:
        self._buffer = _allocate("uint8_t[]", size)
        self._lengths = _allocate("uint32_t[]", BURST_PACKETS)
        self.c = ffi.new("struct burst *", {"buffer": self._buffer, "lengths": self._lengths, "size": size})
        self.view = ffi.buffer(self._buffer)

    @property
    def first(self) -> int:
        """Length of the first packet, in octets."""
        return int(self._lengths[0])

    def packets(self, count: int) -> list[bytes]:
        """The first `count` packets."""
        each = self.c.each
        if each:
            splitter = _splitters.get((each, count))
            if splitter is None:
                if len(_splitters) >= _MAX_SPLITTERS:
                    _splitters.clear()
                splitter = _splitters[each, count] = Struct(f"{each}s" * count)
            return list(splitter.unpack_from(self.view))
        packets = []
        at = 0
        for length in ffi.unpack(self._lengths, count):
            packets.append(self.view[at : at + length])
            at += length
        return packets


spare: list[Burst] = []
"""Unused bursts: pop one, or make one; append it when done."""


def octets(buffer: Any) -> int:
    """Length of a bytes-like object in octets."""
    return len(buffer) if isinstance(buffer, (bytes, bytearray)) else memoryview(buffer).nbytes


def join(packets: Sequence[Any]) -> tuple[bytes, int, Any]:
    """Packets one behind the other: (octets, length of each or 0, uint32_t[] of their lengths or NULL)."""
    data = b"".join(packets)
    sizes = set(map(len, packets))
    if len(sizes) == 1:
        each: int = sizes.pop()
        if each * len(packets) == len(data):
            return data, each, ffi.NULL
    return data, 0, ffi.from_buffer("uint32_t[]", array("I", map(octets, packets)))
