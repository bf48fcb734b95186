"""Fixtures for the shells of IPCPs, and for their data plane."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from irmd.memory import Memory
from tests.unit.dataplane.shm import close_all, free, total
from tests.unit.ipcpd.relays import CONFIG
from tests.unit.ipcpd.world import World, make_world


@pytest.fixture
def world() -> Iterator[World]:
    """IPCPs without processes."""
    with make_world() as made:
        yield made


@pytest.fixture
def memory() -> Iterator[Memory]:
    """An IRMd's memory, of which every block is free in the end, and then no process that a test played stays."""
    made = Memory(CONFIG)
    yield made
    try:
        for pool in made.pools.values():
            assert free(pool) == total(pool), pool.holders()
    finally:
        made.close()
        close_all()
