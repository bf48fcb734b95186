"""A fake IRMd for each test, in a run directory of its own."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator

import pytest

from ouroboros import rundir as rundir_module
from tests.unit.irm.fake_irmd import FakeIrmd


@pytest.fixture(autouse=True, scope="module")
def configuration() -> Iterator[None]:
    """No test writes to the configuration of this machine."""
    with (
        pytest.MonkeyPatch.context() as patch,
        tempfile.TemporaryDirectory(prefix="ouro-", dir="/tmp") as path,
    ):
        patch.setattr(rundir_module, "SYSTEM_CONFIGURATION", path)
        patch.setenv("XDG_CONFIG_HOME", path)
        yield


@pytest.fixture
def rundir(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An empty run directory that this process uses."""
    with tempfile.TemporaryDirectory(prefix="ouro-", dir="/tmp") as path:
        monkeypatch.setenv("OUROBOROS_RUNDIR", path)
        yield path


@pytest.fixture
def irmd(rundir: str) -> Iterator[FakeIrmd]:
    """The IRMd of that run directory."""
    with FakeIrmd(rundir) as fake:
        yield fake
