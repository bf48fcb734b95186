"""The prototype: a unicast and a broadcast IPCP of 0.23, each over a udp4 IPCP of its own (spec/dt, spec/fa, spec/link-state, spec/dht, spec/broadcast).

Used by the tests, on the loop of their world. As an echo server and as `oping` it also plays the programs above.
"""

from __future__ import annotations

import asyncio
import os
import struct
import time
from collections.abc import Mapping
from dataclasses import replace

from . import lower, upper
from .connections import Connection, Connections, Enroller
from .directory import Directory
from .judge import Judge
from .link import Link
from .lower import Config
from .names import Flow, Gone, Names, Process
from .routing import Routing
from .transfer import DataTransfer, FlowAllocator, sha3

PING = struct.Struct(">II")
PING_TIME = struct.Struct("=QQ")


class Prototype:
    """A system with one IPCP that is named `name`, over UDP at `ip`."""

    def __init__(self, name: str, judge: Judge, hosts: Mapping[str, str], *, ip: str) -> None:
        self.name = name
        self.judge = judge
        self.names = Names()
        self.link = Link(self.names, judge, hosts, ip=ip)
        self.closed = False
        self._tasks: list[asyncio.Task[None]] = []

    def close(self) -> None:
        """It ends, without notification."""
        self.closed = True
        for task in self._tasks:
            task.cancel()
        self.link.close()

    def echo(self, name: str) -> Process:
        """A server of that name that answers as `oping` does."""
        process = Process()
        self.names.bind(name, process)

        async def serve() -> None:
            while True:
                flow = await process.accept()
                flow.use(lambda packet, flow=flow: flow.write(struct.pack(">I", 1) + packet[4:]))  # type: ignore[misc]

        self._tasks.append(asyncio.get_running_loop().create_task(serve()))
        return process


class Unicast(Prototype):
    """A member of a unicast layer, once it has bootstrapped or enrolled."""

    def __init__(self, name: str, judge: Judge, hosts: Mapping[str, str], *, ip: str) -> None:
        super().__init__(name, judge, hosts, ip=ip)
        self.address = 0
        self.config = Config()
        self.connections = Connections(self.link, judge)
        self.routing: Routing
        self.dt: DataTransfer
        self.directory: Directory
        self.fa: FlowAllocator
        self.enroller: Enroller
        self._changed: asyncio.Event = asyncio.Event()

    def close(self) -> None:
        if self.address:
            for part in (self.routing, self.directory, self.fa, self.enroller):
                part.close()
        self.connections.close()
        super().close()

    # ---------------------------------------------------------------- life

    def bootstrap(self, config: Config) -> None:
        """Make a layer."""
        self._become(replace(config, peer=0))

    async def enroll(self, name: str) -> None:
        """Become a member of the layer that `name` is in."""
        config, done = await self.connections.enroll(name, 1)
        self._become(config)
        done()

    def _become(self, config: Config) -> None:
        self.config = config
        while not self.address:
            self.address = int.from_bytes(os.urandom(4), "big")
        self.routing = Routing(self.address, config, self.judge, self._changed.set)
        self.dt = DataTransfer(
            self.address, config.max_ttl, self.judge, lambda address: self.routing.next_hops.get(address)
        )
        self.directory = Directory(
            self.address,
            config,
            self.judge,
            32,
            lambda address, payload: self.dt.send(address, upper.DIRECTORY, payload),
        )
        self.dt.components[upper.DIRECTORY] = self.directory.arrived
        loop = asyncio.get_running_loop()
        self.fa = FlowAllocator(
            self.dt,
            self.names,
            self.judge,
            lambda key, timeout: loop.create_task(self.directory.query(key, timeout)),
        )
        self.connections.components |= {
            b"Management": (lower.management(self.address), self._mgmt_added),
            b"Data Transfer": (lower.data_transfer(self.address), self._dt_added),
        }
        self.enroller = self.connections.enrol_others(config, self.address)
        for name in (self.name, config.layer.decode()):
            self.names.bind(name, self.connections.process)

    # ---------------------------------------------------------------- neighbours

    async def connect(self, name: str) -> None:
        """Management, then data transfer."""
        for component in (b"Management", b"Data Transfer"):
            await self.connections.connect(name, component)

    def disconnect(self, name: str) -> None:
        """Nobody is told."""
        for connection in [one for one in self.connections.made if one.name == name]:
            self.connections.made.remove(connection)
            if connection.theirs.component == b"Management":
                self.routing.mgmt_removed(connection.flow)
            else:
                self.routing.dt_removed(connection.theirs.address)
            connection.flow.deallocate()

    def _mgmt_added(self, connection: Connection) -> None:
        self.routing.mgmt_added(connection.flow)

    def _dt_added(self, connection: Connection) -> None:
        if connection.theirs.address == self.address:
            self.judge.wrong("record", "a neighbour with our address")
            return
        self.dt.use(connection.flow)
        self.routing.dt_added(connection.theirs.address, connection.flow)

    async def reachable(self, count: int) -> None:
        """Wait until there are routes to this number of members."""
        while len(self.routing.next_hops) < count:
            self._changed.clear()
            await self._changed.wait()

    # ---------------------------------------------------------------- programs

    def register(self, name: str) -> None:
        self.directory.register(sha3(name.encode()))

    async def ping(self, flow: Flow, count: int, *, size: int = 64, lossy: bool = False) -> int:
        """The behaviour of `oping`; returns the number of replies. `lossy`: routes are changing, so a lost packet is sent again."""
        came = 0
        while came < count:
            now = divmod(time.monotonic_ns(), 1_000_000_000)
            head = PING.pack(0, came) + PING_TIME.pack(*now)
            flow.write(head + bytes(size - len(head)))
            try:
                reply = await flow.read(0.5 if lossy else 10)
            except Gone:
                if not lossy:
                    raise
                continue
            assert PING.unpack_from(reply)[0] == 1 and len(reply) == size, reply.hex()
            came += 1
        return came


class Broadcast(Prototype):
    """A member of a broadcast layer. `received` has what came for its own applications."""

    def __init__(self, name: str, judge: Judge, hosts: Mapping[str, str], *, ip: str) -> None:
        super().__init__(name, judge, hosts, ip=ip)
        self.connections = Connections(self.link, judge, broadcast=True)
        self.neighbours: list[Flow] = []
        self.received: asyncio.Queue[bytes] = asyncio.Queue()
        self.enroller: Enroller | None = None
        self.config = Config(kind=2)

    def close(self) -> None:
        if self.enroller is not None:
            self.enroller.close()
        self.connections.close()
        super().close()

    def bootstrap(self, layer: str) -> None:
        self._become(Config(layer.encode(), kind=2))

    async def enroll(self, name: str) -> None:
        config, done = await self.connections.enroll(name, 2)
        self._become(config)
        done()

    def _become(self, config: Config) -> None:
        self.config = config
        self.connections.components[b"Data Transfer"] = (lower.BROADCAST, self._added)
        self.enroller = self.connections.enrol_others(config, 0)
        for name in (self.name, config.layer.decode()):
            self.names.bind(name, self.connections.process)

    async def connect(self, name: str) -> None:
        await self.connections.connect(name, b"Data Transfer")

    def _added(self, connection: Connection) -> None:
        flow = connection.flow
        if not connection.name and flow.qos.timeout:
            self.judge.wrong(
                "broadcast", "an adjacency with keep-alives, which halt the one that accepted it"
            )
        self.neighbours.append(flow)
        flow.use(lambda packet: self._arrived(flow, packet))

    def _arrived(self, flow: Flow, packet: bytes) -> None:
        self.judge.seen["broadcast"] += 1
        if len(packet) >= 1400:
            self.judge.wrong("broadcast", "1400 octets or more, which a prototype's reads tear", packet)
        self.received.put_nowait(packet)
        for other in self.neighbours:
            if other is not flow:
                other.write(packet)

    def say(self, packet: bytes) -> None:
        """An application of this system writes."""
        for flow in self.neighbours:
            flow.write(packet)
