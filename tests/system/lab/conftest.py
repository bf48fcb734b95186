"""Labs for tests: several systems with links between them, on this machine, removed in any case.

    def test_something(lab):                       # systems a, b, c; links "ab" and "bc" with IP addresses
        lab.system("a").irm("ipcp bootstrap name eth type eth-dix layer ethernet dev eth0")
        with lab.system("b").start("oping", "--listen") as server:
            server.expect("Ouroboros ping server started.")
        lab.cut("ab", silent=True)

    def test_other(make_lab):
        lab = make_lab(chain(5))                   # or a text in TOML, or any Description

At the end every IRMd must stop with exit code 0, and nothing of the lab may be left. A machine without namespaces skips
these tests by that name; `tools/olab/lab.py` has the other functions of a lab.
"""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
import textwrap
import tomllib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ouroboros_tools.olab.control import HolderError, HolderExited
from ouroboros_tools.olab.description import Description, SystemSpec, veth
from ouroboros_tools.olab.lab import Lab, LabSystem
from ouroboros_tools.olab.reading import from_table

from tests.deaths import WATCHED, check_log
from tests.system.conftest import Program

MakeLab = Callable[..., "LabOfTest"]


class SystemOfTest(LabSystem):
    """A system whose programs are followed line by line, and which ends them with the test."""

    __slots__ = ()

    def start(self, *argv: str, **options: Any) -> Program:  # type: ignore[override]
        """Start a program in the background; see `Program` for the events to wait for."""
        program = Program(self.command(*argv), env=self.env, **options)
        assert isinstance(self.lab, LabOfTest)
        self.lab.programs.append(program)
        return program

    def python(self, source: str, *args: str) -> Program:
        """Start a Python program, given as text (indented as you like), with `args` as its arguments."""
        return self.start(sys.executable, "-c", textwrap.dedent(source), *args)

    def kill(self, pid: int, number: int = signal.SIGKILL) -> None:
        """Send a signal to a process of the lab, by the pid that it has there (and in `irm ipcp list`); it may die of it."""
        assert isinstance(self.lab, LabOfTest)
        self.lab.killed.add(pid)
        self.run("kill", f"-{int(number)}", str(pid))

    def stop_irmd(self, number: int = signal.SIGTERM) -> int:
        if number != signal.SIGTERM:
            assert isinstance(self.lab, LabOfTest)
            self.lab.may_fail.add(self.name)
        return super().stop_irmd(number)

    def ipcp_pid(self, name: str) -> int:
        """The pid of the IPCP of that name, as it is in the lab."""
        ipcps = self.json("ipcp list")["ipcps"]
        return next(int(ipcp["pid"]) for ipcp in ipcps if ipcp["name"] == name)


class LabOfTest(Lab):
    """A lab whose systems are `SystemOfTest`, and whose end is checked."""

    def __init__(self, description: Description, *, directory: Path, user_namespace: bool | None) -> None:
        super().__init__(description, directory=directory, user_namespace=user_namespace)
        self.env.update(WATCHED)
        self.programs: list[Program] = []
        self.killed: set[int] = set()
        """Processes that the test killed."""
        self.may_fail: set[str] = set()
        """Systems whose IRMd the test kills: any exit code is fine."""

    def system(self, name: str) -> SystemOfTest:
        return SystemOfTest(super().system(name).name, self)

    def finish(self) -> None:
        """Tear down, and assert that it was orderly and left nothing."""
        try:
            for program in self.programs:
                program.check()
        finally:
            logs, codes = self._down()
        for name, code in codes.items():
            assert code == 0 or name in self.may_fail, (
                f"the irmd of {name} ended with {code}:\n{logs.get(name)}"
            )
            assert "asyncio(EE)" not in logs[name], f"a callback failed in system {name}:\n{logs[name]}"
        for name, log in logs.items():
            check_log(log, f"in system {name}", killed=self.killed)
        assert self.holder is None or not self.holder.alive(), "the holder of the lab still runs"
        assert not self.place.path.exists(), f"left behind: {sorted(self.place.path.rglob('*'))}"

    def _down(self) -> tuple[dict[str, str], dict[str, int | None]]:
        """Tear down; the logs of the systems to their very end (their files go with the lab), and how the IRMds ended."""
        with ExitStack() as stack:
            paths = {system.name: system.folder / "irmd.log" for system in self.systems}
            files = {
                name: stack.enter_context(path.open(errors="replace"))
                for name, path in paths.items()
                if path.exists()
            }
            codes = self._stopped() | self.down()
            logs = {name: file.read() for name, file in files.items()}
        for name, log in logs.items():
            print(f"---- log of system {name}\n{log}")
        return logs, codes

    def _stopped(self) -> dict[str, int | None]:
        """How the IRMds ended that do not run any more."""
        try:
            systems = self.status()["systems"]
        except (HolderExited, HolderError):
            return {}
        return {name: system["code"] for name, system in systems.items() if system["state"] == "stopped"}


@pytest.fixture
def make_lab(namespaces: None, clean_world: None) -> Iterator[MakeLab]:
    """Make labs, of a `Description` or of a text in TOML; each is up, and its commands have run.

    `user_namespace=True` makes one as an ordinary user does, even as root.
    """
    labs: list[LabOfTest] = []
    folder = Path(tempfile.mkdtemp(prefix="olab-", dir="/tmp"))

    def make(what: Description | str, *, user_namespace: bool | None = None) -> LabOfTest:
        if isinstance(what, str):
            what = from_table(tomllib.loads(textwrap.dedent(what)), name="test")
        what = replace(what, name=f"{what.name}{len(labs)}")
        lab = LabOfTest(what, directory=folder, user_namespace=user_namespace)
        lab.up()
        labs.append(lab)
        return lab

    yield make
    failures: list[AssertionError] = []
    for lab in reversed(labs):
        try:
            lab.finish()
        except AssertionError as failure:
            failures.append(failure)
        finally:
            lab.down()
    shutil.rmtree(folder, ignore_errors=True)
    if failures:
        raise failures[0]


def line(*names: str) -> Description:
    """Systems in a line: link "ab" from a's eth1 (10.0.0.1/24) to b's eth0 (10.0.0.2/24), "bc" 10.0.1.0/24, and so on."""
    links = [
        veth(
            one,
            other,
            name=one + other,
            devices=("eth1", "eth0"),
            addresses=(f"10.0.{number}.1/24", f"10.0.{number}.2/24"),
        )
        for number, (one, other) in enumerate(zip(names, names[1:], strict=False))
    ]
    return Description(name="lab", systems=tuple(SystemSpec(name=name) for name in names), links=tuple(links))


def chain(count: int) -> Description:
    """The same with a number of systems, called n0, n1, ... and links n0n1, n1n2, ..."""
    return line(*(f"n{number}" for number in range(count)))


@pytest.fixture
def lab(make_lab: MakeLab) -> LabOfTest:
    """Systems a, b and c in a line, with links "ab" and "bc" (see `line`), and no IPCP yet."""
    return make_lab(line("a", "b", "c"))
