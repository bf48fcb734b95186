"""The scenario of a simulated layer: it grows, is disturbed, is left alone, and is checked. A seed determines all of it.

One layer in six has some members whose link state is that of the C prototype. There no link is cut and no member dies: a
prototype does not compute new routes when links age out, so no invariant would hold.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from ouroboros.ipcp_config import DhtConfig, LinkStateConfig
from ouroboros.policies import LinkStatePolicy
from ouroboros.qos import QOS_RAW, QOS_VIDEO, QOS_VOICE, QoSSpec
from ouroboros.testing import Impairment

from .invariants import check
from .layer import Layer, Link
from .member import Member

T_UPDATE, T_TIMEO, T_REPLICATE = 10, 40, 30


@dataclass(slots=True)
class Report:
    """A description of a run, for the reader of a test's output."""

    seed: int
    members: int
    links: int
    names: int
    seconds: float
    packets: int
    events: int

    def __str__(self) -> str:
        return (
            f"seed {self.seed}: {self.members} members, {self.links} links, {self.names} names, "
            f"{self.events} mishaps, {self.packets} packets in {self.seconds:.0f} s of the fake clock"
        )


class Scenario:
    """One run. `members` overrides how many there are."""

    def __init__(self, seed: int, *, members: int | None = None) -> None:
        self.random = random = Random(seed)
        self.size = members or (random.randint(25, 40) if seed % 25 == 24 else random.randint(3, 12))
        self.prototypes = random.uniform(0.1, 0.6) if seed % 6 == 5 else 0.0
        self.slow = 1 if self.size <= 50 else 2
        self.mixed_qos = random.random() < 0.5
        self.shake = 60.0
        self.events = 0
        self.seed = seed
        self.layer = Layer(
            seed,
            LinkStateConfig(
                pol=LinkStatePolicy.SIMPLE if self.prototypes else random.choice(list(LinkStatePolicy)),
                t_recalc=2,
                t_update=T_UPDATE * self.slow,
                t_timeo=T_TIMEO * self.slow,
            ),
            DhtConfig(
                alpha=3,
                k=random.choice([4, 8]),
                t_expire=3600,
                t_refresh=30 * self.slow**2,
                t_replicate=T_REPLICATE * self.slow,
            ),
            Impairment(
                loss=random.choice([0, 0.02, 0.1]),
                delay=random.choice([0.001, 0.02]),
                jitter=0.01,
                duplicate=random.choice([0, 0.02]),
                reorder=random.choice([0, 0.1]),
            ),
        )

    def run(self) -> Report:
        """Raises invariants.Violated."""
        try:
            return self._run()
        finally:
            self.layer.pool.close()

    def _run(self) -> Report:
        self._grow()
        self._disturb()
        self._settle()
        check(self.layer)
        layer = self.layer
        packets = sum(link.wire.a.counters.sent + link.wire.b.counters.sent for link in layer.links)
        return Report(
            self.seed,
            len(layer.living),
            len(layer.links),
            len(layer.names),
            layer.clock.now,
            packets,
            self.events,
        )

    # ------------------------------------------------------------ the layer grows

    def _qos(self) -> QoSSpec:
        return self.random.choice([QOS_RAW, QOS_VIDEO, QOS_VOICE]) if self.mixed_qos else QOS_RAW

    def _grow(self) -> None:
        """Members join one by one, or all start together and each believes to be the first."""
        layer, random = self.layer, self.random
        at_once = random.random() < 0.25
        members = [self._join(0)]
        for number in range(1, self.size):
            neighbour = random.choice(members)
            member = self._join(0 if at_once else neighbour.address)
            layer.connect(member, neighbour, self._qos())
            members.append(member)
            if not at_once:
                layer.clock.advance(random.uniform(0, 2) if self.size < 50 else 0.1)
            if number % 3 == 0:
                self._name(random.choice(members))
        for _ in range(int(self.size * random.uniform(0.2, 1.0 if self.slow == 1 else 0.3))):
            self._chord()
        for member in members:
            self._name(member)
        layer.clock.advance(random.uniform(0, 10))

    def _join(self, peer: int) -> Member:
        return self.layer.join(peer=peer, prototype=self.random.random() < self.prototypes)

    def _chord(self) -> None:
        """Another link, perhaps in parallel to one that there is."""
        one, other = self.random.sample(self.layer.living, 2)
        self.layer.connect(one, other, self._qos())

    def _name(self, member: Member) -> None:
        names = self.layer.names
        fresh = not names or self.random.random() < 0.7
        self.layer.register(member, f"name {len(names)}" if fresh else self.random.choice(sorted(names)))

    # ------------------------------------------------------------ and is shaken

    def _disturb(self) -> None:
        end = self.layer.clock.now + self.shake
        while self.layer.clock.now < end:
            self.layer.clock.advance(self.random.expovariate(1 / 4))
            self.events += 1
            mishaps = [self._cut, self._cut, self._heal, self._flap, self._kill]
            self.random.choice([*([] if self.prototypes else mishaps), self._arrive, self._take_back])()

    def _link(self) -> Link | None:
        return self.random.choice(self.layer.links) if self.layer.links else None

    def _cut(self) -> None:
        if link := self._link():
            self.layer.cut(link, silent=self.random.random() < 0.5)

    def _heal(self) -> None:
        for link in self.layer.links:
            if self.random.random() < 0.5:
                self.layer.heal(link)

    def _flap(self) -> None:
        if link := self._link():
            for _ in range(self.random.randint(1, 5)):
                self.layer.cut(link, silent=False)
                self.layer.clock.advance(self.random.uniform(0, 0.5))
                self.layer.heal(link)
                self.layer.clock.advance(self.random.uniform(0, 0.5))

    def _kill(self) -> None:
        """A member dies; perhaps it comes back, with its old address or a new one. Its neighbours find other ways."""
        layer, random = self.layer, self.random
        if len(layer.living) <= max(3, self.size // 2):
            return
        victim = random.choice(layer.living)
        neighbours = [member for member in layer.kill(victim) if member.alive]
        for one, other in zip(neighbours, neighbours[1:], strict=False):
            if one is not other:
                layer.connect(one, other, self._qos())
        if random.random() < 0.5 and neighbours:
            layer.clock.advance(random.uniform(0, 8))
            peer = random.choice([n for n in neighbours if n.alive] or layer.living)
            again = random.random() < 0.5
            member = layer.join(peer=peer.address, address=victim.address if again else 0)
            layer.connect(member, peer, self._qos())
            self._name(member)

    def _arrive(self) -> None:
        neighbour = self.random.choice(self.layer.living)
        member = self._join(neighbour.address)
        self.layer.connect(member, neighbour, self._qos())
        self._name(member)

    def _take_back(self) -> None:
        held = [(name, a) for name, owners in sorted(self.layer.names.items()) for a in sorted(owners)]
        if held:
            name, address = self.random.choice(held)
            self.layer.unregister(self.layer.members[address], name)

    # ------------------------------------------------------------ and is left alone

    def _settle(self) -> None:
        """Long enough for lost messages to be repeated, and for old entries to age out."""
        self.layer.calm()
        self.layer.clock.advance(self.slow * max(T_TIMEO + 3 * T_UPDATE, 5 * T_REPLICATE))
