"""Events of flows that the IRMd raises, and that IPCPs send and receive (paper Listing 7; docs/reference/api.md).

A library module of daemons: `ouroboros.event` has the same for applications. The numbers are those of shared memory
and of RPC messages.
"""

from __future__ import annotations

from enum import IntFlag


class FlowEvent(IntFlag):
    """The type of an event on a flow; without PKT, which exists in shared memory only."""

    DOWN = 2
    """The flow is down."""
    UP = 4
    """It was down, and is not any more."""
    ALLOC = 8
    """An asynchronous allocation is over."""
    DEALLOC = 16
    """The other end was deallocated."""
    PEER = 32
    """The other end has been silent for longer than the QoS of the flow allows."""
