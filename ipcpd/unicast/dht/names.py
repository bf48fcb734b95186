"""Names that are registered at this node: keeps them known at the k nodes nearest to their keys (spec/dht 3).

Runs in the unicast IPCP, inside the directory's machine. A store is not acknowledged, so it is repeated after 3 s; then
every t_replicate, and soon after one of the k was lost. A new node that is nearer than one of the k gets it immediately.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from ipcpd.wire.dht import Contact

from ..timers import Timer
from .contacts import number
from .node import EXPIRED, Node, Registered

STORE_AGAIN = 3.0
"""Seconds after which a name is stored for the second time, or anew when a node that had it was lost."""


@dataclass(slots=True)
class Name:
    """The nodes where it is stored, the number of rounds, and the timer of the next round."""

    stored: list[Contact] = field(default_factory=list)
    rounds: int = 0
    timer: Timer | None = None


class Names:
    """Our names by key."""

    __slots__ = ("_names", "_node")

    def __init__(self, node: Node) -> None:
        self._node = node
        self._names: dict[bytes, Name] = {}
        node.on_lost.append(self._lost)

    def __contains__(self, key: bytes) -> bool:
        return key in self._names

    def __iter__(self) -> Iterator[tuple[bytes, Name]]:
        return iter(self._names.items())

    def register(self, key: bytes, now: float) -> None:
        """Make a name known. Again: no effect."""
        if key not in self._names:
            self._names[key] = Name()
            self._publish(key, now)

    def unregister(self, key: bytes, now: float) -> None:
        """Take a name back from the nodes where it was stored, and from nodes to which these may have copied it."""
        name = self._names.pop(key, None)
        if name is None:
            return
        if name.timer is not None:
            name.timer.cancel()
        for contact in name.stored:
            self._take_back(contact.address, key)

        def others(nodes: list[Contact], now: float) -> None:
            for contact in nodes:
                # This includes the nodes above, because a store is not acknowledged.
                if key not in self._names:
                    self._take_back(contact.address, key)

        self._node.look_up(key, others, now)

    def _take_back(self, address: int, key: bytes) -> None:
        self._node.store(address, key, self._node.own.address, EXPIRED)

    def _publish(self, key: bytes, now: float) -> None:
        if key in self._names:
            self._node.look_up(key, lambda nodes, now: self._published(key, nodes, now), now)

    def _published(self, key: bytes, nodes: list[Contact], now: float) -> None:
        name = self._names.get(key)
        if name is None:
            return
        for contact in nodes:
            self._store(contact, key, now)
        if not name.rounds or (nodes and not name.stored):
            self._node.events.append(Registered(key, len(nodes)))
        name.stored = nodes
        name.rounds += 1
        self._publish_at(key, name, now + (STORE_AGAIN if name.rounds == 1 else self._period()))

    def _store(self, contact: Contact, key: bytes, now: float) -> None:
        node = self._node
        node.store(contact.address, key, node.own.address, node.unix(now) + node.config.t_expire)

    def _period(self) -> float:
        """Seconds to the next store: well before expiry, and random, so that nodes that started together do not stay in step."""
        config = self._node.config
        return min(config.t_replicate, config.t_expire / 2) * self._node.random.uniform(0.8, 1.0)

    def _publish_at(self, key: bytes, name: Name, when: float) -> None:
        if name.timer is not None:
            if name.timer.call is not None and name.timer.when <= when:
                return
            name.timer.cancel()
        name.timer = self._node.timers.at(when, lambda now: self._publish(key, now))

    def hand_over(self, contact: Contact, now: float) -> None:
        """A node is new to us: some names may belong there."""
        identity = number(contact.id)
        for key, name in self._names.items():
            if not name.rounds or contact in name.stored:
                continue
            target = number(key)
            far = max((number(other.id) ^ target for other in name.stored), default=0)
            if len(name.stored) < self._node.config.k or identity ^ target < far:
                self._store(contact, key, now)
                name.stored.append(contact)
                if len(name.stored) == 1:
                    self._node.events.append(Registered(key, 1))
                    self._publish_at(key, name, now + STORE_AGAIN)

    def _lost(self, contact: Contact, now: float) -> None:
        for key, name in self._names.items():
            if contact in name.stored:
                name.stored.remove(contact)
                self._publish_at(key, name, now + STORE_AGAIN)
