"""Paths of a link IPCP: a rate set by hand, or a rate control for each neighbour that answers marks (spec/path).

Runs in the process of the IPCP, on its loop. The packet thread sends marks, answers those of neighbours, checks reports and hands
over their contents; a few times in a round trip at most this sets the pace that follows.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from ipcpd.dataplane import paths as dataplane
from ipcpd.dataplane.paths import PathState
from ipcpd.dataplane.sample import decode_report
from ouroboros.facts import PATHS, Row

from .rate_control import Mode, RateControl

log = logging.getLogger("ipcpd/link")

QUOTA = 64 * 1024
"""Octets of reports that may wait for this IPCP."""

ALL = 4096
"""Paths in a read-out: as many as an IPCP has endpoints."""

AUTO, NONE = "auto", "none"


class Paths:
    """The paths of one IPCP. `rate` is the option of bootstrap: "none", "auto", or bits per second. `show` makes a link address
    readable."""

    def __init__(self, paths: dataplane.Paths, show: Callable[[bytes], str], rate: str) -> None:
        self._paths = paths
        self._show = show
        self._auto = rate == AUTO
        if rate not in (AUTO, NONE):
            paths.rate(max(int(rate) // 8, 1))
        self._controls: dict[int, RateControl] = {}
        self._set: dict[int, tuple[int, int, float]] = {}

    def measure(self, peer: bytes, now: float) -> None:
        """A flow was allocated to a neighbour that answers marks, and whose marks are answered."""
        path = self._paths.measure(peer)
        if path is None or not self._auto or path in self._controls:
            return
        living = {state.path for state in self._paths.states(ALL)}
        for ended in self._controls.keys() - living:
            self._forget(ended)
        self._controls[path] = RateControl()
        self._apply(path, now)

    def reported(self, _fd: int, record: bytes) -> None:
        """A record from the packet thread."""
        sample = decode_report(record)
        control = self._controls.get(sample.path)
        if control is None:
            return  # its last flow has ended meanwhile
        if not sample.silent_ms:
            control.sample(sample)
        elif control.silent(sample.now):
            log.warning("a neighbour has not answered marks for %d ms: its path is paced", sample.silent_ms)
        self._apply(sample.path, sample.now)

    def _apply(self, path: int, now: float) -> None:
        control = self._controls[path]
        wanted = control.rate, control.window, control.spacing
        if wanted == self._set.get(path):
            return
        self._set[path] = wanted
        if not self._paths.set(path, *wanted, now):
            self._forget(path)

    def _forget(self, path: int) -> None:
        del self._controls[path]
        self._set.pop(path, None)

    # ------------------------------------------------------------ read-out

    def rows(self) -> list[Row]:
        """One row for each path."""
        return [self._row(state) for state in self._paths.states(ALL)]

    def _row(self, state: PathState) -> Row:
        control = self._controls.get(state.path)
        counters = state.counters
        known: Row = {"peer": self._show(state.peer), "flows": state.flows, "waiting": state.waiting}
        known |= {"limits": _limits(state, control), "rate": state.rate * 8}
        if control is not None and control.min_rtt is not None and control.rtt is not None:
            known |= {
                "delivered": round(control.delivered * 8),
                "rtt_ms": round(control.rtt * 1e3, 3),
                "min_rtt_ms": round(control.min_rtt * 1e3, 3),
                "queue_ms": round(control.queue * 1e3, 3),
                "jitter_ms": round(control.jitter * 1e3, 3),
                "loss": round(control.loss, 5),
            }
        return PATHS.row(**known, **counters)


def _limits(state: PathState, control: RateControl | None) -> str:
    """The party that limits what is sent on the path."""
    if control is None:
        return "not measured" if not state.rate else "hand"
    if control.mode is Mode.SILENT:
        return "silence"
    if control.held:
        return "device"
    if control.spare:
        return "senders"
    return "nothing" if control.mode is Mode.OPEN else "path"
