"""Seeded runs of whole layers. `SIM_SEEDS=200` runs more of them than every change has to pass, and a large layer as well."""

from __future__ import annotations

import os

import pytest

from .invariants import Violated
from .scenario import Scenario

QUICK = 100
SEEDS = int(os.environ.get("SIM_SEEDS", QUICK))
LARGE = 100


def run(seed: int, *, members: int | None = None) -> str:
    try:
        return str(Scenario(seed, members=members).run())
    except Violated as violated:
        again = f"python -m tests.sim --seed {seed}" + (f" --members {members}" if members else "")
        pytest.fail(f"{violated}\nagain: {again}", pytrace=False)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_every_invariant_holds_in_the_end(seed: int) -> None:
    run(seed)


@pytest.mark.parametrize("seed", [6, 7])
def test_the_same_seed_gives_the_same_run(seed: int) -> None:
    assert run(seed) == run(seed)


@pytest.mark.skipif(SEEDS <= QUICK, reason=f"takes a minute: only with SIM_SEEDS of more than {QUICK}")
def test_a_large_layer() -> None:
    """Hundreds take minutes: `python -m tests.sim --seed 1 --members 300`."""
    run(1, members=LARGE)
