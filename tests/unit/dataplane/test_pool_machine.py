"""The pool as a state machine: processes that allocate, free, put into rings, take over, and die, at random.

The model is a dictionary from block to owner. Invariants: a block has one owner; a block without an owner is free and can be
allocated; only its owner can change it.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
)

from irmd.memory import Memory, PoolConfig
from ouroboros.dataplane._dataplane import lib
from tests.unit.dataplane.shm import ROOM, Process, close_all, free, total

TINY = PoolConfig(((512, 128, 64), (2048, 64, 0), (10240, 64, 0), (67584, 64, 0)))
LENGTHS = st.sampled_from([0, 1, 224, 225, 1760, 1761, 9952, 9953, 67296])


class PoolMachine(RuleBasedStateMachine):
    processes = Bundle("processes")
    blocks = Bundle("blocks")

    @initialize()
    def begin(self) -> None:
        self.memory = Memory(TINY)
        self.owner: dict[int, int] = {}
        self.alive: list[Process] = []
        self.rings = 0

    @rule(target=processes, ipcp=st.booleans())
    def start(self, ipcp: bool) -> Process:
        process = Process(self.memory, reserve=ipcp)
        self.alive.append(process)
        return process

    @rule(target=blocks, process=processes, length=LENGTHS, count=st.sampled_from([1, 3, 40, 100]))
    def alloc(self, process: Process, length: int, count: int) -> object:
        if process not in self.alive:
            return multiple()
        got = []
        for _ in range(count):
            block = process.alloc(length)
            if block < 0:
                assert block == -12
                break
            assert block not in self.owner, "it belongs to somebody"
            assert TINY.classes[self._class(block)][0] - ROOM >= length
            self.owner[block] = lib.owner_process(process.token)
            got.append(block)
        return multiple(*got)

    @staticmethod
    def _class(block: int) -> int:
        return 0 if block < 128 else 1 + (block - 128) // 64

    def _of(self, block: int) -> Process | None:
        owner = self.owner.get(block)
        return next((p for p in self.alive if lib.owner_process(p.token) == owner), None)

    @rule(block=consumes(blocks))
    def give_back(self, block: int) -> None:
        if (process := self._of(block)) is not None:
            assert process.free(block)
            del self.owner[block]

    @rule(block=blocks, thief=processes)
    def steal(self, block: int, thief: Process) -> None:
        """Freeing what is another's, or free already, does nothing."""
        if thief in self.alive and self.owner.get(block) != lib.owner_process(thief.token):
            refused = thief.pool.refused
            assert not thief.free(block)
            assert thief.pool.refused == refused + 1

    @rule(block=blocks)
    def hand_to_a_ring(self, block: int) -> None:
        """A ring that is nobody's: the sweep will find it."""
        if (process := self._of(block)) is not None:
            self.rings += 1
            ring = lib.owner_ring(1_000_000 + self.rings, self.rings % 2)
            assert lib.pool_transfer(process.pool, block, self.owner[block], ring)
            self.owner[block] = ring

    @rule(block=blocks, to=processes)
    def take_over(self, block: int, to: Process) -> None:
        if block in self.owner and to in self.alive:
            wanted = lib.owner_process(to.token)
            assert not lib.pool_transfer(to.pool, block, lib.owner_ring(77, 0), wanted), (
                "not from whom it is not"
            )
            assert lib.pool_transfer(to.pool, block, self.owner[block], wanted)
            self.owner[block] = wanted

    @rule(process=consumes(processes), orderly=st.booleans())
    def die(self, process: Process, orderly: bool) -> None:
        """Its hints are lost, unless it leaves in good order; the sweep returns its blocks, and those of dead rings."""
        self.alive.remove(process)
        if orderly:
            process.unmap_pool()
        mine = lib.owner_process(process.token)
        gone = [b for b, owner in self.owner.items() if owner == mine or owner >> 62 == 2]
        assert self.memory.reclaim(process.token) == len(gone)
        for block in gone:
            del self.owner[block]

    @invariant()
    def blocks_are_conserved(self) -> None:
        if not hasattr(self, "memory"):
            return
        words = self.memory.system.owners()
        assert {at: owner for at, owner in enumerate(words) if owner} == self.owner
        assert sum(free(self.memory.system)) == sum(total(self.memory.system)) - len(self.owner)

    def teardown(self) -> None:
        if not hasattr(self, "memory"):
            return
        last = Process(self.memory, reserve=True)
        left = sum(total(self.memory.system)) - len(self.owner)
        got = 0
        while last.alloc(1) >= 0:
            got += 1
        assert got == left, "every free block can be had, hints or not"
        close_all()
        self.memory.close()


PoolMachine.TestCase.settings = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestPool = PoolMachine.TestCase
