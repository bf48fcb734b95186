"""The header of the allocation handshake (OAP, spec/oap 1).

Used by the IRMd and by `ocap`; pure functions. One header travels in each flow request and one in each positive reply; the
IPCPs carry it as opaque data. Certificate, key exchange and signature are octets here: only their lengths are checked.

    id 16 | timestamp 8 | cipher 2 | KDF 2 | digest 2 | C 2 | F R K 2 | D 2 | certificate C | key exchange K | data D |
    request hash (replies only) | signature (only with a certificate; the remaining octets)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from struct import Struct
from typing import TypeVar

from ouroboros.wire import MalformedPacket, UnsendablePacket, pack

from .algorithms import Cipher, Hash, request_hash_length

ID_LENGTH = 16
MAX_LENGTH = 8961  # octets: the longest management message of any layer, less its fixed part

_FIXED = Struct(">16sQHHHHHH")
_HYBRID = 0x8000
_ENCAPSULATED = 0x4000
_KEX_LENGTH = 0x3FFF
_WHAT = "allocation handshake"
_OURS = f"an {_WHAT}"

Number = TypeVar("Number", Cipher, Hash)

_CIPHERS = {int(one): one for one in Cipher}
_HASHES = {int(one): one for one in Hash}


@dataclass(frozen=True, slots=True)
class Header:
    """One side of the handshake.

    id            16 random octets of the requester; the reply repeats them
    timestamp     when the header was made, ns since 1970
    cipher, kdf   the wanted algorithms; in a reply, the negotiated ones
    digest        hash of signatures; the request's is also that of the request hash
    certificate   X.509 DER; with it comes a signature
    kex           octets of the key exchange
    hybrid        F: they are the raw encoding of a hybrid KEM
    encapsulated  R: the requester has encapsulated to a static key
    data          extensions (`extension`); the prototype sends none and ignores them
    request_hash  replies only: hash of the request's octets
    """

    id: bytes
    timestamp: int
    cipher: Cipher = Cipher.NONE
    kdf: Hash = Hash.NONE
    digest: Hash = Hash.NONE
    certificate: bytes = b""
    kex: bytes = b""
    hybrid: bool = False
    encapsulated: bool = False
    data: bytes = b""
    request_hash: bytes = b""
    signature: bytes = b""


def decode_request(octets: bytes) -> Header:
    """The header of a flow request. Raises MalformedPacket."""
    return _decode(octets, 0)


def decode_reply(octets: bytes, *, digest: Hash) -> Header:
    """The header of a reply to a request that named `digest`. Raises MalformedPacket."""
    return _decode(octets, request_hash_length(digest))


def encode(header: Header) -> bytes:
    """The header as octets; a reply is one with a request hash. Raises UnsendablePacket."""
    h = header
    fault = _fault(h)
    if fault:
        raise UnsendablePacket(_OURS, fault)
    kex = len(h.kex) | _HYBRID * h.hybrid | _ENCAPSULATED * h.encapsulated
    numbers = (h.cipher, h.kdf, h.digest, len(h.certificate), kex, len(h.data))
    fixed = pack(_FIXED, _OURS, h.id, h.timestamp, *numbers)
    octets = b"".join((fixed, h.certificate, h.kex, h.data, h.request_hash, h.signature))
    if len(octets) > MAX_LENGTH:
        raise UnsendablePacket(_OURS, f"it has {len(octets)} octets, {MAX_LENGTH} is the most")
    return octets


def _fault(header: Header) -> str:
    """The reason for which no header may be like this; "" without one."""
    if len(header.id) != ID_LENGTH:
        return f"its id has {len(header.id)} octets and not {ID_LENGTH}"
    if len(header.request_hash) not in (0, 32, 48, 64):
        return f"no hash has {len(header.request_hash)} octets"
    if len(header.kex) > _KEX_LENGTH:
        return f"{len(header.kex)} octets of key exchange are too many"
    if not header.kex and (header.hybrid or header.encapsulated):
        return "flags of a key exchange that is not there"
    if bool(header.certificate) != bool(header.signature):
        return "certificate and signature come together"
    return ""


def encode_signed(header: Header, sign: Callable[[bytes], bytes]) -> bytes:
    """The header with a signature over all that precedes it. Raises UnsendablePacket, and the exceptions of `sign`."""
    unsigned = encode(replace(header, signature=b"?"))[:-1]
    return encode(replace(header, signature=sign(unsigned)))


def signed_part(octets: bytes, header: Header) -> bytes:
    """The octets that the signature of a header covers: all that precede it."""
    return octets[: len(octets) - len(header.signature)]


def _decode(octets: bytes, hash_length: int) -> Header:
    if not _FIXED.size <= len(octets) <= MAX_LENGTH:
        raise MalformedPacket(_WHAT, f"{len(octets)} octets; it has from {_FIXED.size} to {MAX_LENGTH}")
    identity, timestamp, cipher, kdf, digest, certificates, kex, data = _FIXED.unpack_from(octets)
    flags, keys = kex & ~_KEX_LENGTH, kex & _KEX_LENGTH
    if flags and not keys:
        raise MalformedPacket(_WHAT, "flags of a key exchange that is not there")
    ends, end = [], _FIXED.size
    for length in (certificates, keys, data, hash_length):
        end += length
        ends.append(end)
    if end > len(octets):
        raise MalformedPacket(
            _WHAT, f"its length fields add up to at least {end} octets, {len(octets)} are there"
        )
    if (end < len(octets)) != bool(certificates):
        raise MalformedPacket(
            _WHAT,
            "a certificate without a signature"
            if certificates
            else f"{len(octets) - end} octets too many behind a header without certificate",
        )
    return Header(
        id=identity,
        timestamp=timestamp,
        cipher=_known(_CIPHERS, cipher, "cipher"),
        kdf=_known(_HASHES, kdf, "key derivation hash"),
        digest=_known(_HASHES, digest, "digest"),
        certificate=octets[_FIXED.size : ends[0]],
        kex=octets[ends[0] : ends[1]],
        hybrid=bool(flags & _HYBRID),
        encapsulated=bool(flags & _ENCAPSULATED),
        data=octets[ends[1] : ends[2]],
        request_hash=octets[ends[2] : ends[3]],
        signature=octets[end:],
    )


def _known(members: Mapping[int, Number], number: int, field: str) -> Number:
    found = members.get(number)
    if found is None:
        raise MalformedPacket(_WHAT, f"{field} {number} is unknown")
    return found
