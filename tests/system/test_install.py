"""Installed from its source distribution, as `pip install` of a release would: nothing of the checkout is needed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.system.conftest import CHECKOUT, MakeSystem

PROGRAMS = {"irmd", "irm", "oping", "oecho", "obc", "ocbr", "operf", "ocap", "olab"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which the project has been installed, without its dependencies (they are in the environment)."""
    base = tmp_path_factory.mktemp("install")
    ignore = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "*.so", "__pycache__")
    shutil.copytree(CHECKOUT, base / "checkout", ignore=ignore)
    run(base / "checkout", "-c", "from setuptools.build_meta import build_sdist; build_sdist('..')")
    (archive,) = base.glob("*.tar.gz")
    pip = [
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-build-isolation",
        "--no-deps",
    ]
    run(base, *pip, "--no-index", "--target", str(base / "site"), str(archive))
    return base / "site"


def run(folder: Path, *args: str) -> str:
    result = subprocess.run([sys.executable, *args], cwd=folder, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_what_is_installed(site: Path) -> None:
    packages = {path.name for path in site.iterdir() if not path.name.endswith(".dist-info")}
    assert packages == {"ouroboros", "irmd", "ipcpd", "ouroboros_tools", "bin"}
    assert {path.name for path in (site / "bin").iterdir()} == PROGRAMS
    assert (site / "ouroboros" / "py.typed").exists()
    assert (site / "ouroboros_tools" / "observe" / "page" / "page.js").exists()
    (metadata,) = site.glob("*.dist-info")
    assert "License-Expression: MIT" in (metadata / "METADATA").read_text()


def test_the_installed_system_works(site: Path, make_system: MakeSystem, tmp_path: Path) -> None:
    """PYTHONPATH comes before the environment's own path, which leads to the checkout."""
    system = make_system(env={"PYTHONPATH": str(site)}, cwd=tmp_path)
    where = system.python("import ouroboros, irmd, ouroboros_tools; print(ouroboros.__file__)")
    assert where.wait() == 0
    assert Path(where.output).is_relative_to(site)
    mapped = Path(f"/proc/{system.irmd.pid}/maps").read_text()
    assert os.path.join(site, "ouroboros", "dataplane") in mapped
    system.local_layer()
    system.irm(f"bind program {site}/bin/oping name oping auto -- --listen")
    result = system.run("oping", "-n", "oping", "-c", "2", "-i", "10", "--layer", "local", check=False)
    assert "does not know" in result.stdout + result.stderr
    system.irm("name register oping layer local")
    system.run("oping", "-n", "oping", "-c", "2", "-i", "10", "--layer", "local")
