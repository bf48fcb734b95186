"""Ping: ICMP echo over the virtual cable, answered by the kernel at the other end (RFC 792), as ping(8) does it.

The server process is idle: the loops expect one, and it only returns its address.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Mapping
from typing import Any

from tests.bench import link
from tests.bench.subjects.subject import Calls, Endpoint, Subject
from tests.bench.subjects.udp import SILENCE

SOL_RAW, ICMP_FILTER = 255, 1
ECHO_REPLY, ECHO = 0, 8
HEADER = 8  # octets of ICMP; a packet of 64 is what ping sends


def echo_request(size: int, identity: int) -> bytes:
    """An ICMP echo request of `size` octets in all."""
    unchecked = struct.pack("!BBHHH", ECHO, 0, 0, identity, 1) + bytes(size - HEADER)
    total = sum(struct.unpack(f"!{size // 2}H", unchecked))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!BBHHH", ECHO, 0, ~total & 0xFFFF, identity, 1) + bytes(size - HEADER)


class PingEnd(Endpoint):
    """The client's socket; the server has none."""

    def __init__(self, sock: socket.socket | None) -> None:
        self._sock = sock

    def calls(self, size: int) -> Calls:
        """send and recv_into with one request that is made before; calls that do nothing for the server."""
        if self._sock is None:
            return Calls(lambda packet: None, lambda room: None, None)
        sock, request = self._sock, echo_request(size, os.getpid() & 0xFFFF)
        send = sock.send
        return Calls(lambda packet: send(request), sock.recv_into, bytearray(65536))

    def close(self) -> None:
        """Close the socket."""
        if self._sock is not None:
            self._sock.close()


class Ping(Subject):
    """A raw ICMP socket, and the kernel at the other end."""

    name = "ping"
    linked = True
    one_way = False

    @classmethod
    def missing(cls) -> str | None:
        """Needs namespaces."""
        return link.missing()

    def listen(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """The address of the server's end."""
        return {"address": link.ADDRESSES[0]}

    def accept(self) -> Endpoint:
        """No process: the kernel answers."""
        return PingEnd(None)

    def connect(self, args: Mapping[str, Any], hello: Mapping[str, Any]) -> Endpoint:
        """A socket that receives nothing but replies of the server."""
        sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        sock.setsockopt(SOL_RAW, ICMP_FILTER, struct.pack("I", ~(1 << ECHO_REPLY) & 0xFFFFFFFF))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", int(SILENCE), 0))
        sock.connect((hello["address"], 0))
        return PingEnd(sock)
