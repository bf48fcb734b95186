"""The IRMd under test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .daemon import Daemon


@pytest.fixture
def irmd() -> Iterator[Daemon]:
    """A running IRMd without any IPCP, which must end in good order and leave nothing behind."""
    with Daemon() as daemon:
        yield daemon
        assert daemon.process.poll() is None, "the IRMd has ended"
        assert daemon.stop() == 0
        assert not daemon.rundir.exists()
