"""The captures of prototypes, replayed to the daemons step by step: these answer with the octets of the prototype.

The values that a conversation draws anew (addresses, ids, times, endpoint ids of the answerer, and this project's extensions, with field numbers
from 100 on) are substituted; all other octets are compared. One side of each capture is replayed, then the other.
"""

from __future__ import annotations

import time
from dataclasses import replace

from . import lower, upper
from .capture import Sent, conversation, sent
from .lower import Config, Management
from .member import Broadcast, Unicast
from .names import Flow, Process
from .octets import OURS, Message, read, write
from .transfer import sha3
from .upper import FaMessage, Link, Packet
from .world import World

ENROLMENT = "unicast-enroll-eth.pcap"
"""A newcomer enrols, connects, asks the directory, allocates a flow and sends three pings."""


class Capture:
    """The conversation of `ENROLMENT`: the newcomer's part and the member's, in the order in which they came."""

    def __init__(self) -> None:
        self.packets = conversation(ENROLMENT)
        self.cep, self.cep_answer, self.request, self.response, self.ack = self.payloads(0, 5)
        self.mgmt, self.mgmt_answer, self.dt, self.dt_answer = self.payloads(5, 9)
        self.member_link, self.newcomer_link, self.find = self.payloads(9, 12)
        self.found = self.packets[13].payload
        self.fa, self.fa_answer, self.ping, self.pong = self.payloads(16, 20)
        self.id = lower.read_enrol_request(self.request)
        config = lower.read_response(self.response).config
        assert config is not None
        self.config = config
        self.newcomer = lower.read_cep(self.mgmt).address
        self.member = lower.read_cep(self.mgmt_answer).address
        assert self.config.peer == self.member

    def payloads(self, first: int, last: int) -> list[bytes]:
        return [packet.payload for packet in self.packets[first:last]]

    def whom(self, octets: bytes, old: int, new: int) -> bytes:
        """The octets with another address, in either byte order."""
        octets = octets.replace(old.to_bytes(4, "little"), new.to_bytes(4, "little"))
        return octets.replace(old.to_bytes(4, "big"), new.to_bytes(4, "big"))


def without_ours(message: bytes, *path: int) -> bytes:
    """A message without our extensions, and so the message in it that is found by the numbers of the fields."""
    fields = [(field.number, field.value) for field in read(message) if field.number < OURS]
    return write(
        *(
            (
                number,
                without_ours(value, *path[1:])
                if [number] == [*path[:1]] and isinstance(value, bytes)
                else value,
            )
            for number, value in fields
        )
    )


def test_ours_is_the_member(world: World) -> None:
    capture = Capture()
    ours, proto = world.ours("ours"), world.prototype("proto")
    c = capture.config
    ours.bootstrap(
        c.layer.decode(),
        ttl=c.max_ttl,
        ls_t_recalc=c.t_recalc,
        ls_t_update=c.t_update,
        ls_t_timeo=c.t_timeo,
        dht_alpha=c.alpha,
        dht_k=c.k,
        dht_t_expire=c.t_expire,
        dht_t_refresh=c.t_refresh,
        dht_t_replicate=c.t_replicate,
    )
    ours.serve("oping")
    world.call(play_newcomer(capture, proto))


async def play_newcomer(capture: Capture, proto: Unicast) -> None:
    """All that the newcomer sent, and what it got."""
    enrol = await proto.link.allocate("ours")
    enrol.write(capture.cep)
    assert await enrol.read(5) == capture.cep_answer
    enrol.write(capture.request)
    response = await enrol.read(5)
    address = same_response(capture, response)
    enrol.write(capture.ack)
    enrol.deallocate()

    mgmt, dt = [await proto.link.allocate("ours") for _ in range(2)]
    mgmt.write(capture.mgmt)
    assert await mgmt.read(5) == lower.management(address).write()
    dt.write(capture.dt)
    assert await dt.read(5) == lower.data_transfer(address).write()
    # Our link, as the member announced its own: target and number, and nothing more.
    assert await mgmt.read(5) == capture.whom(capture.member_link, capture.member, address)
    mgmt.write(capture.whom(capture.newcomer_link, capture.member, address))
    await ask_directory(capture, dt, address)
    await allocate(capture, dt, address)


def same_response(capture: Capture, response: bytes) -> int:
    """The address of the member in a configuration that is that of the capture."""
    read_back = lower.read_response(response)
    assert read_back.config is not None
    address = read_back.config.peer
    message = Message(response, numbers=(2, 3, 4), texts=(1,), maybe=(5,))
    head = ((1, capture.id), (2, message.number(2)), (3, message.number(3)), (4, 0))
    config = replace(capture.config, peer=address)
    assert without_ours(response, 5, 3) == write(*head, (5, config.write()))
    # Encoded in this way, the capture is unchanged: the comparison is with the octets on the wire.
    theirs = Message(capture.response, numbers=(2, 3, 4), texts=(1,), maybe=(5,))
    head = ((1, capture.id), (2, theirs.number(2)), (3, theirs.number(3)), (4, 0))
    assert capture.response == write(*head, (5, capture.config.write()))
    return address


async def ask_directory(capture: Capture, dt: Flow, address: int) -> None:
    """The newcomer asks twice, with one cookie, and gets two answers, with itself among the contacts."""
    find = capture.whom(capture.find, capture.member, address)
    await next_of(dt, 1)  # it greets whom it can reach: now there are routes
    dt.write(find)
    dt.write(find)
    question = upper.read_dht(find[upper.DT.size :], 32)
    theirs = upper.read_dht(capture.found[upper.DT.size :], 32)
    assert theirs.contacts == (question.source,)
    got = 0
    while got < 2:
        packet = await next_of(dt, 1)
        message = upper.read_dht(packet.payload, 32)
        if message.code != upper.NODE_REPLY:
            continue  # we ask too, of our own accord, and store names
        own = upper.Contact(message.source.id, address)
        answer = replace(theirs, source=own, cookie=question.cookie, key=question.key)
        assert packet == Packet(capture.newcomer, 0, capture.config.max_ttl, 0, 1, answer.write())
        got += 1


async def allocate(capture: Capture, dt: Flow, address: int) -> None:
    """The request of the capture with a header of today; then its first ping."""
    asked = upper.read_fa(capture.fa[upper.DT.size :], 32)
    request = replace(asked, key=sha3(b"oping"), data=lower.new_header())
    assert replace(request, key=asked.key, data=asked.data).write() == capture.fa[upper.DT.size :]
    packet = Packet(address, 0, capture.config.max_ttl, 0, 0, request.write())
    dt.write(packet.write())
    reply = await next_of(dt, 0)
    got = upper.read_fa(reply.payload, 32)
    lower.read_reply_header(got.data, request.data)
    theirs = upper.read_fa(capture.fa_answer[upper.DT.size :], 32)
    assert len(got.data) == len(theirs.data)
    expected = replace(theirs, eid=got.eid, data=got.data).write()
    assert reply.write() == Packet(capture.newcomer, 0, capture.config.max_ttl, 0, 0, expected).write()

    ping = upper.read_packet(capture.ping, 60)
    dt.write(replace(ping, dst=address, eid=got.eid).write())
    pong = await next_of(dt, asked.eid)
    assert pong.write() == capture.pong


async def next_of(dt: Flow, eid: int) -> Packet:
    """The next packet to this endpoint id; the directory goes on meanwhile."""
    while True:
        packet = upper.read_packet(await dt.read(5), 60)
        if packet.eid == eid:
            return packet


def test_ours_is_the_newcomer(world: World) -> None:
    capture = Capture()
    ours, proto = world.ours("ours"), world.prototype("proto")
    flows = world.now(bind, proto)
    member = world.start(play_member(capture, proto, flows))
    ours.enroll("proto")
    ours.connect("proto")
    pinged = ours.system.spawn("oping", "-n", "oping", "-c", "1", "-s", "64")
    member.result(30)
    assert pinged.wait() == 0 and "1 packets transmitted, 1 received" in pinged.output, pinged.output


def bind(proto: Broadcast | Unicast) -> Process:
    process = Process()
    proto.names.bind("proto", process)
    return process


async def play_member(capture: Capture, proto: Unicast, process: Process) -> None:
    """All packets of the member, in response to those of the newcomer."""
    enrol = await process.accept()
    same_request(proto, "uni4-bc.pcap")
    assert await enrol.read(5) == capture.cep
    enrol.write(capture.cep_answer)
    request = await enrol.read(5)
    identity = lower.read_enrol_request(request)
    assert without_ours(request) == capture.request.replace(capture.id, identity)
    enrol.write(capture.response.replace(capture.id, identity))
    assert await enrol.read(5) == capture.ack.replace(capture.id, identity)

    mgmt = await process.accept()
    same_request(proto, "uni4-bc.pcap")
    record = await mgmt.read(5)
    address = lower.read_cep(record).address
    assert without_ours(record) == lower.management(address).write()
    mgmt.write(capture.mgmt_answer)
    dt = await process.accept()
    same_request(proto, "uni4-bc.pcap")
    assert without_ours(await dt.read(5)) == lower.data_transfer(address).write()
    dt.write(capture.dt_answer)
    assert await mgmt.read(5) == capture.whom(capture.newcomer_link, capture.newcomer, address)
    mgmt.write(capture.whom(capture.member_link, capture.newcomer, address))

    requester = 0
    while True:
        packet = upper.read_packet(await dt.read(10), 60)
        if packet.eid == 1:
            dt.write(Packet(address, 0, 60, 0, 1, answer_question(capture, packet).write()).write())
        elif packet.eid == 0:
            reply = answer_request(capture, packet, address)
            requester = reply.to
            dt.write(Packet(address, 0, 60, 0, 0, reply.write()).write())
        else:
            theirs = upper.read_packet(capture.ping, 60)
            assert (packet.dst, packet.cube, packet.ttl, packet.ecn) == (capture.member, 0, 60, 0)
            assert len(packet.payload) == len(theirs.payload) and packet.payload[:8] == theirs.payload[:8]
            pong = b"\0\0\0\1" + packet.payload[4:]
            dt.write(Packet(address, 0, 60, 0, requester, pong).write())
            return


def answer_question(capture: Capture, packet: Packet) -> upper.DhtMessage:
    """The answer of the capture to a question that is that of the capture, or that asks for "oping"."""
    question = upper.read_dht(packet.payload, 32)
    asked = upper.read_dht(capture.find[upper.DT.size :], 32)
    same = replace(asked, source=question.source, key=question.key, cookie=question.cookie)
    assert question.code == upper.FIND_VALUE or question == same
    found = upper.read_dht(capture.found[upper.DT.size :], 32)
    answer = replace(found, key=question.key, cookie=question.cookie, contacts=(question.source,))
    if question.code == upper.FIND_NODE:
        return answer
    values = (capture.member.to_bytes(8, "big"),) if question.key == sha3(b"oping") else ()
    return replace(answer, code=upper.VALUE_REPLY, values=values)


def answer_request(capture: Capture, packet: Packet, address: int) -> FaMessage:
    """The reply of the capture to a request that is that of the capture."""
    got = upper.read_fa(packet.payload, 32)
    theirs = upper.read_fa(capture.fa[upper.DT.size :], 32)
    expected = replace(theirs, source=address, eid=got.eid, key=sha3(b"oping"), data=got.data)
    assert packet.write() == Packet(capture.member, 0, 60, 0, 0, expected.write()).write()
    assert len(got.data) == len(theirs.data)
    lower.read_request_header(got.data, time.time_ns())
    eid = upper.read_fa(capture.fa_answer[upper.DT.size :], 32).eid
    return FaMessage(upper.REPLY, to=got.eid, eid=eid, data=lower.reply_header(got.data))


def same_request(proto: Broadcast | Unicast, name: str, **qos: int) -> None:
    """The last flow request has the contents of a prototype's over udp4; with the given QoS."""
    theirs = lower.read_management(next(packet.frame[42:] for packet in sent(name) if packet.eid == 0))
    ours = proto.link.requests[-1]
    # The handshake of a Python member also says for how long it waits, in an item that a prototype skips.
    assert len(ours.data) - len(ours.header) + lower.OAP.size == len(theirs.data)
    expected = Management(
        theirs.code, ours.requester, 0, 0, replace(theirs.qos, **qos), ours.name + ours.header
    )
    assert lower.write_management(ours) == lower.write_management(expected)
    assert lower.FIRST_EID <= ours.requester


# ---------------------------------------------------------------- broadcast


def test_ours_is_the_member_of_a_broadcast_layer(world: World) -> None:
    cep, cep_answer, request, response, ack, dt, dt_answer = payloads("bc4-bc.pcap")[:7]
    ours, proto = world.ours("ours"), world.broadcaster("proto")
    ours.bootstrap("broadcast", kind="broadcast")

    async def play() -> None:
        enrol = await proto.link.allocate("ours")
        enrol.write(cep)
        assert await enrol.read(5) == cep_answer
        enrol.write(request)
        answer = await enrol.read(5)
        message = Message(answer, numbers=(2, 3, 4), texts=(1,), maybe=(5,))
        theirs = Message(response, numbers=(2, 3, 4), texts=(1,), maybe=(5,))
        assert (message.text(1), message.text(5)) == (theirs.text(1), theirs.text(5))
        enrol.write(ack)
        adjacent = await proto.link.allocate("ours")
        adjacent.write(dt)
        # Behind the fields of a prototype, the Python member adds its id and its tree.
        assert (await adjacent.read(5)).startswith(dt_answer)

    world.call(play())


def test_ours_is_the_newcomer_of_a_broadcast_layer(world: World) -> None:
    cep, cep_answer, request, response, ack, dt, dt_answer = payloads("bc4-bc.pcap")[:7]
    ours, proto = world.ours("ours"), world.broadcaster("proto")
    flows = world.now(bind, proto)

    async def play() -> None:
        enrol = await flows.accept()
        same_request(proto, "bc4-bc.pcap")
        assert await enrol.read(5) == cep
        enrol.write(cep_answer)
        asked = await enrol.read(5)
        old, identity = lower.read_enrol_request(request), lower.read_enrol_request(asked)
        assert without_ours(asked) == request.replace(old, identity)
        enrol.write(response.replace(old, identity))
        assert await enrol.read(5) == ack.replace(old, identity)
        adjacent = await flows.accept()
        same_request(proto, "bc4-bc.pcap", timeout=0)  # no keep-alives (spec/broadcast 4)
        assert (await adjacent.read(5)).startswith(dt)
        adjacent.write(dt_answer)

    played = world.start(play())
    ours.enroll("proto", kind="broadcast")
    ours.connect("proto", "component dt")
    played.result(30)


def payloads(name: str) -> list[bytes]:
    return [packet.payload for packet in conversation(name)]


# ---------------------------------------------------------------- the player itself


def test_what_the_player_reads_and_writes_is_what_is_in_the_captures() -> None:
    """Its readers take what prototypes sent to each other, and its writers write it: else it would judge us wrongly."""
    for name in ("uni4-ab.pcap", "uni4-bc.pcap", ENROLMENT):
        for packet in conversation(name):
            rewrite(packet)
    for packet in sent("uni4-bc.pcap") + sent("udp4.pcap") + sent("qos.pcap"):
        datagram = packet.frame[42:]
        if packet.eid == 0 and packet.frame[12:14] == b"\x08\x00":
            assert lower.write_management(lower.read_management(datagram)) == datagram


def rewrite(packet: Sent) -> None:
    octets = packet.payload
    if octets[:1] == b"\x0a":
        if octets[1:2] != b"\x08":
            assert lower.read_cep(octets).write() == octets
    elif len(octets) == upper.LSM.size:
        link = upper.read_link(octets, own=0)
        assert isinstance(link, Link) and link.write() == octets
    elif len(octets) > upper.DT.size:
        inner = upper.read_packet(octets, 60)
        assert inner.write() == octets
        if inner.eid == 0:
            assert upper.read_fa(inner.payload, 32).write() == inner.payload
        elif inner.eid == 1:
            assert upper.read_dht(inner.payload, 32).write() == inner.payload


def test_the_default_configuration_is_that_of_the_captures() -> None:
    response = lower.read_response(payloads("uni4-bc.pcap")[3])
    assert response.config == Config(peer=response.config.peer if response.config else 0)
    assert response.plain == response.config.write()
