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
    NoPartialWrite = 0o20000


ACCESS_MODE = 0o3
"""Mask of the access mode in `FlowProperties`."""

ALL_PROPERTIES = 0o33007
"""Every flag of `FlowProperties`."""


class FrctFlags(IntFlag):
    """Flags of FRCP on flows that have it (paper 5.1): what this end does, whatever the other does.

    Setting is setting all of them. What cannot be changed, or was not agreed with the other end, stays as it is: read the flags
    to see what came of it.
    """

    Retransmit = 1
    """What is lost is sent again: so by the QoS, for ever."""
    ResControl = 2
    """Flow control: this end sends no more than the window of its peer. Off: it sends what it has; a receiver takes no more
    than it has room for, so that much may have to be sent again, or on a flow that does not retransmit, is lost."""
    Linger = 4
    """Deallocation waits until the peer has acknowledged everything. Off: what is not acknowledged then may be lost."""
    Fragment = 8
    """Packets that are larger than those of the layer are cut. Off, or with a peer that cannot put them together: they are
    refused with EMSGSIZE, and `Flow.max_packet` says so."""
    Reassemble = 16
    """What the peer has cut is put together before it is read. Off: pieces are read as they come."""


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
