"""Subject: the interface behind which a transport is measured.

Three parties: the benchmark (`provide`, which makes the objects that two processes share), the server process (`listen`, which
returns its address, then `accept`) and the client process (`connect`). `accept` and `connect` give an Endpoint.
An endpoint returns the transport's own bound calls, not wrappers: at a few hundred nanoseconds per packet a Python
frame around each call would dominate the measurement.
"""

from __future__ import annotations

import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, ClassVar


@dataclass(slots=True)
class Calls:
    """The calls of one endpoint for packets of one size.

    `recv(room)` receives one packet; `room` is whatever argument its fastest form wants. `writev` and `readv` move
    many packets in one call and give their number; None where the transport has no such call. `window`, if not 0, is
    the number of packets in flight before the sender waits for the receiver: for transports without flow control.
    """

    send: Callable[[bytes], object]
    recv: Callable[[Any], object]
    room: Any
    writev: Callable[[list[bytes]], int] | None = None
    readv: Callable[[int], int] | None = None
    window: int = 0


def burst_of(size: int) -> int:
    """Packets in one burst call: 64, fewer of large ones (1 MiB at most)."""
    return max(min(64, (1 << 20) // size), 1)


class Endpoint(ABC):
    """One end of a transport, in a peer process."""

    @abstractmethod
    def calls(self, size: int) -> Calls:
        """The calls to use for packets of `size` bytes."""

    def does(self, command: Mapping[str, Any], armed: Callable[[], None]) -> dict[str, Any] | None:
        """Carry out a command of `peer` with loops of the transport's own, instead of those of `measure`; None: it has none."""
        return None

    def settle(self, seconds: float) -> int:
        """Read remaining packets, until none arrives for this time; returns their number.

        Where packets are lost, or wait under way, some of an earlier measure may still come. Others never have any.
        """
        return 0

    def packets(self, size: int) -> Iterator[bytes]:
        """The received packets, one by one; for subjects that `deliver`."""
        raise NotImplementedError(f"{type(self).__name__} has no reliable delivery to check")

    def more(self, seconds: float) -> int:
        """The number of packets (of a stream: octets) that still arrive within this time, after `packets`."""
        raise NotImplementedError(f"{type(self).__name__} has no reliable delivery to check")

    @abstractmethod
    def close(self) -> None:
        """Give the transport back."""


@dataclass(slots=True)
class Wiring:
    """The objects that the benchmark prepared for the two peers of a pair."""

    server: dict[str, Any] = field(default_factory=dict)  # arguments, must be JSON
    client: dict[str, Any] = field(default_factory=dict)
    server_fds: tuple[int, ...] = ()  # descriptors to inherit, same numbers
    client_fds: tuple[int, ...] = ()
    server_env: Mapping[str, str] = field(default_factory=dict)  # added to the environment
    client_env: Mapping[str, str] = field(default_factory=dict)
    on_hello: Callable[[Mapping[str, Any]], None] | None = (
        None  # between the server's `listen` and the client's start
    )
    server_enter: Callable[[], None] | None = None  # in the process, before it begins: into a namespace
    client_enter: Callable[[], None] | None = None
    helpers: Callable[[], list[int]] | None = None  # pids of processes in between, whose CPU time counts


class Subject(ABC):
    """A way to carry packets between two processes."""

    name: ClassVar[str]
    burst: ClassVar[bool] = False  # has calls that move many packets
    one_way: ClassVar[bool] = True  # can send without being answered
    over_path: ClassVar[bool] = False  # is one of our flows, another one over each path
    linked: ClassVar[bool] = False  # its processes live at the two ends of a virtual cable

    @classmethod
    def missing(cls) -> str | None:
        """Why the subject cannot be measured here, or None."""
        return None

    @classmethod
    def provide(cls, stack: ExitStack) -> Wiring:
        """In the benchmark: make what the peers share; `stack` takes it back after the run."""
        return Wiring()

    @abstractmethod
    def listen(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """In the server: be reachable, and give what the client must know."""

    @abstractmethod
    def accept(self) -> Endpoint:
        """In the server: the endpoint towards the client."""

    @abstractmethod
    def connect(self, args: Mapping[str, Any], hello: Mapping[str, Any]) -> Endpoint:
        """In the client: the endpoint towards the server that said `hello`."""


def scratch(stack: ExitStack) -> str:
    """A directory for sockets, removed with `stack`."""
    folder = tempfile.mkdtemp(prefix="bench-")
    stack.callback(shutil.rmtree, folder, ignore_errors=True)
    return folder
