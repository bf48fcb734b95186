"""The judge detects each violation: for each rule a packet that breaks it, and a similar one that does not."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from . import lower, upper
from .judge import Judge
from .lower import Cep, Config, Management, Qos
from .octets import Wrong, varint, write
from .upper import Contact, DhtMessage, FaMessage, Link, Packet

ME, PEER = 0x0A000001, 0x0B000002
NOW = time.time_ns()
HEADER = bytes(range(16)) + NOW.to_bytes(8, "big") + bytes(12)
KEY = bytes(32)
NODE = Contact(bytes(range(32)), PEER)
EID = 0x1234567800000042

REQUEST = Management(lower.REQUEST, 64, 0, 0, lower.RAW, bytes(16) + HEADER)
REPLY = Management(lower.REPLY, 64, 65, 0, lower.NO_QOS, lower.reply_header(HEADER))
REFUSAL = replace(REPLY, response=-1007, data=b"")


def management(**fields: object) -> bytes:
    return lower.write_management(replace(REQUEST, **fields))  # type: ignore[arg-type]


def reply(**fields: object) -> bytes:
    return lower.write_management(replace(REPLY, **fields))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "datagram",
    [
        management()[:46],
        management(data=bytes(2048)),
        management(data=bytes(16)),
        management(code=0),
        management(acceptor=64),
        management(requester=0),
        management(requester=4096),
        management(qos=Qos(in_order=1, ber=0)),
        reply(response=1),
        reply(response=-1009),
        reply(acceptor=0),
        reply(acceptor=4096),
        reply(requester=63),
        reply(qos=lower.RAW),
    ],
)
def test_management(datagram: bytes) -> None:
    with pytest.raises(Wrong):
        lower.read_management(datagram)
    for good in (REQUEST, REPLY, REFUSAL):
        assert lower.read_management(lower.write_management(good)) == good


@pytest.mark.parametrize(
    "header",
    [
        HEADER[:35],
        HEADER + b"x",
        HEADER[:24] + b"\x03\x89" + HEADER[26:],
        HEADER[:16] + (NOW - 21 * 10**9).to_bytes(8, "big") + HEADER[24:],
        HEADER[:16] + (NOW + 10**9).to_bytes(8, "big") + HEADER[24:],
    ],
)
def test_requests(header: bytes) -> None:
    with pytest.raises(Wrong):
        lower.read_request_header(header, NOW)
    assert lower.read_request_header(HEADER, NOW).id == HEADER[:16]


def test_replies() -> None:
    good = lower.reply_header(HEADER)
    lower.read_reply_header(good, HEADER)
    offered = good[:34] + b"\0\1x" + good[36:]
    for bad in (good[:36], good[:-1], good + b"x", b"x" + good[1:], offered, HEADER):
        with pytest.raises(Wrong):
            lower.read_reply_header(bad, HEADER)


@pytest.mark.parametrize(
    "packet",
    [
        lower.management(PEER).write() + write((100, b"x" * 100)),
        lower.management(0).write(),
        lower.data_transfer(1 << 32).write(),
        replace(lower.ENROLMENT, address=PEER).write(),
        Cep(b"Management", b"LSP", 2, 0, PEER).write(),
        lower.BROADCAST.write(),
        lower.ENROLMENT.write()[:-2],
        lower.ENROLMENT.write() + write((4, 1)),
        lower.ENROLMENT.write()[:-1] + b"\x80\0",
        b"\xff",
    ],
)
def test_records(packet: bytes) -> None:
    with pytest.raises(Wrong):
        lower.read_cep(packet)
    for good in (lower.management(PEER), lower.data_transfer(PEER), lower.ENROLMENT, lower.NOBODY):
        assert lower.read_cep(good.write()) == good
    assert lower.read_cep(lower.BROADCAST.write(), broadcast=True) == lower.BROADCAST


def response(config: Config, *more: tuple[int, int | bytes]) -> bytes:
    return lower.write_response(bytes(8), config) + write(*more)


@pytest.mark.parametrize(
    "packet",
    [
        response(Config()),  # peer 0
        response(Config(peer=1 << 32)),
        response(Config(peer=PEER, routing=3)),
        response(Config(peer=PEER, congestion=2)),
        response(Config(peer=PEER, max_ttl=0)),
        response(Config(peer=PEER, hash=5)),
        response(Config(peer=PEER, kind=3)),
        response(Config(peer=PEER), (100, bytes(1000))),
        write((1, bytes(8)), (2, 1), (3, 1), (4, 0)),
        write((1, bytes(8)), (2, 1), (3, 1), (4, 1)),
        write((1, bytes(7)), (2, 1), (3, 1), (4, -1)),
        write((1, bytes(8)), (2, 1), (3, 10**9), (4, -1)),
    ],
)
def test_configurations(packet: bytes) -> None:
    with pytest.raises(Wrong):
        lower.read_response(packet)
    assert lower.read_response(response(Config(peer=PEER), (100, b"x"))).config == Config(peer=PEER)
    assert lower.read_response(response(Config(kind=2))).config == Config(kind=2)
    assert lower.read_response(write((1, bytes(8)), (2, 1), (3, 1), (4, -1))).response == -1


PACKET = Packet(ME, 0, 60, 0, EID, b"data")


@pytest.mark.parametrize(
    "octets",
    [
        PACKET.write()[:14],
        replace(PACKET, dst=0).write(),
        replace(PACKET, ttl=0).write(),
        replace(PACKET, ttl=61).write(),
        replace(PACKET, cube=3).write(),
        replace(PACKET, eid=2).write(),
        replace(PACKET, eid=upper.NO_EID).write(),
    ],
)
def test_data_transfer(octets: bytes) -> None:
    with pytest.raises(Wrong):
        upper.read_packet(octets, 60)
    assert upper.read_packet(PACKET.write(), 60) == PACKET


FA_REQUEST = FaMessage(upper.REQUEST, PEER, 0, EID, 0, lower.RAW, 0, KEY, HEADER)
FA_REPLY = FaMessage(upper.REPLY, 0, EID, EID, data=lower.reply_header(HEADER))
FA_UPDATE = FaMessage(upper.UPDATE, to=EID, congestion=11)


@pytest.mark.parametrize(
    "message",
    [
        replace(FA_REQUEST, source=0),
        replace(FA_REQUEST, eid=63),
        replace(FA_REQUEST, to=EID),
        replace(FA_REQUEST, data=HEADER[:35]),
        replace(FA_REQUEST, data=bytes(2000)),
        replace(FA_REQUEST, qos=Qos(in_order=1, ber=0)),
        replace(FA_REPLY, to=0),
        replace(FA_REPLY, eid=1),
        replace(FA_REPLY, source=PEER),
        replace(FA_REPLY, response=-1007),
        replace(FA_REPLY, response=1, data=b""),
        replace(FA_REPLY, qos=lower.RAW),
        replace(FA_UPDATE, to=1),
        replace(FA_UPDATE, eid=EID),
        replace(FA_UPDATE, code=3),
    ],
)
def test_flow_allocator(message: FaMessage) -> None:
    with pytest.raises(Wrong):
        upper.read_fa(message.write(), 32)
    for good in (FA_REQUEST, FA_REPLY, FA_UPDATE, FaMessage(upper.REPLY, to=EID, response=-1007)):
        assert upper.read_fa(good.write(), 32) == good
    with pytest.raises(Wrong):
        upper.read_fa(FA_UPDATE.write()[:-1], 32)


def test_link_state() -> None:
    good = Link(ME, PEER, 7)
    assert upper.read_link(good.write(), ME) == good
    assert upper.read_link(good.write() + bytes(8), ME) is None
    for bad in (Link(PEER, ME, 7), Link(0, PEER, 7), Link(PEER, PEER, 7), Link(1 << 32, PEER, 7)):
        with pytest.raises(Wrong):
            upper.read_link(bad.write(), ME)
    with pytest.raises(Wrong):
        upper.read_link(good.write() + b"x", ME)


STORE = DhtMessage(upper.STORE, NODE, KEY, value=PEER.to_bytes(8, "big"), expires=1)
FIND = DhtMessage(upper.FIND_VALUE, NODE, KEY, 77)
FOUND = DhtMessage(upper.VALUE_REPLY, NODE, KEY, 77, contacts=(NODE,), values=(STORE.value,))


@pytest.mark.parametrize(
    "payload",
    [
        write((1, 5), (2, NODE.write())),
        FIND.write() + write((5, b"")),
        replace(FIND, cookie=0).write(),
        replace(FIND, key=bytes(31)).write(),
        replace(FIND, source=Contact(bytes(31), PEER)).write(),
        replace(FIND, source=Contact(bytes(32), 0)).write(),
        replace(FOUND, contacts=()).write(),
        replace(FOUND, contacts=(Contact(bytes(32), 1 << 32),)).write(),
        replace(FOUND, values=(STORE.value,) * 9).write(),
        replace(STORE, value=b"").write(),
        replace(STORE, value=bytes(8)).write(),
        write((1, 3), (2, NODE.write())),
        b"\x08" + b"\x83\0" + FIND.write()[2:],
        FIND.write() + varint(100 << 3) + b"\1",
    ],
)
def test_directory(payload: bytes) -> None:
    with pytest.raises(Wrong):
        upper.read_dht(payload, 32)
    empty = replace(FOUND, values=())
    for good in (STORE, FIND, FOUND, empty, replace(empty, code=upper.NODE_REPLY)):
        assert upper.read_dht(good.write(), 32) == good


def test_a_verdict_has_the_octets() -> None:
    judge = Judge()

    def broken() -> None:
        raise Wrong("it is broken")

    def sound() -> Callable[[], None]:
        return broken

    assert judge.look("thing", b"\1\2", sound) is broken
    judge.verdict()
    assert judge.look("thing", b"\1\2", broken) is None
    with pytest.raises(AssertionError, match="thing: it is broken: 0102"):
        judge.verdict()
    assert judge.seen["thing"] == 2
