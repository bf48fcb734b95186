"""Contents of the packets of a flow: components of IPCPs, layers on top, or an application's data. Runs in the tool.

Takes a packet at the place where the end of a flow receives it, removes protection and FRCP header (`frcp`), and decodes
the payload as the content of that flow (`flows`). The payload of a unicast layer's flow is decoded here again, one layer up.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import replace
from functools import partial
from typing import TypeVar

from ipcpd.wire import address, connmgr, dht, dt, enrol, fa, link_state
from irmd.oap.algorithms import Cipher
from ouroboros.wire import MalformedPacket

from . import frcp, handshake
from .flows import Content, Flow, Flows
from .layer import Packet

Value = TypeVar("Value")

_CONTROL = 12  # octets of an FRCP packet without data


class Contents:
    """The packets of all flows of a capture."""

    def __init__(self, flows: Flows, *, hash_length: int) -> None:
        self._flows = flows
        self._hash_length = hash_length

    def packet(self, packet: Packet, place: Hashable, octets: bytes) -> None:
        """Add the layers of a packet that is received at `place`. Raises MalformedPacket."""
        flow, from_requester = self._flows.receiver(place)
        packet.data = octets
        if not octets:
            packet.add("keep-alive", None, lambda payload: payload)
            return
        if not _ends(packet, flow):
            return
        self._content(packet, flow, from_requester)
        packet.guessed |= flow.guessed

    def _content(self, packet: Packet, flow: Flow, from_requester: bool) -> None:
        if not packet.data:
            return
        if flow.qos is None and flow.content is Content.UNKNOWN:
            if _record(packet, flow):
                return
            flow.guessed = self._guess(packet.data, flow)
        elif flow.qos is not None and from_requester not in flow.senders:
            flow.senders.add(from_requester)
            if (flow.introduced or flow.content is Content.UNKNOWN) and _record(packet, flow):
                return
        match flow.content:
            case Content.UNKNOWN:
                # A flow whose first packet is no connection record belongs to an application.
                flow.content = Content.APPLICATION if flow.qos else Content.UNKNOWN
            case Content.ENROLMENT:
                _enrolment(packet, flow, from_requester)
            case Content.MANAGEMENT:
                _leaf(packet, "link state", link_state.decode, link_state.encode)
            case Content.DATA_TRANSFER:
                self._data_transfer(packet)

    def _guess(self, octets: bytes, flow: Flow) -> bool:
        """Whether the octets reveal the content of a flow whose allocation was not captured."""
        for content, fits in (
            (Content.DATA_TRANSFER, self._fits_data_transfer),
            (Content.MANAGEMENT, link_state.decode),
        ):
            try:
                fits(octets)
            except MalformedPacket:
                continue
            flow.content = content
            return True
        return False

    def _fits_data_transfer(self, octets: bytes) -> None:
        packet = dt.decode(octets)
        if packet.eid == address.FLOW_ALLOCATOR:
            fa.decode(packet.payload, hash_length=self._hash_length)
        else:
            dht.decode(packet.payload, key_length=self._hash_length)

    def _data_transfer(self, packet: Packet) -> None:
        decoded = dt.decode(packet.data)
        packet.add("data transfer", decoded, partial(_dt, decoded), "payload")
        packet.data = decoded.payload
        if decoded.eid == address.DIRECTORY:
            _leaf(packet, "directory", partial(dht.decode, key_length=self._hash_length), dht.encode)
        elif decoded.eid == address.FLOW_ALLOCATOR:
            self._flow_allocator(packet, decoded.destination)
        else:
            self.packet(packet, ("unicast", decoded.destination, decoded.eid), decoded.payload)

    def _flow_allocator(self, packet: Packet, destination: int) -> None:
        message = fa.decode(packet.data, hash_length=self._hash_length)
        inner = "" if isinstance(message, fa.FlowUpdate) else "data"
        packet.add("flow allocator", message, partial(_fa, message), inner)
        packet.data = b""
        match message:
            case fa.FlowRequest(source, eid, _, qos, data):
                asked = handshake.request(packet, data)
                self._flows.request(("unicast", source, eid), qos, asked, destination)
            case fa.FlowReply(to, eid, response, data):
                requester = ("unicast", destination, to)
                flow = self._flows.requested(requester)
                granted = handshake.reply(packet, data, flow.digest)
                if response == 0:
                    # The reply does not carry its sender's address; the request carried it as its destination.
                    self._flows.reply(requester, ("unicast", flow.acceptor, eid), flow, granted)


def _ends(packet: Packet, flow: Flow) -> bool:
    """Remove protection and FRCP header of a packet; False when its payload cannot be read."""
    qos = flow.qos
    bare = qos is not None and qos.in_order and len(packet.data) == _CONTROL  # prototypes do not check these
    if qos is not None and qos.ber == 0 and not bare:
        check, packet.data = frcp.Check.decode(packet.data)
        packet.add("crc", check, check.encode)
    if flow.cipher is not Cipher.NONE:
        encrypted, packet.data = frcp.Encrypted.decode(packet.data, flow.cipher)
        packet.add("encrypted", encrypted, encrypted.encode)
        return False
    if qos is not None and qos.in_order:
        header, packet.data = frcp.Header.decode(packet.data)
        packet.add("frcp", header, header.encode)
    return True


def _record(packet: Packet, flow: Flow) -> bool:
    """Whether the first packet in a direction is a connection record: then the layer is added."""
    try:
        record = connmgr.decode(packet.data)
    except MalformedPacket:
        if not flow.introduced:
            return False
        raise
    flow.introduce(record)
    packet.add("connection", record, lambda _: connmgr.encode(record))
    packet.data = b""
    return True


def _enrolment(packet: Packet, flow: Flow, from_requester: bool) -> None:
    if not from_requester:
        _leaf(packet, "enrolment response", enrol.decode_response, enrol.encode_response)
    elif flow.requested:
        _leaf(packet, "enrolment ack", enrol.decode_acknowledgement, enrol.encode_acknowledgement)
    else:
        flow.requested = True
        _leaf(packet, "enrolment request", enrol.decode_request, enrol.encode_request)


def _leaf(
    packet: Packet, name: str, decode: Callable[[bytes], Value], encode: Callable[[Value], bytes]
) -> None:
    value = decode(packet.data)
    packet.add(name, value, lambda _: encode(value))
    packet.data = b""


def _dt(decoded: dt.Packet, payload: bytes) -> bytes:
    return dt.encode(replace(decoded, payload=payload))


def _fa(message: fa.Message, data: bytes) -> bytes:
    return fa.encode(message if isinstance(message, fa.FlowUpdate) else replace(message, data=data))
