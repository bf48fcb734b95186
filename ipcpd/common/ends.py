"""Ends: the ends of flows that this IPCP provides, attached to the packet thread, by their names (`end`).

Runs in every IPCP, on its loop. A message of the IRMd, an event of a machine or a timer that names an end that has been left
is counted in `late` and changes nothing: its descriptor may be that of another flow already.
"""

from __future__ import annotations

import logging
from collections import Counter
from typing import Protocol

from ouroboros.rpc.messages_pb2 import FlowEndpoint

from .end import End

log = logging.getLogger("ipcpd")


class Ports(Protocol):
    """The methods of the relay that `Ends` needs."""

    def add(self, endpoint: FlowEndpoint, fds: list[int]) -> None: ...

    def remove(self, fd: int) -> None: ...


class Ends:
    """The ends that are held. `late` counts messages and events about other ends, by name."""

    def __init__(self, relay: Ports, late: Counter[str]) -> None:
        self._relay = relay
        self._late = late
        self._held: set[End] = set()

    def add(self, endpoint: FlowEndpoint, fds: list[int]) -> End:
        """Attach to an end that the IRMd has described. Raises what the relay raises; then nothing is held."""
        self._relay.add(endpoint, fds)
        end = End.of(endpoint)
        self._held.add(end)
        return end

    def __contains__(self, end: End) -> bool:
        return end in self._held

    def __len__(self) -> int:
        return len(self._held)

    def expect(self, end: End, what: str) -> bool:
        """Whether the end that `what` names is held; if not, `what` is counted as late."""
        held = end in self._held
        if not held:
            self._late[what] += 1
        return held

    def remove(self, end: End) -> bool:
        """Leave a flow. False: it has been left already."""
        if end not in self._held:
            return False
        self._held.remove(end)
        try:
            self._relay.remove(end.fd)
        except OSError as failure:
            log.debug("cannot leave flow %d: %s", end.fd, failure)
        return True
