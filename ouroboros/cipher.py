"""Ciphers of packets: their numbers (spec/oap 2) and their names in enc.conf.

A library module of every process; pure data. The packets are encrypted in C (dataplane/src/cipher.h).
"""

CIPHERS: dict[int, str] = {
    895: "aes-128-gcm",
    898: "aes-192-gcm",
    901: "aes-256-gcm",
    904: "aes-128-ctr",
    905: "aes-192-ctr",
    906: "aes-256-ctr",
    1018: "chacha20-poly1305",
}


def cipher_name(number: int) -> str:
    """The name of the cipher; "" for 0, which is none."""
    return CIPHERS.get(number, str(number)) if number else ""
