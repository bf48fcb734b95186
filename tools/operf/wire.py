"""The packets of operf.

The client opens with the kind of test in four bytes, as the C prototype does. All that follows has a header of
24 bytes in network order: type, a reserved word of zeros, a number and a time.

    READY    server  the test may begin; answers each announcement
    DATA     client  number counts from 0; time is the client's clock in ns; only the client reads it
    ECHO     server  a DATA packet sent back with its type changed (bidirectional test)
    END      client  number is how many DATA packets were sent; repeated until a report arrives
    REPORT   server  answers each END; after the header: the server's counters

Pure. Decoders raise MalformedPacket and nothing else.
"""

from enum import IntEnum
from struct import Struct
from typing import NamedTuple

from ouroboros.wire import MalformedPacket

MIN_SIZE = 64
MAX_SIZE = 1 << 20

HEADER = Struct("!IIQQ")
#: Type and number of a packet with a header, without the copy that slicing makes.
TYPE_AND_NUMBER = Struct("!I4xQ")
#: Number and time, written at NUMBER_OFFSET into a prepared packet.
NUMBER_AND_TIME = Struct("!QQ")
NUMBER_OFFSET = 8

_KIND = Struct("!I")
_TYPE = Struct("!I")
_REPORT = Struct("!QQQQQ")


class Kind(IntEnum):
    """Kinds of test."""

    UNIDIRECTIONAL = 0
    BIDIRECTIONAL = 1


class Type(IntEnum):
    """Types of packets with a header."""

    DATA = 0
    ECHO = 1
    READY = 2
    END = 3
    REPORT = 4


class Report(NamedTuple):
    """A receiver's counters: each number once in `packets` and `octets`; `elapsed_ns` from first to last."""

    packets: int
    octets: int
    out_of_order: int
    duplicates: int
    elapsed_ns: int


def encode_kind(kind: Kind) -> bytes:
    """The announcement of a test."""
    return _KIND.pack(kind)


def decode_kind(packet: bytes) -> Kind:
    """The kind of test that `packet` announces."""
    if len(packet) != _KIND.size:
        raise MalformedPacket("operf packet", f"a test is announced in {_KIND.size} bytes, not {len(packet)}")
    (number,) = _KIND.unpack(packet)
    if number not in (Kind.UNIDIRECTIONAL, Kind.BIDIRECTIONAL):
        raise MalformedPacket("operf packet", f"there is no test of kind {number}")
    return Kind(number)


def encode(kind: Type, number: int = 0, time_ns: int = 0, *, size: int = MIN_SIZE) -> bytes:
    """A packet of `size` bytes without a report."""
    return HEADER.pack(kind, 0, number, time_ns) + bytes(size - HEADER.size)


def decode(packet: bytes) -> tuple[Type, int, int]:
    """Type, number and time of a packet."""
    if len(packet) < HEADER.size:
        raise MalformedPacket(
            "operf packet", f"a packet has {HEADER.size} bytes or more, this one has {len(packet)}"
        )
    kind, _, number, time_ns = HEADER.unpack_from(packet)
    if kind > Type.REPORT:
        raise MalformedPacket("operf packet", f"there is no packet of type {kind}")
    return Type(kind), number, time_ns


def echo_of(packet: bytes) -> bytes:
    """The DATA packet as the server sends it back."""
    return _TYPE.pack(Type.ECHO) + packet[_TYPE.size :]


def encode_report(report: Report) -> bytes:
    """The report as a packet."""
    return HEADER.pack(Type.REPORT, 0, 0, 0) + _REPORT.pack(*report)


def decode_report(packet: bytes) -> Report:
    """The report in a packet of type REPORT."""
    kind, _, _ = decode(packet)
    if kind is not Type.REPORT or len(packet) != HEADER.size + _REPORT.size:
        raise MalformedPacket("operf packet", f"{len(packet)} bytes of type {kind.name} are not a report")
    return Report(*_REPORT.unpack_from(packet, HEADER.size))
