"""How the flows to a name are encrypted: the file enc.conf (spec/oap 4).

Used by the IRMd; pure functions. A line is `key=value`; `none` alone turns encryption off, `#` begins a comment. Keys that are
not known are ignored, so that a file may serve other versions too; a value that is not known is an error.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import TypeVar

from ouroboros.errors import ECRYPT

from .algorithms import Cipher, Hash, Kex

One = TypeVar("One", bound=Enum)


class KemMode(Enum):
    """The side that encapsulates, where the key exchange is a KEM."""

    SERVER = "server"
    CLIENT = "client"


class EncConfError(OSError):
    """The file is malformed; errno ECRYPT."""

    def __init__(self, reason: str) -> None:
        super().__init__(ECRYPT, reason)


@dataclass(frozen=True, slots=True)
class Encryption:
    """The algorithms that one side wants. In a negotiation the stronger of both sides' algorithms wins, never the weaker."""

    kex: Kex = Kex.P_256
    cipher: Cipher = Cipher.AES_256_GCM
    kdf: Hash = Hash.SHA_256
    digest: Hash = Hash.SHA_256
    kem_mode: KemMode = KemMode.SERVER


def parse(octets: bytes) -> Encryption | None:
    """The contents of the file; None when they are `none`. Raises EncConfError."""
    try:
        lines = octets.decode().splitlines()
    except UnicodeDecodeError:
        raise EncConfError("it is not text") from None
    found = Encryption()
    off = False
    for number, line in enumerate(lines, 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        if line.lower() == "none":
            off = True
            continue
        key, equals, text = (part.strip() for part in line.partition("="))
        if not equals:
            raise EncConfError(f'line {number}: "{line}" is neither key=value nor none')
        if key == "kem_mode":
            found = replace(found, kem_mode=_value(_MODES, text, key, number))
        elif key == "kex":
            found = replace(found, kex=_value(_KEX, text, key, number))
        elif key == "cipher":
            found = replace(found, cipher=_value(_CIPHERS, text, key, number))
        elif key == "kdf":
            found = replace(found, kdf=_value(_HASHES, text, key, number))
        elif key == "digest":
            found = replace(found, digest=_value(_HASHES, text, key, number))
    return None if off else found


def _value(values: Mapping[str, One], text: str, key: str, line: int) -> One:
    value = values.get(_plain(text))
    if value is None:
        raise EncConfError(f'line {line}: {key} "{text}" is unknown; it must be one of {", ".join(values)}')
    return value


def _plain(text: str) -> str:
    return text.lower().replace("-", "").replace("_", "")


def _by_text(kind: Iterable[One]) -> dict[str, One]:
    return {_plain(one.name): one for one in kind if one.name != "NONE"}


_MODES = {mode.value: mode for mode in KemMode}
_CIPHERS = _by_text(Cipher)
_HASHES = _by_text(Hash) | {"blake2s": Hash.BLAKE2S_256, "blake2b": Hash.BLAKE2B_512}
_KEX = _by_text(Kex) | {
    "prime256v1": Kex.P_256,
    "secp256r1": Kex.P_256,
    "secp384r1": Kex.P_384,
    "secp521r1": Kex.P_521,
}
