"""Shared memory for tests: `irmd.memory.Memory` plays the IRMd, and separate handles play processes.

To the data plane a process is a token, with mappings made by descriptor. So several can exist in one
process, each with handles of its own, or in a forked child, which maps the objects anew.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterator
from typing import Any, ClassVar, NamedTuple

from irmd.memory import Events, FlowMemory, Memory, Pool, PoolConfig
from ouroboros.dataplane._dataplane import ffi, lib

EMUSTSLEEP = int(lib.EMUSTSLEEP)
ENOTALLOC = 1000
EFLOWDOWN = 1005
EFLOWPEER = 1006

RDONLY, WRONLY, RDWR = 0o0, 0o1, 0o2
RNOBLOCK, WNOBLOCK, NONBLOCK = 0o1000, 0o2000, 0o3000
RNOPART = 0o10000

PKT, DOWN, UP, ALLOC, DEALLOC, PEER = 1, 2, 4, 8, 16, 32

SMALL = PoolConfig(((512, 256, 64), (2048, 128, 64), (10240, 128, 64), (67584, 128, 64)))
"""Blocks enough for a test, few enough to exhaust."""

PAGE = 4096
SLOTS = int(lib.RING_SLOTS)
ROOM = int(lib.HEADROOM + lib.TAILROOM)


class Handles(NamedTuple):
    """A build of the data plane."""

    ffi: Any
    lib: Any


DEFAULT = Handles(ffi, lib)


class Process:
    """A process as the data plane sees it. What a test does not close, `close_all` does."""

    open: ClassVar[set[Process]] = set()

    def __init__(
        self,
        memory: Memory,
        pool: Pool | None = None,
        *,
        reserve: bool = False,
        build: Handles = DEFAULT,
        token: int | None = None,
        events: Events | None = None,
    ) -> None:
        self.ffi, self.lib = build
        self.memory = memory
        self.of = pool or memory.system
        self.token = memory.token() if token is None else token
        self.events = events or memory.events()
        self.pool = self.lib.pool_map(self.of.fd, self.token, reserve)
        self.region = self.lib.events_map(*self.events.fds)
        assert self.pool != self.ffi.NULL and self.region != self.ffi.NULL
        self.fds = iter(range(64, 1 << 14))
        self._process: Any = None
        self._segments: dict[int, Any] = {}
        self._peers: dict[int, Any] = {}
        self._handles: list[Any] = []
        Process.open.add(self)

    @property
    def process(self) -> Any:
        """`struct process *`, made on first use."""
        if self._process is None:
            self._process = self.lib.process_create(self.region)
        return self._process

    def attach(
        self,
        flow: FlowMemory,
        side: int,
        fd: int,
        peer_fd: int,
        peer: Events | None,
        *,
        flags: int = NONBLOCK,
    ) -> End:
        """Attach to one side of a flow; non-blocking unless told otherwise."""
        segment = self._segments.get(flow.segment_id)
        if segment is None:
            segment = self._segments[flow.segment_id] = self.lib.segment_map(flow.segment_fd)
            assert segment != self.ffi.NULL
        spec = {"fd": fd, "index": flow.index, "side": side, "peer_fd": peer_fd, "serial": flow.serial}
        region = self.ffi.NULL
        if peer is not None:
            if peer.id not in self._peers:
                self._peers[peer.id] = self.lib.events_map(*peer.doorbell_fds)
            region = self._peers[peer.id]
        handle = self.lib.flow_attach(self.pool, segment, region, self.ffi.new("struct flow_spec *", spec))
        assert handle != self.ffi.NULL
        self._handles.append(handle)
        return End(self, handle, fd, flags)

    def close(self) -> None:
        """The process has detached from its flows, and they are released: nothing of it stays mapped."""
        if self not in Process.open:
            return
        Process.open.remove(self)
        if self._process is not None:
            self.lib.process_stop(self._process)
            # The struct and the region that it holds stay, as long as there may be sets of it; their descriptors do not.
            for struct, descriptor in ((self._process, "control"), (self.region, "doorbell")):
                os.close(getattr(struct, descriptor))
                setattr(struct, descriptor, -1)
        for handle in self._handles:
            self.lib.flow_destroy(handle)
        for region in (*self._peers.values(), self.region):
            self.lib.events_unmap(region)
        for segment in self._segments.values():
            self.lib.segment_unmap(segment)
        self.unmap_pool()
        self.events.close()
        if self.memory.pools:  # else the IRMd has ended before
            self.memory.release_process(self.token)

    def unmap_pool(self) -> None:
        """Give the hints in its caches back."""
        if self.pool != self.ffi.NULL:
            self.lib.pool_unmap(self.pool)
            self.pool = self.ffi.NULL

    def held(self) -> int:
        """Blocks that this process owns."""
        return sum(self.memory.pools[self.of.id].holders().get(self.token, []))

    def alloc(self, length: int) -> int:
        """A block, or -errno."""
        return int(self.lib.pool_alloc(self.pool, length))

    def free(self, block: int, owner: int | None = None) -> bool:
        """Give a block back."""
        who = self.lib.owner_process(self.token) if owner is None else owner
        return bool(self.lib.pool_free(self.pool, block, who))

    def set(self) -> FlowSet:
        """A new flow set."""
        return FlowSet(self)


class Burst:
    """`struct burst` and what it points to."""

    def __init__(self, ffi: Any, size: int, count: int) -> None:
        self.ffi = ffi
        self.buffer = ffi.new("uint8_t[]", max(size, 1))
        self.lengths = ffi.new("uint32_t[]", max(count, 64))
        self.c = ffi.new("struct burst *", {"buffer": self.buffer, "lengths": self.lengths, "size": size})

    def packets(self, n: int) -> list[bytes]:
        """The first `n` packets; checks that `each` says what it should."""
        packets, at = [], 0
        for length in self.lengths[0:n]:
            packets.append(bytes(self.ffi.buffer(self.buffer + at, length)))
            at += length
        assert self.c.each == (len(packets[0]) if len({len(one) for one in packets}) == 1 else 0)
        return packets


class End:
    """One end of a flow. Results are bytes or numbers; errors are negative, as in C."""

    def __init__(self, process: Process, handle: Any, fd: int, flags: int) -> None:
        self.ffi, self.lib = process.ffi, process.lib
        self.process = process
        self.handle = handle
        self.fd = fd
        self._bursts: dict[tuple[int, int], Burst] = {}
        self.flags(RDWR | flags)

    def flags(self, flags: int) -> None:
        self.lib.flow_set_flags(self.handle, flags)

    def write(self, packet: bytes) -> int:
        return int(self.lib.flow_write(self.handle, packet, len(packet)))

    def writev(self, packets: list[bytes]) -> int:
        lengths = self.ffi.new("uint32_t[]", [len(packet) for packet in packets])
        return int(self.lib.flow_writev(self.handle, b"".join(packets), lengths, 0, len(packets)))

    def read(self) -> bytes | int:
        """The next packet."""
        burst = self.readv(1)
        return burst[0] if isinstance(burst, list) else burst

    def read_into(self, size: int) -> bytes | int:
        """The next packet by `flow_read_into`."""
        buffer = self.ffi.new("char[]", max(size, 1))
        n = int(self.lib.flow_read_into(self.handle, buffer, size))
        return n if n < 0 else bytes(self.ffi.buffer(buffer, n))

    def readv(self, count: int = 64, size: int = 1 << 17) -> list[bytes] | int:
        """Up to `count` packets by `flow_readv`, in a buffer of `size` octets."""
        burst = self._burst(size, count)
        n = int(self.lib.flow_readv(self.handle, burst.c, count))
        return n if n < 0 else burst.packets(n)

    def read_ahead(self, size: int = 1 << 17) -> list[bytes] | int:
        """The next packets by `flow_read`, as many as it takes ahead."""
        burst = self._burst(size, int(self.lib.READAHEAD_PACKETS))
        n = int(self.lib.flow_read(self.handle, burst.c))
        if 0 <= n < self.lib.FLOW_READAHEAD:
            return [bytes(self.ffi.buffer(burst.c.buffer, n))]
        return n if n < 0 else burst.packets(n - int(self.lib.FLOW_READAHEAD))

    def _burst(self, size: int, count: int) -> Burst:
        if (size, count) not in self._bursts:
            self._bursts[size, count] = Burst(self.ffi, size, count)
        return self._bursts[size, count]

    def drain(self) -> list[bytes]:
        """Everything that can be read now, as whole packets."""
        packets: list[bytes] = []
        while isinstance(burst := self.readv(256), list):
            packets += burst
        return packets

    def sleep(self, writing: bool = False, deadline: int = -1) -> int:
        return int(self.lib.flow_sleep(self.handle, writing, deadline))

    def detach(self) -> None:
        self.lib.flow_detach(self.handle)

    def down(self) -> bool:
        return bool(self.lib.flow_is_down(self.handle))

    def queues(self) -> tuple[int, int]:
        counts = self.ffi.new("uint64_t[2]")
        self.lib.flow_queues(self.handle, counts, counts + 1)
        return counts[0], counts[1]


class FlowSet:
    """A set of ends of one process."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.lib = process.lib
        self.handle = self.lib.fset_create(process.process)
        self._out = process.ffi.new("struct fevent[512]")

    def add(self, fd: int) -> int:
        return int(self.lib.fset_add(self.handle, fd))

    def remove(self, fd: int) -> None:
        self.lib.fset_remove(self.handle, fd)

    def take(self, *, patient: bool = False) -> list[tuple[int, int]]:
        """(descriptor, event) of everything there is now."""
        n = self.lib.fset_take(self.handle, self._out, 512, patient)
        assert n >= 0, n
        return [(self._out[i].fd, self._out[i].type) for i in range(n)]

    def sleep(self, deadline: int = -1) -> int:
        return int(self.lib.fset_sleep(self.handle, deadline))

    def close(self) -> None:
        self.lib.fset_close(self.handle)


class Pair(NamedTuple):
    """A flow, and the ends of both of its processes."""

    flow: FlowMemory
    a: End
    b: End

    def close(self) -> None:
        """Both leave in good order, and the IRMd gives the flow back."""
        self.a.detach()
        self.b.detach()
        self.flow.release()

    def end(self) -> None:
        """The same, and both processes end; this was their only flow."""
        self.close()
        self.a.process.close()
        self.b.process.close()


def connect(memory: Memory, a: Process, b: Process, *, flags: int = NONBLOCK) -> Pair:
    """A flow between two processes of the same trust domain; side 0 is `a`."""
    flow = memory.flow(a.token, b.token, a.of)
    fd_a, fd_b = next(a.fds), next(b.fds)
    flow.open(a.events, fd_a, b.events, fd_b)
    return Pair(
        flow,
        a.attach(flow, 0, fd_a, fd_b, b.events, flags=flags),
        b.attach(flow, 1, fd_b, fd_a, a.events, flags=flags),
    )


def close_all() -> None:
    """End every process that a test has left."""
    for process in list(Process.open):
        process.close()


def free(pool: Pool) -> list[int]:
    """Free blocks of each class."""
    return [count.free for count in pool.counts()]


def total(pool: Pool) -> list[int]:
    """Blocks of each class."""
    return [count.total for count in pool.counts()]


def packet(number: int, length: int) -> bytes:
    """A packet whose contents follow from its number and length (8 octets at least)."""
    seed = struct.pack("<Q", number)
    body = (seed[:7] + bytes([length & 0xFF])) * (length // 8)
    return seed + body[: length - 8]


def number(data: bytes) -> int:
    """The number of a packet, whose contents are checked."""
    (value,) = struct.unpack_from("<Q", data)
    assert data == packet(value, len(data)), f"packet {value} of {len(data)} octets is not what was written"
    return int(value)


def lengths() -> Iterator[int]:
    """Lengths that use every size class, small ones more often; without end."""
    while True:
        yield from (8, 64, 200, 64, 1500, 9, 64, 225, 4000, 64, 1760, 64, 60000, 64, 223, 224)


class Raw:
    """The shared memory of a flow as a hostile process sees it: to write nonsense into (`src/layout.h`)."""

    def __init__(self, flow: FlowMemory) -> None:
        self._map = mmap.mmap(flow.segment_fd, os.fstat(flow.segment_fd).st_size)
        self._base = PAGE + flow.index * (PAGE + 2 * 8 * SLOTS)
        self._words = memoryview(self._map).cast("Q")  # written at once, not octet by octet

    def _get(self, at: int) -> int:
        return self._words[(self._base + at) // 8]

    def _set(self, at: int, value: int) -> None:
        self._words[(self._base + at) // 8] = value & (2**64 - 1)

    def head(self, ring: int, value: int | None = None) -> int:
        """The producer's index of a ring; with `value` it is overwritten."""
        at = 128 + 256 * ring
        return self._get(at) if value is None else self._set(at, value) or value

    def tail(self, ring: int, value: int | None = None) -> int:
        """The consumer's."""
        at = 192 + 256 * ring
        return self._get(at) if value is None else self._set(at, value) or value

    def slot(self, ring: int, index: int, value: int | None = None) -> int:
        """A slot: block << 40 | offset << 24 | length."""
        at = PAGE + 8 * (SLOTS * ring + index % SLOTS)
        return self._get(at) if value is None else self._set(at, value) or value

    def wait(self, ring: int, which: str) -> int:
        """A wait word: of the consumer ("cons") or the producer ("prod")."""
        at = 128 + 256 * ring + (128 if which == "cons" else 192)
        return int(struct.unpack_from("<I", self._map, self._base + at)[0])


def is_error(value: object, number: int) -> bool:
    """Whether a result of C is that error."""
    return value == -number
