"""The packet of oping: type and id in network order, then the sender's time in host order (docs/reference/oping.md).

The rest of the packet is padding. Only its sender reads the time, so host order does no harm; the server
answers by changing the type word and nothing else. Pure.
"""

from enum import IntEnum
from struct import Struct

from ouroboros.wire import MalformedPacket

MIN_SIZE = 64
MAX_SIZE = 1500

_HEAD = Struct("!II")
_TIME = Struct("=QQ")
_TYPE = Struct("!I")
_HEADER_SIZE = _HEAD.size + _TIME.size


class Kind(IntEnum):
    """Types of oping packets."""

    REQUEST = 0
    REPLY = 1


def encode(kind: Kind, number: int, sent_ns: int, size: int) -> bytes:
    """A packet of `size` bytes (24 or more) numbered `number` modulo 2**32 that left at `sent_ns`."""
    header = _HEAD.pack(kind, number & 0xFFFFFFFF) + _TIME.pack(*divmod(sent_ns, 1_000_000_000))
    return header + bytes(size - _HEADER_SIZE)


def decode(packet: bytes) -> tuple[Kind, int, int]:
    """Kind, number and sending time in ns; raises MalformedPacket."""
    if len(packet) < _HEADER_SIZE:
        raise MalformedPacket(
            "oping packet", f"an oping packet has {_HEADER_SIZE} bytes or more, this one has {len(packet)}"
        )
    kind, number = _HEAD.unpack_from(packet)
    seconds, nanoseconds = _TIME.unpack_from(packet, _HEAD.size)
    if kind > Kind.REPLY:
        raise MalformedPacket("oping packet", f"{kind} is neither a request (0) nor a reply (1)")
    return Kind(kind), number, seconds * 1_000_000_000 + nanoseconds


def reply_to(packet: bytes) -> bytes:
    """The server's answer; raises MalformedPacket when `packet` is no request."""
    kind, _, _ = decode(packet)
    if kind is not Kind.REQUEST:
        raise MalformedPacket("oping packet", "a reply needs no answer")
    return _TYPE.pack(Kind.REPLY) + packet[_TYPE.size :]
