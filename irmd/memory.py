"""Shared memory that the IRMd owns: packet pools, event regions and the FIFOs of flows (docs/design/shared-memory.md).

The IRMd makes sealed memfds and sends their descriptors to processes; it parses no packet. Process tokens and flow serials
are never used again, so an owner word of an exited process differs from that of every running one.
"""

from __future__ import annotations

import errno
import logging
import os
import pwd
import resource
import socket
from array import array
from collections import Counter, OrderedDict
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from ouroboros.dataplane._dataplane import ffi, lib
from ouroboros.errors import strerror
from ouroboros.flow_event import FlowEvent

if TYPE_CHECKING:
    from ouroboros.dataplane._dataplane import struct_pool, struct_sweep

log = logging.getLogger("irmd/memory")

_PROCESS = 1 << 62
_KIND = 3 << 62

_DOWN, _UP, _PEER = int(FlowEvent.DOWN), int(FlowEvent.UP), int(FlowEvent.PEER)  # an IntFlag is slow to test
FIRST_SEGMENT = 4
"""Flows in the first segment of a pair; each further one holds twice as many, up to LARGEST_SEGMENT."""

LARGEST_SEGMENT = 256

IDLE_PAIRS = 1024
"""Pairs of processes without a flow that keep their segments for the next flow; beyond, the segments of the pair that has had
no flow for longest are released. A segment costs descriptors of the IRMd and of both processes."""

RESERVE = 4
"""Users' processes together leave 1/RESERVE of the IRMd's file descriptors to root, to its own user and to the IPCPs."""

USERS = 1000
"""Untrusted users that have a pool for their processes at the same time. An IPCP serves as many domains, and some."""


class ClassCount(NamedTuple):
    """Blocks of one size class: payload octets, blocks in all, blocks free."""

    size: int
    total: int
    free: int


@dataclass(slots=True, frozen=True)
class PoolConfig:
    """Geometry of a pool: (octets of a block with head and tail room, blocks, of these for IPCPs only) for each class."""

    classes: tuple[tuple[int, int, int], ...] = (
        (512, 16384, 1024),
        (2048, 8192, 1024),
        (10240, 512, 64),
        (67584, 256, 64),
    )
    user_scale: int = 1
    """A user's pool has 1/`user_scale` of the blocks (rounded to 64s) of the system's."""

    def scaled(self, divisor: int) -> PoolConfig:
        """The same with fewer blocks and no reserve: a pool for one user."""
        return PoolConfig(
            tuple((stride, max(64, blocks // divisor // 64 * 64), 0) for stride, blocks, _ in self.classes)
        )


def _check(descriptor: int, what: str) -> int:
    if descriptor < 0:
        raise OSError(-descriptor, f"cannot make {what}: {strerror(-descriptor)}")
    return descriptor


class Pool:
    """A packet pool: the system's, or one user's."""

    def __init__(
        self, number: int, name: str, uid: int, config: PoolConfig, *, prefault: bool = True
    ) -> None:
        classes = ffi.new("struct pool_class[POOL_CLASSES]")
        for at, (stride, blocks, reserve) in enumerate(config.classes):
            classes[at].stride, classes[at].blocks, classes[at].reserve = stride, blocks, reserve
        self.id = number
        self.name = name
        self.uid = uid
        self.fd = _check(
            lib.pool_create(f"ouroboros-pool-{name}".encode(), classes, prefault), f"the packet pool {name}"
        )
        pool = lib.pool_map(self.fd, 0, True)
        if not pool:
            os.close(self.fd)
            raise OSError(ffi.errno, f"cannot map the packet pool {name}: {strerror(ffi.errno)}")
        self._pool = pool
        self._classes = [self._pool.classes[i] for i in range(len(config.classes))]

    @property
    def handle(self) -> struct_pool:
        """`struct pool *`, for the functions of the data plane."""
        return self._pool

    @property
    def octets(self) -> int:
        """Size of the shared memory."""
        return int(self._pool.size)

    @property
    def taken(self) -> int:
        """Octets of it that the kernel has allocated memory for: in a user's pool, pages that no process has touched have none."""
        return os.fstat(self.fd).st_blocks * 512

    @property
    def failures(self) -> int:
        """Allocations that were refused because every block was taken."""
        return int(lib.pool_failures(self._pool))

    def owners(self) -> array[int]:
        """The owner word of every block, in the order of the classes."""
        words = array("Q", bytes(8 * self._pool.blocks))
        lib.pool_owners(self._pool, ffi.from_buffer("uint64_t[]", words, require_writable=True))
        return words

    def counts(self) -> list[ClassCount]:
        """Blocks in all and free, for each class."""
        words = self.owners()
        reserved = lib.HEADROOM + lib.TAILROOM
        return [
            ClassCount(k.stride - reserved, k.blocks, words[k.first : k.first + k.blocks].count(0))
            for k in self._classes
        ]

    def holders(self) -> dict[int, list[int]]:
        """Blocks of each class that each process holds, by its token; under 0 those in the FIFO of a flow."""
        words = self.owners()
        held: dict[int, list[int]] = {}
        for at, k in enumerate(self._classes):
            for owner, blocks in Counter(words[k.first : k.first + k.blocks]).items():
                if owner:
                    token = owner & ~_KIND if owner & _KIND == _PROCESS else 0
                    held.setdefault(token, [0] * len(self._classes))[at] += blocks
        return held

    def close(self) -> None:
        """Unmap the pool; it exists while another process has it mapped."""
        lib.pool_unmap(self._pool)
        os.close(self.fd)


def for_users(fd: int) -> bool:
    """Whether a process of an untrusted user may cause the IRMd to use this descriptor: it was the lowest free one, so all below are in use."""
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return fd < descriptors - descriptors // RESERVE


class Events:
    """An event region of a process: a memfd and a socket pair. Its owner waits on one socket; others send through the other.

    fds           descriptors for the owner
    doorbell_fds  descriptors for all others
    table         the open ones by id, which it leaves when it is closed
    """

    def __init__(self, number: int, table: dict[int, Events]) -> None:
        self.id = number
        self._table = table
        with ExitStack() as made:
            memory = _check(lib.events_create(b"ouroboros-events"), "an event region")
            made.callback(os.close, memory)
            wait_socket, doorbell = (
                one.detach() for one in socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
            )
            made.callback(os.close, wait_socket)
            made.callback(os.close, doorbell)
            self.fds = (memory, wait_socket)
            self.doorbell_fds = (memory, doorbell)
            handle = lib.events_map(memory, doorbell)
            if not handle:
                number = ffi.errno
                raise OSError(number, f"cannot map an event region: {strerror(number)}")
            made.pop_all()
        self.handle = handle
        self._open = True

    def close(self) -> None:
        """Unmap the region, close its descriptors and take it out of the table. May be repeated."""
        if self._open:
            self._open = False
            self._table.pop(self.id, None)
            lib.events_unmap(self.handle)
            for fd in (*self.fds, self.doorbell_fds[1]):
                os.close(fd)


def raise_pending(events: Events, fd: int) -> None:
    """Notify a process of a descriptor without a FIFO: the message with the outcome of its allocation has been sent."""
    lib.events_raise(events.handle, fd)


class _Segment:
    """One memfd with the FIFOs of some flows between a pair of processes."""

    __slots__ = ("fd", "free", "handle", "id")

    def __init__(self, number: int, flows: int) -> None:
        self.id = number
        self.fd = _check(lib.segment_create(b"ouroboros-flows", flows), "the FIFOs of flows")
        handle = lib.segment_map(self.fd)
        if not handle:
            number = ffi.errno
            os.close(self.fd)
            raise OSError(number, f"cannot map the FIFOs of flows: {strerror(number)}")
        self.handle = handle
        self.free = list(range(flows - 1, -1, -1))

    def close(self) -> None:
        lib.segment_unmap(self.handle)
        os.close(self.fd)


class FlowMemory:
    """The two FIFOs of one flow. Side s produces into ring s and consumes ring 1 - s."""

    __slots__ = (
        "_ends",
        "_free",
        "_memory",
        "index",
        "pair",
        "pool",
        "segment",
        "segment_fd",
        "segment_id",
        "serial",
        "tokens",
    )

    def __init__(
        self, memory: Memory, pair: tuple[int, int], tokens: tuple[int, int], segment: _Segment, pool: Pool
    ) -> None:
        self._memory = memory
        self.segment = segment.handle
        """`struct segment *`, for the functions of the data plane."""
        self.segment_id = segment.id
        """The segment that holds the FIFOs."""
        self.segment_fd = segment.fd
        """Its descriptor, to be sent to both processes."""
        self._free = segment.free
        self._ends: list[tuple[Events | None, int]] = [(None, 0), (None, 0)]
        self.pair = pair
        self.tokens = tokens
        self.pool = pool
        self.index = segment.free.pop()
        self.serial = memory.serial()
        lib.irm_flow_reset(segment.handle, self.index)

    def open(self, events0: Events, fd0: int, events1: Events, fd1: int) -> None:
        """Set the event region of either side, and its descriptor there."""
        self._ends = [(events0, fd0), (events1, fd1)]

    def raise_event(self, side: int, event: FlowEvent, *, link: bool = False) -> None:
        """Latch events for a side and wake its waiting thread; DOWN, UP and PEER change the state as well. `link`: the layer
        reports DOWN for its link, which may come up again."""
        events, fd = self._ends[side]
        bits = int(event)
        down = lib.END_DOWN if bits & _DOWN else 0
        peer = lib.END_PEER if bits & _PEER else 0
        up = lib.END_DOWN | lib.END_PEER | lib.END_LINK if bits & _UP else 0
        if down and link:
            down |= lib.END_LINK
        elif down:
            up |= lib.END_LINK  # permanent, also when the link comes up again
        handle = events.handle if events is not None else ffi.NULL
        lib.irm_end_signal(self.segment, self.index, side, down | peer, up, bits, handle, fd)

    def close_side(self, side: int, events: FlowEvent = FlowEvent.DOWN) -> None:
        """That end was deallocated, or its process has exited: the other end sees DOWN once it has read the queued packets."""
        self._ends[side] = (None, 0)
        self.raise_event(1 - side, events)

    def queued(self, side: int) -> int:
        """Packets waiting for that side to read."""
        return int(lib.irm_queued(self.segment, self.index, 1 - side))

    def written(self, side: int) -> int:
        """Packets that side has written."""
        return int(lib.irm_written(self.segment, self.index, side))

    def dropped(self, side: int) -> int:
        """Packets for this flow that the IPCP at that side dropped because the FIFO was full."""
        return int(lib.irm_dropped(self.segment, self.index, side))

    def refused(self, side: int) -> int:
        """Malformed entries that the process at that side has read."""
        return int(lib.irm_refused(self.segment, self.index, side))

    def release(self) -> None:
        """Both ends are closed: blocks in the FIFOs return to the pool, and the slot may be used again."""
        lib.irm_flow_drain(self.segment, self.index, self.serial, self.pool.handle)
        self._free.append(self.index)
        self._memory.flow_released(self)


class Memory:
    """All shared memory that the IRMd has made, by its users."""

    def __init__(self, config: PoolConfig | None = None) -> None:
        self._config = config or PoolConfig()
        self._tokens = 0
        self._serials = 0
        self._numbers = 0
        self._users: dict[int, Pool] = {}
        self._pairs: dict[tuple[int, int], list[_Segment]] = {}
        self._pairs_of: dict[int, set[tuple[int, int]]] = {}
        self._flows_in: dict[tuple[int, int], int] = {}
        self._idle: OrderedDict[tuple[int, int], None] = OrderedDict()
        """Pairs without a flow, the one that has had none for longest first."""
        self._flows_of: dict[int, set[FlowMemory]] = {}
        self._live: set[int] = set()
        self._lost = 0
        self._events: dict[int, Events] = {}
        self.pools: dict[int, Pool] = {}
        self.system = self._add_pool("system", os.getuid(), self._config)

    def token(self) -> int:
        """An owner token for a new process; never used again."""
        self._tokens += 1
        return self._tokens

    def serial(self) -> int:
        """A serial for a new flow; never used again."""
        self._serials += 1
        return self._serials

    def _number(self) -> int:
        self._numbers += 1
        return self._numbers

    # ------------------------------------------------------------ pools

    def _add_pool(self, name: str, uid: int, config: PoolConfig, *, prefault: bool = True) -> Pool:
        pool = Pool(self._number(), name, uid, config, prefault=prefault)
        self.pools[pool.id] = pool
        return pool

    def pool(self, uid: int, *, trusted: bool) -> Pool:
        """The system pool for a trusted user, else the pool of that user, made at first use.

        Raises OSError: EUSERS when as many users as the system serves have one, or the system has no memory for it.
        """
        if trusted:
            return self.system
        pool = self._users.get(uid)
        if pool is None:
            try:
                name = pwd.getpwuid(uid).pw_name
            except KeyError:
                name = str(uid)
            if len(self._users) >= USERS:
                raise OSError(
                    errno.EUSERS,
                    f"{USERS} users have processes with a packet pool, as many as this system serves together: user {name} gets one "
                    "when the last process of another user has ended (`irm pool show`)",
                )
            config = self._config.scaled(self._config.user_scale)
            pool = self._users[uid] = self._add_pool(name, uid, config, prefault=False)
        return pool

    def release_pool(self, pool: Pool) -> None:
        """Release a user's pool: the last process that allocated from it has exited."""
        if self._users.get(pool.uid) is pool:
            del self._users[pool.uid]
            del self.pools[pool.id]
            pool.close()

    # ------------------------------------------------------------ events

    def events(self, pool: Pool | None = None) -> Events:
        """A new event region; for flows of a user's `pool`, if given. Raises OSError."""
        events = Events(self._number(), self._events)
        self._events[events.id] = events
        self._check_reserve(pool, events, max(events.fds))
        return events

    def _check_reserve(self, pool: Pool | None, made: Events | _Segment, fd: int) -> None:
        if pool not in (None, self.system) and not for_users(fd):
            made.close()
            raise OSError(
                errno.EMFILE,
                "users' processes have all file descriptors that the IRMd has for them (`ulimit -n`)",
            )

    # ------------------------------------------------------------ flows

    def flow(self, a: int, b: int, pool: Pool) -> FlowMemory:
        """FIFOs for a flow between the processes with these tokens; side 0 is `a`. Raises OSError."""
        key = (a, b) if a <= b else (b, a)
        segments = self._pairs.get(key)
        if segments is None:
            segments = self._pairs[key] = []
            for token in key:
                self._pairs_of.setdefault(token, set()).add(key)
        segment = next((one for one in segments if one.free), None)
        if segment is None:
            size = min(FIRST_SEGMENT << len(segments), LARGEST_SEGMENT)
            segment = _Segment(self._number(), size)
            self._check_reserve(pool, segment, segment.fd)
            segments.append(segment)
        flow = FlowMemory(self, key, (a, b), segment, pool)
        self._flows_in[key] = self._flows_in.get(key, 0) + 1
        self._idle.pop(key, None)
        self._live.add(flow.serial)
        for token in key:
            self._flows_of.setdefault(token, set()).add(flow)
        return flow

    def flow_released(self, flow: FlowMemory) -> None:
        """A flow has been released. The pair keeps its segments for the next flow."""
        self._live.discard(flow.serial)
        for token in flow.pair:
            self._flows_of.get(token, set()).discard(flow)
        self._flows_in[flow.pair] -= 1
        if not self._flows_in[flow.pair]:
            del self._flows_in[flow.pair]
            if flow.pair in self._pairs:
                self._idle[flow.pair] = None

    def trim(self) -> list[int]:
        """Release the segments of pairs beyond IDLE_PAIRS that have no flow; returns their ids."""
        released: list[int] = []
        while len(self._idle) > IDLE_PAIRS:
            key, _ = self._idle.popitem(last=False)
            released += self._drop_pair(key)
        return released

    def _drop_pair(self, key: tuple[int, int]) -> list[int]:
        self._idle.pop(key, None)
        segments = self._pairs.pop(key)
        for segment in segments:
            segment.close()
        for token in key:
            if token in self._pairs_of:
                self._pairs_of[token].discard(key)
        return [segment.id for segment in segments]

    def release_process(self, token: int) -> list[int]:
        """Release the segments of a process that has exited and has no flows; returns their ids."""
        released: list[int] = []
        for key in self._pairs_of.pop(token, set()):
            released += self._drop_pair(key)
        self._flows_of.pop(token, None)
        return released

    def reclaim(self, token: int, pools: Iterable[Pool] | None = None) -> int:
        """A process has exited: every block that it held, or that only it could have read, returns to its pool.

        pools  those that it had mapped; None: any
        Packets that it had published in its FIFOs stay for the readers. Returns the number of blocks.
        """
        flows = self._flows_of.get(token, set())
        live = ffi.new("uint64_t[]", list(self._live))
        freed = 0
        for pool in self.pools.values() if pools is None else pools:
            sweep = lib.irm_sweep_create(pool.handle)
            if not sweep:
                raise MemoryError("no memory to reclaim the blocks of a dead process")
            lib.irm_sweep_owner(sweep, lib.owner_process(token))
            lib.irm_sweep_live(sweep, live, len(live))
            for flow in flows:
                if flow.pool is pool:
                    self._sweep_flow(sweep, flow, token)
            freed += lib.irm_sweep_run(sweep)
        if freed:
            log.info("returned %d blocks of a process that has ended", freed)
        lost = int(lib.map_lost())
        if lost > self._lost:
            log.warning("memory of %d mappings that users share with the IRMd is lost: their flows end", lost)
            self._lost = lost
        return freed

    @staticmethod
    def _sweep_flow(sweep: struct_sweep, flow: FlowMemory, token: int) -> None:
        for side in (0, 1):
            if flow.tokens[side] != token:
                continue
            lib.irm_sweep_owner(sweep, lib.owner_ring(flow.serial, 1 - side))
            if flow.tokens[1 - side] != token:
                lib.irm_sweep_ring(sweep, flow.segment, flow.index, side, flow.serial)

    def close(self) -> None:
        """Unmap everything; for an orderly stop."""
        for segments in self._pairs.values():
            for segment in segments:
                segment.close()
        self._pairs.clear()
        for pool in self.pools.values():
            pool.close()
        self.pools.clear()
        for events in list(self._events.values()):
            events.close()
