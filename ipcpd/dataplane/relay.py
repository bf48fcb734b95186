"""Relay: the thread of an IPCP that moves packets: between its flows, its sockets and the control plane (`src/relay.h`)."""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

from ouroboros.dataplane.resources import Resources
from ouroboros.errors import error
from ouroboros.qos import QoSSpec
from ouroboros.rpc.messages_pb2 import Envelope, FlowEndpoint, SegmentGone, Welcome

from ._ipcp import ffi, lib
from .punt import Punt


class PortStats(NamedTuple):
    """Counters of the IPCP's end of a flow."""

    packets: int
    """Packets taken from the process at the other end."""
    octets: int
    dropped: int
    """Packets that this flow did not take: no room, no block in its pool, or too large."""
    refused: int
    """Slots that made no sense."""
    queued: int
    """Packets waiting for the process at the other end."""
    sent: int
    """Packets put for the process at the other end."""
    received_at: float
    """When the last packet was taken, s of the monotonic clock; 0: never."""
    sent_at: float
    """When the last packet was put."""


class Relay:
    """Moves packets between flow ends. Methods are for the control plane; they return when it is done."""

    def __init__(self) -> None:
        self.resources = Resources(ffi, lib, reserve=True)
        self._relay = lib.relay_create()
        if self._relay == ffi.NULL:
            raise MemoryError("no memory for the packet thread")
        self._regions: set[int] = set()

    def attach(self, welcome: Welcome, fds: list[int]) -> None:
        """Map what the IRMd gave this process. The descriptors stay the caller's."""
        self.resources.learn(Envelope(welcome=welcome), fds)

    def start(self) -> None:
        """Start the thread."""
        self._check(lib.relay_start(self._relay), "cannot start the packet thread")

    def add(self, endpoint: FlowEndpoint, fds: list[int]) -> None:
        """Attach to a flow end that the IRMd described, with the descriptors that came along (the caller's still).

        It moves nothing until it has a role. The QoS of the flow says which cube it belongs to; where its packets are
        protected, `endpoint.max_packet` becomes the smaller.
        """
        resources = self.resources
        resources.take(endpoint.resources, fds)
        own = endpoint.events
        if own not in self._regions:
            self._check(
                lib.relay_add_region(self._relay, resources.events[own]),
                f"cannot serve processes of one more user: {lib.RELAY_DOMAINS} users have flows over this IPCP",
            )
            self._regions.add(own)
        self._check(
            lib.relay_add(
                self._relay,
                resources.pools[endpoint.pool],
                resources.segments[endpoint.segment],
                resources.events[own],
                resources.events.get(endpoint.peer_events, ffi.NULL),
                resources.spec(endpoint),
            ),
            f"cannot attach to flow {endpoint.flow_id}",
        )
        lib.relay_cube(self._relay, endpoint.fd, QoSSpec.from_proto(endpoint.qos).cube)
        if endpoint.cipher or endpoint.check:
            endpoint.max_packet = self._protect(endpoint)

    def _protect(self, endpoint: FlowEndpoint) -> int:
        """Protect the packets of a lower flow, or leave it: how long a packet may be. Raises OSError."""
        key = endpoint.key if endpoint.cipher else ffi.NULL
        most = int(lib.relay_protect(self._relay, endpoint.fd, endpoint.cipher, key, endpoint.check))
        if most < 0:
            self.remove(endpoint.fd)
            self._check(most, f"cannot protect the packets of flow {endpoint.flow_id}")
        return most

    @property
    def handle(self) -> Any:
        """`struct relay *`, for the other parts of the data plane."""
        return self._relay

    def pair(self, a: int, b: int) -> None:
        """Forward packets between two flow ends, by their descriptors, both ways."""
        self._check(lib.relay_pair(self._relay, a, b), f"cannot pair descriptors {a} and {b}")

    def punt(self, fd: int, punt: Punt, component: int, *, once: bool = False) -> None:
        """Hand what the process at the other end writes to a component of the control plane.

        once  only the next packet that is not empty; those behind it wait for the next role
        """
        self._check(
            lib.relay_punt(self._relay, fd, punt.handle, component, once),
            f"there is no flow with descriptor {fd}",
        )

    def events(self, punt: Punt, component: int) -> None:
        """Hand flow events of every port (DOWN, UP, PEER; `flow_events` decodes them) to a component."""
        lib.relay_events(self._relay, punt.handle, component)

    def send(self, fd: int, packet: bytes) -> bool:
        """Write a packet into a flow. False: there was no room for it, or no such flow."""
        return int(lib.relay_send(self._relay, fd, packet, len(packet))) == 0

    def remove(self, fd: int) -> None:
        """Leave a flow; what its process had written is delivered first, as far as there is room."""
        self._check(lib.relay_remove(self._relay, fd), f"there is no flow with descriptor {fd}")

    def gone(self, message: SegmentGone) -> None:
        """Unmap what the IRMd has given up."""
        for number in message.events:
            if number in self._regions:
                self._regions.discard(number)
                lib.relay_remove_region(self._relay, self.resources.events[number])
        self.resources.gone(message)

    def stats(self, fd: int) -> PortStats:
        """Counters of a flow end."""
        stats = ffi.new("struct port_stats *")
        self._check(lib.relay_stats(self._relay, fd, stats), f"there is no flow with descriptor {fd}")
        return PortStats(
            stats.packets,
            stats.octets,
            stats.dropped,
            stats.refused,
            stats.queued,
            stats.sent,
            stats.received_at / 1e9,
            stats.sent_at / 1e9,
        )

    def close(self) -> None:
        """Stop the thread and unmap everything. May be repeated."""
        if self._relay != ffi.NULL:
            lib.relay_destroy(self._relay)
            self._relay = ffi.NULL
            self.resources.close()

    @staticmethod
    def _check(result: Any, text: str) -> None:
        if result < 0:
            raise error(-result, text)


def flow_events(packet: bytes) -> int:
    """The mask of EVENT_* bits that `Relay.events` handed over."""
    return int.from_bytes(packet, sys.byteorder)
