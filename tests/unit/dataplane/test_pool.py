"""The packet pool: size classes, owners, hints that may lie, and processes that share it (docs/design/shared-memory.md)."""

from __future__ import annotations

import mmap
import os
import threading
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from errno import EMSGSIZE, ENOMEM

import pytest

from irmd.memory import Memory, Pool, PoolConfig
from ouroboros.dataplane._dataplane import ffi, lib
from tests.unit.dataplane.shm import ROOM, SMALL, Process, free, is_error, total

SIZES = [stride - ROOM for stride, _, _ in SMALL.classes]


def class_of(pool: Pool, block: int) -> int:
    """The size class a block belongs to."""
    counts = [count.total for count in pool.counts()]
    return next(c for c in range(4) if block < sum(counts[: c + 1]))


@pytest.mark.parametrize("at", range(4))
def test_a_block_is_of_the_smallest_class_that_fits(memory: Memory, at: int) -> None:
    process = Process(memory)
    least = SIZES[at - 1] + 1 if at else 0
    for length in (least, SIZES[at]):
        block = process.alloc(length)
        assert class_of(memory.system, block) == at
        assert process.held() == 1
        assert process.free(block)
    process.close()


def test_longer_than_the_largest_block(memory: Memory) -> None:
    process = Process(memory)
    assert lib.pool_largest(process.pool) == SIZES[-1]
    assert is_error(process.alloc(SIZES[-1] + 1), EMSGSIZE)
    assert is_error(process.alloc(2**63), EMSGSIZE)
    assert memory.system.failures == 0
    process.close()


def test_packets_of_64_kib_fit_the_pool_that_is_the_default() -> None:
    memory = Memory()
    assert lib.pool_largest(memory.system.handle) >= 1 << 16
    memory.close()


def test_every_block_is_handed_out_once_and_comes_back(memory: Memory) -> None:
    process = Process(memory, reserve=True)
    blocks = [process.alloc(1) for _ in range(sum(total(memory.system)))]
    assert sorted(blocks) == list(range(len(blocks)))
    assert free(memory.system) == [0, 0, 0, 0]
    assert memory.system.failures == 0
    assert all(process.free(block) for block in blocks)
    process.close()


def test_when_a_class_is_used_up_the_next_larger_one_helps(memory: Memory) -> None:
    process = Process(memory, reserve=True)
    smallest = [process.alloc(1) for _ in range(256)]
    assert free(memory.system)[0] == 0
    spilled = process.alloc(1)
    assert class_of(memory.system, spilled) == 1
    assert process.free(smallest[7])
    again = process.alloc(1)
    assert again == smallest[7]
    for block in [*smallest[:7], *smallest[8:], spilled, again]:
        assert process.free(block)
    process.close()


def test_exhaustion_is_told_and_counted(memory: Memory) -> None:
    process = Process(memory, reserve=True)
    blocks = [process.alloc(SIZES[-1]) for _ in range(128)]
    assert is_error(process.alloc(SIZES[-1]), ENOMEM)
    assert is_error(process.alloc(SIZES[-2] + 1), ENOMEM)
    assert memory.system.failures == 2
    small = process.alloc(1)
    assert small >= 0, "other classes are not affected"
    for block in [*blocks, small]:
        assert process.free(block)
    assert process.alloc(SIZES[-1]) >= 0
    assert memory.reclaim(process.token) == 1
    process.close()


def test_the_reserve_is_for_ipcps(memory: Memory) -> None:
    application, ipcp = Process(memory), Process(memory, reserve=True)
    blocks = [application.alloc(1) for _ in range(256 - 64 + 3 * 64)]
    assert all(block >= 0 for block in blocks)
    assert is_error(application.alloc(1), ENOMEM)
    assert free(memory.system) == [64, 64, 64, 64]
    reserved = [ipcp.alloc(1) for _ in range(64)]
    assert all(class_of(memory.system, block) == 0 for block in reserved)
    # An application that frees a block of the reserve does not get it.
    assert lib.pool_transfer(
        application.pool, reserved[0], lib.owner_process(ipcp.token), lib.owner_process(application.token)
    )
    assert application.free(reserved.pop(0))
    assert is_error(application.alloc(1), ENOMEM)
    reserved.append(ipcp.alloc(1))
    assert all(map(application.free, blocks))
    assert all(map(ipcp.free, reserved))
    application.close()
    ipcp.close()


def test_nobody_frees_what_he_does_not_own(memory: Memory) -> None:
    one, other = Process(memory), Process(memory)
    block = one.alloc(1)
    assert not other.free(block)
    assert not one.free(block, lib.owner_ring(1, 0))
    assert other.pool.refused == 1
    assert one.pool.refused == 1
    assert one.free(block)
    assert not one.free(block), "freed twice"
    assert one.pool.refused == 2
    one.close()
    other.close()


def test_stale_hints_do_no_harm(memory: Memory) -> None:
    """A hint may point to a block that is taken: both caches know the same blocks, the owner word decides."""
    one, other = Process(memory, reserve=True), Process(memory, reserve=True)
    held = {one.alloc(1) for _ in range(64)} | {other.alloc(1) for _ in range(64)}
    assert len(held) == 128
    memory.reclaim(memory.token())  # a sweep that finds nothing sets the hints of what is free
    more = {one.alloc(1) for _ in range(64)} | {other.alloc(1) for _ in range(64)}
    assert len(held | more) == 256
    assert not held & more
    assert memory.reclaim(one.token) + memory.reclaim(other.token) == 256
    one.close()
    other.close()


def test_lost_hints_are_made_up_for(memory: Memory) -> None:
    """A process dies and takes the hints in its caches along; the blocks are found all the same."""
    dead = Process(memory, reserve=True)
    block = dead.alloc(1)  # takes a handful of hints into its cache
    assert dead.free(block)
    living = Process(memory, reserve=True)
    blocks = [living.alloc(1) for _ in range(sum(total(memory.system)))]
    assert all(block >= 0 for block in blocks), "by the owner words, although no hint leads there"
    assert memory.reclaim(living.token) == len(blocks)
    living.close()
    dead.close()


FREE = 16384 + 8000
"""The one free block of a user's pool: far behind in its second class."""


@contextmanager
def used_up(pool: Pool) -> Iterator[memoryview]:
    """The pool as a hostile process of its user leaves it: every block but one is taken. Yields its words."""
    blocks = sum(count.total for count in pool.counts())
    with mmap.mmap(pool.fd, pool.octets) as memory, memoryview(memory) as octets, octets.cast("Q") as words:
        owners, taken = slice(32, 32 + blocks), array("Q", [2**62 + 99]) * blocks
        words[owners] = taken
        words[32 + FREE] = 0
        yield words
        words[owners] = array("Q", bytes(8 * blocks))


def test_an_attempt_in_the_pool_of_another_user_is_bounded() -> None:
    """An IPCP looks at a part of a user's pool at a time; the next attempt goes on behind it."""
    memory = Memory()
    ipcp = Process(memory, memory.pool(65534, trusted=False), reserve=True)
    with used_up(ipcp.of) as words:
        words[hints_of(ipcp.of)] = array("Q", bytes(8 * HINTS))
        attempts = next(i for i in range(1, 100) if ipcp.alloc(1500) == FREE)
        assert 8192 / lib.POOL_LOOKS < attempts < 8192 / (lib.POOL_LOOKS - 8192 / 64) + 1
    ipcp.close()
    memory.close()


HINTS = (16384 + 8192 + 512) // 64 + 8  # those of the last class fill a cache line


def hints_of(pool: Pool) -> slice:
    """Where the free hints lie among the words of a pool."""
    first = 32 + sum(count.total for count in pool.counts())
    return slice(first, first + HINTS)


def test_hints_that_are_set_again_and_again_bound_an_attempt() -> None:
    """Every block is said to be free, and none that is looked at is: the attempt ends nevertheless."""
    memory = Memory()
    ipcp = Process(memory, memory.pool(65534, trusted=False), reserve=True)
    own = Process(memory, ipcp.of)
    with used_up(ipcp.of) as words:
        for _ in range(3):
            words[hints_of(ipcp.of)] = array("Q", [2**64 - 1]) * HINTS
            assert is_error(ipcp.alloc(1500), ENOMEM)
        assert own.alloc(1500) == FREE, "a process of the same user looks everywhere"
    ipcp.close()
    own.close()
    memory.close()


def test_many_threads(memory: Memory) -> None:
    """More threads than there are caches; each block has one owner at a time."""
    process = Process(memory, reserve=True)
    counts = [0] * sum(total(memory.system))
    problems: list[str] = []
    start = threading.Barrier(40)

    def work(seed: int) -> None:
        held: list[int] = []
        start.wait()
        for turn in range(300):
            if held and (turn * 7 + seed) % 3 == 0:
                block = held.pop(turn % len(held))
                counts[block] -= 1
                if not process.free(block):
                    problems.append(f"block {block} was not ours")
            elif (block := process.alloc((turn * 131 + seed * 17) % 5000)) >= 0:
                counts[block] += 1
                if counts[block] != 1:
                    problems.append(f"block {block} was given to two")
                held.append(block)
            if len(held) > 10:
                block = held.pop(0)
                counts[block] -= 1
                process.free(block)
        for block in held:
            counts[block] -= 1
            process.free(block)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems
    assert process.held() == 0
    process.close()


def test_threads_that_end_make_room_for_others(memory: Memory) -> None:
    """Numbers of threads are used again, and with them what their caches knew."""
    process = Process(memory, reserve=True)
    for _ in range(100):
        blocks: list[int] = []
        thread = threading.Thread(target=lambda blocks=blocks: blocks.append(process.alloc(1)))
        thread.start()
        thread.join()
        assert process.free(blocks[0])
    everything = [process.alloc(1) for _ in range(sum(total(memory.system)))]
    assert all(block >= 0 for block in everything)
    assert memory.reclaim(process.token) == len(everything)
    process.close()


def test_two_processes_never_get_the_same_block(memory: Memory) -> None:
    """A child and this process allocate at the same time until nothing is left."""
    ours, child_token = Process(memory, reserve=True), memory.token()
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            process = Process(memory, reserve=True, token=child_token, events=ours.events)
            count = 0
            while process.alloc(1) >= 0:
                count += 1
            os.write(write, count.to_bytes(4, "little"))
        finally:
            os._exit(0)
    mine = 0
    while ours.alloc(1) >= 0:
        mine += 1
    theirs = int.from_bytes(os.read(read, 4), "little")
    os.waitpid(pid, 0)
    os.close(read)
    os.close(write)
    assert mine + theirs == sum(total(memory.system))
    held = memory.system.holders()
    assert sum(held.get(ours.token, [0])) == mine
    assert sum(held.get(child_token, [0])) == theirs
    assert memory.reclaim(child_token) == theirs
    assert memory.reclaim(ours.token) == mine
    ours.close()


def test_a_user_has_a_pool_of_his_own(memory: Memory) -> None:
    alice, bob = memory.pool(1001, trusted=False), memory.pool(1002, trusted=False)
    assert len({alice.id, bob.id, memory.system.id}) == 3
    assert memory.pool(1001, trusted=False) is alice
    assert memory.pool(1001, trusted=True) is memory.system
    process = Process(memory, alice)
    while process.alloc(1) >= 0:
        pass
    assert free(alice) == [0, 0, 0, 0], "no reserve in a user's pool"
    assert free(bob) == total(bob)
    assert memory.reclaim(process.token) == sum(total(alice))
    process.close()
    memory.release_pool(bob)
    assert bob.id not in memory.pools


def test_read_outs(memory: Memory) -> None:
    process = Process(memory)
    blocks = [process.alloc(size) for size in (1, 1, 1000, 60000)]
    assert memory.system.holders() == {process.token: [2, 1, 0, 1]}
    assert [(c.size, c.total - c.free) for c in memory.system.counts()] == list(
        zip(SIZES, (2, 1, 0, 1), strict=True)
    )
    for block in blocks:
        process.free(block)
    process.close()


@pytest.mark.parametrize(
    "classes",
    [
        ((512, 0, 0), (2048, 64, 0), (10240, 64, 0), (67584, 64, 0)),
        ((512, 65, 0), (2048, 64, 0), (10240, 64, 0), (67584, 64, 0)),
        ((512, 64, 64), (2048, 64, 0), (10240, 64, 0), (67584, 64, 0)),
        ((512, 128, 1), (2048, 64, 0), (10240, 64, 0), (67584, 64, 0)),
        ((500, 64, 0), (2048, 64, 0), (10240, 64, 0), (67584, 64, 0)),
        ((256, 64, 0), (2048, 64, 0), (10240, 64, 0), (67584, 64, 0)),
        ((2048, 64, 0), (2048, 64, 0), (10240, 64, 0), (67584, 64, 0)),
        ((512, 64, 0), (2048, 64, 0), (10240, 64, 0), (1 << 24, 64, 0)),
        ((512, 1 << 24, 0), (2048, 64, 0), (10240, 64, 0), (67584, 64, 0)),
    ],
)
def test_a_geometry_that_makes_no_sense_is_refused(classes: tuple[tuple[int, int, int], ...]) -> None:
    with pytest.raises(OSError, match="cannot make the packet pool"):
        Memory(PoolConfig(classes))


def test_the_generation_is_that_of_this_process() -> None:
    before = lib.map_generation
    pid = os.fork()
    if pid == 0:
        os._exit(0 if lib.map_generation == before + 1 else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert lib.map_generation == before
    assert ffi.typeof("struct pool *") is not None
