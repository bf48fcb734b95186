"""A flow as a stream of octets, for programs that want a file (paper 2.14).

`Flow.makefile()` makes it: a raw file of this module with the buffers of `io` around it. Packet boundaries have no meaning: written
octets are cut into packets of any size, and read octets are joined again. Only on flows that lose nothing. It runs in the thread that
reads or writes.

The file ends when the peer has sent FIN, by `write_end` or by deallocating the flow. A flow that went down in any other
way (its process was killed, the peer is silent, a layer is down) raises, since octets may be missing.
"""

from __future__ import annotations

import io
from errno import ENOTSUP
from typing import IO, TYPE_CHECKING, Any, cast

from . import arguments
from .end import End, view_of
from .errors import FlowDownException, FlowTimeout, FlowWouldBlock, error
from .owner import Owner

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

    from .qos import QoSSpec

CHUNK = 65536
"""Octets of a packet that a large write is cut into, where packets may be so large."""


def check_reliable(qos: QoSSpec, what: str) -> None:
    """Raises FlowException with ENOTSUP for a QoS with which a flow may lose something, or change its order."""
    if not qos.in_order or qos.loss:
        raise error(
            ENOTSUP,
            f"{what} may lose packets (in_order {qos.in_order}, loss {qos.loss}): "
            "a stream needs in_order and loss 0, as QOS_DATA has them",
        )


class FlowFile(Owner, io.RawIOBase):
    """The raw file of a flow. Closing it neither deallocates the flow nor sends FIN.

    A file with a buffer writes its buffer when it is closed: for as long as the peer makes progress (`Flow.linger_timeout`).
    """

    closing = False
    """Whether the buffers in front of it are being closed."""

    def __init__(self, flow: End, mode: str) -> None:
        check_reliable(flow.qos, f"flow {flow.fd}")
        super().__init__()
        self._flow = flow
        self._handle = flow._pinned()
        self._rest = memoryview(b"")
        self._stuck: str | None = None
        self.mode = mode
        self.name = f"flow {flow.fd}"

    def readable(self) -> bool:
        """Whether it was opened for reading."""
        return "r" in self.mode

    def writable(self) -> bool:
        """Whether it was opened for writing."""
        return "w" in self.mode

    def readinto(self, buffer: WriteableBuffer) -> int | None:
        """Read at least one octet; 0 at the end, None when a non-blocking flow has none now. Raises as `Flow.read`."""
        self._check("r")
        view = view_of("buffer", buffer, writable=True)
        if not view:
            return 0
        try:
            if self._rest:
                return self._give(view)
            if len(view) >= CHUNK:
                return self._flow._read_octets(view)
            self._rest = memoryview(self._flow.recv())
            return self._give(view)
        except FlowWouldBlock:
            return None
        except FlowDownException:
            if self._flow.peer_ended:
                return 0
            raise

    def _give(self, view: memoryview) -> int:
        n = min(len(view), len(self._rest))
        view[:n] = self._rest[:n]
        self._rest = self._rest[n:]
        return n

    def write(self, buffer: ReadableBuffer) -> int | None:
        """Write some octets, one packet. Returns their number; None when a non-blocking flow is full."""
        self._check("w")
        view = view_of("buffer", buffer)
        if not view:
            return 0  # an empty packet would be a keep-alive
        flow = self._flow
        piece = view[: min(CHUNK, flow.max_packet)]
        try:
            if self.closing and flow.snd_timeout is None:
                return self._write_last(flow, piece)
            return flow.write(piece)
        except FlowWouldBlock:
            return None

    def _write_last(self, flow: End, piece: memoryview) -> int:
        if self._stuck is not None:
            raise FlowTimeout(self._stuck)  # each buffer in front tries again: the peer had its time
        try:
            return flow._write_within(piece, flow.linger_timeout)
        except FlowTimeout as late:
            self._stuck = str(late)
            raise

    def _check(self, letter: str) -> None:
        if self.closed:
            raise ValueError("I/O operation on a closed file")
        if letter not in self.mode:
            raise io.UnsupportedOperation(f"{self.name} was not opened for that: its mode is {self.mode!r}")
        self._flow._still(self._handle)


class _Closing(io.IOBase):
    """Base of the files in front of a FlowFile, `flow_file`; marks it when it is closed."""

    flow_file: FlowFile

    def close(self) -> None:
        """Write the buffer, and close."""
        self.flow_file.closing = True
        super().close()


class _Writer(_Closing, io.BufferedWriter):
    pass


class _Pair(_Closing, io.BufferedRWPair):
    pass


class _Text(_Closing, io.TextIOWrapper):
    pass


def make(flow: End, mode: str, buffering: int, **text: Any) -> IO[Any]:
    """The file objects of `Flow.makefile`."""
    arguments.text("mode", mode)
    arguments.integer("buffering", buffering, -1)
    for name, value in text.items():
        if value is not None:
            arguments.text(name, value)
    letters = mode.replace("b", "")
    if letters not in ("r", "w", "rw", "wr") or mode.count("b") > 1:
        arguments.wrong_value("mode", "r, w or rw, with b for octets", mode)
    binary = "b" in mode
    if binary and any(value is not None for value in text.values()):
        raise ValueError("encoding, errors and newline are for text: leave them out, or the b of the mode")
    raw = FlowFile(flow, "".join(sorted(letters)))
    if buffering == 0:
        if not binary:
            raise ValueError("text needs a buffer")
        return cast("IO[Any]", raw)
    size = io.DEFAULT_BUFFER_SIZE * 8 if buffering < 0 else buffering
    buffer: Any
    if len(letters) == 2:
        buffer = _Pair(raw, raw, size)
    else:
        buffer = io.BufferedReader(raw, size) if letters == "r" else _Writer(raw, size)
    file = buffer if binary else _Text(buffer, **text)
    for one in (buffer, file):
        one.flow_file = raw
    return cast("IO[Any]", file)
