"""Lab: systems on one machine, connected by links of a description. The interface for the commands of olab and for tests.

    with Lab(description) as lab:                  # makes it, and runs its commands
        lab.system("a").irm("ipcp list")
        lab.cut("a-b", silent=True)

All of it is in namespaces that a process holds (see `holder`); this side sends requests to that process, and runs commands
in the systems. Leaving the context tears all down. For one thread at a time.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .control import Connection, HolderError, HolderExited
from .description import Description, LinkSpec, Step, check
from .emulator.impairment import parse
from .place import Holder, Place, PlaceError, folder, only, places
from .reading import from_table, to_table

STUCK_TIMEOUT = 60.0
"""Seconds after which a step counts as stuck."""
Progress = Callable[[str], None]


class LabError(OSError):
    """A lab cannot be made, or cannot do an action; the text has the reason."""


class CommandFailed(LabError):
    """A command in a system ended with another exit code than 0."""

    def __init__(self, system: str, command: str, code: int, output: str) -> None:
        super().__init__(
            f"system {system}: `{command}` ended with exit code {code}: {output.strip() or 'no output'}"
        )
        self.strerror = str(self)
        self.system = system
        self.command = command
        self.code = code
        self.output = output


@dataclass(frozen=True, slots=True)
class LabSystem:
    """One system of a running lab."""

    name: str
    lab: Lab

    @property
    def folder(self) -> Path:
        return self.lab.place.system(self.name)

    @property
    def rundir(self) -> Path:
        """The run directory of its IRMd; the same path inside and outside."""
        return self.folder / "run"

    @property
    def log(self) -> str:
        """The log of its IRMd and its IPCPs."""
        try:
            return (self.folder / "irmd.log").read_text(errors="replace")
        except OSError:
            return ""

    @property
    def env(self) -> dict[str, str]:
        """The environment of programs in this system."""
        return {**self.lab.env, "OUROBOROS_RUNDIR": str(self.rundir), "OLAB_SYSTEM": self.name}

    def command(self, *argv: str) -> list[str]:
        """A command that runs `argv` in this system when it is run here, in the environment `env`."""
        control = str(self.lab.place.control)
        return [sys.executable, "-P", "-m", "ouroboros_tools.olab.enter", control, self.name, *argv]

    def start(self, *argv: str, **options: Any) -> subprocess.Popen[str]:
        """Start a program in this system; `options` are those of Popen. Killing the Popen kills the program."""
        return subprocess.Popen(self.command(*argv), **{"env": self.env, "text": True, **options})

    def run(
        self, *argv: str, check: bool = True, timeout: float = STUCK_TIMEOUT
    ) -> subprocess.CompletedProcess[str]:
        """Run a program in this system to its end. With `check`, anything but exit code 0 raises CommandFailed."""
        result = subprocess.run(
            self.command(*argv),
            env=self.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
        )
        if check and result.returncode != 0:
            raise CommandFailed(
                self.name, shlex.join(argv), result.returncode, result.stderr or result.stdout
            )
        return result

    def irm(self, words: str, *more: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """`system.irm("ipcp list")`; words that contain spaces go into `more`."""
        return self.run("irm", *shlex.split(words), *more, check=check)

    def json(self, words: str) -> Any:
        """The output of `irm ... --json`, decoded."""
        return json.loads(self.irm(words, "--json").stdout)

    def start_irmd(self) -> None:
        """Start its IRMd, which is not running, and wait until it is ready."""
        self.lab.ask("start", systems=[self.name])

    def stop_irmd(self, number: int = 15) -> int:
        """End its IRMd with a signal (default SIGTERM) and wait; its exit code, negative for a signal."""
        return int(self.lab.ask("stop", systems=[self.name], number=number)["codes"][self.name])


class Lab:
    """A lab; `up` makes it, `down` removes it. As a context manager it does both, and is up in between."""

    def __init__(
        self, description: Description, *, directory: Path | None = None, user_namespace: bool | None = None
    ) -> None:
        """`directory`: where labs are (see `place`). `user_namespace`: use one also as root. Raises DescriptionError."""
        self.description = description
        self.place = Place((directory or folder()) / description.name)
        self.user_namespace = os.geteuid() != 0 if user_namespace is None else user_namespace
        self.env = environment()
        self.holder: Holder | None = None
        self._connection: Connection | None = None
        self._lease: int | None = None

    # ---------------------------------------------------------------- up and down

    def __enter__(self) -> Lab:
        self.up()
        return self

    def __exit__(self, *_: object) -> None:
        self.down()

    @classmethod
    def attach(cls, place: Place) -> Lab:
        """A lab that is running already. Raises PlaceError."""
        holder, table = place.read()
        if not holder.alive():
            raise PlaceError(
                f'the lab "{place.name}" has ended; `olab down {place.name}` removes its remains'
            )
        lab = cls(from_table(table))
        lab.place = place
        lab.holder = holder
        return lab

    def up(self, progress: Progress = lambda _: None) -> None:
        """Make the lab and run its commands; if one fails, or on Ctrl-C, tear all down. Raises LabError."""
        with self.tearing_down():
            self.hold()
            self.make(progress)
            self.set_up(progress)

    @contextlib.contextmanager
    def tearing_down(self) -> Iterator[None]:
        """Tear the lab down when the body fails or is interrupted; but not one that another process has made."""
        check(self.description)
        self.place.check_length([system.name for system in self.description.systems])
        clear_stale(self.place)
        self.place.make()
        try:
            yield
        except BaseException:
            self.down()
            raise

    def hold(self) -> None:
        """Make the systems: start the process that holds the lab, and wait until it does."""
        order = {"user": self.user_namespace, "description": to_table(self.description)}
        ours, theirs = os.pipe()
        self._lease = theirs
        with open(self.place.log, "w") as log:
            starter = subprocess.Popen(
                [sys.executable, "-P", "-m", "ouroboros_tools.olab.holder", str(self.place.path)],
                env=self.env,
                stdin=ours,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd="/",
                start_new_session=True,
            )
        os.close(ours)
        assert starter.stdout is not None
        with starter.stdout as reports:
            os.write(theirs, json.dumps(order).encode() + b"\n")
            facts: dict[str, Any] = {}
            try:
                while facts.keys() != {"pid", "held"}:  # from two processes, in either order
                    facts |= self._report(reports.readline())
                    if "pid" in facts:
                        self.holder = Holder.of(facts["pid"])
            finally:
                starter.wait()
        assert self.holder is not None
        self.place.write(self.holder, to_table(self.description))

    def make(self, progress: Progress) -> None:
        """Make the links and start the IRMds."""
        if self.description.links:
            for reply in self._control().follow("wire"):
                if "progress" in reply:
                    progress(f"link {reply['progress']}")
        names = [system.name for system in self.description.systems]
        progress(f"starting {len(names)} IRMd{'s' if len(names) > 1 else ''}")
        self.ask("start", systems=names)

    def set_up(self, progress: Progress) -> None:
        """Run the commands of the description, in its order. Raises CommandFailed."""
        for step in self.description.steps:
            self.run_step(step, progress)

    def run_step(self, step: Step, progress: Progress) -> None:
        """Run the commands of one step. Raises CommandFailed."""
        for shown, argv in step.commands():
            progress(f"{step.system}: {shown}")
            result = self.system(step.system).run(*argv, check=False)
            if result.returncode != 0:
                raise CommandFailed(step.system, shown, result.returncode, result.stderr or result.stdout)

    def keep(self) -> None:
        """Let the lab live on when this process ends."""
        self.ask("keep")

    def down(self) -> dict[str, int | None]:
        """Tear all down; the exit codes of the IRMds that were running. A missing lab is no error."""
        codes: dict[str, int | None] = {}
        try:
            codes = self._control().ask("down")["codes"]
        except (HolderExited, HolderError):
            pass
        finally:
            self.close()
            if self.holder is not None:
                await_end(self.holder)
            self.place.remove()
        return codes

    def close(self) -> None:
        """Disconnect from the holder; a lab without `keep` ends then."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._lease is not None:
            os.close(self._lease)
            self._lease = None

    def _report(self, line: bytes) -> dict[str, Any]:
        facts: dict[str, Any] = json.loads(line) if line else {"error": self.place.log.read_text().strip()}
        if "error" in facts:
            raise LabError(
                facts.get("errno", 0), facts["error"] or "the process that holds the lab has ended"
            )
        return facts

    # ---------------------------------------------------------------- its parts

    def system(self, name: str) -> LabSystem:
        """The system of that name. Raises LabError."""
        if not any(system.name == name for system in self.description.systems):
            known = ", ".join(system.name for system in self.description.systems)
            raise LabError(0, f'there is no system "{name}" in lab {self.description.name}; it has: {known}')
        return LabSystem(name, self)

    @property
    def systems(self) -> list[LabSystem]:
        return [LabSystem(system.name, self) for system in self.description.systems]

    def link(self, link: str | Sequence[str]) -> LinkSpec:
        """The link of that name, or the only one between two systems. Raises LabError."""
        if isinstance(link, str):
            found = [one for one in self.description.links if one.name == link]
            what = f'there is no link "{link}"'
        else:
            found = self.description.link_between(*link)
            what = f"there is no link between {link[0]} and {link[1]}"
            if len(found) > 1:
                names = ", ".join(one.name for one in found)
                raise LabError(
                    0, f"between {link[0]} and {link[1]} there are several links; name one of: {names}"
                )
        if not found:
            known = ", ".join(one.name for one in self.description.links) or "none at all"
            raise LabError(0, f"{what} in lab {self.description.name}; it has: {known}")
        return found[0]

    def cut(self, link: str | Sequence[str], *, silent: bool = False) -> str:
        """Cut a link: take its carrier, or (silent) drop its packets. Returns the means. Raises LabError, HolderError."""
        return str(self.ask("cut", link=self.link(link).name, silent=silent)["means"])

    def heal(self, link: str | Sequence[str]) -> None:
        """Undo a cut. Raises LabError, HolderError."""
        self.ask("heal", link=self.link(link).name)

    def emulate(self, link: str | Sequence[str], words: str, *, source: str | None = None) -> dict[str, Any]:
        """Set the impairment of a link from now on: of both directions, or (`source`) of frames that leave a system.

        `words` are those of `emulator.impairment`; "" lets frames pass unchanged. Frames are counted from 0 again. Returns the result of
        `emulation`. Raises LabError, HolderError, ImpairmentError.
        """
        spec = self.link(link)
        parse(words)
        both = [words if source in (None, end.system, str(end)) else None for end in spec.ends]
        if both == [None, None]:
            ends = " and ".join(end.system for end in spec.ends)
            raise LabError(0, f'link {spec.name} has no end "{source}"; it joins {ends}')
        self.ask("emulate", link=spec.name, words=both)
        return self.emulation(link)

    def emulation(self, link: str | Sequence[str]) -> dict[str, Any]:
        """Settings and counters of an emulated link: `words` and `counters` of frames from its first end, and from its second.

        Raises LabError, HolderError.
        """
        return self.ask("emulation", link=self.link(link).name)

    def status(self) -> dict[str, Any]:
        """`systems` (pid and state of their IRMds), `cuts` (links that are cut, and how), `emulated` (words), now."""
        return self.ask("status")

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """Send a request to the holder of the lab; see `control`. Raises HolderError, HolderExited."""
        return self._control().ask(do, **arguments)

    def _control(self) -> Connection:
        if self._connection is None:
            self._connection = Connection(self.place.control)
        return self._connection


def environment(base: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment of a lab's programs: this installation is first on the PATH, and no variable names another system."""
    ours = str(Path(sys.executable).parent)
    env = {key: value for key, value in base.items() if key not in ("OUROBOROS_RUNDIR", "NOTIFY_SOCKET")}
    paths = env.get("PATH", os.defpath).split(":")
    env["PATH"] = ":".join([ours, *(path for path in paths if path != ours)])
    return env


def await_end(holder: Holder) -> None:
    """Wait until a holder, and with it everything in its lab, has ended; end it when it does not listen. Raises LabError."""
    try:
        pidfd = os.pidfd_open(holder.pid)
    except OSError:
        return
    try:
        if not holder.alive():
            return
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        if not poll.poll(STUCK_TIMEOUT * 1000):
            import signal

            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            poll.poll(STUCK_TIMEOUT * 1000)
    finally:
        os.close(pidfd)


def clear_stale(place: Place) -> None:
    """Remove the remains of a lab of this name that no process holds any more; a running one stays."""
    if not place.log.exists():
        return
    try:
        holder, _ = place.read()
    except PlaceError:
        try:
            Connection(place.control).close()
        except HolderExited:
            place.remove()
        return
    if not holder.alive():
        place.remove()


def find(name: str | None, *, change: bool = False) -> Lab:
    """The lab of that name, or the only one there is; for a `change`, the only one of this session. Raises PlaceError."""
    if name is not None:
        return Lab.attach(Place(folder() / name))
    there = places()
    if not there:
        raise PlaceError(f"there is no lab in {folder()}; `olab up FILE` makes one")
    if change:
        place = only(there, "name one with --lab")
        assert place is not None
        return Lab.attach(place)
    if len(there) > 1:
        names = ", ".join(place.name for place in there)
        raise PlaceError(f"there are several labs; name one with --lab: {names}")
    return Lab.attach(there[0])
