"""Messages that are refused, and messages that are never sent because they would crash a prototype (the spec's own list)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from ipcpd.wire import connmgr, dht, dht_pb2, dix, dt, enrol, enrol_pb2, eth, fa, link, link_state, llc, udp
from ipcpd.wire.lsm import Lsm
from irmd.oap import header
from ouroboros.access import Access
from ouroboros.ipcp_types import DirectoryHashAlgo, IpcpType
from ouroboros.name_info import Requirement
from ouroboros.wire import MalformedPacket, UnsendablePacket

HASH = bytes(32)
A, B = bytes(6), b"\x02" * 6
NODE = dht.Contact(HASH, 7)
IDENTITY = bytes(8)
LAYER = enrol.UnicastConfig(enrol.DhtConfig(peer=9))
UNICAST = enrol.Configuration("layer", IpcpType.UNICAST, unicast=LAYER)
HEADER = header.Header(bytes(16), 0)


@pytest.mark.parametrize(
    ("encode", "message", "reason"),
    [
        # Endpoint ids and SAPs beyond the prototype's tables; positive responses; data behind a refusal.
        (dix.encode, dix.Frame(A, B, 4096), "above 4095"),
        (dix.encode_message, link.FlowRequest(4096, HASH), "endpoint 4096"),
        (dix.encode_message, link.FlowReply(64, 4096), "endpoint 4096"),
        (dix.encode_message, link.FlowReply(64, 0), "endpoint 0"),
        (dix.encode_message, link.FlowReply(64, 64, 1), "positive"),
        (dix.encode_message, link.FlowReply(64, 64, -1009, b"x"), "no data"),
        (dix.encode_message, eth.NameQuery(b""), "no hash has 0"),
        (dix.encode_message, link.FlowRequest(64, HASH, data=bytes(9000)), "9000 is the most"),
        (llc.encode, llc.Frame(A, B, 64, 2), "not from SAP"),
        (llc.encode, llc.Frame(A, B, 1, 2), "not from SAP"),
        (llc.encode, llc.Frame(A, B, 2, 2, bytes(1498)), "too many"),
        (llc.encode_message, link.FlowReply(2, 64), "endpoint 64"),
        (udp.encode, udp.Datagram(4096), "endpoint id 4096"),
        (udp.encode, udp.Datagram(0, b"looks like management"), "endpoint id 0"),
        (udp.encode, udp.FlowRequest(64, bytes(16), data=bytes(1986)), "2048 is the most"),
        (udp.encode, udp.FlowReply(64, 64, 0, bytes(2002)), "2048 is the most"),
        (udp.encode, udp.FlowReply(64, 64, 5), "positive"),
        # spec/fa FA-3: endpoint ids of components, in flow allocator messages.
        (fa.encode, fa.FlowReply(0, 64), "endpoint id 0x0"),
        (fa.encode, fa.FlowReply(63, 0, -1), "endpoint id 0x3f"),
        (fa.encode, fa.FlowUpdate(0, 1), "endpoint id 0x0"),
        (fa.encode, fa.FlowRequest(1, (1 << 64) - 1, HASH), "endpoint id 0xffff"),
        (fa.encode, fa.FlowRequest(1, 64, HASH, data=bytes(2048)), "2048 is the most"),
        (dt.encode, dt.Packet(0, 0), "address 0"),
        (dt.encode, dt.Packet(1, 2), "endpoint id 0x2"),
        (dt.encode, dt.Packet(1, 64, ttl=0), "TTL 0"),
        (dt.encode, dt.Packet(1, 64, ttl=256), "TTL 256"),
        (dt.encode, dt.Packet(1, 64, cube=256), "cube 256"),
        (dt.encode, dt.Packet(1, 64, cube=-1), "cube -1"),
        (dt.encode, dt.Packet(1, 64, ecn=256), "ECN 256"),
        (dt.encode, dt.Packet(1, 64, ecn=-1), "ECN -1"),
        # Directory: answers without a contact, ids of another length.
        (dht.encode, dht.FindNodeReply(NODE, 1, HASH, ()), "0 contacts"),
        (dht.encode, dht.FindValueReply(NODE, 1, HASH, (), (b"v",)), "0 contacts"),
        (dht.encode, dht.FindNode(dht.Contact(bytes(28), 7), 1, HASH), "28 octets and not 32"),
        (dht.encode, dht.FindNode(NODE, 1, bytes(31)), "no hash has 31"),
        (dht.encode, dht.FindNodeReply(NODE, 1, HASH, (NODE,) * 21), "21 contacts"),
        (dht.encode, dht.FindNode(NODE, 0, HASH), "cookie is 0"),
        (dht.encode, dht.Store(NODE, HASH, b"", 1), "0 octets"),
        (connmgr.encode, connmgr.Record("x" * 128), "127 is the most"),
        (connmgr.encode, connmgr.Record(address=1 << 32), "nobody has"),
        (enrol.encode_request, enrol.Request(bytes(7)), "7 octets and not 8"),
        (enrol.encode_response, enrol.Response(IDENTITY, 0, 0, None), "configuration"),
        (enrol.encode_response, enrol.Response(IDENTITY, 0, 0, UNICAST, -1), "configuration"),
        (enrol.encode_response, enrol.Response(IDENTITY, 0, 0, replace(UNICAST, layer="l" * 256)), "255"),
        (enrol.encode_response, enrol.Response(IDENTITY, 0, 0, replace(UNICAST, unicast=None)), "fitting"),
        (
            enrol.encode_response,
            enrol.Response(IDENTITY, 0, 0, replace(UNICAST, hash=DirectoryHashAlgo.CRC32)),
            "CRC32",
        ),
        (link_state.encode, Lsm(1, 1, 0), "cannot be true"),
        (header.encode, replace(HEADER, id=b"short"), "not 16"),
        (header.encode, replace(HEADER, certificate=b"x"), "come together"),
        (header.encode, replace(HEADER, hybrid=True), "not there"),
        (header.encode, replace(HEADER, kex=bytes(0x4000)), "too many"),
        (header.encode, replace(HEADER, data=bytes(9000)), "8961 is the most"),
        (header.encode, replace(HEADER, timestamp=-1), "does not fit its field"),
    ],
)
def test_never_sent(encode: Callable[[Any], bytes], message: object, reason: str) -> None:
    with pytest.raises(UnsendablePacket, match=reason):
        encode(message)


def management(message: eth.Message) -> bytes:
    return dix.encode_message(message)


def wire(**fields: Any) -> bytes:
    """A directory message with these parts and a sound source."""
    return dht_pb2.Message(src=dht_pb2.Contact(id=HASH, addr=7), **fields).SerializePartialToString()


REQUEST = dix.encode(dix.Frame(A, B, 0, management(link.FlowRequest(64, HASH))))


@pytest.mark.parametrize(
    ("octets", "reason"),
    [
        (REQUEST[:17], "17 octets"),
        (REQUEST[:-1], "its length says 71 octets, 70 are there"),
        (REQUEST[:12] + b"\x05\xdc" + REQUEST[14:], "not an ethertype"),
        (REQUEST[:6] + b"\x01" + REQUEST[7:], "cannot have sent it"),
        (REQUEST[:14] + b"\x10\x00" + REQUEST[16:], "above 4095"),
    ],
)
def test_frame(octets: bytes, reason: str) -> None:
    with pytest.raises(MalformedPacket, match=reason):
        dix.decode(octets)


def test_padding_of_a_runt_frame_is_not_payload() -> None:
    """Traps 69: Ethernet pads to 60 octets."""
    frame = dix.Frame(A, B, 64, b"runt")
    assert dix.decode(dix.encode(frame).ljust(60, b"\0")) == frame
    short = llc.Frame(A, B, 2, 3)
    assert llc.decode(llc.encode(short).ljust(60, b"\0")) == short


@pytest.mark.parametrize(
    ("octets", "reason"),
    [
        (bytes(38), "38 octets"),
        (bytes(39), "0 octets of a hash"),
        (management(eth.NameQuery(HASH)) + b"x", "1 octets behind the hash"),
        (management(eth.NameQuery(HASH))[:-1], "31 octets of a hash"),
        (bytes(37) + b"\x04" + bytes(33), "unknown code 4"),
        (bytes(37) + b"\x01\x00", "endpoint 0"),
        (bytes(9001), "9001 octets"),
    ],
)
def test_management(octets: bytes, reason: str) -> None:
    with pytest.raises(MalformedPacket, match=reason):
        dix.decode_message(octets, hash_length=32)


def test_what_a_message_does_not_use_is_not_looked_at() -> None:
    """An older prototype left what was in its memory there (spec/lessons 66)."""
    octets = b"\xaa" * 36 + b"\x01\x02\x05" + HASH
    assert dix.decode_message(octets, hash_length=32) == eth.NameQuery(HASH)
    assert dix.encode_message(eth.NameQuery(HASH))[:37] == bytes(37)


@pytest.mark.parametrize("response", [-1009, 3])
def test_every_response_but_0_is_a_refusal_whatever_comes_with_it(response: int) -> None:
    octets = bytearray(management(link.FlowReply(64, 65)) + b"blob")
    octets[32:36] = response.to_bytes(4, "big", signed=True)
    assert dix.decode_message(bytes(octets), hash_length=32) == link.FlowReply(64, 65, response, b"blob")


@pytest.mark.parametrize(
    ("octets", "reason"),
    [
        (bytes(3), "3 octets"),
        (bytes(46), "46 octets"),
        (bytes(2049), "2049 octets"),
        (bytes(47), "unknown code 0"),
        (b"\x00\x00\x10\x00", "above 4095"),
        (udp.encode(udp.FlowRequest(64, bytes(16)))[:62], "15 octets of a hash"),
        (b"\x00\x00\x00\x40" + bytes(8977), "too many"),
    ],
)
def test_udp(octets: bytes, reason: str) -> None:
    with pytest.raises(MalformedPacket, match=reason):
        udp.decode(octets)


@pytest.mark.parametrize(
    ("octets", "reason"),
    [
        (bytes(60), "60 octets"),
        (bytes(2049), "2049 octets"),
        (fa.encode(fa.FlowUpdate(64, 1)) + b"x", "behind an update"),
        (fa.encode(fa.FlowUpdate(64, 1))[:58] + b"\x03\x00\x00", "unknown code 3"),
        (bytes(58) + b"\x02\x00\x00", "endpoint id 0x0"),
        (b"\x01" + fa.encode(fa.FlowRequest(1, 64, HASH))[1:], "nobody has the address"),
    ],
)
def test_flow_allocator(octets: bytes, reason: str) -> None:
    with pytest.raises(MalformedPacket, match=reason):
        fa.decode(octets, hash_length=32)


@pytest.mark.parametrize(
    ("octets", "reason"),
    [
        (bytes(14), "14 octets"),
        (bytes(15), "address 0"),
        (b"\x01\0\0\0\0\0\0" + bytes(8), "TTL is 0"),
        (b"\x01\0\0\0\0\x3c\0\x3f" + bytes(7), "endpoint id 0x3f"),
        (b"\x01\0\0\0\0\x3c\0" + b"\xff" * 8, "endpoint id 0xffff"),
    ],
)
def test_data_transfer(octets: bytes, reason: str) -> None:
    with pytest.raises(MalformedPacket, match=reason):
        dt.decode(octets)


@pytest.mark.parametrize(
    ("octets", "reason"),
    [
        (bytes(23), "23 octets"),
        (bytes(24), "cannot be true"),
        (link_state.encode(Lsm(1, 2, 0)) + b"\x02\x01" + bytes(6), "version 2"),
        (link_state.encode(Lsm(1, 2, 0)) + b"\x01\x00" + bytes(6), "flags 0x00"),
        (link_state.encode(Lsm(1, 2, 0)) + b"\x01\x01" + bytes(5) + b"\x01", "without the flag"),
        (link_state.encode(Lsm(1, 2, 0)) + b"\x01\x02" + bytes(6), "cannot be true"),
    ],
)
def test_link_state(octets: bytes, reason: str) -> None:
    with pytest.raises(MalformedPacket, match=reason):
        link_state.decode(octets)


FIND = dht_pb2.Find(cookie=1, key=HASH)


@pytest.mark.parametrize(
    ("octets", "reason"),
    [
        (b"", "required field"),
        (b"\xff\xff", "malformed directory message"),
        (wire(code=5), "unknown code 5"),
        (wire(code=0), "without the part store"),
        (wire(code=1), "without the part find"),
        (wire(code=2, find=FIND), "without the part node"),
        (wire(code=4, node=dht_pb2.Nodes(cookie=1, key=HASH)), "without the part val"),
        (wire(code=1, find=dht_pb2.Find(cookie=0, key=HASH)), "cookie is 0"),
        (wire(code=1, find=dht_pb2.Find(cookie=1, key=b"k")), "1 octets and not 32"),
        (wire(code=1, find=dht_pb2.Find(cookie=1)), "required field"),
        (wire(code=0, store=dht_pb2.Store(key=HASH, val=b"", exp=1)), "0 octets"),
        (
            wire(code=2, node=dht_pb2.Nodes(cookie=1, key=HASH, contacts=[dht_pb2.Contact(id=HASH, addr=0)])),
            "nobody",
        ),
        (bytes(4097), "4096 is the most"),
    ],
)
def test_directory(octets: bytes, reason: str) -> None:
    with pytest.raises(MalformedPacket, match=reason):
        dht.decode(octets, key_length=32)


@pytest.mark.parametrize("number", [0, 21, 60])
def test_answers_can_be_read_that_we_would_not_send(number: int) -> None:
    """A prototype's k is not bounded by its commands."""
    contacts = [dht_pb2.Contact(id=HASH, addr=7)] * number
    octets = wire(code=2, node=dht_pb2.Nodes(cookie=1, key=HASH, contacts=contacts))
    assert dht.decode(octets, key_length=32) == dht.FindNodeReply(NODE, 1, HASH, (NODE,) * number)


@pytest.mark.parametrize(
    ("octets", "reason"),
    [
        (b"", "required field"),
        (b"\x0a\x01\xff\x12\x00\x18\x00\x28\x00\x40\x00", "not UTF-8"),
        (b"\x0a\x00\x12\x00\x18\x00\x28\x00\x40" + b"\x80" * 4 + b"\x10", "nobody has the address"),
        (connmgr.encode(connmgr.ENROLMENT).ljust(129, b"\0"), "128 is the most"),
    ],
)
def test_connection_record(octets: bytes, reason: str) -> None:
    with pytest.raises(MalformedPacket, match=reason):
        connmgr.decode(octets)


def response(change: Callable[[enrol_pb2.Response], None]) -> bytes:
    message = enrol_pb2.Response.FromString(enrol.encode_response(enrol.Response(IDENTITY, 1, 2, UNICAST)))
    change(message)
    return message.SerializePartialToString()


def unicast(**fields: int) -> Callable[[enrol_pb2.Response], None]:
    """Sets fields of the unicast configuration; `dt_max_ttl` is the field max_ttl of dt, and so on."""

    def change(message: enrol_pb2.Response) -> None:
        for path, value in fields.items():
            part: Any = message.conf.unicast
            *steps, name = path.split("__")
            for step in steps:
                part = getattr(part, step)
            setattr(part, name, value)

    return change


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda m: m.ClearField("conf"), "without a configuration"),
        (lambda m: m.conf.ClearField("unicast"), "not that of a layer of type unicast"),
        (lambda m: setattr(m.conf, "ipcp_type", 2), "not that of a layer of type broadcast"),
        (lambda m: setattr(m.conf, "ipcp_type", 99), "type of IPCP 99 is unknown"),
        (lambda m: setattr(m.conf.layer_info, "dir_hash_algo", 9), "hash 9 is unknown"),
        (lambda m: setattr(m.conf.layer_info, "dir_hash_algo", 4), "CRC32 does not name"),
        (lambda m: setattr(m.conf.layer_info, "name", b""), "no name"),
        (lambda m: setattr(m.conf.layer_info, "name", b"\xff"), "not UTF-8"),
        (lambda m: setattr(m.conf.layer_info, "name", b"x" * 256), "255 is the most"),
        (lambda m: setattr(m, "t_nsec", 1_000_000_000), "nanoseconds"),
        (lambda m: setattr(m, "id", b"x"), "1 octets and not 8"),
        (lambda m: m.conf.unicast.dt.routing.ClearField("ls"), "without the parameters"),
        (lambda m: m.conf.unicast.dir.ClearField("dht"), "without the parameters"),
        (unicast(dt__addr_size=8), "addresses of 8"),
        (unicast(dt__eid_size=4), "endpoint ids of 4"),
        (unicast(dt__max_ttl=0), "TTL of 0"),
        (unicast(dt__max_ttl=256), "TTL of 256"),
        (unicast(dt__routing__pol=1), "routing policy 1 is unknown"),
        (unicast(dt__routing__ls__pol=3), "link state policy 3 is unknown"),
        (unicast(dt__routing__ls__t_update=0), "is 0 or too large"),
        (unicast(dir__pol=1), "directory policy 1 is unknown"),
        (unicast(dir__dht__peer=0), "is 0 or too large"),
        (unicast(dir__dht__k=0), "is 0 or too large"),
        (unicast(addr_auth_type=1), "address policy 1 is unknown"),
        (unicast(cong_avoid=2), "congestion avoidance policy 2 is unknown"),
        (lambda m: setattr(m.conf, "require", 4), "requirement 0x4 of the layer is unknown"),
        (lambda m: setattr(m.conf, "require", 0xFFFFFFFF), "of the layer is unknown"),
        (lambda m: setattr(m.conf, "admit", b"m1,,m2"), "makes no sense"),
        (lambda m: setattr(m.conf, "admit", b"m\n1"), "makes no sense"),
        (lambda m: setattr(m.conf, "admit", b"\xff"), "not UTF-8"),
        (lambda m: setattr(m.conf, "admit", b"x" * 256), "255 is the most"),
    ],
)
def test_enrolment(change: Callable[[enrol_pb2.Response], None], reason: str) -> None:
    with pytest.raises(MalformedPacket, match=reason):
        enrol.decode_response(response(change))


def test_a_prototype_sees_nothing_of_what_we_add() -> None:
    """Fields that it does not know come last, and are absent unless set."""
    plain = enrol.encode_response(enrol.Response(IDENTITY, 1, 2, UNICAST))
    access = Access(Requirement.AUTHENTICATION, ("m?", "n*"))
    ours = replace(UNICAST, unicast=replace(LAYER, max_packet=1400), access=access)
    said = enrol.encode_response(enrol.Response(IDENTITY, 1, 2, ours))
    assert len(said) > len(plain)
    assert enrol.decode_response(said).configuration == ours
    assert enrol.encode_request(enrol.Request(IDENTITY, "net")).startswith(
        enrol.encode_request(enrol.Request(IDENTITY))
    )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda o: o[:35], "35 octets"),
        (lambda o: o + b"x", "1 octets too many"),
        (lambda o: o[:24] + b"\x04\x48" + o[26:], "cipher 1096 is unknown"),
        (lambda o: o[:26] + b"\x04\x48" + o[28:], "key derivation hash 1096 is unknown"),
        (lambda o: o[:28] + b"\x00\x01" + o[30:], "digest 1 is unknown"),
        (lambda o: o[:30] + b"\x00\x01" + o[32:], "at least 37 octets"),
        (lambda o: o[:30] + b"\x00\x01" + o[32:] + b"c", "without a signature"),
        (lambda o: o[:32] + b"\x40\x00" + o[34:], "flags of a key exchange"),
        (lambda o: o[:34] + b"\xff\xff" + o[36:], "at least 65571 octets"),
        (lambda o: o.ljust(9000), "9000 octets"),
    ],
)
def test_handshake(change: Callable[[bytes], bytes], reason: str) -> None:
    with pytest.raises(MalformedPacket, match=reason):
        header.decode_request(change(header.encode(HEADER)))
