"""`make clean` removes everything that make has made: each pattern of .gitignore, and no file of the checkout."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS_OF_C = ("ouroboros/dataplane", "ipcpd/dataplane", "tools/olab/emulator")


def _made(pattern: str) -> list[str]:
    """Return files that match a pattern of .gitignore, where make writes such files."""
    name = pattern.replace("*", "example")
    if pattern.endswith("/"):
        return [f"{name}file"]
    return [f"{folder}/{name}" for folder in FOLDERS_OF_C]


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_clean_removes_what_git_ignores(tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    patterns = (ROOT / ".gitignore").read_text(encoding="utf-8").split()
    kept = {
        Path(folder, name) for folder in FOLDERS_OF_C for name in ("build.py", "_types.pyi", "src/pool.c")
    }
    made = {Path(path) for pattern in patterns for path in _made(pattern)} | {Path(".venv/.requirements")}
    for path in made | kept:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    command = ["make", "-s", "clean", "VENV=.venv"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    left = {path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()}
    assert left == kept | {Path("Makefile")}
