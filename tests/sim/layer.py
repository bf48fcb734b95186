"""A simulated layer: its members and the links between them, on one clock and from one seed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from random import Random

from ouroboros.ipcp_config import DhtConfig, LinkStateConfig
from ouroboros.qos import QOS_RAW, QoSSpec
from ouroboros.testing import FakeClock, FakeLink, FakeNetwork, Impairment

from .member import Member, Packet, Port
from .plane import Pool

PEER_TIMEOUT = 5.0
"""Seconds of silence after which a neighbour is given up."""

KEEPALIVE = 1.0
"""Seconds within which a neighbour that is reachable again is noticed."""


def key_of(name: str) -> bytes:
    """The hash of a name."""
    return hashlib.sha3_256(name.encode()).digest()


@dataclass(slots=True)
class Link:
    """A link and its two ports, in the order of the ends a and b."""

    wire: FakeLink[Packet]
    a: Member
    b: Member
    ports: tuple[Port, Port]

    @property
    def alive(self) -> bool:
        """Whether both ends live."""
        return self.a.alive and self.b.alive

    def notice(self, *, up: bool) -> None:
        """Both ends notice that the link is up or down, if it is."""
        if self.wire.up is up:
            self.a.notice(self.ports[0], up=up)
            self.b.notice(self.ports[1], up=up)


@dataclass(slots=True)
class Layer:
    """seed and two configurations; the same give the same run"""

    seed: int
    ls_config: LinkStateConfig
    dht_config: DhtConfig
    impairment: Impairment = field(default_factory=Impairment)
    clock: FakeClock = field(default_factory=FakeClock)
    pool: Pool = field(default_factory=Pool)
    network: FakeNetwork[Packet] = field(init=False)
    members: dict[int, Member] = field(default_factory=dict)
    links: list[Link] = field(default_factory=list)
    names: dict[str, set[int]] = field(default_factory=dict)
    _random: Random = field(init=False)
    _serial: int = 0

    def __post_init__(self) -> None:
        self.network = FakeNetwork(self.clock, seed=self.seed, impairment=self.impairment)
        self._random = Random(f"{self.seed}/layer")

    @property
    def living(self) -> list[Member]:
        """Members that run."""
        return [member for member in self.members.values() if member.alive]

    def join(self, *, peer: int = 0, address: int = 0, prototype: bool = False) -> Member:
        """A member starts, enrolled by `peer`; without an address it draws one."""
        self._serial += 1
        address = address or self._random.randrange(1, 1 << 32)
        member = Member(
            self.clock,
            self.pool,
            address,
            peer,
            self.ls_config,
            self.dht_config,
            f"{self.seed}/member {self._serial}",
            prototype,
        )
        self.members[address] = member
        return member

    def connect(self, a: Member, b: Member, qos: QoSSpec = QOS_RAW) -> Link:
        """Make a link between two members."""
        self._serial += 1
        wire = self.network.link(f"link {self._serial}")
        link = Link(wire, a, b, (a.plug(wire.a, b.address, qos), b.plug(wire.b, a.address, qos)))
        self.links.append(link)
        return link

    def cut(self, link: Link, *, silent: bool) -> None:
        """Cut a link. Both ends notice it immediately, or, when it is silent, after the time-out of the peer."""
        if link.wire.up:
            link.wire.cut(silent=silent)
            self.clock.call_later(PEER_TIMEOUT if silent else 0, lambda: link.notice(up=False))

    def heal(self, link: Link) -> None:
        """Heal a link; the ends soon receive each other's packets again."""
        if not link.wire.up and link.alive:
            link.wire.heal()
            self.clock.call_later(KEEPALIVE * self._random.random(), lambda: link.notice(up=True))

    def kill(self, member: Member) -> list[Member]:
        """A member ends without a word; its neighbours, which are returned, give up on it later."""
        member.kill()
        neighbours = []
        for link in [link for link in self.links if member in (link.a, link.b)]:
            self.links.remove(link)
            link.wire.cut(silent=True)
            other, port = (link.b, link.ports[1]) if link.a is member else (link.a, link.ports[0])
            neighbours.append(other)
            self.clock.call_later(PEER_TIMEOUT, lambda other=other, port=port: _give_up(other, port))
        for owners in self.names.values():
            owners.discard(member.address)
        return neighbours

    def register(self, member: Member, name: str) -> None:
        """A member registers a name."""
        self.names.setdefault(name, set()).add(member.address)
        member.register(key_of(name))

    def unregister(self, member: Member, name: str) -> None:
        """A member takes a name back."""
        self.names[name].discard(member.address)
        member.unregister(key_of(name))

    def calm(self) -> None:
        """From now on every link is up and perfect."""
        for link in self.links:
            link.wire.impairment = Impairment(delay=self.impairment.delay)
            self.heal(link)
        self.network.impairment = Impairment(delay=self.impairment.delay)


def _give_up(member: Member, port: Port) -> None:
    if member.alive and port.dt in member.ports:
        member.unplug(port)
