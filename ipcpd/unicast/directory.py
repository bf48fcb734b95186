"""The directory as the IRMd and the flow allocator use it: the glue around the machine in `dht` (paper 2.12.1, 5.3; spec/dht).

Runs in the unicast IPCP, on its loop. The IRMd asks whether a name is known and then for a flow to it, so the result of a look-up
is kept for a second: the flow allocator does not look it up again. A name that is registered here is known without a
look-up, and leads here when no other member holds it.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ipcpd.wire import dht as wire
from ipcpd.wire.address import DIRECTORY
from ouroboros.guard import Guard
from ouroboros.wire import MalformedPacket

from .dht import Answer, Dht

KEPT = 1.0
"""Seconds for which the result of a look-up is used without another look-up."""

MOST_KEPT = 1024
"""Names for which a result is kept."""

SILENT = 60.0
"""Seconds for which a member that did not answer a flow request is tried last; its next directory message ends this."""

MOST_SILENT = 256

Send = Callable[[int, int, bytes], bool]
"""Sends (address, endpoint id, payload); False: there was no route."""


@dataclass(slots=True)
class _Found:
    addresses: tuple[int, ...]
    until: float


class Directory:
    """`resolved(key, addresses)` answers the flow allocator's look-ups; `distances()` is the distance to each member."""

    def __init__(
        self,
        dht: Dht,
        *,
        key_length: int,
        resolved: Callable[[bytes, tuple[int, ...]], None],
        distances: Callable[[], Mapping[int, int]],
        guard: Guard | None = None,
    ) -> None:
        self._guard = guard or Guard()
        self.dht = dht
        self.registered: set[bytes] = set()
        self._key_length = key_length
        self._resolved = resolved
        self._distances = distances
        self._found: OrderedDict[bytes, _Found] = OrderedDict()
        self._resolving: dict[bytes, frozenset[int]] = {}  # members that are passed over, by name
        self._seeking: dict[tuple[bytes, frozenset[int]], list[Callable[[tuple[int, ...]], None]]] = {}
        self._silent: OrderedDict[int, float] = OrderedDict()  # until when, by address
        self._asking: dict[bytes, list[asyncio.Future[bool]]] = {}

    # ------------------------------------------------------------ the IRMd

    def register(self, key: bytes, now: float) -> None:
        """Make a name known in the layer."""
        self.dht.register(key, now)
        self.registered.add(key)

    def unregister(self, key: bytes, now: float) -> bool:
        """Take a name back; False: it was not registered."""
        if key not in self.registered:
            return False
        self.registered.discard(key)
        self.dht.unregister(key, now)
        return True

    def knows(self, key: bytes, now: float) -> bool:
        """Whether a name can be reached, as far as this member knows without a look-up."""
        return key in self.registered or self._kept(key, now) is not None

    def query(self, key: bytes, now: float) -> asyncio.Future[bool]:
        """Whether a name can be reached, after a look-up."""
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._asking.setdefault(key, []).append(answer)
        self.dht.query(key, now)
        return answer

    # ------------------------------------------------------------ the flow allocator

    def resolve(self, key: bytes, now: float) -> None:
        """Find the members that hold a name; the answer goes to `resolved`, perhaps before this returns."""
        kept = self._kept(key, now)
        if kept is not None:
            self._resolved(key, self._sorted(key, kept))
        elif key not in self._resolving:
            silent = frozenset(address for address, until in self._silent.items() if until > now)
            self._resolving[key] = silent
            self.dht.query(key, now, silent)

    def seek(self, key: bytes, silent: int, found: Callable[[tuple[int, ...]], None], now: float) -> None:
        """A member that holds a name does not answer: find others. `found` is called once, perhaps with none."""
        self._silent.pop(silent, None)
        self._silent[silent] = now + SILENT
        if len(self._silent) > MOST_SILENT:
            self._silent.popitem(last=False)
        self.forget(key)
        without = frozenset({silent})
        self._seeking.setdefault((key, without), []).append(found)
        self.dht.query(key, now, without)

    def forget(self, key: bytes) -> None:
        """The result of a look-up did not lead to a flow: look the name up again next time."""
        self._found.pop(key, None)

    def _sorted(self, key: bytes, addresses: tuple[int, ...]) -> tuple[int, ...]:
        """The nearest member first, this one last: the IRMd has tried the processes of this system already."""
        if len(addresses) > 1:
            distances = self._distances()
            farthest = max(distances.values(), default=0) + 1
            addresses = tuple(sorted(addresses, key=lambda address: distances.get(address, farthest)))
        return (*addresses, self.dht.own.address) if key in self.registered else addresses

    def _kept(self, key: bytes, now: float) -> tuple[int, ...] | None:
        found = self._found.get(key)
        return found.addresses if found is not None and now < found.until else None

    # ------------------------------------------------------------ the layer

    def reachable(self, addresses: Mapping[int, object], now: float) -> None:
        """Routing can reach these members, and no others."""
        self._found.clear()
        self.dht.reachable(addresses, now)

    def receive(self, payload: bytes, now: float) -> None:
        """A packet for the directory was received."""
        try:
            message = wire.decode(payload, key_length=self._key_length)
        except MalformedPacket:
            self.dht.malformed()
        else:
            self._silent.pop(message.source.address, None)
            self.dht.receive(message, now)

    def run_due(self, send: Send, now: float) -> bool:
        """Carry out the machine's output; returns whether there was any."""
        packets, events = self.dht.take_packets(), self.dht.take_events()
        for address, message in packets:
            with self._guard("a message of the directory"):
                if not send(address, DIRECTORY, wire.encode(message)):
                    self.dht.unroutable(address, now)
        for event in events:
            if isinstance(event, Answer):
                with self._guard("an answer of the directory"):
                    self._answered(event, now)
        return bool(packets or events)

    def _answered(self, answer: Answer, now: float) -> None:
        for found in self._seeking.pop((answer.key, answer.without), ()):
            found(self._sorted(answer.key, answer.addresses) if answer.addresses else ())
        if answer.addresses:
            self._found[answer.key] = _Found(answer.addresses, now + KEPT)
            self._found.move_to_end(answer.key)
            if len(self._found) > MOST_KEPT:
                self._found.popitem(last=False)
        if answer.addresses or not answer.without:
            for waiting in self._asking.pop(answer.key, ()):
                if not waiting.done():
                    waiting.set_result(bool(answer.addresses))
        if self._resolving.get(answer.key) == answer.without:
            if answer.without and not answer.addresses:  # then a silent member may answer again
                self._resolving[answer.key] = frozenset()
                self.dht.query(answer.key, now)
                return
            del self._resolving[answer.key]
            self._resolved(answer.key, self._sorted(answer.key, answer.addresses))

    def close(self, now: float) -> None:
        """The IPCP ends: every pending look-up is answered."""
        self.dht.close()
        self.run_due(lambda _address, _eid, _payload: False, now)
