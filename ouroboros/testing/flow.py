"""Fake flow: an object with the methods of a `Flow`, over a fake link (paper 2.7; docs/reference/api.md).

Used by tests of applications, in one thread, without an IRMd. Where a real flow would sleep, the clock moves on: reading
makes everything happen that falls due until a packet is there, or the time of the read is over.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

from .. import arguments
from ..end import prefix, view_of
from ..errors import FlowDownException, FlowNotAllocatedException, FlowTimeout
from ..owner import Owner
from ..qos import QOS_RAW, QoSSpec
from .clock import FakeClock
from .network import FakeNetwork, Impairment

FOREVER = 86400.0
"""Seconds of the clock after which a read without a time-out is taken for a test that hangs."""


class FakeFlow(Owner):
    """One end of a flow. Made in pairs, by `flow_pair`.

    rcv_timeout  how long `read` waits, seconds of the clock; None: as long as anything can still happen, a day at most
    on_packet    called with each packet that arrives, instead of keeping it for `read`: a server that answers
    qos          the QoS of the flow; the link keeps its own behaviour, independent of it
    """

    __slots__ = (
        "_clock",
        "_down",
        "_front",
        "_open",
        "_peer",
        "_send",
        "linger_timeout",
        "on_packet",
        "qos",
        "rcv_timeout",
    )

    _peer: FakeFlow

    def __init__(self, clock: FakeClock, send: Callable[[bytes], None], qos: QoSSpec) -> None:
        self._clock = clock
        self._send = send
        self._front: deque[bytes] = deque()
        self._open = True
        self._down = False
        self.on_packet: Callable[[bytes], object] | None = None
        self.rcv_timeout: float | None = None
        self.linger_timeout = 0.0
        self.qos = qos

    def _arrived(self, packet: bytes) -> None:
        if not self._open or not packet:
            return  # an empty packet is a keep-alive
        if self.on_packet is not None:
            self.on_packet(packet)
        else:
            self._front.append(packet)

    def write(self, buf: bytes | bytearray | memoryview, count: int | None = None) -> int:
        """Write one packet: `buf`, or its first `count` octets. Returns the number of octets; whether they arrive is another
        matter. Raises FlowDownException when the peer has left."""
        self._check()
        if self._down:
            raise FlowDownException(text="the peer has left")
        packet = bytes(view_of("buf", buf) if count is None else prefix(buf, count))
        self._send(packet)
        return len(packet)

    def read(self, count: int = 2048) -> bytes:
        """Read up to `count` octets of the packet at the front. A longer packet is read in parts; when a read takes exactly
        the rest of it, the next one returns b"". Raises FlowTimeout, and FlowDownException when the peer has left."""
        arguments.integer("count", count)
        packet = self.recv()
        if len(packet) >= count:
            self._front.appendleft(packet[count:])
        return packet[:count]

    def recv(self) -> bytes:
        """Read the whole packet at the front. Errors as for `read`."""
        self._check()
        limit = FOREVER if self.rcv_timeout is None else self.rcv_timeout
        self._clock.run(lambda: bool(self._front) or self._down, limit=limit)
        if self._front:
            return self._front.popleft()
        if self._down:
            raise FlowDownException(text="the peer has left")
        raise FlowTimeout(text=f"no packet within {limit} s of the fake clock")

    def __iter__(self) -> Iterator[bytes]:
        """Whole packets, until the peer has left."""
        while True:
            try:
                yield self.recv()
            except FlowDownException:
                return

    def dealloc(self, timeo: float | None = None) -> None:
        """Deallocate; never waits, for any `timeo`. The peer sees it immediately, after it has read everything that has arrived."""
        self._open = False
        self._front.clear()
        self._peer._down = True

    def close(self) -> None:
        """Deallocate, if that has not happened."""
        if self._open:
            self.dealloc()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.dealloc()

    def _check(self) -> None:
        if not self._open:
            raise FlowNotAllocatedException(text="this flow was deallocated")


def flow_pair(
    clock: FakeClock,
    *,
    seed: int = 0,
    impairment: Impairment | None = None,
    qos: QoSSpec = QOS_RAW,
) -> tuple[FakeFlow, FakeFlow]:
    """A flow, as its two ends, over a link with this `impairment` (none: 1 ms, nothing lost)."""
    arguments.instance("qos", qos, QoSSpec)
    network: FakeNetwork[bytes] = FakeNetwork(clock, seed=seed)
    link = network.link("flow", impairment)
    one, other = FakeFlow(clock, link.a.send, qos), FakeFlow(clock, link.b.send, qos)
    one._peer, other._peer = other, one
    link.a.on_packet, link.b.on_packet = one._arrived, other._arrived
    return one, other
