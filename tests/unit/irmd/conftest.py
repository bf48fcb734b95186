"""The IRMd under test, and handshakes of two."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .daemon import Daemon
from .handshakes import Pair


@pytest.fixture
def irmd() -> Iterator[Daemon]:
    """A running IRMd without any IPCP, which must end in good order and leave nothing behind."""
    with Daemon() as daemon:
        yield daemon
        assert daemon.process.poll() is None, "the IRMd has ended"
        assert daemon.stop() == 0
        assert not daemon.rundir.exists()


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    """A requester and an acceptor, each with a security directory of its own."""
    return Pair(tmp_path)
