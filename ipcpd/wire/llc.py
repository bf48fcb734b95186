"""eth-llc: frames and management messages on IEEE 802.3 with 802.2 LLC type 1 (paper 5.4, spec/ethernet 5).

Used by the control plane of the eth-llc IPCP and by `ocap`; pure functions. Frames with data are read and written in C.

The endpoints of a flow are service access points (SAPs). In the LLC header, and only there, their bits stand in reverse
order, so that small numbers touch neither the individual/group nor the command/response bit. SAP 1 on both sides is
management; flows have 2 to 63.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct

from ouroboros.wire import MalformedPacket, must, pack

from . import mac
from .eth import Fixed, Message, build, take_apart

MANAGEMENT = 1  # the SAP of management
FIRST_SAP = 2
MAX_SAP = 63  # where the prototype's table ends
MAX_LENGTH = 1500  # octets after the length field; a field of 0x0600 or more would be an ethertype
MAX_PAYLOAD = MAX_LENGTH - 3

_UNNUMBERED_INFORMATION = 0x03
_FRAME = Struct(">6s6sHBBB")
_HEADER = 3  # octets of LLC, which the length field counts
_MESSAGE = Struct(">BBBBIQIIIIiB")
_REVERSED = bytes(int(f"{octet:08b}"[::-1], 2) for octet in range(256))


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame from SAP `ssap` of `source` to SAP `dsap` of `destination`; an empty payload is a keep-alive."""

    destination: bytes
    source: bytes
    dsap: int
    ssap: int
    payload: bytes = b""


def legal_sap(sap: int) -> bool:
    """Whether a flow can have this SAP. Sending one above 63 can end a prototype (spec/ethernet 5)."""
    return FIRST_SAP <= sap <= MAX_SAP


def decode(data: bytes) -> Frame:
    """The frame; octets that its length field does not count are padding. Raises MalformedPacket."""
    if len(data) < _FRAME.size:
        raise MalformedPacket("eth-llc frame", f"{len(data)} octets, the headers have {_FRAME.size}")
    destination, source, length, dsap, ssap, control = _FRAME.unpack_from(data)
    dsap, ssap = _REVERSED[dsap], _REVERSED[ssap]
    there = len(data) - _FRAME.size + _HEADER
    if not _HEADER <= length <= min(there, MAX_LENGTH):
        raise MalformedPacket("eth-llc frame", f"its length says {length} octets, {there} are there")
    if mac.is_group(source):
        raise MalformedPacket("eth-llc frame", f"{mac.to_text(source)} cannot have sent it")
    if control != _UNNUMBERED_INFORMATION:
        raise MalformedPacket("eth-llc frame", f"control octet {control:#04x} is not unnumbered information")
    if not _legal_pair(dsap, ssap):
        raise MalformedPacket("eth-llc frame", f"no frame goes from SAP {ssap} to SAP {dsap}")
    return Frame(destination, source, dsap, ssap, data[_FRAME.size : _FRAME.size + length - _HEADER])


def encode(frame: Frame) -> bytes:
    """The frame as octets, not padded. Raises UnsendablePacket."""
    what = "an eth-llc frame"
    must(len(frame.destination) == len(frame.source) == mac.LENGTH, what, "a MAC address has 6 octets")
    must(not mac.is_group(frame.source), what, f"not from {mac.to_text(frame.source)}")
    must(_legal_pair(frame.dsap, frame.ssap), what, f"not from SAP {frame.ssap} to SAP {frame.dsap}")
    must(len(frame.payload) <= MAX_PAYLOAD, what, f"{len(frame.payload)} octets of payload are too many")
    head = _FRAME.pack(
        frame.destination,
        frame.source,
        _HEADER + len(frame.payload),
        _REVERSED[frame.dsap],
        _REVERSED[frame.ssap],
        _UNNUMBERED_INFORMATION,
    )
    return head + frame.payload


def decode_message(payload: bytes, *, hash_length: int) -> Message:
    """The management message that is the payload of a frame between SAPs 1. Raises MalformedPacket."""
    what = "eth-llc management message"
    if not _MESSAGE.size <= len(payload) <= MAX_PAYLOAD:
        raise MalformedPacket(what, f"{len(payload)} octets; it has from {_MESSAGE.size} to {MAX_PAYLOAD}")
    fields = _MESSAGE.unpack_from(payload)
    fixed = Fixed._make(
        (*fields[:2], *fields[4:], *fields[2:4])
    )  # code and availability stand last in eth-dix
    return build(what, fixed, payload[_MESSAGE.size :], hash_length=hash_length, legal=legal_sap)


def encode_message(message: Message) -> bytes:
    """The payload of a frame between SAPs 1. Raises UnsendablePacket."""
    what = "an eth-llc management message"
    fixed, rest = take_apart(what, message, legal=legal_sap)
    head = (fixed.source, fixed.destination, fixed.code, fixed.availability)
    payload = pack(_MESSAGE, what, *head, *fixed[2:10]) + rest
    must(len(payload) <= MAX_PAYLOAD, what, f"it has {len(payload)} octets, {MAX_PAYLOAD} is the most")
    return payload


def _legal_pair(dsap: int, ssap: int) -> bool:
    return dsap == ssap == MANAGEMENT or (legal_sap(dsap) and legal_sap(ssap))
