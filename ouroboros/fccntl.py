"""Commands and flags of fccntl, the control of a flow (paper 4.1; docs/reference/api.md)."""

from __future__ import annotations

from enum import IntEnum, IntFlag


class FlowProperties(IntFlag):
    """Flags of a flow end. The access mode is ReadOnly, WriteOnly or ReadWrite."""

    ReadOnly = 0o0
    WriteOnly = 0o1
    ReadWrite = 0o2
    Down = 0o4
    NonBlockingRead = 0o1000
    NonBlockingWrite = 0o2000
    NonBlocking = 0o3000
    NoPartialRead = 0o10000
    """A packet longer than the buffer is dropped, and the read raises EMSGSIZE. Off: it is read in parts."""
    NoPartialWrite = 0o20000
    """Always set: a write is a whole packet or an error. A program that clears it, as with every assignment of other flags, reads it as
    set."""


ACCESS_MODE = 0o3
"""Mask of the access mode in `FlowProperties`."""

ALL_PROPERTIES = 0o33007
"""Every flag of `FlowProperties`."""


class FrctFlags(IntFlag):
    """Flags of FRCP (paper 5.1): the behaviour of this end, independent of the peer's.

    Setting replaces all of them. A flag that cannot be changed, or that the peer has not agreed to, keeps its value: read the
    flags to see the result.
    """

    Retransmit = 1
    """Lost packets are retransmitted. The QoS decides; the flag cannot be changed."""
    ResControl = 2
    """Flow control: this end sends no more than its peer's window. Off: it sends immediately; a receiver drops packets that
    it has no space for, which are then retransmitted or, on a flow that does not retransmit, lost."""
    Linger = 4
    """Deallocation waits until the peer has acknowledged everything. Off: unacknowledged data may be lost."""
    Fragment = 8
    """Packets larger than those of the layer are fragmented. Off, or with a peer that cannot reassemble: they are
    refused with EMSGSIZE, and `Flow.max_packet` is smaller."""
    Reassemble = 16
    """Fragments of the peer are reassembled before they are read. Off: each fragment is read as a packet."""


class Fccntl(IntEnum):
    """Commands of fccntl()."""

    FLOWSRCVTIMEO = 0o1
    FLOWGRCVTIMEO = 0o2
    FLOWSSNDTIMEO = 0o3
    FLOWGSNDTIMEO = 0o4
    FLOWGQOSSPEC = 0o5
    FLOWSFLAGS = 0o6
    FLOWGFLAGS = 0o7
    FLOWGRXQLEN = 0o10
    FLOWGTXQLEN = 0o11
    FRCTSFLAGS = 0o1000
    FRCTGFLAGS = 0o2000
