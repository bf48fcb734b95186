"""UDP on loopback.

Tuned as a user would: both sockets connected (no address to look up per packet; send instead of sendto), large
buffers, recv_into. UDP has no flow control and would mostly lose packets here, so one way a window limits the packets in
flight to the size of the receive buffer, and received packets are counted.
"""

from __future__ import annotations

import select
import socket
import struct
from collections.abc import Mapping
from typing import Any

from tests.bench.subjects.subject import Calls, Endpoint, Subject

BUFFER = 4 << 20
SILENCE = 1.0  # seconds without a packet after which the rest is taken for lost
OVERHEAD = 1024  # the kernel's charge to the buffer for a small packet, with a margin

# Beyond net.core.[rw]mem_max for those who may; not in the socket module.
SO_SNDBUFFORCE, SO_RCVBUFFORCE = 32, 33


def window(size: int, buffer: int) -> int:
    """How many packets of `size` bytes may be on their way with a receive buffer of `buffer` bytes; even, at least 2."""
    return min(max(buffer // (2 * (size + OVERHEAD)), 2), 512) & ~1


class UdpEnd(Endpoint):
    """A connected UDP socket with large buffers."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._room = bytearray(65536)
        # As a socket option, not settimeout(): that would add a poll() to every call.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", int(SILENCE), 0))
        self._buffer = sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)

    def calls(self, size: int) -> Calls:
        """send and recv_into: the socket's own C calls."""
        return Calls(self._sock.send, self._sock.recv_into, self._room, window=window(size, self._buffer))

    def settle(self, seconds: float) -> int:
        """As `Endpoint`."""
        return settle(self._sock, seconds)

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()


def settle(sock: socket.socket, seconds: float) -> int:
    """Read remaining packets of a socket, until none arrives for this time; returns their number."""
    left = 0
    while select.select([sock], [], [], seconds)[0]:
        sock.recv(65536)
        left += 1
    return left


def make() -> socket.socket:
    """A UDP socket on a free port of the loopback, with large buffers."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    enlarge(sock)
    sock.bind(("127.0.0.1", 0))
    return sock


def enlarge(sock: socket.socket) -> None:
    """Large buffers, beyond the limits if we may."""
    for force, plain in ((SO_SNDBUFFORCE, socket.SO_SNDBUF), (SO_RCVBUFFORCE, socket.SO_RCVBUF)):
        try:
            sock.setsockopt(socket.SOL_SOCKET, force, BUFFER)
        except PermissionError:
            sock.setsockopt(socket.SOL_SOCKET, plain, BUFFER)


class Udp(Subject):
    """Two UDP sockets, connected to each other."""

    name = "udp"

    def __init__(self) -> None:
        self._sock: socket.socket | None = None

    def listen(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """Bind to a free port."""
        self._sock = make()
        return {"port": self._sock.getsockname()[1]}

    def accept(self) -> Endpoint:
        """The first packet has the client's address."""
        assert self._sock is not None, "listen() comes before accept()"
        _, client = self._sock.recvfrom(64)
        self._sock.connect(client)
        return UdpEnd(self._sock)

    def connect(self, args: Mapping[str, Any], hello: Mapping[str, Any]) -> Endpoint:
        """Connect, and send the server this end's address."""
        sock = make()
        sock.connect(("127.0.0.1", hello["port"]))
        sock.send(b"hello")
        return UdpEnd(sock)
