"""Seeded runs of flows with FRCP. `SIM_SEEDS=1000` runs more of them than every change has to pass."""

from __future__ import annotations

import os

import pytest

from .frcp import Scenario
from .invariants import Violated

SEEDS = max(200, int(os.environ.get("SIM_SEEDS", 200)))


def run(seed: int) -> str:
    try:
        return Scenario(seed).run()
    except Violated as violated:
        pytest.fail(f"{violated}\nagain: python -m tests.sim.frcp --seed {seed}", pytrace=False)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_packets_arrive_once_in_order_within_the_bounds(seed: int) -> None:
    run(seed)


@pytest.mark.parametrize("seed", [6, 84])
def test_the_same_seed_gives_the_same_run(seed: int) -> None:
    assert run(seed) == run(seed)
