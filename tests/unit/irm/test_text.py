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


def terminal(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    monkeypatch.setattr(text.sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", str(columns))


def test_a_table_aligns_wide_characters() -> None:
    lines = text.table((("name", 8),), [("日本語",), ("é",), ("e\u0301",)]).splitlines()
    assert lines[3:6] == ["|   日本語 |", "|        é |", "|        e\u0301 |"]
    assert {text.width_of(line) for line in lines} == {12}


@pytest.mark.parametrize("columns", [20, 40, 79])
def test_a_table_is_wrapped_to_the_terminal(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    terminal(monkeypatch, columns)
    row = ("12", "a name of several words", "x" * 60, "日本語" * 8)
    lines = text.table((("pid", 7), ("name", 20), ("type", 10), ("layer", 20)), [row]).splitlines()
    assert len({text.width_of(line) for line in lines}) == 1
    assert text.width_of(lines[0]) <= max(columns, 4 * 11 + 1)
    for at, cell in enumerate(row):
        shown = "".join(line.split("|")[at + 1].strip() for line in lines[1:] if line.startswith("|"))
        assert cell.replace(" ", "") in shown.replace(" ", "")


def test_a_wide_terminal_changes_no_table(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = text.table((("a", 3), ("b", 1)), [(1, "longer words")])
    terminal(monkeypatch, 200)
    assert text.table((("a", 3), ("b", 12)), [(1, "longer words")]).splitlines()[-2] == plain.splitlines()[-2]
