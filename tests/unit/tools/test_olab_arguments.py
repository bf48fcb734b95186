"""Wrong command lines of olab: one line, exit code 2, and nothing is made or changed."""

from __future__ import annotations

from pathlib import Path

import pytest
from ouroboros_tools.olab import main

GOOD = "[system.a]\n[system.b]\n[link.ab]\nbetween = ['a', 'b']\n"


@pytest.mark.parametrize(
    "line",
    [
        "",
        "nonsense",
        "up",
        "up lab.toml extra",
        "up --nonsense lab.toml",
        "up --name a/b lab.toml",
        "up --check --name= lab.toml",
        "up missing.toml",
        "run",
        "run a",
        "run a --",
        "shell",
        "cut",
        "heal",
        "link",
        "log",
        "graph -o",
        "status --lab",
        "down one two",
        "list --lab x",
    ],
)
def test_a_wrong_line(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OLAB_DIR", str(tmp_path / "labs"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lab.toml").write_text(GOOD)
    assert main(line.split()) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1 and captured.err.startswith("olab")
    assert not (tmp_path / "labs").exists()


@pytest.mark.parametrize(
    "line", ["down", "cut ab", "heal ab", "link ab", "status", "log a", "shell a", "run a -- true", "graph"]
)
def test_no_lab_is_a_failure(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OLAB_DIR", str(tmp_path / "labs"))
    assert main(line.split()) == 1
    captured = capsys.readouterr()
    assert captured.out == "" and "there is no lab in" in captured.err and captured.err.count("\n") == 1


@pytest.mark.parametrize("width", [40, 80, 200])
@pytest.mark.parametrize("command", "up run exec shell cut heal link status list log graph down".split())
def test_every_command_has_help(
    command: str, width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    assert main([command, "--help"]) == 0
    assert capsys.readouterr().out.startswith("usage: olab ")
