"""The floor: a bare ring between two processes, driven from Python through cffi (floor.c)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from struct import Struct
from typing import Any

from tests.bench.subjects import compiled
from tests.bench.subjects.subject import Calls, Endpoint, Subject, Wiring

SOURCE = Path(__file__).with_name("floor.c")
BURST_ROOM = 64  # packets of one floor_get_many()
MAX_SIZE = 65536
INTERFACE = """
int floor_open(int fd, int side);
int floor_use(uint32_t size);
void floor_put(const char * data);
void floor_get(char * data);
int floor_put_many(const char * data, uint32_t n);
int floor_get_many(char * data, uint32_t n);
void floor_sleep(int64_t * ns, uint32_t n);
void floor_wake(uint32_t n, int64_t pause_ns);
"""


def build() -> Any:
    """The compiled module."""
    return compiled.build(SOURCE, INTERFACE)


class FloorEnd(Endpoint):
    """One side of the two rings."""

    def __init__(self, fd: int, side: int) -> None:
        module = build()
        self._ffi, self._lib = module.ffi, module.lib
        if failed := self._lib.floor_open(fd, side):
            raise OSError(-failed, f"the ring of the floor: {os.strerror(-failed)}")

    def calls(self, size: int) -> Calls:
        """The ring's C functions, with rooms that are made here.

        A burst begins and ends as what a Python program has: a list of packets. cffi cannot make one in C, so they are
        joined before, and cut out after the call.
        """
        lib = self._lib
        lib.floor_use(size)
        put_many, get_many = lib.floor_put_many, lib.floor_get_many
        room = bytearray(BURST_ROOM * size)
        packets = self._ffi.from_buffer("char[]", room)
        # One C call of struct cuts n packets out, for each n from 0.
        cut = [Struct(f"{size}s" * n).unpack_from for n in range(BURST_ROOM + 1)]

        def writev(batch: list[bytes]) -> int:
            return int(put_many(b"".join(batch), len(batch)))

        def readv(count: int) -> int:
            got = int(get_many(packets, count))
            return len(cut[got](room))

        return Calls(lib.floor_put, lib.floor_get, self._ffi.new("char[]", size), writev, readv)

    def sleep(self, count: int) -> list[int]:
        """Sleep on a futex `count` times; nanoseconds from each wake call until this process ran again."""
        samples = self._ffi.new("int64_t[]", count)
        self._lib.floor_sleep(samples, count)
        return list(samples)

    def wake(self, count: int, pause_ns: int) -> None:
        """Wake the sleeper `count` times, each `pause_ns` after it lay down."""
        self._lib.floor_wake(count, pause_ns)

    def close(self) -> None:
        """The mapping goes with the process."""


class Floor(Subject):
    """Two rings in a memfd that the peers inherit."""

    name = "floor"
    burst = True

    def __init__(self) -> None:
        self._fd = -1

    @classmethod
    def missing(cls) -> str | None:
        """Needs a C compiler on first use."""
        try:
            build()
        except Exception as e:  # cffi and setuptools raise many kinds; the reason is what matters
            return f"the ring of the floor cannot be compiled: {e}"
        return None

    @classmethod
    def provide(cls, stack: ExitStack) -> Wiring:
        """Make the memory."""
        fd = os.memfd_create("bench-floor")
        stack.callback(os.close, fd)
        return Wiring({"fd": fd}, {"fd": fd}, (fd,), (fd,))

    def listen(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """Nothing to do: the memory is shared."""
        self._fd = args["fd"]
        return {}

    def accept(self) -> Endpoint:
        """Side 0."""
        return FloorEnd(self._fd, 0)

    def connect(self, args: Mapping[str, Any], hello: Mapping[str, Any]) -> Endpoint:
        """Side 1."""
        return FloorEnd(args["fd"], 1)
