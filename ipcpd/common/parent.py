"""The process that forks IPCPs (docs/design/shared-memory.md, "Forking"): `python -m ipcpd.common.parent FD [--stdout]`.

The process has loaded every module an IPCP needs, has one thread, no event loop and no mapping, and waits: a new
IPCP needs only a fork. It gets requests on descriptor FD, and ends with the IRMd at the other end of FD.

    request       ipcp_create {name, type}, with the child's end of its channel to the IRMd
    reply         ipcp_info {pid}, with a pidfd of the child
    notification  ipcp_info {pid, state: its exit code in decimal, negative for a signal}
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import socket
import sys

from ouroboros import log
from ouroboros.errors import EIPCPTYPE
from ouroboros.ipcp_types import TYPES, type_name
from ouroboros.rpc.codec import ProtocolError, close_fds, receive, send
from ouroboros.rpc.messages_pb2 import Envelope

from . import child, types


def main(argv: list[str] | None = None) -> int:
    """Serve the IRMd at the other end of the descriptor in `argv` until the IRMd ends."""
    arguments = sys.argv[1:] if argv is None else argv
    stdout = "--stdout" in arguments[1:]
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    log.set_comm("ipcpd")
    child.preload()
    with socket.socket(fileno=int(arguments[0])) as sock:
        gc.collect()
        gc.freeze()  # pages shared with the children stay shared: the collector does not touch them
        _serve(sock, stdout=stdout)
    return 0


def _serve(sock: socket.socket, *, stdout: bool) -> None:
    children: dict[int, int] = {}  # pid by pidfd
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    while True:
        for fd, _ in poll.poll():
            if fd in children:
                poll.unregister(fd)
                _reap(sock, fd, children.pop(fd))
                continue
            try:
                message = receive(sock)
            except (ProtocolError, OSError):
                return
            if message is None:
                return
            envelope, fds = message
            pidfd = _fork(sock, envelope, fds, list(children), stdout=stdout)
            if pidfd is not None:
                children[pidfd[0]] = pidfd[1]
                poll.register(pidfd[0], select.POLLIN)


def _fork(
    sock: socket.socket, envelope: Envelope, fds: list[int], others: list[int], *, stdout: bool
) -> tuple[int, int] | None:
    """Fork one IPCP and reply to the IRMd. Returns its pidfd and pid."""
    reply = Envelope(id=envelope.id, reply=True)
    body = envelope.ipcp_create
    if types.load(body.type) is None:
        reply.error = EIPCPTYPE
        reply.text = (
            f"this version has no IPCPs of type {type_name(body.type)}; its types: {', '.join(TYPES)}"
        )
        close_fds(fds)
        send(sock, reply)
        return None
    try:
        pid = os.fork()
    except OSError as error:
        reply.error, reply.text = error.errno or 0, f"cannot fork: {error.strerror}"
        close_fds(fds)
        send(sock, reply)
        return None
    if pid == 0:
        status = 1
        try:
            sock.close()
            close_fds(others)
            status = child.main(body.name, body.type, fds[0], stdout=stdout)
        finally:
            # Not sys.exit: the child must not run the exit handlers that the parent has registered.
            with contextlib.suppress(Exception):
                sys.stdout.flush()
            os._exit(status)
    close_fds(fds)
    pidfd = os.pidfd_open(pid)
    reply.ipcp_info.pid = pid
    with contextlib.suppress(OSError):
        send(sock, reply, (pidfd,))
    return pidfd, pid


def _reap(sock: socket.socket, pidfd: int, pid: int) -> None:
    os.close(pidfd)
    _, status = os.waitpid(pid, 0)
    note = Envelope()
    note.ipcp_info.pid = pid
    note.ipcp_info.state = str(os.waitstatus_to_exitcode(status))
    with contextlib.suppress(OSError):
        send(sock, note)


if __name__ == "__main__":
    raise SystemExit(main())
