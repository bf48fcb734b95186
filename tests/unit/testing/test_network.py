"""The fake network loses, delays, duplicates and reorders packets as specified, and in the same way for the same seed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ouroboros.testing import FakeClock, FakeLink, FakeNetwork, Impairment


def link(*, seed: int = 0, impairment: Impairment | None = None) -> tuple[FakeClock, FakeLink[int]]:
    clock = FakeClock()
    network: FakeNetwork[int] = FakeNetwork(clock, seed=seed)
    return clock, network.link("a-b", impairment)


def test_a_packet_arrives_after_the_delay_at_the_other_end() -> None:
    clock, line = link(impairment=Impairment(delay=0.5))
    line.a.send(1)
    line.b.send(2)
    clock.advance(0.4)
    assert not line.b.inbox
    clock.advance(0.1)
    assert (list(line.b.inbox), list(line.a.inbox)) == ([1], [2])


def test_an_end_with_a_receiver_keeps_nothing() -> None:
    clock, line = link()
    seen: list[int] = []
    line.b.on_packet = seen.append
    line.a.send(7)
    clock.advance(1)
    assert (seen, len(line.b.inbox)) == ([7], 0)


impairments = st.builds(
    Impairment,
    loss=st.floats(0, 1),
    delay=st.floats(0, 1),
    jitter=st.floats(0, 1),
    duplicate=st.floats(0, 1),
    reorder=st.floats(0, 1),
    reorder_delay=st.floats(0, 1),
)


@given(seed=st.integers(), impairment=impairments)
def test_every_packet_is_counted_and_the_same_seed_gives_the_same_run(
    seed: int, impairment: Impairment
) -> None:
    runs = []
    for _ in range(2):
        clock, line = link(seed=seed, impairment=impairment)
        for number in range(50):
            line.a.send(number)
            clock.advance(0.01)
        clock.advance(10)
        counters = line.a.counters
        assert counters.sent == 50
        assert counters.sent + counters.duplicated == counters.delivered + counters.lost
        assert counters.delivered == len(line.b.inbox)
        runs.append(list(line.b.inbox))
    assert runs[0] == runs[1]


@given(seed=st.integers(), jitter=st.floats(0, 10))
def test_jitter_does_not_change_the_order(seed: int, jitter: float) -> None:
    clock, line = link(seed=seed, impairment=Impairment(jitter=jitter))
    for number in range(30):
        line.a.send(number)
    clock.advance(20)
    assert list(line.b.inbox) == list(range(30))


def test_reordering_changes_the_order_and_loses_nothing() -> None:
    clock, line = link(impairment=Impairment(reorder=0.5, reorder_delay=0.1))
    for number in range(100):
        line.a.send(number)
        clock.advance(0.01)
    clock.advance(1)
    assert sorted(line.b.inbox) == list(range(100)) != list(line.b.inbox)


def test_loss_is_about_what_was_asked_for() -> None:
    clock, line = link(impairment=Impairment(loss=0.3))
    for number in range(1000):
        line.a.send(number)
    clock.advance(1)
    assert line.a.counters.lost == pytest.approx(300, abs=60)


def test_another_link_does_not_change_what_happens_on_this_one() -> None:
    seen = []
    for others in (0, 3):
        clock = FakeClock()
        network: FakeNetwork[int] = FakeNetwork(clock, seed=4, impairment=Impairment(loss=0.5))
        lines = [network.link(f"other {number}") for number in range(others)]
        line = network.link("a-b")
        for number in range(100):
            for other in lines:
                other.a.send(number)
            line.a.send(number)
        clock.advance(1)
        seen.append(list(line.b.inbox))
    assert seen[0] == seen[1]


@pytest.mark.parametrize("silent", [False, True])
def test_a_cut_link_carries_nothing_and_loses_what_is_under_way(silent: bool) -> None:
    clock, line = link(impairment=Impairment(delay=1))
    told: list[bool] = []
    line.a.on_state = told.append
    line.a.send(1)
    line.cut(silent=silent)
    line.cut(silent=silent)
    line.a.send(2)
    clock.advance(0.5)
    line.heal()
    line.heal()
    line.a.send(3)
    clock.advance(5)
    assert list(line.b.inbox) == [3]
    assert line.a.counters.lost == 2
    assert told == ([] if silent else [False, True])


def test_names_are_unique_and_a_removed_link_is_gone() -> None:
    network: FakeNetwork[int] = FakeNetwork(FakeClock())
    line = network.link("a-b")
    with pytest.raises(ValueError, match="a link 'a-b' already"):
        network.link("a-b")
    network.remove("a-b")
    assert not line.up
    network.link("a-b")


@pytest.mark.parametrize(
    "wrong", [{"loss": 1.5}, {"duplicate": -0.1}, {"delay": -1.0}, {"reorder_delay": -1.0}]
)
def test_what_cannot_be_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Impairment(**wrong)
