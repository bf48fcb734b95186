"""Whole systems for tests: a private IRMd in a run directory of its own, and programs that run against it.

No function here sleeps or polls. The IRMd reports that it is ready as to systemd (`READY=1` on
`$NOTIFY_SOCKET`), programs are followed by the lines that they print, and a pidfd shows the end of a process. `PATIENCE` only
turns a hang into a failure with the output of all processes in it; no test may depend on its value.

The library keeps one connection to the IRMd per process, so a test never uses it in the process of pytest: a test that needs
flows starts a program (`system.python("...")`, `system.spawn("oping", "-l")`).
"""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.deaths import WATCHED, check_code, check_log

CHECKOUT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
PATIENCE = 60.0

MakeSystem = Callable[..., "System"]


def installed(program: str) -> str:
    """Path of one of our programs, as installed beside the interpreter that runs the tests."""
    path = BIN / program
    if not path.exists():
        pytest.fail(f"{path} is not there: install the project into this environment, e.g. with `make test`")
    return str(path)


class Program:
    """A running program whose output is collected line by line.

    A context manager: leaving it stops the program. `expect` returns as soon as a line matches.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: str | Path | None = None,
        stdin: int = subprocess.DEVNULL,
    ) -> None:
        self.argv = list(argv)
        self.process = subprocess.Popen(
            self.argv,
            env=dict(env),
            cwd=cwd,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        self.pid = self.process.pid
        self.sent: set[int] = set()
        """Signals that the test sent, of which it may die."""
        self._lines: list[str] = []
        self._seen = 0
        self._ended = False
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._collect, daemon=True)
        self._reader.start()

    def _collect(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._changed:
                self._lines.append(line.rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    @property
    def output(self) -> str:
        """All that it has printed so far, on either stream."""
        with self._changed:
            return "\n".join(self._lines)

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def expect(self, pattern: str) -> re.Match[str]:
        """Wait for the next line in which `pattern` is found, after the line of the last `expect`."""
        regex = re.compile(pattern)
        with self._changed:
            while True:
                while self._seen < len(self._lines):
                    line = self._lines[self._seen]
                    self._seen += 1
                    if match := regex.search(line):
                        return match
                if self._ended or not self._changed.wait(PATIENCE):
                    why = "ended" if self._ended else f"is still silent after {PATIENCE:.0f} s"
                    break
        raise AssertionError(f"{self} {why}; no line matched {pattern!r} in:\n{self.output}")

    def expect_all(self, *patterns: str) -> None:
        """The same for lines that come in any order, of several processes that write here."""
        with self._changed:
            begin = self._seen
        last = begin
        for pattern in patterns:
            self._seen = begin
            self.expect(pattern)
            last = max(last, self._seen)
        self._seen = last

    def send(self, text: str) -> None:
        """Write to its standard input (`stdin=subprocess.PIPE`)."""
        assert self.process.stdin is not None
        self.process.stdin.write(text)
        self.process.stdin.flush()

    def wait(self) -> int:
        """Wait for the end; the exit code, negative for a signal."""
        try:
            code = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self} did not end; it has printed:\n{self.output}") from None
        self._reader.join(PATIENCE)
        return code

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal (by default SIGTERM) and wait for the end."""
        self.signal(number)
        return self.wait()

    def kill(self) -> int:
        return self.stop(signal.SIGKILL)

    def signal(self, number: int) -> None:
        """Send a signal; one that the test does not send through here must not be its end."""
        if self.running:
            self.may_die_of(number)
            self.process.send_signal(number)

    def may_die_of(self, number: int) -> None:
        """The test lets another process send it this signal."""
        self.sent.add(number)

    def check(self) -> None:
        """End it, if it still runs, and assert that neither it nor a child of its died of a signal that the test did not send."""
        code = self.kill() if self.running else self.wait()
        check_code(code, self, self.sent, self.output)
        if signal.SIGABRT not in self.sent:
            check_log(self.output, f"in {self}")

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        self.check()

    def __repr__(self) -> str:
        return f"<{' '.join(self.argv[:6])} (pid {self.pid})>"


class System:
    """One Ouroboros system: an IRMd on a run directory of its own.

    `rundir` and `env` are for programs that are started by hand; `irmd` is the running daemon (a `Program`, so its log
    can be waited for). `prefix` goes before every command, e.g. one that enters a namespace and executes the rest.
    """

    def __init__(
        self,
        *irmd_args: str,
        env: Mapping[str, str] | None = None,
        cwd: str | Path | None = None,
        prefix: Sequence[str] = (),
    ) -> None:
        # Directly under /tmp: the path of a UNIX socket has at most 107 bytes, those of pytest are longer.
        self.base = Path(tempfile.mkdtemp(prefix="ouro-", dir="/tmp"))
        self.rundir = self.base / "run"
        self.env = {
            **os.environ,
            "PATH": f"{BIN}:{os.environ.get('PATH', os.defpath)}",
            "PYTHONUNBUFFERED": "1",
            **WATCHED,
            **(env or {}),
            "OUROBOROS_RUNDIR": str(self.rundir),
        }
        self.irmd_args = irmd_args
        self.prefix = list(prefix)
        self.cwd = cwd
        self.programs: list[Program] = []
        self.killed: set[int] = set()
        """Processes that the test killed."""
        self.daemons: list[Program] = []
        """Each IRMd that the test started, the last one running."""
        self.irmd = self.start()

    # ---------------------------------------------------------------- the daemon

    def start(self) -> Program:
        """Start the IRMd (again) and wait until it reports that it is ready."""
        address = str(self.base / "notify")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
            ready.bind(address)
            argv = [*self.prefix, installed("irmd"), "--stdout", *self.irmd_args]
            self.irmd = Program(argv, env={**self.env, "NOTIFY_SOCKET": address}, cwd=self.cwd)
            self.daemons.append(self.irmd)
            pidfd = os.pidfd_open(self.irmd.pid)
            try:
                poll = select.poll()  # unlike select it takes descriptors above 1023
                poll.register(ready, select.POLLIN)
                poll.register(pidfd, select.POLLIN)
                while True:
                    readable = [fd for fd, _ in poll.poll(PATIENCE * 1000)]
                    if ready.fileno() in readable:
                        if b"READY=1" in ready.recv(4096).split(b"\n"):
                            return self.irmd
                    else:
                        self.irmd.kill()
                        what = "ended" if readable else "did not say READY=1"
                        raise AssertionError(f"the irmd {what}:\n{self.irmd.output}")
            finally:
                os.close(pidfd)
                os.unlink(address)

    def stop(self) -> None:
        """Stop programs and IRMd, and assert that the IRMd exits 0 and leaves nothing behind, and that no signal killed any
        process of the system but those that the test sent."""
        try:
            for program in self.programs:
                program.check()
            code = self.irmd.stop()
            assert code == 0, f"the irmd ended with {code}:\n{self.irmd.output}"
            assert "asyncio(EE)" not in self.irmd.output, (
                f"a callback of the irmd failed:\n{self.irmd.output}"
            )
            for irmd in self.daemons:
                check_code(irmd.wait(), irmd, irmd.sent, irmd.output)
                check_log(irmd.output, f"on {self.rundir}", killed=self.killed)
            self.assert_gone()
        finally:
            self.close()

    def kill(self, pid: int, number: int = signal.SIGKILL) -> None:
        """Send a signal to a process of the system, e.g. an IPCP, of which it may die."""
        self.killed.add(pid)
        os.kill(pid, number)

    def assert_gone(self) -> None:
        """Assert that nothing of this system is left: no process, and nothing in its run directory."""
        left = {pid: command for pid, command in processes_of(self.rundir).items()}
        files = sorted(path.name for path in self.rundir.iterdir()) if self.rundir.exists() else []
        assert not left, f"still running after the irmd has ended: {left}\n{self.irmd.output}"
        assert not files, f"still in {self.rundir} after the irmd has ended: {files}\n{self.irmd.output}"

    def close(self) -> None:
        """Remove all remains; those of a failed test must not affect the next."""
        for pid in processes_of(self.rundir):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        shutil.rmtree(self.base, ignore_errors=True)

    # ---------------------------------------------------------------- programs

    def run(self, program: str, *args: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run one of our programs to its end. With `check`, anything but exit code 0 fails the test."""
        argv = [*self.prefix, installed(program), *args]
        result = subprocess.run(
            argv, env=self.env, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=PATIENCE
        )
        check_code(result.returncode, program, (), result.stdout + result.stderr)
        if check and result.returncode != 0:
            raise AssertionError(
                f"`{program} {' '.join(args)}` ended with {result.returncode}\n{result.stdout}{result.stderr}\n"
                f"log of the irmd:\n{self.irmd.output}"
            )
        return result

    def irm(self, words: str, *more: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """`system.irm("ipcp list")`; words that contain spaces go into `more`."""
        return self.run("irm", *words.split(), *more, check=check)

    def json(self, words: str) -> Any:
        """The output of `irm ... --json`, decoded."""
        return json.loads(self.irm(words, "--json").stdout)

    def spawn(self, program: str, *args: str) -> Program:
        """Start one of our programs; it is killed at the end of the test if it still runs then."""
        return self._spawn([installed(program), *args])

    def python(self, source: str, *args: str, **env: str) -> Program:
        """Start a Python program, given as text (indented as you like), with `args` as its arguments and `env` in its environment."""
        script = self.base / f"program{len(self.programs)}.py"
        script.write_text(textwrap.dedent(source))
        return self._spawn([sys.executable, str(script), *args], **env)

    def prototype(self, *args: str) -> Program:
        """Start the prototype of `prototype.py`, which imports other modules of the tests."""
        return self.python(
            Path(__file__).with_name("prototype.py").read_text(), *args, PYTHONPATH=str(CHECKOUT)
        )

    def _spawn(self, argv: Sequence[str], **env: str) -> Program:
        program = Program([*self.prefix, *argv], env={**self.env, **env})
        self.programs.append(program)
        return program

    def local_layer(self, layer: str = "local", *, name: str | None = None) -> None:
        """Make a layer on this system with a local IPCP (by default with the name of the layer)."""
        self.irm(f"ipcp bootstrap type local name {name or layer} layer {layer}")


def processes_of(rundir: Path) -> dict[int, str]:
    """Processes (pid: command line) that belong to the system on `rundir`, by their environment.

    Zombies have ended and are not counted; processes of other users cannot be ours unless we are root, and are skipped.
    """
    mark = f"OUROBOROS_RUNDIR={rundir}".encode()
    found: dict[int, str] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            if mark in (entry / "environ").read_bytes().split(b"\0"):
                found[int(entry.name)] = (
                    (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                )
        except OSError:
            continue
    return found


def traces() -> set[str]:
    """Files of this project outside of a run directory: there must never be any."""
    found = {str(path) for path in Path("/dev/shm").glob("*ouroboros*")}
    if os.environ.get("XDG_RUNTIME_DIR"):
        found |= {str(path) for path in Path(os.environ["XDG_RUNTIME_DIR"]).glob("ouroboros/*")}
    return found | {str(path) for path in Path("/tmp").glob("ouroboros*")}


@pytest.fixture
def clean_world() -> Iterator[None]:
    """Assert that the test leaves the machine as it found it: no trace outside of its run directories."""
    before = traces()
    yield
    new = traces() - before
    assert not new, f"left behind: {sorted(new)}"


@pytest.fixture
def make_system(clean_world: None) -> Iterator[MakeSystem]:
    """Make systems: `make_system("--config", path, env={...})`. All are stopped, and checked, at the end."""
    systems: list[System] = []

    def make(
        *irmd_args: str,
        env: Mapping[str, str] | None = None,
        cwd: str | Path | None = None,
        prefix: Sequence[str] = (),
    ) -> System:
        system = System(*irmd_args, env=env, cwd=cwd, prefix=prefix)
        systems.append(system)
        return system

    yield make
    failures: list[AssertionError] = []
    for system in reversed(systems):
        if system.base.exists():
            try:
                system.stop()
            except AssertionError as failure:
                failures.append(failure)
        print(f"---- log of the irmd on {system.rundir}\n{system.irmd.output}")
    if failures:
        raise failures[0]


@pytest.fixture
def system(make_system: MakeSystem) -> System:
    """One running system, without any layer."""
    return make_system()


@pytest.fixture(scope="module")
def shared() -> Iterator[System]:
    """One system for all scenarios of a module, which leave it as they found it, with a local layer."""
    system = System()
    system.local_layer()
    yield system
    system.stop()


@pytest.fixture(scope="session")
def namespaces() -> None:
    """Skip where the kernel, or whoever runs us, gives no namespaces."""
    probe = """
import os
from ouroboros_tools.olab import namespaces as n
user, uid, gid = n.NEWUSER if os.geteuid() else 0, os.geteuid(), os.getegid()
n.unshare(n.NEWPID | n.NEWNS | n.NEWNET | user)
if user:
    n.map_to_root(uid, gid)
if child := os.fork():
    raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
n.mount("none", "/", None, n.MS_REC | n.MS_PRIVATE)
n.mount("proc", "/proc", "proc", n.MS_NOSUID | n.MS_NODEV | n.MS_NOEXEC)
n.mount("/etc/hosts", "/etc/hosts", None, n.MS_BIND)
"""
    result = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True)
    if result.returncode != 0:
        reason = result.stderr.strip().rpartition("\n")[2]
        pytest.skip(f"this machine gives no namespaces (process, mount, network): {reason}")
