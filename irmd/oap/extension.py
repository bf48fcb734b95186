"""Extensions: features that a prototype does not have, negotiated in the allocation handshake (docs/design/wire.md).

Used by the IRMd; pure functions. The requester *offers* items in the data field of its header; the acceptor *grants*, in the
data field of the reply, those that it knows and wants, each with a value of its choice. A prototype ignores an offer and makes
none, so it never gets a grant; an extension without a grant is off for that flow.

On the wire each item is type (16 bits), length (16 bits), value, all in network order. The first item is the marker, which
distinguishes extensions from other data that may be put there one day; its value is the version of this scheme, one octet.
An end keeps items of unknown types, and ignores them.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from struct import Struct
from typing import NamedTuple

from ouroboros.wire import MalformedPacket, UnsendablePacket, pack

MARKER = 0x4F37  # "O7"
VERSION = 1
REPEATS = 0x0100
"""Type of the item by which a request replaces unanswered ones, with the ids in the value. It is not
granted. A prototype treats the request as a new one."""
_ID = 16
LASTS = 0x0101
"""Type of the item with the time in ms, 32 bits, that its requester waits for an answer. It is not granted."""
_LASTS = Struct(">I")

MAX_LENGTH = 256  # octets of all items: a handshake has to fit one packet
MAX_ITEMS = 32

_HEAD = Struct(">HH")
_FIRST = Struct(">HHB")  # the marker
_WHAT = "extensions of an allocation handshake"
_OURS = f"the {_WHAT}"


class Item(NamedTuple):
    """One item. `type` is a plain number: it may be one that only the other end knows."""

    type: int
    value: bytes = b""


@dataclass(frozen=True, slots=True)
class Extensions:
    """The items of an offer or of a grant, each type once."""

    items: tuple[Item, ...] = ()
    version: int = VERSION

    def value(self, kind: int) -> bytes | None:
        """The value of the item of this type; None when there is none."""
        for item in self.items:
            if item.type == kind:
                return item.value
        return None


def repeated_ids(offer: Extensions | None) -> tuple[bytes, ...]:
    """The ids of the requests that this one repeats."""
    value = (offer.value(REPEATS) if offer else None) or b""
    return tuple(value[at : at + _ID] for at in range(0, len(value), _ID))


def lasting(milliseconds: int) -> Item:
    """The item for a requester that waits for this time."""
    return Item(LASTS, _LASTS.pack(min(max(milliseconds, 0), 0xFFFFFFFF)))


def lasts(offer: Extensions | None) -> float | None:
    """The seconds that the requester waits; None without the item."""
    value = None if offer is None else offer.value(LASTS)
    return _LASTS.unpack(value)[0] / 1000 if value is not None and len(value) == _LASTS.size else None


def is_data(data: bytes) -> bool:
    """Whether a data field holds data for the application, and no extensions."""
    return data[: _HEAD.size] != _HEAD.pack(MARKER, 1)


def decode(data: bytes) -> Extensions | None:
    """The extensions in a data field; None when it holds none, as a prototype's. Raises MalformedPacket."""
    if is_data(data):
        return None
    if not _FIRST.size <= len(data) <= MAX_LENGTH:
        raise MalformedPacket(_WHAT, f"{len(data)} octets, {MAX_LENGTH} is the most")
    items, at = [], _FIRST.size
    while at < len(data):
        if len(data) - at < _HEAD.size:
            raise MalformedPacket(_WHAT, "an item is cut")
        kind, length = _HEAD.unpack_from(data, at)
        at += _HEAD.size
        if length > len(data) - at:
            raise MalformedPacket(
                _WHAT, f"item {kind} has a length of {length} octets, {len(data) - at} are there"
            )
        items.append(Item(kind, data[at : at + length]))
        at += length
    kinds = {item.type for item in items}
    if len(kinds) != len(items) or MARKER in kinds or len(kinds) > MAX_ITEMS:
        raise MalformedPacket(_WHAT, "an item is there twice, or there are too many")
    return Extensions(tuple(items), data[_HEAD.size])


def encode(extensions: Extensions) -> bytes:
    """The data field for these extensions. Raises UnsendablePacket."""
    items = extensions.items
    kinds = {item.type for item in items}
    if len(kinds) != len(items) or MARKER in kinds:
        raise UnsendablePacket(_OURS, "an item is there twice")
    if len(kinds) > MAX_ITEMS:
        raise UnsendablePacket(_OURS, f"{len(kinds)} items are too many")
    parts = [pack(_FIRST, _OURS, MARKER, 1, extensions.version)]
    for kind, value in items:
        parts += (pack(_HEAD, _OURS, kind, len(value)), value)
    data = b"".join(parts)
    if len(data) > MAX_LENGTH:
        raise UnsendablePacket(_OURS, f"they have {len(data)} octets, {MAX_LENGTH} is the most")
    return data


def grant(offer: Extensions | None, grantable: Container[int]) -> Extensions | None:
    """The grant of an acceptor that grants the types `grantable`, values as offered; None: no data field."""
    if offer is None:
        return None
    return Extensions(
        tuple(item for item in offer.items if item.type in grantable), min(VERSION, offer.version)
    )


def check_grant(offer: Extensions | None, granted: Extensions | None) -> frozenset[int]:
    """The types that are on for the flow. Raises MalformedPacket when more was granted than offered."""
    if granted is None:
        return frozenset()
    kinds = frozenset(item.type for item in granted.items)
    if offer is None or not kinds <= {item.type for item in offer.items}:
        raise MalformedPacket(_WHAT, "granted an item that was not offered")
    return kinds
