"""Messages of the flow allocator as management datagrams, and back (spec/udp 2).

Used by the UDP IPCPs; pure functions. The allocator is that of the ethernet types: their replies exchange the endpoint
ids; a reply of UDP keeps the requester's endpoint id in its place.
"""

from __future__ import annotations

from ipcpd.wire import udp as wire
from ipcpd.wire.link import FlowReply, FlowRequest
from ouroboros.wire import MalformedPacket


def decode(datagram: bytes) -> FlowRequest | FlowReply:
    """The message that a management datagram carries. Raises MalformedPacket."""
    match wire.decode(datagram):
        case wire.FlowRequest(requester, name, qos, data):
            return FlowRequest(requester, name, qos, data)
        case wire.FlowReply(requester, acceptor, response, data):
            return FlowReply(acceptor, requester, response, data)
    raise MalformedPacket("UDP management message", "it is data")


def encode(message: FlowRequest | FlowReply) -> bytes:
    """The datagram. Raises UnsendablePacket for a message that a prototype must not receive."""
    if isinstance(message, FlowRequest):
        return wire.encode(wire.FlowRequest(message.endpoint, message.name_hash, message.qos, message.data))
    return wire.encode(wire.FlowReply(message.to, message.endpoint, message.response, message.data))
