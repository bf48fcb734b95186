"""The command line of the daemon."""

from __future__ import annotations

import pytest

from irmd.main import main
from ouroboros.version import __version__


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"Ouroboros version {__version__}\n"


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert capsys.readouterr().out.startswith("Usage: irmd")


@pytest.mark.parametrize("words", [["--foo"], ["x"], ["--config"], ["--stdout", "--bar"]])
def test_anything_else_is_usage(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 1
    assert capsys.readouterr().out.startswith("Usage: irmd")
