"""The directory's machine: one node of the distributed hash table (paper 2.12.1, 5.3; spec/dht).

Runs in the unicast IPCP, without I/O: calls, messages and timer expiries go in together with `now` (seconds, monotonic);
packets to send, events and the next deadline come out. Made when the configuration of the layer is known, and not before:
the length of ids and keys follows from it.

    flow allocator  ──register, query──►┌─────┐──take_packets──► data transfer, endpoint id 1
    data transfer   ──receive──────────►│ Dht │
    link state      ──reachable────────►└─────┘──take_events───► Answer, Registered

Joining: the node asks the member that enrolled it, then the members that routing reaches, until one answers; it looks up its own
id, and again while the layer grows. So two nodes that start together find each other, whichever is first. A name lives at the k
nodes nearest to its key: `names` puts it there, `keeper` keeps names of other members, `lookup` finds a name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from random import Random, SystemRandom

from ipcpd.wire.dht import (
    MAX_CONTACTS,
    MAX_VALUES,
    Contact,
    FindNode,
    FindNodeReply,
    FindValue,
    FindValueReply,
    Message,
    Store,
    value_of,
)
from ouroboros.ipcp_config import DhtConfig

from ..timers import Timer
from .contacts import Contacts
from .keeper import Keeper, addresses_of
from .names import Names
from .node import Answer, Counters, Event, Node
from .values import Values

QUERY_LIMIT = 3.0
"""Seconds after which a query ends without an address."""

JOIN_FIRST, JOIN_LAST = 0.1, 5.0
"""Seconds between attempts to find a first contact: they double."""

SETTLE = (5.0, 30.0)
"""Seconds after the first contact at which the own id is looked up again: others join at the same time."""

HOUSEKEEPING = 15.0
"""Seconds between attempts to reach a node that was lost, and between looks for values that have expired."""

NOBODY: frozenset[int] = frozenset()

_Asked = tuple[bytes, frozenset[int]]
"""A name, and the members that are not to be found for it."""


@dataclass(slots=True)
class _Query:
    """A query: the timer of its end, and whether its look-up has begun."""

    timer: Timer
    begun: bool = False


class Dht:
    """One node.

    address     ours, in the layer
    key_length  octets of the layer's hash
    config      alpha, k and times of the layer
    peer        address of the member that enrolled us; 0: we are the first
    node        the id of an earlier run of this node; one of another length is not used
    now         time of the start, seconds
    epoch       seconds since 1970 when `now` was 0; `epoch` can be set anew when the system's clock is set
    random      for tests; otherwise the system's
    """

    def __init__(
        self,
        *,
        address: int,
        key_length: int,
        config: DhtConfig | None = None,
        peer: int = 0,
        node: bytes = b"",
        now: float = 0.0,
        epoch: float = 0.0,
        random: Random | None = None,
    ) -> None:
        self.peer = peer
        self._node = Node(
            address=address,
            key_length=key_length,
            config=config or DhtConfig(),
            epoch=epoch,
            random=random or SystemRandom(),
            node=node,
        )
        self._names = Names(self._node)
        self._keeper = Keeper(self._node, ours=self._names.__contains__, reachable=self._reaches)
        self._queries: dict[_Asked, _Query] = {}
        self._reachable: frozenset[int] | None = None
        self._join_pause = JOIN_FIRST
        self._node.on_lost.append(self._lost)
        timers = self._node.timers
        self._joining: Timer | None = timers.at(now, self._join)
        timers.at(now + HOUSEKEEPING, self._keep_house)
        timers.at(now + self._node.config.t_refresh, self._refresh)

    # ------------------------------------------------------------ what comes out

    def take_packets(self) -> list[tuple[int, Message]]:
        """Messages to send, as (address of the member, message), in order; each is returned once."""
        packets, self._node.packets = self._node.packets, []
        return packets

    def take_events(self) -> list[Event]:
        """Events since the last call."""
        events, self._node.events = self._node.events, []
        return events

    @property
    def deadline(self) -> float | None:
        """When `timer` has to be called next."""
        return self._node.timers.deadline

    def timer(self, now: float) -> None:
        """Run the calls that are due. May be called at any time."""
        self._node.timers.run(now)

    @property
    def defects(self) -> int:
        """Calls that were due, and failed."""
        return self._node.timers.guard.defects

    @property
    def own(self) -> Contact:
        """Our id and address."""
        return self._node.own

    @property
    def contacts(self) -> Contacts:
        """The nodes that we know."""
        return self._node.contacts

    @property
    def values(self) -> Values:
        """Values that this node keeps for other members."""
        return self._node.values

    @property
    def counters(self) -> Counters:
        """For the statistics tree."""
        return self._node.counters

    @property
    def names(self) -> dict[bytes, int]:
        """Names that are registered here, with the number of nodes at which each is stored."""
        return {key: len(name.stored) for key, name in self._names}

    @property
    def epoch(self) -> float:
        """Seconds since 1970 when the machine's clock showed 0."""
        return self._node.epoch

    @epoch.setter
    def epoch(self, epoch: float) -> None:
        self._node.epoch = epoch

    # ------------------------------------------------------------ names

    def register(self, key: bytes, now: float) -> None:
        """We have this name: make it known. Again for a name that is registered: no effect. Raises ValueError for a key
        of another length than the layer's."""
        self._check(key)
        self._names.register(key, now)

    def unregister(self, key: bytes, now: float) -> None:
        """We do not have this name any more. No effect for one that is not registered."""
        self._names.unregister(key, now)

    def query(self, key: bytes, now: float, without: frozenset[int] = NOBODY) -> None:
        """Find the members with this name, except the members `without`. The answer is an event; overlapping equal queries share
        one. Raises ValueError for a key of another length than the layer's."""
        self._check(key)
        asked = key, without
        if asked in self._queries:
            return
        timer = self._node.timers.at(now + QUERY_LIMIT, lambda now: self._answer(asked, ()))
        self._queries[asked] = _Query(timer)
        if not self._found(asked, self._node.values.get(key)):
            self._begin(asked, now)

    def _begin(self, asked: _Asked, now: float) -> None:
        """Start a look-up as soon as there is a contact to ask. It starts immediately when no contact can be expected, and when
        routing reaches no member and the name is registered here: then no other member can be the answer."""
        query = self._queries[asked]
        only_here = asked[0] in self._names and not self._reachable
        if not query.begun and (len(self.contacts) or only_here or not self._hopes()):
            query.begun = True
            self._node.look_up(
                asked[0],
                lambda nodes, now: self._answer(asked, ()),
                now,
                found=lambda values: self._found(asked, addresses_of(values)),
            )

    def _found(self, asked: _Asked, addresses: Iterable[int]) -> bool:
        """Answer a query, unless none of these can be used: nothing can be sent to oneself, nor where routing cannot."""
        unusable, reachable = {self.own.address, *asked[1]}, self._reachable
        others = [a for a in addresses if a not in unusable and (reachable is None or a in reachable)]
        if others:
            self._answer(asked, tuple(dict.fromkeys(others)))
        return bool(others)

    def _answer(self, asked: _Asked, addresses: tuple[int, ...]) -> None:
        query = self._queries.pop(asked, None)
        if query is not None:
            query.timer.cancel()
            self._node.events.append(Answer(asked[0], addresses, asked[1]))

    def _check(self, key: bytes) -> None:
        length = self._node.key_length
        if len(key) != length:
            raise ValueError(f"key {key.hex()} has {len(key)} octets; the hash of this layer has {length}")

    def close(self) -> None:
        """The node stops: every outstanding query is answered without an address, so that no requester waits for it."""
        for asked in list(self._queries):
            self._answer(asked, ())

    # ------------------------------------------------------------ nodes

    def reachable(self, addresses: Iterable[int], now: float) -> None:
        """Routing can reach these members, and no others. The node asks lost nodes among them immediately, and some
        unknown ones while it has few contacts (paper 5.3: members enrol in the directory when data transfer flows are made)."""
        before = self._reachable or frozenset()
        self._reachable = frozenset(addresses) - {self.own.address}
        arrived = sorted(self._reachable - before)
        lost = set(self.contacts.lost)
        room = self._node.config.k - len(self.contacts)
        for address in arrived:
            if address in lost or (room > 0 and not self.contacts.knows(address)):
                room -= address not in lost
                self._node.greet(address, now)
        if not len(self.contacts) and self._joining is None and self._hopes():
            self._joining = self._node.timers.at(now, self._join)

    def _reaches(self, address: int) -> bool:
        """Whether routing reaches a member; before the first report of routing it may."""
        return self._reachable is None or address in self._reachable

    def probe(self, address: int, answered: Callable[[bool], None], now: float) -> None:
        """Ask a member whether it runs; `answered` is called once, soon."""
        self._node.probe(address, answered, now)

    def unroutable(self, address: int, now: float) -> None:
        """A packet to this member could not be sent: do not wait for its answer."""
        self._node.exchange.unroutable(address, now)

    def _hopes(self) -> list[int]:
        """Addresses at which a first contact may be found."""
        reachable = sorted(self._reachable or ())
        self._node.random.shuffle(reachable)
        hopes = dict.fromkeys([self.peer, *self.contacts.lost[:3], *reachable[:3]])
        return [address for address in hopes if address and address != self.own.address]

    def _join(self, now: float) -> None:
        self._joining = None
        if len(self.contacts):
            return
        hopes = self._hopes()
        for address in hopes:
            self._node.greet(address, now)
        if hopes:
            self._joining = self._node.timers.at(now + self._join_pause, self._join)
            self._join_pause = min(2 * self._join_pause, JOIN_LAST)

    def _received_from(self, contact: Contact, now: float) -> None:
        alone = not len(self.contacts)
        new, doubtful = self.contacts.received_from(contact, now)
        if doubtful is not None:
            self._node.greet(doubtful.address, now)
        if not new:
            return
        if alone:
            self._join_pause = JOIN_FIRST
            self._settle(now)
            for pause in SETTLE:
                self._node.timers.at(now + pause, self._settle)
        self._names.hand_over(contact, now)
        for asked in list(self._queries):
            self._begin(asked, now)

    def _settle(self, now: float) -> None:
        """Find our place: the nodes near us, and then some in each farther part (Kademlia's join)."""

        def farther(nodes: list[Contact], now: float) -> None:
            for bucket in self.contacts.beyond(self._node.config.k):
                self._node.look_into(bucket, now)

        self._node.look_up(self.own.id, farther, now)

    def _lost(self, contact: Contact, now: float) -> None:
        if not len(self.contacts) and self._joining is None:
            self._joining = self._node.timers.at(now, self._join)

    # ------------------------------------------------------------ messages

    def receive(self, message: Message, now: float) -> None:
        """A message has arrived. A malformed message, or an answer to no outstanding question, is counted and dropped."""
        self.counters.received += 1
        source = message.source
        if source.address == self.own.address or source.id == self.own.id:
            self.counters.dropped += 1
            return
        if len(source.id) != self._node.key_length or len(message.key) != self._node.key_length:
            self.counters.dropped += 1
            return
        if isinstance(message, FindNodeReply | FindValueReply) and not self._node.exchange.awaits(message):
            self.counters.dropped += 1
            return
        self._received_from(source, now)
        if isinstance(message, FindNodeReply | FindValueReply):
            self._node.exchange.answer(message, now)
        elif isinstance(message, Store):
            self._keeper.keep(message, now)
        else:
            self._reply(message)

    def malformed(self) -> None:
        """A payload that could not be decoded has arrived."""
        self.counters.received += 1
        self.counters.dropped += 1

    def _reply(self, message: FindNode | FindValue) -> None:
        most = min(self._node.config.k, MAX_CONTACTS)
        # A prototype does not survive an answer without contacts: then it gets itself.
        near = tuple(self.contacts.nearest(message.key, most)) or (message.source,)
        if isinstance(message, FindNode):
            reply: Message = FindNodeReply(self.own, message.cookie, message.key, near)
        else:
            kept = [value_of(address) for address in self.values.get(message.key)]
            if message.key in self._names:
                kept.insert(0, value_of(self.own.address))  # the one value that we can vouch for
            reply = FindValueReply(self.own, message.cookie, message.key, near, tuple(kept[:MAX_VALUES]))
        self._node.send(message.source.address, reply)

    # ------------------------------------------------------------ upkeep

    def _keep_house(self, now: float) -> None:
        self._node.timers.at(now + HOUSEKEEPING, self._keep_house)
        self.values.expire(epoch=self.epoch + now, now=now)
        for address in self.contacts.lost[:1]:
            self._node.greet(address, now)

    def _refresh(self, now: float) -> None:
        age = self._node.config.t_refresh
        self._node.timers.at(now + age * self._node.random.uniform(0.8, 1.0), self._refresh)
        if not len(self.contacts):
            return
        for contact in self.contacts.eldest(now, age):
            self._node.greet(contact.address, now)
        for bucket in self.contacts.stale(now, age):
            self._node.look_into(bucket, now)
        self._node.look_up(self.own.id, lambda nodes, now: None, now)
