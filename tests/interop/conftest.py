"""The fixture of mixed networks. Every test ends with the judge's verdict: nothing was sent that a prototype does not survive."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.system.conftest import MakeSystem, clean_world, make_system

from .world import World

__all__ = ["clean_world", "make_system"]


@pytest.fixture
def world(make_system: MakeSystem) -> Iterator[World]:
    """An empty world."""
    world = World(make_system)
    yield world
    world.close()
