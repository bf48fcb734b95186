"""Eth: packets of flows to and from an Ethernet device (`src/eth.h`).

The sockets are the caller's. Methods are for the control plane; they return when it is done.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, NamedTuple

from ouroboros.errors import error

from ._ipcp import ffi, lib
from .punt import Punt
from .relay import Relay


class Framing(IntEnum):
    """How frames look: `enum eth_framing`."""

    DIX = 0
    LLC = 1


DROPS = (
    "short",
    "length",
    "foreign",
    "endpoint",
    "source",
    "full",
    "management",
    "oversize",
    "device",
)
"""Why frames and packets are dropped, in the order of `enum eth_drop`."""


class EthCounters(NamedTuple):
    """Frames received, packets delivered to flows, frames for the control plane, packets sent, and what was dropped."""

    received: int
    delivered: int
    management: int
    sent: int
    full: int
    """Times that the device had no room. Nothing is lost by it."""
    dropped: dict[str, int]
    """By reason, one of DROPS."""


class Eth:
    """The frames of one IPCP. `senders` are sockets, one for each QoS cube."""

    def __init__(
        self,
        relay: Relay,
        punt: Punt,
        *,
        component: int,
        framing: Framing,
        ethertype: int,
        receiver: int,
        senders: tuple[int, int, int],
    ) -> None:
        self._eth = lib.eth_create(
            relay.handle, punt.handle, component, int(framing), ethertype, receiver, ffi.new("int[]", senders)
        )
        if self._eth == ffi.NULL:
            raise error(ffi.errno, "no room for another socket of the packet thread")

    def device(self, mac: bytes, max_packet: int) -> None:
        """What the device is now: its address, and how many octets of a packet a frame carries."""
        self._check(lib.eth_device(self._eth, mac, max_packet), "no memory for frames")

    def open(self, fd: int, endpoint: int, peer: bytes) -> None:
        """Make a port the flow with this endpoint: it receives what comes from the machine `peer`."""
        self._check(lib.eth_open(self._eth, fd, endpoint, peer), f"cannot use endpoint {endpoint}")

    def connect(self, fd: int, endpoint: int, peer: bytes) -> None:
        """The endpoint at the other end is known: what the port's process writes is sent there."""
        self._check(lib.eth_connect(self._eth, fd, endpoint, peer), f"there is no flow with descriptor {fd}")

    def counters(self) -> EthCounters:
        """What has become of frames and packets."""
        out = ffi.new("struct eth_counters *")
        lib.eth_count(self._eth, out)
        return EthCounters(
            out.received,
            out.delivered,
            out.management,
            out.sent,
            out.full,
            dict(zip(DROPS, out.dropped, strict=True)),
        )

    def close(self) -> None:
        """Let go of the sockets and of all flows. May be repeated."""
        if self._eth != ffi.NULL:
            lib.eth_destroy(self._eth)
            self._eth = ffi.NULL

    @staticmethod
    def _check(result: Any, text: str) -> None:
        if result < 0:
            raise error(-result, text)


def set_filter(fd: int, framing: Framing, index: int, mac: bytes) -> None:
    """Let a packet socket see frames of the device `index` to this machine or to all, and nothing else."""
    result = lib.eth_filter(fd, int(framing), index, mac)
    if result < 0:
        raise error(-result, "cannot set the filter of a packet socket")
