"""The requester's side of the allocation handshake: a request, and the outcome of its reply (spec/oap 6).

Used by the IRMd; a machine without I/O: credentials, ids and times are arguments. One `Requester` is one request. A fault
raises an OSError with errno EAUTH or ECRYPT, or MalformedPacket; the acceptor is not notified.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from ouroboros.errors import EAUTH, ECRYPT
from ouroboros.name_info import Requirement
from ouroboros.wire import MalformedPacket

from . import extension, handshake, header, kex
from .algorithms import Cipher, Hash, Kex, rank
from .credentials import Credentials
from .encryption import Encryption, KemMode
from .extension import Extensions
from .handshake import HandshakeRefused
from .header import Header

if TYPE_CHECKING:
    from . import certificate
    from .crypto import Secret


class Authorities(Protocol):
    """The source of the authorities that verify certificates; `trust.Trust` is one."""

    def chain(self) -> certificate.Chain:
        """The authorities as they are now."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a handshake. `key` has 32 octets where there is a cipher; `certificate` is the verified peer's, DER."""

    data: bytes = b""
    extensions: frozenset[int] = frozenset()
    cipher: Cipher = Cipher.NONE
    key: bytes = field(default=b"", repr=False)
    certificate: bytes = b""


class Requester:
    """One request for a flow to `name`. `identity` is 16 random octets; `now` is ns since 1970. `octets` is to be sent.

    The offer is left out where it alone makes them more than the `max_octets` octets that the layer carries.
    """

    def __init__(
        self,
        name: str,
        credentials: Credentials,
        *,
        identity: bytes,
        now: int,
        offer: Extensions | None = None,
        max_octets: int = header.MAX_LENGTH,
    ) -> None:
        self._name = name
        self._credentials = credentials
        self._secret: Secret | None = None
        self._key = b""
        """The key, known from the start where it was encapsulated to a static key."""
        own = credentials.encryption
        if own is None and Requirement.ENCRYPTION in credentials.require:
            raise HandshakeRefused(
                ECRYPT, f'flows to "{name}" must be encrypted, and it has no enc.conf for clients'
            )
        request = Header(identity, now, data=extension.encode(offer) if offer else b"")
        if own is not None:
            request = self._begin(request, own)
        self.octets, self._request = sign_within(request, credentials, max_octets)
        self._offer = offer if self._request.data else None

    def complete(self, reply: bytes, trust: Authorities, *, now: int) -> Outcome:
        """Check the reply. Raises OSError (EAUTH, ECRYPT) and MalformedPacket."""
        answer, extensions = handshake.check_reply(self.octets, self._request, self._offer, reply)
        if answer.certificate:
            # Only the certificate of a verified peer has a name that counts.
            verify(reply, answer, trust, now=now, name=self._name)
        elif Requirement.AUTHENTICATION in self._credentials.require:
            raise HandshakeRefused(EAUTH, f'"{self._name}" must show a certificate, and has shown none')
        own = self._credentials.encryption
        data = answer.data if extension.is_data(answer.data) else b""
        if own is None:
            return Outcome(data, extensions, certificate=answer.certificate)
        key = self._agreed_key(answer, own)
        return Outcome(data, extensions, answer.cipher, key, answer.certificate)

    def _begin(self, request: Header, own: Encryption) -> Header:
        from dataclasses import replace

        from . import crypto

        request = replace(request, cipher=own.cipher, kdf=own.kdf, digest=own.digest)
        if not own.kex.kem or own.kem_mode is KemMode.SERVER:
            self._secret = crypto.generate(own.kex)
            return replace(request, kex=kex.encode(self._secret.public), hybrid=own.kex.hybrid)
        recipient = _server_key(self._credentials, own.kex)
        secret, ciphertext = crypto.encapsulate(recipient)
        self._key = crypto.kem_key(own.kdf, secret, kex.encode(recipient))
        return replace(request, kex=ciphertext, hybrid=own.kex.hybrid, encapsulated=True)

    def _agreed_key(self, answer: Header, own: Encryption) -> bytes:
        """The key, when no algorithm in the reply is weaker than the own one."""
        from . import crypto

        if answer.cipher is Cipher.NONE:
            raise HandshakeRefused(ECRYPT, "the other side does not encrypt, and enc.conf asks for it")
        weaker("cipher", answer.cipher, own.cipher)
        if self._secret is None:
            return self._key
        kdf: Hash = own.kdf
        if answer.kdf is not Hash.NONE:
            weaker("key derivation hash", answer.kdf, own.kdf)
            kdf = answer.kdf
        if not answer.kex:
            raise HandshakeRefused(ECRYPT, "the other side has agreed to encrypt without a key exchange")
        ours = kex.encode(self._secret.public)
        if self._secret.public.kex.kem:
            return crypto.kem_key(kdf, crypto.decapsulate(self._secret, answer.kex), ours)
        try:
            theirs = kex.decode(answer.kex, hybrid=answer.hybrid)
        except MalformedPacket as error:
            raise HandshakeRefused(ECRYPT, str(error)) from None
        return crypto.dhe_key(kdf, crypto.agree(self._secret, theirs), ours, answer.kex)


def weaker(what: str, theirs: Cipher | Hash | Kex, ours: Cipher | Hash | Kex) -> None:
    """Raises HandshakeRefused (ECRYPT) when `theirs` ranks lower than `ours`."""
    if rank(theirs) < rank(ours):
        raise HandshakeRefused(ECRYPT, f"{what} {theirs.name} is weaker than the {ours.name} of enc.conf")


def sign(unsigned: Header, credentials: Credentials) -> bytes:
    """The octets of a header, with certificate and signature where there are credentials. Raises OSError (EAUTH)."""
    if not credentials.certificate:
        return header.encode(unsigned)
    from dataclasses import replace

    from . import certificate

    try:
        ours = certificate.identity(credentials.certificate, credentials.key)
    except certificate.NotAuthentic as error:
        raise certificate.NotAuthentic(f"{error.strerror}: {credentials.files}") from None
    signed = replace(unsigned, certificate=ours.der)
    return header.encode_signed(signed, lambda octets: ours.sign(signed.digest, octets))


def sign_within(unsigned: Header, credentials: Credentials, max_octets: int) -> tuple[bytes, Header]:
    """The octets as of `sign`, and the header that they are of: extensions that alone make them too many for a layer are left out."""
    octets = sign(unsigned, credentials)
    if unsigned.data and len(octets) - len(unsigned.data) <= max_octets < len(octets):
        from dataclasses import replace

        unsigned = replace(unsigned, data=b"")
        octets = sign(unsigned, credentials)
    return octets, unsigned


def verify(octets: bytes, signed: Header, trust: Authorities, *, now: int, name: str = "") -> None:
    """Whether the owner of a trusted certificate (for `name`, if given) has made these octets. Raises OSError (EAUTH)."""
    from . import certificate

    theirs = certificate.load(signed.certificate)
    trust.chain().check(theirs, now=now)
    certificate.check_signature(theirs, signed.digest, header.signed_part(octets, signed), signed.signature)
    if name and certificate.common_name(theirs) != name:
        raise HandshakeRefused(
            EAUTH, f'its certificate is for "{certificate.common_name(theirs)}" and not for "{name}"'
        )


def _server_key(credentials: Credentials, algorithm: Kex) -> kex.PublicKey:
    from . import crypto

    if not credentials.static:
        file = f"kex.srv.pub.{'raw' if algorithm.hybrid else 'pem'}"
        raise HandshakeRefused(ECRYPT, f"kem_mode=client needs the server's static key in {file}")
    found = (
        kex.decode(credentials.static, hybrid=True)
        if credentials.static_raw
        else crypto.stored_public(credentials.static)
    )
    if found.kex is not algorithm:
        raise HandshakeRefused(
            ECRYPT, f"the server's static key is for {found.kex.name} and not for {algorithm.name}"
        )
    return found
