"""The command line of the daemon."""

from __future__ import annotations

import errno
import re
import subprocess
import sys
from pathlib import Path

import pytest

from irmd.main import _explained, main
from ouroboros.version import __version__


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"Ouroboros version {__version__}\n"


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert capsys.readouterr().out.startswith("usage: irmd")


@pytest.mark.parametrize("words", [["--nonsense"], ["help me"], ["--stdout", "x"], ["-x"]])
def test_an_unknown_word_is_named(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    said = capsys.readouterr()
    assert said.err.startswith("irmd: ") and words[-1] in said.err
    assert said.err.count("\n") == 1 and not said.out


def test_a_missing_value_is_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config"]) == 2
    assert "--config" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--log", "x"], ["--daemon", "--stdout"], ["--daemon", "--log"]])
def test_where_the_log_goes_is_one_thing(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("closed", [">&-", "<&- >&- 2>&-"])
def test_a_closed_standard_stream_is_no_traceback(closed: str, tmp_path: Path) -> None:
    """Above all no socket gets the number of one, to which something is printed later."""
    line = f"exec {sys.executable} -m irmd --stdout --config {tmp_path}/missing {closed}"
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr


def test_too_few_open_files_name_the_limit() -> None:
    """Also where the system's own text says only that there are too many."""
    text = _explained(OSError(errno.EMFILE, "Too many open files", "/dev/null"))
    assert re.fullmatch(r"/dev/null: Too many open files; this process may have \d+ open files, .*", text)
