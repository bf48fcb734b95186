"""ocap: exit codes, text and JSON, files that are broken, packets that are malformed or differ."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterable, Sequence
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ouroboros_tools import ocap
from ouroboros_tools.ocap import host, joined, pcap, render
from ouroboros_tools.ocap.captured import Captured
from ouroboros_tools.ocap.dissect import Dissector, Settings
from ouroboros_tools.ocap.layer import Packet, Verdict

from ipcpd.wire import dix, eth, link, llc, udp
from irmd.oap import extension
from ouroboros.extension import Extension
from ouroboros.qos import QOS_RAW, QOS_RAW_NO_ERRORS, QoSSpec
from tests import handshake
from tests.unit.wire.captures import dissected

VECTORS = Path(__file__).resolve().parents[2] / "vectors"
A, B = b"\x02\0\0\0\0\x01", b"\x02\0\0\0\0\x02"
HASH = bytes(32)
HEADER = struct.Struct("<IHHiIII")
RECORD = struct.Struct("<IIII")


def capture(path: Path, frames: Iterable[bytes], *, link_type: int = 1) -> str:
    """A capture file with these frames."""
    octets = HEADER.pack(0xA1B2C3D4, 2, 4, 0, 0, 1 << 18, link_type)
    for number, frame in enumerate(frames):
        octets += RECORD.pack(number, 0, len(frame), len(frame)) + frame
    path.write_bytes(octets)
    return str(path)


def dissect(*frames: bytes, settings: Settings | None = None) -> list[Packet]:
    dissector = Dissector(settings)
    return [dissector.dissect(Captured(n, n, len(frame), frame)) for n, frame in enumerate(frames, start=1)]


def names(packet: Packet) -> list[str]:
    return [layer.name for layer in packet.layers]


def allocation(qos: QoSSpec = QOS_RAW) -> list[bytes]:
    """The two frames by which A gets a flow from its endpoint 64 to 65 of B."""
    asked = handshake.make_request(identity=bytes(16), now=1)
    request = dix.encode_message(link.FlowRequest(64, HASH, qos, asked))
    reply = dix.encode_message(link.FlowReply(65, 64, 0, handshake.make_reply(asked, now=2)))
    return [dix.encode(dix.Frame(B, A, 0, request)), dix.encode(dix.Frame(A, B, 0, reply))]


# ---------------------------------------------------------------- the command


def test_text(capsys: pytest.CaptureFixture[str]) -> None:
    assert ocap.main(["read", str(VECTORS / "bc4-bc.pcap")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["1", "0.000000", "42", "octets,", "same,", "not", "ours"]
    assert lines[-1] == "15 packets (2 not ours): 15 same, 0 differ, 0 malformed"
    assert any(line.split()[0] == "enrolment" and "layer=broadcast" in line for line in lines)
    assert any(line.strip().startswith("data ") and "Hello multiple world" in line for line in lines)


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert ocap.main(["read", str(VECTORS / "uni4-ab.pcap"), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["counts"] == {"packets": 60, "same": 60, "differs": 0, "malformed": 0, "not ours": 0}
    packet = document["packets"][19]
    assert packet["time"] == "1795335217.780086000"
    assert packet["layers"][1] == {
        "name": "link state",
        "fields": {
            "source": "0b.e2.aa.72",
            "target": "af.a9.75.d7",
            "sequence": 0,
            "weights": None,
            "withdrawn": False,
        },
    }
    assert {packet["verdict"] for packet in document["packets"]} == {"same"}


def test_names_in_packets_reach_the_terminal_escaped(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "ouroboros_tools.ocap.render.as_text", lambda packet, start: iter(["layer a\x1b[2J\x9b"])
    )
    assert ocap.main(["read", str(VECTORS / "bc4-bc.pcap")]) == 0
    assert "layer a\\x1b[2J\\x9b\n" in capsys.readouterr().out


def test_malformed_packets_end_with_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = capture(tmp_path / "x.pcap", [dix.encode(dix.Frame(A, B, 0, bytes(20)))])
    assert ocap.main(["read", file]) == 1
    output = capsys.readouterr().out
    assert "malformed (malformed eth-dix management message: 20 octets" in output
    assert output.endswith("1 packets: 0 same, 0 differ, 1 malformed\n")


def test_packets_that_differ_end_with_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A field that a name query does not use is not empty: it is understood, but we would not send it."""
    query = bytearray(dix.encode_message(eth.NameQuery(HASH)))
    query[0] = 0xAA
    file = capture(tmp_path / "x.pcap", [dix.encode(dix.Frame(A, B, 0, bytes(query)))])
    assert ocap.main(["read", file, "--json"]) == 1
    (packet,) = json.loads(capsys.readouterr().out)["packets"]
    assert packet["verdict"] == "differs"
    assert packet["reason"] == "encoded again it has 89 octets and differs from octet 18 on"


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["write", "x.pcap"],
        ["read"],
        ["read", "x.pcap", "--port", "0"],
        ["read", "x.pcap", "--port", "http"],
        ["read", "x.pcap", "--ethertype", "05FF"],
        ["read", "x.pcap", "--ethertype", "dix"],
        ["read", "x.pcap", "--hash", "MD4"],
    ],
)
def test_usage(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert ocap.main(argv) == 2
    assert capsys.readouterr().err.startswith("ocap: ")


def test_no_such_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ocap.main(["read", str(tmp_path / "none.pcap")]) == 1
    assert "No such file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda octets: b"", "is not a pcap file"),
        (lambda octets: b"what is this? a text, it seems", "is not a pcap file"),
        (lambda octets: b"\x0a\x0d\x0d\x0a" + bytes(40), "byte order"),
        (lambda octets: octets[:20] + b"\x65" + octets[21:], "link type 101"),
        (lambda octets: octets[:-1], "ends in packet 2"),
        (lambda octets: octets + b"\0", "ends in the header of packet 3"),
        (lambda octets: octets[:32] + b"\xff\xff\xff\x7f" + octets[36:], "2147483647 octets"),
    ],
)
@pytest.mark.parametrize("form", [[], ["--json"]])
def test_broken_file(
    change: Callable[[bytes], bytes],
    complaint: str,
    form: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "x.pcap"
    capture(path, allocation())
    path.write_bytes(change(path.read_bytes()))
    assert ocap.main(["read", str(path), *form]) == 1
    output = capsys.readouterr()
    assert complaint in output.err and output.err.startswith("ocap: ")
    if complaint == "ends in packet 2":
        assert "flow-request" in output.out  # what comes before is printed


def test_other_byte_order_and_nanoseconds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frame = allocation()[0]
    octets = struct.pack(">IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 1 << 18, 1)
    octets += struct.pack(">IIII", 7, 123456789, len(frame), len(frame)) + frame
    (tmp_path / "x.pcap").write_bytes(octets)
    assert ocap.main(["read", str(tmp_path / "x.pcap"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["packets"][0]["time"] == "7.123456789"


def test_packets_that_were_cut_by_the_capture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frame = allocation()[0]
    octets = HEADER.pack(0xA1B2C3D4, 2, 4, 0, 0, 96, 1)
    (tmp_path / "x.pcap").write_bytes(octets + RECORD.pack(0, 0, 96, len(frame)) + frame[:96])
    assert ocap.main(["read", str(tmp_path / "x.pcap")]) == 1
    assert "only 96 of 125 octets were captured" in capsys.readouterr().out


# ---------------------------------------------------------------- the dissector


def test_padding_is_kept() -> None:
    frame = dix.encode(dix.Frame(A, B, 64)).ljust(60, b"\0")
    (packet,) = dissect(frame)
    assert names(packet) == ["eth-dix", "keep-alive"]
    assert packet.verdict is Verdict.SAME and packet.encode() == frame


def test_vlan() -> None:
    frame = allocation()[0]
    tagged = frame[:12] + b"\x81\x00\x00\x07" + frame[12:]
    (packet,) = dissect(tagged)
    assert names(packet) == ["vlan", "eth-dix", "management", "oap"]
    assert packet.verdict is Verdict.SAME and packet.encode() == tagged


def test_another_ethertype() -> None:
    frame = dix.encode(dix.Frame(B, A, 0, dix.encode_message(eth.NameQuery(HASH)), 0xA001))
    assert not dissect(frame)[0].ours
    (packet,) = dissect(frame, settings=Settings(ethertypes=(0xA001,)))
    assert names(packet) == ["eth-dix", "management"]


def test_what_is_not_ours_is_not_malformed() -> None:
    spanning_tree = b"\x01\x80\xc2\0\0\0" + A + b"\x00\x26\x42\x42\x03" + bytes(40)
    snap = B + A + b"\x00\x08\xaa\xaa\x03\0\0\0\x08\x00" + bytes(40)
    ours_on_another_port = udp4(udp.encode(udp.Datagram(64, b"x")), port=53)
    fragment = bytearray(udp4(b"\xff" * 30))
    fragment[20:22] = b"\x20\x00"
    for frame in (spanning_tree, snap, ours_on_another_port, bytes(fragment), bytes(14)):
        (packet,) = dissect(frame)
        assert not packet.ours and packet.verdict is Verdict.SAME, packet


def udp4(payload: bytes, *, port: int = 3435) -> bytes:
    """A frame with a UDP datagram."""
    datagram = struct.pack(">HHHH", port, port, 8 + len(payload), 0) + payload
    ip = struct.pack(
        ">BBHHHBBH4s4s", 0x45, 0, 20 + len(datagram), 1, 0, 64, 17, 0, b"\x0a\0\0\1", b"\x0a\0\0\2"
    )
    return B + A + b"\x08\x00" + ip + datagram


def test_options_and_padding_of_ip() -> None:
    frame = udp4(udp.encode(udp.Datagram(64)))
    with_options = frame[:14] + b"\x46" + frame[15:16] + b"\x00\x24" + frame[18:34] + b"\1\1\1\0" + frame[34:]
    padded = with_options.ljust(60, b"\0")
    (packet,) = dissect(padded)
    assert names(packet) == ["ethernet", "ipv4", "udp", "udp layer", "keep-alive"]
    assert packet.encode() == padded


@pytest.mark.parametrize(
    "frame",
    [
        bytes(13),
        B + A + b"\x08\x06" + bytes(27),
        B + A + b"\x08\x00" + bytes(20),
        B + A + b"\x08\x00\x45\x00\x00\x99" + bytes(16),
        B + A + b"\x86\xdd" + bytes(40),
        udp4(b"")[:41],
        udp4(b"\0\0"),
        B + A + b"\x81\x00\x00",
        B + A + b"\x00\x50\x80\x80\x03",
    ],
)
def test_malformed(frame: bytes) -> None:
    (packet,) = dissect(frame)
    assert packet.verdict is Verdict.MALFORMED and packet.reason


def test_a_check_is_verified_where_the_flow_has_one() -> None:
    body = b"hello"
    sound = body + struct.pack(">I", crc32(body))
    frames = [dix.encode(dix.Frame(B, A, 65, data)) for data in (sound, sound[:-1] + b"?", b"abc")]
    *_, good, bad, short = dissect(*allocation(QOS_RAW_NO_ERRORS), *frames)
    assert names(good) == ["eth-dix", "crc"] and good.data == body and good.verdict is Verdict.SAME
    assert bad.verdict is short.verdict is Verdict.MALFORMED


def test_control_packets_of_a_prototype_have_no_check() -> None:
    qos = QOS_RAW_NO_ERRORS.replace(in_order=1)
    acknowledgement = dix.encode(dix.Frame(B, A, 65, b"\x0c" + bytes(11)))
    packet = dissect(*allocation(qos), acknowledgement)[-1]
    assert names(packet) == ["eth-dix", "frcp"] and packet.verdict is Verdict.SAME


def test_an_endpoint_that_is_used_again_is_another_flow() -> None:
    reliable = allocation(QOS_RAW.replace(in_order=1))
    data = dix.encode(dix.Frame(B, A, 65, b"\x03" + bytes(11) + b"data"))
    packets = dissect(*reliable, data, *allocation(), data)
    assert names(packets[2]) == ["eth-dix", "frcp"]
    assert names(packets[5]) == ["eth-dix"] and packets[5].data == data[18:]


def test_extensions_are_shown() -> None:
    offer = extension.Extensions((extension.Item(Extension.FRCP_CHECK),))
    asked = handshake.make_request(identity=bytes(16), now=1, offer=offer)
    frame = llc.encode(llc.Frame(B, A, 1, 1, llc.encode_message(link.FlowRequest(2, HASH, QOS_RAW, asked))))
    (packet,) = dissect(frame)
    assert names(packet) == ["eth-llc", "management", "oap", "extensions"]
    assert packet.verdict is Verdict.SAME and packet.layers[-1].value == offer


def test_a_refusal_has_no_handshake() -> None:
    refusal = dix.encode(dix.Frame(A, B, 0, dix.encode_message(link.FlowReply(0, 64, -1009))))
    packet = dissect(allocation()[0], refusal)[-1]
    assert names(packet) == ["eth-dix", "management"] and packet.verdict is Verdict.SAME


def test_headers_below_us_have_a_sound_codec() -> None:
    cases: list[tuple[Any, bytes]] = [
        (host.Ethernet, B + A + b"\x08\x00rest"),
        (host.Tag, b"\x00\x07\xa0\x00rest"),
        (host.Arp, bytes(range(28))),
    ]
    for header, octets in cases:
        decoded, payload = header.decode(octets)
        assert decoded.encode(payload) == octets


@given(st.data())
def test_no_frame_makes_it_fail(data: st.DataObject) -> None:
    """Bits of captured frames are flipped, frames are cut and repeated; each gets a verdict and can be printed."""
    name = data.draw(st.sampled_from(["uni4-ab.pcap", "uni4-bc.pcap", "qos.pcap", "enc.pcap", "bc4-bc.pcap"]))
    frames = [bytearray(packet.captured.octets) for packet in dissected(name)]
    for _ in range(data.draw(st.integers(0, 12))):
        frame = frames[data.draw(st.integers(0, len(frames) - 1))]
        if data.draw(st.booleans()) and frame:
            frame[data.draw(st.integers(0, len(frame) - 1))] ^= 1 << data.draw(st.integers(0, 7))
        else:
            del frame[data.draw(st.integers(0, len(frame))) :]
    for packet in dissect(*map(bytes, frames)):
        json.dumps(render.as_json(packet))
        assert all(line.isprintable() for line in render.as_text(packet, 0))
        assert packet.verdict is Verdict.SAME or packet.reason


# ---------------------------------------------------------------- joined datagrams


def udp_frame(payload: bytes, *, to: int = 2) -> bytes:
    """A frame with a UDP datagram to 10.0.0.`to`, with these octets."""
    datagram = host.Udp(3435, 3435, 0).encode(payload)
    source, destination = IPv4Address(f"10.0.0.{3 - to}"), IPv4Address(f"10.0.0.{to}")
    packet = host.Ipv4(source, destination, host.UDP_PROTOCOL, 64, 0, 1, 0, 0).encode(datagram)
    return host.Ethernet(B, A, host.IPV4_TYPE).encode(packet)


def udp_allocation(eid: int, *, acceptor: int) -> list[bytes]:
    asked = handshake.make_request(identity=bytes(16), now=1)
    request = udp.FlowRequest(eid, bytes(16), QOS_RAW, asked)
    reply = udp.FlowReply(eid, acceptor, 0, handshake.make_reply(asked, now=2))
    return [udp_frame(udp.encode(request)), udp_frame(udp.encode(reply), to=1)]


def dissect_split(*frames: bytes) -> list[Packet]:
    dissector = Dissector()
    captured = (Captured(n, n, len(frame), frame) for n, frame in enumerate(frames, start=1))
    return [dissector.dissect(one) for whole in captured for one in dissector.split(whole)]


def datagrams(*payloads: bytes, eids: Sequence[int]) -> bytes:
    return b"".join(
        udp.encode(udp.Datagram(eid, payload)) for eid, payload in zip(eids, payloads, strict=True)
    )


def test_datagrams_that_the_kernel_joined_are_split() -> None:
    """Three of one size and a smaller one, of two flows; then two, which only a flow that is known tells from one."""
    parts = [b"a" * 1400, b"b" * 1400, b"c" * 1400, b"d" * 7]
    frames = [*udp_allocation(64, acceptor=65), *udp_allocation(66, acceptor=67)]
    packets = dissect_split(*frames, udp_frame(datagrams(*parts, eids=(65, 67, 65, 67))))[4:]
    assert [packet.data for packet in packets] == parts
    assert {packet.verdict for packet in packets} == {Verdict.SAME}
    assert [packet.captured.segment for packet in packets] == [1, 2, 3, 4]
    assert [line for line in render.as_text(packets[1], 0)][0].split()[0] == "5.2"
    two = dissect_split(*frames, udp_frame(datagrams(b"x" * 9, b"y", eids=(65, 65))))[4:]
    assert [packet.data for packet in two] == [b"x" * 9, b"y"]


def test_a_run_beyond_the_largest_datagram_is_split_without_its_allocation() -> None:
    parts = [bytes([n]) * 1000 for n in range(60)]
    packets = dissect_split(udp_frame(datagrams(*parts, eids=[70] * 60)))
    assert [packet.data for packet in packets] == parts


def test_one_datagram_stays_one() -> None:
    frames = udp_allocation(64, acceptor=65)
    for payload in (b"", b"\0" * 5000, bytes(range(256)) * 20, (1).to_bytes(4, "big") * 100):
        packets = dissect_split(*frames, udp_frame(datagrams(payload, eids=[65])))
        assert len(packets) == 3 and packets[2].data == payload
    assert len(dissect_split(udp_frame(datagrams(b"\0\0\0\x46", eids=[70])))) == 1, "no flow is known"


@given(st.binary(max_size=400))
def test_splitting_keeps_every_octet(octets: bytes) -> None:
    assert b"".join(joined.split(octets, lambda eid: eid % 2 == 0)) == octets


def test_every_capture_of_the_prototype_stays_as_it_is() -> None:
    for path in VECTORS.glob("*.pcap"):
        dissector = Dissector()
        with open(path, "rb") as file:
            for captured in pcap.read(file, path.name):
                assert dissector.split(captured) == [captured], path
                dissector.dissect(captured)
