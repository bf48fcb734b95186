"""Flows over a real IRMd: allocation, reading and writing, time-outs, signals, errors (docs/reference/api.md)."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

import pytest

from tests.system.conftest import System
from tests.system.ends import (
    EAGAIN,
    EFLOWDOWN,
    EMSGSIZE,
    ENAME,
    ENOTALLOC,
    EPERM,
    ETIMEDOUT,
    QOS_DATA,
    QOS_RAW,
    QOS_VOICE,
    Fccntl,
    Flow,
    FlowDeallocWarning,
    FlowDownException,
    FlowException,
    FlowNotAllocatedException,
    FlowPermissionException,
    FlowProperties,
    FlowTimeout,
    FlowWouldBlock,
    QoSSpec,
    bind,
    ends,
    fccntl,
    flow_accept,
    flow_alloc,
    flow_dealloc,
    flow_read,
    flow_write,
    irm,
    raises,
    scenario,
)

# ---------------------------------------------------------------- allocation


def allocation() -> None:
    for qos in (None, QOS_RAW, QOS_VOICE, QOS_DATA, QoSSpec(delay=7, bandwidth=12345, loss=3)):
        client, server = ends(qos=qos)
        assert server.qos == client.qos == (qos or QOS_RAW)
        assert client.flow_id == server.flow_id, "one flow, two processes, no IPCP in between"
        assert client.fd >= 64 and server.fd >= 64 and client.fd != server.fd
        assert client.max_packet >= 65536
        assert client.mpl >= 0
        client.write(b"hello")
        assert server.read() == b"hello"
        server.write(b"world")
        assert client.read() == b"world"
        client.dealloc()
        server.dealloc()
        assert client.fd == -1 and not client.allocated


def over_a_layer() -> None:
    ipcp = next(one.pid for one in irm.list_ipcps() if one.layer == "local")
    bind()
    irm.reg_name("end", ipcp)
    for qos in (None, QOS_VOICE):
        client, server = ends(qos=qos, layer="local")
        assert server.qos == (qos or QOS_RAW)
        assert client.flow_id != server.flow_id, "two endpoints, with an IPCP in between"
        for size in (1, 64, 1500, 60000, min(client.max_packet, server.max_packet)):
            data = os.urandom(size)
            client.write(data)
            assert server.recv() == data
            server.write(data)
            assert client.recv() == data
        burst = [bytes([i]) * (1 + i * 7) for i in range(200)]
        assert client.writev(burst) == 200
        got: list[bytes] = []
        while len(got) < 200:
            got += server.readv()
        assert got == burst
        client.write(b"last")
        client.dealloc()
        assert server.read() == b"last"
        with raises(FlowDownException, EFLOWDOWN):
            server.read()
        server.dealloc()
    irm.unreg_name("end", ipcp)


def accept_returns_the_qos() -> None:
    bind()
    got: list[object] = []
    flow = Flow()
    thread = threading.Thread(target=lambda: got.append(flow.accept()))
    thread.start()
    client = Flow()
    assert client.alloc("end", QOS_VOICE) == QOS_VOICE
    thread.join()
    assert got == [QOS_VOICE]
    flow_dealloc(client)
    flow_dealloc(flow)


def listing_1_of_the_paper() -> None:
    client, server = ends()
    assert flow_write(client, b"12345", 3) == 3
    assert flow_read(server) == b"123"
    flow_dealloc(client)
    flow_dealloc(server)
    client, server = ends()
    with client as one, server as other:
        one.writeline("grüße\n")
        assert other.readline() == "grüße\n"
    assert client.fd == server.fd == -1


def nobody_knows_the_name() -> None:
    with raises(FlowException, ENAME, "nobody"):
        flow_alloc("nobody")
    bind("nobody-is-between-two-accepts")
    with raises(FlowException):
        flow_alloc("nobody-is-between-two-accepts")


def timeouts_of_allocation() -> None:
    before = time.monotonic()
    with raises(FlowTimeout, ETIMEDOUT):
        flow_accept(0.1)
    assert time.monotonic() - before >= 0.1
    with raises(TimeoutError):
        Flow().accept(1e-12)
    flow = Flow()
    with raises(FlowTimeout):
        flow.accept(0.01)
    assert flow.fd == -1
    with raises(FlowDeallocWarning):
        flow.dealloc()
    client, server = ends()
    assert client.rcv_timeout is None and server.rcv_timeout is None, (
        "not that of the allocation (spec/lessons 28)"
    )
    client.dealloc()
    server.dealloc()


def an_object_has_one_flow() -> None:
    client, server = ends()
    from ouroboros.dev import FlowAllocatedException

    with raises(FlowAllocatedException):
        client.alloc("end")
    with raises(FlowAllocatedException):
        client.accept(0)
    client.dealloc()
    again = Flow()
    again.accept(0)
    client.alloc("end")
    client.dealloc()
    again.dealloc()
    server.dealloc()


SCENARIOS: list[Callable[[], None]] = [
    allocation,
    listing_1_of_the_paper,
    over_a_layer,
    accept_returns_the_qos,
    nobody_knows_the_name,
    timeouts_of_allocation,
    an_object_has_one_flow,
]


# ---------------------------------------------------------------- reading and writing


def reading_in_parts() -> None:
    client, server = ends()
    client.write(b"abcdefghij")
    assert [server.read(4), server.read(4), server.read(4)] == [b"abcd", b"efgh", b"ij"]
    client.writev([b"abcd", b"next"])
    assert [server.read(4), server.read(4), server.read(4), server.read(0)] == [b"abcd", b"", b"next", b""]
    client.write(b"abcdef")
    assert server.read(3) == b"abc"
    assert server.read(3) == b"def"
    assert server.read(0) == b"", "consumes the mark"
    client.writev([b"", b"x", b""])
    assert server.read() == b"x", "empty packets are never read"
    server.rcv_timeout = 0.01
    with raises(FlowTimeout, ETIMEDOUT):
        server.read()
    client.writev([b"first", b"second", b"third"])
    assert server.read(2) == b"fi"
    got: list[bytes] = []
    while len(got) < 3:
        got += server.readv()
    assert got == [b"rst", b"second", b"third"]
    client.write(b"to be continued")
    assert server.read(6) == b"to be "
    assert server.recv() == b"continued"
    buffer = bytearray(4)
    client.writev([b"abcdef", b"gh"])
    assert server.read_into(buffer) == 4 and buffer == b"abcd"
    assert server.read_into(buffer) == 2 and buffer[:2] == b"ef"
    assert server.read_into(buffer) == 2 and buffer[:2] == b"gh"
    assert server.read_into(bytearray()) == 0
    client.dealloc()
    server.dealloc()


def no_partial_read() -> None:
    client, server = ends()
    server.flags = FlowProperties.ReadWrite | FlowProperties.NoPartialRead
    client.writev([b"too long", b"fits", b"exact"])
    with raises(FlowException, EMSGSIZE):
        server.read(4)
    assert server.read(4) == b"fits"
    assert server.read(5) == b"exact"
    client.write(b"no mark")
    assert server.read(7) == b"no mark"
    client.write(b"next")
    assert server.read() == b"next"
    client.dealloc()
    server.dealloc()


def large_packets() -> None:
    client, server = ends()
    largest = client.max_packet
    data = os.urandom(largest)
    assert client.write(data) == largest
    assert server.read(1 << 20) == data
    with raises(FlowException, EMSGSIZE, str(largest)):
        client.write(bytes(largest + 1))
    with raises(FlowException, EMSGSIZE):
        client.writev([bytes(largest + 1)])
    client.writev([bytes(9000)] * 10)
    got: list[bytes] = []
    while len(got) < 10:
        got += server.readv()
    assert got == [bytes(9000)] * 10
    mixed = [bytes(size) for size in (1, 9000, 100, 60000, 3)]
    assert client.writev(mixed) == 5
    assert [server.recv() for _ in mixed] == mixed
    client.writev([memoryview(b"view"), bytearray(b"array"), b"bytes"])
    assert [server.recv() for _ in range(3)] == [b"view", b"array", b"bytes"]
    client.dealloc()
    server.dealloc()


def iteration() -> None:
    client, server = ends()
    wrote = [str(i).encode() for i in range(500)]
    client.writev(wrote)
    client.dealloc()
    assert list(server) == wrote, "until the peer has left"
    server.dealloc()


def a_full_fifo() -> None:
    client, server = ends()
    client.blocking = False
    count = 0
    with raises(FlowWouldBlock, EAGAIN):
        while True:
            client.write(b"x")
            count += 1
    assert count == client.tx_queue_len == server.rx_queue_len == 1024
    with raises(BlockingIOError):
        client.writev([b"x", b"y"])
    client.blocking = True
    client.snd_timeout = 0.05
    before = time.monotonic()
    with raises(FlowTimeout, ETIMEDOUT):
        client.write(b"x")
    assert time.monotonic() - before >= 0.05
    with raises(TimeoutError):
        client.writev([b"x"] * 3)
    got = 0
    client.snd_timeout = None
    writer = threading.Thread(target=lambda: client.writev([b"y"] * 3000))
    writer.start()
    while got < count + 3000:
        got += len(server.readv())
    writer.join()
    server.blocking = False
    with raises(FlowWouldBlock, EAGAIN):
        server.read()
    client.dealloc()
    server.dealloc()


def properties_and_fccntl() -> None:
    client, server = ends()
    with raises(FlowPermissionException, EPERM):
        fccntl(client, Fccntl.FLOWGRCVTIMEO)
    for setter, getter in (
        (Fccntl.FLOWSRCVTIMEO, Fccntl.FLOWGRCVTIMEO),
        (Fccntl.FLOWSSNDTIMEO, Fccntl.FLOWGSNDTIMEO),
    ):
        fccntl(client, setter, 0.25)
        assert fccntl(client, getter) == 0.25
        fccntl(client, setter, None)
        with raises(FlowPermissionException, EPERM):
            fccntl(client, getter)
    assert fccntl(client, Fccntl.FLOWGQOSSPEC) == client.qos == client.get_qos()
    assert fccntl(client, Fccntl.FLOWGFLAGS) == client.flags == client.get_flags()
    client.write(b"x")
    assert fccntl(client, Fccntl.FLOWGTXQLEN) == client.tx_queue_len == client.get_tx_queue_len() == 1
    assert fccntl(server, Fccntl.FLOWGRXQLEN) == server.rx_queue_len == server.get_rx_queue_len() == 1
    with raises(FlowException):
        fccntl(client, 0o7777)
    for command in (Fccntl.FRCTSFLAGS, Fccntl.FRCTGFLAGS):
        with raises(FlowPermissionException, EPERM):
            fccntl(client, command, 0)
    with raises(ValueError):
        client.flags = FlowProperties(3)
    with raises(ValueError):
        client.rcv_timeout = -1
    with raises(ValueError):
        client.read(-1)
    client.flags = FlowProperties.ReadOnly
    with raises(PermissionError, EPERM):
        client.write(b"x")
    client.flags = FlowProperties.WriteOnly
    with raises(PermissionError, EPERM):
        client.read()
    fccntl(client, Fccntl.FLOWSFLAGS, FlowProperties.ReadWrite | FlowProperties.Down)
    assert client.down and server.down and FlowProperties.Down in server.flags
    with raises(FlowDownException, EFLOWDOWN):
        client.write(b"x")
    fccntl(server, Fccntl.FLOWSFLAGS, FlowProperties.ReadWrite)
    assert not client.down and not server.down
    client.write(b"y")
    assert server.readv() == [b"x", b"y"]
    client.dealloc()
    server.dealloc()
    with raises(FlowNotAllocatedException, ENOTALLOC):
        client.write(b"x")
    with raises(FlowNotAllocatedException, ENOTALLOC):
        _ = client.flags


def the_peer_leaves() -> None:
    client, server = ends()
    client.writev([b"one", b"two"])
    reader = []

    def read() -> None:
        try:
            while True:
                reader.append(server.read())
        except FlowDownException as exc:
            reader.append(exc)

    thread = threading.Thread(target=read)
    thread.start()
    client.dealloc()
    thread.join()
    assert reader[:2] == [b"one", b"two"] and isinstance(reader[2], FlowDownException)
    assert "peer" in str(reader[2])
    server.dealloc()


SCENARIOS += [
    reading_in_parts,
    no_partial_read,
    large_packets,
    iteration,
    a_full_fifo,
    properties_and_fccntl,
    the_peer_leaves,
]


@pytest.mark.parametrize("function", SCENARIOS, ids=lambda function: function.__name__)
def test(shared: System, function: Callable[[], None]) -> None:
    scenario(shared, function)


def _forgetting() -> None:
    import gc
    import warnings

    client, server = ends()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del client
        gc.collect()
    assert [one.category for one in caught] == [ResourceWarning]
    assert "never deallocated" in str(caught[0].message)
    with raises(FlowDownException):
        server.read()
    server.dealloc()


def test_a_forgotten_flow_warns_and_is_deallocated(shared: System) -> None:
    scenario(shared, _forgetting)
