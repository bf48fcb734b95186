"""Octets of the upper half: data transfer, flow allocator, link state, directory (spec/dt, spec/fa, spec/link-state, spec/dht).

Used by the prototype of the tests, as `lower` is.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from .lower import NO_QOS, Qos, check_address
from .octets import Message, Wrong, write

DT = struct.Struct("<IBBBQ")
FA = struct.Struct(">QQQQiIIIIIHBBB")
LSM = struct.Struct(">QQQ")
FLOW_ALLOCATOR, DIRECTORY = 0, 1
NO_EID = (1 << 64) - 1
REQUEST, REPLY, UPDATE = 0, 1, 2
EXTENDED_LSM = 32
"""Octets of link-state messages between two Python members: 0.23 drops messages of other lengths than 24."""


@dataclass(frozen=True, slots=True)
class Packet:
    """A data transfer packet."""

    dst: int
    cube: int
    ttl: int
    ecn: int
    eid: int
    payload: bytes

    def write(self) -> bytes:
        return DT.pack(self.dst, self.cube, self.ttl, self.ecn, self.eid) + self.payload


def read_packet(octets: bytes, max_ttl: int) -> Packet:
    """spec/dt; raises Wrong."""
    if len(octets) < DT.size:
        raise Wrong(f"a data transfer packet of {len(octets)} octets")
    dst, cube, ttl, ecn, eid = DT.unpack_from(octets)
    packet = Packet(dst, cube, ttl, ecn, eid, octets[DT.size :])
    if not packet.dst:
        raise Wrong("a packet to address 0")
    if packet.cube > 2:
        raise Wrong(f"QoS cube {packet.cube}")
    if not 0 < packet.ttl <= max_ttl:
        raise Wrong(f"TTL {packet.ttl}: 0.23 takes 0 for 255, and a layer's packets have at most {max_ttl}")
    if 1 < packet.eid < 64 or packet.eid == NO_EID:
        raise Wrong(f"endpoint id {packet.eid:#x}")
    return packet


@dataclass(frozen=True, slots=True)
class FaMessage:
    """A flow allocator's message; `to` and `eid` are the receiver's and the sender's endpoint ids."""

    code: int
    source: int = 0
    to: int = 0
    eid: int = 0
    response: int = 0
    qos: Qos = NO_QOS
    congestion: int = 0
    key: bytes = b""
    data: bytes = b""

    def write(self) -> bytes:
        q = self.qos
        numbers = (self.source, self.to, self.eid, q.bandwidth, self.response)
        times = (q.delay, q.loss, q.ber, q.max_gap, q.timeout)
        tail = (self.congestion, self.code, q.availability, q.in_order)
        return FA.pack(*numbers, *times, *tail) + self.key + self.data


def read_fa(payload: bytes, hash_length: int) -> FaMessage:
    """spec/fa 1, FA-3; raises Wrong."""
    if not FA.size <= len(payload) <= 2048:
        raise Wrong(f"a flow allocator's message of {len(payload)} octets; it may have 61 to 2048")
    source, to, eid, bandwidth, response, delay, loss, ber, gap, timeout = FA.unpack_from(payload)[:10]
    congestion, code, nines, order = FA.unpack_from(payload)[10:]
    qos = Qos(delay, bandwidth, nines, loss, ber, order, gap, timeout)
    rest = payload[FA.size :]
    length = hash_length if code == REQUEST else 0
    message = FaMessage(code, source, to, eid, response, qos, congestion, rest[:length], rest[length:])
    if code == REQUEST:
        _check_request(message, len(rest) - hash_length)
    elif code in (REPLY, UPDATE):
        _check_answer(message)
    else:
        raise Wrong(f"code {code}")
    return message


def _check_request(message: FaMessage, data: int) -> None:
    check_address(message.source)
    _check_eid(message.eid)
    if message.to or message.response or message.congestion:
        raise Wrong("a request with fields that it has not")
    if data < 36:
        raise Wrong(f"a request with {data} octets behind the hash")
    if message.qos.in_order and not message.qos.ber:
        raise Wrong("FRCP with a checksum: acknowledgements of 0.23 have none")


def _check_answer(message: FaMessage) -> None:
    _check_eid(message.to)
    if message.source or message.qos != NO_QOS:
        raise Wrong("an answer with a source address or a QoS")
    if message.code == UPDATE:
        if message.eid or message.response or message.data:
            raise Wrong("an update with fields that it has not")
        return
    if message.congestion:
        raise Wrong("a reply with a congestion level")
    if message.response > 0 or (message.response and message.data):
        raise Wrong(f"response {message.response} with {len(message.data)} octets of data")
    if not message.response:
        _check_eid(message.eid)


def _check_eid(eid: int) -> None:
    if eid < 64 or eid == NO_EID:
        raise Wrong(f"a flow has the endpoint id {eid:#x}, which ends 0.23")


@dataclass(frozen=True, slots=True)
class Link:
    """A link-state message: `source` has a link to `target`."""

    target: int
    source: int
    sequence: int

    def write(self) -> bytes:
        return LSM.pack(self.target, self.source, self.sequence)


def read_link(packet: bytes, own: int) -> Link | None:
    """spec/link-state 1; None for a message that 0.23 drops by its length. `own`: the address of the receiver. Raises Wrong."""
    if len(packet) not in (LSM.size, EXTENDED_LSM):
        raise Wrong(f"a link-state message of {len(packet)} octets")
    link = Link(*LSM.unpack_from(packet))
    check_address(link.target)
    check_address(link.source)
    if link.target == link.source:
        raise Wrong("a link from a member to itself")
    if len(packet) == EXTENDED_LSM:
        return None
    if link.source == own:
        raise Wrong("a link of the reader's own: 0.23 adopts it and refreshes it for ever")
    return link


# ---------------------------------------------------------------- directory

STORE, FIND_NODE, NODE_REPLY, FIND_VALUE, VALUE_REPLY = range(5)


@dataclass(frozen=True, slots=True)
class Contact:
    """A node of the directory."""

    id: bytes
    address: int

    def write(self) -> bytes:
        return write((1, self.id), (2, self.address))


@dataclass(frozen=True, slots=True)
class DhtMessage:
    """A message of the directory; fields that its code does not use are empty."""

    code: int
    source: Contact
    key: bytes
    cookie: int = 0
    value: bytes = b""
    expires: int = 0
    contacts: tuple[Contact, ...] = ()
    values: tuple[bytes, ...] = ()

    def write(self) -> bytes:
        head = ((1, self.code), (2, self.source.write()))
        if self.code == STORE:
            return write(*head, (3, write((1, self.key), (2, self.value), (3, self.expires))))
        if self.code in (FIND_NODE, FIND_VALUE):
            return write(*head, (4, write((1, self.cookie), (2, self.key))))
        contacts = ((3, contact.write()) for contact in self.contacts)
        node = (5, write((1, self.cookie), (2, self.key), *contacts))
        if self.code == NODE_REPLY:
            return write(*head, node)
        return write(*head, node, (6, write(*((1, value) for value in self.values))))


def read_dht(payload: bytes, hash_length: int) -> DhtMessage:
    """spec/dht 1, DHT-4; raises Wrong."""
    parts = Message(payload, numbers=(1,), texts=(2,), maybe=(3, 4, 5, 6))
    code = parts.number(1)
    needed = {STORE: {3}, FIND_NODE: {4}, NODE_REPLY: {5}, FIND_VALUE: {4}, VALUE_REPLY: {5, 6}}
    if code not in needed:
        raise Wrong(f"code {code}: 0.23 reads behind a table")
    if {part for part in (3, 4, 5, 6) if parts.has(part)} != needed[code]:
        raise Wrong(f"code {code} without its parts, or with others")
    source = _contact(parts.text(2), hash_length)
    if code == STORE:
        message = _store(source, Message(parts.text(3), numbers=(3,), texts=(1, 2)))
    elif code in (FIND_NODE, FIND_VALUE):
        find = Message(parts.text(4), numbers=(1,), texts=(2,))
        message = DhtMessage(code, source, find.text(2), find.number(1))
    else:
        message = _answer(code, source, parts, hash_length)
    if len(message.key) != hash_length:
        raise Wrong(f"a key of {len(message.key)} octets")
    if code != STORE and not message.cookie:
        raise Wrong("cookie 0")
    if message.write() != payload:
        raise Wrong("other octets than 0.23 writes")
    return message


def _contact(octets: bytes, hash_length: int) -> Contact:
    message = Message(octets, numbers=(2,), texts=(1,))
    if len(message.text(1)) != hash_length:
        raise Wrong(f"a node id of {len(message.text(1))} octets")
    check_address(message.number(2))
    return Contact(message.text(1), message.number(2))


def _store(source: Contact, store: Message) -> DhtMessage:
    _check_value(store.text(2))
    return DhtMessage(STORE, source, store.text(1), value=store.text(2), expires=store.unsigned(3))


def _answer(code: int, source: Contact, parts: Message, hash_length: int) -> DhtMessage:
    node = Message(parts.text(5), numbers=(1,), texts=(2,), many=(3,))
    contacts = tuple(_contact(octets, hash_length) for octets in node.all(3))
    if not contacts:
        raise Wrong("an answer without a contact")
    values: tuple[bytes, ...] = ()
    if code == VALUE_REPLY:
        values = tuple(Message(parts.text(6), many=(1,)).all(1))
        if len(values) > 8:
            raise Wrong(f"{len(values)} values in an answer")
        for value in values:
            _check_value(value)
    return DhtMessage(code, source, node.text(2), node.number(1), contacts=contacts, values=values)


def _check_value(value: bytes) -> None:
    if len(value) != 8:
        raise Wrong(f"a value of {len(value)} octets")
    check_address(int.from_bytes(value, "big"))
