"""A flow, its ring and its events as a state machine: both ends in one process, the model is a deque.

Writes, bursts, reads of every kind, polls of a set, down, up, declarations, a deallocation: in any order,
packets arrive once, in order and whole, errors are those of docs/reference/api.md, and a set reports the present state.
"""

from __future__ import annotations

from collections import deque
from errno import EAGAIN, ENOBUFS

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from irmd.memory import FlowEvent, Memory
from ouroboros.dataplane._dataplane import lib
from tests.unit.dataplane.shm import (
    DOWN,
    EFLOWDOWN,
    EFLOWPEER,
    ENOTALLOC,
    PKT,
    SLOTS,
    UP,
    Process,
    connect,
    free,
    packet,
    total,
)

SIZES = st.sampled_from([0, 8, 9, 64, 224, 225, 1500, 9953, 60000])
SIDES = st.integers(0, 1)
BUDGET = 1 << 20


class FlowMachine(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.memory = Memory()
        self.pair = connect(self.memory, Process(self.memory), Process(self.memory))
        self.ends = [self.pair.a, self.pair.b]
        self.queue: list[deque[bytes]] = [deque(), deque()]  # to be read by side s
        self.numbers = 0
        self.irmd_down = [False, False]
        self.peer_down = [False, False]
        self.declared = False
        self.left = [False, False]
        self.told = [False, False]
        self.sets = []
        for end in self.ends:
            lib.process_add(end.process.process, end.handle)
            members = end.process.set()
            members.add(end.fd)
            members.take()
            self.sets.append(members)

    def error(self, side: int) -> int:
        if self.peer_down[side]:
            return -EFLOWPEER
        return -EFLOWDOWN if self.irmd_down[side] or self.declared else 0

    def write_error(self, side: int) -> int:
        return -ENOTALLOC if self.left[side] else self.error(side)

    def packets(self, sizes: list[int]) -> list[bytes]:
        made = [packet(self.numbers + i, size) if size else b"" for i, size in enumerate(sizes)]
        self.numbers += len(sizes)
        return made

    @rule(side=SIDES, sizes=st.lists(SIZES, min_size=1, max_size=30), times=st.sampled_from([1, 1, 1, 25]))
    def write(self, side: int, sizes: list[int], times: int) -> None:
        for _ in range(times):
            burst = self.packets(sizes)
            done = self.ends[side].writev(burst)
            if (expected := self.write_error(side)) != 0:
                assert done == expected
                return
            if done == -EAGAIN:
                waiting = self.queue[1 - side]
                large = sum(len(one) > 1760 for one in waiting)
                assert len(waiting) == SLOTS or large >= 15, "there is room"
                return
            assert 1 <= done <= len(burst)
            self.queue[1 - side].extend(burst[:done])

    def skip_empty(self, side: int) -> None:
        while self.queue[side] and not self.queue[side][0]:
            self.queue[side].popleft()

    def nothing(self, side: int) -> int:
        if self.left[side]:
            return -ENOTALLOC
        return self.error(side) or -EAGAIN

    @rule(side=SIDES)
    def read(self, side: int) -> None:
        self.skip_empty(side)
        got = self.ends[side].read()
        assert got == (self.queue[side].popleft() if self.queue[side] else self.nothing(side))

    @rule(side=SIDES, count=st.integers(1, 400), size=st.sampled_from([100, 2000, 131072]))
    def read_burst(self, side: int, count: int, size: int) -> None:
        self.skip_empty(side)
        got = self.ends[side].readv(count, size=size)
        if not self.queue[side]:
            assert got == self.nothing(side)
        elif len(self.queue[side][0]) > size:
            assert got == -ENOBUFS
        else:
            assert isinstance(got, list) and 1 <= len(got) <= count
            for data in got:
                self.skip_empty(side)
                assert data == self.queue[side].popleft()

    @rule(side=SIDES)
    def read_ahead(self, side: int) -> None:
        self.skip_empty(side)
        got = self.ends[side].read_ahead()
        if not self.queue[side]:
            assert got == self.nothing(side)
            return
        assert isinstance(got, list)
        for data in got:
            self.skip_empty(side)
            assert data == self.queue[side].popleft()
        self.ends[side].handle.readahead_pending = self.ends[side].handle.readahead_owner = 0

    @rule(side=SIDES, size=st.sampled_from([0, 8, 100, 70000]))
    def read_into(self, side: int, size: int) -> None:
        self.skip_empty(side)
        got = self.ends[side].read_into(size)
        if not self.queue[side]:
            assert got == self.nothing(side)
        elif len(self.queue[side][0]) > size:
            assert got == -ENOBUFS
        else:
            assert got == self.queue[side].popleft()

    @precondition(lambda self: not any(self.left))
    @rule(side=SIDES, event=st.sampled_from([FlowEvent.DOWN, FlowEvent.UP, FlowEvent.PEER]))
    def irmd_says(self, side: int, event: FlowEvent) -> None:
        self.pair.flow.raise_event(side, event)
        if event is FlowEvent.PEER:
            self.peer_down[side] = True
        else:
            self.irmd_down[side] = event is FlowEvent.DOWN
            self.peer_down[side] = self.peer_down[side] and event is FlowEvent.DOWN

    @rule(side=SIDES, down=st.booleans())
    def declare(self, side: int, down: bool) -> None:
        lib.flow_declare(self.ends[side].handle, down)
        if not self.left[side]:
            self.declared = down

    @precondition(lambda self: not any(self.left))
    @rule(side=SIDES)
    def leave(self, side: int) -> None:
        lib.process_remove(self.ends[side].process.process, self.ends[side].handle)
        self.ends[side].detach()
        self.pair.flow.close_side(side)
        self.left[side] = True
        self.queue[side].clear()
        self.irmd_down[1 - side] = True

    @rule(side=SIDES)
    def look(self, side: int) -> None:
        if self.left[side]:
            return
        events = self.sets[side].take()
        kinds = [kind for _, kind in events]
        self.skip_empty(side)
        assert (PKT in kinds) == bool(self.queue[side])
        assert not (DOWN in kinds and UP in kinds)
        if DOWN in kinds or UP in kinds:
            assert (DOWN in kinds) == bool(self.error(side))
            self.told[side] = DOWN in kinds
        assert len(kinds) == len(set(kinds))

    @invariant()
    def nothing_is_lost(self) -> None:
        if not hasattr(self, "pair"):
            return
        for side in (0, 1):
            if not self.left[side]:
                assert self.ends[side].down() == bool(self.error(side))
                waiting = self.ends[side].queues()[0]
                assert len([one for one in self.queue[side] if one]) <= waiting <= len(self.queue[side])
        assert self.pair.flow.queued(0) <= SLOTS

    def teardown(self) -> None:
        if not hasattr(self, "pair"):
            return
        for end, members in zip(self.ends, self.sets, strict=True):
            members.close()
            lib.process_remove(end.process.process, end.handle)
        self.pair.end()
        assert free(self.memory.system) == total(self.memory.system)
        self.memory.close()


FlowMachine.TestCase.settings = settings(
    max_examples=50, stateful_step_count=50, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestFlow = FlowMachine.TestCase
