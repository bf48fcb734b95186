"""The worked examples of the wire specification: each decodes to its message, which encodes to the same octets."""

from __future__ import annotations

import hashlib

import pytest

from ipcpd.wire import connmgr, dht, dix, dt, enrol, eth, fa, link, link_state, llc, udp
from ipcpd.wire.lsm import Lsm
from irmd.oap import header
from irmd.oap.algorithms import Cipher, Hash, request_hash
from ouroboros.ipcp_types import DirectoryHashAlgo, IpcpType
from ouroboros.qos import QOS_RAW, QoSSpec
from tests import handshake

octets = bytes.fromhex

OPING = hashlib.sha3_256(b"oping").digest()
UNICAST = hashlib.sha3_256(b"unicast").digest()
# Every field of the synthetic examples has a value of its own.
DISTINCT = QoSSpec(
    delay=0x66666666,
    bandwidth=0x2222222233333333,
    availability=5,
    loss=0x11111111,
    ber=0x44444444,
    in_order=1,
    max_gap=0x55555555,
    timeout=0x77777777,
)
A, B = octets("6eb1b4297f77"), octets("168d966d2a8d")


# ---------------------------------------------------------------- spec/ethernet 4: eth-dix

DIX_QUERY = octets(
    "ffffffff ffff6eb1 b4297f77 a0000000 00470000 00000000 00000000 00000000"
    "00000000 00000000 00000000 00000000 00000000 00000002 008b8d7d cd43f36f"
    "4e7f7454 43694ed0 a747dd4f ca53b0c0 96a90c87 dd20541d 70"
)
DIX_REPLY = octets("6eb1b4297f77168d966d2a8d") + DIX_QUERY[12:55] + b"\x03\x00" + UNICAST
DIX_REQUEST = octets(
    "168d966d 2a8d6eb1 b4297f77 a0000000 006b0040 00000000 00010000 00000000"
    "00000000 0001ffff ffffffff ffff0001 d4c00000 00000000 008b8d7d cd43f36f"
    "4e7f7454 43694ed0 a747dd4f ca53b0c0 96a90c87 dd20541d 709b8902 e9cbde17"
    "71937b3a a327b6ff c418ea4f 1beff8e6 df000000 00000000 00000000 00"
)
DIX_ACCEPTED = octets(
    "6eb1b429 7f77168d 966d2a8d a0000000 007b0040 00400000 00000000 00000000"
    "00000000 00000000 00000000 00000000 00000000 00000001 009b8902 e9cbde17"
    "71937b3a a327b6ff c418ea4f 1bf02591 7b000000 00000000 00000000 007390e2"
    "118cf534 1ec41e07 e5d973ce 1d14a984 2f83f3b6 3911de45 a8bf7fa4 a24bf1c3"
    "694085c1 5b373b9b 066713ee d5"
)
DIX_DATA = octets(
    "168d966d 2a8d6eb1 b4297f77 a0000040 00170a0a 456e726f 6c6c6d65 6e741203 4f455018 01280040 00"
)


@pytest.mark.parametrize(
    ("example", "message"),
    [
        (DIX_QUERY, eth.NameQuery(UNICAST)),
        (DIX_REPLY, eth.NameReply(UNICAST)),
        (DIX_REQUEST, link.FlowRequest(64, UNICAST, QOS_RAW, DIX_REQUEST[-36:])),
        (DIX_ACCEPTED, link.FlowReply(64, 64, 0, DIX_ACCEPTED[-84:])),
    ],
)
def test_eth_dix(example: bytes, message: eth.Message) -> None:
    frame = dix.decode(example)
    assert dix.encode(frame) == example
    assert frame.eid == dix.MANAGEMENT
    assert dix.decode_message(frame.payload, hash_length=32) == message
    assert dix.encode_message(message) == frame.payload


def test_eth_dix_data() -> None:
    assert dix.decode(DIX_DATA) == dix.Frame(B, A, 0x40, connmgr.encode(connmgr.ENROLMENT))


def test_the_handshake_in_the_frames() -> None:
    accepted, on = handshake.check_reply(DIX_REQUEST[-36:], DIX_ACCEPTED[-84:])
    assert accepted.id == DIX_REQUEST[-36:-20] and not on


def test_eth_dix_with_every_field_distinct() -> None:
    fixed = octets(
        "0041 0000 11111111 2222222233333333 44444444 55555555 66666666 77777777 00000000 01 00 05"
    )
    assert dix.encode_message(link.FlowRequest(0x41, OPING, DISTINCT)) == fixed + OPING
    refusal = octets("0045 0041") + bytes(28) + octets("fffffc0f 00 01 00")
    assert dix.encode_message(link.FlowReply(0x45, 0x41, -1009)) == refusal
    assert dix.decode_message(refusal, hash_length=32) == link.FlowReply(0x45, 0x41, -1009)


# ---------------------------------------------------------------- spec/ethernet 5: eth-llc

LLC_QUERY = octets(
    "ffffffff ffff1ae7 c3d42b6f 00488080 03000002 00000000 00000000 00000000"
    "00000000 00000000 00000000 00000000 00000000 000042de e3b0415b 4f690fd9"
    "1cbd9987 6f1e9bd8 d9745ef7 fa32b142 773af034 9d54"
)
LLC_REQUEST = octets(
    "429cb83b 28cb1ae7 c3d42b6f 006c8080 03020000 00000000 01000000 00000000"
    "00000000 01ffffff ffffffff ff0001d4 c0000000 000042de e3b0415b 4f690fd9"
    "1cbd9987 6f1e9bd8 d9745ef7 fa32b142 773af034 9d541fd3 9d4ee506 5066b6b4"
    "4b85051f 818918ea 4f6fc4d9 69300000 00000000 00000000 0000"
)
LLC_ACCEPTED = octets(
    "1ae7c3d4 2b6f429c b83b28cb 007c8080 03020201 00000000 00000000 00000000"
    "00000000 00000000 00000000 00000000 00000000 00001fd3 9d4ee506 5066b6b4"
    "4b85051f 818918ea 4f7000ea 080b0000 00000000 00000000 0000e4c5 99c635de"
    "fffd7b93 baa8179e 70c21981 e95eea01 0164464e 49e4506a 0ecf78aa 54c1e9b0"
    "1dc1a532 a4c2208f ecc7"
)


@pytest.mark.parametrize(
    ("example", "message"),
    [
        (LLC_QUERY, eth.NameQuery(OPING)),
        (LLC_REQUEST, link.FlowRequest(2, OPING, QOS_RAW, LLC_REQUEST[-36:])),
        (LLC_ACCEPTED, link.FlowReply(2, 2, 0, LLC_ACCEPTED[-84:])),
    ],
)
def test_eth_llc(example: bytes, message: eth.Message) -> None:
    frame = llc.decode(example)
    assert llc.encode(frame) == example
    assert frame.dsap == frame.ssap == llc.MANAGEMENT
    assert llc.decode_message(frame.payload, hash_length=32) == message
    assert llc.encode_message(message) == frame.payload


def test_eth_llc_with_every_field_distinct() -> None:
    fixed = octets("03 00 00 05 11111111 2222222233333333 44444444 55555555 66666666 77777777 00000000 01")
    assert llc.encode_message(link.FlowRequest(3, OPING, DISTINCT)) == fixed + OPING


@pytest.mark.parametrize(
    ("sap", "wire"),
    [(2, 0x40), (3, 0xC0), (4, 0x20), (5, 0xA0), (6, 0x60), (7, 0xE0), (8, 0x10), (16, 8), (63, 0xFC)],
)
def test_saps_are_reversed_in_the_llc_header(sap: int, wire: int) -> None:
    frame = llc.encode(llc.Frame(A, B, dsap=sap, ssap=2))
    assert frame[14:17] == bytes([wire, 0x40, 0x03])
    assert frame[12:14] == b"\x00\x03"
    assert llc.decode(frame).dsap == sap


# ---------------------------------------------------------------- spec/udp 2: UDP

UDP_REQUEST = octets(
    "00000000 00000040 00000000 00000000 00000000 00000000 ffffffff 00000001"
    "00000001 ffffffff 0001d4c0 01000078 62c6fec5 ecaef4aa 2e393472 5e23b349"
    "9b5574b0 d10f20ee 24de9c7d 37bbe918 ea505e88 46980800 00000000 00000000"
    "000000"
)
UDP_ACCEPTED = octets(
    "00000000 00000040 00000040 00000000 00000000 00000000 00000000 00000000"
    "00000000 00000000 00000000 02000049 9b5574b0 d10f20ee 24de9c7d 37bbe918"
    "ea505ec4 64003b00 00000000 00000000 00000058 3df2fffb fc647cc0 213d8cc1"
    "79f60a60 4f45a375 4faa131d 95817952 74f0010a b373a794 886e3035 baf263a0"
    "231df9"
)


def test_udp() -> None:
    name_hash = hashlib.md5(b"oping").digest()
    request = udp.FlowRequest(0x40, name_hash, QOS_RAW, UDP_REQUEST[-36:])
    assert udp.decode(UDP_REQUEST) == request and udp.encode(request) == UDP_REQUEST
    reply = udp.FlowReply(0x40, 0x40, 0, UDP_ACCEPTED[-84:])
    assert udp.decode(UDP_ACCEPTED) == reply and udp.encode(reply) == UDP_ACCEPTED
    handshake.check_reply(request.data, reply.data)
    assert udp.decode(octets("00000040")) == udp.Datagram(0x40)


def test_udp_with_every_field_distinct() -> None:
    fixed = octets(
        "00000000 00000041 00000000 00000000 2222222233333333"
        "66666666 11111111 44444444 55555555 77777777 01 05 01"
    )
    assert udp.encode(udp.FlowRequest(0x41, bytes(16), DISTINCT)) == fixed + bytes(16)


# ---------------------------------------------------------------- spec/oap: allocation handshake

OAP_ID = bytes(range(16))
OAP_REQUEST = OAP_ID + octets("18ea4f1beff8e6df") + bytes(12)
OAP_REPLY = (
    OAP_ID
    + octets("18ea4f1bf008291f")
    + bytes(12)
    + octets(
        "c39caa3380ad5f165cb1f03fc22dbc1f881b0266dc44b27b7a26d1ccff6870297fcdd8a6f185cbbd83c1513c7ea6dff6"
    )
)


def test_plain_handshake() -> None:
    assert handshake.make_request(identity=OAP_ID, now=1795334382869341919) == OAP_REQUEST
    assert handshake.make_reply(OAP_REQUEST, now=0x18EA4F1BF008291F) == OAP_REPLY
    accepted, _ = handshake.check_reply(OAP_REQUEST, OAP_REPLY)
    assert accepted == header.Header(OAP_ID, 0x18EA4F1BF008291F, request_hash=OAP_REPLY[36:])
    assert OAP_REPLY[36:] == request_hash(OAP_REQUEST, Hash.NONE)


def test_fixed_part_of_an_authenticated_handshake() -> None:
    """spec/oap OAP-25; what follows the fixed part is made up here, and real in enc.pcap."""
    fixed = octets("30d7bed880e7f9bab22d3a87d05b56de18ea50569994a67403fa02a202a10143002c0000")
    decoded = header.decode_request(fixed + bytes(0x143 + 0x2C + 72))
    assert (decoded.cipher, decoded.kdf, decoded.digest) == (
        Cipher.CHACHA20_POLY1305,
        Hash.SHA_512,
        Hash.SHA_384,
    )
    assert (len(decoded.certificate), len(decoded.kex), len(decoded.signature)) == (0x143, 0x2C, 72)


# ---------------------------------------------------------------- spec/connections: connections


@pytest.mark.parametrize(
    ("example", "record"),
    [
        ("0a0a456e726f6c6c6d656e7412034f4550180128004000", connmgr.ENROLMENT),
        ("0a0a4d616e6167656d656e7412034c53501801280040cfe19ca608", connmgr.management(0x84C730CF)),
        ("0a0a4d616e6167656d656e7412034c53501801280040a7b4c7fa0b", connmgr.management(0xBF51DA27)),
        ("0a0d44617461205472616e7366657212036474701801280240cfe19ca608", connmgr.data_transfer(0x84C730CF)),
        ("0a0d44617461205472616e736665721200180028004000", connmgr.BROADCAST),
        ("0a001200180028004000", connmgr.UNKNOWN),
    ],
)
def test_connection_record(example: str, record: connmgr.Record) -> None:
    assert connmgr.decode(octets(example)) == record
    assert connmgr.encode(record) == octets(example)


# ---------------------------------------------------------------- spec/connections 3: enrolment


def test_unicast_enrolment() -> None:
    identity = octets("f79e81c40458d05b")
    request = octets("0a08f79e81c40458d05b")
    assert enrol.decode_request(request) == enrol.Request(identity)
    assert enrol.encode_request(enrol.Request(identity)) == request
    response = octets(
        "0a08f79e81c40458d05b10eec18ad80618a2c1b1a00320002a450a0b0a07756e"
        "6963617374100110011a340a1408041008183c220c0800120808001004180f20"
        "3c121808001214080310081880a30520840728840730a7b4c7fa0b18002001"
    )
    decoded = enrol.decode_response(response)
    layer = enrol.UnicastConfig(enrol.DhtConfig(peer=3209812519))
    assert decoded == enrol.Response(
        identity, 1795334382, 873226402, enrol.Configuration("unicast", IpcpType.UNICAST, unicast=layer)
    )
    assert enrol.encode_response(decoded) == response
    ack = octets("0a08f79e81c40458d05b1000")
    assert enrol.decode_acknowledgement(ack) == enrol.Acknowledgement(identity)
    assert enrol.encode_acknowledgement(enrol.Acknowledgement(identity)) == ack


def test_broadcast_enrolment() -> None:
    response = octets("0a0878a02c00f0f13bed108ecd8ad806188feba51a20002a0b0a070a0362636c10011002")
    decoded = enrol.decode_response(response)
    assert decoded.configuration == enrol.Configuration("bcl", IpcpType.BROADCAST, DirectoryHashAlgo.SHA3_256)
    assert enrol.encode_response(decoded) == response


# ---------------------------------------------------------------- spec/dt, spec/fa, spec/link-state, spec/dht


def test_data_transfer() -> None:
    example = octets("27da51bf 00 3b 00 0100000000000000")
    assert dt.decode(example) == dt.Packet(0xBF51DA27, 1, ttl=59)
    assert dt.encode(dt.decode(example)) == example
    assert dt.encode(dt.Packet(1, 0xA78BAB3D00000042))[7:] == octets("420000003dab8ba7")


def test_flow_allocator() -> None:
    request = octets(
        "00000000bf51da27 0000000000000000 a78bab3d00000042 0000000000000000 00000000"
        "ffffffff 00000001 00000001 ffffffff 0001d4c0 0000 00 00 00"
        "42dee3b0415b4f690fd91cbd99876f1e9bd8d9745ef7fa32b142773af0349d54"
        "12a3cb88faf4248cbd874ad6df2e717e18ea4f220de62ea5000000000000000000000000"
    )
    asked = fa.FlowRequest(0xBF51DA27, 0xA78BAB3D00000042, OPING, QOS_RAW, request[-36:])
    assert fa.decode(request, hash_length=32) == asked and fa.encode(asked) == request
    reply = octets("0000000000000000 a78bab3d00000042 8173f8ee00000042") + bytes(34) + octets("010000")
    answer = fa.FlowReply(0xA78BAB3D00000042, 0x8173F8EE00000042)
    assert fa.decode(reply, hash_length=32) == answer and fa.encode(answer) == reply
    update = octets("0000000000000000 6596575c00000043 0000000000000000") + bytes(32) + octets("000b 020000")
    level = fa.FlowUpdate(0x6596575C00000043, 11)
    assert fa.decode(update, hash_length=32) == level and fa.encode(level) == update


def test_link_state() -> None:
    example = octets("00000000bf51da27 0000000084c730cf 0000000000000001")
    message = Lsm(0x84C730CF, 0xBF51DA27, 1)
    assert link_state.decode(example) == message and link_state.encode(message) == example


def test_directory() -> None:
    store = octets(
        "0800 1228 0a20 4262c60a6a23dd2fa01e4435de7649d3183740f3872e05a0f902f3325cc34a30 10 e6c890a208"
        "1a32 0a20 42dee3b0415b4f690fd91cbd99876f1e9bd8d9745ef7fa32b142773af0349d54"
        "1208 0000000084442466 18 f1e48fd806"
    )
    source = dht.Contact(store[6:38], 0x84442466)
    message = dht.Store(source, OPING, dht.value_of(0x84442466), 1795420785)
    assert dht.decode(store, key_length=32) == message and dht.encode(message) == store
    node = octets("75b7dc3eadff7eb41e5ab5a7e49ffe47828664245486913da7b0b496d8b91bf9")
    find = octets("0801 1228 0a20") + node + octets("10 cfe19ca608 222c 08 c88bcbf59893c9fb47 1220") + node
    asked = dht.FindNode(dht.Contact(node, 0x84C730CF), 0x47F724998EB2C5C8, node)
    assert dht.decode(find, key_length=32) == asked and dht.encode(asked) == find
