"""Punt: packets from the packet threads to Python: quotas, order, and a counter for every loss."""

from __future__ import annotations

import asyncio
import random
import select
import threading
from collections import deque
from collections.abc import Iterator

import pytest

from ipcpd.dataplane import Punt
from ipcpd.dataplane._ipcp import ffi, lib

RECORD = 12


@pytest.fixture
def punt() -> Iterator[Punt]:
    punt = Punt(1 << 16)
    yield punt
    punt.close()
    punt.close()


def readable(punt: Punt) -> bool:
    return bool(select.select([punt.fileno()], [], [], 0)[0])


def test_packets_arrive_in_order_at_their_component(punt: Punt) -> None:
    got: list[tuple[int, int, bytes]] = []
    for number in (0, 3, 15):
        punt.component(number, 1 << 14, lambda fd, data, number=number: got.append((number, fd, data)))
    assert not readable(punt)
    wrote = [((0, 3, 15)[i % 3], 64 + i, bytes([i]) * i) for i in range(50)]
    for component, fd, data in wrote:
        assert punt.push(component, fd, data)
    assert readable(punt)
    assert punt.dispatch() == 50
    assert got == wrote
    assert punt.dispatch() == 0
    assert not readable(punt)
    assert punt.counters(0).passed == 17 and punt.counters(0).dropped == 0


def test_a_burst_is_bounded(punt: Punt) -> None:
    """Other work of the loop has its turn; the descriptor stays readable."""
    got: list[bytes] = []
    punt.component(1, 1 << 14, lambda fd, data: got.append(data))
    for i in range(100):
        punt.push(1, 0, bytes([i]))
    assert punt.dispatch() == 64
    assert readable(punt)
    assert punt.dispatch() == 36
    assert got == [bytes([i]) for i in range(100)]


def test_a_flood_on_one_component_leaves_room_for_another(punt: Punt) -> None:
    got: dict[int, int] = {1: 0, 2: 0}

    def count(number: int) -> None:
        got[number] += 1

    punt.component(1, 1000, lambda fd, data: count(1))
    punt.component(2, 1000, lambda fd, data: count(2))
    for _ in range(500):
        punt.push(1, 0, bytes(88))
    assert punt.counters(1) == (10, 490)
    assert punt.push(2, 0, bytes(1000 - RECORD))
    assert not punt.push(2, 0, b"")
    while punt.dispatch():
        pass
    assert got == {1: 10, 2: 1}
    assert punt.push(1, 0, bytes(88)), "the quota is free again"


def test_a_packet_larger_than_the_quota_is_dropped(punt: Punt) -> None:
    punt.component(1, 100, lambda fd, data: None)
    assert not punt.push(1, 0, bytes(89))
    assert punt.push(1, 0, bytes(88))
    assert punt.counters(1) == (1, 1)


def test_components_out_of_range(punt: Punt) -> None:
    for number in (16, 2**32 - 1):
        with pytest.raises(ValueError, match="component"):
            punt.component(number, 10, lambda fd, data: None)
        assert not punt.push(number, 0, b"x")
        assert punt.counters(number) == (0, 0)
    with pytest.raises(ValueError, match="quota"):
        punt.component(0, (1 << 16) + 1, lambda fd, data: None)
    assert not punt.push(5, 0, b"x"), "one that is not registered has no quota"


def test_the_buffer_wraps(punt: Punt) -> None:
    chance = random.Random(5)
    waiting: deque[bytes] = deque()
    punt.component(0, 1 << 16, lambda fd, data: checked(data))

    def checked(data: bytes) -> None:
        assert data == waiting.popleft()

    for _ in range(2000):
        data = chance.randbytes(chance.choice((0, 1, 100, 5000, 20000)))
        if punt.push(0, 7, data):
            waiting.append(data)
        if chance.random() < 0.3:
            punt.dispatch()
    while punt.dispatch():
        pass
    assert not waiting


def test_many_threads_push(punt: Punt) -> None:
    got: list[list[int]] = [[] for _ in range(4)]
    punt.component(0, 1 << 16, lambda fd, data: got[fd].append(int.from_bytes(data, "little")))
    sent = [0] * 4
    done = threading.Barrier(5)

    def work(k: int) -> None:
        while sent[k] < 3000:
            if punt.push(0, k, sent[k].to_bytes(4, "little")):
                sent[k] += 1
        done.wait()

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    while min(sent) < 3000:
        punt.dispatch()
    done.wait()
    for thread in threads:
        thread.join()
    while punt.dispatch():
        pass
    assert got == [list(range(3000))] * 4


def test_in_an_event_loop(punt: Punt) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        got: asyncio.Queue[bytes] = asyncio.Queue()
        punt.component(0, 1 << 14, lambda fd, data: got.put_nowait(data))
        punt.run(loop)
        for i in range(200):
            thread = threading.Thread(target=punt.push, args=(0, 0, bytes([i])))
            thread.start()
            assert await got.get() == bytes([i])
            thread.join()
        loop.remove_reader(punt.fileno())

    asyncio.run(main())


@pytest.mark.parametrize("size", [0, 100, 4095, 4097, 5000])
def test_a_size_that_makes_no_sense(size: int) -> None:
    assert lib.punt_create(size) == ffi.NULL
    with pytest.raises(MemoryError):
        Punt(size)


def test_a_packet_that_cannot_be_handled_is_counted(punt: Punt) -> None:
    got: list[bytes] = []

    def handle(_fd: int, packet: bytes) -> None:
        if packet == b"bad":
            raise ValueError("no way to read this")
        got.append(packet)

    punt.component(0, 1 << 14, handle)
    for packet in (b"bad", b"good"):
        punt.push(0, 64, packet)
    assert punt.dispatch() == 2 and got == [b"good"] and punt.defects == 1
