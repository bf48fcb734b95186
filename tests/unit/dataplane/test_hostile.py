"""A peer that writes nonsense into shared memory: the flow goes down or the packet is dropped, it is counted, and
nothing else happens (docs/design/shared-memory.md: every value read from shared memory is checked)."""

from __future__ import annotations

import mmap
import os
import random
import select
import socket
import threading
from errno import EAGAIN

import pytest

from irmd.memory import Memory, raise_pending
from ouroboros.dataplane._dataplane import lib
from tests.unit.dataplane.shm import (
    DOWN,
    EFLOWDOWN,
    PAGE,
    SLOTS,
    Pair,
    Process,
    Raw,
    connect,
    is_error,
    packet,
)

SLEEPERS = 68  # where it lies in an event region
NONSENSE = [SLOTS + 1, 2**63, 2**64 - 1, 2**32]


@pytest.mark.parametrize("value", NONSENSE)
def test_a_head_that_makes_no_sense(pair: Pair, value: int) -> None:
    assert pair.a.write(b"x") == 1
    assert pair.b.read() == b"x"
    Raw(pair.flow).head(0, 1 + value)
    assert is_error(pair.b.read(), EFLOWDOWN)
    assert pair.b.down()
    assert is_error(pair.b.write(b"x"), EFLOWDOWN)
    assert is_error(pair.b.readv(), EFLOWDOWN)
    assert pair.b.process.pool.refused == 1


def test_a_head_that_goes_back(pair: Pair) -> None:
    assert pair.a.writev([b"x"] * 5) == 5
    assert pair.b.readv(3) == [b"x"] * 3
    assert pair.b.readv(2) == [b"x"] * 2
    Raw(pair.flow).head(0, 2)
    assert is_error(pair.b.read(), EFLOWDOWN)


@pytest.mark.parametrize("value", NONSENSE)
def test_a_tail_that_makes_no_sense(value: int) -> None:
    memory = Memory()
    pair = connect(memory, Process(memory), Process(memory))
    raw = Raw(pair.flow)
    assert pair.a.writev([b"x"] * SLOTS) == SLOTS
    raw.tail(0, value)
    assert is_error(pair.a.write(b"x"), EFLOWDOWN)
    assert pair.a.down()
    assert is_error(pair.a.read(), EFLOWDOWN)
    assert pair.a.process.pool.refused == 1
    assert pair.flow.queued(1) == 0 or value == SLOTS + 1
    raw.tail(0, 0)
    pair.end()
    memory.close()


def test_a_set_does_not_spin_over_a_broken_flow(pair: Pair) -> None:
    reader = pair.b.process
    lib.process_add(reader.process, pair.b.handle)
    members = reader.set()
    members.add(pair.b.fd)
    members.take()
    Raw(pair.flow).head(0, 5000)
    lib.events_raise(reader.region, pair.b.fd)
    seen = members.take() + members.take()
    assert seen == [(pair.b.fd, DOWN)]
    for _ in range(3):
        assert members.take() == []
    deadline = int(lib.wait_now()) + 1_000_000
    while members.sleep(deadline) == 0:
        assert members.take() == [], "nothing to see, and yet it is woken without end"
        assert lib.wait_now() < deadline + 10**10
    members.close()
    lib.process_remove(reader.process, pair.b.handle)


def block_of(pair: Pair) -> int:
    """A block that the ring of side 0 owns, with the slot that says so taken away again."""
    assert pair.a.write(packet(7, 100)) == 100
    raw = Raw(pair.flow)
    return raw.slot(0, raw.head(0) - 1) >> 40


def test_slots_that_make_no_sense(pair: Pair) -> None:
    """Out of the pool, longer than the block, of a block that is somebody else's: dropped and counted."""
    raw = Raw(pair.flow)
    blocks = pair.b.process.pool.blocks
    stranger = pair.a.process.alloc(100)
    wrong = [
        2**64 - 1,
        blocks << 40 | 256 << 24 | 10,
        (blocks - 1) << 40 | 0xFFFF << 24 | 0xFFFFFF,
        0 << 40 | 256 << 24 | 300,
        0 << 40 | 600 << 24 | 1,
        stranger << 40 | 256 << 24 | 10,
    ]
    for count, slot in enumerate(wrong, 1):
        block = block_of(pair)
        at = raw.head(0) - 1
        right = raw.slot(0, at)
        raw.slot(0, at, slot)
        assert pair.a.write(b"next") == 4
        assert pair.b.read() == b"next", "the packet behind it"
        assert pair.b.process.pool.refused == count
        assert is_error(pair.b.read(), EAGAIN)
        # The hostile process loses the block until it ends: it is still its ring's.
        assert right >> 40 == block
        assert lib.pool_free(pair.a.process.pool, block, lib.owner_ring(pair.flow.serial, 0))
    assert not pair.b.down()
    assert pair.a.process.free(stranger)


def test_a_block_twice_in_the_ring_is_read_once(pair: Pair) -> None:
    assert pair.a.writev([b"one", b"two"]) == 2
    raw = Raw(pair.flow)
    first, second = raw.slot(0, 0), raw.slot(0, 1)
    raw.slot(0, 1, first)
    assert pair.b.readv() == [b"one"]
    assert pair.b.process.pool.refused == 1
    assert lib.pool_free(pair.a.process.pool, second >> 40, lib.owner_ring(pair.flow.serial, 0))


def test_blocks_of_other_flows_cannot_be_freed(memory: Memory) -> None:
    """A hostile process names, in its own ring, the block of a packet that is on its way in another flow."""
    reader = Process(memory)
    hostile, honest = connect(memory, Process(memory), reader), connect(memory, Process(memory), reader)
    assert honest.a.write(packet(1, 200)) == 200
    assert hostile.a.write(packet(2, 200)) == 200
    raw = Raw(hostile.flow)
    own = raw.slot(0, 0)
    raw.slot(0, 0, Raw(honest.flow).slot(0, 0))
    assert is_error(hostile.b.read(), EAGAIN)
    hostile.b.detach()
    assert honest.b.read() == packet(1, 200)
    assert lib.pool_free(reader.pool, own >> 40, lib.owner_ring(hostile.flow.serial, 0))
    hostile.a.detach()
    hostile.flow.release()
    honest.close()
    for process in (hostile.a.process, honest.a.process, reader):
        process.close()


def test_the_irmd_believes_nothing_either(memory: Memory) -> None:
    """Indices and slots are nonsense when the flow is released, and when a dead writer is swept."""
    for value in (*NONSENSE, 0, 5, SLOTS):
        pair = connect(memory, Process(memory), Process(memory))
        raw = Raw(pair.flow)
        assert pair.a.writev([b"x"] * 5) == 5
        for i in range(SLOTS):
            raw.slot(0, 100 + i, (value << 24) + i * 0x1234567)
        for i in range(5, SLOTS):
            raw.slot(1, i, 2**64 - 1 - i)
        raw.head(0, raw.tail(0) + value)
        raw.head(1, value)
        pair.flow.queued(0), pair.flow.queued(1)
        pair.flow.close_side(0)
        memory.reclaim(pair.a.process.token)
        pair.b.detach()
        pair.flow.release()
        memory.reclaim(memory.token())  # what belongs to no flow any more goes back with the next sweep
        pair.a.process.close()
        pair.b.process.close()


def test_a_storm_of_nonsense(memory: Memory) -> None:
    """Random octets all over the flow, again and again; readers and writers get errors or packets, never a signal."""
    chance = random.Random(1)
    for _ in range(60):
        pair = connect(memory, Process(memory), Process(memory))
        raw = Raw(pair.flow)
        base, size = raw._base, PAGE + 2 * 8 * SLOTS
        for _ in range(20):
            for end in (pair.a, pair.b):
                end.writev([packet(1, 64)] * 3)
                end.read()
                end.readv(5)
            for _ in range(8):
                at = base + chance.choice((chance.randrange(size - 8), chance.randrange(640)))
                raw._map[at : at + 8] = chance.randbytes(8)
        pair.a.detach()
        pair.b.detach()
        pair.flow.release()
        memory.reclaim(pair.a.process.token)
        memory.reclaim(pair.b.process.token)
        pair.a.process.close()
        pair.b.process.close()


def test_a_bell_that_is_never_heard_holds_nobody_up(memory: Memory) -> None:
    """Who wakes a process has a descriptor in common with it and its like, and they do with it what they like."""
    process = Process(memory)
    region = mmap.mmap(process.events.fds[0], 0)
    for fd in (process.events.fds[1], process.events.doorbell_fds[1]):
        os.set_blocking(fd, True)

    def ring() -> None:
        for _ in range(1000):
            region[SLEEPERS : SLEEPERS + 4] = b"\xff" * 4
            raise_pending(process.events, 70)

    thread = threading.Thread(target=ring, daemon=True)
    thread.start()
    thread.join(60)
    assert not thread.is_alive(), "it waits until somebody hears it"
    assert select.select([process.region.doorbell], [], [], 0)[0]
    while select.select([process.region.doorbell], [], [], 0)[0]:
        lib.events_drain_doorbell(process.region)
    lib.events_drain_doorbell(process.region)


def test_a_bell_that_was_broken_does_not_ring_for_ever(memory: Memory) -> None:
    process = Process(memory)
    with socket.socket(fileno=os.dup(process.events.doorbell_fds[1])) as theirs:
        theirs.shutdown(socket.SHUT_RDWR)
    raise_pending(process.events, 70)
    assert not select.select([process.region.doorbell], [], [], 0)[0]
