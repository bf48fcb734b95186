"""The directory's machine: one node of the distributed hash table (paper 2.12.1, 5.3; spec 5).

Runs in the unicast IPCP, without I/O: calls, messages and timer expiries go in together with `now` (seconds, monotonic);
packets to send, events and the next deadline come out. Made when the configuration of the layer is known, and not before:
the length of ids and keys follows from it.

    flow allocator  ──register, query──►┌─────┐──take_packets──► data transfer, endpoint id 1
    data transfer   ──receive──────────►│ Dht │
    link state      ──reachable────────►└─────┘──take_events───► Answer, Registered

Joining: ask the member that enrolled us, then whomever routing says is there, until somebody answers; look up the own id; do that
again while the layer grows. So of two nodes that start at once each finds the other, whoever is first.

A name: the owner stores its address at the k nodes nearest to the key, once more after 3 s, then every t_replicate, and
whenever one of the k is lost or a nearer one turns up. A keeper that has not heard from the owner for longer asks it: the
value goes when the owner says no or is gone. On `unregister` the owner sends a store that has expired: a prototype refuses
it, one of ours takes the value out. All else is in `lookup`, `contacts`, `exchange` and `values`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from random import Random, SystemRandom

from ouroboros.ipcp_config import DhtConfig
from ouroboros.wire import MalformedPacket

from ..timers import Timer, Timers
from ..wire.dht import (
    MAX_VALUES,
    Contact,
    FindNode,
    FindNodeReply,
    FindValue,
    FindValueReply,
    Message,
    Store,
    address_of,
    value_of,
)
from .contacts import Contacts, number
from .exchange import Exchange, Outcome, Reply
from .lookup import Done, Lookup, Status
from .values import Values

QUERY_LIMIT = 3.0
"""Seconds after which a query is answered with what is known."""

MAX_LOOKUPS = 128
"""Look-ups that go on at the same time; others wait for their turn."""

JOIN_FIRST, JOIN_LAST = 0.1, 5.0
"""Seconds between attempts to find a first contact: they double."""

SETTLE = (5.0, 30.0)
"""Seconds after the first contact at which the own id is looked up again: others join at the same time."""

STORE_AGAIN = 3.0
"""Seconds after which a name is stored for the second time: stores are not acknowledged."""

HOUSEKEEPING = 15.0
"""Seconds between attempts to reach a node that was lost, and between looks for values that have expired."""

MAX_MISSES = 3
"""Rounds of t_replicate in which the owner of a value may be silent."""

EXPIRED = 1
"""Time of expiry by which an owner takes a value back: long ago, whatever the clocks say."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Event: the end of a query. Addresses of members that have registered the name; empty: nobody is known to have."""

    key: bytes
    addresses: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Registered:
    """Event: a name was stored for the first time, at so many other nodes. With 0 it follows when there are some."""

    key: bytes
    copies: int


@dataclass(slots=True)
class Counters:
    """For the statistics tree."""

    received: int = 0
    dropped: int = 0
    refused: int = 0
    lookups: int = 0
    lost: int = 0


@dataclass(slots=True)
class _Name:
    """A name that is registered here: where it was stored, how often, and the timer of the next time."""

    stored: list[Contact] = field(default_factory=list)
    rounds: int = 0
    timer: Timer | None = None


@dataclass(slots=True)
class _Query:
    """A query: its look-up, once there is somebody to ask."""

    timer: Timer
    lookup: Lookup | None = None


class Dht:
    """One node.

    address     ours, in the layer
    key_length  octets of the layer's hash
    config      alpha, k and times of the layer
    peer        address of the member that enrolled us; 0: we are the first
    now         time of the start, seconds
    epoch       seconds since 1970 when `now` was 0; set it anew when the system's clock is set
    random      for tests; otherwise the system's
    """

    def __init__(
        self,
        *,
        address: int,
        key_length: int,
        config: DhtConfig | None = None,
        peer: int = 0,
        now: float = 0.0,
        epoch: float = 0.0,
        random: Random | None = None,
    ) -> None:
        self.config = config or DhtConfig()
        self.peer = peer
        self.epoch = epoch
        self.key_length = key_length
        self.counters = Counters()
        self._random = random or SystemRandom()
        self.own = Contact(self._random.randbytes(key_length), address)
        """Our id and address."""
        self.contacts = Contacts(self.own.id, self.config.k)
        self.values = Values()
        """What is kept for others."""
        self._timers = Timers()
        self._exchange = Exchange(self.own, timers=self._timers, random=self._random, send=self._send)
        self._names: dict[bytes, _Name] = {}
        self._queries: dict[bytes, _Query] = {}
        self._lookups = 0
        self._waiting: deque[Lookup] = deque()
        self._reachable: frozenset[int] | None = None
        self._packets: list[tuple[int, Message]] = []
        self._events: list[Answer | Registered] = []
        self._join_pause = JOIN_FIRST
        self._joining: Timer | None = self._timers.at(now, self._join)
        self._timers.at(now + HOUSEKEEPING, self._keep_house)
        self._timers.at(now + self.config.t_refresh, self._refresh)

    # ------------------------------------------------------------ what comes out

    def take_packets(self) -> list[tuple[int, Message]]:
        """What to send, as (address of the member, message), in order; each is returned once."""
        packets, self._packets = self._packets, []
        return packets

    def take_events(self) -> list[Answer | Registered]:
        """What has happened since the last call."""
        events, self._events = self._events, []
        return events

    @property
    def deadline(self) -> float | None:
        """When `timer` has to be called next."""
        return self._timers.deadline

    def timer(self, now: float) -> None:
        """Do what is due. May be called at any time."""
        self._timers.run(now)

    @property
    def names(self) -> dict[bytes, int]:
        """Names that are registered here, with the number of nodes at which each is stored."""
        return {key: len(name.stored) for key, name in self._names.items()}

    def _send(self, address: int, message: Message) -> None:
        if address != self.own.address:
            self._packets.append((address, message))

    def _unix(self, now: float) -> int:
        return int(self.epoch + now)

    # ------------------------------------------------------------ names

    def register(self, key: bytes, now: float) -> None:
        """We have this name: make it known. Again for a name that is registered: no effect. Raises ValueError for a key
        of another length than the layer's."""
        self._check(key)
        if key not in self._names:
            self._names[key] = _Name()
            self._publish(key, now)

    def unregister(self, key: bytes, now: float) -> None:
        """We do not have this name any more. No effect for one that is not registered."""
        name = self._names.pop(key, None)
        if name is None:
            return
        if name.timer is not None:
            name.timer.cancel()
        for contact in name.stored:
            self._store(contact.address, key, self.own.address, EXPIRED)
        told = {contact.address for contact in name.stored}

        def others(nodes: list[Contact], now: float) -> None:
            for contact in nodes:
                if contact.address not in told and key not in self._names:
                    self._store(contact.address, key, self.own.address, EXPIRED)

        self._look_up(key, others, now)

    def query(self, key: bytes, now: float) -> None:
        """Who has this name? The answer is an event; queries for the same key that overlap get one. Raises ValueError for
        a key of another length than the layer's."""
        self._check(key)
        if key in self._queries:
            return
        known = self._usable(self.values.get(key))
        if known:
            self._events.append(Answer(key, known))
            return
        timer = self._timers.at(now + QUERY_LIMIT, lambda now: self._answer(key, ()))
        self._queries[key] = _Query(timer)
        self._ask_for(key, now)

    def _ask_for(self, key: bytes, now: float) -> None:
        query = self._queries[key]
        if query.lookup is None and (len(self.contacts) or not self._hopes()):
            query.lookup = self._look_up(key, lambda nodes, now: self._answer(key, ()), now, values=True)

    def _answer(self, key: bytes, addresses: tuple[int, ...]) -> None:
        query = self._queries.pop(key, None)
        if query is not None:
            query.timer.cancel()
            self._events.append(Answer(key, addresses))

    def _usable(self, addresses: Iterable[int]) -> tuple[int, ...]:
        """Without our own: nothing can be sent to oneself. And without those that routing cannot reach, if it has told."""
        others = tuple(dict.fromkeys(a for a in addresses if a != self.own.address))
        return others if self._reachable is None else tuple(a for a in others if a in self._reachable)

    def _check(self, key: bytes) -> None:
        if len(key) != self.key_length:
            raise ValueError(
                f"key {key.hex()} has {len(key)} octets; the hash of this layer has {self.key_length}"
            )

    def _publish(self, key: bytes, now: float) -> None:
        if key in self._names:
            self._look_up(key, lambda nodes, now: self._published(key, nodes, now), now)

    def _published(self, key: bytes, nodes: list[Contact], now: float) -> None:
        name = self._names.get(key)
        if name is None:
            return
        for contact in nodes:
            self._store(contact.address, key, self.own.address, self._unix(now) + self.config.t_expire)
        if not name.rounds or (nodes and not name.stored):
            self._events.append(Registered(key, len(nodes)))
        name.stored = nodes
        name.rounds += 1
        pause = STORE_AGAIN if name.rounds == 1 else self._period(self.config.t_expire / 2)
        self._publish_at(key, name, now + pause)

    def _publish_at(self, key: bytes, name: _Name, when: float) -> None:
        if name.timer is not None:
            if name.timer.call is not None and name.timer.when <= when:
                return
            name.timer.cancel()
        name.timer = self._timers.at(when, lambda now: self._publish(key, now))

    def _period(self, most: float) -> float:
        """t_replicate, or less: nodes that started together do not stay together."""
        return min(self.config.t_replicate, most) * self._random.uniform(0.8, 1.0)

    def _store(self, address: int, key: bytes, owner: int, expires: int) -> None:
        self._send(address, Store(self.own, key, value_of(owner), expires))

    # ------------------------------------------------------------ look-ups

    def _look_up(self, key: bytes, done: Done, now: float, *, values: bool = False) -> Lookup:
        lookup = Lookup(
            key,
            own=self.own,
            k=self.config.k,
            alpha=self.config.alpha,
            values=values,
            done=done,
        )
        self.counters.lookups += 1
        if self._lookups < MAX_LOOKUPS:
            self._begin(lookup, now)
        else:
            self._waiting.append(lookup)
        return lookup

    def _begin(self, lookup: Lookup, now: float) -> None:
        self._lookups += 1
        self.contacts.consulted(lookup.key, now)
        lookup.add(self.contacts.nearest(lookup.key, self.config.k))
        # Not from inside the call that asked for it: a look-up without anybody to ask ends at once.
        self._timers.at(now, lambda now: self._drive(lookup, now))

    def _drive(self, lookup: Lookup, now: float) -> None:
        if lookup.ended:
            return
        for contact in lookup.next():
            self._ask(contact.address, lookup.key, lookup, now)
        if lookup.finished:
            lookup.ended = True
            self._lookups -= 1
            if self._waiting:
                self._begin(self._waiting.popleft(), now)
            lookup.done(lookup.answered, now)

    def _ask(self, address: int, key: bytes, lookup: Lookup, now: float) -> None:
        def report(outcome: Outcome, reply: Reply | None, now: float) -> None:
            if outcome is Outcome.ANSWERED and reply is not None:
                lookup.mark(address, Status.ANSWERED)
                lookup.add(reply.contacts)
                if isinstance(reply, FindValueReply) and lookup.values:
                    self._found(lookup.key, reply.values)
            elif outcome is Outcome.LOST:
                self._lose(address, now)
            else:
                lookup.mark(address, Status.SLOW if outcome is Outcome.SLOW else Status.FAILED)
            self._drive(lookup, now)

        self._exchange.ask(address, key, values=lookup.values, report=report, now=now)

    def _found(self, key: bytes, values: Iterable[bytes]) -> None:
        addresses = self._usable(_addresses(values))
        if addresses:
            self._answer(key, addresses)

    # ------------------------------------------------------------ nodes

    def reachable(self, addresses: Iterable[int], now: float) -> None:
        """Routing can reach these members, and no others. Lost nodes among them are tried at once, and so are some that are
        unknown while we know few (paper 5.3: members enrol in the directory when data transfer flows are made)."""
        before = self._reachable or frozenset()
        self._reachable = frozenset(addresses) - {self.own.address}
        arrived = sorted(self._reachable - before)
        lost = set(self.contacts.lost)
        room = self.config.k - len(self.contacts)
        for address in arrived:
            if address in lost or (room > 0 and not self.contacts.knows(address)):
                room -= address not in lost
                self._greet(address, now)
        if not len(self.contacts) and self._joining is None and self._hopes():
            self._joining = self._timers.at(now, self._join)

    def unroutable(self, address: int, now: float) -> None:
        """A packet to this member could not be sent: do not wait for its answer."""
        self._exchange.unroutable(address, now)

    def _greet(self, address: int, now: float) -> None:
        """Ask a node, of which we may know the address only, for those near us."""
        if self._exchange.asking(address) or address == self.own.address:
            return

        def report(outcome: Outcome, reply: Reply | None, now: float) -> None:
            if outcome is Outcome.LOST:
                self._lose(address, now)

        self._exchange.ask(address, self.own.id, values=False, report=report, now=now)

    def _hopes(self) -> list[int]:
        """Addresses at which a first contact may be found."""
        reachable = sorted(self._reachable or ())
        self._random.shuffle(reachable)
        hopes = dict.fromkeys([self.peer, *self.contacts.lost[:3], *reachable[:3]])
        return [address for address in hopes if address and address != self.own.address]

    def _join(self, now: float) -> None:
        self._joining = None
        if len(self.contacts):
            return
        hopes = self._hopes()
        for address in hopes:
            self._greet(address, now)
        if hopes:
            self._joining = self._timers.at(now + self._join_pause, self._join)
            self._join_pause = min(2 * self._join_pause, JOIN_LAST)

    def _heard(self, contact: Contact, now: float) -> None:
        alone = not len(self.contacts)
        new, doubtful = self.contacts.heard(contact, now)
        if doubtful is not None:
            self._greet(doubtful.address, now)
        if not new:
            return
        if alone:
            self._join_pause = JOIN_FIRST
            self._settle(now)
            for pause in SETTLE:
                self._timers.at(now + pause, self._settle)
        self._hand_over(contact, now)
        for key in list(self._queries):
            self._ask_for(key, now)

    def _settle(self, now: float) -> None:
        """Find our place: the nodes near us, and then some in each farther part (Kademlia's join)."""

        def farther(nodes: list[Contact], now: float) -> None:
            for bucket in self.contacts.beyond(self.config.k):
                self._look_into(bucket, now)

        self._look_up(self.own.id, farther, now)

    def _look_into(self, bucket: int, now: float) -> None:
        chance = self._random.getrandbits(8 * self.key_length)
        key = self.contacts.key_in(bucket, chance, self.key_length)
        self._look_up(key, lambda nodes, now: None, now)

    def _hand_over(self, contact: Contact, now: float) -> None:
        """A new node may be nearer to some of our names than those that keep them."""
        identity = number(contact.id)
        for key, name in self._names.items():
            if name.rounds and contact not in name.stored:
                target = number(key)
                far = max((number(c.id) ^ target for c in name.stored), default=0)
                if len(name.stored) < self.config.k or identity ^ target < far:
                    expires = self._unix(now) + self.config.t_expire
                    self._store(contact.address, key, self.own.address, expires)
                    name.stored.append(contact)
                    name.stored.sort(key=lambda c: number(c.id) ^ target)
                    if len(name.stored) == 1:
                        self._publish_at(key, name, now + STORE_AGAIN)

    def _lose(self, address: int, now: float) -> None:
        contact = self.contacts.lose(address)
        if contact is None:
            return
        self.counters.lost += 1
        for key, name in self._names.items():
            if contact in name.stored:
                name.stored.remove(contact)
                self._publish_at(key, name, now + STORE_AGAIN)
        if not len(self.contacts) and self._joining is None:
            self._joining = self._timers.at(now, self._join)

    # ------------------------------------------------------------ messages

    def receive(self, message: Message, now: float) -> None:
        """A message has come in. What is wrong, or answers nothing that was asked, is counted and dropped."""
        self.counters.received += 1
        source = message.source
        if source.address == self.own.address or source.id == self.own.id:
            self.counters.dropped += 1
            return
        if len(source.id) != self.key_length or len(message.key) != self.key_length:
            self.counters.dropped += 1
            return
        if isinstance(message, FindNodeReply | FindValueReply) and not self._exchange.awaits(message):
            self.counters.dropped += 1
            return
        self._heard(source, now)
        if isinstance(message, FindNodeReply | FindValueReply):
            self._exchange.answer(message, now)
        elif isinstance(message, Store):
            self._keep(message, now)
        else:
            self._reply(message)

    def malformed(self) -> None:
        """A payload came in that could not be decoded."""
        self.counters.received += 1
        self.counters.dropped += 1

    def _reply(self, message: FindNode | FindValue) -> None:
        # A prototype does not survive an answer without contacts: then it gets itself.
        near = tuple(self.contacts.nearest(message.key, self.config.k)) or (message.source,)
        if isinstance(message, FindNode):
            reply: Message = FindNodeReply(self.own, message.cookie, message.key, near)
        else:
            kept = [value_of(address) for address in self.values.get(message.key)]
            if message.key in self._names:
                kept.insert(0, value_of(self.own.address))  # the one value that we can vouch for
            reply = FindValueReply(self.own, message.cookie, message.key, near, tuple(kept[:MAX_VALUES]))
        self._send(message.source.address, reply)

    def _keep(self, message: Store, now: float) -> None:
        key, source = message.key, message.source.address
        owner = next(iter(_addresses([message.value])), None)
        unix = self._unix(now)
        if owner is None:
            self.counters.refused += 1
        elif owner == self.own.address:
            if key not in self._names and message.expires >= unix:
                self._store(source, key, owner, EXPIRED)  # who keeps it has not heard that we took it back
        elif message.expires < unix:
            if source == owner:
                self.values.remove(key, owner)
                self.values.bury(key, owner, until=now + 2 * self.config.t_replicate)
            else:
                self.counters.refused += 1
        elif source != owner and self.values.buried(key, owner):
            self.counters.refused += 1
        else:
            self.values.dig_up(key, owner)
            new = self.values.find(key, owner) is None
            expires = min(message.expires, unix + self.config.t_expire)
            if not self.values.add(key, owner, expires=expires, now=now):
                self.counters.refused += 1
            elif new:
                self._doubt_at(key, owner, now + 1.25 * self.config.t_replicate)

    # ------------------------------------------------------------ upkeep

    def _keep_house(self, now: float) -> None:
        self._timers.at(now + HOUSEKEEPING, self._keep_house)
        self.values.expire(epoch=self.epoch + now, now=now)
        for address in self.contacts.lost[:1]:
            self._greet(address, now)

    def _refresh(self, now: float) -> None:
        age = self.config.t_refresh
        self._timers.at(now + age * self._random.uniform(0.8, 1.0), self._refresh)
        if not len(self.contacts):
            return
        for contact in self.contacts.eldest(now, age):
            self._greet(contact.address, now)
        for bucket in self.contacts.stale(now, age):
            self._look_into(bucket, now)
        self._look_up(self.own.id, lambda nodes, now: None, now)

    def _doubt_at(self, key: bytes, owner: int, when: float) -> None:
        self._timers.at(when, lambda now: self._doubt(key, owner, now))

    def _doubt(self, key: bytes, owner: int, now: float) -> None:
        """A value of which nothing was heard for t_replicate: ask its owner."""
        value = self.values.find(key, owner)
        if value is None:
            return
        due = value.stored + 1.25 * self.config.t_replicate
        if now < due:
            self._doubt_at(key, owner, due)
            return

        def report(outcome: Outcome, reply: Reply | None, now: float) -> None:
            if outcome is Outcome.ANSWERED and isinstance(reply, FindValueReply):
                self._settle_doubt(key, owner, reply, now)
            elif outcome is Outcome.LOST:
                value.misses += 1
                if value.misses >= MAX_MISSES:
                    self.values.remove(key, owner)
                else:
                    self._doubt_at(key, owner, now + self.config.t_replicate)

        self._exchange.ask(owner, key, values=True, report=report, now=now)

    def _settle_doubt(self, key: bytes, owner: int, reply: FindValueReply, now: float) -> None:
        value = self.values.find(key, owner)
        if value is None:
            return
        # A full answer of a prototype may have left out its own.
        if owner not in _addresses(reply.values) and len(reply.values) < MAX_VALUES:
            self.values.remove(key, owner)
            self.values.bury(key, owner, until=now + self.config.t_replicate)
            return
        value.stored, value.misses = now, 0
        self._doubt_at(key, owner, now + 1.25 * self.config.t_replicate)

        def copy(nodes: list[Contact], now: float) -> None:
            kept = self.values.find(key, owner)
            for contact in nodes:
                if kept is not None and contact.address != owner:
                    self._store(contact.address, key, owner, kept.expires)

        self._look_up(key, copy, now)


def _addresses(values: Iterable[bytes]) -> list[int]:
    """The addresses among values; what is none is passed over."""
    found = []
    for value in values:
        try:
            found.append(address_of(value))
        except MalformedPacket:
            continue
    return found
