"""The check that a reply belongs to a request (spec/oap 6), and the refusals, of every allocation handshake: with certificates and
encryption or without.

Used by the IRMd; pure functions. `requester` and `acceptor` have the rest.
"""

from __future__ import annotations

import hmac

from ouroboros.errors import EAUTH

from . import extension
from .algorithms import request_hash
from .extension import Extensions
from .header import Header, decode_reply


class HandshakeRefused(OSError):
    """Policy, or the result of the negotiation, forbids the flow; errno EAUTH or ECRYPT."""

    def __init__(self, number: int, reason: str) -> None:
        super().__init__(number, reason)


class ReplyRefused(OSError):
    """The reply does not belong to the request; errno EAUTH. The acceptor is not notified."""

    def __init__(self, reason: str) -> None:
        super().__init__(EAUTH, f"the reply to the flow request was refused: {reason}")


def check_reply(
    octets: bytes, request: Header, offer: Extensions | None, reply: bytes
) -> tuple[Header, frozenset[int]]:
    """The header of a reply to the request with these octets, this header and this offer; and the granted extensions.

    Raises MalformedPacket, and ReplyRefused when it does not belong to the request.
    """
    header = decode_reply(reply, digest=request.digest)
    if header.id != request.id:
        raise ReplyRefused("it has the id of another request")
    if not hmac.compare_digest(header.request_hash, request_hash(octets, request.digest)):
        raise ReplyRefused("its request hash is not that of the request")
    return header, extension.check_grant(offer, extension.decode(header.data))
