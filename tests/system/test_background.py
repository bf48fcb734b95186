"""The IRMd in the background, and commands that come before it is ready (docs/reference/irmd.md)."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import BIN


@pytest.fixture
def env() -> Iterator[dict[str, str]]:
    """A run directory and a state directory of its own; an IRMd there ends with the test."""
    with tempfile.TemporaryDirectory(prefix="ouro-", dir="/tmp") as base:
        env = {
            **os.environ,
            "PATH": f"{BIN}:{os.environ.get('PATH', os.defpath)}",
            "OUROBOROS_RUNDIR": f"{base}/run",
            "OUROBOROS_STATEDIR": f"{base}/state",
        }
        yield env
        shell(env, "irm stop")
        assert not os.path.exists(f"{base}/run")


def shell(env: dict[str, str], script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["sh", "-c", script], env=env, capture_output=True, text=True, check=False)


def test_commands_wait_for_an_irmd_that_starts(env: dict[str, str]) -> None:
    """As pasted: no line waits for the one before it."""
    script = "irmd --stdout >log 2>&1 & irm ipcp bootstrap type local name l layer l && irm name create n && irm name list --json"
    done = shell({**env}, f'cd "$(dirname {env["OUROBOROS_RUNDIR"]})" && {script}')
    assert done.returncode == 0 and '"n"' in done.stdout, done


def test_without_an_irmd_a_command_fails(env: dict[str, str]) -> None:
    done = shell(env, "irm ipcp list")
    assert done.returncode == 1 and "no IRMd answers" in done.stderr
    assert shell(env, "irm stop").returncode == 1


@pytest.mark.parametrize("start", ["irm start", "irmd --daemon"])
@pytest.mark.parametrize("stop", ["irm stop", "irmd stop"])
def test_it_is_ready_when_the_command_ends(env: dict[str, str], start: str, stop: str) -> None:
    log = Path(env["OUROBOROS_STATEDIR"]).with_name("log")
    option = f"log {log}" if start == "irm start" else f"--log {log}"
    started = shell(env, f"{start} {option}")  # it holds no stream of the shell, or this would not return
    assert started.returncode == 0 and not started.stdout and not started.stderr, started
    assert os.path.exists(f"{env['OUROBOROS_RUNDIR']}/irm.sock")
    again = shell(env, start)
    assert again.returncode == 1 and "already running" in again.stderr
    assert shell(env, stop).returncode == 0
    assert not os.path.exists(env["OUROBOROS_RUNDIR"])
    assert "daemon started" in log.read_text() and log.read_text().endswith("Bye.\n")
    assert log.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("text", ["x =", '[eth-dix.e]\nbootstrap = "l"\ndev = "nodev"\n'])
def test_a_start_that_fails_says_why(env: dict[str, str], tmp_path: Path, text: str) -> None:
    """Also where the mistake is found only while the configuration is carried out."""
    path = tmp_path / "irmd.conf"
    path.write_text(text)
    failed = shell(env, f"irm start config {path} log {tmp_path}/log")
    assert failed.returncode == 1 and failed.stderr.startswith("irmd: ") and failed.stderr.count("\n") == 1
    assert not os.path.exists(env["OUROBOROS_RUNDIR"])


def test_a_log_that_cannot_be_written(env: dict[str, str]) -> None:
    failed = shell(env, "irmd --daemon --log /proc/nonexistent/log")
    assert failed.returncode == 1 and failed.stderr.count("\n") == 1 and "/proc/nonexistent" in failed.stderr
