"""The machine's memory that a user's pool takes, and its behaviour when the machine has none (docs: shared memory)."""

from __future__ import annotations

import ctypes
import logging
import mmap
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from errno import ENOMEM

import pytest

from irmd.memory import Memory, Pool
from ouroboros.dataplane._dataplane import lib
from tests.unit.dataplane.shm import Process, is_error

MAP_FIXED = 0x10


def test_memory_that_nobody_has_touched_is_not_taken() -> None:
    memory = Memory()
    assert memory.system.taken >= memory.system.octets, "a page of the system's pool is always there"
    user = memory.pool(65534, trusted=False)
    assert user.taken < user.octets // 64
    process = Process(memory, user)
    blocks = [process.alloc(1) for _ in range(1000)]
    assert user.octets // 128 < user.taken < user.octets // 16
    assert all(process.free(block) for block in blocks)
    process.close()
    memory.close()


def without_memory(pool: Pool, offset: int) -> None:
    """The mappings of a pool in this process, from `offset` on, are of a file without pages: as a machine without memory."""
    with tempfile.TemporaryFile() as empty, open("/proc/self/maps") as maps:
        lines = [line for line in maps if f"ouroboros-pool-{pool.name}" in line]
        assert lines
        for line in lines:
            start, end = (int(one, 16) for one in line.split()[0].split("-"))
            libc = ctypes.CDLL(None, use_errno=True)
            libc.mmap.restype = ctypes.c_void_p
            libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
            flags = mmap.MAP_SHARED | MAP_FIXED
            protection = mmap.PROT_READ | mmap.PROT_WRITE
            at = libc.mmap(start + offset, end - start - offset, protection, flags, empty.fileno(), 0)
            assert at == start + offset


def a_pool_without_memory_is_used_up() -> None:
    memory = Memory()
    user = memory.pool(65534, trusted=False)
    process = Process(memory, user, reserve=True)
    without_memory(user, 1 << 20)  # behind the owner words and the first blocks
    got = [process.alloc(1) for _ in range(3000)]
    assert got[0] >= 0 and is_error(got[-1], ENOMEM)
    assert user.failures > 0


def a_pool_that_is_lost_does_not_end_the_process() -> None:
    assert lib.map_survive() == 0
    memory = Memory()
    user, other = memory.pool(65534, trusted=False), memory.pool(65533, trusted=False)
    process = Process(memory, user, reserve=True)
    assert process.alloc(1) >= 0
    before = lib.map_lost()
    without_memory(user, 0)
    assert set(user.owners()) == {0}
    assert lib.map_lost() == before + 1
    block = process.alloc(1)
    assert block >= 0 and process.free(block), "in memory that no other process sees"
    neighbour = Process(memory, other, reserve=True)
    assert neighbour.alloc(1) >= 0
    assert lib.map_lost() == before + 2, "the mappings of the user's pool, and no other"
    records: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: records.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("irmd/memory").addHandler(handler)
    for _ in range(2):
        memory.reclaim(memory.token())
    assert records == ["memory of 2 mappings that users share with the IRMd is lost: their flows end"]


def other_faults_end_it() -> None:
    assert lib.map_survive() == 0
    os.kill(os.getpid(), signal.SIGBUS)
    memory = Memory()
    user = memory.pool(65534, trusted=False)
    without_memory(user, 0)
    user.owners()


@pytest.mark.parametrize(
    ("what", "status"),
    [
        (a_pool_without_memory_is_used_up, 0),
        (a_pool_that_is_lost_does_not_end_the_process, 0),
        (other_faults_end_it, -signal.SIGBUS),
    ],
)
def test_without_memory(what: Callable[[], None], status: int) -> None:
    """In a process of its own: what becomes of its mappings, and whether it lives."""
    program = f"from {__name__} import {what.__name__} as main; import os; main(); os._exit(0)"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert result.returncode == status, result.stderr
