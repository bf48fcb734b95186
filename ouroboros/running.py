"""The IRMd that runs on this user's system, as a process: where it is, and how to end it. Used by `irm` and `irmd stop`.

The kernel names the process that listens on the socket (SO_PEERCRED).
"""

from __future__ import annotations

import os
import select
import signal
import socket
import struct
from contextlib import suppress
from errno import EPERM, ETIMEDOUT

from .errors import IrmdError
from .rpc.locate import open_socket

STOP_TIMEOUT = 30.0
"""Seconds that an IRMd may take to end; its IPCPs and programs have the time `grace` of its configuration."""

_UCRED = struct.Struct("3i")


def find() -> tuple[int, str]:
    """Pid and run directory of the IRMd. Raises IrmdError: there is none."""
    sock, path = open_socket()
    with sock:
        return _listener(sock)[0], os.path.dirname(path)


def _listener(sock: socket.socket) -> tuple[int, int]:
    """Pid and user of the process that listens."""
    pid: int
    uid: int
    pid, uid, _ = _UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return pid, uid


def stop(timeout: float = STOP_TIMEOUT) -> int:
    """End the IRMd and wait until it has exited; returns its pid.

    timeout  seconds to wait; the IRMd then goes on ending

    Raises IrmdError: there is none, it belongs to another user, or it has not exited in time.
    """
    sock, path = open_socket()
    with sock:
        pid, uid = _listener(sock)
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            return pid  # it has exited since
    try:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(pidfd, signal.SIGTERM)
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        if not poll.poll(timeout * 1000):
            raise IrmdError(
                ETIMEDOUT, f"the IRMd (pid {pid}) has not exited within {timeout:g} s; it is still ending"
            )
    except PermissionError:
        raise IrmdError(
            EPERM, f"the IRMd on {path} (pid {pid}) belongs to uid {uid}; only that user and root can end it"
        ) from None
    finally:
        os.close(pidfd)
    return pid
