"""pyzmq: a PAIR of sockets over ipc://.

Tuned as a user would: high-water marks of 10000 messages instead of 1000, and no copy into Python for large ones.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any

from tests.bench.subjects.subject import Calls, Endpoint, Subject, Wiring, scratch

MARK = 10_000
LARGE = 32_768


class ZeroMqEnd(Endpoint):
    """One PAIR socket."""

    def __init__(self, sock: Any, context: Any) -> None:
        self._sock, self._context = sock, context

    def calls(self, size: int) -> Calls:
        """send and recv; frames instead of bytes where the copy costs more than the frame."""
        if size < LARGE:
            return Calls(self._sock.send, self._sock.recv, 0)
        return Calls(partial(self._sock.send, copy=False), partial(self._sock.recv, copy=False), 0)

    def close(self) -> None:
        """Close the socket immediately, even if packets are queued."""
        self._sock.close(0)
        self._context.term()


class ZeroMq(Subject):
    """Two PAIR sockets over a UNIX socket."""

    name = "zmq"

    def __init__(self) -> None:
        self._context: Any = None
        self._sock: Any = None

    @classmethod
    def missing(cls) -> str | None:
        """pyzmq is an optional dependency."""
        return None if importlib.util.find_spec("zmq") else "pyzmq is not installed (pip install pyzmq)"

    @classmethod
    def provide(cls, stack: ExitStack) -> Wiring:
        """A folder for the socket."""
        url = f"ipc://{scratch(stack)}/zmq"
        return Wiring({"url": url}, {"url": url})

    def _make(self) -> None:
        import zmq

        self._context = zmq.Context()
        self._sock = self._context.socket(zmq.PAIR)
        self._sock.set_hwm(MARK)

    def listen(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """Bind."""
        self._make()
        self._sock.bind(args["url"])
        return {}

    def accept(self) -> Endpoint:
        """A PAIR accepts by itself."""
        return ZeroMqEnd(self._sock, self._context)

    def connect(self, args: Mapping[str, Any], hello: Mapping[str, Any]) -> Endpoint:
        """Connect."""
        self._make()
        self._sock.connect(args["url"])
        return ZeroMqEnd(self._sock, self._context)
