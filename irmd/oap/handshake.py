"""The plain allocation handshake: no encryption, no certificates (spec/oap 3, 5, 6).

Used by the IRMd; pure functions, with ids and times as arguments. The requester makes a request and checks the reply against
it; the acceptor checks the request (`ReplayGuard`) and makes the reply, which contains the hash of the request's octets. Certificates
and encryption are in `requester` and `acceptor`.
"""

from __future__ import annotations

import hmac

from ouroboros.errors import EAUTH
from ouroboros.wire import MalformedPacket

from . import extension
from .algorithms import request_hash
from .extension import Extensions
from .header import Header, decode_reply, decode_request, encode
from .replay import ReplayGuard


class HandshakeRefused(OSError):
    """Policy, or the result of the negotiation, forbids the flow; errno EAUTH or ECRYPT."""

    def __init__(self, number: int, reason: str) -> None:
        super().__init__(number, reason)


class ReplyRefused(OSError):
    """The reply does not belong to the request; errno EAUTH. The acceptor is not notified."""

    def __init__(self, reason: str) -> None:
        super().__init__(EAUTH, f"the reply to the flow request was refused: {reason}")


def make_request(*, identity: bytes, now: int, offer: Extensions | None = None) -> bytes:
    """A plain request: `identity` is 16 random octets, new for every request; `now` is ns since 1970."""
    return encode(Header(identity, now, data=extension.encode(offer) if offer else b""))


def accept_request(octets: bytes, guard: ReplayGuard, *, now: int) -> tuple[Header, Extensions | None]:
    """The header of a request, and its offer. Raises MalformedPacket, and Refused when time or id is wrong.

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
    """The header of a reply to the request, and the granted extensions.

    Raises MalformedPacket, and ReplyRefused when it does not belong to the request.
    """
    asked = decode_request(request)
    header = decode_reply(reply, digest=asked.digest)
    if header.id != asked.id:
        raise ReplyRefused("it has the id of another request")
    if not hmac.compare_digest(header.request_hash, request_hash(request, asked.digest)):
        raise ReplyRefused("its request hash is not that of the request")
    return header, extension.check_grant(extension.decode(asked.data), extension.decode(header.data))
