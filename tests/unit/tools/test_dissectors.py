"""The dissector of Wireshark and the layers of scapy: they find in the captures of the prototype what ocap finds.

With tshark, where it is installed, in one pass and in two; and with packets in which octets were changed.
"""

from __future__ import annotations

import random
import shutil
import struct
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from ouroboros_tools import scapy_layers as layers
from ouroboros_tools.ocap.layer import Verdict
from scapy.config import conf
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import LLC, Ether
from scapy.packet import Packet, Raw
from scapy.utils import PcapReader

from ipcpd.wire import dix, dt, fa, link, llc, lsm, udp
from ipcpd.wire import link_state as link_state_codec
from ouroboros.qos import QOS_VOICE, QoSSpec
from tests import handshake
from tests.unit.wire.captures import CAPTURES, VECTORS, dissected

CHECKOUT = Path(__file__).resolve().parents[3]
SCRIPT = CHECKOUT / "packaging/ouroboros.lua"
HOST = {"ethernet", "arp", "ipv4", "ipv6", "udp", "vlan"}
A, B = b"\x02\0\0\0\0\x01", b"\x02\0\0\0\0\x02"
HEADER, RECORD = struct.Struct("<IHHiIII"), struct.Struct("<IIII")


def tshark(capture: Path, *options: str) -> list[list[str]]:
    """The lines that tshark prints with the dissector."""
    if shutil.which("tshark") is None:
        pytest.skip("tshark is not installed")
    command = [
        "tshark",
        "-X",
        f"lua_script:{SCRIPT}",
        "-r",
        str(capture),
        "-T",
        "fields",
        "-E",
        "aggregator=|",
    ]
    result = subprocess.run([*command, *options], capture_output=True, text=True)
    assert result.returncode == 0 and "Lua" not in result.stderr + result.stdout, result.stderr
    return [line.split("\t") for line in result.stdout.splitlines()]


# ---------------------------------------------------------------- Wireshark


@pytest.mark.parametrize("passes", [(), ("-2",)], ids=["one pass", "two passes"])
@pytest.mark.parametrize("name", CAPTURES)
def test_tshark_shows_the_layers_that_ocap_shows(name: str, passes: Sequence[str]) -> None:
    lines = tshark(VECTORS / name, *passes, "-e", "ouroboros.layer", "-e", "_ws.expert.message")
    packets = dissected(name)
    assert len(lines) == len(packets)
    for packet, (shown, notes) in zip(packets, lines, strict=True):
        expected = [layer.name for layer in packet.layers if layer.name not in HOST]
        found = [word for word in shown.split("|") if word]
        assert found[: len(expected)] == expected, packet.captured.number
        if packet.verdict is Verdict.MALFORMED:
            assert "Malformed" in notes
        else:
            assert found == expected and "Malformed" not in notes


def test_tshark_shows_the_values_that_ocap_shows() -> None:
    fields = (
        "ouroboros.dt.ttl",
        "ouroboros.dt.dst",
        "ouroboros.dt.eid",
        "ouroboros.frcp.seq",
        "ouroboros.dix.eid",
    )
    options = [word for field in fields for word in ("-e", field)]
    lines = tshark(VECTORS / "uni4-ab.pcap", *options)
    seen = 0
    for packet, (ttl, dst, eid, seq, dix_eid) in zip(dissected("uni4-ab.pcap"), lines, strict=True):
        for layer in packet.layers:
            value = layer.value
            if isinstance(value, dt.Packet):
                destination = value.destination.to_bytes(4, "little").hex(".")
                assert (int(ttl), dst, int(eid, 16)) == (value.ttl, destination, value.eid)
            elif layer.name == "frcp":
                assert int(seq) == value.sequence
            elif isinstance(value, dix.Frame):
                assert int(dix_eid) == value.eid
                seen += 1
    assert seen > 50


def changed(name: str, random_: random.Random) -> Iterator[bytes]:
    """The frames of a capture with octets changed, or cut."""
    for packet in dissected(name):
        octets = bytearray(packet.captured.octets)
        for _ in range(random_.choice((1, 2, 8))):
            octets[random_.randrange(12, len(octets))] = random_.randrange(256)
        yield (
            bytes(octets[: random_.randrange(14, len(octets) + 1)])
            if random_.random() < 0.3
            else bytes(octets)
        )


def test_no_packet_makes_the_dissector_fail(tmp_path: Path) -> None:
    frames = [frame for name in CAPTURES for frame in changed(name, random.Random(name))]
    octets = HEADER.pack(0xA1B2C3D4, 2, 4, 0, 0, 1 << 18, 1)
    octets += b"".join(RECORD.pack(0, 0, len(frame), len(frame)) + frame for frame in frames)
    (tmp_path / "changed.pcap").write_bytes(octets)
    lines = tshark(tmp_path / "changed.pcap", "-e", "ouroboros.layer", "-e", "_ws.lua.error")
    assert len(lines) == len(frames)
    assert not [line for line in lines if line[1:] != [""]]


# ---------------------------------------------------------------- scapy


@pytest.mark.parametrize("name", CAPTURES)
def test_scapy_decodes_and_encodes_every_capture(name: str) -> None:
    with PcapReader(str(VECTORS / name)) as reader:
        packets = list(reader)
    for packet, ours in zip(packets, dissected(name), strict=True):
        assert bytes(packet.__class__(bytes(packet))) == ours.captured.octets
        copy = packet.copy()
        copy.clear_cache()
        assert bytes(copy) == ours.captured.octets, ours.captured.number
        expected = {layer.name for layer in ours.layers}
        for word, layer in (
            ("eth-dix", layers.EthDix),
            ("udp layer", layers.UdpLayer),
            ("oap", layers.Handshake),
        ):
            if ours.verdict is not Verdict.MALFORMED and "data transfer" not in expected:
                assert (word in expected) == (layer in packet), (word, ours.captured.number)


def test_the_contents_of_flows() -> None:
    for packet in dissected("uni4-ab.pcap"):
        for layer in packet.layers:
            value = layer.value
            if isinstance(value, dt.Packet):
                found = layers.DataTransfer(dt.encode(value))
                assert (found.dst, found.ttl, found.eid) == (value.destination, value.ttl, value.eid)
                if isinstance(packet.layers[-2].value, fa.FlowRequest):
                    assert found.getlayer(layers.FlowAllocator).hash == packet.layers[-2].value.name_hash
            elif isinstance(value, lsm.Lsm):
                octets = link_state_codec.encode(value)
                found = layers.LinkState(octets)
                assert (found.source, found.target, found.sequence) == (
                    value.source,
                    value.target,
                    value.sequence,
                )
                assert bytes(found) == octets


def test_crafted_packets_are_those_of_the_codecs() -> None:
    conf.verb = 0
    asked = handshake.make_request(identity=bytes(16), now=1)
    qos = {name: getattr(QOS_VOICE, name) for name in QoSSpec.__slots__}
    header = layers.Handshake(asked)
    macs = {"dst": "02:00:00:00:00:02", "src": "02:00:00:00:00:01"}
    request = Ether(**macs) / layers.EthDix() / layers.DixManagement(source=64, code=0, **qos) / header
    expected = dix.encode_message(link.FlowRequest(64, bytes(32), QOS_VOICE, asked))
    assert bytes(request) == dix.encode(dix.Frame(B, A, 0, expected))
    data: Packet = Ether(**macs, type=0xA000) / layers.EthDix(eid=65) / Raw(b"hello")
    assert bytes(data) == dix.encode(dix.Frame(B, A, 65, b"hello"))
    frame = LLC(dsap=layers.sap(2), ssap=layers.sap(3), ctrl=3) / Raw(b"x")
    assert bytes(frame) == llc.encode(llc.Frame(B, A, 2, 3, b"x"))[14:]
    packet = layers.DataTransfer(dst=5, eid=0) / layers.FlowAllocator(code=1, to=70, eid=80, response=-1)
    assert bytes(packet) == dt.encode(dt.Packet(5, 0, fa.encode(fa.FlowReply(70, 80, -1))))
    datagram = UDP(sport=3435, dport=3435) / layers.UdpLayer(eid=64) / Raw(b"y")
    assert bytes(datagram)[8:] == udp.encode(udp.Datagram(64, b"y"))
    assert layers.UdpLayer in IP(bytes(IP(src="10.0.0.1", dst="10.0.0.2") / datagram))
    assert str(layers.Frcp(b"\x05\0\0\1\0\0\0\2\0\0\0\3").flags) == "DATA+ACK"
