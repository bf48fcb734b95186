"""Stream: the octets of a flow of data, through the file that `Flow.makefile` makes of it: the service of QUIC and TCP.

A stream has no packets: a burst is joined to one write, and octets are counted without splitting them, as with those two.
"""

from __future__ import annotations

from typing import Any

from tests.bench.subjects.ouroboros import FlowEnd
from tests.bench.subjects.subject import Calls

ROOM = 1 << 20


class StreamEnd(FlowEnd):
    """One end of a flow that is read and written as a file."""

    def __init__(self, flow: Any, window: int) -> None:
        super().__init__(flow, window)
        self._reader = flow.makefile("rb", buffering=ROOM)
        self._writer = flow.makefile("wb", buffering=0)
        self._octets = memoryview(bytearray(ROOM))

    def calls(self, size: int) -> Calls:
        """Exactly one packet's octets alone, whatever is there in a burst."""
        reader, octets, write = self._reader, self._octets, self._write
        read1 = reader.readinto1
        begun = 0  # octets of a packet that has not come whole

        def readv(count: int) -> int:
            nonlocal begun
            got = read1(octets[: min(ROOM, count * size - begun)])
            if not got:
                raise ConnectionError("the other end has left")
            whole, begun = divmod(begun + got, size)
            return whole

        def writev(batch: list[bytes]) -> int:
            write(b"".join(batch))
            return len(batch)

        return Calls(write, reader.readinto, octets[:size], writev=writev, readv=readv)

    def _write(self, data: bytes) -> None:
        """All of it: a raw file takes what goes into a packet."""
        done = self._writer.write(data)
        if done < len(data):
            rest = memoryview(data)
            while done < len(data):
                done += self._writer.write(rest[done:])
