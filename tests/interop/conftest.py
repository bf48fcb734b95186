"""The fixtures of mixed networks. Every test ends with the judge's verdict: nothing was sent that a prototype does not survive."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack

import pytest

from tests.system.conftest import MakeSystem, System, clean_world, make_system

from .world import World

__all__ = ["clean_world", "make_system"]


@pytest.fixture
def world(make_system: MakeSystem) -> Iterator[World]:
    """An empty world."""
    world = World(make_system)
    yield world
    world.close()


@pytest.fixture(scope="module")
def shared() -> Iterator[World]:
    """A world that the tests of a module have in common."""
    with ExitStack() as stack:

        def make(*args: str, env: Mapping[str, str] | None = None) -> System:
            system = System(*args, env=env)
            stack.callback(lambda: print(f"---- log of the irmd on {system.rundir}\n{system.irmd.output}"))
            stack.callback(system.stop)
            return system

        world = World(make)
        yield world
        world.close()
