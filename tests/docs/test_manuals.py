"""Manual pages: every tool has one, with all its commands and options, and mandoc finds nothing in them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ouroboros_tools.irm.main import GROUPS
from ouroboros_tools.irm.shells import PROGRAMS
from ouroboros_tools.irm.words import Command

from tests.system.conftest import CHECKOUT


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("man")
    subprocess.run([sys.executable, str(CHECKOUT / "scripts/manuals"), str(path)], check=True)
    return path


def test_every_tool_file_and_library_has_a_page(folder: Path) -> None:
    pages = {page.stem for page in folder.rglob("*.*")}
    assert pages == {"irm", *PROGRAMS, "irmd.toml", "ouroboros", "ouroboros-facts"}


def test_the_page_of_irm_has_every_command(folder: Path) -> None:
    text = (folder / "man1/irm.1").read_text()
    for entry in GROUPS:
        for command in [entry] if isinstance(entry, Command) else entry.commands:
            assert f".B irm {'' if command is entry else f'{entry.word} '}{command.word}" in text
    assert "\\-\\-flood" in (folder / "man1/oping.1").read_text()


def test_the_date_of_a_page_can_be_given(tmp_path: Path) -> None:
    command = [sys.executable, str(CHECKOUT / "scripts/manuals"), str(tmp_path)]
    subprocess.run(command, check=True, env={**os.environ, "SOURCE_DATE_EPOCH": "86400"})
    assert "1970-01-02" in (tmp_path / "man8/irmd.8").read_text()


def test_mandoc_finds_nothing(folder: Path) -> None:
    if shutil.which("mandoc") is None:
        pytest.skip("mandoc is not installed")
    pages = sorted(map(str, folder.rglob("*.*")))
    result = subprocess.run(["mandoc", "-Tlint", "-Wwarning", *pages], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
