"""Framing: the difference between eth-dix and eth-llc; all else is one protocol (paper 5.4; spec/ethernet 5).

Used by the control plane of the ethernet IPCPs; pure data and functions. An endpoint is an EID in eth-dix, a SAP in
eth-llc.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from ipcpd.wire import dix, llc
from ipcpd.wire.eth import MAX_MESSAGE, Message
from ouroboros.wire import FIRST_EID, MAX_EID


class Framing(ABC):
    """How messages become frames, and which endpoints there are."""

    name: str
    """The type of IPCP."""
    endpoints: range
    """Endpoints that flows can have. Beyond them a prototype reads past the end of its table."""
    block: int
    """How many endpoints an IPCP claims at a time; see `endpoints.Endpoints`."""
    overhead: int
    """Octets of a frame's payload that are header."""
    max_message: int
    """Octets of a management message."""

    def max_packet(self, mtu: int) -> int:
        """Octets of a packet that a frame carries on a device with this MTU."""
        return max(0, min(mtu, self.largest_mtu) - self.overhead)

    largest_mtu: int

    @abstractmethod
    def encode(self, destination: bytes, source: bytes, message: Message) -> bytes:
        """The frame with a management message. Raises UnsendablePacket."""

    @abstractmethod
    def decode(self, frame: bytes, *, hash_length: int) -> tuple[bytes, bytes, Message]:
        """Destination, source and message of a management frame. Raises MalformedPacket."""

    @property
    @abstractmethod
    def protocol(self) -> int:
        """The kernel's protocol number of these frames (ETH_P_*)."""


class DixFraming(Framing):
    """Ethernet II, with an ethertype of the layer's own."""

    name = "eth-dix"
    # A prototype on the same device uses the lowest ids first: this IPCP claims them last.
    endpoints = range(FIRST_EID, MAX_EID + 1)
    block = 64
    overhead = 4
    max_message = MAX_MESSAGE
    largest_mtu = 65535

    def __init__(self, ethertype: int) -> None:
        self.ethertype = ethertype

    def encode(self, destination: bytes, source: bytes, message: Message) -> bytes:
        payload = dix.encode_message(message)
        return dix.encode(dix.Frame(destination, source, dix.MANAGEMENT, payload, self.ethertype))

    def decode(self, frame: bytes, *, hash_length: int) -> tuple[bytes, bytes, Message]:
        got = dix.decode(frame)
        return got.destination, got.source, dix.decode_message(got.payload, hash_length=hash_length)

    @property
    def protocol(self) -> int:
        return self.ethertype


class LlcFraming(Framing):
    """IEEE 802.3 with 802.2 LLC type 1."""

    name = "eth-llc"
    endpoints = range(llc.FIRST_SAP, llc.MAX_SAP + 1)
    block = 1
    overhead = 3
    max_message = llc.MAX_PAYLOAD
    largest_mtu = llc.MAX_LENGTH

    def encode(self, destination: bytes, source: bytes, message: Message) -> bytes:
        payload = llc.encode_message(message)
        return llc.encode(llc.Frame(destination, source, llc.MANAGEMENT, llc.MANAGEMENT, payload))

    def decode(self, frame: bytes, *, hash_length: int) -> tuple[bytes, bytes, Message]:
        got = llc.decode(frame)
        return got.destination, got.source, llc.decode_message(got.payload, hash_length=hash_length)

    @property
    def protocol(self) -> int:
        return 0x0004  # ETH_P_802_2
