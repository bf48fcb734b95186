"""Extensions of FRCP over a real layer: two Python members agree on them; a prototype never has to decode one.

The layer is udp on loopback addresses of this machine; the prototype is played by a socket, with the octets of a capture.
"""

from __future__ import annotations

import hashlib
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import MakeSystem, Program, System
from .test_udp import A, B, C, Net, fresh, prototype

ECHO = """
from ouroboros import flow_accept
flow = flow_accept()
print("granted", list(flow._info.extensions), "ber", flow.qos.ber, flush=True)
for packet in flow:
    flow.write(packet)
"""

CLIENT = """
import sys
from ouroboros import QOS_BEST_EFFORT, QOS_DATA, QOS_RAW, QOS_RAW_NO_ERRORS, QOS_VIDEO, QOS_VOICE, flow_alloc
qos = dict(
    data=QOS_DATA, errors=QOS_DATA.replace(ber=1), voice=QOS_VOICE, video=QOS_VIDEO, best=QOS_BEST_EFFORT, raw=QOS_RAW,
    no_errors=QOS_RAW_NO_ERRORS,
)[sys.argv[1]]
with flow_alloc("echo", qos) as flow:
    print("granted", list(flow._info.extensions), "ber", flow.qos.ber, flush=True)
    if (frcp := flow.frcp) is not None:
        print("frcp", frcp.retransmits, frcp.checked, frcp.fragments, flow.get_frct_flags(), flush=True)
    size = int(sys.argv[2])
    try:
        flow.write(bytes(i % 251 for i in range(size)))
    except OSError as error:
        print("errno", error.errno, error, flush=True)
    else:
        assert flow.recv() == bytes(i % 251 for i in range(size))
        print("whole", flush=True)
"""


@pytest.fixture
def net(make_system: MakeSystem, tmp_path: Path) -> Net:
    return Net(make_system, tmp_path)


def serve(system: System) -> Program:
    server = system.python(ECHO)
    system.irm(f"bind process {server.pid} name echo")
    system.irm("name register echo ipcp udp")
    return server


@pytest.mark.parametrize(
    ("qos", "granted", "ber", "frcp"),
    [
        ("data", "[1, 2, 3, 4]", 0, "True True True 31"),
        ("errors", "[1, 3, 4]", 1, "True False True 31"),
        ("voice", "[1, 2]", 0, "False True True 26"),
        ("video", "[1, 2]", 0, "False True True 26"),
        ("best", "[1, 2]", 0, "False True True 26"),
    ],
)
def test_two_of_ours_agree_on_what_makes_sense(net: Net, qos: str, granted: str, ber: int, frcp: str) -> None:
    """As in paper 5.1. And a packet of a hundred thousand octets arrives whole, over a layer that carries nine thousand."""
    a, b = net.system(A), net.system(B)
    net.name("echo", B)
    server = serve(b)
    client = a.python(CLIENT, qos, "100000")
    line = f"granted {granted} ber {ber}"
    assert client.wait() == 0, client.output
    assert line in client.output and f"frcp {frcp}" in client.output and "whole" in client.output
    assert line in server.output


@pytest.mark.parametrize(("qos", "ber", "most"), [("raw", 1, 8976), ("no_errors", 0, 8972)])
def test_raw_flows_have_none(net: Net, qos: str, ber: int, most: int) -> None:
    a, b = net.system(A), net.system(B)
    net.name("echo", B)
    serve(b)
    client = a.python(CLIENT, qos, "9000")
    assert client.wait() == 0, client.output
    assert f"granted [] ber {ber}" in client.output and "frcp" not in client.output
    assert f"errno 90 flow 64 takes packets of at most {most} octets" in client.output


@pytest.mark.parametrize(
    ("rates", "granted"), [(("auto", "none"), "[5]"), (("none", "auto"), "[]"), (("80M", "80M"), "[5]")]
)
def test_a_path_is_measured_where_the_requester_has_a_rate(
    net: Net, rates: tuple[str, str], granted: str
) -> None:
    a, b = (net.system(address, "rate", rate) for address, rate in zip((A, B), rates, strict=True))
    net.name("echo", B)
    serve(b)
    client = a.python(CLIENT, "raw", "9000")
    assert client.wait() == 0, client.output
    assert f"granted {granted} " in client.output


# ---------------------------------------------------------------- a prototype


@pytest.fixture
def stranger(net: Net) -> Iterator[socket.socket]:
    """A host of the layer that is not ours."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((C, net.port))
        sock.settimeout(60)
        yield sock


def accept(stranger: socket.socket) -> tuple[int, tuple[str, int]]:
    """The prototype accepts the flow that is asked for; the other end's id, and where it is."""
    got, source = stranger.recvfrom(4096)
    (eid,) = struct.unpack_from(">I", got, 4)
    header = got[63:]
    answer = header[:16] + struct.pack(">Q", time.time_ns()) + bytes(12) + hashlib.sha384(header).digest()
    reply = prototype("udp4.pcap")[1]
    stranger.sendto(reply[:4] + struct.pack(">II", eid, 4095) + reply[12:47] + answer, source)
    return eid, source


def test_a_prototype_that_accepts_grants_nothing(net: Net, stranger: socket.socket) -> None:
    """It sees ber = 1, and packets without fragments, check or map; a packet that is too large is refused to the application."""
    a = net.system(A)
    net.name("echo", C)
    client = a.python(CLIENT, "data", "8965")
    request, reply = prototype("udp4.pcap")[:2]
    got, source = stranger.recvfrom(4096)
    (eid,) = struct.unpack_from(">I", got, 4)
    _, loss, ber, in_order = *struct.unpack_from(">III", got, 24), got[46]
    assert (loss, ber, in_order) == (0, 1, 1), got[:47].hex()
    header = got[63:]
    assert header[34:36] == struct.pack(">H", 21), "the offer: a marker and four items"
    answer = header[:16] + struct.pack(">Q", time.time_ns()) + bytes(12) + hashlib.sha384(header).digest()
    stranger.sendto(reply[:4] + struct.pack(">II", eid, 4095) + reply[12:47] + answer, source)
    assert client.wait() == 0, client.output
    assert "granted [] ber 1" in client.output
    assert "errno 90 flow 64 takes packets of at most 8964 octets" in client.output


def test_a_prototype_reads_what_is_written(net: Net, stranger: socket.socket) -> None:
    a = net.system(A)
    net.name("echo", C)
    client = a.python(CLIENT, "data", "1000")
    eid, source = accept(stranger)
    data = stranger.recv(4096)
    assert len(data) == 4 + 12 + 1000, "no check behind it"
    flags, window, seq, ackno = data[4], data[5:8], *struct.unpack_from(">II", data, 8)
    assert flags == 0x03 and window == bytes(3) and ackno == 0, "DATA and DRF, and no bit of a fragment"
    # Echoed as it would: its own numbers, an acknowledgement, a window.
    edge = ((seq + 257) & 0xFFFFFF).to_bytes(3, "big")
    echo = struct.pack(">IB3sII", eid, 0x0F, edge, 7, seq + 1) + data[16:]
    stranger.sendto(echo, source)
    acknowledgement = stranger.recv(4096)
    assert len(acknowledgement) == 4 + 12 and acknowledgement[4] & 0x04
    assert acknowledgement[12:16] == struct.pack(">I", 8)
    assert client.wait() == 0 and "whole" in client.output


def test_a_prototype_that_asks_is_granted_nothing(net: Net, stranger: socket.socket) -> None:
    """Its request has no data, nor has our reply; and it gets no fragments."""
    b = net.system(B)
    server = serve(b)
    request, reply = prototype("udp4.pcap")[:2]
    qos = bytearray(request[:63])
    qos[28:32], qos[46] = bytes(4), 1  # no loss, in order
    qos[47:63] = hashlib.md5(b"echo").digest()
    stranger.sendto(bytes(qos) + fresh(request[63:]), (B, net.port))
    got = stranger.recv(4096)
    assert len(got) == len(reply) == 131 and got[47 + 34 : 47 + 36] == bytes(2)
    server.expect(r"granted \[\] ber 1")


# ---------------------------------------------------------------- switches


def test_reassembly_switched_off_at_the_receiver(net: Net) -> None:
    """Pieces as they come; switched on again, whole packets."""
    a, b = net.system(A), net.system(B)
    net.name("pieces", B)
    server = b.python("""
        from ouroboros import flow_accept
        flow = flow_accept()
        on = flow.get_frct_flags()
        flow.set_frct_flags(on & ~16)
        assert flow.get_frct_flags() == on & ~16
        flow.write(b"ready")
        pieces = [flow.recv() for _ in range(3)]
        assert b"".join(pieces) == bytes(range(250)) * 80
        print("pieces", *map(len, pieces), flush=True)
        flow.set_frct_flags(on)
        flow.write(b"ready")
        print("whole", len(flow.recv()), flush=True)
        flow.write(b"done")
        for packet in flow:
            pass
        """)
    b.irm(f"bind process {server.pid} name pieces")
    b.irm("name register pieces ipcp udp")
    client = a.python("""
        from ouroboros import QOS_DATA, flow_alloc
        with flow_alloc("pieces", QOS_DATA) as flow:
            for _ in range(2):
                assert flow.recv() == b"ready"
                flow.write(bytes(range(250)) * 80)
            assert flow.recv() == b"done"
        """)
    assert client.wait() == 0, client.output
    assert server.wait() == 0, server.output
    assert "pieces 8960 8960 2080\nwhole 20000" in server.output


def test_a_peer_that_leaves_is_an_event(net: Net) -> None:
    """No layer signals it: the peer does. Its data arrive first, then its end."""
    a, b = net.system(A), net.system(B)
    net.name("server", B)
    server = b.python("""
        from ouroboros import FEventQueue, FEventType, FlowDownException, FlowSet, flow_accept
        flow = flow_accept()
        got, seen, queue = [], [], FEventQueue()
        with FlowSet([flow]) as flows:
            while FEventType.FlowDealloc not in seen:
                flows.wait(queue)
                for _, event in queue:
                    seen.append(event)
        try:
            while True:
                got.append(flow.recv())
        except FlowDownException:
            print("read", len(got), "ended", flow.peer_ended, flush=True)
        try:
            flow.write(b"anybody?")
        except FlowDownException:
            print("nobody reads", flush=True)
        """)
    b.irm(f"bind process {server.pid} name server")
    b.irm("name register server ipcp udp")
    client = a.python("""
        from ouroboros import QOS_DATA, flow_alloc
        with flow_alloc("server", QOS_DATA) as flow:
            for _ in range(10):
                flow.write(b"hello")
        """)
    assert client.wait() == 0, client.output
    assert server.wait() == 0, server.output
    assert "read 10 ended True\nnobody reads" in server.output


def test_linger_switched_off(net: Net, stranger: socket.socket) -> None:
    """An end that does not linger does not wait for a peer that never acknowledges."""
    a = net.system(A)
    net.name("echo", C)
    client = a.python("""
        from ouroboros import QOS_DATA, flow_alloc
        from ouroboros.dev import FRCT_LINGER
        flow = flow_alloc("echo", QOS_DATA)
        flow.write(b"lost")
        flow.set_frct_flags(flow.get_frct_flags() & ~FRCT_LINGER)
        flow.dealloc()
        """)
    accept(stranger)
    assert client.wait() == 0, client.output
