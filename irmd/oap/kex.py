"""Public keys of the key exchange as octets (spec/oap 2), and the key of a flow (5.8).

Used by the IRMd; pure functions. An algorithm has no number on the wire: it is recognised by the key. A key is accepted in the
one encoding that the specification names (DER has only one for each) and refused otherwise: a key on
another curve or in another group never reaches a cryptographic library.

    EC, X25519, X448, ML-KEM   SubjectPublicKeyInfo; the octets in front of the key itself are the same for every key
    ffdhe                      SubjectPublicKeyInfo, PKCS#3 OID, p and g = 2 explicit, the key a minimal INTEGER
    hybrids                    raw: ML-KEM key, then X25519 or X448
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from ouroboros.wire import MalformedPacket

from .algorithms import Kex

KEY_LENGTH = 32
DHE_INFO = b"o7s-ossl-dhe"
KEM_INFO = b"o7s-ossl-encap"

_WHAT = "key exchange"
_SEQUENCE, _INTEGER, _BITS = 0x30, 0x02, 0x03
_EC = bytes.fromhex("06072a8648ce3d0201")  # id-ecPublicKey
_DH = bytes.fromhex("06092a864886f70d010301")  # dhKeyAgreement (PKCS#3)
_ML_KEM = bytes.fromhex("06096086480165030404")  # id-alg-ml-kem-*, less its last octet

# RFC 7919: p = 2^b - 2^(b-64) + (floor(2^(b-130) e) + X) 2^64 - 1, by b and X.
_FFDHE = {Kex.FFDHE2048: (2048, 560316), Kex.FFDHE3072: (3072, 2625351), Kex.FFDHE4096: (4096, 5736041)}

CIPHERTEXT_LENGTH = {
    Kex.ML_KEM_512: 768,
    Kex.ML_KEM_768: 1088,
    Kex.ML_KEM_1024: 1568,
    Kex.X25519MLKEM768: 1120,
    Kex.X448MLKEM1024: 1624,
}
_RAW_LENGTH = {  # octets of the key itself; hybrids have nothing around it
    Kex.P_256: 65,
    Kex.P_384: 97,
    Kex.P_521: 133,
    Kex.X25519: 32,
    Kex.X448: 56,
    Kex.ML_KEM_512: 800,
    Kex.ML_KEM_768: 1184,
    Kex.ML_KEM_1024: 1568,
    Kex.X25519MLKEM768: 1216,
    Kex.X448MLKEM1024: 1624,
}


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A public key: `raw` is a point, a scalar's image, a KEM's key; for ffdhe the number, big-endian without zeros in front."""

    kex: Kex
    raw: bytes


def decode(octets: bytes, *, hybrid: bool) -> PublicKey:
    """The key in a key-exchange field; `hybrid` is its flag F. Raises MalformedPacket."""
    for kex, length in _RAW_LENGTH.items():
        prefix = _prefix(kex)
        if kex.hybrid is hybrid and len(octets) == len(prefix) + length and octets.startswith(prefix):
            raw = octets[len(prefix) :]
            if raw[0] != 4 and kex in (Kex.P_256, Kex.P_384, Kex.P_521):
                raise MalformedPacket(_WHAT, f"a {kex.name} key that is not an uncompressed point")
            return PublicKey(kex, raw)
    if not hybrid:
        for kex in _FFDHE:
            found = PublicKey(kex, _number(octets, _prefix(kex)))
            if found.raw and encode(found) == octets:
                return found
    raise MalformedPacket(_WHAT, f"{len(octets)} octets that are no key of a known algorithm")


def encode(key: PublicKey) -> bytes:
    """The key-exchange field for a key."""
    if key.kex not in _FFDHE:
        return _prefix(key.kex) + key.raw
    return _der(_SEQUENCE, _prefix(key.kex), _der(_BITS, b"\0", _integer(int.from_bytes(key.raw, "big"))))


@cache
def prime(kex: Kex) -> int:
    """The prime of a finite-field group (RFC 7919)."""
    bits, addend = _FFDHE[kex]
    scale = bits - 130 + 64  # 64 bits more than needed, for the rounding of the divisions
    euler = term = 1 << scale
    divisor = 1
    while term:
        term //= divisor
        euler += term
        divisor += 1
    return (1 << bits) - (1 << (bits - 64)) + (((euler >> 64) + addend) << 64) - 1


@cache
def _prefix(kex: Kex) -> bytes:
    """The octets in front of the key; for ffdhe the algorithm, which the key follows in a length of its own."""
    if kex in _FFDHE:
        return _der(_SEQUENCE, _DH, _der(_SEQUENCE, _integer(prime(kex)), _integer(2)))
    if kex.hybrid:
        return b""
    algorithm = {
        Kex.P_256: _EC + bytes.fromhex("06082a8648ce3d030107"),
        Kex.P_384: _EC + bytes.fromhex("06052b81040022"),
        Kex.P_521: _EC + bytes.fromhex("06052b81040023"),
        Kex.X25519: bytes.fromhex("06032b656e"),
        Kex.X448: bytes.fromhex("06032b656f"),
        Kex.ML_KEM_512: _ML_KEM + b"\1",
        Kex.ML_KEM_768: _ML_KEM + b"\2",
        Kex.ML_KEM_1024: _ML_KEM + b"\3",
    }[kex]
    length = _RAW_LENGTH[kex]
    whole = _der(_SEQUENCE, _der(_SEQUENCE, algorithm), _der(_BITS, bytes(1 + length)))
    return whole[:-length]


def _number(octets: bytes, algorithm: bytes) -> bytes:
    """The INTEGER at the end of a SubjectPublicKeyInfo of that algorithm, or nothing; `decode` checks the octets around it."""
    _, found, remainder = octets[: len(algorithm) + 2048].partition(algorithm)
    return _content(_content(remainder)[1:]).lstrip(b"\0") if found else b""  # BIT STRING, its zero, INTEGER


def _content(element: bytes) -> bytes:
    """The content of a DER element, behind tag and length: a length of 128 and more has its count of octets in front."""
    long = len(element) > 1 and element[1] >= 0x80
    return element[2 + (element[1] & 0x7F if long else 0) :]


def _integer(value: int) -> bytes:
    return _der(_INTEGER, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def _der(tag: int, *parts: bytes) -> bytes:
    body = b"".join(parts)
    size = len(body)
    if size < 128:
        return bytes((tag, size)) + body
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + body
