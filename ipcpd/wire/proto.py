"""Protobuf messages on the wire: a missing field is an error, an unknown one is ignored (spec/common COM-3).

Used by the codecs beside it; pure functions. Fields are written in ascending order, required ones always: as the C library of the
prototype does too, so the octets are the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from google.protobuf.message import DecodeError, EncodeError

from ouroboros.wire import MalformedPacket, UnsendablePacket, must

if TYPE_CHECKING:
    from google.protobuf.message import Message

AnyMessage = TypeVar("AnyMessage", bound="Message")


def parse(kind: type[AnyMessage], octets: bytes, what: str, *, most: int) -> AnyMessage:
    """The message in at most `most` octets. Raises MalformedPacket."""
    if len(octets) > most:
        raise MalformedPacket(what, f"{len(octets)} octets, {most} is the most")
    try:
        message = kind.FromString(octets)
    except DecodeError as error:
        raise MalformedPacket(what, " ".join(str(error).split()) or "not protobuf") from None
    if not message.IsInitialized():
        raise MalformedPacket(what, "a required field is missing")
    return message


def serialize(message: Message, what: str, *, most: int) -> bytes:
    """The message in at most `most` octets. Raises UnsendablePacket."""
    try:
        octets = message.SerializeToString(deterministic=True)
    except EncodeError as error:
        raise UnsendablePacket(what, str(error)) from None
    must(len(octets) <= most, what, f"it has {len(octets)} octets, {most} is the most")
    return octets


def fits(value: int, bits: int, what: str, field: str, *, signed: bool = False) -> int:
    """`value`, which fits the field. Raises UnsendablePacket when it does not."""
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    must(low <= value <= high, what, f"{field} is {value}")
    return value
