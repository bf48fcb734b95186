"""The allocation handshake inside flow requests and replies, as layers of a packet. Runs in the tool."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from irmd.oap import extension, header
from irmd.oap.algorithms import Hash

from .layer import Packet


def request(packet: Packet, octets: bytes) -> header.Header | None:
    """Add the layers of a request's handshake; None when there is none. Raises MalformedPacket."""
    packet.data = octets
    return _add(packet, header.decode_request(octets)) if octets else None


def reply(packet: Packet, octets: bytes, digest: Hash) -> header.Header | None:
    """Add the layers of a reply's handshake; `digest` is the hash that the request named. Raises MalformedPacket."""
    packet.data = octets
    return _add(packet, header.decode_reply(octets, digest=digest)) if octets else None


def _add(packet: Packet, decoded: header.Header) -> header.Header:
    packet.add("oap", decoded, partial(_encode, decoded), "data")
    packet.data = decoded.data
    extensions = extension.decode(decoded.data)
    if extensions is not None:
        packet.add("extensions", extensions, lambda _: extension.encode(extensions))
        packet.data = b""
    return decoded


def _encode(decoded: header.Header, data: bytes) -> bytes:
    return header.encode(replace(decoded, data=data))
