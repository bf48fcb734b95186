"""One member of a simulated layer: the protocol machines of a unicast IPCP, and a forwarder that does what the C does.

The part of the daemon is played here: packets and messages are carried between the machines and the links, and each
machine is told the time when it wants to. Everything on a link is octets, as on a real one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from random import Random

from ipcpd.unicast.dht import Answer, Dht
from ipcpd.unicast.link_state import LinkState, TablesChanged
from ipcpd.unicast.pff.table import Table
from ipcpd.unicast.wire import dht as dht_wire
from ipcpd.unicast.wire import link_state as link_state_wire
from ouroboros.ipcp_config import DhtConfig, LinkStateConfig
from ouroboros.qos import QoSSpec
from ouroboros.testing import FakeClock, FakeEnd, Timer

from .prototype import Prototype

KEY_LENGTH = 32
MAX_TTL = 60

# A message is sent to many: the same octets every time.
_encode_lsm = lru_cache(maxsize=4096)(link_state_wire.encode)
_decode_lsm = lru_cache(maxsize=4096)(link_state_wire.decode)


@dataclass(frozen=True, slots=True)
class DtPacket:
    """A packet of a data transfer flow."""

    destination: int
    ttl: int
    payload: bytes


Packet = bytes | DtPacket
"""What is on a link: a link state message, or a packet of the data transfer flow that runs beside it."""


@dataclass(slots=True)
class Port:
    """A link of a member, with a data transfer flow `dt` and a management flow `mgmt` over it."""

    end: FakeEnd[Packet]
    neighbour: int
    dt: int
    mgmt: int


@dataclass(slots=True)
class Stats:
    """Packets that a forwarder dropped."""

    expired: int = 0
    no_route: int = 0
    sent: int = 0


@dataclass(slots=True)
class Member:
    """A member of the layer."""

    clock: FakeClock
    address: int
    peer: int
    ls_config: LinkStateConfig
    dht_config: DhtConfig
    seed: str
    prototype: bool = False
    alive: bool = True
    link_state: LinkState | Prototype = field(init=False)
    dht: Dht = field(init=False)
    tables: tuple[Table, ...] = field(init=False)
    ports: dict[int, Port] = field(default_factory=dict)  # by either descriptor
    answers: dict[bytes, tuple[int, ...]] = field(default_factory=dict)
    stats: Stats = field(default_factory=Stats)
    _timer: Timer | None = None
    _turn: int = 0
    _next_fd: int = 64

    def __post_init__(self) -> None:
        now = self.clock.now
        machine = Prototype if self.prototype else LinkState
        self.link_state = machine(address=self.address, config=self.ls_config, now=now)
        self.tables = self.link_state.tables
        self.dht = Dht(
            address=self.address,
            key_length=KEY_LENGTH,
            config=self.dht_config,
            peer=self.peer,
            now=now,
            epoch=1_700_000_000,
            random=Random(self.seed),
        )
        self.pump()

    # ------------------------------------------------------------ links

    def plug(self, end: FakeEnd[Packet], neighbour: int, qos: QoSSpec) -> Port:
        """A link to a neighbour is there: first its management flow, then the one for data transfer (spec 4.4)."""
        port = Port(end, neighbour, self._next_fd, self._next_fd + 1)
        self._next_fd += 2
        self.ports[port.dt] = self.ports[port.mgmt] = port
        end.on_packet = self._arrived(port)
        self.link_state.mgmt_added(neighbour, port.mgmt, self.clock.now)
        self.link_state.dt_added(neighbour, port.dt, qos, self.clock.now)
        self.pump()
        return port

    def unplug(self, port: Port) -> None:
        """A link is gone for good."""
        assert isinstance(self.link_state, LinkState), "links of prototypes are left alone"
        del self.ports[port.dt], self.ports[port.mgmt]
        self.link_state.dt_removed(port.dt, self.clock.now)
        self.link_state.mgmt_removed(port.mgmt)
        self.pump()

    def notice(self, port: Port, *, up: bool) -> None:
        """The flows over a link have been noticed to be down, or to be up again."""
        if not self.alive or port.dt not in self.ports:
            return
        assert isinstance(self.link_state, LinkState), "links of prototypes are left alone"
        now = self.clock.now
        if up:
            self.link_state.mgmt_added(port.neighbour, port.mgmt, now)
            self.link_state.dt_up(port.dt, now)
        else:
            self.link_state.dt_down(port.dt, now)
        self.pump()

    def kill(self) -> None:
        """The process ends without a word."""
        self.alive = False
        if self._timer is not None:
            self._timer.cancel()

    # ------------------------------------------------------------ what the daemon does

    def pump(self) -> None:
        """Carry out what the machines want, until they want nothing more at this instant."""
        busy = True
        while busy:
            busy = False
            for fd, message in self.link_state.take_packets():
                self.ports[fd].end.send(_encode_lsm(message))
            for event in self.link_state.take_events():
                assert isinstance(event, TablesChanged)
                self.tables, busy = event.tables, True
                self.dht.reachable(event.tables[0].entries, self.clock.now)
            for address, content in self.dht.take_packets():
                self._forward(DtPacket(address, MAX_TTL, dht_wire.encode(content)), first=True)
                busy = True
            for happened in self.dht.take_events():
                if isinstance(happened, Answer):
                    self.answers[happened.key] = happened.addresses
        self._arm()

    def _arm(self) -> None:
        due = min(time for time in (self.link_state.deadline, self.dht.deadline) if time is not None)
        if self._timer is not None:
            if self._timer.pending and self._timer.when == due:
                return
            self._timer.cancel()
        self._timer = self.clock.call_at(due, self._wake)

    def _wake(self) -> None:
        now = self.clock.now
        if now >= self.link_state.deadline:
            self.link_state.timer(now)
        self.dht.timer(now)
        self.pump()

    def _arrived(self, port: Port) -> Callable[[Packet], None]:
        def arrived(packet: Packet) -> None:
            if not self.alive:
                return
            if isinstance(packet, bytes):
                self.link_state.receive(port.mgmt, _decode_lsm(packet), self.clock.now)
                self.pump()
            elif packet.destination == self.address:
                self.dht.receive(dht_wire.decode(packet.payload, key_length=KEY_LENGTH), self.clock.now)
                self.pump()
            else:
                self._forward(packet)

        return arrived

    def _forward(self, packet: DtPacket, *, first: bool = False) -> None:
        ttl = packet.ttl if first else packet.ttl - 1
        if not ttl:
            self.stats.expired += 1
            return
        self._turn += 1
        fd = self.tables[0].next_hop(packet.destination, turn=self._turn)
        port = self.ports.get(fd) if fd is not None else None
        if port is None:
            self.stats.no_route += 1
            if first:
                self.dht.unroutable(packet.destination, self.clock.now)
            return
        self.stats.sent += 1
        port.end.send(DtPacket(packet.destination, ttl, packet.payload))

    # ------------------------------------------------------------ what the IRMd asks

    def register(self, key: bytes) -> None:
        """Make a name known."""
        self.dht.register(key, self.clock.now)
        self.pump()

    def unregister(self, key: bytes) -> None:
        """Take a name back."""
        self.dht.unregister(key, self.clock.now)
        self.pump()

    def query(self, key: bytes) -> None:
        """Ask for a name; the answer turns up in `answers`."""
        self.answers.pop(key, None)
        self.dht.query(key, self.clock.now)
        self.pump()
