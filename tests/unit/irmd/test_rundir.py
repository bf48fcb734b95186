"""The run directory: its mode, its lock, and the directories that it refuses."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from irmd.rundir import LOCK_NAME, AlreadyRunning, RunDir, RunDirError


@pytest.fixture
def base() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/var/tmp") as path:  # not below /tmp, where everything is private
        yield Path(path)


def test_everybody_may_look_into_it_except_below_tmp(base: Path) -> None:
    with RunDir(str(base / "run")) as rundir:
        assert os.stat(rundir.path).st_mode & 0o777 == 0o755
    with tempfile.TemporaryDirectory(dir="/tmp") as private, RunDir(f"{private}/run") as rundir:
        assert os.stat(rundir.path).st_mode & 0o777 == 0o700


def test_it_leaves_no_trace(base: Path) -> None:
    with RunDir(str(base / "deep" / "run")) as rundir:
        rundir.listen().close()
    assert not (base / "deep" / "run").exists()


def test_a_directory_that_was_there_stays(base: Path) -> None:
    (base / "run").mkdir()
    (base / "run" / "mine").touch()
    with RunDir(str(base / "run")) as rundir:
        rundir.listen().close()
    assert [path.name for path in (base / "run").iterdir()] == ["mine"]


def test_the_second_is_refused_with_the_pid_of_the_first(base: Path) -> None:
    with RunDir(str(base / "run")):
        with pytest.raises(AlreadyRunning, match=rf"IRMd already running \({os.getpid()}\), exiting\."):
            RunDir(str(base / "run"))
        assert (base / "run" / LOCK_NAME).exists()
    RunDir(str(base / "run")).close()


def test_a_stale_lock_and_socket_are_replaced(base: Path) -> None:
    (base / "run").mkdir()
    (base / "run" / LOCK_NAME).write_text("99999999\n")
    (base / "run" / "irm.sock").touch()
    with RunDir(str(base / "run")) as rundir:
        rundir.listen().close()
        assert (base / "run" / LOCK_NAME).read_text() == f"{os.getpid()}\n"


def test_what_cannot_be_a_run_directory(base: Path) -> None:
    (base / "file").touch()
    (base / "link").symlink_to(base)
    for path in (base / "file", base / "link", base / "file" / "below"):
        with pytest.raises(RunDirError, match="OUROBOROS_RUNDIR"):
            RunDir(str(path))


def test_a_path_that_is_too_long_for_a_socket(base: Path) -> None:
    with RunDir(str(base / ("x" * 120))) as rundir, pytest.raises(RunDirError, match="cannot listen"):
        rundir.listen()
