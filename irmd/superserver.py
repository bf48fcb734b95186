"""Starting programs on demand (paper 5.2, spec/rpc RPC-6).

`Starter` decides, without I/O, for one program bound to one name: one start at a time, a pause after a
program that exited before it accepted, a limit on the running instances. `SuperServer` starts and reaps them.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import pwd
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ouroboros.rpc.service import Refusal

from .exit_status import status_text

if TYPE_CHECKING:
    from .records import Process, ProgramBinding

log = logging.getLogger("irmd/start")

PAUSE_FIRST = 0.5
PAUSE_LAST = 30.0


class Starter:
    """Whether to start one program for one name now. Times are seconds of a monotonic clock."""

    __slots__ = ("_failures", "_last", "_limit", "_until", "path", "running", "starting")

    def __init__(self, path: str, *, limit: int) -> None:
        self.path = path
        self.starting: int | None = None
        """Pid of the process that has not accepted yet."""
        self.running: set[int] = set()
        self._limit = limit
        self._failures = 0
        self._until = 0.0
        self._last = ""

    def may_start(self, now: float) -> bool:
        """Whether to start a process now; False while one is starting. Raises Refusal when the IRMd must not."""
        if self.starting is not None:
            return False
        if now < self._until:
            raise Refusal(
                errno.ECONNREFUSED,
                f"{self._last}; it is not started again for another {self._until - now:.1f} s",
            )
        if len(self.running) >= self._limit:
            raise Refusal(
                errno.EAGAIN,
                f"{len(self.running)} instances of {self.path} run already and none of them accepts; "
                "see instances in table [irmd] of the configuration",
            )
        return True

    def started(self, pid: int) -> None:
        """The process runs, and has not accepted yet."""
        self.starting = pid
        self.running.add(pid)

    def accepted(self, pid: int) -> None:
        """The process has called accept: the start has succeeded."""
        if pid == self.starting:
            self.starting = None
            self._failures = 0

    def exited(self, pid: int, status: int, now: float) -> str | None:
        """A process of this program has exited. Returns the reason when it had not accepted yet."""
        self.running.discard(pid)
        if pid != self.starting:
            return None
        self.starting = None
        return self.failed(f"{self.path} {status_text(status)} before it accepted a flow", now)

    def failed(self, text: str, now: float) -> str:
        """A start has failed: pause, longer each time."""
        self._until = now + min(PAUSE_FIRST * 2**self._failures, PAUSE_LAST)
        self._failures += 1
        self._last = text
        return text


@dataclass(slots=True)
class _Child:
    process: subprocess.Popen[bytes]
    pidfd: int
    starter: Starter
    name: str
    exit: asyncio.Future[None] = field(repr=False)


class SuperServer:
    """The programs that the IRMd started. `on_failed(name, errno, text)`: no started process will accept for `name`."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        rundir: str,
        stdout: bool,
        instances: int,
        on_failed: Callable[[str, int, str], None],
    ) -> None:
        self._loop = loop
        self._rundir = rundir
        self._stdout = stdout
        self._instances = instances
        self._on_failed = on_failed
        self._starters: dict[tuple[str, str], Starter] = {}
        self._children: dict[int, _Child] = {}

    def start(self, name: str, binding: ProgramBinding) -> None:
        """Start the program for `name`, unless a process is starting already. Raises Refusal."""
        key = (name, binding.path)
        starter = self._starters.get(key)
        if starter is None:
            starter = self._starters[key] = Starter(binding.path, limit=self._instances)
        if not starter.may_start(self._loop.time()):
            return
        try:
            process, pidfd = self._spawn_watched(binding)
        except (OSError, subprocess.SubprocessError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            text = starter.failed(f"cannot start {binding.path}: {reason}", self._loop.time())
            raise Refusal(errno.ECONNREFUSED, text) from None
        starter.started(process.pid)
        self._children[process.pid] = _Child(process, pidfd, starter, name, self._loop.create_future())
        self._loop.add_reader(pidfd, self._exited, process.pid)
        log.info("started %s (pid %d) for name %s", binding.path, process.pid, name)

    def _spawn_watched(self, binding: ProgramBinding) -> tuple[subprocess.Popen[bytes], int]:
        """The program's process, and its pidfd. Raises OSError or SubprocessError; then no process is left."""
        process = self._spawn(binding)
        try:
            return process, os.pidfd_open(process.pid)  # a child that is not reaped yet keeps its pid
        except BaseException:
            process.kill()
            process.wait()
            raise

    def name_of(self, pid: int) -> str | None:
        """The name that process `pid` was started for."""
        child = self._children.get(pid)
        return None if child is None else child.name

    def accepted(self, process: Process) -> None:
        """A process entered accept."""
        child = self._children.get(process.peer.pid)
        if child is not None:
            child.starter.accepted(process.peer.pid)

    async def stop(self, timeout: float) -> None:
        """Send SIGTERM to every program that was started, SIGKILL to those that run after `timeout` seconds."""
        children = list(self._children.values())
        for child in children:
            child.process.send_signal(signal.SIGTERM)
        if children:
            await asyncio.wait([child.exit for child in children], timeout=timeout)
        for child in list(self._children.values()):
            log.warning("%s (pid %d) does not end, killing it", child.starter.path, child.process.pid)
            child.process.kill()
            await child.exit

    def _spawn(self, binding: ProgramBinding) -> subprocess.Popen[bytes]:
        user: int | None = None
        group: int | None = None
        groups: list[int] | None = None
        home = os.path.expanduser("~")
        if os.geteuid() == 0 and (binding.uid, binding.gid) != (0, os.getegid()):
            # As the user who bound it: a program bound by a member of the group must not run as root. Root's own programs keep
            # their ids, because in a user namespace there is no other user, and not even root may choose its groups.
            user, group, groups = binding.uid, binding.gid, []
            try:
                entry = pwd.getpwuid(binding.uid)
                home, groups = entry.pw_dir, os.getgrouplist(entry.pw_name, binding.gid)
            except KeyError:
                home = "/"
        environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": home,
            "LANG": os.environ.get("LANG", "C.UTF-8"),
            "OUROBOROS_RUNDIR": self._rundir,
        }
        return subprocess.Popen(
            [binding.path, *binding.args],
            stdin=subprocess.DEVNULL,
            stdout=None if self._stdout else subprocess.DEVNULL,
            env=environment,
            cwd="/",
            user=user,
            group=group,
            extra_groups=groups,
            start_new_session=True,  # Ctrl-C at the IRMd's terminal is for the IRMd
        )

    def _exited(self, pid: int) -> None:
        child = self._children[pid]
        status = child.process.poll()
        if status is None:
            return
        del self._children[pid]
        self._loop.remove_reader(child.pidfd)
        os.close(child.pidfd)
        if not child.exit.done():
            child.exit.set_result(None)
        log.info("%s (pid %d) %s", child.starter.path, pid, status_text(status))
        reason = child.starter.exited(pid, status, self._loop.time())
        if reason is not None:
            self._on_failed(child.name, errno.ECONNREFUSED, reason)
