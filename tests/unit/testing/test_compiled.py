"""`tests/compiled.py`: a run of tests begins with modules that were compiled from the sources that are there."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.compiled import CHECKOUT, MODULES, outdated


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the sources and of the modules."""
    for folder in {folder for folders in MODULES.values() for folder in folders}:
        shutil.copytree(CHECKOUT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def test_what_was_built_is_up_to_date(checkout: Path) -> None:
    assert outdated(checkout) == []


@pytest.mark.parametrize(
    ("source", "modules"),
    [
        ("ouroboros/dataplane/src/ring.h", ["ouroboros/dataplane/_dataplane", "ipcpd/dataplane/_ipcp"]),
        ("ouroboros/dataplane/build.py", ["ouroboros/dataplane/_dataplane", "ipcpd/dataplane/_ipcp"]),
        ("ipcpd/dataplane/src/relay.c", ["ipcpd/dataplane/_ipcp"]),
        ("tools/olab/emulator/src/line.c", ["tools/olab/emulator/_emulator"]),
    ],
)
def test_a_source_that_is_newer(checkout: Path, source: str, modules: list[str]) -> None:
    with (checkout / source).open("a") as file:
        file.write("\n")
    assert outdated(checkout) == modules


def test_a_module_that_is_missing(checkout: Path) -> None:
    for path in (checkout / "ipcpd/dataplane").glob("_ipcp*.so"):
        path.unlink()
    assert outdated(checkout) == ["ipcpd/dataplane/_ipcp"]


def test_pytest_says_so_in_one_line(tmp_path: Path) -> None:
    """Before it collects a test."""
    (tmp_path / "conftest.py").write_text(
        "import tests.compiled\n"
        "tests.compiled.outdated = lambda: ['ipcpd/dataplane/_ipcp']\n"
        "from tests.conftest import pytest_configure\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", "/dev/null"]
    ended = subprocess.run(
        [*command, "--rootdir", str(tmp_path), str(tmp_path)],
        cwd=CHECKOUT,
        env={"PYTHONPATH": str(CHECKOUT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == pytest.ExitCode.USAGE_ERROR
    assert (
        "ipcpd/dataplane/_ipcp: not compiled from the C in this checkout; run `make install`" in ended.stderr
    )
    assert "collected" not in ended.stdout
