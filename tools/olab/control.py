"""Control: the protocol between the commands of olab and the holder of a lab. One JSON object per line.

Requests (`do`) and the fields of the reply; a reply with `error` has no others:

  wire    make all links, `link` by `link`; a line {"progress": ...} for each, then the reply
  start   start the IRMd of `systems` that have none; the reply comes when all of them are ready
  stop    stop the IRMd of `systems` (or with `signal` only send them that); `codes`: their exit codes
  cut     `link`, `silent`: `means`
  heal    `link`
  emulate `link`, `words`: impairments of frames from its first end, and from its second; null: as before
  emulation `link`: `words` and `counters`, by the end that frames come from; `pid` of the emulator
  status  `systems`: pid and state of each IRMd; `cuts`: how each link is cut; `emulated`: words, by link
  enter   `system`: the reply carries the descriptors of its namespaces (user, mount, network, process)
  keep    let the lab live on when the process that made it ends
  down    stop everything; the reply has `codes` of the IRMds when they have ended, and then the holder ends
"""

from __future__ import annotations

import array
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MAX_LINE = 1 << 20
MAX_DESCRIPTORS = 8


class HolderExited(OSError):
    """The process that holds the lab has exited, or never listened."""


class HolderError(OSError):
    """The holder could not carry out a request; the text has the reason."""


class Connection:
    """A connection to the holder of a lab. For one thread at a time."""

    def __init__(self, path: Path) -> None:
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            self._sock.connect(str(path))
        except OSError as error:
            self._sock.close()
            raise HolderExited(
                error.errno, f"no process holds the lab any more ({path}): {error.strerror}"
            ) from None
        self._buffer = b""
        self.descriptors: list[int] = []
        """Descriptors that the last replies carried; the reader closes them."""

    def close(self) -> None:
        self._sock.close()

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """Send a request, and wait for the reply. Raises HolderError, HolderExited."""
        for reply in self.follow(do, **arguments):
            if "progress" not in reply:
                return reply
        raise AssertionError("unreachable")

    def follow(self, do: str, **arguments: Any) -> Iterator[dict[str, Any]]:
        """The same, with each line of progress; the reply is the last."""
        self._send(json.dumps({"do": do, **arguments}).encode() + b"\n")
        while True:
            reply = json.loads(self._line())
            if "error" in reply:
                raise HolderError(reply.get("errno", 0), reply["error"])
            yield reply
            if "progress" not in reply:
                return

    def _send(self, octets: bytes) -> None:
        try:
            self._sock.sendall(octets)
        except OSError as error:
            raise HolderExited(error.errno, f"the holder of the lab has ended: {error.strerror}") from None

    def _line(self) -> bytes:
        while b"\n" not in self._buffer:
            room = socket.CMSG_SPACE(MAX_DESCRIPTORS * 4)
            try:
                octets, ancillary, _, _ = self._sock.recvmsg(65536, room, socket.MSG_CMSG_CLOEXEC)
            except ConnectionError:
                octets, ancillary = b"", []
            for level, kind, data in ancillary:
                if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                    fds = array.array("i")
                    fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
                    self.descriptors += fds
            if not octets:
                raise HolderExited(0, "the holder of the lab has ended before it answered")
            self._buffer += octets
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line


def send_reply(sock: socket.socket, reply: dict[str, Any], descriptors: tuple[int, ...] = ()) -> None:
    """The holder's side: send one line. A client that has disconnected is no error."""
    octets = json.dumps(reply).encode() + b"\n"
    try:
        if descriptors:
            socket.send_fds(sock, [octets], list(descriptors))
        else:
            sock.sendall(octets)
    except OSError:
        pass


def receive(sock: socket.socket) -> bytes:
    """The holder's side: the octets that have arrived; empty when the client has disconnected."""
    try:
        return sock.recv(65536)
    except BlockingIOError:
        return b"\n"
    except OSError:
        return b""


def listen(path: Path) -> socket.socket:
    """The socket of a holder, for this user only (its folder is)."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    sock.bind(os.fspath(path))
    sock.listen(64)
    return sock
