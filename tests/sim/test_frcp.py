"""Seeded runs of flows with FRCP. `SIM_SEEDS=1000` runs more of them than every change has to pass."""

from __future__ import annotations

import os

import pytest

from .frcp import Scenario
from .invariants import Violated

SEEDS = max(200, int(os.environ.get("SIM_SEEDS", 200)))


def run(seed: int, *, lossless: bool = False) -> str:
    try:
        return Scenario(seed, lossless=lossless).run()
    except Violated as violated:
        again = f"python -m tests.sim.frcp --seed {seed}{' --lossless' if lossless else ''}"
        pytest.fail(f"{violated}\nagain: {again}", pytrace=False)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_packets_arrive_once_in_order_within_the_bounds(seed: int) -> None:
    run(seed)


@pytest.mark.parametrize("seed", range(SEEDS // 4))
def test_where_nothing_is_lost_nothing_is_sent_again(seed: int) -> None:
    """Between ends that stand still for a while, and through queues that are full at times."""
    run(seed, lossless=True)


@pytest.mark.parametrize("seed", [6, 84])
def test_the_same_seed_gives_the_same_run(seed: int) -> None:
    assert run(seed) == run(seed)
