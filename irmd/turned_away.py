"""Connections that the IRMd does not take: each gets the reason as the answer to its Hello, and is closed."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket

from ouroboros.rpc import codec
from ouroboros.rpc.messages_pb2 import Envelope

MAX_PENDING = 16
"""Connections whose Hello is waited for together; the oldest one is closed for a new one."""

TIME = 1.0
"""Seconds that a Hello is waited for."""


class TurnedAway:
    """The connections that are to be closed."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._timers: dict[socket.socket, asyncio.TimerHandle] = {}

    def add(self, sock: socket.socket, reason: str) -> None:
        """Close a connection, after its Hello."""
        while len(self._timers) >= MAX_PENDING:
            self._close(next(iter(self._timers)))
        sock.setblocking(False)
        self._timers[sock] = self._loop.call_later(TIME, self._close, sock)
        self._loop.add_reader(sock, self._answer, sock, reason)

    def _answer(self, sock: socket.socket, reason: str) -> None:
        with contextlib.suppress(OSError, codec.ProtocolError):
            hello = codec.receive(sock)
            if hello is not None:
                codec.close_fds(hello[1])
                codec.send(sock, Envelope(id=hello[0].id, reply=True, error=errno.EAGAIN, text=reason))
        self._close(sock)

    def _close(self, sock: socket.socket) -> None:
        self._timers.pop(sock).cancel()
        self._loop.remove_reader(sock)
        sock.close()

    def close(self) -> None:
        """Close all."""
        for sock in list(self._timers):
            self._close(sock)
