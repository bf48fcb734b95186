"""UNIX SOCK_SEQPACKET: the usual transport for packets between two processes of one system.

Tuned as a user would: a socketpair, send buffers of 512 KiB (more makes small packets slower), and recv_into a buffer that is made once.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from tests.bench.subjects.subject import Calls, Endpoint, Subject, Wiring

BUFFER = 512 << 10


class SocketEnd(Endpoint):
    """A connected socket that keeps packet boundaries."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._room = bytearray(65536)

    def calls(self, size: int) -> Calls:
        """send and recv_into: the socket's own C calls."""
        return Calls(self._sock.send, self._sock.recv_into, self._room)

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()


class Seqpacket(Subject):
    """A socketpair whose halves the two peers inherit."""

    name = "seqpacket"

    def __init__(self) -> None:
        self._fd = -1

    @classmethod
    def provide(cls, stack: ExitStack) -> Wiring:
        """Make the socketpair."""
        ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in ends:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
            stack.callback(end.close)
        one, other = (end.fileno() for end in ends)
        return Wiring({"fd": one}, {"fd": other}, (one,), (other,))

    def listen(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """Nothing to do: the pair is connected."""
        self._fd = args["fd"]
        return {}

    def accept(self) -> Endpoint:
        """The server's half."""
        return SocketEnd(socket.socket(fileno=self._fd))

    def connect(self, args: Mapping[str, Any], hello: Mapping[str, Any]) -> Endpoint:
        """The client's half."""
        return SocketEnd(socket.socket(fileno=args["fd"]))
