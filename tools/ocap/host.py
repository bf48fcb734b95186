"""Protocols of other standards, below UDP layers: Ethernet, VLAN tags, ARP, IPv4, IPv6, UDP. Runs in the tool.

Only as much as ocap has to show. Each header is a class with `decode(octets)`, which gives it and its payload, and
`encode(payload)`, which gives the octets again. Checksums are kept as captured, not computed: network cards compute them
later than captures are taken.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from struct import Struct

from ouroboros.wire import MalformedPacket

VLAN = 0x8100
ARP_TYPE = 0x0806
IPV4_TYPE = 0x0800
IPV6_TYPE = 0x86DD
UDP_PROTOCOL = 17

_ETHERNET = Struct(">6s6sH")
_TAG = Struct(">HH")
_ARP = Struct(">HHBBH6s4s6s4s")
_IPV4 = Struct(">BBHHHBBH4s4s")
_IPV6 = Struct(">IHBB16s16s")
_UDP = Struct(">HHHH")


@dataclass(frozen=True, slots=True)
class Ethernet:
    """Header of a frame; `type` below 0x0600 is a length."""

    destination: bytes
    source: bytes
    type: int

    @classmethod
    def decode(cls, octets: bytes) -> tuple[Ethernet, bytes]:
        """The header and what follows. Raises MalformedPacket."""
        _long_enough("Ethernet frame", octets, _ETHERNET.size)
        return cls(*_ETHERNET.unpack_from(octets)), octets[_ETHERNET.size :]

    def encode(self, payload: bytes) -> bytes:
        """The frame."""
        return _ETHERNET.pack(self.destination, self.source, self.type) + payload


@dataclass(frozen=True, slots=True)
class Tag:
    """VLAN tag (802.1Q) of a frame: it stands between the addresses and the type."""

    tag: int
    type: int

    @classmethod
    def decode(cls, octets: bytes) -> tuple[Tag, bytes]:
        """The tag and what follows. Raises MalformedPacket."""
        _long_enough("VLAN tag", octets, _TAG.size)
        return cls(*_TAG.unpack_from(octets)), octets[_TAG.size :]

    def encode(self, payload: bytes) -> bytes:
        """The tag, with what follows."""
        return _TAG.pack(self.tag, self.type) + payload


@dataclass(frozen=True, slots=True)
class Arp:
    """ARP for IPv4 on Ethernet; the rest of the frame is padding."""

    hardware: int
    protocol: int
    hardware_length: int
    protocol_length: int
    operation: int
    source: bytes
    source_ip: IPv4Address
    target: bytes
    target_ip: IPv4Address

    @classmethod
    def decode(cls, octets: bytes) -> tuple[Arp, bytes]:
        """The message and the padding. Raises MalformedPacket."""
        _long_enough("ARP message", octets, _ARP.size)
        fields = list(_ARP.unpack_from(octets))
        fields[6], fields[8] = IPv4Address(fields[6]), IPv4Address(fields[8])
        return cls(*fields), octets[_ARP.size :]

    def encode(self, payload: bytes) -> bytes:
        """The message."""
        lengths = (self.hardware_length, self.protocol_length, self.operation)
        ends = (self.source, self.source_ip.packed, self.target, self.target_ip.packed)
        return _ARP.pack(self.hardware, self.protocol, *lengths, *ends) + payload


@dataclass(frozen=True, slots=True)
class Ipv4:
    """Header of an IPv4 packet. `offset` holds flags and fragment offset, `options` the rest of the header."""

    source: IPv4Address
    destination: IPv4Address
    protocol: int
    ttl: int
    tos: int
    identification: int
    offset: int
    checksum: int
    options: bytes = b""

    @property
    def whole(self) -> bool:
        """Whether it is no fragment."""
        return not self.offset & 0x3FFF

    @classmethod
    def decode(cls, octets: bytes) -> tuple[Ipv4, bytes, bytes]:
        """The header, its payload, and the padding of the frame. Raises MalformedPacket."""
        _long_enough("IPv4 packet", octets, _IPV4.size)
        first, tos, length, identification, offset, ttl, protocol, checksum, source, destination = (
            _IPV4.unpack_from(octets)
        )
        head = (first & 15) * 4
        if first >> 4 != 4 or head < _IPV4.size or not head <= length <= len(octets):
            raise MalformedPacket("IPv4 packet", f"version, header length or length {length} is wrong")
        ends = (IPv4Address(source), IPv4Address(destination))
        header = cls(*ends, protocol, ttl, tos, identification, offset, checksum, octets[_IPV4.size : head])
        return header, octets[head:length], octets[length:]

    def encode(self, payload: bytes) -> bytes:
        """The packet."""
        head = _IPV4.size + len(self.options)
        start = (0x40 | head // 4, self.tos, head + len(payload), self.identification, self.offset)
        end = (self.ttl, self.protocol, self.checksum, self.source.packed, self.destination.packed)
        return _IPV4.pack(*start, *end) + self.options + payload


@dataclass(frozen=True, slots=True)
class Ipv6:
    """Header of an IPv6 packet; extension headers are not looked into."""

    source: IPv6Address
    destination: IPv6Address
    protocol: int
    hop_limit: int
    flow_label: int

    @classmethod
    def decode(cls, octets: bytes) -> tuple[Ipv6, bytes, bytes]:
        """The header, its payload, and the padding of the frame. Raises MalformedPacket."""
        _long_enough("IPv6 packet", octets, _IPV6.size)
        first, length, protocol, hop_limit, source, destination = _IPV6.unpack_from(octets)
        if first >> 28 != 6 or length > len(octets) - _IPV6.size:
            raise MalformedPacket("IPv6 packet", f"version or length {length} is wrong")
        end = _IPV6.size + length
        header = cls(IPv6Address(source), IPv6Address(destination), protocol, hop_limit, first & 0xFFFFFFF)
        return header, octets[_IPV6.size : end], octets[end:]

    def encode(self, payload: bytes) -> bytes:
        """The packet."""
        head = (6 << 28 | self.flow_label, len(payload), self.protocol, self.hop_limit)
        return _IPV6.pack(*head, self.source.packed, self.destination.packed) + payload


@dataclass(frozen=True, slots=True)
class Udp:
    """Header of a UDP datagram."""

    source_port: int
    destination_port: int
    checksum: int

    @classmethod
    def decode(cls, octets: bytes) -> tuple[Udp, bytes, bytes]:
        """The header, its payload, and the octets behind the datagram. Raises MalformedPacket."""
        _long_enough("UDP datagram", octets, _UDP.size)
        source, destination, length, checksum = _UDP.unpack_from(octets)
        if not _UDP.size <= length <= len(octets):
            raise MalformedPacket(
                "UDP datagram", f"its length field is {length} octets, {len(octets)} are there"
            )
        return cls(source, destination, checksum), octets[_UDP.size : length], octets[length:]

    def encode(self, payload: bytes) -> bytes:
        """The datagram."""
        return (
            _UDP.pack(self.source_port, self.destination_port, _UDP.size + len(payload), self.checksum)
            + payload
        )


def _long_enough(what: str, octets: bytes, least: int) -> None:
    if len(octets) < least:
        raise MalformedPacket(what, f"{len(octets)} octets, the header has {least}")
