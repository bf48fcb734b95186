"""This library: a flow between two processes, over the selected path.

The receive call is read() for small packets and read_into() a buffer made once for large ones, as a user would.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, ClassVar

from tests.bench.subjects.subject import Calls, Endpoint, Subject
from tests.bench.subjects.udp import SILENCE

SMALL = 2048  # read()'s default room
PATIENCE = 10.0  # seconds an allocation may take before the benchmark gives up


def reach(name: str, layer: str | None, qos: Mapping[str, int] | None = None) -> Any:
    """A flow to `name`, as soon as there is a server.

    The server may be bound by its pid but not have called the library yet, and then the IRMd does not know it.
    """
    from ouroboros import QoSSpec, flow_alloc
    from ouroboros.errors import ENAME

    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return flow_alloc(name, QoSSpec(**qos) if qos else None, timeo=PATIENCE, layer=layer)
        except OSError as e:
            if e.errno != ENAME or time.monotonic() > deadline:
                raise
        time.sleep(0.01)


class FlowEnd(Endpoint):
    """One end of a flow."""

    def __init__(self, flow: Any, window: int) -> None:
        self._flow = flow
        self._window = window
        if window:
            flow.rcv_timeout = SILENCE
        self._packets: Iterator[bytes] = iter(())
        self._room = bytearray(1 << 16)  # larger than any packet here: an exact fit would read an end mark

    def calls(self, size: int) -> Calls:
        """write and read or read_into; writev and readv."""
        flow = self._flow
        readv = flow.readv
        small = size < SMALL
        return Calls(
            flow.write,
            flow.read if small else flow.read_into,
            SMALL if small else self._room,
            writev=flow.writev,
            readv=lambda n: len(readv(n)),
            window=self._window,
        )

    def settle(self, seconds: float) -> int:
        """As `Endpoint`, where the path has a window."""
        if not self._window:
            return 0
        left = 0
        self._flow.rcv_timeout = seconds
        with suppress(TimeoutError, BlockingIOError):
            while True:
                self._flow.read_into(self._room)
                left += 1
        self._flow.rcv_timeout = SILENCE
        return left

    def packets(self, size: int) -> Iterator[bytes]:
        """Iterating over a flow."""
        self._packets = iter(self._flow)
        return self._packets

    def more(self, seconds: float) -> int:
        """As `Endpoint`."""
        self._flow.rcv_timeout = seconds
        with suppress(TimeoutError):
            next(self._packets)
            return 1
        return 0

    def close(self) -> None:
        """Deallocate the flow."""
        self._flow.dealloc()


class Ouroboros(Subject):
    """A flow; the path provides the wiring."""

    name = "ouroboros"
    burst = True
    over_path = True
    end: ClassVar[type[FlowEnd]] = FlowEnd

    def __init__(self) -> None:
        self._window = 0
        self._stream = False  # whether the path is about octets, not packets

    def listen(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """The benchmark binds this process to the name."""
        self._window = args.get("window", 0)
        self._stream = bool(args.get("stream"))
        return {"pid": os.getpid()}

    def accept(self) -> Endpoint:
        """The flow that the client allocates."""
        from ouroboros import flow_accept

        return self._end(flow_accept(timeo=PATIENCE), self._window)

    def connect(self, args: Mapping[str, Any], hello: Mapping[str, Any]) -> Endpoint:
        """Allocate a flow to the server's name, over the path's layer."""
        self._stream = bool(args.get("stream"))
        return self._end(reach(args["name"], args["layer"], args.get("qos")), args.get("window", 0))

    def _end(self, flow: Any, window: int) -> Endpoint:
        if not self._stream:
            return self.end(flow, window)
        from tests.bench.subjects.stream import StreamEnd

        return StreamEnd(flow, window)
