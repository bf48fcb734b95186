"""The IRMd's end of the allocation handshake: clock, random octets, files and log for the pure parts (spec/oap).

Runs on the IRMd's loop. Every flow over a layer carries a header in its request and one in the reply, whatever the type of
the layer: the acceptor cannot know the layers in between. A flow to a broadcast layer carries none. Both headers of a direct flow
are made and checked here, where its name has credentials.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Container
from dataclasses import dataclass

from ouroboros.errors import EAUTH, ECRYPT
from ouroboros.extension import Extension
from ouroboros.log import LogLimiter
from ouroboros.name_info import Requirement
from ouroboros.rpc.service import Refusal

from . import credentials, extension, offer
from .acceptor import Accepted, accept
from .credentials import Credentials, Policy, Side
from .extension import Extensions
from .header import MAX_LENGTH
from .replay import ReplayGuard
from .requester import Outcome, Requester
from .trust import Trust

log = logging.getLogger("irmd/oap")

SUPPORTED: frozenset[int] = frozenset(Extension)
"""Extensions that this system offers and grants, where they apply (`offer`)."""


@dataclass(slots=True)
class Received:
    """A request that may be answered, and its grant, which is final once the reply has been made."""

    accepted: Accepted
    granted: Extensions | None = None

    @property
    def outcome(self) -> Outcome:
        """The outcome for the accepting side."""
        kinds = frozenset(item.type for item in self.granted.items) if self.granted else frozenset()
        one = self.accepted
        return Outcome(one.data, kinds, one.negotiated.cipher, one.negotiated.key, one.certificate)


_NO_REQUIREMENT = Requirement(0)


class Oap:
    """Makes and checks the headers of this system. `clock` returns ns since 1970, `random` octets; `directory` has the
    credentials of names."""

    def __init__(
        self,
        limiter: LogLimiter,
        *,
        directory: str = "",
        supported: Container[int] = SUPPORTED,
        clock: Callable[[], int] = time.time_ns,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._limiter = limiter
        self._directory = directory
        self._supported = supported
        self._clock = clock
        self._random = random
        self._guard = ReplayGuard()
        self.trust = Trust(directory)
        self._prepared = False

    def request(
        self,
        name: str,
        policy: Policy,
        kinds: frozenset[int] = frozenset(),
        *,
        max_octets: int = MAX_LENGTH,
        layer: str = "",
        repeats: bytes = b"",
        lasts_ms: int | None = None,
        require: Requirement = _NO_REQUIREMENT,
    ) -> Requester:
        """A new request: no two are the same, and one is never sent twice (spec/common COM-22). Raises Refusal.

        kinds  extensions that are wanted; those that this system has are offered
        max_octets   octets of a header that the layer carries
        repeats  the ids of unanswered requests, which this one replaces
        lasts_ms  after which the requester cancels, if that is before the layer does
        layer  for the request of an IPCP to another member, its layer: the credentials are those of the layer's name, unless
               there are some for that member
        require  of this request, beyond what the name requires. Encryption is proposed with the default algorithms where there is no
               enc.conf
        """
        try:
            ours = self._credentials(Side.CLIENT, name, policy, layer)
            if require:
                ours = ours.requiring(require)
            offered = offer.make(kinds, self._supported, repeats, lasts_ms)
            return Requester(
                name, ours, identity=self._random(16), now=self._clock(), offer=offered, max_octets=max_octets
            )
        except OSError as error:
            raise self._refuse(
                f"requests for {name}", f'no flow to "{name}" can be requested: {_reason(error)}', error
            ) from None

    def received(
        self, octets: bytes, name: str, policy: Policy, layer: str, kinds: frozenset[int] = frozenset()
    ) -> Received:
        """Check the header of a request that arrived. Offered extensions in `kinds` will be granted, if this system has
        them. Raises Refusal: EAUTH, or ECRYPT."""
        try:
            ours = self._credentials(Side.SERVER, name, policy)
            accepted = accept(octets, ours, self._guard, self.trust, now=self._clock(), layer=layer)
        except OSError as error:
            raise self._refuse(
                f"requests {_over(layer)}",
                f'refused a flow to "{name}" {_over(layer)}: {_reason(error)}',
                error,
                f'the flow to "{name}" was refused: {_reason(error)}',
            ) from None
        granting = frozenset(kind for kind in kinds if kind in self._supported)
        return Received(accepted, extension.grant(accepted.offer, granting))

    def reply(self, received: Received, name: str, *, max_octets: int = MAX_LENGTH) -> bytes:
        """The header of the reply to a request; its time is that of the reply. `max_octets` as for a request. Raises
        Refusal."""
        try:
            octets, received.granted = received.accepted.reply(
                now=self._clock(), granted=received.granted, max_octets=max_octets
            )
            return octets
        except OSError as error:
            text = f'a flow to "{name}" cannot be accepted: {_reason(error)}'
            raise self._refuse(f"replies for {name}", text, error) from None

    def complete(self, request: Requester, reply: bytes, name: str, layer: str) -> Outcome:
        """Check the header of the reply to a request. Raises Refusal: then there is no flow."""
        try:
            return request.complete(reply, self.trust, now=self._clock())
        except OSError as error:
            text = (
                f'the reply to a request for a flow to "{name}" {_over(layer)} is not good: {_reason(error)}'
            )
            raise self._refuse(f"replies {_over(layer)}", text, error) from None

    def prepare(self, *, needed: bool = False) -> threading.Thread | None:
        """Load the cryptographic library in a thread, if there are credentials (or `needed`): otherwise the first secure flow would
        delay all others for some 70 ms. The thread does nothing else, and ends."""
        if self._prepared or not (needed or credentials.any_below(self._directory)):
            return None
        self._prepared = True
        thread = threading.Thread(target=_load, name="irmd-oap", daemon=True)
        thread.start()
        return thread

    def direct(
        self, name: str, policy: Policy, require: Requirement = _NO_REQUIREMENT
    ) -> tuple[Outcome, Outcome]:
        """The handshake of a flow between two processes of this system: the outcomes for requester and acceptor. `require` as for
        `request`. Raises Refusal."""
        try:
            if not require and self._credentials(Side.CLIENT, name, policy).plain:
                if self._credentials(Side.SERVER, name, policy).plain:
                    return _NOTHING
        except OSError:
            pass  # the code below meets the same error, and reports it
        request = self.request(name, policy, require=require)
        received = self.received(request.octets, name, policy, "")
        return self.complete(request, self.reply(received, name), name, ""), received.outcome

    def _credentials(self, side: Side, name: str, policy: Policy, otherwise: str = "") -> Credentials:
        """Raises OSError; also where the name wants an algorithm that this version does not have."""
        return credentials.read(self._directory, side, name, policy, otherwise=otherwise)

    def _refuse(self, about: str, line: str, error: Exception, text: str = "") -> Refusal:
        self._limiter.warning(about, "%s", line)
        number = error.errno if isinstance(error, OSError) else 0
        return Refusal(ECRYPT if number == ECRYPT else EAUTH, text or line)


_NOTHING = (Outcome(), Outcome())


def _load() -> None:
    from . import certificate, crypto  # noqa: F401

    log.info("credentials are there: the cryptographic library is loaded")


def _over(layer: str) -> str:
    return f"over layer {layer}" if layer else "within this system"


def _reason(error: Exception) -> str:
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)
