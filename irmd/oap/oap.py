"""The IRMd's end of the allocation handshake: what the pure parts need of the world, and what they refuse (wire-lower 5).

Runs on the IRMd's loop. Every flow over a layer carries a header in its request and one in the reply, whatever the type of
the layer: the acceptor cannot know what is in between. A flow to a broadcast layer, and a direct flow, carry none.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Container
from dataclasses import dataclass

from ouroboros.errors import EAUTH, ECRYPT
from ouroboros.wire import MalformedPacket

from .. import refused
from ..complaints import Complaints
from . import extension, handshake
from .extension import Extensions
from .header import Header
from .replay import Refused, ReplayGuard

SUPPORTED: frozenset[int] = frozenset()
"""Extensions that this system offers and grants."""


@dataclass(frozen=True, slots=True)
class Received:
    """A request that may be answered: its octets, what it carried for the application, and what is granted."""

    request: bytes
    data: bytes = b""
    granted: Extensions | None = None

    @property
    def extensions(self) -> frozenset[int]:
        """The types that are on for the flow."""
        return frozenset(item.type for item in self.granted.items) if self.granted else frozenset()


@dataclass(frozen=True, slots=True)
class Agreed:
    """What came of a handshake, for the requester."""

    data: bytes
    extensions: frozenset[int]


class Oap:
    """Makes and checks the headers of this system. `clock` tells ns since 1970, `random` gives octets."""

    def __init__(
        self,
        complaints: Complaints,
        *,
        supported: Container[int] = SUPPORTED,
        offer: Extensions | None = None,
        clock: Callable[[], int] = time.time_ns,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._complaints = complaints
        self._supported = supported
        self._offer = offer
        self._clock = clock
        self._random = random
        self._guard = ReplayGuard()

    def request(self) -> bytes:
        """The header of a new request: no two are the same, and one is never sent twice (wire-lower 11.13)."""
        return handshake.make_request(identity=self._random(16), now=self._clock(), offer=self._offer)

    def received(self, octets: bytes, name: str, layer: str) -> Received:
        """Check the header of a request that arrived. Raises refused.Refused: EAUTH, or ECRYPT."""
        try:
            header, offer = handshake.accept_request(octets, self._guard, now=self._clock())
            _check_plain(header)
        except (MalformedPacket, Refused) as error:
            raise self._refuse(EAUTH, name, layer, error) from None
        except _NotPlain as error:
            raise self._refuse(error.errno or ECRYPT, name, layer, error) from None
        data = header.data if extension.is_data(header.data) else b""
        return Received(octets, data, extension.grant(offer, self._supported))

    def reply(self, received: Received) -> bytes:
        """The header of the reply to a request; its time is that of the reply."""
        return handshake.make_reply(received.request, now=self._clock(), granted=received.granted)

    def complete(self, request: bytes, reply: bytes, name: str, layer: str) -> Agreed:
        """Check the header of the reply to our request. Raises refused.Refused(EAUTH): there is no flow then."""
        try:
            header, extensions = handshake.check_reply(request, reply)
        except (MalformedPacket, handshake.ReplyRefused) as error:
            why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            self._complaints.warn(
                f"replies over layer {layer}",
                'the reply to a request for a flow to "%s" over layer %s is not good: %s',
                name,
                layer,
                why,
            )
            raise refused.Refused(
                EAUTH,
                f'the reply to the request for a flow to "{name}" over layer "{layer}" is not good: {why}',
            ) from None
        return Agreed(header.data if extension.is_data(header.data) else b"", extensions)

    def _refuse(self, error: int, name: str, layer: str, why: Exception) -> refused.Refused:
        text = why.strerror if isinstance(why, OSError) and why.strerror else str(why)
        self._complaints.warn(
            f"requests over layer {layer}", 'refused a flow to "%s" over layer %s: %s', name, layer, text
        )
        return refused.Refused(error, f'the flow to "{name}" was refused: {text}')


class _NotPlain(OSError):
    """A request asks for what this version does not have."""


def _check_plain(header: Header) -> None:
    if header.certificate:
        raise _NotPlain(EAUTH, "it has a certificate, and this system has no authority to check it with")
    if header.kex:
        raise _NotPlain(ECRYPT, "it asks for encryption, which this system does not have")
