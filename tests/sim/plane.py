"""The data plane of a simulated member: the C that forwards packets, stepped by hand, on the fake clock.

Every data transfer flow ends in one process that plays all links: it sends the packets that the C writes into a flow over the link,
and writes the packets that arrive over the link into the flow. Blocks come from one pool for the whole layer, as on a system.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ipcpd.dataplane.dt import DIRECTORY, Dt, DtCounters
from ipcpd.dataplane.handle import Handle
from ipcpd.dataplane.punt import Punt
from ipcpd.unicast.pff.table import Table
from irmd.memory import Memory, PoolConfig
from tests.unit.dataplane.shm import End, Process
from tests.unit.ipcpd.relays import Relay, lib

POOL = PoolConfig(((512, 8192, 64), (2048, 1024, 64), (10240, 128, 64), (67584, 128, 64)))
_PUNT = 1 << 17
_QUOTA = 1 << 16


class Pool:
    """The packet pool of a layer, and the process that plays its links."""

    def __init__(self) -> None:
        self.memory = Memory(POOL)
        self.links = Process(self.memory)
        self._planes: list[Plane] = []

    def plane(self, *, address: int, max_ttl: int, deliver: Callable[[bytes], None]) -> Plane:
        """The data plane of a new member. `deliver` gets packets to its directory."""
        plane = Plane(self, address=address, max_ttl=max_ttl, deliver=deliver)
        self._planes.append(plane)
        return plane

    def lost(self) -> int:
        """Blocks that are neither free nor in a flow of a process: 0, or there is a leak."""
        for plane in self._planes:
            plane.close()
        (pool,) = self.memory.pools.values()
        return sum(count.total - count.free for count in pool.counts())

    def close(self) -> None:
        """Unmap everything."""
        for plane in self._planes:
            plane.close()
        self.links.close()
        self.memory.close()


class Plane:
    """Forwards for one member."""

    def __init__(self, pool: Pool, *, address: int, max_ttl: int, deliver: Callable[[bytes], None]) -> None:
        self._pool = pool
        self._relay = Relay(pool.memory)
        self._punt = Punt(_PUNT)
        self._punt.component(DIRECTORY, _QUOTA, lambda _fd, packet: deliver(packet))
        self.handle = Handle(self._relay.relay, lambda _relay: None, "the relay")
        self._dt = Dt(self, self._punt, address=address, max_ttl=max_ttl, congestion=False)  # type: ignore[arg-type]
        self._ends: dict[int, End] = {}
        self._busy = False
        self._closed = False

    def plug(self) -> int:
        """A new data transfer flow: its descriptor."""
        fd, end = self._relay.flow(self._pool.links)
        self._dt.lower(fd)
        self._ends[fd] = end
        return fd

    def unplug(self, fd: int) -> None:
        """It is gone."""
        self._relay.remove(fd)
        self._ends.pop(fd).drain()

    def down(self, fd: int, down: bool) -> None:
        """It is not to be used for now."""
        self._dt.down(fd, down)

    def load(self, tables: Iterable[Table]) -> None:
        """Exchange the forwarding tables."""
        for cube, table in enumerate(tables):
            self._dt.table(cube, table.function, table.entries)

    def send(self, destination: int, payload: bytes) -> bool:
        """Send a packet of the directory; False when there is no route."""
        self._busy = True
        return self._dt.send(destination, eid=DIRECTORY, payload=payload)

    def arrive(self, fd: int, packet: bytes, now: float) -> None:
        """A packet has come over a link."""
        self._busy = True
        self._ends[fd].write(packet)
        lib.relay_step(self._relay.relay, int(now * 1e9) + 1)
        while self._punt.dispatch():
            pass

    def take_packets(self) -> list[tuple[int, bytes]]:
        """The packets that were written into the flows."""
        if not self._busy:
            return []
        self._busy = False
        return [(fd, packet) for fd, end in self._ends.items() for packet in end.drain()]

    @property
    def counters(self) -> DtCounters:
        """Counters, over all cubes."""
        return DtCounters(*(sum(values) for values in zip(*self._dt.counters(), strict=True)))

    def close(self) -> None:
        """The process ends. May be repeated."""
        if self._closed:
            return
        self._closed = True
        for end in self._ends.values():
            end.drain()
        self._relay.close()
        self._dt.close()
        self._punt.close()
