"""The handshake's use of a cryptographic library: key exchange, encapsulation, key derivation (spec/oap 2, 7).

Used by the IRMd, which imports this file only for a flow with a key exchange: the library costs more to import than the rest of
the IRMd. `cryptography` does all but Diffie-Hellman over finite fields, which it is removing: that uses pycryptodome's
arithmetic. Keys are `kex.PublicKey`; a `Secret` is this side's half of an exchange. A failure raises KeyExchangeFailed.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, x448, x25519
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ouroboros.errors import ECRYPT

from . import kex
from .algorithms import Hash, Kex
from .kex import PublicKey

try:  # younger than the oldest version that does the rest
    from cryptography.hazmat.primitives.asymmetric import mlkem
except ImportError:
    mlkem = None  # type: ignore[assignment]

_CURVES: dict[Kex, type[ec.EllipticCurve]] = {
    Kex.P_256: ec.SECP256R1,
    Kex.P_384: ec.SECP384R1,
    Kex.P_521: ec.SECP521R1,
}
_PARTS = {Kex.X25519MLKEM768: (Kex.ML_KEM_768, Kex.X25519), Kex.X448MLKEM1024: (Kex.ML_KEM_1024, Kex.X448)}
_EXPONENT = 64
"""Octets of an exponent: RFC 7919 asks for 41 in the largest of the groups."""
_HASHES: dict[Hash, hashes.HashAlgorithm] = {
    Hash.NONE: hashes.SHA256(),
    Hash.BLAKE2S_256: hashes.BLAKE2s(32),
    Hash.SHA_256: hashes.SHA256(),
    Hash.SHA3_256: hashes.SHA3_256(),
    Hash.SHA_384: hashes.SHA384(),
    Hash.SHA3_384: hashes.SHA3_384(),
    Hash.BLAKE2B_512: hashes.BLAKE2b(64),
    Hash.SHA_512: hashes.SHA512(),
    Hash.SHA3_512: hashes.SHA3_512(),
}


class KeyExchangeFailed(OSError):
    """The key exchange cannot be done, or the other side's key is not valid; errno ECRYPT."""

    def __init__(self, reason: str) -> None:
        super().__init__(ECRYPT, f"the key exchange failed: {reason}")


@dataclass(frozen=True, slots=True)
class Secret:
    """This side's private key and its public one. Hybrids have a pair of private keys."""

    public: PublicKey
    private: Any = field(repr=False)


def generate(algorithm: Kex) -> Secret:
    """A new key for one exchange. Raises KeyExchangeFailed for an algorithm that the library does not have."""
    if algorithm in _PARTS:
        first, second = (generate(part) for part in _PARTS[algorithm])
        return Secret(PublicKey(algorithm, first.public.raw + second.public.raw), (first, second))
    if algorithm in _CURVES:
        return _own(algorithm, ec.generate_private_key(_CURVES[algorithm]()))
    if algorithm is Kex.X25519:
        return _own(algorithm, x25519.X25519PrivateKey.generate())
    if algorithm is Kex.X448:
        return _own(algorithm, x448.X448PrivateKey.generate())
    if algorithm.kem:
        return _own(algorithm, _ml_kem(algorithm)[0].generate())
    exponent = int.from_bytes(os.urandom(_EXPONENT), "big")
    return Secret(PublicKey(algorithm, _power(algorithm, 2, exponent)), exponent)


def agree(ours: Secret, theirs: PublicKey) -> bytes:
    """The secret that two Diffie-Hellman keys share. Raises KeyExchangeFailed."""
    algorithm, private = ours.public.kex, ours.private
    if theirs.kex is not algorithm:
        raise KeyExchangeFailed(f"a key for {theirs.kex.name} is the answer to one for {algorithm.name}")
    try:
        if algorithm in _CURVES:
            point = ec.EllipticCurvePublicKey.from_encoded_point(_CURVES[algorithm](), theirs.raw)
            return bytes(private.exchange(ec.ECDH(), point))
        if algorithm is Kex.X25519:
            return bytes(private.exchange(x25519.X25519PublicKey.from_public_bytes(theirs.raw)))
        if algorithm is Kex.X448:
            return bytes(private.exchange(x448.X448PublicKey.from_public_bytes(theirs.raw)))
        number = int.from_bytes(theirs.raw, "big")
        if not 1 < number < kex.prime(algorithm) - 1:
            raise ValueError("a number that is not in the group")
        return _power(algorithm, number, private)
    except ValueError as error:
        raise KeyExchangeFailed(f"the other side's {algorithm.name} key is not good ({error})") from None


def encapsulate(theirs: PublicKey) -> tuple[bytes, bytes]:
    """A new secret, and its ciphertext for the owner of the key. Raises KeyExchangeFailed."""
    if theirs.kex in _PARTS:
        (kem, curve), at = _PARTS[theirs.kex], _kem_length(theirs.kex)
        secret, ciphertext = encapsulate(PublicKey(kem, theirs.raw[:at]))
        ours = generate(curve)
        return secret + agree(ours, PublicKey(curve, theirs.raw[at:])), ciphertext + ours.public.raw
    _, public = _ml_kem(theirs.kex)
    try:
        secret, ciphertext = public.from_public_bytes(theirs.raw).encapsulate()
    except ValueError as error:
        raise KeyExchangeFailed(f"the other side's {theirs.kex.name} key is not good ({error})") from None
    return bytes(secret), bytes(ciphertext)


def decapsulate(ours: Secret, ciphertext: bytes) -> bytes:
    """The secret in a ciphertext for this side's key. Raises KeyExchangeFailed."""
    algorithm = ours.public.kex
    if len(ciphertext) != kex.CIPHERTEXT_LENGTH[algorithm]:
        raise KeyExchangeFailed(f"{len(ciphertext)} octets are no ciphertext of {algorithm.name}")
    if algorithm in _PARTS:
        (kem, curve), (first, second) = _PARTS[algorithm], ours.private
        at = kex.CIPHERTEXT_LENGTH[kem]
        return decapsulate(first, ciphertext[:at]) + agree(second, PublicKey(curve, ciphertext[at:]))
    try:
        return bytes(ours.private.decapsulate(ciphertext))
    except ValueError as error:
        raise KeyExchangeFailed(f"the ciphertext of {algorithm.name} is not good ({error})") from None


def dhe_key(kdf: Hash, secret: bytes, ours: bytes, theirs: bytes) -> bytes:
    """The key of a flow after a Diffie-Hellman exchange; the two key-exchange fields as they were sent."""
    return derive(kdf, secret, sha256(min(ours, theirs) + max(ours, theirs)).digest(), kex.DHE_INFO)


def kem_key(kdf: Hash, secret: bytes, recipient: bytes) -> bytes:
    """The key of a flow after an encapsulation to the public key `recipient`, as it was sent or is stored."""
    return derive(kdf, secret, sha256(recipient).digest(), kex.KEM_INFO)


def derive(kdf: Hash, secret: bytes, salt: bytes, info: bytes) -> bytes:
    """HKDF (RFC 5869), 32 octets; SHA-256 where no hash was agreed."""
    return HKDF(_HASHES[kdf], kex.KEY_LENGTH, salt, info).derive(secret)


def stored_secret(pem: bytes) -> Secret:
    """The static key of an acceptor (`kex.key.pem`). Raises KeyExchangeFailed."""
    try:
        private = serialization.load_pem_private_key(pem, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise KeyExchangeFailed(f"the static key cannot be read ({error})") from None
    for algorithm in (Kex.ML_KEM_768, Kex.ML_KEM_1024):
        if isinstance(private, _ml_kem(algorithm)[0]):
            return _own(algorithm, private)
    raise KeyExchangeFailed("the static key is not one of ML-KEM-768 or ML-KEM-1024")


def stored_public(pem: bytes) -> PublicKey:
    """The static key of the other side (`kex.srv.pub.pem`). Raises KeyExchangeFailed."""
    try:
        public = serialization.load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise KeyExchangeFailed(f"the server's static key cannot be read ({error})") from None
    for algorithm in (Kex.ML_KEM_768, Kex.ML_KEM_1024):
        if isinstance(public, _ml_kem(algorithm)[1]):
            return PublicKey(algorithm, public.public_bytes_raw())
    raise KeyExchangeFailed("the server's static key is not one of ML-KEM-768 or ML-KEM-1024")


def _own(algorithm: Kex, private: Any) -> Secret:
    return Secret(PublicKey(algorithm, _raw(algorithm, private.public_key())), private)


def _raw(algorithm: Kex, public: Any) -> bytes:
    if algorithm in _CURVES:
        form = serialization.PublicFormat.UncompressedPoint
        return bytes(public.public_bytes(serialization.Encoding.X962, form))
    return bytes(public.public_bytes_raw())


def _power(group: Kex, base: int, exponent: int) -> bytes:
    """A power in a finite-field group, without zeros in front, as the prototype takes a secret (spec/oap 7).

    Not by Python's own pow(), the time of which depends on the exponent.
    """
    from Crypto.Math.Numbers import Integer

    return bytes(pow(Integer(base), Integer(exponent), Integer(kex.prime(group))).to_bytes())


def _ml_kem(algorithm: Kex) -> tuple[Any, Any]:
    """Private and public key classes of the library."""
    known = {}
    if mlkem is not None:
        known = {
            Kex.ML_KEM_768: (mlkem.MLKEM768PrivateKey, mlkem.MLKEM768PublicKey),
            Kex.ML_KEM_1024: (mlkem.MLKEM1024PrivateKey, mlkem.MLKEM1024PublicKey),
        }
    if algorithm not in known:
        raise KeyExchangeFailed(f"the installed version of `cryptography` does not have {algorithm.name}")
    return known[algorithm]


def _kem_length(hybrid: Kex) -> int:
    return {Kex.X25519MLKEM768: 1184, Kex.X448MLKEM1024: 1568}[hybrid]
