"""Values that a node stores for others."""

from __future__ import annotations

import pytest

from ipcpd.unicast.dht import values as module
from ipcpd.unicast.dht.values import MAX_PER_KEY, Values
from ipcpd.unicast.timers import Timers

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


def test_one_owner_leaves_room_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_PER_OWNER", 3)
    values = Values()
    keys = [bytes([number]) for number in range(4)]
    assert [values.add(key, 1, expires=9, now=0) for key in keys] == [True, True, True, False]
    assert values.add(keys[3], 2, expires=9, now=0)
    assert values.remove(keys[0], 1)
    assert values.add(keys[3], 1, expires=9, now=0)


def test_values_of_members_that_routing_does_not_reach_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_UNREACHABLE", 3)
    values = Values()
    for address in range(1, 5):
        assert values.add(KEY, address, expires=9, now=0, reachable=False)
    assert values.get(KEY) == [2, 3, 4], "the oldest made room"
    assert values.add(KEY, 2, expires=9, now=1), "it can be reached now"
    assert values.add(KEY, 5, expires=9, now=2, reachable=False)
    assert values.add(KEY, 6, expires=9, now=2, reachable=False)
    assert values.get(KEY) == [2, 4, 5, 6]
    assert values.add(OTHER, 7, expires=9, now=2)


def test_tombstones_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_TOMBS", 3)
    values = Values()
    for address in range(1, 6):
        values.bury(KEY, address, until=9)
    assert [values.buried(KEY, address) for address in range(1, 6)] == [False, False, True, True, True]


def test_another_store_renews_a_value() -> None:
    values = Values()
    assert values.add(KEY, 1, expires=50, now=0)
    value = values.find(KEY, 1)
    assert value is not None and (value.stored, value.misses) == (0, 0)
    value.misses = 2
    assert values.add(KEY, 1, expires=100, now=30)
    assert (value.expires, value.stored, value.misses) == (100, 30, 0)
    values.expire(epoch=99, now=0)
    assert values.find(KEY, 1) is value


def test_with_a_value_its_timers_and_its_share_go() -> None:
    values, timers, rung = Values(), Timers(), list[float]()
    assert values.add(KEY, 1, expires=50, now=0)
    value = values.find(KEY, 1)
    assert value is not None
    value.doubt, value.move = timers.at(1.0, rung.append), timers.at(2.0, rung.append)
    assert values.remove(KEY, 1)
    timers.run(9.0)
    assert not rung
    assert not values._owners and not values._keys and not values.count


def test_the_tombstone_renewed_last_stays_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_TOMBS", 2)
    values = Values()
    for address in (1, 2, 1, 3):
        values.bury(KEY, address, until=9)
    assert [values.buried(KEY, address) for address in (1, 2, 3)] == [True, False, True]
