"""Control: what the commands of olab and the holder of a lab say to each other. One JSON object per line.

Requests (`do`) and what is in the reply besides `error`, which is there alone:

  wire    make all links, `link` by `link`; a line {"progress": ...} for each, then the reply
  start   start the IRMd of `systems` that have none; the reply comes when all of them are ready
  stop    stop the IRMd of `systems` (or with `signal` just send it that); `codes`: how they ended
  cut     `link`, `silent`: `means`
  heal    `link`
  emulate `link`, `words`: what happens to frames from its first end, and from its second; null: as before
  emulation `link`: `words` and `counters`, by the end that frames come from; `pid` of the emulator
  status  `systems`: pid and state of each IRMd; `cuts`: how each link is cut; `emulated`: words, by link
  enter   `system`: the descriptors of its namespaces come along (user, mount, network, process)
  keep    let the lab live on when the process that made it ends
  down    stop everything; `codes` of the IRMds come when they have ended, and then the holder ends
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


class HolderGone(OSError):
    """The process that holds the lab has ended, or never listened."""


class HolderError(OSError):
    """The holder could not do what it was asked to; the text says why."""


class Connection:
    """A connection to the holder of a lab. Not for several threads at once."""

    def __init__(self, path: Path) -> None:
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            self._sock.connect(str(path))
        except OSError as error:
            self._sock.close()
            raise HolderGone(
                error.errno, f"nobody holds the lab any more ({path}): {error.strerror}"
            ) from None
        self._buffer = b""
        self.descriptors: list[int] = []
        """What came along with the last replies; whoever reads it closes them."""

    def close(self) -> None:
        self._sock.close()

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """Ask for something, and wait for the reply. Raises HolderError, HolderGone."""
        for reply in self.follow(do, **arguments):
            if "progress" not in reply:
                return reply
        raise AssertionError("unreachable")

    def follow(self, do: str, **arguments: Any) -> Iterator[dict[str, Any]]:
        """The same, with each line of progress; the reply comes last."""
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
            raise HolderGone(error.errno, f"the holder of the lab has ended: {error.strerror}") from None

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
                raise HolderGone(0, "the holder of the lab has ended before it answered")
            self._buffer += octets
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line


def send_reply(sock: socket.socket, reply: dict[str, Any], descriptors: tuple[int, ...] = ()) -> None:
    """The holder's side: send one line. A client that has gone away is no concern of the holder."""
    octets = json.dumps(reply).encode() + b"\n"
    try:
        if descriptors:
            socket.send_fds(sock, [octets], list(descriptors))
        else:
            sock.sendall(octets)
    except OSError:
        pass


def receive(sock: socket.socket) -> bytes:
    """The holder's side: what has come; empty at the end."""
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
