"""Contact table of the directory: nodes that have sent us a message, in buckets by their distance (spec/dht 2).

Runs in the unicast IPCP. Bucket i holds up to k nodes whose id differs from ours first in bit i (counted from the lowest): few near
ones, of which we know all, and as many of each farther half of the layer. A bucket has the node with the oldest last
message first, and spares that replace a lost node. Only nodes that have sent us a message themselves are added: a
node learnt from another is asked first.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from heapq import nsmallest

from ipcpd.wire.dht import Contact

MAX_LOST = 64
"""Nodes that stopped answering and are remembered, so that two halves of a layer find each other again."""

MAX_PROBES = 20
"""Times that a lost node is tried before it is forgotten."""

QUIET = 60.0
"""A node with a message in the last QUIET seconds is not probed when a new node could take its place."""


def number(identity: bytes) -> int:
    """An id or a key as a number; the distance of two is their exclusive or."""
    return int.from_bytes(identity, "big")


@dataclass(slots=True)
class Node:
    """A contact, and the time of its last message, seconds."""

    contact: Contact
    number: int
    last_rx_at: float


@dataclass(slots=True)
class Bucket:
    """nodes and spares by id, the one with the oldest last message first; `consulted`: time of the last look-up"""

    nodes: OrderedDict[int, Node] = field(default_factory=OrderedDict)
    spares: OrderedDict[int, Node] = field(default_factory=OrderedDict)
    consulted: float = float("-inf")


class Contacts:
    """own  our id; k  nodes in a bucket"""

    __slots__ = ("_addresses", "_buckets", "_lost", "_own", "k")

    def __init__(self, own: bytes, k: int) -> None:
        self._own = number(own)
        self.k = k
        self._buckets: dict[int, Bucket] = {}
        self._addresses: dict[int, int] = {}  # id by address, of nodes and spares
        self._lost: OrderedDict[int, int] = OrderedDict()  # times tried, by address

    def __len__(self) -> int:
        return sum(len(bucket.nodes) for bucket in self._buckets.values())

    def __iter__(self) -> Iterator[Contact]:
        return (node.contact for bucket in self._buckets.values() for node in bucket.nodes.values())

    def knows(self, address: int) -> bool:
        """Whether a node of this address has sent us a message and is not lost."""
        return address in self._addresses

    def received_from(self, contact: Contact, now: float) -> tuple[bool, Contact | None]:
        """A node has sent us a message.

        Returns whether it is new in the table, and a node that should be asked whether it is still there, because it
        holds the place that the new one could have.
        """
        identity, address = number(contact.id), contact.address
        self._lost.pop(address, None)
        before = self._addresses.get(address)
        if before is not None and before != identity:
            self._remove(before)  # its IPCP has started anew
        bucket = self._bucket(identity)
        for known in (bucket.nodes, bucket.spares):
            node = known.get(identity)
            if node is not None:
                self._addresses.pop(node.contact.address, None)  # it may have another address now
                node.contact, node.last_rx_at = contact, now
                known.move_to_end(identity)
                break
        self._addresses[address] = identity
        if identity in bucket.nodes:
            return False, None
        if len(bucket.nodes) < self.k:
            bucket.nodes[identity] = Node(contact, identity, now)
            return True, None
        if identity not in bucket.spares:
            bucket.spares[identity] = Node(contact, identity, now)
        if len(bucket.spares) > self.k:
            _, oldest = bucket.spares.popitem(last=False)
            self._addresses.pop(oldest.contact.address, None)
        eldest = next(iter(bucket.nodes.values()))
        return False, eldest.contact if now - eldest.last_rx_at > QUIET else None

    def lose(self, address: int) -> Contact | None:
        """A node does not answer: take it out, put a spare in its place. Returns it, or None when there was none."""
        if address in self._lost:
            self._lost[address] += 1
            self._lost.move_to_end(address)
            if self._lost[address] > MAX_PROBES:
                del self._lost[address]
        identity = self._addresses.get(address)
        if identity is None:
            return None
        node = self._remove(identity)
        self._lost[address] = 0
        if len(self._lost) > MAX_LOST:
            self._lost.popitem(last=False)
        return node.contact if node else None

    def _remove(self, identity: int) -> Node | None:
        bucket = self._bucket(identity)
        bucket_of = bucket.nodes if identity in bucket.nodes else bucket.spares
        node = bucket_of.pop(identity, None)
        if node is None:
            return None
        self._addresses.pop(node.contact.address, None)
        if bucket_of is bucket.nodes and bucket.spares:
            spare, promoted = bucket.spares.popitem()  # the spare with the latest message
            bucket.nodes[spare] = promoted
        return node

    def _bucket(self, identity: int) -> Bucket:
        return self._buckets.setdefault((identity ^ self._own).bit_length(), Bucket())

    def nearest(self, key: bytes, count: int) -> list[Contact]:
        """The nodes nearest to a key, nearest first, at most `count`."""
        target = number(key)
        nodes = (node for bucket in self._buckets.values() for node in bucket.nodes.values())
        return [node.contact for node in nsmallest(count, nodes, key=lambda node: node.number ^ target)]

    @property
    def lost(self) -> list[int]:
        """Addresses of nodes that stopped answering, the one to be tried next first."""
        return list(self._lost)

    def consulted(self, key: bytes, now: float) -> None:
        """A look-up for this key goes on: its bucket need not be refreshed."""
        self._bucket(number(key)).consulted = now

    def stale(self, now: float, age: float) -> list[int]:
        """Buckets with nodes, that no look-up has consulted for `age` seconds."""
        return [i for i, bucket in self._buckets.items() if bucket.nodes and now - bucket.consulted >= age]

    def eldest(self, now: float, age: float) -> list[Contact]:
        """Of each bucket the node with the oldest last message, if that is `age` seconds old."""
        first = (next(iter(bucket.nodes.values())) for bucket in self._buckets.values() if bucket.nodes)
        return [node.contact for node in first if now - node.last_rx_at >= age]

    def beyond(self, count: int) -> list[int]:
        """Buckets farther than the nearest ones that together hold `count` nodes."""
        seen, far = 0, []
        for index in sorted(self._buckets):
            if seen >= count:
                far.append(index)
            seen += len(self._buckets[index].nodes)
        return far

    def key_in(self, bucket: int, random: int, length: int) -> bytes:
        """A key of `length` octets that belongs into a bucket; `random` chooses which."""
        low = 1 << (bucket - 1)
        return (self._own ^ (low | (random & (low - 1)))).to_bytes(length, "big")
