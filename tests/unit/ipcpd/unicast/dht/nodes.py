"""Nodes of the directory for tests: one that a test answers by hand, and a network of them that it controls."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from random import Random

from ipcpd.unicast.dht import Answer, Dht, Registered
from ipcpd.unicast.dht.dht import QUERY_LIMIT
from ipcpd.wire.dht import (
    Contact,
    FindNode,
    FindNodeReply,
    FindValue,
    FindValueReply,
    Message,
    decode,
    encode,
    value_of,
)
from ouroboros.ipcp_config import DhtConfig

EPOCH = 1_700_000_000
KEY, OTHER = bytes([7]) * 32, bytes([8]) * 32
ME, B, C = 0xA, 0xB, 0xC
B_ID, C_ID = bytes([1]) * 32, bytes([2]) * 32
CONFIG = DhtConfig(t_expire=3600, t_refresh=100, t_replicate=100)


def node(*, address: int = ME, peer: int = 0, seed: int = 1, config: DhtConfig = CONFIG) -> Dht:
    return Dht(
        address=address,
        key_length=32,
        config=config,
        peer=peer,
        epoch=EPOCH,
        random=Random(f"{seed}/{address}"),
    )


def acquainted(**how: int) -> Dht:
    """A node that knows B, and has settled."""
    dht = node(**how)
    dht.receive(FindNode(Contact(B_ID, B), 5, KEY), 0)
    answer_all(dht, 0)
    return dht


def answer_all(
    dht: Dht, now: float, *, values: tuple[int, ...] = (), but: frozenset[int] = frozenset()
) -> list[Message]:
    """Answer every question, by the one who was asked, without news; what else was sent."""
    rest: list[Message] = []
    for _ in range(50):
        dht.timer(now)
        packets = dht.take_packets()
        if not packets:
            break
        for address, message in packets:
            source = Contact(B_ID if address == B else bytes([address & 0xFF]) * 32, address)
            if address in but or not isinstance(message, FindNode | FindValue):
                rest.append(message)
            elif isinstance(message, FindNode):
                dht.receive(FindNodeReply(source, message.cookie, message.key, (source,)), now)
            else:
                found = tuple(map(value_of, values))
                dht.receive(FindValueReply(source, message.cookie, message.key, (source,), found), now)
    return rest


class Net:
    """Nodes, and messages that take 10 ms."""

    def __init__(self) -> None:
        self.now = 0.0
        self.nodes: dict[int, Dht] = {}
        self.dead: set[int] = set()
        self.drop: Callable[[int, int, Message], bool] = lambda source, target, message: False
        self.answers: dict[tuple[int, bytes], tuple[int, ...]] = {}
        self.registered: list[tuple[int, Registered]] = []
        self.sent = 0
        self._flight: list[tuple[float, int, int, bytes]] = []

    def add(self, address: int, *, peer: int = 0, config: DhtConfig = CONFIG) -> Dht:
        dht = Dht(
            address=address,
            key_length=32,
            config=config,
            peer=peer,
            now=self.now,
            epoch=EPOCH,
            random=Random(f"net/{address}"),
        )
        self.nodes[address] = dht
        self._collect()
        return dht

    def _collect(self) -> None:
        for address, dht in self.nodes.items():
            for target, message in dht.take_packets():
                self.sent += 1
                if (
                    address not in self.dead
                    and target in self.nodes
                    and not self.drop(address, target, message)
                ):
                    heapq.heappush(self._flight, (self.now + 0.01, self.sent, target, encode(message)))
            for event in dht.take_events():
                if isinstance(event, Answer):
                    self.answers[address, event.key] = event.addresses
                else:
                    self.registered.append((address, event))

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while True:
            self._collect()
            dues = [
                d.deadline for a, d in self.nodes.items() if a not in self.dead and d.deadline is not None
            ]
            due = min([*dues, *(flight[0] for flight in self._flight[:1])], default=end + 1)
            if due > end:
                self.now = end
                return
            self.now = max(self.now, due)
            while self._flight and self._flight[0][0] <= self.now:
                _, _, target, octets = heapq.heappop(self._flight)
                if target not in self.dead:
                    self.nodes[target].receive(decode(octets, key_length=32), self.now)
            for address, dht in self.nodes.items():
                if address not in self.dead:
                    dht.timer(self.now)

    def find(self, address: int, key: bytes = KEY) -> tuple[int, ...]:
        self.answers.pop((address, key), None)
        self.nodes[address].query(key, self.now)
        self.run(QUERY_LIMIT + 0.1)
        return self.answers[address, key]
