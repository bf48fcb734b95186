"""Phantoms: when they are due, at most how many, and how long they are known."""

from __future__ import annotations

from random import Random

import pytest

from ipcpd.unicast import phantom
from ipcpd.unicast.phantom import AFTER_ADJACENCY, GRAIN, Phantoms

LIFETIME = 40.0
TAKEN = {1, 2}


@pytest.fixture
def phantoms() -> Phantoms:
    return Phantoms(LIFETIME, Random(1))


def test_when_they_are_due(phantoms: Phantoms) -> None:
    assert phantoms.deadline is None and phantoms.take(0.0, wanted=True, taken=TAKEN) is None
    phantoms.follow_loss(100.0)
    assert phantoms.deadline == 100.0 + LIFETIME + AFTER_ADJACENCY
    phantoms.follow_ageing(100.0, 7.0)
    assert phantoms.deadline == 107.0 + AFTER_ADJACENCY
    phantoms.follow_adjacency(100.0)
    assert phantoms.deadline == 100.0 + AFTER_ADJACENCY


def test_one_is_announced_when_it_is_due_and_wanted(phantoms: Phantoms) -> None:
    phantoms.follow_adjacency(100.0)
    assert phantoms.take(100.0 + AFTER_ADJACENCY - 0.1, wanted=True, taken=TAKEN) is None
    assert phantoms.deadline == 100.0 + AFTER_ADJACENCY
    target = phantoms.take(100.0 + AFTER_ADJACENCY, wanted=True, taken=TAKEN)
    assert target is not None and target not in TAKEN and target in phantoms
    assert phantoms.deadline is None
    phantoms.follow_adjacency(200.0)
    assert phantoms.take(300.0, wanted=False, taken=TAKEN) is None and phantoms.deadline is None


def test_a_link_that_flaps_causes_one_in_a_while(phantoms: Phantoms) -> None:
    for step in range(100):
        phantoms.follow_adjacency(100.0 + step * GRAIN / 100)
    due = []
    while phantoms.deadline is not None:
        due.append(phantoms.deadline)
        phantoms.take(phantoms.deadline, wanted=True, taken=TAKEN)
    assert due == [100.0 + AFTER_ADJACENCY, 100.0 + AFTER_ADJACENCY + GRAIN]


def test_one_more_takes_the_place_of_the_last(phantoms: Phantoms, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(phantom, "MAX_DUE", 3)
    for when in (100.0, 110.0, 120.0, 115.0, 130.0):
        phantoms.follow_adjacency(when)
    assert phantoms._due == [when + AFTER_ADJACENCY for when in (100.0, 110.0, 130.0)]


def test_they_are_known_until_every_member_has_removed_them(phantoms: Phantoms) -> None:
    phantoms.follow_adjacency(99.0)
    target = phantoms.take(100.0, wanted=True, taken=TAKEN)
    assert target is not None
    phantoms.take(100.0 + 2 * LIFETIME, wanted=True, taken=TAKEN)
    assert target in phantoms
    phantoms.take(100.5 + 2 * LIFETIME, wanted=True, taken=TAKEN)
    assert target not in phantoms
