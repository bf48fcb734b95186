"""Scapy layers: Ouroboros packets for people who craft and read packets with scapy (docs/howto/captures.md).

    from ouroboros_tools.scapy_layers import *
    sendp(Ether(dst=...) / EthDix(eid=64) / DataTransfer(dst=0xBF51DA27, eid=1) / b"...", iface="eth0")

Needs scapy (the extra `capture`); no program of this project imports it. A packet of a flow names only its receiver, so scapy cannot tell what it carries:
EthDix, EthLlc and UdpLayer have raw octets, unless they carry management. Give those octets to the class that is meant: `Frcp(packet.load)`.
"""

from __future__ import annotations

from scapy.fields import (
    BitField,
    ByteEnumField,
    ByteField,
    ConditionalField,
    FieldLenField,
    FlagsField,
    IntField,
    LEIntField,
    LELongField,
    LongField,
    ShortField,
    SignedIntField,
    StrFixedLenField,
    StrLenField,
)
from scapy.layers.inet import UDP
from scapy.layers.l2 import LLC, Ether
from scapy.packet import Packet, bind_layers

HASH = 32
"""Octets of a name's hash in Ethernet and unicast layers: SHA3-256."""
MD5 = 16
"""Octets of a name's hash in UDP layers."""

_MESSAGES = {0: "flow request", 1: "flow reply", 2: "name query", 3: "name reply"}
_CUBES = {0: "best effort", 1: "video", 2: "voice"}

__all__ = [
    "DataTransfer",
    "DixManagement",
    "EthDix",
    "EthLlc",
    "FlowAllocator",
    "Frcp",
    "Handshake",
    "LinkState",
    "LlcManagement",
    "UdpLayer",
    "UdpManagement",
    "sap",
]


def sap(number: int) -> int:
    """A service access point as it stands in an LLC header: with its bits in reverse order."""
    return int(f"{number:08b}"[::-1], 2)


class EthDix(Packet):
    """The inner header of eth-dix, behind Ethernet II: endpoint id of the receiver, and length of what follows."""

    name = "Ouroboros eth-dix"
    fields_desc = [ShortField("eid", 0), ShortField("length", None)]

    def post_build(self, packet: bytes, payload: bytes) -> bytes:
        """Fill the length in."""
        if self.length is None:
            packet = packet[:2] + len(payload).to_bytes(2, "big")
        return packet + payload

    def extract_padding(self, octets: bytes) -> tuple[bytes, bytes | None]:
        """Ethernet pads short frames."""
        length = len(octets) if self.length is None else self.length
        return octets[:length], octets[length:] or None


class EthLlc(Packet):
    """Data of eth-llc behind LLC: no header of its own."""

    name = "Ouroboros eth-llc"
    fields_desc = []


class DixManagement(Packet):
    """A management message of eth-dix: of its fields only those of its kind matter."""

    name = "Ouroboros eth-dix management"
    fields_desc = [
        ShortField("source", 0),
        ShortField("destination", 0),
        IntField("loss", 0),
        LongField("bandwidth", 0),
        IntField("ber", 0),
        IntField("max_gap", 0),
        IntField("delay", 0),
        IntField("timeout", 0),
        SignedIntField("response", 0),
        ByteField("in_order", 0),
        ByteEnumField("code", 0, _MESSAGES),
        ByteField("availability", 0),
        ConditionalField(StrFixedLenField("hash", bytes(HASH), HASH), lambda message: message.code != 1),
    ]


class LlcManagement(Packet):
    """A management message of eth-llc: the fields of eth-dix in another order."""

    name = "Ouroboros eth-llc management"
    fields_desc = [
        ByteField("source", 0),
        ByteField("destination", 0),
        ByteEnumField("code", 0, _MESSAGES),
        ByteField("availability", 0),
        *DixManagement.fields_desc[2:10],
        DixManagement.fields_desc[12],
    ]


class UdpLayer(Packet):
    """The header of a UDP layer: endpoint id of the receiver."""

    name = "Ouroboros UDP layer"
    fields_desc = [IntField("eid", 0)]


class UdpManagement(Packet):
    """A management message of a UDP layer."""

    name = "Ouroboros UDP management"
    fields_desc = [
        IntField("requester", 0),
        IntField("acceptor", 0),
        SignedIntField("response", 0),
        LongField("bandwidth", 0),
        IntField("delay", 0),
        IntField("loss", 0),
        IntField("ber", 0),
        IntField("max_gap", 0),
        IntField("timeout", 0),
        ByteEnumField("code", 1, {1: "flow request", 2: "flow reply"}),
        ByteField("availability", 0),
        ByteField("in_order", 0),
        ConditionalField(StrFixedLenField("hash", bytes(MD5), MD5), lambda message: message.code == 1),
    ]


class Handshake(Packet):
    """The header of the allocation handshake, in requests and replies; what follows the data is raw: request hash and signature."""

    name = "Ouroboros allocation handshake"
    fields_desc = [
        StrFixedLenField("id", bytes(16), 16),
        LongField("timestamp", 0),
        ShortField("cipher", 0),
        ShortField("kdf", 0),
        ShortField("digest", 0),
        FieldLenField("certificates", None, length_of="certificate"),
        BitField("hybrid", 0, 1),
        BitField("encapsulated", 0, 1),
        BitField("keys", 0, 14),
        FieldLenField("length", None, length_of="data"),
        StrLenField("certificate", b"", length_from=lambda header: header.certificates),
        StrLenField("kex", b"", length_from=lambda header: header.keys),
        StrLenField("data", b"", length_from=lambda header: header.length),
    ]


class DataTransfer(Packet):
    """The data transfer header of a unicast layer; address and endpoint id are little-endian. Endpoint id 0 is the flow allocator."""

    name = "Ouroboros data transfer"
    fields_desc = [
        LEIntField("dst", 0),
        ByteEnumField("cube", 0, _CUBES),
        ByteField("ttl", 60),
        ByteField("ecn", 0),
        LELongField("eid", 0),
    ]


class FlowAllocator(Packet):
    """A message of the flow allocator; a request has the hash of the name behind it."""

    name = "Ouroboros flow allocator"
    fields_desc = [
        LongField("source", 0),
        LongField("to", 0),
        LongField("eid", 0),
        LongField("bandwidth", 0),
        SignedIntField("response", 0),
        IntField("delay", 0),
        IntField("loss", 0),
        IntField("ber", 0),
        IntField("max_gap", 0),
        IntField("timeout", 0),
        ShortField("level", 0),
        ByteEnumField("code", 0, {0: "flow request", 1: "flow reply", 2: "flow update"}),
        ByteField("availability", 0),
        ByteField("in_order", 0),
        ConditionalField(StrFixedLenField("hash", bytes(HASH), HASH), lambda message: message.code == 0),
    ]


class LinkState(Packet):
    """A link-state message; the last fields are there between Python members."""

    name = "Ouroboros link state"
    fields_desc = [
        LongField("target", 0),
        LongField("source", 0),
        LongField("sequence", 0),
        ConditionalField(ByteField("version", 1), lambda message: message.extended),
        ConditionalField(
            FlagsField("flags", 0, 8, ["withdrawn", "weights"]), lambda message: message.extended
        ),
        ConditionalField(ShortField("best_effort", 0), lambda message: message.extended),
        ConditionalField(ShortField("video", 0), lambda message: message.extended),
        ConditionalField(ShortField("voice", 0), lambda message: message.extended),
    ]
    extended = False

    def pre_dissect(self, octets: bytes) -> bytes:
        """The length shows whether it is extended."""
        self.extended = len(octets) >= 32
        return octets


class Frcp(Packet):
    """The header of FRCP; `window` is the low 24 bits of the right window edge."""

    name = "Ouroboros FRCP"
    fields_desc = [
        FlagsField("flags", 0, 8, ["DATA", "DRF", "ACK", "FC", "RDV", "FFGM", "MFGM", "UNUSED"]),
        BitField("window", 0, 24),
        IntField("sequence", 0),
        IntField("acknowledgement", 0),
    ]


bind_layers(Ether, EthDix, type=0xA000)
bind_layers(EthDix, DixManagement, eid=0)
bind_layers(DixManagement, Handshake, code=0)
bind_layers(DixManagement, Handshake, code=1, response=0)
bind_layers(LLC, LlcManagement, dsap=sap(1), ssap=sap(1), ctrl=3)
bind_layers(LlcManagement, Handshake, code=0)
bind_layers(LlcManagement, Handshake, code=1, response=0)
for _number in range(2, 64):
    bind_layers(LLC, EthLlc, dsap=sap(_number), ctrl=3)
bind_layers(UDP, UdpLayer, dport=3435)
bind_layers(UDP, UdpLayer, sport=3435)
bind_layers(UdpLayer, UdpManagement, eid=0)
bind_layers(UdpManagement, Handshake, code=1)
bind_layers(UdpManagement, Handshake, code=2, response=0)
bind_layers(DataTransfer, FlowAllocator, eid=0)
bind_layers(FlowAllocator, Handshake, code=0)
bind_layers(FlowAllocator, Handshake, code=1, response=0)
