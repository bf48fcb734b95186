"""Spec spec/protection 3 a second time, in Python: the key rotation of a prototype's flow end. For tests of the C."""

from __future__ import annotations

import hashlib
import hmac
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

IV = {904: 16, 905: 16, 906: 16, 895: 12, 898: 12, 901: 12, 1018: 12}
KEY = {904: 16, 905: 24, 906: 32, 895: 16, 898: 24, 901: 32, 1018: 32}


def hkdf(key: bytes, salt: bytes) -> bytes:
    """HKDF-SHA256, info `o7s-key-rotation`, 32 octets."""
    extracted = hmac.digest(salt, key, "sha256")
    return hmac.digest(extracted, b"o7s-key-rotation\x01", "sha256")


def encrypt(cipher: int, key: bytes, iv: bytes, data: bytes) -> bytes:
    """What follows the IV."""
    key = key[: KEY[cipher]]
    if cipher == 1018:
        return ChaCha20Poly1305(key).encrypt(iv, data, None)
    if IV[cipher] == 12:
        return AESGCM(key).encrypt(iv, data, None)
    stream = Cipher(algorithms.AES(key), modes.CTR(iv)).encryptor()
    return stream.update(data) + stream.finalize()


def decrypt(cipher: int, key: bytes, packet: bytes) -> bytes | None:
    """What is in a packet; None: it was not made with this key."""
    iv, rest = packet[: IV[cipher]], packet[IV[cipher] :]
    if IV[cipher] == 16:
        return encrypt(cipher, key, iv, rest)
    key = key[: KEY[cipher]]
    try:
        return (ChaCha20Poly1305(key) if cipher == 1018 else AESGCM(key)).decrypt(iv, rest, None)
    except InvalidTag:
        return None


class Model:
    """One flow end, as the specification describes it. `period` is its M."""

    def __init__(self, cipher: int, key: bytes, period: int) -> None:
        self.cipher, self.period = cipher, period
        self.current = key
        self.previous: bytes | None = None
        self.salt = hashlib.sha256(key).digest()
        self.n = self.age = self.phase = self.epoch = 0

    def _rotate(self) -> None:
        self.previous, self.current = self.current, hkdf(self.current, self.salt)
        self.age, self.phase = 0, 1 - self.phase
        self.epoch += 1

    def close(self, data: bytes) -> bytes:
        """A packet."""
        iv = bytearray(os.urandom(IV[self.cipher]))
        iv[0] = iv[0] & 0x7F | (0x80 if self.n & self.period else 0)
        packet = bytes(iv) + encrypt(self.cipher, self.current, bytes(iv), data)
        before = self.n
        self.n += 1
        self.age += 1
        if (before ^ self.n) & self.period:
            self._rotate()
        if self.previous is not None and self.age >= self.period // 2:
            self.previous = None
        return packet

    def open(self, packet: bytes) -> bytes | None:
        """What is in it; None: dropped."""
        if packet[0] >> 7 != self.phase and self.age >= self.period - self.period // 4:
            self._rotate()
        self.n += 1
        self.age += 1
        for key in (self.current, self.previous):
            if key is not None and (data := decrypt(self.cipher, key, packet)) is not None:
                return data
        return None
