"""What a node keeps for others: under each key the addresses that have registered it, until they expire (spec/dht 3).

Runs in the unicast IPCP. Times of expiry are seconds since 1970, as they travel in messages. An address that was taken back
leaves a tombstone, so that a copy that comes from a node which did not hear of it is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

MAX_VALUES = 1 << 17
"""Values that are kept. One more is refused: it could be made up."""

MAX_PER_KEY = 64


@dataclass(slots=True)
class Value:
    """stored   when a store for it came last, seconds of the machine's clock
    misses   times that its owner has not answered since
    """

    expires: int
    stored: float
    misses: int = 0


class Values:
    """Values by key and address."""

    __slots__ = ("_keys", "_tombs", "count")

    def __init__(self) -> None:
        self._keys: dict[bytes, dict[int, Value]] = {}
        self._tombs: dict[tuple[bytes, int], float] = {}
        self.count = 0

    def get(self, key: bytes) -> list[int]:
        """The addresses under a key, the one that was stored first at the front."""
        return list(self._keys.get(key, ()))

    def find(self, key: bytes, address: int) -> Value | None:
        """One value."""
        return self._keys.get(key, {}).get(address)

    def __iter__(self) -> Iterator[tuple[bytes, int, Value]]:
        return ((key, address, v) for key, under in self._keys.items() for address, v in under.items())

    def add(self, key: bytes, address: int, *, expires: int, now: float) -> bool:
        """Keep a value, or keep it for longer; its life is never cut short. False when there is no room."""
        under = self._keys.get(key, {})
        value = under.get(address)
        if value is not None:
            value.expires = max(value.expires, expires)
            value.stored, value.misses = now, 0
            return True
        if self.count >= MAX_VALUES or len(under) >= MAX_PER_KEY:
            return False
        self._keys.setdefault(key, under)[address] = Value(expires, now)
        self.count += 1
        return True

    def remove(self, key: bytes, address: int) -> bool:
        """Do not keep it any more."""
        under = self._keys.get(key, {})
        if under.pop(address, None) is None:
            return False
        self.count -= 1
        if not under:
            del self._keys[key]
        return True

    def bury(self, key: bytes, address: int, *, until: float) -> None:
        """Refuse copies of it until then (seconds of the machine's clock)."""
        if len(self._tombs) < MAX_VALUES:
            self._tombs[key, address] = until

    def dig_up(self, key: bytes, address: int) -> None:
        """Its owner has registered it again."""
        self._tombs.pop((key, address), None)

    def buried(self, key: bytes, address: int) -> bool:
        """Whether copies of it are refused."""
        return (key, address) in self._tombs

    def expire(self, *, epoch: float, now: float) -> None:
        """Drop what has expired by `epoch`, seconds since 1970, and tombstones that have stood long enough."""
        for key, address in [(key, address) for key, address, value in self if value.expires <= epoch]:
            self.remove(key, address)
        self._tombs = {tomb: until for tomb, until in self._tombs.items() if until > now}
