"""multiprocessing.Pipe: a pair of Connections, duplex as by default (a socketpair with a length before each message).

Tuned as a user would: send_bytes and recv_bytes instead of pickling.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Mapping
from contextlib import ExitStack
from multiprocessing.connection import Connection
from typing import Any

from tests.bench.subjects.subject import Calls, Endpoint, Subject, Wiring


class PipeEnd(Endpoint):
    """One Connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def calls(self, size: int) -> Calls:
        """send_bytes and recv_bytes; recv_bytes_into copies once more and is the slower of the two."""
        return Calls(self._connection.send_bytes, self._connection.recv_bytes, None)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


class Pipe(Subject):
    """A pair of Connections whose descriptors the two peers inherit."""

    name = "pipe"

    def __init__(self) -> None:
        self._fd = -1

    @classmethod
    def provide(cls, stack: ExitStack) -> Wiring:
        """Make the pair."""
        one, other = multiprocessing.Pipe()
        stack.callback(one.close)
        stack.callback(other.close)
        return Wiring({"fd": one.fileno()}, {"fd": other.fileno()}, (one.fileno(),), (other.fileno(),))

    def listen(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """Nothing to do: the pair is connected."""
        self._fd = args["fd"]
        return {}

    def accept(self) -> Endpoint:
        """The server's end."""
        return PipeEnd(Connection(self._fd))

    def connect(self, args: Mapping[str, Any], hello: Mapping[str, Any]) -> Endpoint:
        """The client's end."""
        return PipeEnd(Connection(args["fd"]))
