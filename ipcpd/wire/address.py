"""Addresses and endpoint ids inside a unicast layer (spec/dt 2, DT-3).

Used by the components of the unicast IPCP; pure functions. Both are integers in Python. On the wire the same address
appears little-endian (data transfer), big-endian (flow allocator, link state) and as a varint (protobuf).
"""

from __future__ import annotations

from ouroboros.wire import FIRST_EID

FLOW_ALLOCATOR = 0  # endpoint ids of components: not negotiated, so these and no others
DIRECTORY = 1
MAX_ADDRESS = 0xFFFFFFFF
UNSET_EID = 0xFFFFFFFFFFFFFFFF


def legal_address(address: int) -> bool:
    """Whether a member can have this address: 32 bits, not 0."""
    return 0 < address <= MAX_ADDRESS


def legal_eid(eid: int) -> bool:
    """Whether a flow can have this endpoint id.

    Lower ones belong to components: a flow allocator's message to one of them ends a prototype (spec/fa FA-3).
    """
    return FIRST_EID <= eid < UNSET_EID


def to_text(address: int) -> str:
    """The written form, in the order of the data transfer header: 0xBF51DA27 is "27.da.51.bf"."""
    return address.to_bytes(4, "little").hex(".")
