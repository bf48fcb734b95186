"""Fake network: links with seeded loss, delay, duplication and reordering, that can be cut and healed.

Used by tests and simulators, in one thread, on a `FakeClock`. A link carries packets of any type between its two
ends, unreliably, as a flow does (paper 2.7). Every link has a random generator of its own, made from the seed of the
network and the name of the link: adding a link or a packet elsewhere does not change what happens on this one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from random import Random
from typing import Generic, TypeVar

from .. import arguments
from .clock import FakeClock

P = TypeVar("P")


@dataclass(frozen=True, slots=True, kw_only=True)
class Impairment:
    """The impairments of a link. Probabilities are from 0 to 1, times are in seconds.

    loss           a packet vanishes
    delay, jitter  a packet takes `delay` and up to `jitter` more; jitter alone does not change the order
    duplicate      a packet arrives twice
    reorder        a packet is overtaken by those that are sent up to `reorder_delay` after it
    """

    loss: float = 0.0
    delay: float = 0.001
    jitter: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    reorder_delay: float = 0.01

    def __post_init__(self) -> None:
        for name in ("loss", "duplicate", "reorder"):
            if not 0 <= arguments.number(name, getattr(self, name)) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; a probability is from 0 to 1")
        for name in ("delay", "jitter", "reorder_delay"):
            if arguments.number(name, getattr(self, name)) < 0:
                raise ValueError(f"{name} is {getattr(self, name)} s; it cannot be negative")


PERFECT = Impairment()
"""Every packet arrives once, in order, after a millisecond."""


@dataclass(slots=True)
class Counters:
    """Counters of the packets of one direction; sent + duplicated = delivered + lost + under way."""

    sent: int = 0
    delivered: int = 0
    lost: int = 0
    duplicated: int = 0
    reordered: int = 0


class FakeEnd(Generic[P]):
    """One end of a link.

    on_packet  called with each packet that arrives; while it is None, packets are kept in `inbox`
    on_state   called with False when the link goes down and with True when it comes up, if that can be seen
    """

    __slots__ = ("_last", "_link", "counters", "inbox", "on_packet", "on_state", "peer")

    peer: FakeEnd[P]

    def __init__(self, link: FakeLink[P]) -> None:
        self._link = link
        self._last = 0.0
        self.counters = Counters()
        """Of the packets that this end sent."""
        self.inbox: deque[P] = deque()
        self.on_packet: Callable[[P], None] | None = None
        self.on_state: Callable[[bool], None] | None = None

    @property
    def link(self) -> FakeLink[P]:
        """The link that this is an end of."""
        return self._link

    def send(self, packet: P) -> None:
        """Send a packet to the other end; as on any link, the sender does not learn whether it arrives."""
        self._link._transmit(self, packet)

    def _deliver(self, packet: P) -> None:
        if self.on_packet is None:
            self.inbox.append(packet)
        else:
            self.on_packet(packet)


class FakeLink(Generic[P]):
    """A link between the ends `a` and `b`. Made by `FakeNetwork.link`."""

    __slots__ = ("_clock", "_cuts", "_random", "_visible", "a", "b", "impairment", "name", "up")

    def __init__(self, clock: FakeClock, name: str, impairment: Impairment, random: Random) -> None:
        self._clock = clock
        self._random = random
        self._cuts = 0
        self._visible = False
        self.name = name
        self.impairment = impairment
        """May be replaced at any time; counts for packets that are sent after that."""
        self.up = True
        self.a: FakeEnd[P] = FakeEnd(self)
        self.b: FakeEnd[P] = FakeEnd(self)
        self.a.peer, self.b.peer = self.b, self.a

    def cut(self, *, silent: bool = False) -> None:
        """Nothing passes any more, and what is under way is lost.

        silent  the ends do not notice it: packets vanish, as behind a switch whose other side lost its carrier
        """
        if not self.up:
            return
        self.up = False
        self._cuts += 1
        self._visible = not silent
        if self._visible:
            self._notify(False)

    def heal(self) -> None:
        """Packets pass again. The ends notice it if they noticed the cut."""
        if self.up:
            return
        self.up = True
        if self._visible:
            self._notify(True)

    def _notify(self, up: bool) -> None:
        for end in (self.a, self.b):
            if end.on_state is not None:
                end.on_state(up)

    def _transmit(self, source: FakeEnd[P], packet: P) -> None:
        counters, chance, how = source.counters, self._random.random, self.impairment
        counters.sent += 1
        if not self.up or (how.loss and chance() < how.loss):
            counters.lost += 1
            return
        self._launch(source, packet)
        if how.duplicate and chance() < how.duplicate:
            counters.duplicated += 1
            self._launch(source, packet)

    def _launch(self, source: FakeEnd[P], packet: P) -> None:
        how, chance = self.impairment, self._random.random
        when = self._clock.now + how.delay
        if how.jitter:
            when += how.jitter * chance()
        # Only a packet that is picked to be late may be overtaken: the others queue up behind one another.
        when = max(when, source._last)
        if how.reorder and chance() < how.reorder:
            source.counters.reordered += 1
            when += how.reorder_delay * chance()
        else:
            source._last = when
        self._clock.call_at(when, self._arrive, source, packet, self._cuts)

    def _arrive(self, source: FakeEnd[P], packet: P, cuts: int) -> None:
        if cuts != self._cuts:
            source.counters.lost += 1
            return
        source.counters.delivered += 1
        source.peer._deliver(packet)


class FakeNetwork(Generic[P]):
    """Links by name, all on one clock and from one seed.

    clock       moves the packets: nothing arrives until it is advanced
    seed        the same seed and the same calls give the same run
    impairment  of links that are made without one
    """

    __slots__ = ("clock", "impairment", "links", "seed")

    def __init__(self, clock: FakeClock, *, seed: int = 0, impairment: Impairment = PERFECT) -> None:
        self.clock = arguments.instance("clock", clock, FakeClock)
        self.seed = arguments.integer("seed", seed, -inf, inf)
        self.impairment = arguments.instance("impairment", impairment, Impairment)
        self.links: dict[str, FakeLink[P]] = {}

    def link(self, name: str, impairment: Impairment | None = None) -> FakeLink[P]:
        """Make a link. Raises ValueError when there is one of this name."""
        if impairment is not None:
            arguments.instance("impairment", impairment, Impairment)
        if arguments.text("name", name) in self.links:
            raise ValueError(f"there is a link {name!r} already")
        link: FakeLink[P] = FakeLink(
            self.clock, name, impairment or self.impairment, Random(f"{self.seed}/{name}")
        )
        self.links[name] = link
        return link

    def remove(self, name: str) -> None:
        """Remove a link, without an event for its ends. Raises KeyError when there is none of this name."""
        self.links.pop(arguments.text("name", name)).cut(silent=True)
