"""Fixtures for the shells of IPCPs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.unit.ipcpd.world import World, make_world


@pytest.fixture
def world() -> Iterator[World]:
    """IPCPs without processes."""
    with make_world() as made:
        yield made
