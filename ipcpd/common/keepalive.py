"""Keep-alive: detects that a neighbour on an N-1 flow has become silent, and that it sends again (paper 2.9; spec/protection 5).

Runs in unicast and broadcast IPCPs as a machine without I/O: the counters of a flow and `now` (seconds, monotonic) go in; actions
and the next deadline come out. One deadline for all flows, and none when no flow has a time-out.

A flow with time-out T gets an empty packet when nothing was sent for T/4. A neighbour is silent when no packet has arrived for T.
This member then goes on sending empty packets, and a prototype does not: if both stopped, neither would receive a packet again.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

SEND_PARTS = 4
"""An empty packet is due when nothing was sent for this part of the time-out."""

LOOK_PARTS = 8
"""Checks of the counters of a silent neighbour within one time-out."""

GRACES = 3
"""Consecutive late timers after which a neighbour is not declared silent: its packets may not have been counted yet."""


class Traffic(NamedTuple):
    """Counters of a flow: received packets, and when the last packet was received and sent, seconds (0: never)."""

    received: int
    received_at: float
    sent_at: float


class Act(Enum):
    """Actions for a flow."""

    SEND = "send an empty packet"
    SILENT = "the neighbour is silent"
    BACK = "the neighbour is back"


@dataclass(slots=True)
class _Watch:
    timeout: float
    last_rx_at: float
    sent: float
    received: int
    serial: int
    looked: float = 0.0
    silent: bool = False
    graces: int = 0

    @property
    def due(self) -> float:
        look = self.looked + self.timeout / LOOK_PARTS if self.silent else self.last_rx_at + self.timeout
        return min(self.sent + self.timeout / SEND_PARTS, look)


class KeepAlive:
    """The machine. `traffic(fd)` returns the counters of a watched flow."""

    def __init__(self, traffic: Callable[[int], Traffic]) -> None:
        self._traffic = traffic
        self._watched: dict[int, _Watch] = {}
        self._heap: list[tuple[float, int, int]] = []  # due, serial, fd
        self._serial = 0

    def watch(self, fd: int, timeout: float, now: float) -> None:
        """Watch a flow with this time-out, seconds; 0: do not."""
        self._watched.pop(fd, None)
        if timeout <= 0:
            return
        self._serial += 1
        watch = _Watch(timeout, now, now, self._traffic(fd).received, self._serial)
        self._watched[fd] = watch
        self._push(fd, watch)

    def forget(self, fd: int) -> None:
        """Stop watching a flow that has ended; a flow that is not watched is ignored."""
        self._watched.pop(fd, None)

    def silent(self, fd: int) -> bool:
        """Whether the neighbour is silent, as last seen."""
        watch = self._watched.get(fd)
        return watch is not None and watch.silent

    @property
    def deadline(self) -> float | None:
        """When `timer` has to be called next; None: no flow has a time-out."""
        heap = self._heap
        while heap and not self._current(heap[0]):
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def timer(self, now: float) -> list[tuple[int, Act]]:
        """The actions that are due now, by flow."""
        acts: list[tuple[int, Act]] = []
        looked: list[tuple[int, _Watch]] = []
        while (due := self.deadline) is not None and due <= now:
            _, _, fd = heapq.heappop(self._heap)
            watch = self._watched[fd]
            acts += [(fd, act) for act in self._look(watch, self._traffic(fd), now, late=now - due)]
            looked.append((fd, watch))
        for fd, watch in looked:
            self._push(fd, watch)
        return acts

    def _look(self, watch: _Watch, traffic: Traffic, now: float, *, late: float) -> list[Act]:
        acts = []
        if traffic.received != watch.received:
            watch.received = traffic.received
            watch.last_rx_at = max(watch.last_rx_at, min(traffic.received_at, now))
            watch.graces = 0
        part = watch.timeout / SEND_PARTS
        if (
            late > part / 2
            and now >= watch.last_rx_at + watch.timeout
            and not watch.silent
            and watch.graces < GRACES
        ):
            watch.graces += 1
            watch.last_rx_at = now - watch.timeout + part
        silent = (
            now >= watch.last_rx_at + watch.timeout
        )  # bit for bit as in `due`: otherwise the timer would expire again immediately
        if silent != watch.silent:
            watch.silent = silent
            acts.append(Act.SILENT if silent else Act.BACK)
        watch.looked = now
        watch.sent = max(watch.sent, min(traffic.sent_at, now))
        if now >= watch.sent + watch.timeout / SEND_PARTS:
            acts.append(Act.SEND)
            watch.sent = now  # also if the queue is full: then enough packets are under way
        return acts

    def _current(self, entry: tuple[float, int, int]) -> bool:
        watch = self._watched.get(entry[2])
        return watch is not None and watch.serial == entry[1]

    def _push(self, fd: int, watch: _Watch) -> None:
        heapq.heappush(self._heap, (watch.due, watch.serial, fd))
