"""MAC addresses: 6 octets, as they are on the wire.

Used by the control plane of the ethernet IPCPs; pure functions.
"""

from __future__ import annotations

LENGTH = 6
BROADCAST = b"\xff" * LENGTH


def is_group(address: bytes) -> bool:
    """Whether it names several receivers: no frame has it as its source."""
    return bool(address[0] & 1)


def to_text(address: bytes) -> str:
    """The usual text form, e.g. "6e:b1:b4:29:7f:77"."""
    return address.hex(":")
