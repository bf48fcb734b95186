"""Paths: counts and paces of the paths of a link IPCP to its neighbours, in its data plane (`src/paths.h`)."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ouroboros.errors import error

from ._ipcp import ffi, lib
from .handle import Handle

_SECOND = 1e9


@dataclass(frozen=True, slots=True)
class PathState:
    """`struct path_state`: a path, its pace (octets per second, octets; 0: no limit), and its counters."""

    path: int
    peer: bytes
    flows: int
    measured: bool
    waiting: int
    rate: int
    window: int
    counters: dict[str, int]


class Paths:
    """The paths of a data plane, which `of` finds in the object of `handle`. A peer is the octets of its link address."""

    def __init__(self, handle: Handle[Any], of: Callable[[Any], Any]) -> None:
        self._handle = handle
        self._of = of

    def measure(self, peer: bytes) -> int | None:
        """The neighbour answers marks: its path sends them from now on. The path's number; None: no flow uses it."""
        with self._handle as pointer:
            result = int(lib.paths_measure(self._of(pointer), peer, len(peer)))
        return result if result >= 0 else None

    def rate(self, rate: int) -> None:
        """Set the pace of all paths, octets per second; 0: none."""
        with self._handle as pointer:
            lib.paths_rate(self._of(pointer), rate)

    def set(self, path: int, rate: int, window: int, spacing: float, now: float) -> bool:
        """The pace of a path, from `now` (seconds). False: it does not exist any more."""
        with self._handle as pointer:
            result = lib.paths_set(
                self._of(pointer), path, rate, window, round(spacing * _SECOND), round(now * _SECOND)
            )
        if result < 0 and result != -errno.ENOENT:
            raise error(-result, f"cannot set the pace of path {path}")
        return bool(result == 0)

    def states(self, most: int) -> list[PathState]:
        """At most `most` paths."""
        states = []
        state = ffi.new("struct path_state *")
        with self._handle as pointer:
            paths = self._of(pointer)
            for n in range(most):
                if lib.paths_read(paths, n, state) < 0:
                    break
                states.append(_state(state))
        return states


def _state(state: Any) -> PathState:
    counters = {name: int(getattr(state.counters, name)) for name, _ in ffi.typeof(state.counters).fields}
    return PathState(
        state.id,
        bytes(ffi.buffer(state.peer)),
        state.flows,
        bool(state.measured),
        state.waiting,
        state.rate,
        state.window,
        counters,
    )
