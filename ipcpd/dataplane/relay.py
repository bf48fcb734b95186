"""Relay: the thread of an IPCP that moves packets: between its flows, its sockets and the control plane (`src/relay.h`)."""

from __future__ import annotations

import logging
import sys
from errno import EALREADY, EINVAL
from typing import Any, NamedTuple

from ouroboros.dataplane.resources import Resources
from ouroboros.errors import error
from ouroboros.qos import QoSSpec
from ouroboros.rpc.messages_pb2 import Envelope, FlowEndpoint, SegmentGone, Welcome

from ._ipcp import ffi, lib
from .handle import Handle
from .punt import Punt

log = logging.getLogger("ipcpd/relay")


class PortStats(NamedTuple):
    """Counters of the IPCP's end of a flow."""

    packets: int
    """Packets taken from the process at the other end."""
    octets: int
    dropped: int
    """Packets that this flow did not take: queue full, no block in its pool, or too large."""
    refused: int
    """Slots with invalid content."""
    queued: int
    """Packets waiting for the process at the other end."""
    sent: int
    """Packets enqueued for the process at the other end."""
    received_at: float
    """When the last packet was taken, s of the monotonic clock; 0: never."""
    sent_at: float
    """When the last packet was enqueued."""


class Relay:
    """Moves packets between flow ends. Methods are for the control plane; they return when it is done."""

    def __init__(self) -> None:
        self.resources = Resources(ffi, lib, reserve=True)
        relay = lib.relay_create()
        if not relay:
            raise MemoryError("no memory for the packet thread")
        self.handle = Handle(relay, lib.relay_destroy, "the packet thread")
        """Of `struct relay`, for the other parts of the data plane."""
        self._started = False
        self._regions: set[int] = set()
        self._lost = 0

    def attach(self, welcome: Welcome, fds: list[int]) -> None:
        """Map the memory that the IRMd gave this process. The descriptors stay the caller's."""
        self.resources.learn(Envelope(welcome=welcome), fds)

    def start(self) -> None:
        """Start the thread; a relay has one. Raises OSError."""
        with self.handle as relay:
            result = -EALREADY if self._started else lib.relay_start(relay)
            self._check(result, "cannot start the packet thread")
            self._started = True

    def add(self, endpoint: FlowEndpoint, fds: list[int]) -> None:
        """Attach to a flow end that the IRMd described, with the descriptors that came along (the caller's still).

        It moves nothing until it has a role. The QoS of the flow selects its cube; where its packets are
        protected, `endpoint.max_packet` becomes the smaller. Raises OSError; then there is no such end, but the memory
        that came along has been mapped: it comes only once.
        """
        resources = self.resources
        resources.take(endpoint.resources, fds)
        try:
            cube = QoSSpec.from_proto(endpoint.qos).cube
        except ValueError as mistake:
            raise error(EINVAL, f"cannot attach to flow {endpoint.flow_id}: {mistake}") from None
        with self.handle as relay, resources.held:
            pool, segment, peer, spec = resources.end(endpoint)
            own = self._region(relay, endpoint.events)
            result = lib.relay_add(relay, pool, segment, own, peer, spec)
            self._check(result, f"cannot attach to flow {endpoint.flow_id}")
            try:
                self._check(lib.relay_cube(relay, endpoint.fd, cube), f"there is no QoS cube {cube}")
                if endpoint.cipher or endpoint.check:
                    endpoint.max_packet = self._protect(relay, endpoint)
            except BaseException:
                lib.relay_remove(relay, endpoint.fd)
                raise

    def _region(self, relay: Any, number: int) -> Any:
        """The event region of a trust domain, which the thread watches from now on."""
        region = self.resources.region(number)
        if number not in self._regions:
            self._check(
                lib.relay_add_region(relay, region),
                f"cannot serve processes of one more user: {lib.RELAY_DOMAINS} users have flows over this IPCP",
            )
            self._regions.add(number)
        return region

    def _protect(self, relay: Any, endpoint: FlowEndpoint) -> int:
        """Protect the packets of a lower flow: how long a packet may be. Raises OSError."""
        key = self.resources.key(endpoint)
        most = int(lib.relay_protect(relay, endpoint.fd, endpoint.cipher, key, endpoint.check))
        self._check(most, f"cannot protect the packets of flow {endpoint.flow_id}")
        return most

    def pair(self, a: int, b: int) -> None:
        """Forward packets between two flow ends, by their descriptors, both ways."""
        with self.handle as relay:
            result = lib.relay_pair(relay, a, b)
        self._check(result, f"cannot pair descriptors {a} and {b}")

    def punt(self, fd: int, punt: Punt, component: int, *, once: bool = False) -> None:
        """Pass packets that the process at the other end writes to a component of the control plane.

        once  only the next packet that is not empty; those behind it wait for the next role
        """
        with self.handle as relay, punt.handle as to:
            result = lib.relay_punt(relay, fd, to, component, once)
        self._check(result, f"there is no flow with descriptor {fd}")

    def events(self, punt: Punt, component: int) -> None:
        """Hand flow events of every port (DOWN, UP, PEER; `flow_events` decodes them) to a component."""
        with self.handle as relay, punt.handle as to:
            lib.relay_events(relay, to, component)

    def send(self, fd: int, packet: bytes) -> bool:
        """Write a packet into a flow. False: the flow was full, or there is no such flow."""
        with self.handle as relay:
            return int(lib.relay_send(relay, fd, packet, len(packet))) == 0

    def remove(self, fd: int) -> None:
        """Leave a flow; packets that its process has written are delivered first, as far as there is space."""
        with self.handle as relay:
            result = lib.relay_remove(relay, fd)
        self._check(result, f"there is no flow with descriptor {fd}")

    def release(self, message: SegmentGone) -> None:
        """Release memory that the IRMd has given up. It is unmapped when no flow end uses it any more."""
        with self.handle as relay:
            for number in message.events:
                if number in self._regions:
                    self._regions.discard(number)
                    lib.relay_remove_region(relay, self.resources.region(number))
        self.resources.release(message)
        lost = int(lib.map_lost())
        if lost > self._lost:
            log.warning(
                "memory of %d mappings that users share with this IPCP is lost: their flows end", lost
            )
            self._lost = lost

    def stats(self, fd: int) -> PortStats:
        """Counters of a flow end."""
        stats = ffi.new("struct port_stats *")
        with self.handle as relay:
            result = lib.relay_stats(relay, fd, stats)
        self._check(result, f"there is no flow with descriptor {fd}")
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
        """Stop the thread, leave all flows and unmap everything. May be repeated."""
        self.handle.close()
        self.resources.close()

    @staticmethod
    def _check(result: Any, text: str) -> None:
        if result < 0:
            raise error(-result, text)


def flow_events(packet: bytes) -> int:
    """The mask of EVENT_* bits that `Relay.events` handed over."""
    return int.from_bytes(packet, sys.byteorder)
