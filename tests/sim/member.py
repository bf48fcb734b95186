"""One member of a simulated layer: the protocol machines of a unicast IPCP, and the C that forwards its packets.

This module plays the daemon: it carries packets and messages between the machines and the links, and calls each
machine at its deadline. Everything on a link is octets, as on a real one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from random import Random

from ipcpd.unicast.dht import Answer, Dht
from ipcpd.unicast.link_state import LinkState, TablesChanged
from ipcpd.unicast.pff.table import Table
from ipcpd.wire import dht as dht_wire
from ipcpd.wire import link_state as link_state_wire
from ouroboros.ipcp_config import DhtConfig, LinkStateConfig
from ouroboros.qos import QoSSpec
from ouroboros.testing import FakeClock, FakeEnd, Timer

from .plane import Plane, Pool
from .prototype import Prototype

KEY_LENGTH = 32
MAX_TTL = 60
MGMT = 1 << 20
"""Difference between the descriptors of a management flow and of the data transfer flow beside it; the C never gets the former."""

# A message is sent to many: the same octets every time.
_encode_lsm = lru_cache(maxsize=4096)(link_state_wire.encode)
_decode_lsm = lru_cache(maxsize=4096)(link_state_wire.decode)


@dataclass(frozen=True, slots=True)
class DtPacket:
    """A packet of a data transfer flow, header and all."""

    octets: bytes


Packet = bytes | DtPacket
"""The content of a link: a link state message, or a packet of the data transfer flow that runs beside it."""


@dataclass(slots=True)
class Port:
    """A link of a member, with a data transfer flow `dt` and a management flow `mgmt` over it."""

    end: FakeEnd[Packet]
    neighbour: int
    dt: int
    mgmt: int


@dataclass(slots=True)
class Member:
    """A member of the layer."""

    clock: FakeClock
    pool: Pool
    address: int
    peer: int
    ls_config: LinkStateConfig
    dht_config: DhtConfig
    seed: str
    prototype: bool = False
    alive: bool = True
    link_state: LinkState | Prototype = field(init=False)
    dht: Dht = field(init=False)
    plane: Plane = field(init=False)
    tables: tuple[Table, ...] = field(init=False)
    ports: dict[int, Port] = field(default_factory=dict)  # by either descriptor
    answers: dict[bytes, tuple[int, ...]] = field(default_factory=dict)
    _timer: Timer | None = None

    def __post_init__(self) -> None:
        now = self.clock.now
        if self.prototype:
            self.link_state = Prototype(address=self.address, config=self.ls_config, now=now)
        else:
            self.link_state = LinkState(
                address=self.address, config=self.ls_config, now=now, random=Random(f"{self.seed}/routing")
            )
        self.plane = self.pool.plane(address=self.address, max_ttl=MAX_TTL, deliver=self._deliver)
        self.tables = self.link_state.tables
        self.plane.load(self.tables)
        self.dht = Dht(
            address=self.address,
            key_length=KEY_LENGTH,
            config=self.dht_config,
            peer=self.peer,
            now=now,
            epoch=1_700_000_000,
            random=Random(self.seed),
        )
        self.run_due()

    # ------------------------------------------------------------ links

    def plug(self, end: FakeEnd[Packet], neighbour: int, qos: QoSSpec) -> Port:
        """A link to a neighbour is there: first its management flow, then the one for data transfer (spec/link-state 4)."""
        fd = self.plane.plug()
        port = Port(end, neighbour, fd, fd + MGMT)
        self.ports[port.dt] = self.ports[port.mgmt] = port
        end.on_packet = self._arrived(port)
        self.link_state.mgmt_added(neighbour, port.mgmt, self.clock.now)
        self.link_state.dt_added(neighbour, port.dt, qos, self.clock.now)
        self.run_due()
        return port

    def unplug(self, port: Port) -> None:
        """A link is gone for good."""
        assert isinstance(self.link_state, LinkState), "links of prototypes are left alone"
        del self.ports[port.dt], self.ports[port.mgmt]
        self.plane.unplug(port.dt)
        self.link_state.dt_removed(port.dt, self.clock.now)
        self.link_state.mgmt_removed(port.mgmt)
        self.run_due()

    def notice(self, port: Port, *, up: bool) -> None:
        """The flows over a link have been noticed to be down, or to be up again."""
        if not self.alive or port.dt not in self.ports:
            return
        assert isinstance(self.link_state, LinkState), "links of prototypes are left alone"
        now = self.clock.now
        self.plane.down(port.dt, not up)
        if up:
            self.link_state.mgmt_added(port.neighbour, port.mgmt, now)
            self.link_state.dt_up(port.dt, now)
        else:
            self.link_state.dt_down(port.dt, now)
        self.run_due()

    def kill(self) -> None:
        """The process ends without a word."""
        self.alive = False
        self.plane.close()
        if self._timer is not None:
            self._timer.cancel()

    # ------------------------------------------------------------ what the daemon does

    def run_due(self) -> None:
        """Carry out what the machines want, until they want nothing more at this instant."""
        busy = True
        while busy:
            busy = False
            for fd, message in self.link_state.take_packets():
                self.ports[fd].end.send(_encode_lsm(message))
            for event in self.link_state.take_events():
                assert isinstance(event, TablesChanged), "no two members of a simulation have one address"
                self.tables, busy = event.tables, True
                self.plane.load(event.tables)
                self.dht.reachable(event.tables[0].entries, self.clock.now)
            for address, content in self.dht.take_packets():
                if not self.plane.send(address, dht_wire.encode(content)):
                    self.dht.unroutable(address, self.clock.now)
                busy = True
            for happened in self.dht.take_events():
                if isinstance(happened, Answer):
                    self.answers[happened.key] = happened.addresses
            for fd, octets in self.plane.take_packets():
                self.ports[fd].end.send(DtPacket(octets))
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
        self.run_due()

    def _arrived(self, port: Port) -> Callable[[Packet], None]:
        def arrived(packet: Packet) -> None:
            if not self.alive:
                return
            if isinstance(packet, bytes):
                self.link_state.receive(port.mgmt, _decode_lsm(packet), self.clock.now)
                self.run_due()
            elif port.dt in self.ports:
                self.plane.arrive(port.dt, packet.octets, self.clock.now)
                self.run_due()

        return arrived

    def _deliver(self, packet: bytes) -> None:
        self.dht.receive(dht_wire.decode(packet, key_length=KEY_LENGTH), self.clock.now)

    # ------------------------------------------------------------ what the IRMd asks

    def register(self, key: bytes) -> None:
        """Make a name known."""
        self.dht.register(key, self.clock.now)
        self.run_due()

    def unregister(self, key: bytes) -> None:
        """Take a name back."""
        self.dht.unregister(key, self.clock.now)
        self.run_due()

    def query(self, key: bytes) -> None:
        """Ask for a name; the answer turns up in `answers`."""
        self.answers.pop(key, None)
        self.dht.query(key, self.clock.now)
        self.run_due()
