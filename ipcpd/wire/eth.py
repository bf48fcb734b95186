"""The management protocol of the ethernet IPCPs: flow requests and name queries, without their layout (paper 5.4).

Used by the control plane of the eth-dix and eth-llc IPCPs; pure data. Both types carry the same fields in a different
order (spec/ethernet 2, 5): `dix` and `llc` turn the `Fixed` part into octets, this module turns it into a message.
An endpoint is an EID in eth-dix, a SAP in eth-llc.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from ouroboros.qos import QoSSpec
from ouroboros.wire import HASH_LENGTHS, MalformedPacket, must

from .link import FlowReply, FlowRequest

MAX_MESSAGE = 9000  # octets; the prototype drops longer ones


class Code(IntEnum):
    """The number of a message."""

    FLOW_REQUEST = 0
    FLOW_REPLY = 1
    NAME_QUERY = 2
    NAME_REPLY = 3


@dataclass(frozen=True, slots=True)
class NameQuery:
    """Broadcast query for the machines that have registered the name with this hash."""

    name_hash: bytes


@dataclass(frozen=True, slots=True)
class NameReply:
    """Reply to the requester: the sender has registered the name."""

    name_hash: bytes


Message = FlowRequest | FlowReply | NameQuery | NameReply


class Fixed(NamedTuple):
    """The fixed part of a message, in the order of eth-dix."""

    source: int = 0
    destination: int = 0
    loss: int = 0
    bandwidth: int = 0
    ber: int = 0
    max_gap: int = 0
    delay: int = 0
    timeout: int = 0
    response: int = 0
    in_order: int = 0
    code: int = 0
    availability: int = 0


def build(what: str, fixed: Fixed, rest: bytes, *, hash_length: int, legal: Callable[[int], bool]) -> Message:
    """The message with this fixed part and the octets after it; `legal` checks an endpoint. Raises MalformedPacket."""
    match fixed.code:
        case Code.FLOW_REPLY:
            return _reply(what, fixed, rest, legal)
        case Code.FLOW_REQUEST | Code.NAME_QUERY | Code.NAME_REPLY:
            if len(rest) < hash_length:
                raise MalformedPacket(what, f"{len(rest)} octets of a hash that has {hash_length}")
        case _:
            raise MalformedPacket(what, f"unknown code {fixed.code}")
    name_hash, data = rest[:hash_length], rest[hash_length:]
    if fixed.code == Code.FLOW_REQUEST:
        if not legal(fixed.source):
            raise MalformedPacket(what, f"a flow cannot have the endpoint {fixed.source}")
        return FlowRequest(fixed.source, name_hash, _qos(fixed), data)
    if data:
        raise MalformedPacket(what, f"{len(data)} octets behind the hash")
    return NameQuery(name_hash) if fixed.code == Code.NAME_QUERY else NameReply(name_hash)


def take_apart(what: str, message: Message, *, legal: Callable[[int], bool]) -> tuple[Fixed, bytes]:
    """The fixed part of a message and the octets after it. Raises UnsendablePacket."""
    match message:
        case FlowRequest(endpoint, name_hash, qos, data):
            must(legal(endpoint), what, f"a flow cannot have the endpoint {endpoint}")
            _check_hash(what, name_hash)
            fixed = Fixed(
                source=endpoint,
                loss=qos.loss,
                bandwidth=qos.bandwidth,
                ber=qos.ber,
                max_gap=qos.max_gap,
                delay=qos.delay,
                timeout=qos.timeout,
                in_order=qos.in_order,
                code=Code.FLOW_REQUEST,
                availability=qos.availability,
            )
            return fixed, name_hash + data
        case FlowReply(endpoint, to, response, data):
            must(legal(to), what, f"a flow cannot have the endpoint {to}")
            _check_response(what, response, data, sound=legal(endpoint))
            return Fixed(endpoint, to, response=response, code=Code.FLOW_REPLY), data
        case NameQuery(name_hash) | NameReply(name_hash):
            _check_hash(what, name_hash)
            code = Code.NAME_QUERY if isinstance(message, NameQuery) else Code.NAME_REPLY
            return Fixed(code=code), name_hash


def _reply(what: str, fixed: Fixed, rest: bytes, legal: Callable[[int], bool]) -> FlowReply:
    if not legal(fixed.destination):
        raise MalformedPacket(what, f"it is for the endpoint {fixed.destination}, which cannot be")
    if fixed.response == 0 and not legal(fixed.source):
        raise MalformedPacket(what, f"a flow cannot have the endpoint {fixed.source}")
    return FlowReply(fixed.source, fixed.destination, fixed.response, rest)


def _qos(fixed: Fixed) -> QoSSpec:
    return QoSSpec(
        delay=fixed.delay,
        bandwidth=fixed.bandwidth,
        availability=fixed.availability,
        loss=fixed.loss,
        ber=fixed.ber,
        in_order=fixed.in_order,
        max_gap=fixed.max_gap,
        timeout=fixed.timeout,
    )


def _check_hash(what: str, name_hash: bytes) -> None:
    must(len(name_hash) in HASH_LENGTHS.values(), what, f"no hash has {len(name_hash)} octets")


def _check_response(what: str, response: int, data: bytes, *, sound: bool) -> None:
    # A prototype looks for a handshake's header behind a positive response, and a debug build of it ends over data
    # behind a negative one (spec/common 2, 7).
    must(response <= 0, what, f"the response {response} is positive")
    must(not (response and data), what, "a refusal carries no data")
    must(bool(response) or sound, what, "the acceptor's endpoint cannot be")
