"""The output of tools: colour only on a terminal, tables, JSON, one line for an error."""

from __future__ import annotations

import errno
import io
import json

import pytest
from ouroboros_tools import text


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert text.coloured("x", "red", io.StringIO()) == "x"
    assert text.coloured("x", "red", Terminal()) == "\x1b[31mx\x1b[0m"
    monkeypatch.setenv("NO_COLOR", "1")
    assert text.coloured("x", "red", Terminal()) == "x"
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert text.coloured("x", "red", Terminal()) == "x"


def test_table() -> None:
    assert text.table((("a", 3), ("b", 1)), [(1, "long")]).splitlines() == [
        "+-----+---+",
        "|   a | b |",
        "+-----+---+",
        "|   1 | long |",
        "+-----+---+",
    ]


def test_json(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    text.print_json({"a": ["é"]})
    assert json.loads(capsys.readouterr().out) == {"a": ["é"]}
    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    text.print_json({"a": [1]})
    assert terminal.getvalue().count("\n") > 2


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (OSError(errno.EIO, "went\nwrong"), 1, "went wrong\n"),
        (
            FileNotFoundError(errno.ENOENT, "No such file or directory", "x"),
            1,
            "x: No such file or directory\n",
        ),
        (OSError(errno.EIO, "bad", "disk"), 1, "disk: bad\n"),
        (ValueError("no good"), 1, "no good\n"),
        (ValueError(), 1, "ValueError\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_errors_become_exit_codes(
    error: BaseException, code: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def body() -> int:
        raise error

    assert text.guarded(body) == code
    assert capsys.readouterr() == ("", line)
