"""An IPCP for tests of its packet thread: the relay, and processes at the other ends of its flows."""

from __future__ import annotations

from errno import EAGAIN

from irmd.memory import Events, FlowMemory, Memory, Pool, PoolConfig
from tests.unit.dataplane.shm import End, Process, is_error

try:
    from ipcpd.dataplane._ipcp import ffi, lib
except ImportError:
    import pytest  # the benchmark gets on without it

    pytest.skip("the IPCPs' data plane is not built", allow_module_level=True)

CONFIG = PoolConfig(((512, 4096, 64), (2048, 1024, 64), (10240, 256, 64), (67584, 128, 64)))


class Relay:
    """An IPCP: its process, its regions, the thread."""

    def __init__(self, memory: Memory) -> None:
        self.memory = memory
        self.token = memory.token()
        self.relay = lib.relay_create()
        self.pools: dict[int, object] = {}
        self.regions: dict[int, object] = {}
        self.events: dict[int, Events] = {}
        self.segments: dict[int, object] = {}
        self.peers: dict[int, object] = {}
        self.fd = 64
        self.flows: dict[int, FlowMemory] = {}
        self.ends: list[End] = []

    def region(self, pool: Pool) -> Events:
        if pool.id not in self.events:
            self.events[pool.id] = self.memory.events()
            self.pools[pool.id] = lib.pool_map(pool.fd, self.token, True)
            self.regions[pool.id] = lib.events_map(*self.events[pool.id].fds)
            assert lib.relay_add_region(self.relay, self.regions[pool.id]) == 0
        return self.events[pool.id]

    def flow(self, process: Process) -> tuple[int, End]:
        """A flow between the IPCP and a process: (the relay's descriptor, the process's end)."""
        own = self.region(process.of)
        flow = self.memory.flow(self.token, process.token, process.of)
        fd, self.fd = self.fd, self.fd + 1
        theirs = next(process.fds)
        flow.open(own, fd, process.events, theirs)
        spec = {"fd": fd, "index": flow.index, "side": 0, "peer_fd": theirs, "serial": flow.serial}
        if flow.segment_id not in self.segments:
            self.segments[flow.segment_id] = lib.segment_map(flow.segment_fd)
        if process.events.id not in self.peers:
            self.peers[process.events.id] = lib.events_map(*process.events.doorbell_fds)
        segment, peer, pool = self.segments[flow.segment_id], self.peers[process.events.id], process.of.id
        args = self.pools[pool], segment, self.regions[pool], peer, ffi.new("struct flow_spec *", spec)
        assert lib.relay_add(self.relay, *args) == 0
        assert is_error(lib.relay_add(self.relay, *args), 17), "EEXIST"
        self.flows[fd] = flow
        end = process.attach(flow, 1, theirs, fd, own)
        self.ends.append(end)
        return fd, end

    def pair(self, a: Process, b: Process) -> tuple[End, End]:
        """What one process writes the other reads."""
        (fd_a, end_a), (fd_b, end_b) = self.flow(a), self.flow(b)
        assert lib.relay_pair(self.relay, fd_a, fd_b) == 0
        return end_a, end_b

    def start(self) -> None:
        assert lib.relay_start(self.relay) == 0

    def stats(self, fd: int) -> dict[str, int]:
        stats = ffi.new("struct port_stats *")
        assert lib.relay_stats(self.relay, fd, stats) == 0
        return {name: getattr(stats, name) for name in ("packets", "octets", "dropped", "refused", "queued")}

    def remove(self, fd: int) -> None:
        """The IPCP's end is deallocated, and the IRMd tells the process."""
        assert lib.relay_remove(self.relay, fd) == 0
        self.flows[fd].close_side(0)

    def close(self) -> None:
        for fd in list(self.flows):
            if not is_error(lib.relay_remove(self.relay, fd), 9):
                self.flows[fd].close_side(0)
        lib.relay_destroy(self.relay)
        for end in self.ends:
            end.detach()
        for flow in self.flows.values():
            flow.release()
        self.memory.reclaim(self.token)
        for region in (*self.regions.values(), *self.peers.values()):
            lib.events_unmap(region)
        for segment in self.segments.values():
            lib.segment_unmap(segment)
        for pool in self.pools.values():
            lib.pool_unmap(pool)
        for events in self.events.values():
            events.close()


def wait(end: End) -> None:
    """Until there is something to read, or the flow is down."""
    end.sleep()


def read(end: End) -> bytes:
    while is_error(data := end.read(), EAGAIN):
        wait(end)
    assert isinstance(data, bytes), data
    return data
