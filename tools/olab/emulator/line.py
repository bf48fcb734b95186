"""Line: one direction of an emulated link as a pure machine: no socket, no clock. For tests and simulators.

    line = Line(parse("loss 5% delay 20ms seed 7"))
    line.offer(b"frame", now=0.0)
    line.due(now=0.02)                       # [b"frame"], unless it was lost

The same C that runs in a link. The time may be that of any clock that does not go back, in seconds.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from typing import Any

from ._emulator import ffi, lib
from .impairment import Impairment

COUNTERS = (
    "received",
    "received_octets",
    "lost",
    "duplicated",
    "reordered",
    "corrupted",
    "full",
    "sent",
    "sent_octets",
    "refused",
    "held",
)
"""A line's counters; `src/line.h` explains each."""


@dataclass(frozen=True, slots=True)
class CopyFate:
    """What happens to one copy of a frame. `delay` in ns; `spot` modulo the number of bits is the flipped bit."""

    delay: int
    overtakes: bool
    corrupt: bool
    spot: int


def fate(impairment: Impairment, n: int, *, direction: int = 0) -> list[CopyFate]:
    """The fate of frame n (from 0) of a direction (0: from the first end of the link): its copies, or none."""
    found = ffi.new("struct fate *")
    lib.fate_of(_struct(impairment), impairment.seed, direction, n, found)
    return [
        CopyFate(copy.delay, copy.overtakes, copy.corrupt, copy.spot)
        for copy in (found.copy[number] for number in range(found.copies))
    ]


def _struct(impairment: Impairment) -> Any:
    struct = ffi.new("struct impairment *")
    impairment.fill(struct)
    return struct


def set_line(line: Any, impairment: Impairment, direction: int) -> None:
    """Set the impairment of a `struct line` of C from now on. Raises OSError."""
    check(lib.line_set(line, _struct(impairment), impairment.seed, direction))


def read_counters(line: Any) -> dict[str, int]:
    """The counters of a `struct line` of C."""
    counters = ffi.new("struct line_counters *")
    lib.line_count(line, counters)
    return {name: int(getattr(counters, name)) for name in COUNTERS}


def check(result: int) -> int:
    """Return `result`, unless it is a negative errno. Raises OSError."""
    if result < 0:
        raise OSError(-result, os.strerror(-result))
    return result


class Line:
    """One direction of a link, for frames of up to `room` octets."""

    def __init__(self, impairment: Impairment | None = None, *, direction: int = 0, room: int = 1518) -> None:
        made = lib.line_create(room)
        if not made:
            raise OSError(ffi.errno, os.strerror(ffi.errno))
        self._line = ffi.gc(made, lib.line_destroy)
        self.set(impairment or Impairment(), direction=direction)

    def set(self, impairment: Impairment, *, direction: int = 0) -> None:
        """Set the impairment from now on; frames are counted from 0 again, and frames held now leave when they would have."""
        set_line(self._line, impairment, direction)

    def offer(self, frame: bytes, *, now: float) -> bool:
        """A frame arrives; False when the line was full (the frame is counted). Raises OSError for one too long."""
        result = lib.line_offer(self._line, frame, len(frame), round(now * 1e9))
        if result == -errno.ENOBUFS:
            return False
        check(result)
        return True

    def due(self, *, now: float) -> list[bytes]:
        """The frames that are due by now, in order."""
        found = []
        while slot := lib.line_take(self._line, round(now * 1e9)):
            found.append(bytes(ffi.buffer(slot.frame, slot.length)))
            lib.line_done(self._line, slot, True)
        return found

    @property
    def deadline(self) -> float | None:
        """When the next frame comes out; None when none is held."""
        due = lib.line_deadline(self._line)
        return None if due == lib.NEVER else due / 1e9

    @property
    def counters(self) -> dict[str, int]:
        """The counters since the impairment was last set."""
        return read_counters(self._line)
