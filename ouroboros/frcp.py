"""Counters and state of FRCP at a flow end (paper 2.14; spec/frcp): a read-out for people and programs."""

from __future__ import annotations

from dataclasses import dataclass
from errno import EPERM
from typing import TYPE_CHECKING

from .dataplane._dataplane import ffi, lib
from .errors import error

if TYPE_CHECKING:
    from .dataplane._dataplane import struct_flow

_MASK = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class FrcpCounters:
    """A look at FRCP, from `Flow.frcp`. Packets are counted since the flow was allocated; times are seconds."""

    sent: int
    """Packets with data, each counted once. A large packet is several: its fragments."""
    resent: int
    """Packets with data retransmitted because their acknowledgement did not arrive in time."""
    control: int
    """Packets without data: acknowledgements, windows."""
    received: int
    """Packets received, of any kind."""
    delivered: int
    """Packets that were read."""
    duplicate: int
    """Packets with data received before; on a flow that does not retransmit, also those that were too late."""
    early: int
    """Packets received out of order, and kept."""
    refused: int
    """Packets outside the window, or without space in the receive queue."""
    malformed: int
    """Packets that are too short, or have impossible numbers."""
    spoilt: int
    """Packets whose check failed, or that were too short for it."""
    forged: int
    """Packets that were not encrypted with the key of the flow."""
    skipped: int
    """Packets never received, on a flow that does not retransmit."""
    unacknowledged: int
    """Packets with data that were written, and that the peer has not acknowledged yet."""
    unread: int
    """Complete packets received and not read yet."""
    window: int
    """Packets that may be sent before the peer advances its window; 0: it is shut."""
    srtt: float
    """Round trip, smoothed; 0 while none was measured."""
    rttvar: float
    """How much the round trip varies."""
    rto: float
    """Time without an acknowledgement after which a packet is retransmitted."""
    retransmits: bool
    """Whether lost packets are sent again (loss 0 in the QoS)."""
    fragments: bool
    """Whether both ends know fragments: packets may be larger than those of the layer."""
    checked: bool
    """Whether every packet carries a CRC-32."""
    peer_ended: bool
    """Whether the peer has sent FIN, and everything before it has been received."""


def look(handle: struct_flow) -> FrcpCounters | None:
    """A snapshot of the FRCP machine of a flow end; None on a flow without FRCP."""
    frcp, seal = ffi.new("struct frcp *"), handle.end.seal
    result = lib.frcp_io_look(handle, frcp)
    if result == -EPERM:
        return None
    if result < 0:
        raise error(result)
    c, config, rtt = frcp.counters, frcp.config, frcp.tx.rtt
    return FrcpCounters(
        sent=c.sent,
        resent=c.resent,
        control=c.control,
        received=c.received,
        delivered=c.delivered,
        duplicate=c.duplicate,
        early=c.early,
        refused=c.refused,
        malformed=c.malformed,
        spoilt=seal.spoilt + seal.runt if seal else 0,
        forged=seal.forged if seal else 0,
        skipped=c.skipped,
        unacknowledged=frcp.tx.sendq.count,
        unread=frcp.rx.recvq.messages,
        window=(frcp.tx.lim - frcp.tx.nxt) & _MASK,
        srtt=rtt.srtt / 1e9,
        rttvar=rtt.dev / 1e9,
        rto=rtt.rto / 1e9,
        retransmits=config.retransmit,
        fragments=config.fragments,
        checked=bool(seal and seal.check),
        peer_ended=frcp.fin_received != 0,
    )
