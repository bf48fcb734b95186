"""Protobuf by hand: exactly the octets that the prototype's C library writes (spec/common COM-3).

Used by the prototype of the tests. Independent of this project's codecs, and stricter: fields ascend, every number has its shortest form,
and the reader of a message specifies its fields.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import NamedTuple

OURS = 100
"""Fields from this number on are none of the prototype's; it skips them."""


class Wrong(Exception):
    """The packet violates a rule of the specification, and may crash a prototype."""


class Field(NamedTuple):
    """A field of a message: a number (wire type 0) or octets (2); 8 octets (1) are for extensions only."""

    number: int
    kind: int
    value: int | bytes


def varint(number: int) -> bytes:
    """A number as protobuf writes it; a negative one has ten octets."""
    number &= (1 << 64) - 1
    octets = bytearray()
    while number > 0x7F:
        octets.append(number & 0x7F | 0x80)
        number >>= 7
    octets.append(number)
    return bytes(octets)


def write(*fields: tuple[int, int | bytes]) -> bytes:
    """A message with these fields, in this order."""
    message = b""
    for number, value in fields:
        if isinstance(value, int):
            message += varint(number << 3) + varint(value)
        else:
            message += varint(number << 3 | 2) + varint(len(value)) + value
    return message


def _varint(message: bytes, at: int) -> tuple[int, int]:
    number, shift, start = 0, 0, at
    while True:
        if at >= len(message) or shift > 63:
            raise Wrong("protobuf: a number that does not end")
        octet = message[at]
        number |= (octet & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not octet & 0x80:
            break
    if varint(number) != message[start:at]:
        raise Wrong("protobuf: a number that is longer than it must be")
    return number, at


def read(message: bytes) -> Iterator[Field]:
    """The fields of a message. Raises Wrong."""
    at, last = 0, 0
    while at < len(message):
        tag, at = _varint(message, at)
        number, kind = tag >> 3, tag & 7
        if number < last:
            raise Wrong(f"protobuf: field {number} behind field {last}")
        last = number
        value: int | bytes
        if kind == 0:
            value, at = _varint(message, at)
        elif kind == 2:
            length, at = _varint(message, at)
            value, at = message[at : at + length], at + length
        elif kind == 1 and number >= OURS:
            value, at = message[at : at + 8], at + 8
        else:
            raise Wrong(f"protobuf: field {number} of wire type {kind}")
        if at > len(message):
            raise Wrong(f"protobuf: field {number} ends behind the message")
        yield Field(number, kind, value)


class Message:
    """A message whose fields are known: each is there as often as it must be, and has the type that it must have.

    numbers, texts  fields that must be there once
    maybe           fields of octets that may be there once
    many            fields of octets that may be there any number of times
    """

    def __init__(
        self,
        octets: bytes,
        *,
        numbers: Collection[int] = (),
        texts: Collection[int] = (),
        maybe: Collection[int] = (),
        many: Collection[int] = (),
    ) -> None:
        self.octets = octets
        self.ours: list[Field] = []
        """Extensions, which the prototype skips."""
        self._fields: dict[int, list[int | bytes]] = {}
        for field in read(octets):
            if field.number >= OURS:
                self.ours.append(field)
                continue
            expected = 0 if field.number in numbers else 2
            if field.number not in (*numbers, *texts, *maybe, *many):
                raise Wrong(f"protobuf: field {field.number} is not in this message")
            if field.kind != expected:
                raise Wrong(f"protobuf: field {field.number} has wire type {field.kind}")
            self._fields.setdefault(field.number, []).append(field.value)
        for number in (*numbers, *texts):
            if number not in self._fields:
                raise Wrong(f"protobuf: the required field {number} is missing")
        for number, values in self._fields.items():
            if len(values) > 1 and number not in many:
                raise Wrong(f"protobuf: field {number} is there {len(values)} times")

    def number(self, number: int) -> int:
        value = self._fields[number][0]
        assert isinstance(value, int)
        return value

    def unsigned(self, number: int) -> int:
        """A uint32."""
        value = self.number(number)
        if value >= 1 << 32:
            raise Wrong(f"field {number} is {value}, which 32 bits do not hold")
        return value

    def signed(self, number: int) -> int:
        """An int32 or int64."""
        value = self.number(number)
        return value - (1 << 64) if value >> 63 else value

    def text(self, number: int) -> bytes:
        value = self._fields[number][0]
        assert isinstance(value, bytes)
        return value

    def has(self, number: int) -> bool:
        return number in self._fields

    def all(self, number: int) -> list[bytes]:
        return [value for value in self._fields.get(number, []) if isinstance(value, bytes)]
