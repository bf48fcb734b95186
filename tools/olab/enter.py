"""Enter: runs a command in a system of a lab. `python -m ouroboros_tools.olab.enter CONTROL SYSTEM COMMAND...`

Joins the namespaces of the system, starts the command there, and represents it outside: it forwards signals, exits with the
command's exit code or signal, and the command is killed when it is killed. Ctrl-C at a terminal reaches both, and is not passed on twice.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from . import namespaces
from .control import Connection, HolderError, HolderExited

CANNOT = 126
"""Exit code when the system cannot be entered, or the command not be executed; 127 when there is no such command."""
FORWARDED = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGALRM,
)
KINDS = (namespaces.NEWUSER, namespaces.NEWNS, namespaces.NEWNET, namespaces.NEWPID)


def main(argv: Sequence[str]) -> int:
    """Run the command; returns its exit code. The caller sets the environment."""
    control, system, *command = argv
    where = os.getcwd()
    watched = {*FORWARDED, signal.SIGCHLD}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, watched)
    try:
        _join(Path(control), system)
        child = os.fork()
    except (HolderError, HolderExited, OSError) as error:
        print(f"olab: cannot enter system {system}: {error.strerror or error}", file=sys.stderr)
        return CANNOT
    if child == 0:
        _execute(command, where, before)
    return _stand_for(child, watched)


def _join(control: Path, system: str) -> None:
    with Connection(control) as connection:
        reply = connection.ask("enter", system=system)
        for fd, kind in zip(connection.descriptors, KINDS, strict=True):
            # To join the user namespace that the process is in already is an error.
            if kind != namespaces.NEWUSER or reply["user"]:
                namespaces.setns(fd, kind)
            os.close(fd)


def _execute(command: Sequence[str], where: str, mask: set[int | signal.Signals]) -> None:
    """In the child: execute the command. Does not return."""
    code = CANNOT
    try:
        namespaces.die_with_parent(signal.SIGKILL)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        try:
            os.chdir(where)  # joining a mount namespace leads to its root
        except OSError:
            pass
        os.execvp(command[0], list(command))
    except OSError as error:
        code = CANNOT if _exists(command[0]) else 127
        why = f"cannot execute {command[0]}: {error.strerror}"
        if code == 127:
            why = f'there is no command "{command[0]}"'
        os.write(2, f"olab: {why}\n".encode())
    finally:
        os._exit(code)


def _exists(command: str) -> bool:
    """Whether there is such a program; a folder on the PATH that the user may not search does not count."""
    import shutil

    return os.path.exists(command) if "/" in command else shutil.which(command) is not None


def _stand_for(child: int, watched: set[signal.Signals]) -> int:
    while True:
        arrived = signal.sigwaitinfo(watched)
        if arrived.si_signo == signal.SIGCHLD:
            pid, status = os.waitpid(child, os.WNOHANG)
            if pid:
                return _end_like(os.waitstatus_to_exitcode(status))
        elif (
            arrived.si_code <= 0
        ):  # sent by a process; the kernel's own, of a terminal, reach the child as well
            os.kill(child, arrived.si_signo)


def _end_like(code: int) -> int:
    """End as the command did, also by a signal; without a core file of our own."""
    if code >= 0:
        return code
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if -code not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(-code, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {-code})
    os.kill(os.getpid(), -code)
    return 128 - code


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
