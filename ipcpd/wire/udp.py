"""udp4 and udp6: datagrams and management messages (paper 5.5, spec/udp).

Used by the control plane of the UDP IPCPs and by `ocap`; pure functions. Datagrams with data are read and written in C.

A datagram begins with the endpoint id of its receiver; 0 is management. In management messages the requester's endpoint
id keeps its place in the reply, other than on Ethernet. There are no name queries: names are resolved by the system.
The hash is always MD5. A prototype reads management into 2048 octets without checking: this IPCP never sends longer ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from struct import Struct

from ouroboros.qos import QOS_RAW, QoSSpec
from ouroboros.wire import MAX_EID, MalformedPacket, must, pack

DEFAULT_PORT = 3435
HASH_LENGTH = 16
MANAGEMENT = 0  # the endpoint id of management
MAX_MESSAGE = 2048  # octets of a management datagram
MAX_SDU_4 = 8976  # octets of data in a datagram, udp4
MAX_SDU_6 = 8948  # the same, udp6

_EID = Struct(">I")
_MESSAGE = Struct(">IIIiQIIIIIBBB")
MESSAGE_LENGTH = _MESSAGE.size  # octets of a management datagram before its hash and data


class Code(IntEnum):
    """The number of a message; other than on Ethernet."""

    FLOW_REQUEST = 1
    FLOW_REPLY = 2


@dataclass(frozen=True, slots=True)
class Datagram:
    """Data for the endpoint `eid`; an empty payload is a keep-alive."""

    eid: int
    payload: bytes = b""


@dataclass(frozen=True, slots=True)
class FlowRequest:
    """Asks for a flow to the name that has the hash; `data` is the handshake's header."""

    requester: int
    name_hash: bytes
    qos: QoSSpec = QOS_RAW
    data: bytes = b""


@dataclass(frozen=True, slots=True)
class FlowReply:
    """Answers the request that came from endpoint `requester`.

    `response` is 0, with the `acceptor`'s endpoint and the handshake's header in `data`, or a negative errno; a receiver
    treats every value but 0 as a refusal.
    """

    requester: int
    acceptor: int
    response: int = 0
    data: bytes = b""


def decode(datagram: bytes) -> Datagram | FlowRequest | FlowReply:
    """The message or data that the payload of a UDP datagram carries. Raises MalformedPacket."""
    if len(datagram) < _EID.size:
        raise MalformedPacket("UDP datagram", f"{len(datagram)} octets, the endpoint id has {_EID.size}")
    (eid,) = _EID.unpack_from(datagram)
    if eid == MANAGEMENT:
        return _decode_message(datagram)
    if eid > MAX_EID:
        raise MalformedPacket("UDP datagram", f"endpoint id {eid} is above {MAX_EID}")
    if len(datagram) > _EID.size + MAX_SDU_4:
        raise MalformedPacket("UDP datagram", f"{len(datagram)} octets are too many")
    return Datagram(eid, datagram[_EID.size :])


def encode(message: Datagram | FlowRequest | FlowReply) -> bytes:
    """The payload of a UDP datagram. Raises UnsendablePacket."""
    match message:
        case Datagram(eid, payload):
            what = "a UDP datagram"
            must(legal_eid(eid), what, f"a flow cannot have the endpoint id {eid}")
            must(len(payload) <= MAX_SDU_4, what, f"{len(payload)} octets of data are too many")
            return _EID.pack(eid) + payload
        case FlowRequest():
            return _encode_request(message)
        case FlowReply():
            return _encode_reply(message)


def legal_eid(eid: int) -> bool:
    """Whether a flow can have this endpoint id. Sending one above 4095 ends a prototype (spec/udp 2)."""
    return 0 < eid <= MAX_EID


def _decode_message(datagram: bytes) -> FlowRequest | FlowReply:
    what = "UDP management message"
    if not _MESSAGE.size <= len(datagram) <= MAX_MESSAGE:
        raise MalformedPacket(what, f"{len(datagram)} octets; it has from {_MESSAGE.size} to {MAX_MESSAGE}")
    fields = _MESSAGE.unpack_from(datagram)
    _, requester, acceptor, response, bandwidth, delay, loss, ber, max_gap, timeout = fields[:10]
    code, availability, in_order = fields[10:]
    rest = datagram[_MESSAGE.size :]
    if code not in (Code.FLOW_REQUEST, Code.FLOW_REPLY):
        raise MalformedPacket(what, f"unknown code {code}")
    if not legal_eid(requester):
        raise MalformedPacket(what, f"a flow cannot have the endpoint id {requester}")
    if code == Code.FLOW_REPLY:
        if response == 0 and not legal_eid(acceptor):
            raise MalformedPacket(what, f"a flow cannot have the endpoint id {acceptor}")
        return FlowReply(requester, acceptor, response, rest)
    if len(rest) < HASH_LENGTH:
        raise MalformedPacket(what, f"{len(rest)} octets of a hash that has {HASH_LENGTH}")
    qos = QoSSpec(delay, bandwidth, availability, loss, ber, in_order, max_gap, timeout)
    return FlowRequest(requester, rest[:HASH_LENGTH], qos, rest[HASH_LENGTH:])


def _encode_request(message: FlowRequest) -> bytes:
    what, qos = "a UDP flow request", message.qos
    must(legal_eid(message.requester), what, f"a flow cannot have the endpoint id {message.requester}")
    must(len(message.name_hash) == HASH_LENGTH, what, f"the hash has {len(message.name_hash)} octets")
    numbers = (qos.bandwidth, qos.delay, qos.loss, qos.ber, qos.max_gap, qos.timeout)
    code = (Code.FLOW_REQUEST, qos.availability, qos.in_order)
    head = pack(_MESSAGE, what, MANAGEMENT, message.requester, 0, 0, *numbers, *code)
    return _bounded(what, head + message.name_hash + message.data)


def _encode_reply(message: FlowReply) -> bytes:
    what, response = "a UDP flow reply", message.response
    must(legal_eid(message.requester), what, f"a flow cannot have the endpoint id {message.requester}")
    must(response <= 0, what, f"the response {response} is positive")
    must(not (response and message.data), what, "a refusal carries no data")
    must(bool(response) or legal_eid(message.acceptor), what, "the acceptor's endpoint id cannot be")
    head = (MANAGEMENT, message.requester, message.acceptor, response)
    return _bounded(what, pack(_MESSAGE, what, *head, *[0] * 6, Code.FLOW_REPLY, 0, 0) + message.data)


def _bounded(what: str, datagram: bytes) -> bytes:
    must(len(datagram) <= MAX_MESSAGE, what, f"it has {len(datagram)} octets, {MAX_MESSAGE} is the most")
    return datagram
