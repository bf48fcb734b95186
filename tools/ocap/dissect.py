"""The dissector: takes captured frames apart, layer by layer, and puts them together again. Runs in the tool.

It recognises Ouroboros frames by ethertype, by LLC SAPs and by UDP port, follows the allocation of flows (`flows`), and decodes
with the same codecs as the daemons. Layers on top of layers are followed as deep as they go.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from functools import partial

from ipcpd.wire import dix, eth, link, llc, udp
from ouroboros.ipcp_types import DirectoryHashAlgo
from ouroboros.wire import HASH_LENGTHS, MalformedPacket, UnsendablePacket

from . import handshake, host, joined
from .captured import Captured
from .content import Contents
from .flows import Flows
from .layer import Packet, Verdict


@dataclass(frozen=True, slots=True)
class Settings:
    """Facts that frames do not carry: ethertypes, UDP ports, the hash of the layers."""

    ethertypes: tuple[int, ...] = (dix.DEFAULT_ETHERTYPE,)
    ports: tuple[int, ...] = (udp.DEFAULT_PORT,)
    hash: DirectoryHashAlgo = DirectoryHashAlgo.SHA3_256


class Dissector:
    """Takes the packets of one capture in their order."""

    def __init__(self, settings: Settings | None = None) -> None:
        self._settings = settings or Settings()
        self._hash_length = HASH_LENGTHS[self._settings.hash]
        self._flows = Flows()
        self._contents = Contents(self._flows, hash_length=self._hash_length)

    def dissect(self, captured: Captured) -> Packet:
        """The packet with its layers and the verdict. No octets in it make this raise."""
        packet = Packet(captured)
        try:
            if len(captured.octets) < captured.length:
                raise MalformedPacket(
                    "capture", f"only {len(captured.octets)} of {captured.length} octets were captured"
                )
            self._frame(packet, captured.octets)
        except MalformedPacket as error:
            packet.verdict, packet.reason = Verdict.MALFORMED, str(error.strerror)
        if packet.verdict is Verdict.SAME:
            _compare(packet)
        return packet

    def split(self, captured: Captured) -> list[Captured]:
        """The packets that were on the wire, where the capture shows the datagrams of one send joined (`joined`)."""
        try:
            return self._split(captured)
        except MalformedPacket:
            return [captured]

    def _split(self, captured: Captured) -> list[Captured]:
        ethernet, rest = host.Ethernet.decode(captured.octets)
        if ethernet.type not in (host.IPV4_TYPE, host.IPV6_TYPE) or len(captured.octets) < captured.length:
            return [captured]
        ip, payload, padding = (
            host.Ipv4.decode(rest) if ethernet.type == host.IPV4_TYPE else host.Ipv6.decode(rest)
        )
        if ip.protocol != host.UDP_PROTOCOL or (isinstance(ip, host.Ipv4) and not ip.whole):
            return [captured]
        datagram, payload, behind = host.Udp.decode(payload)
        ports = {datagram.source_port, datagram.destination_port}
        if padding or behind or not ports & set(self._settings.ports):
            return [captured]
        place = ("udp", ip.destination, datagram.destination_port)
        segments = joined.split(payload, lambda eid: self._flows.has((*place, eid)))
        if len(segments) == 1:
            return [captured]
        frames = [ethernet.encode(ip.encode(datagram.encode(segment))) for segment in segments]
        return [
            Captured(captured.number, captured.time, len(frame), frame, at)
            for at, frame in enumerate(frames, start=1)
        ]

    # ------------------------------------------------------------ protocols below Ouroboros

    def _frame(self, packet: Packet, octets: bytes) -> None:
        ethernet, rest = host.Ethernet.decode(octets)
        if ethernet.type in self._settings.ethertypes:
            self._dix(packet, octets)
        elif ethernet.type < 0x0600 and _is_llc(rest):
            self._llc(packet, octets)
        else:
            packet.add("ethernet", ethernet, ethernet.encode)
            self._by_type(packet, ethernet.type, rest)

    def _by_type(self, packet: Packet, ethertype: int, octets: bytes) -> None:
        packet.data = octets
        if ethertype == host.ARP_TYPE:
            arp, packet.data = host.Arp.decode(octets)
            packet.add("arp", arp, arp.encode)
        elif ethertype == host.VLAN:
            tag, rest = host.Tag.decode(octets)
            if tag.type in self._settings.ethertypes:
                # The codec wants a frame: give it one, with the addresses of the tagged frame.
                start = packet.captured.octets[:12]
                packet.layers.clear()
                encode = partial(_tagged, tag=tag.tag)
                packet.add("vlan", tag, encode)
                self._dix(packet, start + tag.type.to_bytes(2, "big") + rest)
            else:
                packet.add("vlan", tag, tag.encode)
                self._by_type(packet, tag.type, rest)
        elif ethertype == host.IPV4_TYPE:
            self._ip(packet, host.Ipv4.decode(octets))
        elif ethertype == host.IPV6_TYPE:
            self._ip(packet, host.Ipv6.decode(octets))

    def _ip(self, packet: Packet, decoded: tuple[host.Ipv4 | host.Ipv6, bytes, bytes]) -> None:
        ip, payload, padding = decoded
        name = "ipv4" if isinstance(ip, host.Ipv4) else "ipv6"
        packet.add(name, ip, partial(_padded, ip.encode, padding))
        packet.data = payload
        if ip.protocol != host.UDP_PROTOCOL or (isinstance(ip, host.Ipv4) and not ip.whole):
            return
        datagram, payload, behind = host.Udp.decode(payload)
        packet.add("udp", datagram, partial(_padded, datagram.encode, behind))
        packet.data = payload
        if {datagram.source_port, datagram.destination_port} & set(self._settings.ports):
            source = ("udp", ip.source, datagram.source_port)
            self._udp(packet, payload, source, ("udp", ip.destination, datagram.destination_port))

    # ------------------------------------------------------------ the lowest layers

    def _dix(self, packet: Packet, octets: bytes) -> None:
        packet.ours, packet.data = True, octets
        frame = dix.decode(octets)
        padding = octets[18 + len(frame.payload) :]
        packet.add("eth-dix", frame, partial(_dix_frame, frame, padding), "payload")
        packet.data = frame.payload
        source, destination = (("eth-dix", frame.ethertype, mac) for mac in (frame.source, frame.destination))
        if frame.eid != dix.MANAGEMENT:
            self._contents.packet(packet, (*destination, frame.eid), frame.payload)
            return
        message = dix.decode_message(frame.payload, hash_length=self._hash_length)
        packet.add("management", message, partial(_dix_message, message), _inner(message))
        self._management(packet, message, source, destination)

    def _llc(self, packet: Packet, octets: bytes) -> None:
        packet.ours, packet.data = True, octets
        frame = llc.decode(octets)
        padding = octets[17 + len(frame.payload) :]
        packet.add("eth-llc", frame, partial(_llc_frame, frame, padding), "payload")
        packet.data = frame.payload
        source, destination = ("eth-llc", frame.source), ("eth-llc", frame.destination)
        if frame.dsap != llc.MANAGEMENT:
            self._contents.packet(packet, (*destination, frame.dsap), frame.payload)
            return
        message = llc.decode_message(frame.payload, hash_length=self._hash_length)
        packet.add("management", message, partial(_llc_message, message), _inner(message))
        self._management(packet, message, source, destination)

    def _management(
        self,
        packet: Packet,
        message: eth.Message,
        source: tuple[Hashable, ...],
        destination: tuple[Hashable, ...],
    ) -> None:
        packet.data = b""
        match message:
            case link.FlowRequest():
                asked = handshake.request(packet, message.data)
                self._flows.request((*source, message.endpoint), message.qos, asked)
            case link.FlowReply():
                requester, acceptor = (*destination, message.to), (*source, message.endpoint)
                self._reply(packet, message.data, message.response, requester, acceptor)

    def _udp(
        self, packet: Packet, octets: bytes, source: tuple[Hashable, ...], destination: tuple[Hashable, ...]
    ) -> None:
        packet.ours = True
        message = udp.decode(octets)
        inner = "payload" if isinstance(message, udp.Datagram) else "data"
        packet.add("udp layer", message, partial(_udp_message, message), inner)
        packet.data = b""
        match message:
            case udp.Datagram(eid, payload):
                self._contents.packet(packet, (*destination, eid), payload)
            case udp.FlowRequest():
                asked = handshake.request(packet, message.data)
                self._flows.request((*source, message.requester), message.qos, asked)
            case udp.FlowReply():
                requester, acceptor = (*destination, message.requester), (*source, message.acceptor)
                self._reply(packet, message.data, message.response, requester, acceptor)

    def _reply(
        self, packet: Packet, data: bytes, response: int, requester: Hashable, acceptor: Hashable
    ) -> None:
        flow = self._flows.requested(requester)
        granted = handshake.reply(packet, data, flow.digest)
        if response == 0:
            self._flows.reply(requester, acceptor, flow, granted)


def _compare(packet: Packet) -> None:
    try:
        octets = packet.encode()
    except UnsendablePacket as error:
        packet.verdict, packet.reason = Verdict.DIFFERS, str(error.strerror)
        return
    captured = packet.captured.octets
    if octets != captured:
        pairs = zip(octets, captured, strict=False)
        at = next((i for i, (ours, theirs) in enumerate(pairs) if ours != theirs), len(octets))
        packet.verdict = Verdict.DIFFERS
        packet.reason = f"encoded again it has {len(octets)} octets and differs from octet {at} on"


def _is_llc(octets: bytes) -> bool:
    """Whether a frame with a length field is for SAPs that eth-llc uses, and not, for example, a spanning tree's."""
    return len(octets) >= 2 and all(0 < int(f"{sap:08b}"[::-1], 2) <= llc.MAX_SAP for sap in octets[:2])


def _inner(message: object) -> str:
    return "data" if isinstance(message, link.FlowRequest | link.FlowReply) else ""


# Encoders: each makes octets of a decoded layer and of the octets of its payload.


def _padded(encode: Callable[[bytes], bytes], padding: bytes, payload: bytes) -> bytes:
    return encode(payload) + padding


def _tagged(frame: bytes, *, tag: int) -> bytes:
    return frame[:12] + host.VLAN.to_bytes(2, "big") + tag.to_bytes(2, "big") + frame[12:]


def _dix_frame(frame: dix.Frame, padding: bytes, payload: bytes) -> bytes:
    return dix.encode(replace(frame, payload=payload)) + padding


def _llc_frame(frame: llc.Frame, padding: bytes, payload: bytes) -> bytes:
    return llc.encode(replace(frame, payload=payload)) + padding


def _with_data(message: eth.Message, data: bytes) -> eth.Message:
    return replace(message, data=data) if isinstance(message, link.FlowRequest | link.FlowReply) else message


def _dix_message(message: eth.Message, data: bytes) -> bytes:
    return dix.encode_message(_with_data(message, data))


def _llc_message(message: eth.Message, data: bytes) -> bytes:
    return llc.encode_message(_with_data(message, data))


def _udp_message(message: udp.Datagram | udp.FlowRequest | udp.FlowReply, data: bytes) -> bytes:
    if isinstance(message, udp.Datagram):
        return udp.encode(replace(message, payload=data))
    return udp.encode(replace(message, data=data))
