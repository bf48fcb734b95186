"""The files that an installation puts into site-packages, and those that it must not; and the effects of the make targets."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
FOLDERS = {"ouroboros": "ouroboros", "irmd": "irmd", "ipcpd": "ipcpd", "ouroboros_tools": "tools"}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python files that an installation copies to site-packages (the C is not compiled for this)."""
    site = tmp_path_factory.mktemp("site-packages")
    command = [sys.executable, "setup.py", "--quiet", "build_py", "--build-lib", str(site)]
    subprocess.run(command, cwd=CHECKOUT, check=True, capture_output=True)
    return site


def test_only_our_packages_are_installed(installed: Path) -> None:
    """Above all nothing called tools, tests, docs, examples, scripts or demo."""
    assert {path.name for path in installed.iterdir()} == set(FOLDERS)


@pytest.mark.parametrize("package", FOLDERS)
def test_no_module_is_forgotten(installed: Path, package: str) -> None:
    folder = CHECKOUT / FOLDERS[package]
    there = {path.relative_to(folder) for path in folder.rglob("*.py")}
    assert {path.relative_to(installed / package) for path in (installed / package).rglob("*.py")} == there


def test_types_are_shipped(installed: Path) -> None:
    assert (installed / "ouroboros" / "py.typed").exists()
    assert (installed / "ouroboros" / "rpc" / "messages_pb2.pyi").exists()


MADE = (
    "demo/pictures/unicast.svg",
    "build/lib/ouroboros/dev.py",
    "ouroboros/__pycache__/dev.cpython-311.pyc",
    "ouroboros/dataplane/_dataplane.c",
    "ipcpd/dataplane/_ipcp.abi3.so",
    "tests/.hypothesis/unicode_data/x",
    "docs/.pytest_cache/README.md",
)
"""As the targets of make, pip and the tests leave them in a checkout. Git ignores them."""


def test_the_source_distribution_is_the_checkout(tmp_path: Path) -> None:
    """What `git ls-files` names, and beside it only what setuptools adds: tests and examples run from it too."""
    if not (CHECKOUT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("no git checkout")
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=CHECKOUT, check=True, capture_output=True, text=True
    )
    tracked = {name for name in listed.stdout.split("\0") if name and (CHECKOUT / name).exists()}
    copy = tmp_path / "checkout"
    for name in tracked | set(MADE):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        if name in tracked:
            shutil.copy(CHECKOUT / name, copy / name)
        else:
            (copy / name).write_text("")
    command = [sys.executable, "setup.py", "--quiet", "egg_info", "--egg-base", str(tmp_path)]
    command += ["sdist", "--dist-dir", str(tmp_path)]
    subprocess.run(command, cwd=copy, check=True, capture_output=True)
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        there = {name.partition("/")[2] for name in (member.name for member in tar if member.isfile())}
    assert tracked - there == set()
    extra = {name for name in there - tracked if ".egg-info/" not in name}
    assert extra == {"PKG-INFO", "setup.cfg"}


def test_one_wheel_serves_every_cpython() -> None:
    """The C extensions use the stable ABI, so the wheel's tag says so."""
    script = (
        "import setuptools, distutils.core\n"
        "made = distutils.core.run_setup('setup.py', [], 'commandline').get_command_obj('bdist_wheel')\n"
        "made.ensure_finalized()\n"
        "print(*made.get_tag()[:2])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=CHECKOUT, check=True, capture_output=True, text=True
    )
    assert done.stdout.split() == ["cp311", "abi3"]


def facts() -> dict[str, dict[str, str]]:
    with open(CHECKOUT / "pyproject.toml", "rb") as file:
        return tomllib.load(file)["project"]


@pytest.mark.parametrize(("program", "target"), facts()["scripts"].items())
def test_every_program_has_a_main(program: str, target: str) -> None:
    module, function = target.split(":")
    assert callable(getattr(importlib.import_module(module), function)), program


def test_every_program_of_the_issue_is_there() -> None:
    programs = {"irmd", "irm", "oping", "oecho", "obc", "ocbr", "operf", "ocap", "olab"}
    assert set(facts()["scripts"]) == programs


# ---------------------------------------------------------------- scripts/bootstrap on a machine that lacks something


def machine(folder: Path, **programs: str) -> dict[str, str]:
    """A PATH with the given shell scripts, and of the real machine only what bootstrap itself needs."""
    for name in "cat cut date dirname env grep id ls mktemp printf readlink rm sh stat tail touch uname basename".split():
        real = shutil.which(name)
        if real:
            (folder / name).symlink_to(real)
    for name, script in programs.items():
        path = folder / name
        path.unlink(missing_ok=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
    return {"PATH": str(folder), "HOME": str(folder)}


def bootstrap(venv: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [str(CHECKOUT / "scripts" / "bootstrap"), str(venv)]
    return subprocess.run(command, env=env, capture_output=True, text=True)


OLD_PYTHON = "exit 1"
NO_PACKAGE = "exit 1"
USER = 'case "$1" in -u) echo 1000 ;; *) echo ada ;; esac'


def test_bootstrap_names_what_is_missing_and_the_command(tmp_path: Path) -> None:
    env = machine(
        tmp_path,
        python3=OLD_PYTHON,
        **{"apt-get": "exit 99", "apt-cache": NO_PACKAGE, "sudo": "exit 1", "id": USER},
    )
    result = bootstrap(tmp_path / "venv", env)
    assert result.returncode == 1
    assert "Python 3.11 or newer" in result.stderr
    assert "apt-get install python3.11 python3.11-venv python3.11-dev gcc libc6-dev" in result.stderr
    assert not (tmp_path / "venv").exists()


def test_bootstrap_names_only_what_is_missing(tmp_path: Path) -> None:
    """A Python that is new enough, but has neither ensurepip nor header files; and no compiler."""
    python = f"""
case "$2" in
*ensurepip*) exit 1 ;;
*'get_path("include")'*) echo /nonexistent ;;
*get_config_var*) echo a-compiler-that-is-not-there ;;
*) exec {sys.executable} "$@" ;;
esac"""
    env = machine(tmp_path, python3=python, **{"apt-get": "exit 99", "sudo": "exit 1", "id": USER})
    result = bootstrap(tmp_path / "venv", env)
    assert result.returncode == 1
    assert "apt-get install python3-venv python3-dev gcc libc6-dev" in result.stderr


def test_bootstrap_names_the_headers_of_openssl(tmp_path: Path) -> None:
    """A machine that has all but these."""
    python = f"""
case "$2" in
*ensurepip*) exit 0 ;;
*'get_path("include")'*) echo {sysconfig.get_path("include")} ;;
*get_config_var*) echo compiler ;;
*) exec {sys.executable} "$@" ;;
esac"""
    compiler = "! grep -q openssl"
    env = machine(
        tmp_path, python3=python, compiler=compiler, **{"apt-get": "exit 99", "sudo": "exit 1", "id": USER}
    )
    result = bootstrap(tmp_path / "venv", env)
    assert result.returncode == 1
    assert "lacks: the header files of OpenSSL." in result.stderr
    assert "apt-get install libssl-dev\n" in result.stderr


def test_bootstrap_takes_the_newest_python_that_apt_has(tmp_path: Path) -> None:
    """Ubuntu 22.04: python3 is 3.10, and newer ones have the version in the name."""
    cache = 'case "$2" in python3.12-venv) exit 0 ;; *) exit 1 ;; esac'
    env = machine(tmp_path, python3=OLD_PYTHON, **{"apt-get": "exit 99", "apt-cache": cache, "id": USER})
    result = bootstrap(tmp_path / "venv", env)
    assert "apt-get install python3.12 python3.12-venv python3.12-dev" in result.stderr


def test_bootstrap_on_a_machine_without_any_python(tmp_path: Path) -> None:
    env = machine(tmp_path, **{"apt-get": "exit 99", "apt-cache": NO_PACKAGE, "id": USER})
    result = bootstrap(tmp_path / "venv", env)
    assert "apt-get install python3 python3-venv python3-dev" in result.stderr


def test_bootstrap_installs_as_root(tmp_path: Path) -> None:
    """Root is not asked to type anything; what still lacks afterwards is said."""
    log = tmp_path / "apt.log"
    env = machine(
        tmp_path,
        python3=OLD_PYTHON,
        **{
            "apt-get": f'echo "$@" >> {log}',
            "apt-cache": NO_PACKAGE,
            "id": 'case "$1" in -u) echo 0 ;; *) echo root ;; esac',
        },
    )
    result = bootstrap(tmp_path / "venv", env)
    assert result.returncode == 1
    assert "this machine still lacks: Python 3.11 or newer" in result.stderr
    asked = log.read_text().splitlines()
    assert asked[0] == "update"
    assert "install -y --no-install-recommends python3.11 python3.11-venv python3.11-dev" in asked[1]


@pytest.mark.parametrize(
    ("uname", "complaint"),
    [
        ('case "$1" in -s) echo Darwin ;; esac', "Linux only"),
        ('case "$1" in -s) echo Linux ;; -r) echo 4.19.0-27-amd64 ;; esac', "needs Linux 5.10 or newer"),
        ('case "$1" in -s) echo Linux ;; -r) echo 5.9.1 ;; esac', "needs Linux 5.10 or newer"),
        ('case "$1" in -s) echo Linux ;; -r) echo 6.1.0 ;; -m) echo s390x ;; esac', "little-endian 64-bit"),
        ('case "$1" in -s) echo Linux ;; -r) echo 6.1.0 ;; -m) echo armv7l ;; esac', "little-endian 64-bit"),
    ],
)
def test_bootstrap_refuses_machines_that_cannot_run_it(tmp_path: Path, uname: str, complaint: str) -> None:
    result = bootstrap(tmp_path / "venv", machine(tmp_path, uname=uname))
    assert result.returncode == 1
    assert complaint in result.stderr


def test_bootstrap_does_not_touch_a_folder_that_is_no_environment(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "letter.txt").write_text("do not lose this")
    result = bootstrap(precious, dict(os.environ))
    assert result.returncode == 1
    assert "is no virtual environment" in result.stderr
    assert (precious / "letter.txt").exists()
