"""A flow without Ouroboros: two queues in memory, with the documented behaviour of `ouroboros.dev.Flow`."""

import sys
import threading
from collections import deque
from enum import IntFlag
from types import ModuleType

import pytest

from ouroboros.errors import FlowDownException, FlowTimeout, FlowWouldBlock


class FlowProperties(IntFlag):
    """The flags that the tools set."""

    ReadWrite = 0o2
    NonBlockingRead = 0o1000
    NonBlockingWrite = 0o2000
    NonBlocking = 0o3000
    NoPartialRead = 0o10000


class Pipe:
    """One direction: a bounded queue of packets."""

    def __init__(self, depth: int) -> None:
        self.changed = threading.Condition()
        self.packets: deque[bytes] = deque()
        self.depth = depth
        self.down = False


class FakeFlow:
    """One end of a pair. `drop` is asked for each packet written, with its number from 0, whether to lose it."""

    max_packet = 65000

    frcp = None

    link_down = False

    def __init__(self, fd: int, rx: Pipe, tx: Pipe) -> None:
        self.fd = fd
        self.rx, self.tx = rx, tx
        self.flags = FlowProperties.ReadWrite
        self.rcv_timeout: float | None = None
        self.snd_timeout: float | None = None
        self.written = 0
        self.lost: set[int] = set()

    def recv(self) -> bytes:
        return self.readv(1)[0]

    def read(self, count: int = 2048) -> bytes:
        return self.recv()[:count]

    def readv(self, most: int) -> list[bytes]:
        with self.rx.changed:
            if not self.rx.packets and not self.rx.down:
                if self.flags & FlowProperties.NonBlockingRead:
                    raise FlowWouldBlock()
                if not self.rx.changed.wait_for(lambda: self.rx.packets or self.rx.down, self.rcv_timeout):
                    raise FlowTimeout()
            if not self.rx.packets:
                raise FlowDownException()
            taken = [self.rx.packets.popleft() for _ in range(min(most, len(self.rx.packets)))]
            self.rx.changed.notify_all()
            return taken

    def write(self, packet: bytes) -> int:
        self.writev([packet])
        return len(packet)

    def writev(self, packets: list[bytes]) -> int:
        with self.tx.changed:
            for done, packet in enumerate(packets):
                if self.tx.down:
                    raise FlowDownException()
                if len(self.tx.packets) >= self.tx.depth:
                    if self.flags & FlowProperties.NonBlockingWrite:
                        if done:
                            return done
                        raise FlowWouldBlock()
                    room = lambda: len(self.tx.packets) < self.tx.depth or self.tx.down  # noqa: E731
                    if not self.tx.changed.wait_for(room, self.snd_timeout):
                        raise FlowTimeout()
                if self.written not in self.lost:
                    self.tx.packets.append(bytes(packet))
                self.written += 1
                self.tx.changed.notify_all()
        return len(packets)

    linger_timeout = 5.0

    def dealloc(self, timeo: float | None = None) -> None:
        for pipe in (self.rx, self.tx):
            with pipe.changed:
                pipe.down = True
                pipe.changed.notify_all()

    def __enter__(self) -> "FakeFlow":
        return self

    def __exit__(self, *_: object) -> None:
        self.dealloc()


def pair(depth: int = 512) -> tuple[FakeFlow, FakeFlow]:
    """Two connected ends, as client and server have them."""
    there, back = Pipe(depth), Pipe(depth)
    return FakeFlow(64, back, there), FakeFlow(65, there, back)


@pytest.fixture
def fake_dev(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """`ouroboros.dev` for the time of one test; the test sets `flow_alloc` where it needs it."""
    module = ModuleType("ouroboros.dev")
    module.FlowProperties = FlowProperties  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ouroboros.dev", module)
    return module


def in_thread(work: "threading.Thread | object", *args: object) -> threading.Thread:
    """Run `work(*args)` beside the test."""
    assert callable(work)
    thread = threading.Thread(target=work, args=args, daemon=True)
    thread.start()
    return thread
