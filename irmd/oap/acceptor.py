"""The acceptor's side of the allocation handshake: a request that arrived, and the reply to it (spec/oap 5).

Used by the IRMd; without I/O: credentials and times are arguments. `accept` does all steps that can fail before a server is
involved; a refused request leaves no state. A fault raises an OSError with errno EAUTH or ECRYPT, or MalformedPacket.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ouroboros.errors import EAUTH, ECRYPT
from ouroboros.name_info import Requirement
from ouroboros.wire import MalformedPacket

from . import extension, kex
from .algorithms import Cipher, Hash, rank, request_hash
from .credentials import Credentials
from .extension import Extensions
from .handshake import HandshakeRefused
from .header import MAX_LENGTH, Header, decode_request
from .replay import ReplayGuard
from .requester import Authorities, sign_within, verify, weaker


@dataclass(frozen=True, slots=True)
class Negotiated:
    """The result of the key exchange: fields of the reply, and the key. Empty without a key exchange."""

    cipher: Cipher = Cipher.NONE
    kdf: Hash = Hash.NONE
    kex: bytes = b""
    hybrid: bool = False
    key: bytes = field(default=b"", repr=False)


_CLEAR = Negotiated()


@dataclass(frozen=True, slots=True)
class Accepted:
    """A request that will be answered. `offer`: the extensions it offers; `certificate`: the verified requester's, DER."""

    octets: bytes
    header: Header
    credentials: Credentials
    offer: Extensions | None
    negotiated: Negotiated = _CLEAR

    @property
    def certificate(self) -> bytes:
        return self.header.certificate

    @property
    def data(self) -> bytes:
        """Its data for the application."""
        return self.header.data if extension.is_data(self.header.data) else b""

    def reply(
        self, *, now: int, granted: Extensions | None = None, max_octets: int = MAX_LENGTH
    ) -> tuple[bytes, Extensions | None]:
        """The octets of the reply, and the grant in it: it is left out where it alone makes them more than `max_octets`. Raises OSError
        (EAUTH) when this side's key cannot sign."""
        own, agreed = self.credentials.encryption, self.negotiated
        unsigned = Header(
            self.header.id,
            now,
            cipher=agreed.cipher,
            kdf=agreed.kdf,
            digest=Hash.NONE if own is None else own.digest,
            kex=agreed.kex,
            hybrid=agreed.hybrid,
            data=extension.encode(granted) if granted else b"",
            request_hash=request_hash(self.octets, self.header.digest),
        )
        octets, sent = sign_within(unsigned, self.credentials, max_octets)
        return octets, granted if sent.data else None


def accept(
    octets: bytes,
    credentials: Credentials,
    guard: ReplayGuard,
    trust: Authorities,
    *,
    now: int,
    layer: str = "",
) -> Accepted:
    """Check a request, and negotiate its algorithms. Raises OSError (EAUTH, ECRYPT) and MalformedPacket.

    Extensions that cannot be decoded count as no offer: they are no reason to refuse a flow.
    """
    header = decode_request(octets)
    guard.examine(header.timestamp, header.id, now=now, layer=layer)
    if header.certificate:
        verify(octets, header, trust, now=now)
    elif Requirement.AUTHENTICATION in credentials.require:
        raise HandshakeRefused(EAUTH, "the requester must show a certificate, and has shown none")
    negotiated = _negotiate(header, credentials)
    guard.check(header.timestamp, header.id, now=now, layer=layer)
    try:
        offer = extension.decode(header.data)
    except MalformedPacket:
        offer = None
    return Accepted(octets, header, credentials, offer, negotiated)


def _negotiate(header: Header, credentials: Credentials) -> Negotiated:
    own = credentials.encryption
    if not header.kex:
        if own is not None:
            raise HandshakeRefused(ECRYPT, "it does not ask for encryption, and enc.conf wants it")
        if Requirement.ENCRYPTION in credentials.require:
            raise HandshakeRefused(ECRYPT, "it does not ask for encryption, and the name requires it")
        return _CLEAR
    cipher, kdf = header.cipher, header.kdf
    if own is not None:
        cipher = max(own.cipher, cipher, key=rank)
        if header.encapsulated:  # the key is derived already
            weaker("key derivation hash", kdf, own.kdf)
        else:
            kdf = max(own.kdf, kdf, key=rank)
    if cipher is Cipher.NONE:
        raise HandshakeRefused(ECRYPT, "it exchanges keys, and neither side names a cipher")
    if header.encapsulated:
        return Negotiated(cipher, kdf, key=_decapsulate(header, credentials))
    return _answer(header, credentials, cipher, kdf)


def _answer(header: Header, credentials: Credentials, cipher: Cipher, kdf: Hash) -> Negotiated:
    """The acceptor's part of a key exchange that the requester has begun with its own key."""
    from . import crypto

    try:
        theirs = kex.decode(header.kex, hybrid=header.hybrid)
    except MalformedPacket as error:
        raise HandshakeRefused(ECRYPT, str(error)) from None
    if credentials.encryption is not None:
        weaker("key exchange", theirs.kex, credentials.encryption.kex)
    if theirs.kex.kem:
        secret, ciphertext = crypto.encapsulate(theirs)
        key = crypto.kem_key(kdf, secret, header.kex)
        return Negotiated(cipher, kdf, ciphertext, theirs.kex.hybrid, key)
    ours = crypto.generate(theirs.kex)
    answer = kex.encode(ours.public)
    key = crypto.dhe_key(kdf, crypto.agree(ours, theirs), answer, header.kex)
    return Negotiated(cipher, kdf, answer, key=key)


def _decapsulate(header: Header, credentials: Credentials) -> bytes:
    """The key that the requester has encapsulated to the acceptor's static key."""
    from . import crypto

    own = credentials.encryption
    if own is None or not credentials.static:
        raise HandshakeRefused(ECRYPT, "it has encapsulated a key to a static one, and the name has none")
    if credentials.static_raw:
        raise HandshakeRefused(
            ECRYPT,
            f"the static key is a raw {own.kex.name} one, which the installed library cannot read; "
            "use ML-KEM-768 or ML-KEM-1024",
        )
    ours = crypto.stored_secret(credentials.static)
    if ours.public.kex is not own.kex or header.hybrid:
        raise HandshakeRefused(ECRYPT, f"the static key is not one for {own.kex.name}")
    return crypto.kem_key(header.kdf, crypto.decapsulate(ours, header.kex), kex.encode(ours.public))
