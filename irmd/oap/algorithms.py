"""The numbers by which the allocation handshake names ciphers and hashes (spec/oap 2).

Used by the IRMd; pure data. The numbers are OpenSSL's object ids; a header with any other number cannot be decoded. The
order of the members is their rank: in a negotiation the later one wins. Key-exchange algorithms have no number on the wire:
they are recognised by the key (`kex`).
"""

from __future__ import annotations

from enum import IntEnum


class Cipher(IntEnum):
    """Cipher of the packets of a flow."""

    NONE = 0
    AES_128_CTR = 904
    AES_192_CTR = 905
    AES_256_CTR = 906
    AES_128_GCM = 895
    AES_192_GCM = 898
    AES_256_GCM = 901
    CHACHA20_POLY1305 = 1018

    @property
    def iv_length(self) -> int:
        """Octets of the initialisation vector in front of each packet."""
        return 0 if self is Cipher.NONE else 16 if self.name.endswith("CTR") else 12

    @property
    def tag_length(self) -> int:
        """Octets of the tag behind each packet."""
        return 0 if self is Cipher.NONE or self.name.endswith("CTR") else 16

    @property
    def key_length(self) -> int:
        """Octets of the flow's key that the cipher uses; the key has 32."""
        return {"AES_128": 16, "AES_192": 24}.get(self.name[:7], 0 if self is Cipher.NONE else 32)


class Hash(IntEnum):
    """Hash of the key derivation, or of signatures and of the request hash."""

    NONE = 0
    BLAKE2S_256 = 1057
    SHA_256 = 672
    SHA3_256 = 1097
    SHA_384 = 673
    SHA3_384 = 1098
    BLAKE2B_512 = 1056
    SHA_512 = 674
    SHA3_512 = 1099


class Kex(IntEnum):
    """Algorithm of the key exchange; the numbers are local, and give the rank."""

    FFDHE2048 = 1
    P_256 = 2
    X25519 = 3
    FFDHE3072 = 4
    P_384 = 5
    FFDHE4096 = 6
    X448 = 7
    P_521 = 8
    ML_KEM_512 = 9
    ML_KEM_768 = 10
    ML_KEM_1024 = 11
    X25519MLKEM768 = 12
    X448MLKEM1024 = 13

    @property
    def kem(self) -> bool:
        """Whether one side encapsulates a secret to the other's key; otherwise both sides have a key."""
        return self >= Kex.ML_KEM_512

    @property
    def hybrid(self) -> bool:
        """Whether it is a KEM together with a Diffie-Hellman exchange."""
        return self >= Kex.X25519MLKEM768


_RANKS = {number: rank for kind in (Cipher, Hash, Kex) for rank, number in enumerate(kind)}
"""The order of the members; no two kinds share a number but 0, which is the lowest of both."""


def rank(algorithm: Cipher | Hash | Kex) -> int:
    """The higher, the stronger; of one kind."""
    return _RANKS[algorithm]


# As hashlib calls them, and octets of their digest. A request that names none means SHA-384 (spec/oap 3).
_HASHLIB = {
    Hash.NONE: ("sha384", 48),
    Hash.BLAKE2S_256: ("blake2s", 32),
    Hash.SHA_256: ("sha256", 32),
    Hash.SHA3_256: ("sha3_256", 32),
    Hash.SHA_384: ("sha384", 48),
    Hash.SHA3_384: ("sha3_384", 48),
    Hash.BLAKE2B_512: ("blake2b", 64),
    Hash.SHA_512: ("sha512", 64),
    Hash.SHA3_512: ("sha3_512", 64),
}


def request_hash(request: bytes, digest: Hash) -> bytes:
    """The hash that a reply must contain: of the request's octets, by the digest that the *request* names."""
    import hashlib

    return hashlib.new(_HASHLIB[digest][0], request).digest()


def request_hash_length(digest: Hash) -> int:
    """Octets of `request_hash()`."""
    return _HASHLIB[digest][1]
