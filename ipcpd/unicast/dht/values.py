"""Values that a node keeps for other nodes: under each key the addresses that have registered it, until they expire (spec/dht 3).

Runs in the unicast IPCP. Times of expiry are seconds since 1970, as they travel in messages. An address that was taken back
leaves a tombstone, so that the node refuses a copy from a node that missed the withdrawal.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

from ..timers import NONE, Timer

MAX_VALUES = 1 << 15
"""Values that are kept. One more is refused: it could be made up."""

MAX_PER_KEY = 64
"""Values under one key."""

MAX_PER_OWNER = 1 << 13
"""Values of one address, a quarter of all: a member with more names leaves room for those of others."""

MAX_UNREACHABLE = 1 << 10
"""Values of addresses that routing does not reach: the member may be about to arrive, or the address may be made up. One more
takes the place of the oldest."""

MAX_TOMBS = 1 << 13
"""Tombstones; one more takes the place of the oldest."""


@dataclass(slots=True)
class Value:
    """stored   when the last store for it arrived, seconds of the machine's clock
    misses   times that its owner has not answered since
    doubt    timer of the question to its owner; move: of its copy to where it belongs. They end with the value.
    """

    expires: int
    stored: float
    misses: int = 0
    doubt: Timer = NONE
    move: Timer = NONE


class Values:
    """Values by key and address."""

    __slots__ = ("_keys", "_owners", "_tombs", "_unreachable", "count")

    def __init__(self) -> None:
        self._keys: dict[bytes, dict[int, Value]] = {}
        self._tombs: OrderedDict[tuple[bytes, int], float] = OrderedDict()
        self._owners: Counter[int] = Counter()
        self._unreachable: OrderedDict[tuple[bytes, int], None] = OrderedDict()
        self.count = 0

    def get(self, key: bytes) -> list[int]:
        """The addresses under a key, the one that was stored first at the front."""
        return list(self._keys.get(key, ()))

    def find(self, key: bytes, address: int) -> Value | None:
        """One value."""
        return self._keys.get(key, {}).get(address)

    def __iter__(self) -> Iterator[tuple[bytes, int, Value]]:
        return ((key, address, v) for key, under in self._keys.items() for address, v in under.items())

    def add(self, key: bytes, address: int, *, expires: int, now: float, reachable: bool = True) -> bool:
        """Keep a value, or keep it for longer; its time is never shortened. False when there is no space.

        reachable  whether routing reaches its owner
        """
        under = self._keys.get(key, {})
        value = under.get(address)
        if value is not None:
            value.expires = max(value.expires, expires)
            value.stored, value.misses = now, 0
            if reachable:
                self._unreachable.pop((key, address), None)
            return True
        if not reachable and len(self._unreachable) >= MAX_UNREACHABLE:
            self.remove(*next(iter(self._unreachable)))
        if self.count >= MAX_VALUES or len(under) >= MAX_PER_KEY or self._owners[address] >= MAX_PER_OWNER:
            return False
        self._keys.setdefault(key, under)[address] = Value(expires, now)
        self._owners[address] += 1
        if not reachable:
            self._unreachable[key, address] = None
        self.count += 1
        return True

    def remove(self, key: bytes, address: int) -> bool:
        """Do not keep it any more."""
        under = self._keys.get(key, {})
        value = under.pop(address, None)
        if value is None:
            return False
        value.doubt.cancel()
        value.move.cancel()
        self.count -= 1
        self._unreachable.pop((key, address), None)
        self._owners[address] -= 1
        if not self._owners[address]:
            del self._owners[address]
        if not under:
            del self._keys[key]
        return True

    def bury(self, key: bytes, address: int, *, until: float) -> None:
        """Refuse copies of it until `until` (seconds of the machine's clock)."""
        self._tombs[key, address] = until
        self._tombs.move_to_end((key, address))
        if len(self._tombs) > MAX_TOMBS:
            self._tombs.popitem(last=False)

    def dig_up(self, key: bytes, address: int) -> None:
        """Its owner has registered it again."""
        self._tombs.pop((key, address), None)

    def buried(self, key: bytes, address: int) -> bool:
        """Whether copies of it are refused."""
        return (key, address) in self._tombs

    def expire(self, *, epoch: float, now: float) -> None:
        """Drop values that have expired by `epoch`, seconds since 1970, and tombstones that have stood long enough."""
        for key, address in [(key, address) for key, address, value in self if value.expires <= epoch]:
            self.remove(key, address)
        for tomb in [tomb for tomb, until in self._tombs.items() if until <= now]:
            del self._tombs[tomb]
