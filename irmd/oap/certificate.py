"""Certificates: signatures of handshakes, and verification of the peer's identity (spec/oap 7; RFC 5280).

Used by the IRMd, which imports this file only for a handshake with certificates. A certificate is sent alone; its chain is built
from local files: authorities in `cacert`, intermediate ones in `untrusted`. Time is an argument, ns since 1970.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.x509.oid import ExtensionOID, NameOID

from ouroboros.errors import EAUTH

from .algorithms import Hash

TOLERANCE = timedelta(seconds=20)
"""Clocks may differ by as much as the handshake allows: a certificate is valid for this time before and after its period."""
MAX_DEPTH = 8
MAX_ATTEMPTS = 64  # signatures that are checked for one chain: issuers may have the same name
MIN_RSA_BITS = 2048

_CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
_WEAK = (hashes.MD5, hashes.SHA1)
_UNDERSTOOD = frozenset(
    {
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
    }
)
_HASHES: dict[Hash, hashes.HashAlgorithm] = {
    Hash.NONE: hashes.SHA256(),
    Hash.SHA_256: hashes.SHA256(),
    Hash.SHA3_256: hashes.SHA3_256(),
    Hash.SHA_384: hashes.SHA384(),
    Hash.SHA3_384: hashes.SHA3_384(),
    Hash.SHA_512: hashes.SHA512(),
    Hash.SHA3_512: hashes.SHA3_512(),
}
_EDWARDS = (ed25519.Ed25519PublicKey, ed448.Ed448PublicKey, ed25519.Ed25519PrivateKey, ed448.Ed448PrivateKey)

try:  # younger than the oldest version that does the rest
    from cryptography.hazmat.primitives.asymmetric import mldsa

    _ML_DSA: tuple[type, ...] = tuple(
        getattr(mldsa, f"MLDSA{size}{which}Key") for size in (44, 65, 87) for which in ("Public", "Private")
    )
except ImportError:
    _ML_DSA = ()


class NotAuthentic(OSError):
    """A certificate, a key or a signature is not valid; errno EAUTH."""

    def __init__(self, reason: str) -> None:
        super().__init__(EAUTH, reason)


@dataclass(frozen=True, slots=True, eq=False)
class Identity:
    """This system's certificate and its private key."""

    der: bytes
    private: Any

    def sign(self, digest: Hash, data: bytes) -> bytes:
        """A signature by the key's usual algorithm. Raises NotAuthentic when the key has none with that hash."""
        key = self.private
        if isinstance(key, rsa.RSAPrivateKey):
            return key.sign(data, padding.PKCS1v15(), _hash(digest))
        if isinstance(key, ec.EllipticCurvePrivateKey):
            return key.sign(data, ec.ECDSA(_hash(digest)))
        if isinstance(key, _EDWARDS):
            _no_digest(digest)
        return bytes(self.private.sign(data))


@lru_cache(maxsize=64)
def identity(certificate: bytes, key: bytes) -> Identity:
    """The first certificate of a PEM file and its key. Raises NotAuthentic."""
    try:
        ours = x509.load_pem_x509_certificates(certificate)[0]
        public = ours.public_key()
    except (ValueError, UnsupportedAlgorithm, TypeError) as error:
        raise NotAuthentic(f"our certificate cannot be read ({error})") from None
    try:
        private = serialization.load_pem_private_key(key, None)
    except (ValueError, UnsupportedAlgorithm, TypeError) as error:
        raise NotAuthentic(f"our private key cannot be read ({error})") from None
    if private.public_key() != public:
        raise NotAuthentic("our private key is not that of our certificate")
    _check_key(public, "our certificate")
    return Identity(ours.public_bytes(serialization.Encoding.DER), private)


def load(der: bytes) -> x509.Certificate:
    """A certificate from a handshake. Raises NotAuthentic."""
    try:
        return x509.load_der_x509_certificate(der)
    except (ValueError, UnsupportedAlgorithm, TypeError, x509.InvalidVersion) as error:
        raise NotAuthentic(f"its certificate cannot be read ({error})") from None


def load_authorities(pem: bytes) -> list[x509.Certificate]:
    """The certificates of a file of `cacert` or `untrusted`. Raises NotAuthentic."""
    try:
        return x509.load_pem_x509_certificates(pem)
    except (ValueError, UnsupportedAlgorithm, TypeError, x509.InvalidVersion) as error:
        raise NotAuthentic(str(error)) from None


def common_name(certificate: x509.Certificate) -> str:
    """The name that a certificate is for. Raises NotAuthentic when it has none, several, or one that is no valid name."""
    try:
        names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    except ValueError as error:
        raise NotAuthentic(f"the subject of its certificate cannot be read ({error})") from None
    if len(names) != 1:
        raise NotAuthentic(f"its certificate has {len(names)} common names (CN) instead of one")
    name = str(names[0].value)
    if not name.isprintable():  # it goes into the log
        raise NotAuthentic("the common name (CN) of its certificate has characters that cannot be printed")
    return name


def check_signature(certificate: x509.Certificate, digest: Hash, data: bytes, signature: bytes) -> None:
    """Whether the owner of the certificate has signed. Raises NotAuthentic."""
    try:
        key = certificate.public_key()
        _check_key(key, "its certificate")
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, data, padding.PKCS1v15(), _hash(digest))
        elif isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, data, ec.ECDSA(_hash(digest)))
        else:
            if isinstance(key, _EDWARDS):
                _no_digest(digest)
            key.verify(signature, data)  # type: ignore[union-attr,call-arg]  # `_check_key` left these
    except InvalidSignature:
        raise NotAuthentic("its signature is not that of its certificate's owner") from None
    except (ValueError, UnsupportedAlgorithm, TypeError) as error:
        raise NotAuthentic(f"its signature cannot be checked ({error})") from None


class Chain:
    """Authorities, and the search for a chain from a certificate to one of them."""

    def __init__(self, anchors: Iterable[x509.Certificate], between: Iterable[x509.Certificate]) -> None:
        self._anchors = frozenset(anchors)
        self._issuers: dict[x509.Name, list[x509.Certificate]] = {}
        for certificate in (*self._anchors, *between):
            self._issuers.setdefault(certificate.subject, []).append(certificate)

    def check(self, certificate: x509.Certificate, *, now: int) -> None:
        """Check that a trusted authority has issued it, and that it is valid now. Raises NotAuthentic."""
        if not self._anchors:
            raise NotAuthentic("it has a certificate, and there is no authority in cacert to check it with")
        moment = datetime.fromtimestamp(now // 10**9, UTC)
        try:
            _check_time(certificate, "its certificate", moment)
            _check_extensions(certificate, "its certificate")
            _check_usage(certificate)
            self._search(certificate, moment)
        except (ValueError, UnsupportedAlgorithm, TypeError, x509.DuplicateExtension) as error:
            raise NotAuthentic(f"its certificate is malformed ({error})") from None

    def _search(self, leaf: x509.Certificate, moment: datetime) -> None:
        reason = "no authority in cacert has issued its certificate"
        attempts = 0
        paths: list[tuple[x509.Certificate, ...]] = [(leaf,)]
        while paths:
            path = paths.pop()
            if path[-1] in self._anchors:
                return
            for issuer in self._issuers.get(path[-1].issuer, ()):
                if issuer in path:
                    continue
                attempts += 1
                if attempts > MAX_ATTEMPTS or len(path) >= MAX_DEPTH:
                    raise NotAuthentic("the chain of its certificate is too long or has too many branches")
                try:
                    _check_issuer(issuer, path, moment)
                except NotAuthentic as fault:
                    reason = fault.strerror or reason
                    continue
                paths.append((*path, issuer))
        raise NotAuthentic(reason)


def _check_issuer(issuer: x509.Certificate, path: tuple[x509.Certificate, ...], moment: datetime) -> None:
    """Whether the last of `path` was issued by `issuer`, which may do so. Raises NotAuthentic."""
    what = f"the authority {issuer.subject.rfc4514_string()}"
    if isinstance(path[-1].signature_hash_algorithm, _WEAK):
        raise NotAuthentic(f"{what} has signed with a hash that is broken")
    _check_key(issuer.public_key(), what)
    try:
        path[-1].verify_directly_issued_by(issuer)
    except (InvalidSignature, ValueError, TypeError):
        raise NotAuthentic(f"{what} has not issued a certificate that names it as issuer") from None
    _check_time(issuer, what, moment)
    _check_extensions(issuer, what)
    constraints = _extension(issuer, x509.BasicConstraints)
    if constraints is None or not constraints.ca:
        raise NotAuthentic(f"{what} is none: its certificate may not issue others")
    if constraints.path_length is not None and constraints.path_length < len(path) - 1:
        raise NotAuthentic(f"{what} may not have {len(path) - 1} others below it")
    usage = _extension(issuer, x509.KeyUsage)
    if usage is not None and not usage.key_cert_sign:
        raise NotAuthentic(f"{what} may not sign certificates")


def _check_time(certificate: x509.Certificate, what: str, moment: datetime) -> None:
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if moment + TOLERANCE < begin:
        raise NotAuthentic(f"{what} is not valid before {begin:%Y-%m-%d %H:%M:%S} UTC")
    if moment - TOLERANCE > end:
        raise NotAuthentic(f"{what} has expired at {end:%Y-%m-%d %H:%M:%S} UTC")


def _check_extensions(certificate: x509.Certificate, what: str) -> None:
    for extension in certificate.extensions:
        if extension.critical and extension.oid not in _UNDERSTOOD:
            raise NotAuthentic(
                f"{what} has a critical extension {extension.oid.dotted_string} that is unknown"
            )


def _check_usage(certificate: x509.Certificate) -> None:
    usage = _extension(certificate, x509.KeyUsage)
    if usage is not None and not usage.digital_signature:
        raise NotAuthentic("its certificate is not for signatures")


def _check_key(key: object, what: str) -> None:
    """Raises NotAuthentic for a kind of key that signs no handshake, or a weak one."""
    if isinstance(key, rsa.RSAPublicKey):
        if key.key_size < MIN_RSA_BITS:
            raise NotAuthentic(f"{what} has an RSA key of {key.key_size} bits, {MIN_RSA_BITS} is the least")
    elif isinstance(key, ec.EllipticCurvePublicKey):
        if not isinstance(key.curve, _CURVES):
            raise NotAuthentic(f"{what} has a key on curve {key.curve.name}, which is not used here")
    elif not isinstance(key, (*_EDWARDS, *_ML_DSA)):
        raise NotAuthentic(f"{what} has a kind of key that is not used here")


def _extension(certificate: x509.Certificate, kind: type[Any]) -> Any:
    for extension in certificate.extensions:
        if isinstance(extension.value, kind):
            return extension.value
    return None


def _hash(digest: Hash) -> hashes.HashAlgorithm:
    if digest not in _HASHES:
        raise NotAuthentic(
            f"{digest.name} is not used for signatures; use a digest of the SHA-2 or SHA-3 family"
        )
    return _HASHES[digest]


def _no_digest(digest: Hash) -> None:
    if digest is not Hash.NONE:
        raise NotAuthentic(
            f"an Ed25519 or Ed448 key signs without a hash of its own, and {digest.name} is required: it cannot "
            "be used together with enc.conf"
        )
