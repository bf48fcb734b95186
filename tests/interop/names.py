"""Flows, names and processes on one system of the prototype: the part of its library and its IRMd (spec/common 3, spec/protection 5).

Used by the prototype of the tests, on its loop.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from .lower import Qos

ACCEPT_TIME = 1.0
"""Seconds that a request waits for a process that accepts."""
ALLOC_TIME = 20.0
"""Seconds until the IRMd gives up an allocation."""


class Gone(Exception):
    """The flow ended, its peer timed out, or nothing came in time."""


class Flow:
    """An end of a flow. Packets go to `handler`; without one they wait to be read.

    `send` puts a packet on the wire; `release` is called when the end is deallocated.
    """

    def __init__(
        self, fd: int, qos: Qos, send: Callable[[bytes], None], release: Callable[[], None] = lambda: None
    ) -> None:
        self.fd = fd
        self.qos = qos
        self.handler: Callable[[bytes], None] | None = None
        self.peer_gone = False
        self.down = False
        self.keepalives = 0
        """Empty packets that came."""
        self.send = send
        self._release = release
        self._waiting: asyncio.Queue[bytes] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()
        self._heard = self._sent = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self._watch()

    # ---------------------------------------------------------------- packets

    def arrived(self, packet: bytes) -> None:
        """A packet has arrived. The keep-alive counts it when it is read."""
        if self.down:
            return
        if self.handler is None:
            self._waiting.put_nowait(packet)
            return
        self._take(packet)
        if packet:
            self.handler(packet)

    def _take(self, packet: bytes) -> None:
        self._heard = self._loop.time()
        self.keepalives += not packet

    def use(self, handler: Callable[[bytes], None]) -> None:
        """From now on packets go there, those that wait first."""
        self.handler = handler
        while not self._waiting.empty():
            self.arrived(self._waiting.get_nowait())

    async def read(self, timeout: float) -> bytes:
        """The next packet that is not empty. Raises Gone."""
        try:
            async with asyncio.timeout(timeout):
                while True:
                    packet = await self._waiting.get()
                    self._take(packet)
                    if packet:
                        return packet
        except TimeoutError:
            raise Gone(f"nothing came within {timeout:g} s") from None

    def waiting(self) -> bytes:
        """The next packet if there is one, else b""."""
        return b"" if self._waiting.empty() else self._waiting.get_nowait()

    def write(self, packet: bytes) -> None:
        """Send a packet; on a flow that is down it is discarded."""
        if not self.down:
            self._sent = self._loop.time()
            self.send(packet)

    def deallocate(self) -> None:
        """The end is released, without notification."""
        if self.down:
            return
        self.down = True
        if self._timer is not None:
            self._timer.cancel()
        self._release()

    # ---------------------------------------------------------------- keep-alive

    def _watch(self) -> None:
        """Empty packets after a quarter of the time-out; none any more when the peer has timed out."""
        timeout, now = self.qos.timeout / 1000, self._loop.time()
        if not timeout or self.down:
            return
        if now - self._heard > timeout:
            self.peer_gone = True
            return
        if now - self._sent >= timeout / 4:
            self.write(b"")
        due = min(self._sent + timeout / 4, self._heard + timeout)
        self._timer = self._loop.call_later(max(0.005, due - now), self._watch)


class Process:
    """A process that accepts flows for the names that it is bound to, one by one. Killed, it is granted flows all the same: its IRMd
    does not notice."""

    def __init__(self) -> None:
        self.offers: deque[asyncio.Future[Flow]] = deque()
        self._accepting = asyncio.Event()
        self._killed = False

    def kill(self) -> None:
        """It dies while it accepts, or just after. Flows that it is granted from now on have no reader."""
        self._killed = True
        self._accepting.set()

    async def accept(self) -> Flow:
        """The next flow."""
        offer: asyncio.Future[Flow] = asyncio.get_running_loop().create_future()
        self.offers.append(offer)
        self._accepting.set()
        return await offer

    async def accepting(self) -> asyncio.Future[Flow] | None:
        """The place of a process in accept, after a second at most."""
        if self._killed:
            return asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(ACCEPT_TIME):
                while not self.offers:
                    self._accepting.clear()
                    await self._accepting.wait()
        except TimeoutError:
            return None
        return self.offers.popleft()


class Names:
    """Names of one system, and the processes bound to them."""

    def __init__(self) -> None:
        self.bound: dict[bytes, Process] = {}

    def bind(self, name: str, process: Process) -> None:
        self.bound[name.encode()] = process

    def find(self, digest: bytes, algorithm: Callable[[bytes], bytes]) -> Process | None:
        """The process bound to the name with this hash."""
        return next((process for name, process in self.bound.items() if algorithm(name) == digest), None)
