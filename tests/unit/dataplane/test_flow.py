"""One end of a flow in C: writing, reading, sleeping, going down (docs/reference/api.md)."""

from __future__ import annotations

import threading
from collections.abc import Callable
from errno import EAGAIN, EBADF, EMSGSIZE, ENOBUFS, ENOMEM, EPERM, ETIMEDOUT

import pytest

from irmd.memory import FlowEvent, Memory
from ouroboros.dataplane._dataplane import ffi, lib
from tests.unit.dataplane.shm import (
    EFLOWDOWN,
    EFLOWPEER,
    EMUSTSLEEP,
    ENOTALLOC,
    RDONLY,
    RDWR,
    SLOTS,
    SMALL,
    WRONLY,
    End,
    Pair,
    Process,
    Raw,
    connect,
    free,
    is_error,
    lengths,
    number,
    packet,
    total,
)

LARGEST = SMALL.classes[-1][0] - 288


def background(call: Callable[[], object]) -> tuple[threading.Thread, list[object]]:
    """Run a call in a thread; the list gets its result."""
    results: list[object] = []
    thread = threading.Thread(target=lambda: results.append(call()))
    thread.start()
    return thread, results


# ---------------------------------------------------------------- packets


def test_a_packet_arrives_as_it_was_written(pair: Pair) -> None:
    for size in (1, 8, 223, 224, 225, 1760, 1761, 9952, 9953, 65000, LARGEST):
        data = bytes(range(256)) * (size // 256) + bytes(size % 256)
        assert pair.a.write(data) == size
        assert pair.b.read() == data
        assert pair.b.write(data) == size
        assert pair.a.read() == data
    assert is_error(pair.a.read(), EAGAIN)


def test_boundaries_and_order_are_kept(pair: Pair) -> None:
    sizes = lengths()
    wrote = [packet(i, next(sizes)) for i in range(200)]
    assert pair.a.writev(wrote) == 200
    assert pair.b.drain() == wrote


def test_an_empty_packet_travels_and_is_never_read(pair: Pair) -> None:
    assert pair.a.write(b"") == 0
    assert pair.b.queues() == (1, 0)
    assert is_error(pair.b.read(), EAGAIN)
    assert pair.b.queues() == (0, 0)
    assert pair.a.writev([b"", b"one", b"", b"", b"two", b""]) == 6
    assert pair.b.readv() == [b"one", b"two"]
    assert is_error(pair.b.readv(), EAGAIN)


def test_many_empty_packets(pair: Pair) -> None:
    """More than there are slots in one look: the packet behind them is found all the same."""
    for _ in range(3):
        assert pair.a.writev([b""] * (SLOTS // 8)) == SLOTS // 8
        assert pair.a.write(b"behind") == 6
        assert pair.b.read() == b"behind"


def test_too_long(pair: Pair) -> None:
    assert is_error(pair.a.write(bytes(LARGEST + 1)), EMSGSIZE)
    assert is_error(pair.a.write(bytes(1 << 25)), EMSGSIZE)
    assert pair.a.writev([b"one", b"two", bytes(LARGEST + 1), b"four"]) == 2, "those before it are written"
    assert is_error(pair.a.writev([bytes(LARGEST + 1), b"four"]), EMSGSIZE)
    assert pair.b.readv() == [b"one", b"two"]


def test_a_flow_may_take_less_than_the_pool(memory: Memory) -> None:
    one, other = Process(memory), Process(memory)
    flow = memory.flow(one.token, other.token, memory.system)
    segment = lib.segment_map(flow.segment_fd)
    spec = {
        "fd": 64,
        "index": flow.index,
        "side": 0,
        "peer_fd": 64,
        "serial": flow.serial,
        "max_packet": 1400,
    }
    handle = lib.flow_attach(one.pool, segment, ffi.NULL, ffi.new("struct flow_spec *", spec))
    end = End(one, handle, 64, 0)
    assert handle.max_packet == 1400
    assert is_error(end.write(bytes(1401)), EMSGSIZE)
    assert end.write(bytes(1400)) == 1400
    end.detach()
    flow.release()
    lib.flow_destroy(handle)
    lib.segment_unmap(segment)
    one.close()
    other.close()


def test_readv_takes_what_fits(pair: Pair) -> None:
    wrote = [packet(i, 100 + i) for i in range(10)]
    assert pair.a.writev(wrote) == 10
    assert pair.b.readv(3) == wrote[:3]
    assert pair.b.readv(64, size=103 + 104 + 50) == wrote[3:5]
    assert pair.b.readv(0) == []
    assert pair.b.readv(64) == wrote[5:]


def test_a_first_packet_that_does_not_fit_stays(pair: Pair) -> None:
    assert pair.a.writev([packet(0, 5000), packet(1, 50)]) == 2
    assert is_error(pair.b.readv(4, size=4999), ENOBUFS)
    assert pair.b._burst(4999, 4).lengths[0] == 5000
    assert is_error(pair.b.read_into(100), ENOBUFS)
    assert pair.b.read_into(5000) == packet(0, 5000)
    assert pair.b.read_into(50) == packet(1, 50)


def test_reading_ahead(pair: Pair) -> None:
    """One call takes what waits, within bounds; what it took ahead counts as waiting for a set."""
    assert pair.a.write(packet(0, 64)) == 64
    assert pair.b.read_ahead() == [packet(0, 64)]
    assert pair.b.handle.readahead_pending == 0
    wrote = [packet(i, 64) for i in range(100)]
    assert pair.a.writev(wrote) == 100
    first = pair.b.read_ahead()
    assert first == wrote[: lib.READAHEAD_PACKETS]
    assert pair.b.handle.readahead_owner != 0
    assert isinstance(first, list)
    assert pair.b.drain() == wrote[len(first) :]
    pair.b.handle.readahead_pending = 0
    large = [packet(i, 9000) for i in range(8)]
    assert pair.a.writev(large) == 8
    assert len(pair.b.read_ahead()) == 1, "octets are bounded as well"  # type: ignore[arg-type]
    pair.b.handle.readahead_pending = 0
    pair.b.drain()


# ---------------------------------------------------------------- full, empty, exhausted


def test_the_ring_wraps(pair: Pair) -> None:
    seen = written = 0
    for burst in range(1, 400):
        n = 1 + burst * 37 % 200
        last = written + n
        while (
            written < last
        ):  # it may be written in two goes: the reader's index is looked at only when need be
            done = pair.a.writev([packet(i, 16) for i in range(written, last)])
            assert done > 0
            written += done
        for data in pair.b.drain():
            assert number(data) == seen
            seen += 1
    assert seen == written > 20 * SLOTS
    assert pair.flow.written(0) == written
    assert pair.flow.written(1) == 0


def test_a_full_ring() -> None:
    memory = Memory()  # the small one has fewer blocks than a ring has slots
    pair = connect(memory, Process(memory), Process(memory))
    done = pair.a.writev([packet(i, 8) for i in range(SLOTS + 10)])
    assert done == SLOTS
    assert is_error(pair.a.write(b"x"), EAGAIN)
    assert pair.a.queues() == (0, SLOTS)
    assert pair.b.queues() == (SLOTS, 0)
    assert pair.flow.queued(1) == SLOTS
    assert pair.b.readv(1) == [packet(0, 8)]
    assert pair.a.write(b"x") == 1
    assert is_error(pair.a.write(b"x"), EAGAIN)
    assert len(pair.b.drain()) == SLOTS
    assert pair.a.queues() == pair.b.queues() == (0, 0)
    pair.end()
    memory.close()


def test_a_flow_never_takes_more_than_a_mebibyte_of_large_blocks(memory: Memory) -> None:
    """A reader that does not read must not fill the pool (spec/lessons 73)."""
    one, other = Process(memory), Process(memory)
    slow, quick = connect(memory, one, other), connect(memory, one, other)
    wrote = 0
    while slow.a.write(packet(wrote, 60000)) > 0:
        wrote += 1
    assert is_error(slow.a.write(bytes(60000)), EAGAIN)
    assert 1 << 20 <= wrote * SMALL.classes[3][0] < (1 << 20) + SMALL.classes[3][0]
    assert is_error(slow.a.write(b"small"), EAGAIN)
    assert quick.a.write(bytes(60000)) == 60000, "another flow is not affected"
    for i in range(wrote):
        data = slow.b.read()
        assert isinstance(data, bytes)
        assert number(data) == i
        assert slow.a.write(b"small") == 5, "room again"
    slow.close()
    quick.close()
    one.close()
    other.close()


def test_the_budget_of_large_blocks_balances(pair: Pair) -> None:
    """Packets of all sizes through several rounds of the ring: nothing is accounted for twice, or never."""
    sizes = [8] * 700 + [10000 - 288] + [8] * 322 + [60000] + [8] * 5 + [9000] * 3 + [60000] * 12
    sent = seen = 0
    for turn in range(6 * len(sizes)):
        size = sizes[turn % len(sizes)]
        while is_error(n := pair.a.write(packet(sent, size)), EAGAIN) or is_error(n, ENOMEM):
            got = pair.b.readv(40)
            assert isinstance(got, list), f"nothing to read, no room to write packet {sent} of {size}"
            for data in got:
                assert number(data) == seen
                seen += 1
        assert n == size
        sent += 1
    for data in pair.b.drain():
        assert number(data) == seen
        seen += 1
    assert seen == sent
    fit = 0
    while pair.a.write(bytes(60000)) > 0:
        fit += 1
    assert fit == 16, "the whole budget is there again"


def test_an_exhausted_pool(pair: Pair) -> None:
    hog = Process(pair.a.process.memory, reserve=True)
    memory = pair.a.process.memory
    while hog.alloc(1) >= 0:
        pass
    assert is_error(pair.a.write(b"x"), ENOMEM)
    assert is_error(pair.a.writev([b"x", b"y"]), ENOMEM)
    assert memory.system.failures >= 3
    assert memory.reclaim(hog.token) == sum(total(memory.system))
    assert pair.a.write(b"x") == 1
    assert pair.b.read() == b"x"
    hog.close()


# ---------------------------------------------------------------- access


def test_access_modes(pair: Pair) -> None:
    pair.a.flags(RDONLY | 0o3000)
    assert is_error(pair.a.write(b"x"), EPERM)
    assert is_error(pair.a.read(), EAGAIN)
    pair.a.flags(WRONLY | 0o3000)
    assert is_error(pair.a.read(), EPERM)
    assert is_error(pair.a.readv(), EPERM)
    assert pair.a.write(b"x") == 1
    pair.a.flags(RDWR | 0o3000)
    assert lib.flow_get_flags(pair.a.handle) == RDWR | 0o3000 | 0o20000, "a write is always whole"
    assert is_error(pair.a.read(), EAGAIN)


def test_no_flow_at_all(memory: Memory) -> None:
    """Every function of the library takes the handle of no flow, and changes nothing."""
    none, burst, process = lib.flow_none(), ffi.new("struct burst *"), Process(memory).process
    counts, frcp = ffi.new("uint64_t[2]", [1, 1]), ffi.new("struct frcp *")
    for result in (
        lib.flow_write(none, b"x", 1),
        lib.flow_writev(none, b"x", ffi.NULL, 1, 1),
        lib.flow_read(none, burst),
        lib.flow_readv(none, burst, 1),
        lib.flow_read_into(none, ffi.new("char[1]"), 1),
        lib.flow_sleep(none, False, -1),
        lib.flow_sleep(none, True, -1),
        lib.flow_get_flags(none),
        lib.flow_set_flags(none, 2),
        lib.process_poll_flow(process, none, -1),
        lib.process_poll_writable(process, none, -1),
        lib.frcp_io_look(none, frcp),
        lib.frcp_io_flags(none),
        lib.frcp_io_set_flags(none, 0),
        lib.frcp_io_send_fin(none),
    ):
        assert result == -ENOTALLOC
    lib.flow_queues(none, counts, counts + 1)
    assert list(counts) == [0, 0]
    assert not lib.flow_is_down(none) and not lib.frcp_io_fin_received(none)
    assert lib.flow_notify_writable(none), "the write that follows says why not"
    assert lib.flow_down_cause(none) == 0 and lib.frcp_io_close(none) == 0
    for leave in (lib.flow_declare, lib.process_remove, lib.flow_detach, lib.flow_destroy):
        leave(*{lib.flow_declare: (none, True), lib.process_remove: (process, none)}.get(leave, (none,)))
    assert lib.flow_write(none, b"x", 1) == -ENOTALLOC


def test_a_detached_end(memory: Memory) -> None:
    pair = connect(memory, Process(memory), Process(memory))
    pair.a.write(b"still there")
    pair.b.write(b"never read")
    pair.a.detach()
    pair.a.detach()
    assert is_error(pair.a.write(b"x"), ENOTALLOC)
    assert is_error(pair.a.read(), ENOTALLOC)
    assert pair.a.sleep() == 0
    assert not pair.a.down()
    assert pair.a.queues() == (0, 0)
    assert pair.b.read() == b"still there"
    pair.flow.close_side(0)
    assert is_error(pair.b.read(), EFLOWDOWN)
    pair.end()


# ---------------------------------------------------------------- down


def test_what_was_queued_is_read_before_down_is_told(pair: Pair) -> None:
    pair.a.writev([b"one", b"two"])
    pair.flow.close_side(0)
    assert pair.b.down()
    assert pair.b.read() == b"one"
    assert is_error(pair.b.write(b"x"), EFLOWDOWN)
    assert pair.b.read() == b"two"
    for _ in range(3):
        assert is_error(pair.b.read(), EFLOWDOWN)
        assert is_error(pair.b.readv(), EFLOWDOWN)


def test_a_peer_that_was_given_up(pair: Pair) -> None:
    pair.a.write(b"one")
    pair.flow.raise_event(1, FlowEvent.PEER)
    assert pair.b.read() == b"one"
    assert is_error(pair.b.read(), EFLOWPEER)
    assert is_error(pair.b.write(b"x"), EFLOWPEER)
    assert not pair.a.down(), "the other end has its own opinion"


def test_down_and_up_again(pair: Pair) -> None:
    pair.flow.raise_event(1, FlowEvent.DOWN)
    assert is_error(pair.b.read(), EFLOWDOWN)
    pair.flow.raise_event(1, FlowEvent.UP)
    assert not pair.b.down()
    pair.a.write(b"x")
    assert pair.b.read() == b"x"


def test_a_link_that_is_down_is_told_from_a_peer_that_has_left(pair: Pair) -> None:
    def link_down() -> bool:
        return bool(lib.flow_down_cause(pair.b.handle) & lib.END_LINK)

    pair.flow.raise_event(1, FlowEvent.DOWN, link=True)
    assert is_error(pair.b.read(), EFLOWDOWN) and link_down()
    pair.flow.raise_event(1, FlowEvent.UP)
    assert not pair.b.down() and not link_down()
    pair.flow.raise_event(1, FlowEvent.DOWN, link=True)
    pair.flow.close_side(0)
    assert pair.b.down() and not link_down(), "its peer has left: no link brings it back"


def test_declared_down(pair: Pair) -> None:
    """fccntl: either end may declare the flow down, and up again."""
    lib.flow_declare(pair.a.handle, True)
    lib.flow_declare(pair.a.handle, True)
    assert pair.a.down() and pair.b.down()
    assert is_error(pair.a.write(b"x"), EFLOWDOWN)
    assert is_error(pair.b.read(), EFLOWDOWN)
    lib.flow_declare(pair.b.handle, False)
    assert not pair.a.down() and not pair.b.down()
    pair.a.write(b"x")
    assert pair.b.read() == b"x"


def test_what_the_irmd_says_stays_when_up_is_declared(pair: Pair) -> None:
    pair.flow.raise_event(0, FlowEvent.DOWN)
    lib.flow_declare(pair.a.handle, True)
    lib.flow_declare(pair.a.handle, False)
    assert pair.a.down()
    assert not pair.b.down()


def test_what_is_written_while_the_reader_dies_comes_back(memory: Memory) -> None:
    """The IRMd swept between the writer's look at the state and its publishing: played step by step."""
    pair = connect(memory, Process(memory), Process(memory))
    pair.flow.close_side(1)
    memory.reclaim(pair.b.process.token)
    # The writer was in the middle: its block is the ring's, its slot is written, head follows.
    block = pair.a.process.alloc(10)
    ring = lib.owner_ring(pair.flow.serial, 0)
    assert lib.pool_transfer(pair.a.process.pool, block, lib.owner_process(pair.a.process.token), ring)
    raw = Raw(pair.flow)
    raw.slot(0, 0, block << 40 | 256 << 24 | 10)
    raw.head(0, 1)
    # ... and here it is killed before it sees that the flow is down.
    pair.flow.close_side(0)
    memory.reclaim(pair.a.process.token)
    pair.b.detach()
    pair.flow.release()
    assert free(memory.system) == total(memory.system)
    pair.a.process.close()
    pair.b.process.close()


# ---------------------------------------------------------------- sleeping


def test_a_blocking_read_that_finds_nothing_must_sleep(memory: Memory) -> None:
    pair = connect(memory, Process(memory), Process(memory), flags=0)
    assert is_error(pair.b.read(), EMUSTSLEEP)
    assert pair.b.sleep(deadline=int(lib.wait_now())) == -ETIMEDOUT
    pair.a.write(b"x")
    assert pair.b.sleep() == 0, "there is something: does not sleep"
    assert pair.b.read() == b"x"
    pair.end()


def test_a_write_wakes_a_sleeping_reader(memory: Memory) -> None:
    pair = connect(memory, Process(memory), Process(memory), flags=0)
    raw = Raw(pair.flow)
    for i in range(50):
        assert is_error(pair.b.read(), EMUSTSLEEP)
        thread, results = background(lambda: pair.b.sleep())
        while not raw.wait(0, "cons"):
            pass  # until it has asked
        pair.a.write(packet(i, 8))
        thread.join()
        assert results == [0]
        assert pair.b.read() == packet(i, 8)
    pair.end()


def test_a_read_wakes_a_sleeping_writer(memory: Memory) -> None:
    pair = connect(memory, Process(memory), Process(memory), flags=0)
    raw = Raw(pair.flow)
    for _ in range(20):
        while pair.a.write(bytes(60000)) > 0:
            pass
        thread, results = background(lambda: pair.a.sleep(True))
        while not raw.wait(0, "prod"):
            pass
        assert isinstance(pair.b.read(), bytes)
        thread.join()
        assert results == [0]
        pair.b.readv(100, size=1 << 20)
    pair.end()


@pytest.mark.parametrize("how", ["down", "peer", "declared", "orphan", "detached"])
@pytest.mark.parametrize("writing", [False, True])
def test_sleepers_learn_at_once(memory: Memory, how: str, writing: bool) -> None:
    """FLOWDOWN must wake a reader that is blocked already (spec/lessons 3), and a writer."""
    pair = connect(memory, Process(memory), Process(memory), flags=0)
    while writing and pair.a.write(bytes(60000)) > 0:
        pass
    raw = Raw(pair.flow)
    threads = [background(lambda: pair.a.sleep(writing)) for _ in range(3)]
    while not raw.wait(0 if writing else 1, "prod" if writing else "cons"):
        pass
    if how == "down":
        pair.flow.close_side(1)
    elif how == "peer":
        pair.flow.raise_event(0, FlowEvent.PEER)
    elif how == "declared":
        lib.flow_declare(pair.b.handle, True)
    elif how == "orphan":
        orphan(pair.a)
    else:
        pair.a.detach()
    for thread, results in threads:
        thread.join()
        assert results == [0]
    expected = {"peer": EFLOWPEER, "detached": ENOTALLOC}.get(how, EFLOWDOWN)
    assert is_error(pair.a.write(b"x") if writing else pair.a.read(), expected)
    pair.end()


def orphan(end: End) -> None:
    """What the watcher does when the connection with the IRMd ends."""
    import os
    import socket

    ours, theirs = socket.socketpair()
    process = end.process.process
    lib.process_add(process, end.handle)
    assert lib.process_watch(process, ours.fileno()) == 0
    theirs.close()
    while not lib.process_is_orphan(process):
        os.sched_yield()
    lib.process_stop(process)
    lib.process_remove(process, end.handle)
    ours.close()


def test_threads_share_an_end(memory: Memory) -> None:
    """Every packet is read by exactly one of several threads, and each thread sees them in order."""
    pair = connect(memory, Process(memory), Process(memory), flags=0)
    most = 6000
    got: list[list[int]] = [[] for _ in range(4)]
    sent: list[list[int]] = [[] for _ in range(2)]
    counter = iter(range(most))
    lock = threading.Lock()

    def write(mine: list[int]) -> None:
        while True:
            with lock:
                i = next(counter, None)
            if i is None:
                return
            while (n := pair.a.write(packet(i, 24))) < 0:
                assert n in (-EMUSTSLEEP, -ENOMEM)
                pair.a.sleep(True, int(lib.wait_now()) + 1_000_000)
            mine.append(i)

    def read(mine: list[int]) -> None:
        while True:
            data = pair.b.read_into(100)
            if is_error(data, EMUSTSLEEP):
                pair.b.sleep()
                continue
            if isinstance(data, int):
                assert is_error(data, EFLOWDOWN)
                return
            mine.append(number(data))

    readers = [threading.Thread(target=read, args=(mine,)) for mine in got]
    writers = [threading.Thread(target=write, args=(mine,)) for mine in sent]
    for thread in readers + writers:
        thread.start()
    for thread in writers:
        thread.join()
    pair.flow.close_side(0)
    for thread in readers:
        thread.join()
    assert sorted(i for mine in got for i in mine) == list(range(most))
    pair.end()


def test_a_flood_of_empty_packets_holds_nobody(memory: Memory) -> None:
    """A reader comes back to its caller, who has a deadline and signals, whatever the peer sends."""
    pair = connect(memory, Process(memory), Process(memory), flags=0)
    pair.a.flags(RDWR | 0o2000)
    stop = threading.Event()

    def flood() -> None:
        while not stop.is_set():
            pair.a.writev([b""] * 50)

    thread, _ = background(flood)
    for _ in range(30):
        assert is_error(pair.b.read(), EMUSTSLEEP)
    stop.set()
    thread.join()
    pair.end()


def test_leaving_under_a_peer_that_writes_without_end(memory: Memory) -> None:
    pair = connect(memory, Process(memory), Process(memory))
    stop = threading.Event()

    def flood() -> None:
        while not stop.is_set():
            pair.a.writev([b"x"] * 20)

    thread, _ = background(flood)
    while not pair.b.queues()[0]:
        pass
    pair.b.detach()
    pair.flow.close_side(1)
    stop.set()
    thread.join()
    pair.end()


# ---------------------------------------------------------------- fork


def test_a_child_has_none_of_its_parents_flows(pair: Pair) -> None:
    import os

    pair.a.write(b"for the parent")
    one = pair.b.process.set()
    one.add(pair.b.fd)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            assert is_error(pair.a.write(b"x"), EBADF)
            assert is_error(pair.b.read(), EBADF)
            assert is_error(pair.b.readv(), EBADF)
            assert is_error(pair.b.sleep(), EBADF)
            assert not pair.b.down()
            assert pair.b.queues() == (0, 0)
            lib.flow_declare(pair.b.handle, True)
            assert lib.flow_notify_writable(pair.a.handle)
            lib.process_poll_flow(pair.b.process.process, pair.b.handle, -1)
            assert is_error(one.add(65), EBADF)
            one.remove(pair.b.fd)
            lib.fset_set_eventfd(one.handle, -1)
            assert is_error(lib.fset_take(one.handle, ffi.new("struct fevent[8]"), 8, False), EBADF)
            assert is_error(one.sleep(), EBADF)
            one.close()
            pair.b.detach()
            lib.process_remove(pair.b.process.process, pair.b.handle)
            lib.process_stop(pair.b.process.process)
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0
    assert not pair.b.down()
    assert [fd for fd, _ in one.take()] == [pair.b.fd]
    assert pair.b.read() == b"for the parent"
    one.close()
