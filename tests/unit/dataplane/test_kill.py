"""Kill at any point: wherever a process dies, no block leaks, no state is wrong, and no other process is disturbed (docs/design/shared-memory.md).

Children run the build with crash points as one end of a pair, or as the relay of an IPCP, and die at a given point at
its n-th pass. This process plays all others: the survivors, a pair that has nothing to do with it, and the IRMd,
which marks the dead process's sides closed, waits for its pidfd, sweeps, and releases.
"""

from __future__ import annotations

import os
import random
import select
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from irmd.memory import Events, FlowMemory, Memory, Pool
from tests.unit.dataplane.crash import crash_build
from tests.unit.dataplane.shm import (
    EFLOWDOWN,
    SMALL,
    End,
    Process,
    connect,
    free,
    is_error,
    lengths,
    number,
    packet,
    total,
)

POINTS = sorted(set(range(1, 18)) - {13, 14})  # 14 and 18 are in the relay
PASSES = (1, 2, 5, 33, 260, 900)
GAVE_UP = 7  # exit code of a child that did not come by the point

FLOWS = 2


@pytest.fixture(scope="module")
def memory() -> Iterator[Memory]:
    """One IRMd for all deaths: what one leaves behind, the next would find."""
    memory = Memory(SMALL)
    yield memory
    memory.close()


def fork(body: Callable[[], None]) -> tuple[int, int]:
    """Run `body` in a child, which never comes back: (pid, pidfd)."""
    pid = os.fork()
    if pid == 0:
        try:
            body()
        finally:
            os._exit(GAVE_UP)
    return pid, os.pidfd_open(pid)


def ended(pidfd: int, timeout: int | None = None) -> list[tuple[int, int]]:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return poll.poll(timeout)


def dead(pidfd: int) -> bool:
    """Whether it has ended; does not wait."""
    return bool(ended(pidfd, 0))


def bury(pid: int, pidfd: int) -> bool:
    """Reap a child. True when it was killed, False when it did not come by its crash point."""
    ended(pidfd)
    os.close(pidfd)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL, f"the child died of signal {os.WTERMSIG(status)}"
        return True
    assert os.WEXITSTATUS(status) == GAVE_UP
    return False


@dataclass
class Stream:
    """What the survivor reads from one flow: packets in order, none missing, each intact."""

    end: End
    seen: int = 0

    def pump(self) -> object:
        """Read what there is; returns the error that ended it."""
        while True:
            burst = self.end.readv(32)
            if not isinstance(burst, list):
                return burst
            for data in burst:
                assert number(data) == self.seen
                self.seen += 1


@dataclass
class Writer:
    """Writes numbered packets of many sizes, as many as find room."""

    end: End
    next: int = 0
    sizes: Iterator[int] = field(default_factory=lengths)

    def pump(self, count: int = 12) -> int:
        """Write up to `count`; returns how many, or the error if not even one."""
        burst = [packet(self.next + i, next(self.sizes)) for i in range(count)]
        n = self.end.writev(burst)
        self.next += max(n, 0)
        return n


class Bystanders:
    """A pair of living processes on the same pool: it must never notice."""

    def __init__(self, memory: Memory, pool: Pool) -> None:
        self.pair = connect(memory, Process(memory, pool), Process(memory, pool))
        self.writer = Writer(self.pair.a)
        self.reader = Stream(self.pair.b)
        self.pump()

    def pump(self) -> None:
        """Exchange some packets, and leave as many in the ring."""
        waiting = self.writer.next - self.reader.seen
        if waiting < 24:
            self.writer.pump(24)
        for _ in range(12):
            data = self.pair.b.read()
            assert isinstance(data, bytes)
            assert number(data) == self.reader.seen
            self.reader.seen += 1

    def close(self) -> None:
        """Nothing is missing."""
        assert not self.pair.a.down() and not self.pair.b.down()
        assert is_error(self.reader.pump(), 11)
        assert self.reader.seen == self.writer.next
        self.pair.end()


# ---------------------------------------------------------------- a pair


def produce(ends: list[End]) -> None:
    """The child's part: write, and sleep when there is no room."""
    writers = [Writer(end) for end in ends]
    for turn in range(600):
        for writer in writers:
            if writer.pump(1 + turn % 7) < 0:
                writer.end.sleep(True, int(writer.end.lib.wait_now()) + 2_000_000)


def consume(ends: list[End]) -> None:
    """The child's part: read, and sleep when there is nothing."""
    for turn in range(1200):
        end = ends[turn % len(ends)]
        got = end.readv(1 + turn % 9) if turn % 3 else end.read_ahead()
        if isinstance(got, int):
            end.sleep(False, int(end.lib.wait_now()) + 2_000_000)


def both(ends: list[End]) -> None:
    """The child's part: write and read, wake those who sleep, leave."""
    writers = [Writer(end) for end in ends]
    for turn in range(150):
        for writer in writers:
            writer.pump(1 + turn % 5)
            writer.end.read()
            writer.end.readv(4)
    for end in ends:
        while not end.queues()[0]:
            end.sleep()  # so that there is something to give back
        end.detach()


ROLES: dict[str, Callable[[list[End]], None]] = {"producer": produce, "consumer": consume, "both": both}


def child_of_pair(
    memory: Memory, token: int, events: Events, flows: list[tuple[FlowMemory, int, Events]], role: str
) -> None:
    """Map everything anew, with the build that crashes, and play the part."""
    build = crash_build()
    process = Process(memory, build=build, token=token, events=events)
    ends = [process.attach(flow, 0, 64 + i, fd, peer) for i, (flow, fd, peer) in enumerate(flows)]
    ROLES[role](ends)


class Scene:
    """A child with flows to the survivor; the survivor, its streams, and bystanders."""

    def __init__(self, memory: Memory, role: str, before: Callable[[], None]) -> None:
        self.memory = memory
        self.bystanders = Bystanders(memory, memory.system)
        self.survivor = Process(memory)
        self.token = memory.token()
        self.events = memory.events()
        self.flows = [memory.flow(self.token, self.survivor.token, memory.system) for _ in range(FLOWS)]
        told: list[tuple[FlowMemory, int, Events]] = []
        self.ends: list[End] = []
        for i, flow in enumerate(self.flows):
            fd = next(self.survivor.fds)
            flow.open(self.events, 64 + i, self.survivor.events, fd)
            told.append((flow, fd, self.survivor.events))
            self.ends.append(self.survivor.attach(flow, 1, fd, 64 + i, self.events))
        self.streams = [Stream(end) for end in self.ends]
        self.writers = [Writer(end) for end in self.ends]
        self.set = self.survivor.set()  # so that the child has somebody to ring
        for end in self.ends:
            self.survivor.lib.process_add(self.survivor.process, end.handle)
            self.set.add(end.fd)

        def body() -> None:
            before()
            child_of_pair(memory, self.token, self.events, told, role)

        self.pid, self.pidfd = fork(body)

    def run(self, role: str) -> bool:
        """Traffic until the child has ended. Whether it was killed."""
        while not dead(self.pidfd):
            self.set.take()
            for stream, writer in zip(self.streams, self.writers, strict=True):
                if role != "consumer":
                    stream.pump()
                if role != "producer":
                    writer.pump()
            self.bystanders.pump()
        return bury(self.pid, self.pidfd)

    def settle(self, *, sweep_first: bool) -> None:
        """The IRMd's part, and what the survivor must see."""
        for flow in self.flows:
            flow.close_side(0)
        if sweep_first:
            self.memory.reclaim(self.token)
        for stream, writer, flow in zip(self.streams, self.writers, self.flows, strict=True):
            assert is_error(stream.pump(), EFLOWDOWN)
            assert stream.seen == flow.written(0), "something that was published was not read"
            assert is_error(writer.pump(), EFLOWDOWN)
            assert stream.end.down()
        if not sweep_first:
            self.memory.reclaim(self.token)
        self.bystanders.pump()

    def close(self) -> None:
        """Everybody leaves; every block must be back."""
        self.bystanders.close()
        for end in self.ends:
            self.survivor.lib.process_remove(self.survivor.process, end.handle)
            end.detach()
        self.set.close()
        for flow in self.flows:
            flow.release()
        self.survivor.close()
        self.memory.release_process(self.token)
        self.events.close()
        assert free(self.memory.system) == total(self.memory.system), self.memory.system.holders()


def arm(point: int, passes: int) -> Callable[[], None]:
    def before() -> None:
        lib = crash_build().lib
        lib.crash_countdown = passes
        lib.crash_point = point

    return before


REACHED = {
    "producer": {1, 4, 5, 6, 7, 10, 11, 15, 16},
    "consumer": {2, 3, 8, 9, 12, 16},
    "both": {1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 15, 17},
}


@pytest.mark.parametrize("role", ROLES)
def test_one_end_is_killed_anywhere(memory: Memory, role: str) -> None:
    crash_build()
    reached = set()
    for point in POINTS:
        for at, passes in enumerate(PASSES):
            scene = Scene(memory, role, arm(point, passes))
            if scene.run(role):
                reached.add(point)
            scene.settle(sweep_first=bool(at % 2))
            scene.close()
    # 10 and 11 (in the middle of ringing) need somebody who asks at the right moment: not in every run.
    assert reached >= REACHED[role] - {10, 11, 16}, f"never came by {REACHED[role] - reached}"


class Survivor(threading.Thread):
    """Reads and writes until everything is down; `reached` when it has read enough."""

    def __init__(self, scene: Scene, enough: int) -> None:
        super().__init__()
        self.scene = scene
        self.enough = enough
        self.reached = threading.Event()
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            self.survive()
        except BaseException as failure:
            self.failure = failure
        finally:
            self.reached.set()

    def survive(self) -> None:
        alive = list(zip(self.scene.streams, self.scene.writers, strict=True))
        while alive:
            for stream, writer in list(alive):
                writing = is_error(writer.pump(), EFLOWDOWN)
                if is_error(stream.pump(), EFLOWDOWN) and writing:
                    alive.remove((stream, writer))
            if self.scene.streams[0].seen >= self.enough or dead(self.scene.pidfd):
                self.reached.set()


def test_one_end_is_killed_at_any_time_under_load(memory: Memory) -> None:
    """The survivor is a thread that reads and writes while the IRMd marks and sweeps."""
    crash_build()
    chance = random.Random(2026)
    for _ in range(60):
        scene = Scene(memory, "both", lambda: None)
        survivor = Survivor(scene, chance.randrange(1, 400))
        survivor.start()
        survivor.reached.wait()
        os.kill(scene.pid, signal.SIGKILL)
        ended(scene.pidfd)
        for flow in scene.flows:
            flow.close_side(0)
        memory.reclaim(scene.token)
        survivor.join()
        assert survivor.failure is None, survivor.failure
        bury(scene.pid, scene.pidfd)
        for stream, flow in zip(scene.streams, scene.flows, strict=True):
            assert stream.seen == flow.written(0)
        scene.close()


class Sleeper(threading.Thread):
    """A survivor that sleeps on its set whenever there is nothing, until every flow is down."""

    def __init__(self, scene: Scene) -> None:
        super().__init__()
        self.scene = scene

    def run(self) -> None:
        alive = {stream.end.fd: stream for stream in self.scene.streams}
        while alive:
            for fd, _ in self.scene.set.take(patient=True):
                if fd in alive and is_error(alive[fd].pump(), EFLOWDOWN):
                    del alive[fd]
            if alive:
                self.scene.set.sleep()


@pytest.mark.parametrize("point", [5, 6, 7, 10, 11])
def test_whoever_sleeps_is_woken(memory: Memory, point: int) -> None:
    """Killed before, between or behind publishing and ringing: the survivor's sleep ends all the same."""
    crash_build()
    for passes in (1, 2, 3, 4, 7, 20, 60):
        scene = Scene(memory, "producer", arm(point, passes))
        sleeper = Sleeper(scene)
        sleeper.start()
        bury(scene.pid, scene.pidfd)
        for flow in scene.flows:
            flow.close_side(0)
        memory.reclaim(scene.token)
        sleeper.join()
        for stream, flow in zip(scene.streams, scene.flows, strict=True):
            assert stream.seen == flow.written(0)
        scene.close()


# ---------------------------------------------------------------- a relay


@dataclass
class RelaySide:
    """An application at one side of the relay."""

    process: Process
    flow: FlowMemory
    end: End
    own: Events  # region of the relay for this domain
    relay_fd: int
    fd: int
    stream: Stream
    writer: Writer


class RelayScene:
    """Two applications, a child that relays between them, and bystanders in both pools."""

    def __init__(self, memory: Memory, pools: tuple[Pool, Pool], before: Callable[[], None]) -> None:
        self.memory = memory
        self.bystanders = [Bystanders(memory, pool) for pool in pools]
        self.token = memory.token()
        regions: dict[int, Events] = {}
        self.sides: list[RelaySide] = []
        for i, pool in enumerate(pools):
            if pool.id not in regions:
                regions[pool.id] = memory.events()
            own = regions[pool.id]
            process = Process(memory, pool)
            flow = memory.flow(self.token, process.token, pool)
            fd, relay_fd = next(process.fds), 64 + i
            flow.open(own, relay_fd, process.events, fd)
            end = process.attach(flow, 1, fd, relay_fd, own)
            self.sides.append(RelaySide(process, flow, end, own, relay_fd, fd, Stream(end), Writer(end)))
        self.pid, self.pidfd = fork(lambda: (before(), self.relay())[0])

    def relay(self) -> None:
        """The child's part: the thread does all of it."""
        ffi, lib = crash_build()
        relay = lib.relay_create()
        pools, regions = {}, {}
        for side in self.sides:
            of = side.process.of
            if of.id not in pools:
                pools[of.id] = lib.pool_map(of.fd, self.token, True)
                regions[of.id] = lib.events_map(*side.own.fds)
                lib.relay_add_region(relay, regions[of.id])
            spec = {
                "fd": side.relay_fd,
                "index": side.flow.index,
                "side": 0,
                "peer_fd": side.fd,
                "serial": side.flow.serial,
            }
            segment = lib.segment_map(side.flow.segment_fd)
            peer = lib.events_map(*side.process.events.fds)
            assert (
                lib.relay_add(
                    relay, pools[of.id], segment, regions[of.id], peer, ffi.new("struct flow_spec *", spec)
                )
                == 0
            )
        assert lib.relay_pair(relay, 64, 65) == 0
        assert lib.relay_start(relay) == 0
        while True:
            signal.pause()

    def run(self, most: int) -> bool:
        """Traffic both ways until the child has ended, or `most` packets have passed. Whether it had ended."""
        while not dead(self.pidfd):
            for side in self.sides:
                side.writer.pump()
                side.stream.pump()
            for bystanders in self.bystanders:
                bystanders.pump()
            if self.sides[0].stream.seen >= most and self.sides[1].stream.seen >= most:
                os.kill(self.pid, signal.SIGKILL)
                bury(self.pid, self.pidfd)
                return False
        return bury(self.pid, self.pidfd)

    def settle(self, *, sweep_first: bool) -> None:
        for side in self.sides:
            side.flow.close_side(0)
        if sweep_first:
            self.memory.reclaim(self.token)
        for side in self.sides:
            assert is_error(side.stream.pump(), EFLOWDOWN)
            assert side.stream.seen == side.flow.written(0)
            assert is_error(side.writer.pump(), EFLOWDOWN)
        if not sweep_first:
            self.memory.reclaim(self.token)
        for side in self.sides:
            side.end.detach()
            side.flow.release()
        for bystanders in self.bystanders:
            bystanders.pump()
            bystanders.close()
        self.memory.release_process(self.token)
        for side in self.sides:
            side.process.close()
            side.own.close()
            assert free(side.process.of) == total(side.process.of), side.process.of.holders()


@pytest.mark.parametrize("domains", ["one domain", "two domains"])
def test_a_relay_is_killed_anywhere(memory: Memory, domains: str) -> None:
    crash_build()
    user = memory.pool(65534, trusted=False)
    pools = (memory.system, memory.system if domains == "one domain" else user)
    points = {6, 7, 8, 9, 14} if domains == "one domain" else {1, 2, 3, 6, 7, 8, 9, 15, 18}
    reached = set()
    for point in points | {10, 11}:
        for at, passes in enumerate((1, 2, 9, 120)):
            scene = RelayScene(memory, pools, arm(point, passes))
            if scene.run(400):
                reached.add(point)
            scene.settle(sweep_first=bool(at % 2))
    assert reached >= points - {15}, f"never came by {points - reached}"


def test_a_relay_is_killed_at_any_time_under_load(memory: Memory) -> None:
    chance = random.Random(7)
    pools = (memory.system, memory.pool(65534, trusted=False))
    for turn in range(40):
        scene = RelayScene(memory, pools, lambda: None)
        scene.run(chance.randrange(1, 300))
        scene.settle(sweep_first=bool(turn % 2))


# ---------------------------------------------------------------- both at once


class Duel:
    """One flow, and a child at either end, both of which die."""

    def __init__(self, memory: Memory) -> None:
        self.memory = memory
        self.tokens = [memory.token(), memory.token()]
        self.events = [memory.events(), memory.events()]
        self.flow = memory.flow(self.tokens[0], self.tokens[1], memory.system)
        self.flow.open(self.events[0], 64, self.events[1], 64)

    def fight(self, side: int, point: int, passes: int) -> tuple[int, int]:
        """Start one of the two."""

        def body() -> None:
            arm(point, passes)()
            process = Process(
                self.memory, build=crash_build(), token=self.tokens[side], events=self.events[side]
            )
            both([process.attach(self.flow, side, 64, 64, self.events[1 - side])])

        return fork(body)

    def close(self) -> None:
        for token, region in zip(self.tokens, self.events, strict=True):
            self.memory.release_process(token)
            region.close()


def test_both_ends_are_killed(memory: Memory) -> None:
    """What two dead processes had between them returns, in whichever order they are buried."""
    crash_build()
    chance = random.Random(11)
    for turn in range(60):
        duel = Duel(memory)
        children = [
            duel.fight(side, chance.choice((1, 4, 5, 6, 7, 8, 9, 12)), chance.randrange(1, 60))
            for side in (0, 1)
        ]
        late = turn % 3 == 0  # the flow is released before the sweep
        for side in (0, 1) if turn % 2 else (1, 0):
            os.kill(children[side][0], signal.SIGKILL)
            bury(*children[side])
            duel.flow.close_side(side)
            if not late:
                memory.reclaim(duel.tokens[side])
        duel.flow.release()
        if late:
            for token in duel.tokens:
                memory.reclaim(token)
        duel.close()
        assert free(memory.system) == total(memory.system), memory.system.holders()
