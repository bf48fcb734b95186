"""What FRCP at a flow end has done, and how it stands (paper 2.14; spec/frcp): a readout for people and programs."""

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
    """Packets with data that went again, because their acknowledgement did not come in time."""
    control: int
    """Packets without data: acknowledgements, windows."""
    received: int
    """Packets that came, of any kind."""
    delivered: int
    """Packets that were read."""
    duplicate: int
    """Packets with data that had come before; on a flow that does not retransmit, also those that came too late."""
    early: int
    """Packets that came before their turn, and were kept until it came."""
    refused: int
    """Packets outside of the window, or for which there was no room."""
    malformed: int
    """Packets that are too short, or say what cannot be."""
    spoilt: int
    """Packets whose check failed, or that were too short for it."""
    forged: int
    """Packets that were not encrypted with the key of the flow."""
    skipped: int
    """Packets that never came, on a flow that does not retransmit."""
    unacknowledged: int
    """Packets with data that were written, and that the peer has not acknowledged yet."""
    unread: int
    """Packets that have come whole and were not read yet."""
    window: int
    """Packets that may be sent before the peer makes room; 0: its window is shut."""
    srtt: float
    """Round trip, smoothed; 0 while none was measured."""
    rttvar: float
    """How much the round trip varies."""
    rto: float
    """Time after which what is not acknowledged is sent again."""
    retransmits: bool
    """Whether lost packets are sent again (loss 0 in the QoS)."""
    fragments: bool
    """Whether both ends know fragments: packets may be larger than those of the layer."""
    checked: bool
    """Whether every packet carries a CRC-32."""
    peer_ended: bool
    """Whether the peer has said that it writes no more, or has left, and all it wrote has come."""


def look(handle: struct_flow) -> FrcpCounters | None:
    """What the machine of a flow end says; None on a flow without FRCP."""
    frcp, seal = ffi.new("struct frcp *"), handle.seal
    result = lib.frcp_io_look(handle, frcp)
    if result == -EPERM:
        return None
    if result < 0:
        raise error(result)
    c, config, rtt = frcp.counters, frcp.config, frcp.rtt
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
        unacknowledged=frcp.sendq.count,
        unread=frcp.recvq.messages,
        window=(frcp.lim - frcp.nxt) & _MASK,
        srtt=rtt.srtt / 1e9,
        rttvar=rtt.dev / 1e9,
        rto=rtt.rto / 1e9,
        retransmits=config.retransmit,
        fragments=config.fragments,
        checked=bool(seal and seal.check),
        peer_ended=frcp.fin_received != 0,
    )
