"""Fixtures: an IRMd's memory with a small pool, and two processes with a flow."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from irmd.memory import Memory
from tests.unit.dataplane.shm import SMALL, Pair, Process, close_all, connect, free, total


@pytest.fixture(autouse=True)
def no_process_stays() -> Iterator[None]:
    """Descriptors and mappings of the processes that a test played."""
    yield
    close_all()


@pytest.fixture
def memory() -> Iterator[Memory]:
    """An IRMd's memory. At the end of the test every block must be back."""
    memory = Memory(SMALL)
    yield memory
    for pool in memory.pools.values():
        assert free(pool) == total(pool), f"blocks are missing: {pool.holders()}"
    memory.close()


@pytest.fixture
def pair(memory: Memory) -> Iterator[Pair]:
    """Two processes and a flow between them; ends are non-blocking."""
    pair = connect(memory, Process(memory), Process(memory))
    yield pair
    pair.end()
