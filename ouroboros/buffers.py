"""Buffers through which packets pass between C and Python; kept for re-use, shared by all flows of the process.

A buffer that is in use is in nobody's list, so threads need no lock: list.pop and list.append are atomic.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from struct import Struct
from typing import Any

from .dataplane._dataplane import ffi

SCRATCH = 131072
"""Octets of a buffer for one packet."""

BURST_OCTETS = 262144
BURST_PACKETS = 1024

allocate = ffi.new_allocator(should_clear_after_alloc=False)

spare: list[tuple[Any, Any]] = []
"""Buffers for one packet that nobody uses: (char[], the same as a buffer object, which slices to bytes)."""


def scratch() -> tuple[Any, Any]:
    """A new buffer of SCRATCH octets."""
    buffer = allocate("char[]", SCRATCH)
    return buffer, ffi.buffer(buffer)


_splitters: dict[tuple[int, int], Struct] = {}
_MAX_SPLITTERS = 4096


class Burst:
    """Room for a burst of packets, one behind the other, and their lengths."""

    __slots__ = ("buffer", "each", "lengths", "size", "view")

    def __init__(self, size: int = BURST_OCTETS) -> None:
        self.size = size
        self.buffer = allocate("char[]", size)
        self.view = ffi.buffer(self.buffer)
        self.lengths = allocate("uint32_t[]", BURST_PACKETS)
        self.each = allocate("uint32_t *")

    def packets(self, count: int) -> list[bytes]:
        """The first `count` packets."""
        each = self.each[0]
        if each:
            splitter = _splitters.get((each, count))
            if splitter is None:
                if len(_splitters) >= _MAX_SPLITTERS:
                    _splitters.clear()
                splitter = _splitters[each, count] = Struct(f"{each}s" * count)
            return list(splitter.unpack_from(self.view))
        packets = []
        at = 0
        for length in ffi.unpack(self.lengths, count):
            packets.append(self.view[at : at + length])
            at += length
        return packets


spare_bursts: list[Burst] = []


def burst() -> Burst:
    """A Burst; give it back with `spare_bursts.append`."""
    try:
        return spare_bursts.pop()
    except IndexError:
        return Burst()


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
