"""Reliable flows as streams (ouroboros/stream.py, aio/streams.py), and the switches of FRCP, over a real IRMd."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.system.conftest import System
from tests.system.ends import (
    EMSGSIZE,
    QOS_DATA,
    QOS_RAW,
    QOS_VOICE,
    FEventQueue,
    FEventType,
    Flow,
    FlowDownException,
    FlowException,
    FlowProperties,
    FlowSet,
    FlowTimeout,
    FlowWouldBlock,
    bind,
    ends,
    flow_accept,
    flow_alloc,
    layers,
    os,
    raises,
    scenario,
    signal,
    start,
    threading,
)

# ---------------------------------------------------------------- the end of the data


def the_end() -> None:
    for layer in layers():
        client, server = ends(qos=QOS_DATA, layer=layer)
        client.write(b"all")
        client.write_end()
        client.write_end()
        assert server.recv() == b"all"
        with raises(FlowDownException):
            server.recv()
        assert server.peer_ended and not client.peer_ended
        with raises(FlowException, 32):
            client.write(b"more")
        server.write(b"and back")
        assert client.recv() == b"and back"
        server.dealloc()
        with raises(FlowDownException):
            client.recv()
        assert client.peer_ended
        with raises(FlowException):
            client.write(b"more")
        client.dealloc()


def an_end_is_read_by_those_who_wait() -> None:
    import selectors

    for layer in layers():
        client, server = ends(qos=QOS_DATA, layer=layer)
        heard: list[bytes] = []
        reader = threading.Thread(target=heard.extend, args=(server,))
        reader.start()
        client.write(b"1")
        client.write_end()
        reader.join()
        assert heard == [b"1"]
        client.dealloc()
        server.dealloc()

        client, server = ends(qos=QOS_DATA, layer=layer)
        with FlowSet([server]) as flows:
            client.write_end()
            assert list(flows.wait(FEventQueue())) == [(server, FEventType.FlowPkt)]
            with raises(FlowDownException):
                server.recv()
            with raises(FlowTimeout):
                flows.wait(FEventQueue(), 0)
        with selectors.DefaultSelector() as selector:
            selector.register(client.fileno(), selectors.EVENT_READ)
            server.write_end()
            assert selector.select()
            with raises(FlowDownException):
                client.recv()
        client.dealloc()
        server.dealloc()


def only_reliable_flows_end() -> None:
    for qos in (QOS_RAW, QOS_VOICE):
        client, server = ends(qos=qos)
        with raises(FlowException, 95, "QOS_DATA"):
            client.write_end()
        with raises(FlowException, 95, "QOS_DATA"):
            client.makefile()
        client.dealloc()
        server.dealloc()


# ---------------------------------------------------------------- files


def files() -> None:
    import io
    import shutil

    data = os.urandom(3_000_000)
    for layer in layers():
        for buffering in (-1, 0, 1000):
            client, server = ends(qos=QOS_DATA, layer=layer)

            def send(flow: Flow = client, buffering: int = buffering) -> None:
                with flow.makefile("wb", buffering) as file:
                    shutil.copyfileobj(io.BytesIO(data), file) if buffering else [
                        file.write(data[i : i + 60_000]) for i in range(0, len(data), 60_000)
                    ]
                flow.write_end()

            sender = threading.Thread(target=send)
            sender.start()
            with server.makefile("rb", buffering) as file:
                got = io.BytesIO()
                shutil.copyfileobj(file, got)
                assert got.getvalue() == data
                assert file.read(1) == b"", "the end stays"
            sender.join()
            client.dealloc()
            server.dealloc()


def text_both_ways() -> None:
    client, server = ends(qos=QOS_DATA)
    with client.makefile("rw", encoding="utf-8", newline="\n") as ask, server.makefile("rwb") as answer:
        ask.write("grüße\n")
        ask.write("zwei\n")
        ask.flush()
        assert answer.readline() == "grüße\n".encode()
        assert answer.readline() == b"zwei\n"
        answer.write(b"1\n2\n3")
        answer.flush()
        server.write_end()
        assert list(ask) == ["1\n", "2\n", "3"]
    for mode in ("", "a", "rwx", "r+", "rbb"):
        with raises(ValueError):
            client.makefile(mode)
    with raises(ValueError):
        client.makefile("rb", encoding="utf-8")
    with raises(ValueError):
        client.makefile("r", 0)
    with client.makefile("rb") as file, raises(OSError):
        file.write(b"x")
    assert client.allocated, "closing a file leaves the flow"
    client.dealloc()
    server.dealloc()


def any_pieces() -> None:
    """Whatever is written and read in whatever pieces, the octets are the same."""
    from hypothesis import given, settings
    from hypothesis import strategies as st

    sizes = st.integers(1, 200) | st.integers(1, 200_000)
    client, server = ends(qos=QOS_DATA)

    @settings(max_examples=60, deadline=None, database=None)
    @given(
        st.lists(sizes, max_size=20), st.lists(sizes, min_size=1), st.sampled_from((-1, 0, 1, 100, 70_000))
    )
    def check(writes: list[int], reads: list[int], buffering: int) -> None:
        total = sum(writes)
        data = os.urandom(total)
        with server.makefile("rb", buffering) as source, client.makefile("wb", buffering) as sink:

            def write() -> None:
                at = 0
                for size in writes:
                    view = memoryview(data)[at : at + size]
                    while view:
                        view = view[sink.write(view) :]
                    at += size
                sink.flush()

            writer = threading.Thread(target=write)
            writer.start()
            got = bytearray()
            while len(got) < total:
                # Never more than will come: a buffer must not wait for the next example.
                got += source.read(min(reads[len(got) % len(reads)], total - len(got)))
            writer.join()
            assert got == data

    check()
    client.dealloc()
    server.dealloc()


def http_over_a_flow() -> None:
    """A client of the standard library that only knows sockets."""
    import http.client

    class Connection(http.client.HTTPConnection):
        def connect(self) -> None:
            self.sock = SocketOf(flow_alloc("end", QOS_DATA))

    class SocketOf:
        def __init__(self, flow: Flow) -> None:
            self.flow, self.makefile = flow, flow.makefile

        def sendall(self, data: bytes) -> None:
            with self.flow.makefile("wb") as file:
                file.write(data)

        def close(self) -> None:
            self.flow.dealloc()

    bind()
    body = os.urandom(500_000)

    def serve() -> None:
        with flow_accept() as flow, flow.makefile("rwb") as file:
            assert file.readline() == b"GET /path HTTP/1.1\r\n"
            while file.readline().strip():
                pass
            file.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body))
            file.write(body)

    server = threading.Thread(target=serve)
    server.start()
    connection = Connection("end")
    connection.request("GET", "/path")
    response = connection.getresponse()
    assert response.status == 200 and response.read() == body
    connection.close()
    server.join()


def waiting_files() -> None:
    client, server = ends(qos=QOS_DATA)
    raw = server.makefile("rwb", 0)
    server.rcv_timeout = 0.01
    with raises(FlowTimeout):
        raw.read(1)
    server.flags |= FlowProperties.NonBlocking
    assert raw.read(1) is None
    wrote = 0
    while (n := raw.write(bytes(50_000))) is not None:
        wrote += n
    assert wrote
    got = client.makefile("rb").read(wrote)
    assert got == bytes(wrote)
    # After a reader of packets: the rest of its packet is read first.
    client.write(b"abcdef")
    server.flags &= ~FlowProperties.NonBlocking
    server.rcv_timeout = None
    assert server.read(2) == b"ab"
    assert raw.read(100_000) == b"cdef"
    client.dealloc()
    server.dealloc()


def a_breakdown_is_no_end() -> None:
    flow = flow_alloc("victim", QOS_DATA)
    file = flow.makefile("rb")
    assert file.read(4) == b"some"
    print("read", flush=True)
    with raises(FlowDownException):
        file.read(1)
    assert not flow.peer_ended
    flow.dealloc()


def victim() -> None:
    flow = flow_accept()
    flow.write(b"some")
    signal.pause()


def test_a_process_that_is_killed(shared: System) -> None:
    server = start(shared, victim)
    shared.irm(f"bind process {server.pid} name victim")
    client = start(shared, a_breakdown_is_no_end)
    client.expect("read")
    server.kill()
    assert client.wait() == 0, client.output


# ---------------------------------------------------------------- switches


def fragmentation_switched_off() -> None:
    for layer in layers():
        client, server = ends(qos=QOS_DATA, layer=layer)
        largest = client.max_packet
        client.set_frct_flags(client.get_frct_flags() & ~8)
        piece = client.max_packet
        assert piece <= largest
        with raises(FlowException, EMSGSIZE):
            client.write(bytes(piece + 1))
        client.write(bytes(piece))
        assert server.recv() == bytes(piece)
        client.set_frct_flags(31)
        for wrong in (-1, 1 << 32):
            with raises(FlowException, text="flags takes a set of FrctFlags"):
                client.set_frct_flags(wrong)
        assert client.max_packet == largest and client.get_frct_flags() == 31
        client.write(bytes(largest))
        assert server.recv() == bytes(largest)
        client.dealloc()
        server.dealloc()


def flow_control_switched_off() -> None:
    """The sender ignores the window; packets that the receiver does not accept are retransmitted."""
    client, server = ends(qos=QOS_DATA)
    client.flags |= FlowProperties.NonBlocking
    assert client.get_frct_flags() & 2
    wrote = 0
    with raises(FlowWouldBlock):
        while True:
            client.write(b"%d" % wrote)
            wrote += 1
    client.set_frct_flags(client.get_frct_flags() & ~2)
    beyond = 0
    with raises(FlowWouldBlock):
        while True:
            client.write(b"%d" % (wrote + beyond))
            beyond += 1
    assert beyond > 2 * wrote, (wrote, beyond)
    for i in range(wrote + beyond):
        assert server.recv() == b"%d" % i
    client.set_frct_flags(31)
    client.write(b"and again")
    assert server.recv() == b"and again"
    client.dealloc()
    server.dealloc()


def a_writer_is_let_go() -> None:
    """One that waits in front of a shut window, when flow control is switched off."""
    client, server = ends(qos=QOS_DATA)
    client.flags |= FlowProperties.NonBlocking
    with raises(FlowWouldBlock):
        while True:
            client.write(b"x")
    client.flags &= ~FlowProperties.NonBlocking
    writer = threading.Thread(target=client.write, args=(b"last",))
    writer.start()
    client.set_frct_flags(client.get_frct_flags() & ~2)
    writer.join()
    client.dealloc()
    server.dealloc()


def polling() -> None:
    """A descriptor is readable while there is something to read, or room to write, and else it is not."""
    import select
    from contextlib import suppress

    def readable(fd: int, wait: float = 0) -> bool:
        return bool(select.select([fd], [], [], wait)[0])

    def read(flow: Flow) -> bytes:
        """An event that was on its way, the one of the allocation for example, may ring once more."""
        for _ in range(10):
            assert readable(flow.fileno(), 60)
            with suppress(FlowWouldBlock):
                return flow.recv()
        raise AssertionError("readable, with nothing to read")

    def falls_silent(flow: Flow) -> None:
        """There is nothing to read, and no event is left."""
        for _ in range(100):
            with raises(FlowWouldBlock):
                flow.recv()
            if not readable(flow.fileno(), 0.05):
                return
        raise AssertionError("readable, with nothing to read")

    for layer in layers():
        client, server = ends(qos=QOS_DATA, layer=layer)
        for flow in (client, server):
            flow.flags |= FlowProperties.NonBlocking
        falls_silent(server)
        for i in range(3):
            client.write(b"%d" % i)
            assert read(server) == b"%d" % i
            falls_silent(server)
        wrote = 0
        with raises(FlowWouldBlock):
            while True:
                client.write(b"x")
                wrote += 1
        for _ in range(100):
            room = client.notify_writable()
            if room >= 0 and not readable(room, 0.05):
                break
            with suppress(FlowWouldBlock):
                while True:  # the first window was a small one
                    client.write(b"x")
                    wrote += 1
        else:
            raise AssertionError("room, and no room to write")
        server.flags &= ~FlowProperties.NonBlocking
        for _ in range(wrote):
            assert server.recv() == b"x"
        assert readable(room, 60)
        while True:
            try:
                client.write(b"last")
                break
            except FlowWouldBlock:
                fd = client.notify_writable()
                assert fd < 0 or readable(fd, 60)
        assert server.recv() == b"last"
        client.dealloc()
        server.dealloc()


def partial_reads() -> None:
    """Reads shorter than the packet, on a flow with FRCP as on any (docs/reference/api.md)."""
    for layer in layers():
        for qos in (QOS_RAW, QOS_VOICE, QOS_DATA):
            client, server = ends(qos=qos, layer=layer)
            client.write(b"0123456789")
            client.write(b"next")
            assert [server.read(4) for _ in range(3)] == [b"0123", b"4567", b"89"]
            assert server.read(4) == b"next"
            assert server.read(4) == b"", "the end of a packet that was used up exactly"
            buffer = bytearray(4)
            client.write(b"abcdef")
            assert server.read_into(buffer) == 4 and buffer == b"abcd"
            assert server.read() == b"ef"
            server.flags |= FlowProperties.NoPartialRead
            client.write(b"0123456789")
            with raises(FlowException, EMSGSIZE):
                server.read(4)
            client.write(b"next")
            assert server.read(4) == b"next"
            client.write(b"last")
            assert server.read() == b"last"
            client.flags = FlowProperties.ReadWrite | FlowProperties.NonBlocking
            assert client.flags & FlowProperties.NoPartialWrite, "a write is whole, and a program can see it"
            client.dealloc()
            server.dealloc()


def counters() -> None:
    for layer in layers():
        client, server = ends(qos=QOS_DATA, layer=layer)
        for i in range(10):
            client.write(bytes([i]))
        assert [server.recv() for _ in range(10)] == [bytes([i]) for i in range(10)]
        sent, got = client.frcp, server.frcp
        assert sent is not None and got is not None
        assert sent.sent == 10 and got.delivered == 10 and got.received >= 10
        assert sent.retransmits and sent.fragments and not sent.checked and not sent.peer_ended
        assert sent.window > 0 and sent.rto > 0
        client.dealloc()
        looked = server.frcp
        assert looked is not None and looked.unread == 0
        server.dealloc()
    client, server = ends(qos=QOS_RAW)
    assert client.frcp is None
    client.dealloc()
    server.dealloc()


def numbers_of_its_own() -> None:
    """A flow begins with a random number; and its layer gets the time for which its names must not be reused."""
    from ouroboros.dataplane._dataplane import ffi, lib
    from ouroboros.library import library

    notify, quiet, first = library().client.notify, list[int](), set[int]()

    def listen(envelope: Any) -> None:
        if envelope.WhichOneof("body") == "flow_dealloc":
            quiet.append(envelope.flow_dealloc.quiet_s)
        notify(envelope)

    library().client.notify = listen  # type: ignore[method-assign]
    for qos, seconds in ((QOS_DATA, 131), (QOS_VOICE, 131), (QOS_RAW, 0)):
        client, server = ends(qos=qos)
        if qos.in_order:
            for flow in (client, server):
                look = ffi.new("struct frcp *")
                assert lib.frcp_io_look(flow._handle, look) == 0
                first.add(look.config.first)
        client.write(b"something")
        assert server.recv() == b"something"
        client.dealloc()
        server.dealloc()
        assert len(quiet) == 2 and all(0 <= seconds - told <= 10 for told in quiet), quiet
        quiet.clear()
    assert len(first) == 4


@pytest.mark.parametrize(
    "function",
    [
        the_end,
        numbers_of_its_own,
        an_end_is_read_by_those_who_wait,
        only_reliable_flows_end,
        files,
        text_both_ways,
        any_pieces,
        http_over_a_flow,
        waiting_files,
        fragmentation_switched_off,
        flow_control_switched_off,
        a_writer_is_let_go,
        polling,
        partial_reads,
        counters,
    ],
)
def test_scenario(shared: System, function: Callable[[], None]) -> None:
    scenario(shared, function, also=(layers,))
