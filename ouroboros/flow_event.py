"""Events of flows, as the IRMd raises them and IPCPs tell and hear of them (paper Listing 7; docs/reference/api.md).

A library module of daemons: `ouroboros.event` has the same for applications. The numbers are those of shared memory
and of RPC messages.
"""

from __future__ import annotations

from enum import IntFlag


class FlowEvent(IntFlag):
    """What has happened on a flow; without PKT, which only shared memory knows."""

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
