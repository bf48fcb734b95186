"""A unicast IPCP of the C prototype, as far as its neighbours can see: a program for tests, over flows of a layer below.

It sends the messages of the prototypes in the captures, octet by octet except for random values, and it crashes on the input that
crashes a prototype: it checks its neighbour's messages as release 0.23.0 does (spec/dht 1, spec/fa FA-3).

    prototype.py newcomer MEMBER     enrols with MEMBER, connects, has the name "theirs", allocates flows to "ours" and "nobody"
    prototype.py member              bound to a name: enrols one newcomer, then is its neighbour, until it is ended
"""

from __future__ import annotations

import struct
import sys
import time
from collections.abc import Callable

from ipcpd.wire import dht, enrol, fa
from ipcpd.wire.connmgr import Record
from ipcpd.wire.connmgr import decode as decode_record
from ipcpd.wire.dht import Contact
from ouroboros.dev import Flow, flow_accept, flow_alloc
from ouroboros.qos import QOS_RAW
from ouroboros.wire import MalformedPacket
from tests import handshake

ADDRESS = 0x84C730CF
NODE = Contact(bytes.fromhex("75b7dc3eadff7eb41e5ab5a7e49ffe47828664245486913da7b0b496d8b91bf9"), ADDRESS)
FD = 66
ENROLMENT = bytes.fromhex("0a0a456e726f6c6c6d656e7412034f4550180128004000")
MANAGEMENT = bytes.fromhex("0a0a4d616e6167656d656e7412034c53501801280040cfe19ca608")
DATA_TRANSFER = bytes.fromhex("0a0d44617461205472616e7366657212036474701801280240cfe19ca608")
UNKNOWN = bytes.fromhex("0a00120018002800")
REQUEST = bytes.fromhex("0a08f79e81c40458d05b")
# The answer of a prototype: layer "unicast", SHA3-256, all defaults; here with the address that the program has.
CONF = bytes.fromhex(
    "0a0b0a07756e69636173741001100f1a34"
    "0a1408041008183c220c0800120808001004180f203c121808001214080310081880a30520840728840730cfe19ca60818002001"
).replace(b"\x10\x0f\x1a", b"\x10\x01\x1a")


def sha3(name: str) -> bytes:
    import hashlib

    return hashlib.sha3_256(name.encode()).digest()


def say(*words: object) -> None:
    print(*words, flush=True)


class Died(AssertionError):
    """A prototype would have."""


class Prototype:
    """The IPCP. `eids` are those of its flows, each with what is done with packets for it."""

    def __init__(self) -> None:
        self.peer = 0
        self.mgmt: Flow | None = None
        self.dt: Flow | None = None
        self.eids: dict[int, Callable[[bytes], None]] = {}
        self.replies: dict[int, fa.FlowReply] = {}
        self.values: dict[bytes, bytes] = {}
        self.others: list[Contact] = []
        self.links: dict[tuple[int, int], int] = {}
        self.sequence = -1
        self.asked: list[tuple[str, bytes]] = []
        self.found: list[bytes] = []
        self.accepts = {sha3("theirs")}
        self.next_fd = FD

    # ------------------------------------------------------------ sending

    def send(self, eid: int, payload: bytes, *, to: int = 0) -> None:
        assert self.dt is not None
        self.dt.write(struct.pack("<IBBBQ", to or self.peer, 0, 60, 0, eid) + payload)

    def announce(self) -> None:
        """Our link, with the next number: 0 when it comes up."""
        assert self.mgmt is not None
        self.sequence += 1
        self.mgmt.write(struct.pack(">QQQ", self.peer, ADDRESS, self.sequence))

    def new_eid(self) -> int:
        self.next_fd += 1
        return int.from_bytes(handshake_id()[:4], "big") << 32 | self.next_fd

    # ------------------------------------------------------------ receiving

    def pump(self, done: Callable[[], object], seconds: float = 20.0) -> None:
        """Handle what comes until something is so."""
        assert self.mgmt is not None and self.dt is not None
        until = time.monotonic() + seconds
        while not done():
            if time.monotonic() > until:
                raise AssertionError(f"nothing came of it; heard {self.asked}, links {self.links}")
            for flow, handle in ((self.mgmt, self.link_state), (self.dt, self.packet)):
                flow.set_rcv_timeout(0.02)
                try:
                    handle(flow.read())
                except TimeoutError:
                    continue

    def link_state(self, packet: bytes) -> None:
        if len(packet) != 24:
            return  # ignored
        target, source, sequence = struct.unpack(">QQQ", packet)
        if source == ADDRESS:
            raise Died("it hears of its own link, and will refresh that for ever")
        if sequence > self.links.get((source, target), -1):
            self.links[source, target] = sequence

    def packet(self, packet: bytes) -> None:
        if not packet:
            return
        address, cube, ttl, ecn, eid = struct.unpack_from("<IBBBQ", packet)
        payload = packet[15:]
        if address != ADDRESS or not ttl or ecn or cube > 2:
            raise Died(f"a header with address {address:#x}, cube {cube}, TTL {ttl}, mark {ecn}")
        if eid == 0:
            self.flow_allocator(payload)
        elif eid == 1:
            self.directory(payload)
        elif eid in self.eids:
            self.eids[eid](payload)
        elif eid < 64:
            raise Died(f"no component has endpoint id {eid}")

    def flow_allocator(self, payload: bytes) -> None:
        try:
            message = fa.decode(payload, hash_length=32)
        except MalformedPacket as error:
            raise Died(str(error)) from None
        match message:
            case fa.FlowRequest(source, theirs, key, _, data):
                self.asked.append(("flow", key))
                if key not in self.accepts:
                    return  # no reply at all
                eid = self.new_eid()
                self.eids[eid] = lambda packet: self.send(theirs, packet, to=source)
                reply = handshake.make_reply(data, now=time.time_ns())
                self.send(
                    0, struct.pack(">QQQQiIIIIIHBBB", 0, theirs, eid, *[0] * 8, 1, 0, 0) + reply, to=source
                )
            case fa.FlowReply(to, _, response):
                if to not in self.eids:
                    raise Died("a reply to nobody: it matches an empty slot")
                if response > 0:
                    raise Died("a positive response")
                self.replies[to] = message
            case fa.FlowUpdate(to):
                if to not in self.eids:
                    raise Died("an update for nobody")

    def directory(self, payload: bytes) -> None:
        try:
            message = dht.decode(payload, key_length=32)
        except MalformedPacket as error:
            raise Died(str(error)) from None
        whom = message.source.address
        self.others = [message.source]
        match message:
            case dht.Store(_, key, value, expires):
                if expires > time.time():
                    self.values[key] = value
                else:
                    self.asked.append(("expired store", key))
            case dht.FindNode(_, cookie, key):
                self.send(1, dht.encode(dht.FindNodeReply(NODE, cookie, key, tuple(self.others))), to=whom)
            case dht.FindValue(_, cookie, key):
                self.asked.append(("value", key))
                mine = (dht.value_of(ADDRESS),) if key in self.accepts else ()
                values = mine or tuple(self.values[key] for _ in range(key in self.values))
                self.send(
                    1, dht.encode(dht.FindValueReply(NODE, cookie, key, tuple(self.others), values)), to=whom
                )
            case dht.FindNodeReply(_, _, _, contacts) | dht.FindValueReply(_, _, _, contacts):
                if not contacts:
                    raise Died("an answer without contacts")
                if isinstance(message, dht.FindValueReply):
                    self.found += message.values

    # ------------------------------------------------------------ what it does

    def connect(self, dst: str, record: bytes) -> tuple[Flow, Record]:
        flow = flow_alloc(dst, QOS_RAW, layer="local")
        flow.write(record)
        flow.set_rcv_timeout(1)
        theirs = flow.read()
        if len(theirs) > 128:
            raise Died("a record that does not fit")
        known, ours = decode_record(theirs), decode_record(record)
        if (known.protocol, known.version, known.syntax) != (ours.protocol, ours.version, ours.syntax):
            raise Died("it is refused")
        return flow, known

    def allocate(self, name: str) -> tuple[int, fa.FlowReply]:
        """A flow over the layer; the reply."""
        eid = self.new_eid()
        self.eids[eid] = lambda packet: self.found.append(packet)
        data = handshake.make_request(identity=handshake_id(), now=time.time_ns())
        numbers = (0, 0, 0xFFFFFFFF, 1, 1, 0xFFFFFFFF, 120000)
        fixed = struct.pack(">QQQQiIIIIIHBBB", ADDRESS, 0, eid, *numbers, 0, 0, 0, 0)
        self.send(0, fixed + sha3(name) + data)
        self.pump(lambda: eid in self.replies)
        reply = self.replies[eid]
        if reply.response == 0:
            handshake.check_reply(data, reply.data)
        return eid, reply


def handshake_id() -> bytes:
    import secrets

    return secrets.token_bytes(16)


def newcomer(member: str) -> None:
    p = Prototype()
    flow, _ = p.connect(member, ENROLMENT)
    flow.write(REQUEST)
    answer = flow.read()
    if len(answer) > 1024:
        raise Died("a response that does not fit")
    response = enrol.decode_response(answer)
    conf = response.configuration
    assert response.id == REQUEST[2:] and conf is not None and conf.unicast is not None
    p.peer = conf.unicast.dht.peer
    flow.write(REQUEST + b"\x10\x00")  # the acknowledgement: result 0
    flow.dealloc()
    say("enrolled", conf.layer)

    p.mgmt, theirs = p.connect(member, MANAGEMENT)
    assert theirs.address == p.peer
    p.dt, theirs = p.connect(member, DATA_TRANSFER)
    assert theirs.address == p.peer
    p.announce()
    p.pump(lambda: (p.peer, ADDRESS) in p.links)
    say("connected")

    cookie = 0x47F724998EB2C5C8
    p.send(1, dht.encode(dht.FindNode(NODE, cookie, NODE.id)))
    p.pump(lambda: p.others)
    expires = int(time.time()) + 86400
    p.send(1, dht.encode(dht.Store(NODE, sha3("theirs"), dht.value_of(ADDRESS), expires)))
    p.send(1, dht.encode(dht.FindValue(NODE, 77, sha3("ours"))))
    p.pump(lambda: p.found)
    assert p.found.pop() == dht.value_of(p.peer)

    _, reply = p.allocate("ours")
    assert reply.response == 0, reply
    p.send(reply.eid, b"hello")
    p.pump(lambda: b"hello" in p.found)
    say("a flow to ours")
    _, refused = p.allocate("nobody")
    assert refused.response == -1007, refused
    say("refused")
    p.pump(lambda: ("flow", sha3("theirs")) in p.asked, 60)
    say("asked for theirs")
    p.announce()
    p.pump(lambda: False if not p.mgmt else sys.stdin.closed, 3600)


def member() -> None:
    """Enrol one newcomer as a prototype does, then be its neighbour."""
    p = Prototype()
    say("ready")
    flow = flow_accept()
    assert decode_record(flow.read()).component == "Enrollment"
    flow.write(ENROLMENT)
    request = flow.read()
    identity = enrol.decode_request(request).id
    seconds, rest = divmod(time.time_ns(), 1_000_000_000)
    header = b"\x0a\x08" + identity + b"\x10" + varint(seconds) + b"\x18" + varint(rest) + b"\x20\x00"
    flow.write(header + b"\x2a" + varint(len(CONF)) + CONF)
    assert flow.read() == b"\x0a\x08" + identity + b"\x10\x00", "the acknowledgement of a prototype"
    flow.dealloc()
    say("enrolled")
    for component, own in (("Management", MANAGEMENT), ("Data Transfer", DATA_TRANSFER)):
        flow = flow_accept()
        theirs = decode_record(flow.read())
        assert theirs.component == component and theirs.address
        p.peer = theirs.address
        flow.write(own)
        if component == "Management":
            p.mgmt = flow
        else:
            p.dt = flow
    p.announce()
    p.pump(lambda: (p.peer, ADDRESS) in p.links)
    say("connected")
    p.pump(lambda: ("flow", sha3("theirs")) in p.asked, 60)
    say("asked for theirs")
    p.pump(lambda: False, 3600)


def varint(number: int) -> bytes:
    octets = bytearray()
    while number > 127:
        octets.append(number & 127 | 128)
        number >>= 7
    octets.append(number)
    return bytes(octets)


if __name__ == "__main__":
    if sys.argv[1] == "newcomer":
        newcomer(sys.argv[2])
    else:
        member()
