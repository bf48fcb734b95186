"""FRCP and the protection that the ends of a flow put round a packet (spec/protection, spec/frcp 2). Runs in the tool.

The ends themselves do this in C, packet by packet; here it is for people to look at. From the outside in: a CRC-32 when the
flow's `ber` is 0, encryption when a cipher was agreed, the FRCP header when the flow has `in_order`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag
from struct import Struct
from zlib import crc32

from irmd.oap.algorithms import Cipher
from ouroboros.wire import MalformedPacket

_HEADER = Struct(">III")
_CRC = Struct(">I")


class Flag(IntFlag):
    """Flags of an FRCP header."""

    DATA = 0x01
    DRF = 0x02
    ACK = 0x04
    FC = 0x08
    RDV = 0x10
    FFGM = 0x20
    MFGM = 0x40
    UNUSED = 0x80


@dataclass(frozen=True, slots=True)
class Header:
    """An FRCP header; `window` is the low 24 bits of the right window edge."""

    flags: Flag
    window: int
    sequence: int
    acknowledgement: int

    @classmethod
    def decode(cls, octets: bytes) -> tuple[Header, bytes]:
        """The header and the user's data. Raises MalformedPacket."""
        if len(octets) < _HEADER.size:
            raise MalformedPacket("FRCP packet", f"{len(octets)} octets, the header has {_HEADER.size}")
        first, sequence, acknowledgement = _HEADER.unpack_from(octets)
        return cls(Flag(first >> 24), first & 0xFFFFFF, sequence, acknowledgement), octets[_HEADER.size :]

    def encode(self, payload: bytes) -> bytes:
        """The packet."""
        return _HEADER.pack(self.flags << 24 | self.window, self.sequence, self.acknowledgement) + payload


@dataclass(frozen=True, slots=True)
class Encrypted:
    """An encrypted packet: `phase` is the first bit of the vector, the key in turn."""

    iv: bytes
    tag: bytes
    cipher: Cipher

    @property
    def phase(self) -> int:
        """Key phase, 0 or 1."""
        return self.iv[0] >> 7

    @classmethod
    def decode(cls, octets: bytes, cipher: Cipher) -> tuple[Encrypted, bytes]:
        """Vector and tag, and the ciphertext. Raises MalformedPacket."""
        iv, tag = cipher.iv_length, len(octets) - cipher.tag_length
        if tag < iv:
            raise MalformedPacket("encrypted packet", f"{len(octets)} octets are too few for {cipher.name}")
        return cls(octets[:iv], octets[tag:], cipher), octets[iv:tag]

    def encode(self, payload: bytes) -> bytes:
        """The packet, from the ciphertext."""
        return self.iv + payload + self.tag


@dataclass(frozen=True, slots=True)
class Check:
    """The CRC-32 behind a packet."""

    crc: int

    @classmethod
    def decode(cls, octets: bytes) -> tuple[Check, bytes]:
        """The check and the octets that it covers. Raises MalformedPacket when it does not match."""
        body, crc = octets[: -_CRC.size], int.from_bytes(octets[-_CRC.size :], "big")
        if len(octets) < _CRC.size or crc32(body) != crc:
            raise MalformedPacket("packet with a check", f"its CRC-32 is not {crc32(body):#010x}")
        return cls(crc), body

    def encode(self, payload: bytes) -> bytes:
        """The packet, with its check computed anew."""
        return payload + _CRC.pack(crc32(payload))
