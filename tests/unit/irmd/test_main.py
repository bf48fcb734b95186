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


@pytest.mark.parametrize("words", [["--nonsense"], ["help me"], ["--stdout", "x"], ["-x"]])
def test_an_unknown_word_is_named(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 1
    said = capsys.readouterr()
    assert f'irmd: "{words[-1]}" is unknown' in said.err and said.err.count("\n") == 1 and not said.out


def test_a_missing_value_is_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config"]) == 2
    assert "--config PATH" in capsys.readouterr().err
