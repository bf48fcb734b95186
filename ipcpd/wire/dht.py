"""Directory: the messages of the distributed hash table (paper 5.3, spec/dht 1).

Used by the control plane of the unicast IPCP and by `ocap`; pure functions. A message is the payload of a data transfer packet
to endpoint id 1. All ids, and all keys, have the length of the layer's hash. Never sent, because a prototype does not
survive them: other codes than these, and answers without a contact.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from ouroboros.wire import HASH_LENGTHS, MalformedPacket, UnsendablePacket, must

from . import dht_pb2, proto
from .address import legal_address

MAX_MESSAGE = 4096  # octets
MAX_VALUES = 8  # in an answer
MAX_CONTACTS = 20  # in a Python member's answer: the largest k; a prototype may have been given a larger one
MAX_VALUE = 64  # octets; the address of a member has 8
_WHAT = "directory message"


class Code(IntEnum):
    """The number of a message."""

    STORE = 0
    FIND_NODE = 1
    FIND_NODE_REPLY = 2
    FIND_VALUE = 3
    FIND_VALUE_REPLY = 4


@dataclass(frozen=True, slots=True)
class Contact:
    """A node: its id in the table and its address in the layer."""

    id: bytes
    address: int


@dataclass(frozen=True, slots=True)
class Store:
    """Keep `value` under `key` until `expires` (seconds since 1970). There is no answer."""

    source: Contact
    key: bytes
    value: bytes
    expires: int


@dataclass(frozen=True, slots=True)
class FindNode:
    """Which nodes are near `key`? The answer repeats key and cookie."""

    source: Contact
    cookie: int
    key: bytes


@dataclass(frozen=True, slots=True)
class FindValue:
    """Which values are kept under `key`? The answer repeats key and cookie."""

    source: Contact
    cookie: int
    key: bytes


@dataclass(frozen=True, slots=True)
class FindNodeReply:
    """Nodes near `key`."""

    source: Contact
    cookie: int
    key: bytes
    contacts: tuple[Contact, ...]


@dataclass(frozen=True, slots=True)
class FindValueReply:
    """Values under `key`, and nodes near it."""

    source: Contact
    cookie: int
    key: bytes
    contacts: tuple[Contact, ...]
    values: tuple[bytes, ...] = ()


Message = Store | FindNode | FindNodeReply | FindValue | FindValueReply

_FIND: dict[int, type[FindNode] | type[FindValue]] = {Code.FIND_NODE: FindNode, Code.FIND_VALUE: FindValue}


def value_of(address: int) -> bytes:
    """The value that is kept for a name: the address of a member that has registered it."""
    if not legal_address(address):
        raise UnsendablePacket("a directory value", f"nobody has the address {address:#x}")
    return address.to_bytes(8, "big")


def address_of(value: bytes) -> int:
    """The address in a value. Raises MalformedPacket."""
    address = int.from_bytes(value, "big")
    if len(value) != 8 or not legal_address(address):
        raise MalformedPacket("directory value", f"{value.hex()} is not an address")
    return address


def decode(payload: bytes, *, key_length: int) -> Message:
    """The message in a data transfer payload. Raises MalformedPacket."""
    message = proto.parse(dht_pb2.Message, payload, _WHAT, most=MAX_MESSAGE)
    source = _contact(message.src, key_length)
    code = message.code
    if code == Code.STORE:
        _part(message, "store")
        part = message.store
        _check_key(part.key, key_length)
        if not 0 < len(part.val) <= MAX_VALUE:
            raise MalformedPacket(_WHAT, f"a value of {len(part.val)} octets")
        return Store(source, part.key, part.val, part.exp)
    if code in _FIND:
        _part(message, "find")
        _check_key(message.find.key, key_length)
        return _FIND[code](source, _cookie(message.find.cookie), message.find.key)
    if code not in (Code.FIND_NODE_REPLY, Code.FIND_VALUE_REPLY):
        raise MalformedPacket(_WHAT, f"unknown code {code}")
    _part(message, "node")
    nodes = message.node
    _check_key(nodes.key, key_length)
    contacts = tuple(_contact(contact, key_length) for contact in nodes.contacts)
    if code == Code.FIND_NODE_REPLY:
        return FindNodeReply(source, _cookie(nodes.cookie), nodes.key, contacts)
    _part(message, "val")
    values = tuple(message.val.values)
    if len(values) > MAX_VALUES or not all(0 < len(value) <= MAX_VALUE for value in values):
        raise MalformedPacket(_WHAT, "too many values, or of no sensible length")
    return FindValueReply(source, _cookie(nodes.cookie), nodes.key, contacts, values)


def encode(message: Message) -> bytes:
    """The message as a data transfer payload. Raises UnsendablePacket."""
    what = f"a {_WHAT}"
    length = len(message.key)
    must(length in HASH_LENGTHS.values(), what, f"no hash has {length} octets")
    wire = dht_pb2.Message(src=_wire_contact(message.source, length, what))
    match message:
        case Store(_, key, value, expires):
            must(0 < len(value) <= MAX_VALUE, what, f"a value of {len(value)} octets")
            wire.code = Code.STORE
            wire.store.key, wire.store.val = key, value
            wire.store.exp = proto.fits(expires, 32, what, "the time of expiry")
        case FindNode(_, cookie, key) | FindValue(_, cookie, key):
            wire.code = Code.FIND_NODE if isinstance(message, FindNode) else Code.FIND_VALUE
            wire.find.cookie, wire.find.key = _sound(cookie, what), key
        case FindNodeReply(_, cookie, key, contacts) | FindValueReply(_, cookie, key, contacts):
            must(0 < len(contacts) <= MAX_CONTACTS, what, f"an answer with {len(contacts)} contacts")
            wire.code = Code.FIND_NODE_REPLY
            wire.node.cookie, wire.node.key = _sound(cookie, what), key
            wire.node.contacts.extend(_wire_contact(contact, length, what) for contact in contacts)
    if isinstance(message, FindValueReply):
        wire.code = Code.FIND_VALUE_REPLY
        must(len(message.values) <= MAX_VALUES, what, f"an answer with {len(message.values)} values")
        must(
            all(0 < len(value) <= MAX_VALUE for value in message.values),
            what,
            "a value of no sensible length",
        )
        wire.val.values.extend(message.values)
        wire.val.SetInParent()  # the part is there even when it is empty
    return proto.serialize(wire, what, most=MAX_MESSAGE)


def _part(message: dht_pb2.Message, name: str) -> None:
    if not message.HasField(name):  # type: ignore[arg-type]  # one of four literals
        raise MalformedPacket(_WHAT, f"code {message.code} without the part {name}")


def _contact(contact: dht_pb2.Contact, length: int) -> Contact:
    if len(contact.id) != length:
        raise MalformedPacket(_WHAT, f"the id of a node has {len(contact.id)} octets and not {length}")
    if not legal_address(contact.addr):
        raise MalformedPacket(_WHAT, f"nobody has the address {contact.addr:#x}")
    return Contact(contact.id, contact.addr)


def _wire_contact(contact: Contact, length: int, what: str) -> dht_pb2.Contact:
    must(len(contact.id) == length, what, f"the id of a node has {len(contact.id)} octets and not {length}")
    must(legal_address(contact.address), what, f"nobody has the address {contact.address:#x}")
    return dht_pb2.Contact(id=contact.id, addr=contact.address)


def _check_key(key: bytes, length: int) -> None:
    if len(key) != length:
        raise MalformedPacket(_WHAT, f"a key has {len(key)} octets and not {length}")


def _cookie(cookie: int) -> int:
    if not cookie:
        raise MalformedPacket(_WHAT, "its cookie is 0")
    return cookie


def _sound(cookie: int, what: str) -> int:
    must(cookie > 0, what, "its cookie is 0")
    return proto.fits(cookie, 64, what, "the cookie")
