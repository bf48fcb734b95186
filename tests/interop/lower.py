"""Octets of the lower half: udp4 datagrams, the plain handshake, connection records, enrolment (spec/udp, spec/oap, spec/connections 3).

Used by the prototype of the tests. Readers raise `Wrong` for every packet that 0.23 would not survive or would not accept, even if it would not
notice; writers write the octets that 0.23 writes.
"""

from __future__ import annotations

import hashlib
import os
import struct
import time
from dataclasses import dataclass, field

from .octets import Message, Wrong, write

FIRST_EID, LAST_EID = 64, 4095
MOST_DATAGRAM = 8980
MOST_MANAGEMENT = 2048
MANAGEMENT = struct.Struct(">IIIiQIIIIIBBB")
OAP = struct.Struct(">16sQHHHHHH")
REQUEST, REPLY = 1, 2
MOST_OFFER = 256
"""Octets of our extensions in a request. 0.23 hands them to its library, which ignores them."""


@dataclass(frozen=True, slots=True)
class Qos:
    """A QoS specification; the defaults are those of `raw`."""

    delay: int = 0xFFFFFFFF
    bandwidth: int = 0
    availability: int = 0
    loss: int = 1
    ber: int = 1
    in_order: int = 0
    max_gap: int = 0xFFFFFFFF
    timeout: int = 120000


RAW = Qos()
NO_QOS = Qos(0, 0, 0, 0, 0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Management:
    """A management datagram."""

    code: int
    requester: int
    acceptor: int
    response: int
    qos: Qos
    data: bytes

    @property
    def name(self) -> bytes:
        """Hash of the name, of a request."""
        return self.data[:16]

    @property
    def header(self) -> bytes:
        """The handshake's header."""
        return self.data[16:] if self.code == REQUEST else self.data


def write_management(message: Management) -> bytes:
    """The datagram."""
    q = message.qos
    fixed = MANAGEMENT.pack(
        0,
        message.requester,
        message.acceptor,
        message.response,
        q.bandwidth,
        q.delay,
        q.loss,
        q.ber,
        q.max_gap,
        q.timeout,
        message.code,
        q.availability,
        q.in_order,
    )
    return fixed + message.data


def read_management(datagram: bytes) -> Management:
    """spec/udp 2; raises Wrong."""
    if not MANAGEMENT.size <= len(datagram) <= MOST_MANAGEMENT:
        raise Wrong(f"a management datagram of {len(datagram)} octets; it may have 47 to 2048")
    numbers = MANAGEMENT.unpack_from(datagram)
    requester, acceptor, response, bandwidth, delay, loss, ber, gap, timeout, code, nines, order = numbers[1:]
    qos = Qos(delay, bandwidth, nines, loss, ber, order, gap, timeout)
    message = Management(code, requester, acceptor, response, qos, datagram[MANAGEMENT.size :])
    if code == REQUEST:
        _check_request(message)
    elif code == REPLY:
        _check_reply(message)
    else:
        raise Wrong(f"code {code}: there are 1 and 2")
    return message


def _check_request(message: Management) -> None:
    if len(message.data) < 16 + OAP.size:
        raise Wrong(f"a request with {len(message.data)} octets of hash and handshake; the least is 52")
    if message.acceptor or message.response:
        raise Wrong("a request that knows its acceptor, or has a response")
    if not 0 < message.requester <= LAST_EID:
        raise Wrong(f"requester's endpoint id {message.requester}")
    if message.qos.in_order and not message.qos.ber:
        raise Wrong("FRCP with a checksum: acknowledgements of 0.23 have none")


def _check_reply(message: Management) -> None:
    if not FIRST_EID <= message.requester <= LAST_EID:
        raise Wrong(f"a reply to endpoint id {message.requester}, which 0.23 never has")
    if message.qos != NO_QOS:
        raise Wrong("a reply with a QoS")
    if message.response > 0:
        raise Wrong(f"the positive response {message.response}: 0.23 looks for a handshake behind it")
    if message.response and message.data:
        raise Wrong("a refusal with a handshake's header")
    if message.acceptor > LAST_EID or (not message.response and not message.acceptor):
        raise Wrong(f"acceptor's endpoint id {message.acceptor}")


@dataclass(frozen=True, slots=True)
class Header:
    """The plain handshake's header."""

    id: bytes
    timestamp: int
    octets: bytes


def new_header() -> bytes:
    """Of a request."""
    return OAP.pack(os.urandom(16), time.time_ns(), 0, 0, 0, 0, 0, 0)


def reply_header(request: bytes) -> bytes:
    """Of the reply to a request with this header: the request's id, and its hash."""
    return OAP.pack(request[:16], time.time_ns(), 0, 0, 0, 0, 0, 0) + hashlib.sha384(request).digest()


def read_request_header(octets: bytes, now: int) -> Header:
    """spec/oap 1, 5: a header that 0.23 refuses is Wrong, because 0.23 hangs after several refusals. `now`: ns since 1970."""
    header, data = _header(octets)
    if OAP.size + data != len(octets):
        raise Wrong(f"a handshake of {len(octets)} octets that says it has {OAP.size + data}")
    if data > MOST_OFFER:
        raise Wrong(f"{data} octets of extensions are too many")
    age = (now - header.timestamp) // 1_000_000
    if not -100 <= age <= 20_000:
        raise Wrong(f"a handshake that is {age} ms old")
    return header


def read_reply_header(octets: bytes, request: bytes) -> Header:
    """spec/oap 6; raises Wrong."""
    header, data = _header(octets)
    if header.id != request[:16]:
        raise Wrong("the id of another request")
    if data:
        raise Wrong("data for a requester that offered nothing")
    if octets[OAP.size :] != hashlib.sha384(request).digest():
        raise Wrong("the request's hash is missing, or is another's")
    return header


def _header(octets: bytes) -> tuple[Header, int]:
    if len(octets) < OAP.size:
        raise Wrong(f"a handshake of {len(octets)} octets")
    identity, timestamp, cipher, kdf, digest, certificate, exchange, data = OAP.unpack_from(octets)
    if cipher or kdf or digest or certificate or exchange:
        raise Wrong("a plain flow whose handshake is not plain")
    return Header(identity, timestamp, octets), data


# ---------------------------------------------------------------- connection records


@dataclass(frozen=True, slots=True)
class Cep:
    """A connection record."""

    component: bytes = b""
    protocol: bytes = b""
    version: int = 0
    syntax: int = 0
    address: int = 0

    def write(self) -> bytes:
        head = ((1, self.component), (2, self.protocol), (3, self.version), (5, self.syntax))
        return write(*head, (8, self.address))


NOBODY = Cep()
"""The answer to a request for an unknown component."""
ENROLMENT = Cep(b"Enrollment", b"OEP", 1, 0, 0)
BROADCAST = Cep(b"Data Transfer", b"", 0, 0, 0)


def management(address: int) -> Cep:
    return Cep(b"Management", b"LSP", 1, 0, address)


def data_transfer(address: int) -> Cep:
    return Cep(b"Data Transfer", b"dtp", 1, 2, address)


def read_cep(packet: bytes, *, broadcast: bool = False) -> Cep:
    """spec/connections; raises Wrong. The components are those of a unicast IPCP, or of a broadcast IPCP."""
    if len(packet) > 127:
        raise Wrong(f"a connection record of {len(packet)} octets; 0.23 reads 128")
    message = Message(packet, numbers=(3, 5, 8), texts=(1, 2))
    cep = Cep(message.text(1), message.text(2), message.signed(3), message.number(5), message.number(8))
    unicast = (management(cep.address), data_transfer(cep.address))
    if cep == NOBODY or cep == ENROLMENT:
        return cep
    if broadcast and cep == BROADCAST:
        return cep
    if not broadcast and cep in unicast:
        check_address(cep.address)
        return cep
    raise Wrong(f"no component has the record {cep}")


def check_address(address: int) -> None:
    """An address of a member; raises Wrong."""
    if not 0 < address < 1 << 32:
        raise Wrong(f"nobody has the address {address:#x}")


# ---------------------------------------------------------------- enrolment


@dataclass(frozen=True, slots=True)
class Config:
    """The configuration that a newcomer gets; the defaults are those of 0.23, and of the captures."""

    layer: bytes = b"unicast"
    hash: int = 1
    kind: int = 1
    max_ttl: int = 60
    routing: int = 0
    t_recalc: int = 4
    t_update: int = 15
    t_timeo: int = 60
    alpha: int = 3
    k: int = 8
    t_expire: int = 86400
    t_refresh: int = 900
    t_replicate: int = 900
    peer: int = 0
    congestion: int = 1

    def write(self) -> bytes:
        """The configuration message, field for field as in the captures."""
        layer = write((1, self.layer), (2, self.hash))
        if self.kind != 1:
            return write((1, layer), (2, self.kind))
        ls = write((1, self.routing), (2, self.t_recalc), (3, self.t_update), (4, self.t_timeo))
        dt = write((1, 4), (2, 8), (3, self.max_ttl), (4, write((1, 0), (2, ls))))
        times = ((3, self.t_expire), (4, self.t_refresh), (5, self.t_replicate), (6, self.peer))
        dht = write((1, self.alpha), (2, self.k), *times)
        unicast = write((1, dt), (2, write((1, 0), (2, dht))), (3, 0), (4, self.congestion))
        return write((1, layer), (2, self.kind), (3, unicast))


@dataclass(frozen=True, slots=True)
class Response:
    """A member's answer to a newcomer."""

    id: bytes
    response: int
    config: Config | None
    plain: bytes = field(default=b"", compare=False)
    """The configuration as the prototype sees it, without extensions."""


def write_response(identity: bytes, config: Config) -> bytes:
    """The answer of a 0.23 member; it refuses no newcomer."""
    seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
    return write((1, identity), (2, seconds), (3, nanoseconds), (4, 0), (5, config.write()))


def read_enrol_request(packet: bytes) -> bytes:
    """The id in a newcomer's request; raises Wrong."""
    _check_size(packet)
    return _id(Message(packet, texts=(1,)))


def read_ack(packet: bytes) -> tuple[bytes, int]:
    """Id and result; raises Wrong."""
    _check_size(packet)
    message = Message(packet, numbers=(2,), texts=(1,))
    return _id(message), message.signed(2)


def read_response(packet: bytes) -> Response:
    """spec/connections 3; raises Wrong."""
    _check_size(packet)
    message = Message(packet, numbers=(2, 3, 4), texts=(1,), maybe=(5,))
    identity, response = _id(message), message.signed(4)
    if not 0 <= message.signed(3) < 1_000_000_000:
        raise Wrong("a time with more than a second of nanoseconds")
    if response > 0 or message.has(5) != (response == 0):
        raise Wrong(f"response {response} {'with' if message.has(5) else 'without'} a configuration")
    if response:
        return Response(identity, response, None)
    config = _config(message.text(5))
    return Response(identity, 0, config, config.write())


def _check_size(packet: bytes) -> None:
    if len(packet) > 1024:
        raise Wrong(f"an enrolment message of {len(packet)} octets; 0.23 has room for 1024")


def _id(message: Message) -> bytes:
    if len(message.text(1)) != 8:
        raise Wrong(f"an id of {len(message.text(1))} octets")
    return message.text(1)


def _config(octets: bytes) -> Config:
    message = Message(octets, numbers=(2,), texts=(1,), maybe=(3,))
    layer = Message(message.text(1), numbers=(2,), texts=(1,))
    name, algorithm, kind = layer.text(1), layer.unsigned(2), message.unsigned(2)
    if not 0 < len(name) <= 255 or algorithm > 3:
        raise Wrong(f"layer {name!r} with hash {algorithm}")
    if kind not in (1, 2) or message.has(3) != (kind == 1):
        raise Wrong(f"a configuration that is not one of a layer of type {kind}")
    return _unicast(name, algorithm, message.text(3)) if kind == 1 else Config(name, algorithm, kind)


def _unicast(name: bytes, algorithm: int, octets: bytes) -> Config:
    unicast = Message(octets, numbers=(3, 4), texts=(1, 2))
    dt = Message(unicast.text(1), numbers=(1, 2, 3), texts=(4,))
    routing = Message(dt.text(4), numbers=(1,), texts=(2,))
    ls = Message(routing.text(2), numbers=(1, 2, 3, 4))
    directory = Message(unicast.text(2), numbers=(1,), texts=(2,))
    dht = Message(directory.text(2), numbers=(1, 2, 3, 4, 5, 6))
    policies = (routing.unsigned(1), directory.unsigned(1), unicast.unsigned(3))
    if policies != (0, 0, 0) or ls.unsigned(1) > 2 or unicast.unsigned(4) > 1:
        raise Wrong("a policy that 0.23 does not have")
    if (dt.unsigned(1), dt.unsigned(2)) != (4, 8) or not 0 < dt.unsigned(3) < 256:
        raise Wrong("sizes or a TTL that 0.23 cannot use")
    check_address(dht.number(6))
    return Config(
        layer=name,
        hash=algorithm,
        max_ttl=dt.unsigned(3),
        routing=ls.unsigned(1),
        t_recalc=ls.unsigned(2),
        t_update=ls.unsigned(3),
        t_timeo=ls.unsigned(4),
        alpha=dht.unsigned(1),
        k=dht.unsigned(2),
        t_expire=dht.unsigned(3),
        t_refresh=dht.unsigned(4),
        t_replicate=dht.unsigned(5),
        peer=dht.number(6),
        congestion=unicast.unsigned(4),
    )
