"""FRCP on flow ends (paper 2.7, 2.17): reads, writes, waiting and events of a flow that has it; both ends in one process."""

from __future__ import annotations

import mmap
import os
import select
from collections.abc import Iterator
from contextlib import contextmanager
from errno import EAGAIN, EMSGSIZE, ENOBUFS, ETIMEDOUT
from threading import Thread

import pytest

from irmd.memory import Memory
from ouroboros.dataplane._dataplane import ffi, lib
from ouroboros.errors import EFLOWDOWN, EFLOWPEER
from ouroboros.flow_event import FlowEvent
from tests.unit.dataplane.shm import DOWN, EMUSTSLEEP, PEER, PKT, RDWR, End, Pair, packet

KEY = bytes(range(32))
IDLE_POLLS = 10
SLEEPERS = 68  # where it lies in an event region
MS = 1_000_000
RECVQ_WINDOW = 4096  # packets, at most
OPTIONS = {"mpl_ms": 100, "retransmit": True}


def begin(pair: Pair, *, check: bool = False, encrypted: bool = False, **options: int) -> Pair:
    """FRCP at both ends."""
    for first, end in enumerate((pair.a, pair.b)):
        config = ffi.new("struct frcp_config *", OPTIONS | {"first": 1000 * first} | options)
        assert (
            lib.flow_protect(end.handle, 901 if encrypted else 0, KEY if encrypted else ffi.NULL, check) == 0
        )
        assert lib.frcp_io_begin(end.handle, config) == 0
    return pair


def visit(end: End) -> int:
    """What the thread does for an end that nobody reads: on its second visit it takes in what has come."""
    woken = ffi.new("bool *")
    lib.frcp_io_poll(end.handle, lib.wait_now(), woken)
    return int(lib.frcp_io_poll(end.handle, lib.wait_now(), woken))


@pytest.fixture(
    params=[
        "data",
        "data with check",
        "lossless data",
        "lossy",
        "encrypted data",
        "encrypted lossy with check",
    ]
)
def flow(pair: Pair, request: pytest.FixtureRequest) -> Iterator[Pair]:
    """A flow with FRCP."""
    yield begin(
        pair,
        check="check" in request.param,
        encrypted="encrypted" in request.param,
        retransmit="data" in request.param,
        lossless="lossless" in request.param,
    )


def test_a_packet_is_read(flow: Pair) -> None:
    assert flow.a.write(b"hello") == 5
    assert flow.b.read() == b"hello"
    assert flow.b.read() == -EAGAIN


def test_both_directions_in_turn(flow: Pair) -> None:
    for i in range(500):
        data = packet(i, 9 + i)
        assert flow.a.write(data) == len(data)
        assert flow.b.read() == data
        assert flow.b.write(data) == len(data)
        assert flow.a.read() == data


def test_bursts(flow: Pair) -> None:
    """As long as somebody reads, the window goes on."""
    sent = received = 0
    while received < 5000:
        n = flow.a.writev([packet(sent + i, 64) for i in range(50)])
        sent += max(n, 0)
        got = flow.b.readv()
        assert isinstance(got, list) or got == -EAGAIN
        for data in got if isinstance(got, list) else ():
            assert data == packet(received, 64)
            received += 1


def test_a_reader_who_does_not_read_shuts_the_window(pair: Pair) -> None:
    begin(pair)
    n = 0
    while pair.a.write(packet(n, 40)) > 0:
        n += 1
        visit(pair.b)
    assert n == 256
    for i in range(n):
        assert pair.b.read() == packet(i, 40)
    assert pair.a.write(packet(n, 40)) == 40


def test_large_packets_of_long_ago_do_not_make_the_window_small(pair: Pair) -> None:
    begin(pair, octets=32768)
    for length, least, most in ((1000, 16, 64), (10, 200, RECVQ_WINDOW)):
        for number in range(300):
            assert pair.a.write(packet(number, length)) == length
            assert pair.b.read() == packet(number, length)
        room = 0
        while pair.a.write(packet(room, length)) > 0:
            room += 1
        assert least <= room <= most
        while room:
            room -= len(pair.b.drain())
            pair.a.read()  # acknowledgements


def test_a_packet_longer_than_the_buffer_stays(flow: Pair) -> None:
    flow.a.write(packet(1, 300))
    assert flow.b.read_into(100) == -ENOBUFS
    assert flow.b.read_into(300) == packet(1, 300)


def test_larger_than_the_flow_takes(pair: Pair) -> None:
    most = int(pair.a.handle.max_packet)
    begin(pair, check=True)
    assert int(pair.a.handle.max_packet) == most - 16
    assert pair.a.write(bytes(most - 15)) == -EMSGSIZE
    assert pair.a.write(bytes(most - 16)) == most - 16
    assert pair.b.read() == bytes(most - 16)


def test_fragments(pair: Pair) -> None:
    begin(pair, fragments=True, check=True)
    data = packet(3, 600_000)
    assert pair.a.write(data) == len(data)
    for _ in range(200):
        got = pair.b.readv(1, 1 << 20)
        if got != -EAGAIN:
            break
        visit(pair.a)
    assert got == [data]


def test_a_packet_that_was_changed_is_not_read(pair: Pair) -> None:
    """Its check fails: it was never there. The writer has no FRCP, and says what it likes."""
    config = ffi.new("struct frcp_config *", OPTIONS)
    assert lib.flow_protect(pair.b.handle, 0, ffi.NULL, True) == 0
    assert lib.frcp_io_begin(pair.b.handle, config) == 0
    body = bytes.fromhex("03000000 00000000 00000000") + b"data" * 10
    check = int(lib.crc32_of(0, body, len(body)))
    pair.a.write(body + (check ^ 1).to_bytes(4))
    assert pair.b.read() == -EAGAIN
    pair.a.write(body + check.to_bytes(4))
    assert pair.b.read() == b"data" * 10


def test_a_blocking_reader_in_a_thread(flow: Pair) -> None:
    flow.b.flags(RDWR)
    got: list[object] = []

    def read() -> None:
        while len(got) < 200:
            data = flow.b.read()
            if data == -EMUSTSLEEP:
                flow.b.sleep()
            else:
                got.append(data)

    thread = Thread(target=read)
    thread.start()
    sent = 0
    while sent < 200:
        if flow.a.write(packet(sent, 80)) > 0:
            sent += 1
    thread.join()
    assert got == [packet(i, 80) for i in range(200)]


def test_a_set_sees_packets_not_acknowledgements(flow: Pair) -> None:
    members = flow.b.process.set()
    lib.process_add(flow.b.process.process, flow.b.handle)
    assert members.add(flow.b.fd) == 0
    members.take()
    flow.a.write(b"1")
    assert members.take() == [(flow.b.fd, PKT)]
    assert flow.b.read() == b"1"
    assert members.take() == []
    lib.process_remove(flow.b.process.process, flow.b.handle)


def test_blocks_come_back(memory: Memory, flow: Pair) -> None:
    """The fixture counts them; here are some in every place."""
    for i in range(30):
        flow.a.write(packet(i, 500))
    visit(flow.b)
    for i in range(30):
        flow.a.write(packet(i, 500))
    assert isinstance(flow.b.readv(10), list)


def test_a_configuration_that_makes_no_sense(pair: Pair) -> None:
    config = ffi.new("struct frcp_config *", {"window": 3})
    assert lib.frcp_io_begin(pair.a.handle, config) < 0
    assert pair.a.write(b"raw") == 3
    assert pair.b.read() == b"raw"


def test_the_thread_rests_when_nothing_goes_on(flow: Pair) -> None:
    flow.a.write(b"1")
    assert flow.b.read() == b"1"
    for _ in range(3):
        visit(flow.b)  # the last acknowledgement is not due yet
    for _ in range(10):
        visit(flow.a)
        deadline = visit(flow.b)
    assert deadline == lib.NEVER or deadline > lib.wait_now()


def test_the_thread_comes_back_after_a_silence(pair: Pair) -> None:
    """Also where it would come for the next keep-alive anyway, which is far away."""
    begin(pair, timeout_ms=3_600_000)
    read, write = os.pipe()
    for end in (pair.a, pair.b):
        lib.process_add(end.process.process, end.handle)
        assert lib.process_watch(end.process.process, read) == 0
    try:
        for number in range(3):
            while pair.b.handle.frcp.idle_polls < IDLE_POLLS:
                os.sched_yield()
            pair.a.write(packet(number, 100))
            while pair.a.queues()[1]:
                os.sched_yield()  # nobody reads: the thread takes it in
        assert pair.b.drain() == [packet(number, 100) for number in range(3)]
    finally:
        for end in (pair.a, pair.b):
            lib.process_remove(end.process.process, end.handle)
            lib.process_stop(end.process.process)
        os.close(read)
        os.close(write)


def test_the_thread_of_a_process_that_does_not_read(memory: Memory, flow: Pair) -> None:
    """Its peer is acknowledged, and what it lost is sent again, though neither program makes a call (spec/lessons 43)."""
    read, write = os.pipe()
    for end in (flow.a, flow.b):
        lib.process_add(end.process.process, end.handle)
        assert lib.process_watch(end.process.process, read) == 0
    try:
        sent = 0
        while sent < 200:
            if flow.a.write(packet(sent, 100)) > 0:  # more than the first window: somebody must open it
                sent += 1
        while flow.a.queues()[1]:
            os.sched_yield()  # the thread takes them in
        got = flow.b.drain()
        assert got == [packet(i, 100) for i in range(len(got))]
        assert len(got) == 200
    finally:
        for end in (flow.a, flow.b):
            lib.process_remove(end.process.process, end.handle)
            lib.process_stop(end.process.process)
        os.close(read)
        os.close(write)


def test_who_has_been_told_of_a_packet_need_not_read_it(pair: Pair) -> None:
    """A wait for events takes it in, and the bit that would have told the thread; which acknowledges it all the same."""
    begin(pair)
    members = pair.b.process.set()
    assert members.add(pair.b.fd) == 0
    read, write = os.pipe()
    lib.process_add(pair.b.process.process, pair.b.handle)
    assert lib.process_watch(pair.b.process.process, read) == 0
    region = mmap.mmap(pair.b.process.events.fds[0], 0)
    try:
        while pair.b.handle.frcp.idle_polls < IDLE_POLLS:
            os.sched_yield()
        region[SLEEPERS : SLEEPERS + 4] = bytes(4)  # the thread is slower than we are
        pair.a.write(b"not read")
        assert members.take() == [(pair.b.fd, PKT)]
        machine = ffi.new("struct frcp *")
        while pair.a.queues()[1]:
            assert lib.frcp_io_look(pair.a.handle, machine) == 0
            assert machine.counters.resent == 0, "nobody acknowledges it"
            os.sched_yield()
        assert pair.b.read() == b"not read"
    finally:
        lib.process_remove(pair.b.process.process, pair.b.handle)
        lib.process_stop(pair.b.process.process)
        members.close()
        os.close(read)
        os.close(write)


def test_a_writer_in_front_of_a_full_ring_sleeps(pair: Pair) -> None:
    """Where the window is open, and nothing is sent again. He wakes when there is room."""
    begin(pair, retransmit=False)
    pair.a.flags(RDWR)
    large = bytes(60000)
    while (result := pair.a.write(large)) > 0:
        pass
    assert result == -EMUSTSLEEP
    for _ in range(3):
        assert pair.a.sleep(True, lib.wait_now() + MS) == -ETIMEDOUT
    woken: list[int] = []
    thread = Thread(target=lambda: woken.append(pair.a.sleep(True)))
    thread.start()
    assert isinstance(pair.b.read(), bytes)
    thread.join()
    assert woken == [0]
    assert pair.a.write(large) == len(large)


# ---- what the machine finds out by itself: events, and those who wait ----


@contextmanager
def watched(*ends: End) -> Iterator[None]:
    """Their processes have a thread."""
    read, write = os.pipe()
    for end in ends:
        lib.process_add(end.process.process, end.handle)
        assert lib.process_watch(end.process.process, read) == 0
    try:
        yield
    finally:
        for end in ends:
            lib.process_remove(end.process.process, end.handle)
            lib.process_stop(end.process.process)
        os.close(read)
        os.close(write)


def give_up(pair: Pair, *, reliable: bool) -> None:
    """A flow whose peer, without any thread, says nothing."""
    if reliable:
        config = ffi.new("struct frcp_config *", OPTIONS | {"timeout_ms": 60})
        assert lib.frcp_io_begin(pair.b.handle, config) == 0
    else:
        lib.flow_keep_alive(pair.b.handle, 60)


@pytest.mark.parametrize("reliable", [True, False], ids=["data", "raw"])
def test_a_peer_that_is_silent_wakes_a_reader(pair: Pair, reliable: bool) -> None:
    give_up(pair, reliable=reliable)
    pair.b.flags(RDWR)
    with watched(pair.b):
        while (result := pair.b.read()) == -EMUSTSLEEP:
            pair.b.sleep()
    assert result == -EFLOWPEER
    assert pair.b.write(b"x") == -EFLOWPEER
    assert lib.flow_down_cause(pair.b.handle) & lib.END_PEER


@pytest.mark.parametrize("reliable", [True, False], ids=["data", "raw"])
def test_a_peer_that_is_silent_is_an_event_once(pair: Pair, reliable: bool) -> None:
    give_up(pair, reliable=reliable)
    members = pair.b.process.set()
    assert members.add(pair.b.fd) == 0
    with watched(pair.b):
        assert members.take() == []
        while not (events := members.take()):
            members.sleep()
        assert events == [(pair.b.fd, PEER)]
        assert members.take() == []
    members.close()


@pytest.mark.parametrize("reliable", [True, False], ids=["data", "raw"])
def test_a_peer_that_is_silent_makes_the_descriptor_readable(pair: Pair, reliable: bool) -> None:
    give_up(pair, reliable=reliable)
    eventfd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    with watched(pair.b):
        lib.process_poll_flow(pair.b.process.process, pair.b.handle, eventfd)
        while (result := pair.b.read()) == -EAGAIN:
            select.select([eventfd], [], [])
        assert result == -EFLOWPEER
        assert select.select([eventfd], [], [], 0)[0], "as long as it is so"
    os.close(eventfd)


def test_a_descriptor_is_cleared_by_a_read_that_finds_nothing(flow: Pair) -> None:
    eventfd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    with watched(flow.b):
        lib.process_poll_flow(flow.b.process.process, flow.b.handle, eventfd)
        assert flow.b.read() == -EAGAIN
        assert not select.select([eventfd], [], [], 0)[0]
        assert flow.a.write(b"x") == 1
        assert select.select([eventfd], [], [])[0]
        assert flow.b.read() == b"x"
    os.close(eventfd)


def test_a_peer_that_never_acknowledges_is_an_event(pair: Pair) -> None:
    """R is over: the thread's visit of two minutes later finds it."""
    begin(pair)
    members = pair.a.process.set()
    lib.process_add(pair.a.process.process, pair.a.handle)
    assert members.add(pair.a.fd) == 0
    pair.a.write(b"nobody hears")
    assert members.take() == []
    woken = ffi.new("bool *")
    lib.frcp_io_poll(pair.a.handle, lib.wait_now() + 121_000_000_000, woken)
    assert woken[0]
    lib.events_raise(pair.a.process.region, pair.a.fd)  # so does the thread then
    assert members.take() == [(pair.a.fd, DOWN)]
    assert pair.a.write(b"x") == -EFLOWDOWN
    assert pair.a.read() == -EFLOWDOWN
    assert lib.flow_down_cause(pair.a.handle) & lib.DOWN_UNACKNOWLEDGED
    lib.process_remove(pair.a.process.process, pair.a.handle)


def test_room_is_that_of_the_window(pair: Pair) -> None:
    """Its descriptor becomes readable when an acknowledgement opens it."""
    begin(pair)
    eventfd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    with watched(pair.a):
        lib.process_poll_writable(pair.a.process.process, pair.a.handle, eventfd)
        n = 0
        while pair.a.write(packet(n, 40)) > 0:
            n += 1
            visit(pair.b)
        assert n == 256
        while pair.a.queues() != (0, 0):  # until all of them are acknowledged, and not read
            visit(pair.b)
        assert pair.b.queues()[0] == 256
        while not lib.flow_notify_writable(pair.a.handle):
            if select.select([eventfd], [], [], 0)[0]:
                os.eventfd_read(eventfd)
                continue
            assert isinstance(pair.b.readv(256), list) or n == 256
            select.select([eventfd], [], [])
            os.eventfd_read(eventfd)
        assert pair.a.write(packet(n, 40)) == 40
    os.close(eventfd)


# ---- keep-alives without FRCP: time is an argument ----


def keep(end: End, at: int) -> tuple[int, bool]:
    """The thread's visit: when it wants to come next, and whether it has found the peer gone."""
    found = ffi.new("bool *")
    return int(lib.flow_on_timer(end.handle, at, found)), bool(found[0])


def test_keep_alives_of_a_quiet_flow(pair: Pair) -> None:
    """One each quarter of the time-out, seen on arrival, though nobody reads."""
    for end in (pair.a, pair.b):
        lib.flow_keep_alive(end.handle, 2000)
    now = int(lib.wait_now())
    for i in range(1, 5000):
        for end in (pair.a, pair.b):
            due, gone = keep(end, now + i * 501 * MS)
            assert not gone and due > now + i * 501 * MS
    assert sum(pair.a.queues() + pair.b.queues()) <= 2, "empty packets do not fill the rings"
    assert pair.b.read() == -EAGAIN


def test_a_flow_on_which_packets_go_sends_no_keep_alives(pair: Pair) -> None:
    lib.flow_keep_alive(pair.a.handle, 2000)
    now = int(lib.wait_now())
    for i in range(1, 20):
        pair.a.write(packet(i, 20))
        pair.b.write(packet(i, 20))
        assert not keep(pair.a, now + i * 501 * MS)[1]
        assert pair.a.queues() == (i, i)


def test_the_peer_of_a_quiet_flow_is_given_up(pair: Pair) -> None:
    lib.flow_keep_alive(pair.a.handle, 2000)
    pair.b.write(b"last words")
    now = int(lib.wait_now())
    assert not keep(pair.a, now)[1]
    for at in (500, 1000, 1500, 1999):
        assert not keep(pair.a, now + at * MS)[1]
    assert keep(pair.a, now + 2002 * MS) == (lib.NEVER, True)
    assert pair.a.read() == b"last words"
    assert pair.a.read() == -EFLOWPEER
    assert keep(pair.a, now + 9000 * MS) == (lib.NEVER, False)


def test_without_a_timeout_nobody_is_given_up(pair: Pair) -> None:
    lib.flow_keep_alive(pair.a.handle, 0)
    assert keep(pair.a, int(lib.wait_now()) + 10**15) == (lib.NEVER, False)
    assert pair.a.queues() == (0, 0)


# ---- leaving ----


def test_who_lingers_does_not_spin(pair: Pair) -> None:
    """What he could read, or write, does not keep him awake."""
    begin(pair)
    pair.b.write(b"not read")
    pair.a.write(b"not acknowledged")
    assert pair.a.queues()[0] == 1
    assert lib.frcp_io_close(pair.a.handle) == -EMUSTSLEEP
    for _ in range(3):
        assert lib.frcp_io_linger(pair.a.handle, lib.wait_now() + 5 * MS) == -ETIMEDOUT
        assert lib.frcp_io_close(pair.a.handle) == -EMUSTSLEEP
    assert pair.b.read() == b"not acknowledged"
    while lib.frcp_io_close(pair.a.handle) == -EMUSTSLEEP:
        pair.b.read()
        lib.frcp_io_linger(pair.a.handle, lib.wait_now() + 5 * MS)


@pytest.mark.parametrize("state", [FlowEvent.DOWN, FlowEvent.PEER])
def test_nobody_lingers_for_a_peer_that_has_gone(pair: Pair, state: FlowEvent) -> None:
    begin(pair)
    pair.a.write(b"not acknowledged")
    assert lib.frcp_io_close(pair.a.handle) == -EMUSTSLEEP
    pair.flow.raise_event(0, state)
    assert lib.frcp_io_close(pair.a.handle) >= 0


def test_what_is_left_of_the_quiet_time(pair: Pair) -> None:
    begin(pair)
    look = ffi.new("struct frcp *")
    assert lib.frcp_io_look(pair.a.handle, look) == 0
    assert lib.frcp_quiet_time(look, lib.wait_now()) == 0, "nothing was ever sent or received"
    pair.a.write(b"x")
    pair.b.read()
    while pair.a.queues()[1]:
        visit(pair.b)
    assert 129 <= lib.frcp_io_close(pair.a.handle) <= 131


def test_what_a_reader_does_not_read_is_not_lost(pair: Pair) -> None:
    """Small packets open a window which the large ones behind them fill with more than an end keeps."""
    _, a, b = begin(pair, lossless=True, window=2048, selective=True, octets=1 << 20)
    machine = ffi.new("struct frcp *")
    sent = 0
    for _ in range(1000):
        sent += a.write(packet(sent, 64 if sent < 100 else 60000)) > 0
        visit(b)
        visit(a)
        assert lib.frcp_io_look(b.handle, machine) == 0
        if machine.counters.refused:
            break
    assert machine.counters.refused and machine.rx.recvq.octets > 7 << 20
    read = 0
    while read < sent:
        got = b.read()
        if got == -EAGAIN:
            visit(a)
            visit(b)
        else:
            assert got == packet(read, 64 if read < 100 else 60000)
            read += 1
    assert lib.frcp_io_look(a.handle, machine) == 0
    assert machine.counters.resent > 0


def test_a_forked_child_frees_nothing_of_its_parent(pair: Pair) -> None:
    """A thread of the parent may have been changing the queues at the moment of the fork."""
    begin(pair)
    assert pair.a.write(b"unacknowledged") == 14
    handle = pair.a.handle
    pid = os.fork()
    if pid == 0:
        lib.flow_detach(handle)
        lib.flow_destroy(handle)
        os._exit(0 if handle.frcp != ffi.NULL else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert pair.b.read() == b"unacknowledged"
