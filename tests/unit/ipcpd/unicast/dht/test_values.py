"""What is kept for others."""

from __future__ import annotations

import pytest

from ipcpd.unicast.dht import values as module
from ipcpd.unicast.dht.values import MAX_PER_KEY, Values

KEY, OTHER = b"k", b"o"


def test_a_value_lives_until_it_expires_and_is_never_cut_short() -> None:
    values = Values()
    assert values.add(KEY, 1, expires=100, now=0)
    assert values.add(KEY, 1, expires=50, now=5)
    assert values.add(KEY, 2, expires=60, now=6)
    assert values.get(KEY) == [1, 2]
    assert values.count == 2
    values.expire(epoch=60, now=0)
    assert values.get(KEY) == [1]
    values.expire(epoch=100, now=0)
    assert (values.get(KEY), values.count, list(values)) == ([], 0, [])


def test_what_was_taken_back_is_buried_for_a_while() -> None:
    values = Values()
    values.bury(KEY, 1, until=50)
    assert values.buried(KEY, 1)
    assert not values.buried(OTHER, 1)
    values.expire(epoch=0, now=50)
    assert not values.buried(KEY, 1)
    values.bury(KEY, 1, until=90)
    values.dig_up(KEY, 1)
    assert not values.buried(KEY, 1)


def test_there_is_room_for_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    values = Values()
    for address in range(1, MAX_PER_KEY + 1):
        assert values.add(KEY, address, expires=9, now=0)
    assert not values.add(KEY, 999, expires=9, now=0)
    assert values.add(KEY, 1, expires=9, now=0)
    monkeypatch.setattr(module, "MAX_VALUES", values.count)
    assert not values.add(OTHER, 1, expires=9, now=0)
    assert values.remove(KEY, 1)
    assert not values.remove(KEY, 1)
    assert values.add(OTHER, 1, expires=9, now=0)
