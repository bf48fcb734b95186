"""One RPC message: an `Envelope` and the descriptors that travel with it (paper 5.1, footnote 49).

Used by every process; knows nothing of event loops. A message that is malformed, truncated or larger than
`MAX_MESSAGE` raises `ProtocolError`: the caller closes that connection, and only that one.
"""

from __future__ import annotations

import array
import os
import resource
import socket

from google.protobuf.message import DecodeError

from .messages_pb2 import Envelope

RPC_VERSION = 2
MAX_MESSAGE = 65536
MAX_FDS = 16
SOCKET_NAME = "irm.sock"

FD_SPACE = socket.CMSG_SPACE(MAX_FDS * array.array("i").itemsize)

_CUT = int(socket.MSG_TRUNC | socket.MSG_CTRUNC)  # a flag of type IntFlag is slow to combine


def open_files() -> int:
    """How many files this process may have open."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


class ProtocolError(Exception):
    """The peer broke the rules of the RPC socket; its connection must be closed."""


class DescriptorsLost(ProtocolError):
    """This process has no space for the descriptors of a message: its own limit, and no fault of the peer."""

    def __init__(self) -> None:
        super().__init__(
            f"this process may have {open_files()} open files, too few for the descriptors of this message; raise the limit (`ulimit -n`)"
        )


def send(sock: socket.socket, envelope: Envelope, fds: tuple[int, ...] = ()) -> None:
    """Send one message. Raises BlockingIOError when a non-blocking socket's buffer is full.

    The caller keeps its descriptors; the receiver gets duplicates.
    """
    data = envelope.SerializeToString()
    if len(data) > MAX_MESSAGE or len(fds) > MAX_FDS:
        raise ProtocolError(f"message of {len(data)} octets and {len(fds)} descriptors is too large")
    if fds:
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
        sock.sendmsg([data], ancillary)
    else:
        sock.send(data)


def receive(sock: socket.socket) -> tuple[Envelope, list[int]] | None:
    """Receive one message and its descriptors (close-on-exec), or None at the end of the connection.

    Raises ProtocolError on garbage (its descriptors are closed) and BlockingIOError when a
    non-blocking socket has nothing.
    """
    return decode(*sock.recvmsg(MAX_MESSAGE, FD_SPACE, socket.MSG_CMSG_CLOEXEC)[:3])


def decode(
    data: bytes, ancillary: list[tuple[int, int, bytes]], flags: int
) -> tuple[Envelope, list[int]] | None:
    """The result of `recvmsg` as a message, for callers of recvmsg. Results as of `receive`."""
    fds = _descriptors(ancillary) if ancillary else []
    if flags & _CUT:
        close_fds(fds)
        if len(fds) < MAX_FDS and not flags & socket.MSG_TRUNC:  # not the peer's fault, as a rule
            raise DescriptorsLost
        raise ProtocolError("truncated message")
    if not data:
        close_fds(fds)
        return None
    try:
        envelope = Envelope.FromString(data)
    except DecodeError:
        close_fds(fds)
        raise ProtocolError("not an RPC message") from None
    return envelope, fds


def _descriptors(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    fds = array.array("i")
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(payload[: len(payload) - len(payload) % fds.itemsize])
    return list(fds)


def close_fds(fds: list[int]) -> None:
    """Close unused descriptors."""
    for fd in fds:
        os.close(fd)
