"""MAC addresses: 6 octets, as they are on the wire.

Used by the control plane of the ethernet IPCPs; pure functions.
"""

from __future__ import annotations

LENGTH = 6
BROADCAST = b"\xff" * LENGTH


def is_group(address: bytes) -> bool:
    """Whether it names several receivers: such an address never sends."""
    return bool(address[0] & 1)


def to_text(address: bytes) -> str:
    """As people write it, e.g. "6e:b1:b4:29:7f:77"."""
    return address.hex(":")
