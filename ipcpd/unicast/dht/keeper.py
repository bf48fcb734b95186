"""Keeps and checks the values of other owners (spec/dht 3; spec/lessons 51).

Runs in the unicast IPCP, inside the directory's machine. The owner of a value stores it again every t_replicate. When
no store has arrived for longer, the keeper asks the owner: so a value that was taken back, or that belongs to an exited owner, is
removed before it expires. A prototype stores once, and at any three nodes: the keeper copies a value that does not belong here
to its nodes soon after it arrived, and again whenever it had to ask the owner.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ipcpd.wire.dht import MAX_VALUES, Contact, FindValueReply, Store, address_of
from ouroboros.wire import MalformedPacket

from .contacts import number
from .exchange import Outcome, Reply
from .node import EXPIRED, Node

MAX_MISSES = 3
"""Times in a row, t_replicate apart, that the owner of a value may leave a question unanswered."""

OVERDUE = 1.25
"""Times t_replicate without a store after which the keeper asks the owner."""

OVERLOAD_PAUSE = 5.0
"""Seconds after which the owner of a value is asked when there were too many questions."""

MOVE = 2.0
"""Seconds after which a value that does not belong here is copied: its owner may be about to do that."""


def addresses_of(values: Iterable[bytes]) -> list[int]:
    """The addresses among values; values of another form are skipped."""
    found = []
    for value in values:
        try:
            found.append(address_of(value))
        except MalformedPacket:
            continue
    return found


class Keeper:
    """ours       whether a key is that of a name of our own
    reachable  whether routing reaches an address, as far as is known
    """

    __slots__ = ("_node", "_ours", "_reachable")

    def __init__(
        self, node: Node, *, ours: Callable[[bytes], bool], reachable: Callable[[int], bool]
    ) -> None:
        self._node = node
        self._ours = ours
        self._reachable = reachable

    def keep(self, message: Store, now: float) -> None:
        """A store has arrived."""
        node, key, source = self._node, message.key, message.source.address
        owner = next(iter(addresses_of([message.value])), None)
        unix = node.unix(now)
        if owner is None:
            node.counters.refused += 1
        elif owner == node.own.address:
            if not self._ours(key) and message.expires >= unix:
                node.store(source, key, owner, EXPIRED)  # the sender did not get our withdrawal
        elif message.expires < unix:
            self._taken_back(message, owner, now)
        elif source != owner and node.values.buried(key, owner):
            node.counters.refused += 1
        else:
            self._add(key, owner, min(message.expires, unix + node.config.t_expire), now)

    def _taken_back(self, message: Store, owner: int, now: float) -> None:
        values, source = self._node.values, message.source.address
        if source != owner:
            self._node.counters.refused += 1
            return
        values.remove(message.key, owner)
        values.bury(message.key, owner, until=now + 2 * self._node.config.t_replicate)

    def _add(self, key: bytes, owner: int, expires: int, now: float) -> None:
        values = self._node.values
        values.dig_up(key, owner)
        new = values.find(key, owner) is None
        if not values.add(key, owner, expires=expires, now=now, reachable=self._reachable(owner)):
            self._node.counters.refused += 1
        elif new:
            self._doubt_at(key, owner, now + OVERDUE * self._node.config.t_replicate)
            if self._misplaced(key):
                value = values.find(key, owner)
                assert value is not None
                value.move = self._node.timers.at(now + MOVE, lambda now: self._copy(key, owner, now))

    def _doubt_at(self, key: bytes, owner: int, when: float) -> None:
        value = self._node.values.find(key, owner)
        if value is not None:
            value.doubt.cancel()
            value.doubt = self._node.timers.at(when, lambda now: self._doubt(key, owner, now))

    def _doubt(self, key: bytes, owner: int, now: float) -> None:
        value = self._node.values.find(key, owner)
        if value is None:
            return
        due = value.stored + OVERDUE * self._node.config.t_replicate
        if now < due:
            self._doubt_at(key, owner, due)
            return
        if self._node.exchange.is_overloaded:
            self._node.counters.crowded += 1
            self._doubt_at(key, owner, now + OVERLOAD_PAUSE)
            return

        def report(outcome: Outcome, reply: Reply | None, now: float) -> None:
            if outcome is Outcome.ANSWERED and isinstance(reply, FindValueReply):
                self._settle(key, owner, reply, now)
            elif outcome is Outcome.LOST:
                self._silent(key, owner, now)

        self._node.exchange.ask(owner, key, values=True, report=report, now=now)

    def _silent(self, key: bytes, owner: int, now: float) -> None:
        node = self._node
        node.lose(owner, now)
        value = node.values.find(key, owner)
        if value is None:
            return
        value.misses += 1
        if value.misses >= MAX_MISSES:
            node.values.remove(key, owner)
        else:
            self._doubt_at(key, owner, now + node.config.t_replicate)

    def _settle(self, key: bytes, owner: int, reply: FindValueReply, now: float) -> None:
        """The owner has answered."""
        node = self._node
        value = node.values.find(key, owner)
        if value is None:
            return
        # A full answer of a prototype may have left out its own.
        if owner not in addresses_of(reply.values) and len(reply.values) < MAX_VALUES:
            node.values.remove(key, owner)
            node.values.bury(key, owner, until=now + node.config.t_replicate)
            return
        value.stored, value.misses = now, 0
        self._doubt_at(key, owner, now + OVERDUE * node.config.t_replicate)
        self._copy(key, owner, now)

    def _misplaced(self, key: bytes) -> bool:
        """Whether we know as many nodes nearer to the key as may keep it."""
        node, target = self._node, number(key)
        nearest = node.contacts.nearest(key, node.config.k)
        ours = number(node.own.id) ^ target
        return len(nearest) == node.config.k and number(nearest[-1].id) ^ target < ours

    def _copy(self, key: bytes, owner: int, now: float) -> None:
        """Store a value where it belongs, with the expiry that it has."""
        node = self._node

        def copy(nodes: list[Contact], now: float) -> None:
            kept = node.values.find(key, owner)
            for contact in nodes:
                if kept is not None and contact.address != owner:
                    node.store(contact.address, key, owner, kept.expires)

        node.look_up(key, copy, now, for_others=True)
