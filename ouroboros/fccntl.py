"""Commands and flags of fccntl, the control of a flow (paper 4.1; spec cli-api 4.4)."""

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


class FrctFlags(IntFlag):
    """Flags of FRCP on flows that have it."""

    Retransmit = 1
    ResControl = 2
    Linger = 4
    Fragment = 8
    Reassemble = 16


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
