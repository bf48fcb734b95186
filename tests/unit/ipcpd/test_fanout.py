"""The packet transfer of a broadcast IPCP: every other port gets every packet, and no port waits for another."""

from __future__ import annotations

import os
from collections.abc import Iterator
from errno import EAGAIN

import pytest

from irmd.memory import Memory
from tests.unit.dataplane.shm import End, Process, is_error, number, packet
from tests.unit.ipcpd.relays import Relay, ffi, lib, read


class Layer:
    """A relay with members."""

    def __init__(self, memory: Memory) -> None:
        self.memory = memory
        self.relay = Relay(memory)
        self.broadcast = lib.broadcast_create(self.relay.relay)
        self.fds: dict[End, int] = {}
        self.relay.start()

    def member(self, *, uid: int = 0) -> End:
        pool = self.memory.system if uid == 0 else self.memory.pool(uid, trusted=False)
        fd, end = self.relay.flow(Process(self.memory, pool))
        assert lib.broadcast_add(self.broadcast, fd) == 0
        self.fds[end] = fd
        return end

    def leave(self, end: End) -> None:
        self.relay.remove(self.fds.pop(end))

    def counters(self) -> dict[str, int]:
        read = ffi.new("struct broadcast_counters *")
        lib.broadcast_read(self.broadcast, read)
        return {
            name: getattr(read, name) for name in ("received", "keepalives", "too_large", "sent", "dropped")
        }

    def close(self) -> None:
        self.relay.close()
        lib.broadcast_destroy(self.broadcast)


@pytest.fixture
def layer(memory: Memory) -> Iterator[Layer]:
    layer = Layer(memory)
    yield layer
    layer.close()


def has_nothing(end: End) -> bool:
    return is_error(end.read(), EAGAIN)


@pytest.mark.parametrize(
    "uids", [(0, 0, 0, 0), (0, 0, 1001, 1002), (1001, 1001, 1001, 0), (1001, 1002, 1003, 0)]
)
def test_everybody_else_gets_everything(layer: Layer, uids: tuple[int, ...]) -> None:
    """In one trust domain and across; in order; never back to who sent it."""
    ends = [layer.member(uid=uid) for uid in uids]
    count = 0
    for i in range(300):
        for source in ends:
            data = packet(i, 8 + i * 4)
            assert source.write(data) == len(data)
            count += 1
            for end in ends:
                if end is not source:
                    assert read(end) == data
    assert all(has_nothing(end) for end in ends)
    counters = layer.counters()
    assert counters["received"] == count and counters["sent"] == 3 * count and counters["dropped"] == 0


def test_a_member_alone(layer: Layer) -> None:
    """Nobody hears it; nothing is kept for later."""
    a = layer.member()
    for _ in range(3000):
        while is_error(a.write(b"x"), EAGAIN):
            os.sched_yield()
    while layer.counters()["received"] < 3000:
        os.sched_yield()
    b = layer.member()
    a.write(b"now")
    assert read(b) == b"now"


def test_keep_alives_go_no_further(layer: Layer) -> None:
    a, b = layer.member(), layer.member()
    for _ in range(50):
        assert a.write(b"") == 0
    a.write(b"x")
    assert read(b) == b"x"
    assert layer.counters() == {"received": 51, "keepalives": 50, "too_large": 0, "sent": 1, "dropped": 0}


def test_what_would_break_a_prototype_goes_no_further(layer: Layer) -> None:
    a, b = layer.member(), layer.member()
    for length in (1399, 1400, 1401, 9000, 60000):
        assert a.write(bytes(length)) == length
    a.write(b"end")
    assert read(b) == bytes(1399)
    assert read(b) == b"end"
    assert layer.counters()["too_large"] == 4
    assert layer.relay.stats(layer.fds[a])["dropped"] == 4


@pytest.mark.parametrize("uid", [0, 1001])
def test_a_member_that_does_not_read_loses_its_own_copies(layer: Layer, uid: int) -> None:
    slow = layer.member(uid=uid)
    a, b = layer.member(), layer.member(uid=uid)
    for i in range(5000):
        assert a.write(packet(i, 64)) == 64
        assert number(read(b)) == i
    got = [number(data) for data in slow.drain()]
    assert got == list(range(len(got))) and 0 < len(got) < 5000, "the first ones, then it was full"
    counters = layer.counters()
    assert counters["dropped"] == 5000 - len(got) == layer.relay.stats(layer.fds[slow])["dropped"]
    a.write(packet(7777, 64))
    assert number(read(slow)) == 7777


def test_members_come_and_go_under_traffic(layer: Layer) -> None:
    a, b = layer.member(), layer.member()
    for i in range(200):
        visitor = layer.member(uid=1001 if i % 2 else 0)
        a.write(packet(i, 100))
        assert number(read(visitor)) == i
        visitor.write(packet(i + 1000, 100))
        assert [number(read(b)), number(read(b))] == [i, i + 1000]
        assert number(read(a)) == i + 1000
        layer.leave(visitor)


def test_what_was_written_before_leaving_is_delivered(layer: Layer) -> None:
    a, b = layer.member(), layer.member()
    wrote = [packet(i, 100) for i in range(500)]
    assert a.writev(wrote) == 500
    layer.leave(a)
    for data in wrote:
        assert read(b) == data


def test_a_full_pool_drops_and_counts(layer: Layer, memory: Memory) -> None:
    a, b = layer.member(), layer.member(uid=1001)
    hog = Process(memory, memory.pool(1001, trusted=False))
    while hog.alloc(1) >= 0:
        pass
    for i in range(10):
        a.write(packet(i, 64))
    while layer.counters()["received"] < 10:
        os.sched_yield()
    assert layer.counters()["dropped"] == 10 and has_nothing(b)
    memory.reclaim(hog.token)
    a.write(b"again")
    assert read(b) == b"again"


def test_many_members(layer: Layer) -> None:
    ends = [layer.member() for _ in range(40)]
    ends[3].write(b"all")
    for i, end in enumerate(ends):
        if i != 3:
            assert read(end) == b"all"
    for end in ends[::2]:
        layer.leave(end)
    ends[1].write(b"half")
    for end in ends[3::2]:
        assert read(end) == b"half"


def test_wrong_requests(layer: Layer) -> None:
    a = layer.member()
    assert is_error(lib.broadcast_add(layer.broadcast, layer.fds[a]), 17), "EEXIST"
    assert is_error(lib.broadcast_add(layer.broadcast, 99), 9)
    assert is_error(lib.broadcast_add(layer.broadcast, 2**32 - 1), 9)


def test_another_role_ends_the_membership(layer: Layer) -> None:
    a, b, c = layer.member(), layer.member(), layer.member()
    assert lib.relay_pair(layer.relay.relay, layer.fds[b], layer.fds[c]) == -106, "EISCONN"
    punt = lib.punt_create(1 << 16)
    assert lib.relay_punt(layer.relay.relay, layer.fds[c], punt, 2, False) == 0
    a.write(b"x")
    assert read(b) == b"x"
    assert has_nothing(c) and layer.counters()["sent"] == 1
    assert lib.broadcast_add(layer.broadcast, layer.fds[c]) == 0
    lib.punt_destroy(punt)
    a.write(b"back")
    assert read(b) == read(c) == b"back"
