"""Flow allocator: flow requests, replies and congestion updates (paper 5.3, spec/fa 1).

Used by the control plane of the unicast IPCP and by `ocap`; pure functions. A message is the payload of a data transfer packet
to endpoint id 0. One fixed part of 61 octets serves all three; all numbers are big-endian. A reply or an update for an
endpoint id of a component ends a prototype: none is ever sent.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from struct import Struct

from ouroboros.qos import QOS_RAW, QoSSpec
from ouroboros.wire import HASH_LENGTHS, MalformedPacket, must, pack

from .address import legal_address, legal_eid

MAX_MESSAGE = 2048  # octets; the prototype discards longer ones

_FIXED = Struct(">QQQQiIIIIIHBBB")
_WHAT = "flow allocator message"


class Code(IntEnum):
    """The number of a message."""

    FLOW_REQUEST = 0
    FLOW_REPLY = 1
    FLOW_UPDATE = 2


@dataclass(frozen=True, slots=True)
class FlowRequest:
    """The member with address `source` asks for a flow to the name that has the hash; `eid` is its end of it."""

    source: int
    eid: int
    name_hash: bytes
    qos: QoSSpec = QOS_RAW
    data: bytes = b""


@dataclass(frozen=True, slots=True)
class FlowReply:
    """Answers the request that came from endpoint id `to`.

    `response` is 0, with the responder's `eid` and the handshake's header in `data`, or a negative errno; a receiver
    treats every value but 0 as a refusal.
    """

    to: int
    eid: int = 0
    response: int = 0
    data: bytes = b""


@dataclass(frozen=True, slots=True)
class FlowUpdate:
    """Reports to the sender of a flow, endpoint id `to`, how congested the path of its packets is."""

    to: int
    congestion: int


Message = FlowRequest | FlowReply | FlowUpdate


def decode(payload: bytes, *, hash_length: int) -> Message:
    """The message in a data transfer payload. Raises MalformedPacket."""
    if not _FIXED.size <= len(payload) <= MAX_MESSAGE:
        raise MalformedPacket(_WHAT, f"{len(payload)} octets; it has from {_FIXED.size} to {MAX_MESSAGE}")
    fields = _FIXED.unpack_from(payload)
    source, to, eid, bandwidth, response, delay, loss, ber, max_gap, timeout = fields[:10]
    congestion, code, availability, in_order = fields[10:]
    rest = payload[_FIXED.size :]
    match code:
        case Code.FLOW_REQUEST:
            if not legal_address(source):
                raise MalformedPacket(_WHAT, f"nobody has the address {source:#x}")
            _check_eid(eid)
            if len(rest) < hash_length:
                raise MalformedPacket(_WHAT, f"{len(rest)} octets of a hash that has {hash_length}")
            qos = QoSSpec(delay, bandwidth, availability, loss, ber, in_order, max_gap, timeout)
            return FlowRequest(source, eid, rest[:hash_length], qos, rest[hash_length:])
        case Code.FLOW_REPLY:
            _check_eid(to)
            if response == 0:
                _check_eid(eid)
            return FlowReply(to, eid, response, rest)
        case Code.FLOW_UPDATE:
            _check_eid(to)
            if rest:
                raise MalformedPacket(_WHAT, f"{len(rest)} octets behind an update")
            return FlowUpdate(to, congestion)
    raise MalformedPacket(_WHAT, f"unknown code {code}")


def encode(message: Message) -> bytes:
    """The message as a data transfer payload. Raises UnsendablePacket."""
    match message:
        case FlowRequest(source, eid, name_hash, qos, data):
            what = "a flow request"
            must(legal_address(source), what, f"nobody has the address {source}")
            must(legal_eid(eid), what, f"a flow cannot have the endpoint id {eid:#x}")
            must(len(name_hash) in HASH_LENGTHS.values(), what, f"no hash has {len(name_hash)} octets")
            numbers = (qos.delay, qos.loss, qos.ber, qos.max_gap, qos.timeout)
            tail = (0, Code.FLOW_REQUEST, qos.availability, qos.in_order)
            octets = pack(_FIXED, what, source, 0, eid, qos.bandwidth, 0, *numbers, *tail) + name_hash + data
        case FlowReply(to, eid, response, data):
            what = "a flow reply"
            must(legal_eid(to), what, f"a flow cannot have the endpoint id {to:#x}")
            must(response <= 0, what, f"the response {response} is positive")
            must(not (response and data), what, "a refusal carries no data")
            must(bool(response) or legal_eid(eid), what, f"a flow cannot have the endpoint id {eid:#x}")
            octets = pack(_FIXED, what, 0, to, eid, 0, response, *[0] * 6, Code.FLOW_REPLY, 0, 0) + data
        case FlowUpdate(to, congestion):
            what = "a flow update"
            must(legal_eid(to), what, f"a flow cannot have the endpoint id {to:#x}")
            octets = pack(_FIXED, what, 0, to, *[0] * 8, congestion, Code.FLOW_UPDATE, 0, 0)
    must(len(octets) <= MAX_MESSAGE, what, f"it has {len(octets)} octets, {MAX_MESSAGE} is the most")
    return octets


def _check_eid(eid: int) -> None:
    if not legal_eid(eid):
        raise MalformedPacket(_WHAT, f"a flow cannot have the endpoint id {eid:#x}")
