"""eth-dix: frames and management messages on Ethernet II (paper 5.4, spec/ethernet 1, 2).

Used by the control plane of the eth-dix IPCP and by `ocap`; pure functions. Frames with data are read and written in C;
these functions serve the management protocol and tools that decode frames.

A frame has an ethertype of its own and an inner header of two 16-bit words: the endpoint id *of the receiver*, and the
length of the payload, because Ethernet pads short frames. Endpoint id 0 is management. A prototype checks neither the
endpoint id nor the length against anything: both are bounded here, in both directions.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct

from ouroboros.wire import MAX_EID, MalformedPacket, must, pack

from . import mac
from .eth import MAX_MESSAGE, Fixed, Message, build, take_apart

DEFAULT_ETHERTYPE = 0xA000
ETHERTYPES = range(0x0600, 0xFFFF)
MANAGEMENT = 0  # the endpoint id of management
MAX_PAYLOAD = 65535 - 4

_FRAME = Struct(">6s6sHHH")
_MESSAGE = Struct(">HHIQIIIIiBBB")


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame for the endpoint `eid`; an empty payload is a keep-alive."""

    destination: bytes
    source: bytes
    eid: int
    payload: bytes = b""
    ethertype: int = DEFAULT_ETHERTYPE


def legal_eid(eid: int) -> bool:
    """Whether a flow can have this endpoint id. Sending one above 4095 ends a prototype (spec/ethernet 1)."""
    return 0 < eid <= MAX_EID


def decode(data: bytes) -> Frame:
    """The frame; octets after the payload are padding. Raises MalformedPacket."""
    if len(data) < _FRAME.size:
        raise MalformedPacket("eth-dix frame", f"{len(data)} octets, the headers have {_FRAME.size}")
    destination, source, ethertype, eid, length = _FRAME.unpack_from(data)
    if ethertype not in ETHERTYPES:
        raise MalformedPacket("eth-dix frame", f"{ethertype:#06x} is not an ethertype")
    if mac.is_group(source):
        raise MalformedPacket("eth-dix frame", f"{mac.to_text(source)} cannot have sent it")
    if eid > MAX_EID:
        raise MalformedPacket("eth-dix frame", f"endpoint id {eid} is above {MAX_EID}")
    there = len(data) - _FRAME.size
    if length > there:
        raise MalformedPacket("eth-dix frame", f"its length says {length} octets, {there} are there")
    if length > MAX_PAYLOAD:
        raise MalformedPacket("eth-dix frame", f"its length {length} is above {MAX_PAYLOAD}")
    return Frame(destination, source, eid, data[_FRAME.size : _FRAME.size + length], ethertype)


def encode(frame: Frame) -> bytes:
    """The frame as octets, not padded. Raises UnsendablePacket."""
    what = "an eth-dix frame"
    must(len(frame.destination) == len(frame.source) == mac.LENGTH, what, "a MAC address has 6 octets")
    must(not mac.is_group(frame.source), what, f"not from {mac.to_text(frame.source)}")
    must(frame.ethertype in ETHERTYPES, what, f"{frame.ethertype:#06x} is not an ethertype")
    must(0 <= frame.eid <= MAX_EID, what, f"endpoint id {frame.eid} is above {MAX_EID}")
    must(len(frame.payload) <= MAX_PAYLOAD, what, f"{len(frame.payload)} octets of payload are too many")
    head = pack(_FRAME, what, frame.destination, frame.source, frame.ethertype, frame.eid, len(frame.payload))
    return head + frame.payload


def decode_message(payload: bytes, *, hash_length: int) -> Message:
    """The management message that is the payload of a frame for endpoint id 0. Raises MalformedPacket."""
    what = "eth-dix management message"
    if not _MESSAGE.size <= len(payload) <= MAX_MESSAGE:
        raise MalformedPacket(what, f"{len(payload)} octets; it has from {_MESSAGE.size} to {MAX_MESSAGE}")
    fixed = Fixed(*_MESSAGE.unpack_from(payload))
    return build(what, fixed, payload[_MESSAGE.size :], hash_length=hash_length, legal=legal_eid)


def encode_message(message: Message) -> bytes:
    """The payload of a frame for endpoint id 0. Raises UnsendablePacket."""
    what = "an eth-dix management message"
    fixed, rest = take_apart(what, message, legal=legal_eid)
    payload = pack(_MESSAGE, what, *fixed) + rest
    must(len(payload) <= MAX_MESSAGE, what, f"it has {len(payload)} octets, {MAX_MESSAGE} is the most")
    return payload
