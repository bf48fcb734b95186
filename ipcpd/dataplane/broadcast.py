"""The packet transfer of a broadcast IPCP as its control plane sees it (`src/broadcast.h`; paper 2.13; spec/broadcast)."""

from __future__ import annotations

from typing import NamedTuple

from ouroboros.errors import error

from ._ipcp import ffi, lib
from .handle import Handle
from .relay import Relay

MOST = int(lib.BROADCAST_MOST)
"""Octets of the largest packet."""


class BroadcastCounters(NamedTuple):
    """Packets of all members."""

    received: int
    keepalives: int
    """Empty packets among those received: they are not forwarded."""
    too_large: int
    """Received packets that were dropped because of their length."""
    sent: int
    """Copies, over all members."""
    dropped: int
    """Copies that a member did not take."""


class FanOut:
    """Forwards packets from one member to all other members."""

    def __init__(self, relay: Relay) -> None:
        with relay.handle as within:
            broadcast = lib.broadcast_create(within)
        if not broadcast:
            raise MemoryError("no memory for a broadcast layer")
        self._handle = Handle(broadcast, lib.broadcast_destroy, "the broadcast layer")

    def add(self, fd: int) -> None:
        """This flow is a member, until it is removed from the relay or gets another role."""
        with self._handle as broadcast:
            result = lib.broadcast_add(broadcast, fd)
        if result < 0:
            raise error(-result, f"flow {fd} cannot be a member")

    def counters(self) -> BroadcastCounters:
        """Counters of packets."""
        read = ffi.new("struct broadcast_counters *")
        with self._handle as broadcast:
            lib.broadcast_read(broadcast, read)
        return BroadcastCounters(read.received, read.keepalives, read.too_large, read.sent, read.dropped)

    def close(self) -> None:
        """Give the memory back; flows that were members stay with the relay. May be repeated."""
        self._handle.close()
