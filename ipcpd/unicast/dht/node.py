"""Common state of the parts of the directory's machine: contacts, questions, look-ups, and the way out (spec/dht).

Runs in the unicast IPCP, inside the directory's machine. `dht` joins and queries, `names` makes our names known, `keeper` keeps
those of others; all of them send, ask and look up through here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from ipcpd.wire.dht import Contact, FindValueReply, Message, Store, value_of
from ouroboros.ipcp_config import DhtConfig

from ..timers import Timers
from .contacts import Contacts
from .exchange import Exchange, Outcome, Reply
from .lookup import Done, Found, Lookup, Status
from .values import Values

MAX_LOOKUPS = 128
"""Look-ups that go on at the same time; others wait for their turn."""

MAX_WAITING = 1024
"""Look-ups that wait for their turn, beyond which those for the values of others are left out, and counted."""

MAX_EXPIRES = (1 << 32) - 1
"""The last time of expiry that a store can carry: the clock, or the life of values in the layer, may lead beyond."""

EXPIRED = 1
"""Time of expiry by which an owner takes a value back: long ago on every clock."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Event: the end of a query. Addresses of members that have registered the name; empty: no such member is known."""

    key: bytes
    addresses: tuple[int, ...]
    without: frozenset[int] = frozenset()
    """Members that the query excluded."""


@dataclass(frozen=True, slots=True)
class Registered:
    """Event: a name was stored for the first time, at `copies` other nodes. After 0 the event is repeated when there are some."""

    key: bytes
    copies: int


Event = Answer | Registered


@dataclass(slots=True)
class Counters:
    """For the statistics tree."""

    received: int = 0
    dropped: int = 0
    refused: int = 0
    lookups: int = 0
    lost: int = 0
    crowded: int = 0
    """Look-ups and questions for the sake of others that were left out, or put off, because there were too many."""


class Node:
    """One node of the table, without its names.

    on_lost  called with each contact that has been lost, and the time
    """

    def __init__(
        self,
        *,
        address: int,
        key_length: int,
        config: DhtConfig,
        epoch: float,
        random: Random,
        node: bytes = b"",
    ) -> None:
        self.key_length = key_length
        self.config = config
        self.epoch = epoch
        self.random = random
        self.own = Contact(node if len(node) == key_length else random.randbytes(key_length), address)
        self.contacts = Contacts(self.own.id, config.k)
        self.values = Values()
        self.counters = Counters()
        self.timers = Timers()
        self.exchange = Exchange(self.own, timers=self.timers, random=random, send=self.send)
        self.packets: list[tuple[int, Message]] = []
        self.events: list[Event] = []
        self.on_lost: list[Callable[[Contact, float], None]] = []
        self._lookups = 0
        self._waiting: deque[Lookup] = deque()

    def send(self, address: int, message: Message) -> None:
        """Send a message to a member; nothing can be sent to oneself."""
        if address != self.own.address:
            self.packets.append((address, message))

    def store(self, address: int, key: bytes, owner: int, expires: int) -> None:
        """Send a store: the member keeps the address of `owner` until `expires`, seconds since 1970."""
        self.send(address, Store(self.own, key, value_of(owner), min(expires, MAX_EXPIRES)))

    def unix(self, now: float) -> int:
        """Seconds since 1970."""
        return int(self.epoch + now)

    def greet(self, address: int, now: float) -> None:
        """Ask a node, of which we may know the address only, for those near us."""
        if self.exchange.is_overloaded:
            self.counters.crowded += 1
        elif not self.exchange.asking(address) and address != self.own.address:
            self.exchange.ask(
                address, self.own.id, values=False, report=self._lost_if_silent(address), now=now
            )

    def probe(self, address: int, answered: Callable[[bool], None], now: float) -> None:
        """Ask a member whether it lives; `answered` is called once, when it has answered or its time to answer has expired."""
        lost = self._lost_if_silent(address)
        pending = [answered]

        def report(outcome: Outcome, reply: Reply | None, now: float) -> None:
            if outcome in (Outcome.SILENT, Outcome.ANSWERED) and pending:
                pending.pop()(outcome is Outcome.ANSWERED)
            lost(outcome, reply, now)

        self.exchange.ask(address, self.own.id, values=False, report=report, now=now)

    def _lost_if_silent(self, address: int) -> Callable[[Outcome, Reply | None, float], None]:
        def report(outcome: Outcome, reply: Reply | None, now: float) -> None:
            if outcome is Outcome.LOST:
                self.lose(address, now)

        return report

    def lose(self, address: int, now: float) -> None:
        """A node has left both tries of a question unanswered."""
        contact = self.contacts.lose(address)
        if contact is not None:
            self.counters.lost += 1
            for call in self.on_lost:
                call(contact, now)

    # ------------------------------------------------------------ look-ups

    def look_up(
        self, key: bytes, done: Done, now: float, *, found: Found | None = None, for_others: bool = False
    ) -> None:
        """Find the k nodes nearest to a key. With `found`, ask for the values under it as well.

        for_others  others can cause any number of these: it is left out, and `done` not called, when many wait
        """
        if for_others and len(self._waiting) >= MAX_WAITING:
            self.counters.crowded += 1
            return
        lookup = Lookup(key, own=self.own, k=self.config.k, alpha=self.config.alpha, found=found, done=done)
        self.counters.lookups += 1
        if self._lookups < MAX_LOOKUPS:
            self._begin(lookup, now)
        else:
            self._waiting.append(lookup)

    def look_into(self, bucket: int, now: float) -> None:
        """Look up some key of a bucket, to learn of nodes there."""
        key = self.contacts.key_in(bucket, self.random.getrandbits(8 * self.key_length), self.key_length)
        self.look_up(key, lambda nodes, now: None, now)

    def _begin(self, lookup: Lookup, now: float) -> None:
        self._lookups += 1
        self.contacts.consulted(lookup.key, now)
        lookup.add(self.contacts.nearest(lookup.key, self.config.k))
        # Not inside the caller's call: a look-up without a node to ask ends immediately.
        self.timers.at(now, lambda now: self._drive(lookup, now))

    def _drive(self, lookup: Lookup, now: float) -> None:
        if lookup.ended:
            return
        for contact in lookup.next():
            self._ask(contact.address, lookup, now)
        if lookup.finished:
            lookup.ended = True
            self._lookups -= 1
            if self._waiting:
                self._begin(self._waiting.popleft(), now)
            lookup.done(lookup.answered, now)

    def _ask(self, address: int, lookup: Lookup, now: float) -> None:
        def report(outcome: Outcome, reply: Reply | None, now: float) -> None:
            if outcome is Outcome.ANSWERED and reply is not None:
                lookup.mark(address, Status.ANSWERED)
                lookup.add(reply.contacts)
                if isinstance(reply, FindValueReply) and lookup.found is not None:
                    lookup.found(reply.values)
            elif outcome is Outcome.LOST:
                self.lose(address, now)
            else:
                lookup.mark(address, Status.SLOW if outcome is Outcome.SLOW else Status.FAILED)
            self._drive(lookup, now)

        self.exchange.ask(address, lookup.key, values=lookup.found is not None, report=report, now=now)
