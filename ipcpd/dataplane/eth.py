"""Eth: packets of flows to and from an Ethernet device (`src/eth.h`), and the back-ends of devices (`src/nic.h`).

The sockets are the caller's. Methods are for the control plane; they return when it is done.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from errno import EINVAL, ENOMEM
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from ouroboros.errors import error

from ._ipcp import ffi, lib
from .handle import Handle
from .paths import Paths
from .punt import Punt
from .relay import Relay

if TYPE_CHECKING:
    from ._ipcp import struct_nic


class Framing(IntEnum):
    """The layout of frames: `enum eth_framing`."""

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
    """Frames received, packets delivered to flows, frames for the control plane, marks and reports of paths, packets sent, and drops."""

    received: int
    delivered: int
    management: int
    path: int
    sent: int
    full: int
    """Times that the device was full. No packet is lost by it."""
    dropped: dict[str, int]
    """By reason, one of DROPS."""


class Nic(Protocol):
    """A device, as `Eth` uses it: a back-end of `src/nic.h`."""

    def create(self) -> struct_nic:
        """A new nic in C, which belongs to the caller."""


@dataclass(frozen=True, slots=True)
class PacketNic:
    """Packet sockets, which stay the caller's: one that receives, and one for each QoS cube that sends."""

    receiver: int
    senders: tuple[int, ...]

    def create(self) -> struct_nic:
        """See `Nic`."""
        if len(self.senders) != lib.CUBES:
            raise error(EINVAL, f"{len(self.senders)} sockets for {lib.CUBES} QoS cubes")
        nic = lib.nic_packet(self.receiver, ffi.new("int[]", self.senders))
        if not nic:
            raise error(ENOMEM, "no memory for the bursts of a device")
        return nic


class Eth:
    """The frames of one IPCP, on a device."""

    def __init__(
        self,
        relay: Relay,
        punt: Punt,
        *,
        component: int,
        framing: Framing,
        ethertype: int,
        nic: Nic,
    ) -> None:
        with relay.handle as within, punt.handle as to:
            eth = lib.eth_create(within, to, component, int(framing), ethertype, nic.create())
            number = ffi.errno
        if not eth:
            raise error(number, "no room for another socket of the packet thread")
        self._handle = Handle(eth, lib.eth_destroy, "the data plane over Ethernet")
        self.paths = Paths(self._handle, lib.eth_paths)

    def device(self, mac: bytes, max_packet: int) -> None:
        """Set the device's address, and the octets of a packet that a frame carries."""
        address = _address(mac)
        with self._handle as eth:
            result = lib.eth_device(eth, address, max_packet)
        self._check(result, "no memory for frames")

    def open(self, fd: int, endpoint: int, peer: bytes) -> None:
        """Make a port the flow with this endpoint: it receives frames from the machine `peer`."""
        address = _address(peer)
        with self._handle as eth:
            result = lib.eth_open(eth, fd, endpoint, address)
        self._check(result, f"cannot use endpoint {endpoint}")

    def leave(self, fd: int) -> None:
        """A port that was opened and not connected has no endpoint any more: it may be opened again."""
        with self._handle as eth:
            result = lib.eth_leave(eth, fd)
        self._check(result, f"there is no flow with descriptor {fd} that can leave its endpoint")

    def connect(self, fd: int, endpoint: int, peer: bytes) -> None:
        """The endpoint at the other end is known: packets that the port's process writes are sent there."""
        address = _address(peer)
        with self._handle as eth:
            result = lib.eth_connect(eth, fd, endpoint, address)
        self._check(result, f"there is no flow with descriptor {fd}")

    def counters(self) -> EthCounters:
        """Counters of frames and packets."""
        out = ffi.new("struct eth_counters *")
        with self._handle as eth:
            lib.eth_count(eth, out)
        return EthCounters(
            out.received,
            out.delivered,
            out.management,
            out.path,
            out.sent,
            out.full,
            dict(zip(DROPS, out.dropped, strict=True)),
        )

    def close(self) -> None:
        """Release the sockets and all flows, which stay with the relay. May be repeated."""
        self._handle.close()

    @staticmethod
    def _check(result: Any, text: str) -> None:
        if result < 0:
            raise error(-result, text)


def set_filter(fd: int, framing: Framing, index: int, mac: bytes) -> None:
    """Let a packet socket see frames of the device `index` to this machine or to all, and nothing else."""
    result = lib.nic_packet_filter(fd, int(framing), index, _address(mac))
    if result < 0:
        raise error(-result, "cannot set the filter of a packet socket")


def _address(mac: bytes) -> bytes:
    """C reads six octets."""
    if len(mac) != 6:
        raise error(EINVAL, f"a MAC address of {len(mac)} octets; it has 6")
    return mac
