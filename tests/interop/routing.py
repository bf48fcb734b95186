"""The prototype's link state and its routes (spec/link-state), weaknesses and all.

Used by the prototype of the tests, on its loop. It keeps received entries until they age, refreshes all entries with its own address, and
computes anew when it receives a link that it does not know, within t_recalc of removing one of its own, and at no other time: not
when an entry ages, and not when a neighbour that it knows connects anew, to which it sends into the old flow for ever
(c-stale-forwarding-after-reconnect.pcap).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from . import upper
from .judge import Judge
from .lower import Config
from .names import Flow
from .octets import Wrong
from .upper import Link


@dataclass(slots=True)
class _Entry:
    sequence: int
    updated: float


class Routing:
    """`next_hops` is the forwarding table: the flow to each address. `changed` is called when it has changed."""

    def __init__(self, address: int, config: Config, judge: Judge, changed: Callable[[], None]) -> None:
        self.address = address
        self.next_hops: dict[int, Flow] = {}
        self.ignored = 0
        """Messages dropped because of their length."""
        self.database: dict[tuple[int, int], _Entry] = {}
        self.neighbours: dict[int, Flow] = {}
        """Data transfer flows by address: of two the last one counts."""
        self.managers: list[Flow] = []
        self._config = config
        self._judge = judge
        self._changed = changed
        self._loop = asyncio.get_running_loop()
        self._last: dict[tuple[Flow, int, int], int] = {}
        self._stale = False
        self._tasks = [self._loop.create_task(self._update()), self._loop.create_task(self._recalculate())]

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()

    # ---------------------------------------------------------------- connections

    def dt_added(self, address: int, flow: Flow) -> None:
        self._flood(Link(address, self.address, 0))
        self.neighbours[address] = flow
        if (address, self.address) not in self.database:
            self.database[address, self.address] = _Entry(0, self._loop.time())
            self._compute()

    def dt_removed(self, address: int) -> None:
        """Disconnected here: it sends no message, other members wait until the link ages."""
        self.neighbours.pop(address, None)
        self.database.pop((address, self.address), None)
        self._stale = True

    def mgmt_added(self, flow: Flow) -> None:
        self.managers.append(flow)
        flow.use(lambda packet: self._arrived(flow, packet))
        for target, source in sorted(self.database):
            flow.write(Link(target, source, self.database[target, source].sequence).write())

    def mgmt_removed(self, flow: Flow) -> None:
        self.managers.remove(flow)

    # ---------------------------------------------------------------- messages

    def _arrived(self, flow: Flow, packet: bytes) -> None:
        self._judge.look("link state", packet, self._take, flow, packet)

    def _take(self, flow: Flow, packet: bytes) -> None:
        link = upper.read_link(packet, self.address)
        if link is None:
            self.ignored += 1
            return
        said = (flow, link.target, link.source)
        if link.sequence < self._last.get(said, 0):
            raise Wrong(f"number {link.sequence} behind {self._last[said]}")
        self._last[said] = link.sequence
        key = (link.target, link.source)
        entry, now = self.database.get(key), self._loop.time()
        if entry is not None and link.sequence <= entry.sequence:
            return
        self.database[key] = _Entry(link.sequence, now)
        for other in self.managers:
            if other is not flow:
                other.write(packet)
        if entry is None:
            self._compute()

    def _flood(self, link: Link) -> None:
        for flow in self.managers:
            flow.write(link.write())

    # ---------------------------------------------------------------- time

    async def _update(self) -> None:
        while True:
            await asyncio.sleep(self._config.t_update)
            now = self._loop.time()
            for (target, source), entry in list(self.database.items()):
                if now - entry.updated > self._config.t_timeo:
                    del self.database[target, source]
                elif source == self.address:
                    entry.sequence += 1
                    entry.updated = now
                    self._flood(Link(target, source, entry.sequence))

    async def _recalculate(self) -> None:
        while True:
            await asyncio.sleep(self._config.t_recalc)
            if self._stale:
                self._compute()

    # ---------------------------------------------------------------- routes

    def _compute(self) -> None:
        """Shortest paths over links that both ends announced; with fewer than two members the old table stays."""
        self._stale = False
        announced = Counter(frozenset(link) for link in self.database)
        edges = [link for link in self.database if announced[frozenset(link)] == 2]
        members = {address for link in self.database for address in link}
        if len(members) < 2:
            return
        first: dict[int, int] = {}  # next hop by destination
        ring = [self.address]
        while ring:
            reached = []
            for here in sorted(ring):
                for target, source in reversed(edges):
                    if source == here and target != self.address and target not in first:
                        first[target] = first.get(here, target)
                        reached.append(target)
            ring = reached
        self.next_hops = {
            destination: self.neighbours[hop] for destination, hop in first.items() if hop in self.neighbours
        }
        self._changed()
