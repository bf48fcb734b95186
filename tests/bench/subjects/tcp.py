"""TCP on loopback: the usual transport for data that must arrive.

Tuned as a user would: TCP_NODELAY, buffers that the kernel sizes itself (a fixed size could only be smaller), the
packets of a burst joined to one sendall, and recv_into a buffer of 1 MiB that is made once. A stream has no packets: in a
burst octets are counted without splitting them.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from typing import Any

from tests.bench.subjects.subject import Calls, Endpoint, Subject

ROOM = 1 << 20
JOINED = 8192  # octets above which joining copies more than a call costs


class TcpEnd(Endpoint):
    """A connected TCP socket."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._room = bytearray(ROOM)
        self._file: Any = None
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def calls(self, size: int) -> Calls:
        """sendall, and recv_into: exactly one packet's octets alone, whatever is there in a burst."""
        sock, room = self._sock, self._room
        sendall, recv_into = sock.sendall, sock.recv_into
        one = memoryview(room)[:size]
        begun = 0  # octets of a packet that has not come whole

        def recv(into: memoryview) -> None:
            got = recv_into(into, size, socket.MSG_WAITALL)
            while 0 < got < size:  # a signal came between
                got += recv_into(into[got:], size - got, socket.MSG_WAITALL)
            if not got:
                raise ConnectionError("the other end has closed its socket")

        def writev(batch: list[bytes]) -> int:
            if size > JOINED:
                for packet in batch:
                    sendall(packet)
            else:
                sendall(b"".join(batch))
            return len(batch)

        def readv(count: int) -> int:
            nonlocal begun
            got = recv_into(room, min(ROOM, count * size - begun))
            if not got:
                raise ConnectionError("the other end has closed its socket")
            whole, begun = divmod(begun + got, size)
            return whole

        return Calls(sendall, recv, one, writev=writev, readv=readv)

    def packets(self, size: int) -> Iterator[bytes]:
        """The stream, cut."""
        file = self._file = self._sock.makefile("rb", buffering=ROOM)
        return iter(lambda: file.read(size), b"")

    def more(self, seconds: float) -> int:
        """Octets, of the stream's buffer too."""
        assert self._file is not None, "packets() comes before more()"
        self._sock.settimeout(seconds)
        try:
            return len(self._file.read1())
        except TimeoutError:
            return 0

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()


class Tcp(Subject):
    """Two TCP sockets, connected over the loopback device."""

    name = "tcp"
    burst = True

    def __init__(self) -> None:
        self._listener: socket.socket | None = None

    def listen(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """Listen on a free port."""
        self._listener = socket.create_server((args.get("address", "127.0.0.1"), 0))
        return {"address": self._listener.getsockname()}

    def accept(self) -> Endpoint:
        """The client's connection."""
        assert self._listener is not None, "listen() comes before accept()"
        with self._listener:
            return TcpEnd(self._listener.accept()[0])

    def connect(self, args: Mapping[str, Any], hello: Mapping[str, Any]) -> Endpoint:
        """Connect."""
        return TcpEnd(socket.create_connection(tuple(hello["address"])))
