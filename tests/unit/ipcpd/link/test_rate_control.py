"""Rate control under a simulated bottleneck: use of the line, queues, losses, and other senders, over seeds."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from ipcpd.dataplane.sample import Sample
from ipcpd.link.rate_control import LEAST_RATE, UNKNOWN_RATE, Mode, RateControl
from tests.unit.ipcpd.link.bottleneck import SIZE, Bottleneck, Cubic, Paced, Sender, Simulation

MBIT = 125_000.0


def steady(rate: float) -> Callable[[float], float]:
    return lambda _: rate


def line(mbit: float, rtt: float, *, bdp: float = 1.0, codel: bool = False, loss: float = 0.0) -> Bottleneck:
    rate = mbit * MBIT
    return Bottleneck(steady(rate), rtt / 2, max(bdp * rate * rtt, 4 * SIZE), codel=codel, loss=loss)


def paced(seed: int = 0, start: float = 0.0) -> Paced:
    return Paced(RateControl(random.Random(seed)), start=start)


def run(bottleneck: Bottleneck, *senders: Sender, until: float, seed: int = 0) -> None:
    Simulation(bottleneck, senders, seed=seed).run(until)


@pytest.mark.parametrize("bdp", [0.5, 1, 4, 100])
@pytest.mark.parametrize(("mbit", "rtt"), [(2, 0.1), (10, 0.04)])
def test_one_sender_fills_the_line_and_keeps_the_queue_short(mbit: float, rtt: float, bdp: float) -> None:
    sender = paced()
    run(line(mbit, rtt, bdp=bdp), sender, until=8)
    assert sender.goodput(2, 8) >= 0.95 * mbit * MBIT
    assert sender.dropped <= 0.02 * sender.sent_packets
    assert sender.waited(3, 8) <= 0.005 + 0.8 * rtt
    assert sender.control.mode is Mode.PACED


@pytest.mark.parametrize("seed", range(200))
def test_lines_of_all_kinds(seed: int) -> None:
    """No starvation, bounded queue, use of the line, for 200 random lines."""
    rng = random.Random(seed)
    mbit, rtt = 10 ** rng.uniform(0, 1), 10 ** rng.uniform(-1.7, -0.7)
    sender = paced(seed)
    bottleneck = line(
        mbit, rtt, bdp=rng.uniform(0.5, 6), codel=rng.random() < 0.3, loss=rng.choice((0, 0, 0.01))
    )
    run(bottleneck, sender, until=6, seed=seed)
    assert sender.goodput(3, 6) >= 0.5 * mbit * MBIT
    assert sender.waited(3, 6, 0.5) <= 0.02 + rtt + 4 * SIZE / (mbit * MBIT)


@pytest.mark.parametrize("seed", range(3))
def test_random_loss_changes_little(seed: int) -> None:
    sender = paced(seed)
    run(line(10, 0.04, loss=0.01), sender, until=8, seed=seed)
    assert sender.goodput(2, 8) >= 0.9 * 10 * MBIT


def test_the_rate_follows_steps() -> None:
    rates = [20, 4, 20]
    bottleneck = Bottleneck(lambda now: rates[min(int(now / 5), 2)] * MBIT, 0.01, 4 * 20 * MBIT * 0.02)
    sender = paced()
    run(bottleneck, sender, until=15)
    for n, mbit in enumerate(rates):
        assert sender.goodput(5 * n + 2, 5 * n + 5) >= 0.9 * mbit * MBIT
        assert sender.waited(5 * n + 2, 5 * n + 5) <= 0.05


@pytest.mark.parametrize("bdp", [0.5, 1, 2, 4])
def test_a_flow_of_tcp_and_a_path_share(bdp: float) -> None:
    ours, theirs = paced(), Cubic(0.5)
    run(line(10, 0.04, bdp=bdp), ours, theirs, until=30)
    share = ours.goodput(5, 30) / (ours.goodput(5, 30) + theirs.goodput(5, 30))
    assert 0.2 <= share <= 0.8


@pytest.mark.parametrize("bdp", [0.5, 1, 4])
def test_two_paths_share(bdp: float) -> None:
    one, other = paced(1), paced(2, start=0.4)
    run(line(10, 0.04, bdp=bdp), one, other, until=20)
    share = one.goodput(5, 20) / (one.goodput(5, 20) + other.goodput(5, 20))
    assert 0.25 <= share <= 0.75
    assert one.goodput(5, 20) + other.goodput(5, 20) >= 0.85 * 10 * MBIT


def test_a_sender_with_little_demand_is_not_held_up() -> None:
    sender = Paced(RateControl(random.Random(1)), demand=2 * MBIT)
    run(line(10, 0.04), sender, until=6)
    assert sender.goodput(1, 6) >= 0.97 * 2 * MBIT
    assert sender.waited(1, 6) <= 0.01


def test_a_silent_path_gets_a_safe_rate_and_recovers() -> None:
    control = RateControl(random.Random(1))
    assert control.silent(1.0)
    assert not control.silent(2.0)  # logged once
    assert control.rate == UNKNOWN_RATE
    assert control.window == 0
    control.sample(Sample(3.0, 2.9, 50.0, 10, 15000, 10, 15000))
    assert control.mode is Mode.STARTUP


def test_a_neighbour_that_lies_gets_no_more_than_was_sent() -> None:
    """Reports of ten times as many octets, and clocks that run fast: the rate of arrivals is at most that of sending."""
    control = RateControl(random.Random(1))
    for n in range(1, 200):
        now = n * 0.03
        control.sample(Sample(now, now - 0.02, now / 10, 10 * n, 15000 * n, 10 * n, 15000 * n))
    assert control.bandwidth <= 1.01 * 15000 / 0.03


def test_clocks_that_stand_still_and_counts_that_shrink_change_nothing() -> None:
    control = RateControl(random.Random(1))
    for n in range(1, 100):
        now = n * 0.03
        control.sample(Sample(now, now + 5, 7.0, 10 * n, 15000 * n, 10, 15000 - n))
        assert control.rate == 0 or control.rate >= LEAST_RATE
