"""Locate: find the socket of the IRMd, and name the program of this process (docs/design/overview.md).

Used by the RPC client of every process when it connects.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from errno import ECONNREFUSED, EMFILE, ENOENT, ENOTDIR

from ..errors import EIRMD, IrmdError
from ..rundir import LOCK_NAME, rundir_candidates, usable
from .codec import SOCKET_NAME, open_files

_MAX_SOCKET_PATH = 107
_NONE_THERE = (ENOENT, ENOTDIR, ECONNREFUSED)


CONNECT_TIMEOUT = 1.0
"""Seconds that a management tool waits for an IRMd that may have been started just before it."""

STARTING_TIMEOUT = 10.0
"""Seconds that it waits where an IRMd has taken its run directory, and does not listen yet."""

_LOOK_AGAIN = 0.02


def await_socket() -> tuple[socket.socket, str]:
    """As `open_socket`, and wait for an IRMd that is starting: `irmd & irm ...` works."""
    begin = time.monotonic()
    while True:
        try:
            return open_socket()
        except IrmdError:
            starting = any(_is_starting(rundir) for rundir in rundir_candidates())
            if time.monotonic() - begin >= (STARTING_TIMEOUT if starting else CONNECT_TIMEOUT):
                raise
        time.sleep(_LOOK_AGAIN)


def open_socket() -> tuple[socket.socket, str]:
    """A socket that an IRMd answers on, and its path. Raises IrmdError with the places where one was looked for."""
    missing: list[str] = []
    reasons: list[str] = []
    for rundir in rundir_candidates():
        path = os.path.join(rundir, SOCKET_NAME)
        if not usable(rundir):
            reasons.append(f"{rundir} belongs to another user")
            continue
        try:
            return _connect(path), path
        except OSError as exc:
            if exc.errno in _NONE_THERE:
                missing.append(path)
            elif exc.errno == EMFILE:
                reasons.append(
                    f"this process may have {open_files()} open files, too few; raise the limit (`ulimit -n`)"
                )
            else:
                reasons.append(f"{path}: {exc.strerror}")
    if missing:
        reasons.append(f"no IRMd answers on {' or '.join(missing)}; start one with `irmd`")
    raise IrmdError(EIRMD, ", and ".join(reasons))


def _is_starting(rundir: str) -> bool:
    """Whether the process in the lock file of a run directory lives. Without a socket there, it is an IRMd that starts."""
    try:
        with open(os.path.join(rundir, LOCK_NAME)) as file:
            pid = int(file.read(32))
    except (OSError, ValueError):
        return False
    return pid > 0 and os.path.exists(f"/proc/{pid}")


def running_program() -> str:
    """Real path of this process's program: its script, or the interpreter when there is none.

    Taken from `__main__`, which has an absolute path, and not from argv[0], which the program may have changed and
    which is wrong after a chdir. The IRMd compares it with the path of `irm bind program`.
    """
    script = getattr(sys.modules.get("__main__"), "__file__", None)
    for candidate in (script, sys.argv[0] if sys.argv else None, sys.executable):
        if candidate and os.path.isfile(candidate):
            return os.path.realpath(candidate)
    return os.path.realpath("/proc/self/exe")


def _connect(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        if len(os.fsencode(path)) <= _MAX_SOCKET_PATH:
            sock.connect(path)
        else:
            # The address of a socket holds 107 octets; the way through an open directory is always shorter.
            directory = os.open(os.path.dirname(path), os.O_PATH | os.O_CLOEXEC)
            try:
                sock.connect(f"/proc/self/fd/{directory}/{os.path.basename(path)}")
            finally:
                os.close(directory)
    except BaseException:
        sock.close()
        raise
    return sock
