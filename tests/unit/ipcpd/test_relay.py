"""The relay of an IPCP: packets between two flows, within a trust domain and across; no flow waits for another."""

from __future__ import annotations

import os
from collections.abc import Iterator
from errno import EAGAIN

import pytest

from irmd.memory import Memory, Pool
from ouroboros.dataplane._dataplane import lib as app_lib
from ouroboros.flow_event import FlowEvent
from tests.unit.dataplane.shm import (
    EFLOWDOWN,
    PKT,
    SLOTS,
    End,
    Process,
    Raw,
    is_error,
    lengths,
    number,
    packet,
)

from .relays import Relay, ffi, lib, read, wait


@pytest.fixture
def relay(memory: Memory) -> Iterator[Relay]:
    relay = Relay(memory)
    relay.start()
    yield relay
    relay.close()


def pools(memory: Memory) -> list[tuple[Pool, Pool]]:
    user = memory.pool(65534, trusted=False)
    return [(memory.system, memory.system), (memory.system, user)]


@pytest.mark.parametrize("domains", [0, 1])
def test_packets_pass_both_ways(memory: Memory, relay: Relay, domains: int) -> None:
    here, there = pools(memory)[domains]
    a, b = relay.pair(Process(memory, here), Process(memory, there))
    sizes = lengths()
    for i in range(400):
        data = packet(i, next(sizes))
        assert a.write(data) == len(data)
        assert read(b) == data
        assert b.write(data) == len(data)
        assert read(a) == data
    stats = relay.stats(64)
    assert stats["packets"] == 400 and stats["dropped"] == stats["refused"] == stats["queued"] == 0
    assert stats["octets"] == relay.stats(65)["octets"]


@pytest.mark.parametrize("domains", [0, 1])
def test_a_stream_loses_nothing(memory: Memory, relay: Relay, domains: int) -> None:
    """More than the rings hold: the writer feels that they are full, and nothing is dropped or reordered."""
    here, there = pools(memory)[domains]
    a, b = relay.pair(Process(memory, here), Process(memory, there))
    sizes = lengths()
    sent = seen = 0
    while seen < 20000:
        if sent < 20000:
            done = a.writev([packet(sent + i, next(sizes)) for i in range(20)][: 20000 - sent])
            assert done > 0 or is_error(done, EAGAIN)
            sent += max(done, 0)
        got = b.readv(64)
        if isinstance(got, list):
            for data in got:
                assert number(data) == seen
                seen += 1
        elif sent == 20000:
            wait(b)
    assert relay.stats(64)["dropped"] == 0


def test_a_reader_that_does_not_read_holds_up_nobody_else(memory: Memory, relay: Relay) -> None:
    one, two = Process(memory), Process(memory)
    slow, _ = relay.pair(one, two)
    quick, reader = relay.pair(one, two)
    stuck = 0
    while stuck < 3 * SLOTS:
        done = slow.writev([b"x"] * 64)
        if is_error(done, EAGAIN):
            break
        stuck += done
    for i in range(2000):
        assert quick.write(packet(i, 64)) == 64
        assert number(read(reader)) == i
    assert stuck <= 2 * SLOTS


def test_large_packets_do_not_take_the_pool(memory: Memory, relay: Relay) -> None:
    """The budget of a ring holds at the relay as well (spec/lessons 73)."""
    one, two = Process(memory), Process(memory)
    slow, _ = relay.pair(one, two)
    quick, reader = relay.pair(one, two)
    blocked = 0
    while blocked < 200:
        if slow.write(bytes(60000)) > 0:
            continue
        blocked += 1
        os.sched_yield()
    assert quick.write(packet(1, 60000)) == 60000
    assert read(reader) == packet(1, 60000)


def test_packets_wait_for_a_block_of_the_other_domain(memory: Memory, relay: Relay) -> None:
    user = memory.pool(65534, trusted=False)
    a, b = relay.pair(Process(memory), Process(memory, user))
    idle, idler = relay.pair(Process(memory), Process(memory))
    hog = Process(memory, user)
    while hog.alloc(1) >= 0:
        pass
    for i in range(10):
        assert a.write(packet(i, 64)) == 64
    for i in range(3):  # others do not wait, and the relay has been there meanwhile
        assert idle.write(packet(i, 64)) == 64
        assert read(idler) == packet(i, 64)
    assert is_error(b.read(), EAGAIN)
    memory.reclaim(hog.token)
    for i in range(10):
        assert read(b) == packet(i, 64)
    assert relay.stats(65)["dropped"] == 0
    assert a.write(b"again") == 5
    assert read(b) == b"again"


def test_leaving_delivers_what_was_written(memory: Memory, relay: Relay) -> None:
    a, b = relay.pair(Process(memory), Process(memory))
    wrote = [packet(i, 100) for i in range(700)]
    assert a.writev(wrote) == 700
    relay.remove(64)
    relay.remove(65)
    got = b.drain()
    assert got == wrote[: len(got)]
    assert len(got) == 700, "there was room for all of it"
    assert is_error(b.read(), EFLOWDOWN)
    assert is_error(a.write(b"x"), EFLOWDOWN)


def test_one_side_leaves_and_the_other_stays(memory: Memory, relay: Relay) -> None:
    a, b = relay.pair(Process(memory), Process(memory))
    relay.remove(64)
    assert is_error(a.write(b"x"), EFLOWDOWN)
    assert b.write(b"to nobody") == 9, "until the IRMd says so"
    relay.flows[65].raise_event(1, 2)  # type: ignore[arg-type]
    assert is_error(b.write(b"x"), EFLOWDOWN)


def test_a_writer_that_does_not_stop_cannot_keep_the_relay(memory: Memory, relay: Relay) -> None:
    """Removing a port ends, however fast its process writes; others' packets pass meanwhile."""
    import threading

    one, two = Process(memory), Process(memory)
    flood, _sink = relay.pair(one, two)
    quick, reader = relay.pair(one, two)
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            flood.writev([b"x"] * 50)

    thread = threading.Thread(target=write)
    thread.start()
    while relay.stats(64)["packets"] < 500:
        os.sched_yield()
    assert lib.relay_remove(relay.relay, 64) == 0
    for i in range(100):
        quick.write(packet(i, 8))
        assert number(read(reader)) == i
    stop.set()
    thread.join()
    relay.flows[64].close_side(0)
    memory.reclaim(memory.token())
    flood.detach()


def test_wrong_requests(memory: Memory, relay: Relay) -> None:
    a, b = relay.pair(Process(memory), Process(memory))
    fd, _ = relay.flow(Process(memory))
    assert is_error(lib.relay_pair(relay.relay, 64, fd), 106), "EISCONN"
    assert is_error(lib.relay_pair(relay.relay, fd, fd), 9)
    for wrong in (0, 63, 70, 64 + 16384, 2**32 - 1):
        assert is_error(lib.relay_pair(relay.relay, fd, wrong), 9)
        assert is_error(lib.relay_remove(relay.relay, wrong), 9)
        assert is_error(lib.relay_stats(relay.relay, wrong, ffi.new("struct port_stats *")), 9)
    assert a.write(b"x") == 1
    assert read(b) == b"x"


def test_too_many_domains(memory: Memory) -> None:
    relay = lib.relay_create()
    events = memory.events()
    most = int(lib.RELAY_DOMAINS)
    mapped = [lib.events_map(*events.fds) for _ in range(most + 1)]
    for region in mapped[:most]:
        assert lib.relay_add_region(relay, region) == 0
    assert is_error(lib.relay_add_region(relay, mapped[most]), 28)
    lib.relay_remove_region(relay, mapped[3])
    assert lib.relay_add_region(relay, mapped[most]) == 0
    lib.relay_destroy(relay)
    for region in mapped:
        lib.events_unmap(region)
    events.close()


WAITING = 300
RETRY = 5_000_000  # ns


@pytest.fixture
def stepped(memory: Memory) -> Iterator[Relay]:
    """A relay whose rounds the test runs."""
    relay = Relay(memory)
    yield relay
    relay.close()


def test_an_empty_pool_is_tried_once_for_all_flows(memory: Memory, stepped: Relay) -> None:
    """A user who leaves his pool without a free block and hundreds of flows waiting costs one attempt each 5 ms."""
    user = memory.pool(65534, trusted=False)
    sender, reader = Process(memory), Process(memory, user)
    pairs = [stepped.pair(sender, reader) for _ in range(WAITING)]
    hog = Process(memory, user)
    while hog.alloc(1) >= 0:
        pass
    now = 1_000_000_000
    for i, (a, _) in enumerate(pairs):
        assert a.write(packet(i, 64)) == 64
    lib.relay_step(stepped.relay, now)
    before = user.failures
    for ms in range(100):
        for a, _ in pairs[:3]:  # a port that waits is not tried because it is notified again
            a.write(b"more")
        lib.relay_step(stepped.relay, now + ms * 1_000_000)
    assert user.failures - before <= 100_000_000 // RETRY + 1
    memory.reclaim(hog.token)
    now += 200_000_000
    for _ in range(40):  # the number of ports that have a block doubles in each round
        lib.relay_step(stepped.relay, now)
    for i, (_, b) in enumerate(pairs):
        assert b.read() == packet(i, 64)
    assert stepped.stats(65)["dropped"] == 0


def test_a_flow_leaves_while_it_waits_for_a_block(memory: Memory, stepped: Relay) -> None:
    user = memory.pool(65534, trusted=False)
    sender, reader = Process(memory), Process(memory, user)
    pairs = [stepped.pair(sender, reader) for _ in range(5)]
    hog = Process(memory, user)
    while hog.alloc(1) >= 0:
        pass
    for i, (a, _) in enumerate(pairs):
        assert a.write(packet(i, 64)) == 64
    lib.relay_step(stepped.relay, 1)
    for fd in (
        64,
        64 + 4,
        64 + 8,
        65 + 2,
    ):  # first, in the middle, last; and the other end of the second pair
        stepped.remove(fd)
    memory.reclaim(hog.token)
    for _ in range(5):
        lib.relay_step(stepped.relay, 1 + RETRY)
    assert pairs[3][1].read() == packet(3, 64)
    lib.relay_remove_region(stepped.relay, stepped.regions[user.id])


def test_a_hostile_process_hurts_its_own_flow_only(memory: Memory, relay: Relay) -> None:
    user = memory.pool(65534, trusted=False)
    hostile = Process(memory, user)
    a, b = relay.pair(hostile, Process(memory))
    quick, reader = relay.pair(Process(memory), Process(memory))
    raw = Raw(relay.flows[64])
    for i, nonsense in enumerate((2**64 - 1, 10**6 << 40, 5 << 40 | 0xFFFF << 24 | 0xFFFFFF)):
        assert a.write(b"true") == 4
        assert read(b) == b"true"
        raw.slot(1, raw.head(1), nonsense)
        raw.head(1, raw.head(1) + 1)
        app_lib.events_raise(hostile_region(relay, user), 64)
        while relay.stats(64)["refused"] < i + 1:
            os.sched_yield()
        # The process's own idea of head is one behind now: attach anew, as a new flow would.
        a = reattach(a, relay)
    raw.head(1, 2**63)
    app_lib.events_raise(hostile_region(relay, user), 64)
    raw.tail(0, 2**62)
    for i in range(200):
        quick.write(packet(i, 64))
        assert number(read(reader)) == i
    b.write(b"x")
    raw.head(1, raw.tail(1))
    raw.tail(0, 0)


def hostile_region(relay: Relay, pool: Pool) -> object:
    return app_lib.events_map(*relay.events[pool.id].doorbell_fds)


def reattach(end: End, relay: Relay) -> End:
    again = end.process.attach(relay.flows[64], 1, end.fd, 64, relay.events[end.process.of.id])
    relay.ends.append(again)
    return again


def test_sets_at_the_other_side(memory: Memory, relay: Relay) -> None:
    """Whoever waits on a set, or on a descriptor, is rung by the relay."""
    process = Process(memory)
    a, b = relay.pair(Process(memory), process)
    app_lib.process_add(process.process, b.handle)
    members = process.set()
    members.add(b.fd)
    for i in range(200):
        while events := members.take():
            assert events == [(b.fd, PKT)]
            b.drain()
        a.write(packet(i, 8))
        while not (events := members.take()):
            members.sleep()
        assert events == [(b.fd, PKT)]
        assert number(read(b)) == i
    members.close()
    app_lib.process_remove(process.process, b.handle)


def test_an_idle_relay_sleeps(memory: Memory, relay: Relay) -> None:
    """With nothing to do it has asked every writer for the event and every reader for nothing (docs/design/shared-memory.md)."""
    a, b = relay.pair(Process(memory), Process(memory))
    a.write(b"x")
    assert read(b) == b"x"
    raw = Raw(relay.flows[64])
    while not raw.wait(1, "cons"):
        os.sched_yield()
    a.write(b"wakes it")
    assert read(b) == b"wakes it"


def test_builds_agree() -> None:
    """The data plane that IPCPs have is that of everybody."""
    assert lib.LAYOUT_VERSION == app_lib.LAYOUT_VERSION


class Plane:
    """What the control plane gets of a relay."""

    def __init__(self, relay: Relay) -> None:
        self.punt = lib.punt_create(1 << 20)
        for component in (2, 3):
            assert lib.punt_quota(self.punt, component, 1 << 18) == 0
        lib.relay_events(relay.relay, self.punt, 3)
        self._buffer = ffi.new("char[]", 1 << 17)
        self._numbers = ffi.new("uint32_t[2]")

    def take(self) -> tuple[int, bytes]:
        """The next (component, packet)."""
        numbers = self._numbers
        while (n := lib.punt_pop(self.punt, self._buffer, 1 << 17, numbers, numbers + 1)) < 0:
            assert is_error(n, EAGAIN)
            os.sched_yield()
        return numbers[0], bytes(ffi.buffer(self._buffer, n))


@pytest.fixture
def plane(relay: Relay) -> Iterator[Plane]:
    plane = Plane(relay)
    yield plane
    lib.relay_events(relay.relay, ffi.NULL, 0)
    for fd in list(relay.flows):
        if not is_error(lib.relay_remove(relay.relay, fd), 9):
            relay.flows[fd].close_side(0)
    lib.punt_destroy(plane.punt)


def test_the_control_plane_takes_one_packet_and_leaves_the_rest(
    memory: Memory, relay: Relay, plane: Plane
) -> None:
    """What is behind a connection record is for whatever the flow is used for then."""
    (fd, a), (other, b) = relay.flow(Process(memory)), relay.flow(Process(memory))
    assert lib.relay_punt(relay.relay, fd, plane.punt, 2, True) == 0
    for data in (b"", b"record", b"", b"one", b"two"):
        assert a.write(data) == len(data)
    assert [plane.take(), plane.take()] == [(2, b""), (2, b"record")]
    assert lib.relay_punt(relay.relay, fd, plane.punt, 2, True) == 0
    assert [plane.take(), plane.take()] == [(2, b""), (2, b"one")]
    assert lib.relay_pair(relay.relay, fd, other) == 0
    assert read(b) == b"two"


def test_events_come_after_what_was_written_before(memory: Memory, relay: Relay, plane: Plane) -> None:
    """Somebody who says good-bye and leaves has said good-bye."""
    for count in (1, 10, 500):
        fd, a = relay.flow(Process(memory))
        assert lib.relay_punt(relay.relay, fd, plane.punt, 2, False) == 0
        relay.flows[fd].raise_event(0, FlowEvent.DOWN)
        assert plane.take() == (3, b"\x02\0\0\0")
        relay.flows[fd].raise_event(0, FlowEvent.UP)
        assert plane.take() == (3, b"\x04\0\0\0")
        assert a.writev([b"%d" % i for i in range(count)]) == count
        relay.flows[fd].raise_event(0, FlowEvent.DEALLOC | FlowEvent.DOWN)
        assert [plane.take() for _ in range(count)] == [(2, b"%d" % i) for i in range(count)]
        assert plane.take() == (3, b"\x12\0\0\0")
