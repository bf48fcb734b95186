"""The link state database: order of messages, death and tombstones, and that flooding ends."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipcpd.unicast import lsdb as module
from ipcpd.unicast.lsdb import RESTART, WEIGHTS_LAG, Lsdb, State, Verdict
from ipcpd.wire.lsm import MAX_SEQUENCE, MAX_WEIGHT, SEQUENCES, Lsm, after, ahead

A, B, C = 1, 2, 3
LIFE = 60.0


def both(lsdb: Lsdb, *, sequence: int = 0, now: float = 0.0) -> None:
    lsdb.accept(Lsm(A, B, sequence), now)
    lsdb.accept(Lsm(B, A, sequence), now)


def test_an_edge_is_there_when_both_ends_have_announced_it() -> None:
    lsdb = Lsdb(LIFE)
    assert lsdb.accept(Lsm(A, B, 0), 0) is Verdict.NEWER
    assert lsdb.accept(Lsm(B, A, 0), 0) is Verdict.CHANGED
    assert lsdb.graph.neighbours(A) == [B]


def test_only_a_greater_number_is_news() -> None:
    lsdb = Lsdb(LIFE)
    both(lsdb, sequence=5)
    assert lsdb.accept(Lsm(A, B, 5), 1) is Verdict.STALE
    assert lsdb.accept(Lsm(A, B, 4), 1) is Verdict.STALE
    assert lsdb.accept(Lsm(A, B, 6), 1) is Verdict.NEWER
    assert lsdb.live() == {(B, A): 6, (A, B): 5}


def test_of_equal_numbers_a_withdrawal_is_the_last_word() -> None:
    lsdb = Lsdb(LIFE)
    both(lsdb, sequence=5)
    assert lsdb.accept(Lsm(A, B, 5, withdrawn=True), 1) is Verdict.CHANGED
    assert lsdb.accept(Lsm(A, B, 5), 1) is Verdict.STALE
    assert lsdb.accept(Lsm(A, B, 6), 1) is Verdict.CHANGED


def test_weights_may_follow_what_was_said_without() -> None:
    lsdb = Lsdb(LIFE)
    both(lsdb, sequence=1)
    assert lsdb.accept(Lsm(B, A, 1, (1, 2, 3)), 1) is Verdict.CHANGED
    assert lsdb.accept(Lsm(B, A, 1, (1, 2, 3)), 1) is Verdict.STALE
    assert lsdb.accept(Lsm(B, A, 1), 1) is Verdict.STALE
    entry = lsdb.get(B, A)
    assert entry is not None
    assert entry.message() == Lsm(B, A, 1, (1, 2, 3))


def test_weights_are_forgotten_when_they_are_not_said_any_more() -> None:
    lsdb = Lsdb(LIFE)
    both(lsdb)
    lsdb.accept(Lsm(A, B, 1, (1, 2, 3)), 0)
    for sequence in range(2, 2 + WEIGHTS_LAG):
        assert lsdb.accept(Lsm(A, B, sequence), 0) is Verdict.NEWER
        entry = lsdb.get(A, B)
        assert entry is not None
        assert entry.weights == (1, 2, 3)
        assert entry.message().weights is None
    assert lsdb.accept(Lsm(A, B, 2 + WEIGHTS_LAG), 0) is Verdict.CHANGED


def test_an_entry_without_news_dies_and_its_tombstone_refuses_old_copies() -> None:
    lsdb = Lsdb(LIFE)
    both(lsdb, sequence=20)
    lsdb.accept(Lsm(B, A, 21), 30)
    assert lsdb.deadline == LIFE
    assert not lsdb.expire(LIFE - 1)
    assert lsdb.expire(LIFE)
    assert lsdb.live() == {(A, B): 21}
    for old in (20, 19, 20 - RESTART):
        assert lsdb.accept(Lsm(A, B, old), LIFE) is Verdict.STALE
    assert lsdb.accept(Lsm(A, B, 21), LIFE) is Verdict.CHANGED


def test_a_prototype_that_starts_its_link_anew_is_heard_again() -> None:
    lsdb = Lsdb(LIFE)
    both(lsdb, sequence=20)
    assert lsdb.accept(Lsm(A, B, 0), 1) is Verdict.STALE  # as long as the old entry lives, as prototypes do
    lsdb.accept(Lsm(B, A, 21), 50)
    lsdb.expire(LIFE)
    assert lsdb.accept(Lsm(A, B, 0), LIFE) is Verdict.CHANGED


def test_a_tombstone_is_forgotten() -> None:
    lsdb = Lsdb(LIFE)
    lsdb.accept(Lsm(A, B, 20), 0)
    lsdb.accept(Lsm(B, C, 3, withdrawn=True), 10)
    assert [entry.state for entry in lsdb] == [State.LIVE, State.WITHDRAWN]
    lsdb.expire(LIFE)
    lsdb.expire(LIFE + 10)
    assert [entry.state for entry in lsdb] == [State.AGED]
    assert not lsdb.expire(2 * LIFE)
    assert (len(lsdb), lsdb.deadline) == (0, None)


def test_there_is_room_for_so_many_and_for_news_of_those(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ENTRIES", 2)
    lsdb = Lsdb(LIFE)
    both(lsdb)
    assert lsdb.accept(Lsm(A, C, 0), 0) is Verdict.REFUSED
    assert lsdb.accept(Lsm(A, B, 1), 0) is Verdict.NEWER


def test_what_cannot_be_true_is_known_as_such() -> None:
    good = Lsm(A, B, 0, (1, 1, 1))
    assert good.valid
    for wrong in (
        replace(good, source=0),
        replace(good, target=1 << 32),
        replace(good, source=B),
        replace(good, sequence=MAX_SEQUENCE + 1),
        replace(good, weights=(0, 1, 1)),
    ):
        assert not wrong.valid


messages = st.builds(
    Lsm,
    source=st.just(A),
    target=st.just(B),
    sequence=st.integers(0, 30),
    weights=st.none() | st.just((1, 2, 3)),
    withdrawn=st.booleans(),
)


@given(st.lists(messages, max_size=60))
def test_nothing_is_news_twice_so_flooding_ends(said: list[Lsm]) -> None:
    lsdb = Lsdb(LIFE)
    for message in said:
        lsdb.accept(message, 0)
        assert lsdb.accept(message, 0) is Verdict.STALE
    again = [message for message in said if lsdb.accept(message, 0) is not Verdict.STALE]
    assert again == []


@given(st.lists(messages, max_size=30), st.randoms())
def test_the_order_of_arrival_does_not_matter_while_entries_live(said: list[Lsm], random: Random) -> None:
    one, other = Lsdb(LIFE), Lsdb(LIFE)
    shuffled = list(said)
    random.shuffle(shuffled)
    for message in said:
        one.accept(message, 0)
    for message in shuffled:
        other.accept(message, 0)
    assert one.live() == other.live()


HALF = SEQUENCES // 2


@pytest.mark.parametrize(
    "one, other, distance",
    [
        (0, 0, 0),
        (7, 5, 2),
        (5, 7, -2),
        (0, MAX_SEQUENCE, 1),
        (MAX_SEQUENCE, 0, -1),
        (HALF - 1, 0, HALF - 1),
        (0, HALF - 1, 1 - HALF),
        (HALF, 0, HALF),
        (0, HALF, -HALF),
        (HALF + 1, 0, 1 - HALF),
        (HALF + 5, 5, HALF),
        (5, HALF + 5, -HALF),
    ],
)
def test_how_far_a_number_is_ahead(one: int, other: int, distance: int) -> None:
    assert ahead(one, other) == distance


@given(st.integers(0, MAX_SEQUENCE), st.integers(0, MAX_SEQUENCE))
def test_of_two_numbers_one_is_newer(one: int, other: int) -> None:
    assert ahead(one, other) == -ahead(other, one)
    assert (ahead(one, other) == 0) is (one == other)


def test_the_largest_values_are_valid() -> None:
    largest = Lsm(A, (1 << 32) - 1, MAX_SEQUENCE, (MAX_WEIGHT, 1, MAX_WEIGHT))
    assert largest.valid and not replace(largest, weights=(1, MAX_WEIGHT + 1, 1)).valid
    assert largest.plain == Lsm(A, (1 << 32) - 1, MAX_SEQUENCE) and not largest.plain.extended
    assert (after(0), after(MAX_SEQUENCE)) == (1, 0)
