"""The floors of transports over sockets: bare frames over a virtual cable, and UDP on loopback (datagram.c).

One C call moves a burst, and no packet is made or read in Python.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.bench import link
from tests.bench.subjects import compiled, udp
from tests.bench.subjects.subject import Calls, Endpoint, Subject

SOURCE = Path(__file__).with_name("datagram.c")
INTERFACE = """
int datagram_open(int fd, int cut);
int datagram_use(const char * header, uint32_t header_size, uint32_t size);
int datagram_send(void);
int datagram_receive(void);
int datagram_send_many(uint32_t n);
int datagram_receive_many(uint32_t n);
"""
ETHERTYPE = 0xA0FF  # of frames that only this subject sends
WINDOW = 512


def missing() -> str | None:
    """Why there can be no such floor, or None."""
    try:
        compiled.build(SOURCE, INTERFACE)
    except Exception as e:  # cffi and setuptools raise many kinds; the reason is what matters
        return f"the floor of sockets cannot be compiled: {e}"
    return None


class DatagramEnd(Endpoint):
    """A connected socket; `header` goes in front of each packet."""

    def __init__(self, sock: socket.socket, header: bytes = b"", *, cut: bool = False) -> None:
        self._sock, self._header = sock, header
        self._lib = compiled.build(SOURCE, INTERFACE).lib
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", int(udp.SILENCE), 0))
        if failed := self._lib.datagram_open(sock.fileno(), cut):
            raise OSError(-failed, f"this kernel does not join UDP packets: {os.strerror(-failed)}")

    def calls(self, size: int) -> Calls:
        """The functions in C. The octets that they send do not matter."""
        lib = self._lib
        lib.datagram_use(self._header, len(self._header), size)

        def checked(call: Callable[..., int], *words: int) -> int:
            done = call(*words)
            if done in (-errno.EAGAIN, -errno.EWOULDBLOCK):
                raise BlockingIOError
            if done < 0:
                raise OSError(-done, os.strerror(-done))
            return done

        send, receive = lib.datagram_send, lib.datagram_receive
        return Calls(
            lambda packet: checked(send),
            lambda room: checked(receive),
            None,
            writev=lambda batch: checked(lib.datagram_send_many, len(batch)),
            readv=lambda n: checked(lib.datagram_receive_many, n),
            window=WINDOW,
        )

    def settle(self, seconds: float) -> int:
        """As `Endpoint`."""
        return udp.settle(self._sock, seconds)

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()


class UdpFloor(Subject):
    """UDP on loopback, in C: sendmmsg and recvmmsg."""

    name = "udp_floor"
    burst = True
    cut = False

    def __init__(self) -> None:
        self._sock: socket.socket | None = None

    @classmethod
    def missing(cls) -> str | None:
        """Needs a C compiler on first use."""
        return missing()

    def listen(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """Bind to a free port."""
        self._sock = udp.make()
        return {"port": self._sock.getsockname()[1]}

    def accept(self) -> Endpoint:
        """The first packet has the client's address."""
        assert self._sock is not None, "listen() comes before accept()"
        _, client = self._sock.recvfrom(64)
        self._sock.connect(client)
        return DatagramEnd(self._sock, cut=self.cut)

    def connect(self, args: Mapping[str, Any], hello: Mapping[str, Any]) -> Endpoint:
        """Connect, and send the server this end's address."""
        sock = udp.make()
        sock.connect(("127.0.0.1", hello["port"]))
        sock.send(b"hello")
        return DatagramEnd(sock, cut=self.cut)


class UdpGso(UdpFloor):
    """The same where the kernel cuts and joins packets: UDP_SEGMENT and UDP_GRO."""

    name = "udp_gso"
    cut = True


class Veth(Subject):
    """Bare frames over the virtual cable: AF_PACKET sockets, sendmmsg and recvmmsg."""

    name = "veth"
    burst = True
    linked = True

    def __init__(self) -> None:
        self._sock: socket.socket | None = None

    @classmethod
    def missing(cls) -> str | None:
        """Needs namespaces, and a C compiler on first use."""
        return link.missing() or missing()

    @staticmethod
    def _open() -> socket.socket:
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        udp.enlarge(sock)
        sock.bind((link.DEVICE, ETHERTYPE))
        return sock

    @staticmethod
    def _header(sock: socket.socket, to: bytes) -> bytes:
        mac: bytes = sock.getsockname()[4]
        return to + mac + struct.pack("!H", ETHERTYPE)

    def listen(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """Tell the address of the device."""
        self._sock = self._open()
        return {"mac": self._sock.getsockname()[4].hex()}

    def accept(self) -> Endpoint:
        """The first frame has the client's address."""
        assert self._sock is not None, "listen() comes before accept()"
        frame = self._sock.recv(2048)
        return DatagramEnd(self._sock, self._header(self._sock, frame[6:12]))

    def connect(self, args: Mapping[str, Any], hello: Mapping[str, Any]) -> Endpoint:
        """Tell the server our address."""
        sock = self._open()
        header = self._header(sock, bytes.fromhex(hello["mac"]))
        sock.send(header + bytes(50))
        return DatagramEnd(sock, header)
