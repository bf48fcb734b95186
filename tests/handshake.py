"""A plain allocation handshake, as a prototype makes it: both sides, with ids and times as arguments (spec/oap 3, 5, 6)."""

from __future__ import annotations

from irmd.oap import extension, handshake
from irmd.oap.algorithms import request_hash
from irmd.oap.extension import Extensions
from irmd.oap.header import Header, decode_request, encode
from irmd.oap.replay import ReplayGuard
from ouroboros.wire import MalformedPacket


def make_request(*, identity: bytes, now: int, offer: Extensions | None = None) -> bytes:
    """A plain request: `identity` is 16 random octets, new for every request; `now` is ns since 1970."""
    return encode(Header(identity, now, data=extension.encode(offer) if offer else b""))


def accept_request(octets: bytes, guard: ReplayGuard, *, now: int) -> tuple[Header, Extensions | None]:
    """The header of a request, and its offer. Raises MalformedPacket, and Refusal when time or id is wrong.

    Extensions that cannot be decoded count as no offer: they are no reason to refuse a flow.
    """
    header = decode_request(octets)
    guard.check(header.timestamp, header.id, now=now)
    try:
        return header, extension.decode(header.data)
    except MalformedPacket:
        return header, None


def make_reply(request: bytes, *, now: int, granted: Extensions | None = None) -> bytes:
    """A plain reply to the octets of a request. Raises MalformedPacket when they are none."""
    header = decode_request(request)
    reply = Header(
        header.id,
        now,
        data=extension.encode(granted) if granted else b"",
        request_hash=request_hash(request, header.digest),
    )
    return encode(reply)


def check_reply(request: bytes, reply: bytes) -> tuple[Header, frozenset[int]]:
    """The header of a reply to the octets of a request, and the granted extensions. Raises MalformedPacket and ReplyRefused."""
    asked = decode_request(request)
    return handshake.check_reply(request, asked, extension.decode(asked.data), reply)
