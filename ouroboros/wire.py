"""Parts that all wire formats share: the two errors, and small checked conversions (docs/design/wire.md).

A library module of the daemons and of `ocap`; pure functions. The codecs themselves lie beside the protocol machines
(`irmd/oap`, `ipcpd/*/wire`). Each is a pair `decode`, `encode` with `decode(encode(x)) == x`:

- `decode` takes octets of any origin and raises `MalformedPacket`, never anything else;
- `encode` raises `UnsendablePacket` for packets that the specification forbids, or that would harm a prototype.

`decode` ignores the content of fields that a message does not use, as the prototype does; `encode` fills them with zeroes.
"""

from __future__ import annotations

import errno
import struct

from .ipcp_types import DirectoryHashAlgo

# Octets of a name's hash (spec/common 4).
HASH_LENGTHS = {
    DirectoryHashAlgo.SHA3_224: 28,
    DirectoryHashAlgo.SHA3_256: 32,
    DirectoryHashAlgo.SHA3_384: 48,
    DirectoryHashAlgo.SHA3_512: 64,
    DirectoryHashAlgo.MD5: 16,
}

# Endpoint ids and SAPs count descriptors; those below are reserved, and a prototype's table ends here (spec/common 7).
FIRST_EID = 64
MAX_EID = 4095


class MalformedPacket(OSError):
    """Received octets do not match the specification; errno EBADMSG.

    `what` names the format, `reason` the violation.
    """

    def __init__(self, what: str, reason: str) -> None:
        super().__init__(errno.EBADMSG, f"malformed {what}: {reason}")
        self.what = what
        self.reason = reason


class UnsendablePacket(OSError):
    """This member was about to send a packet that no member may send; errno EINVAL. A mistake on this side, not of a peer."""

    def __init__(self, what: str, reason: str) -> None:
        super().__init__(errno.EINVAL, f"cannot send {what}: {reason}")
        self.what = what
        self.reason = reason


def pack(layout: struct.Struct, what: str, *values: int | bytes) -> bytes:
    """`layout.pack(*values)`. Raises UnsendablePacket when a value does not fit its field."""
    try:
        return layout.pack(*values)
    except struct.error as error:
        raise UnsendablePacket(what, f"a value does not fit its field ({error})") from None


def must(condition: bool, what: str, reason: str) -> None:
    """Raise UnsendablePacket unless `condition` holds."""
    if not condition:
        raise UnsendablePacket(what, reason)


def text(octets: bytes, what: str, field: str) -> str:
    """The text of a field that holds UTF-8. Raises MalformedPacket."""
    try:
        return octets.decode()
    except UnicodeDecodeError:
        raise MalformedPacket(what, f"{field} is not UTF-8") from None
