"""Event regions and flow sets: a bitmap and an eventcount, which cannot overflow (docs/design/shared-memory.md; docs/reference/api.md)."""

from __future__ import annotations

import os
import random
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from errno import EBADF, EPERM, ETIMEDOUT
from pathlib import Path

import pytest

from irmd.memory import FlowEvent, Memory, raise_pending
from ouroboros.dataplane._dataplane import ffi, lib
from tests.unit.dataplane.shm import (
    ALLOC,
    DEALLOC,
    DOWN,
    PEER,
    PKT,
    UP,
    FlowSet,
    Pair,
    Process,
    Raw,
    connect,
    is_error,
    packet,
)

EIRMD = 1002


class Flows:
    """A reader with flows from a writer, all known to the reader's process."""

    def __init__(self, memory: Memory, count: int) -> None:
        self.memory = memory
        self.writer, self.reader = Process(memory), Process(memory)
        self.pairs = [connect(memory, self.writer, self.reader) for _ in range(count)]
        for pair in self.pairs:
            lib.process_add(self.reader.process, pair.b.handle)

    def close(self) -> None:
        for pair in self.pairs:
            lib.process_remove(self.reader.process, pair.b.handle)
            pair.close()
        self.writer.close()
        self.reader.close()

    def set(self, *pairs: Pair) -> FlowSet:
        made = self.reader.set()
        for pair in pairs:
            assert made.add(pair.b.fd) == 0
        return made


@pytest.fixture
def flows(memory: Memory) -> Iterator[Flows]:
    flows = Flows(memory, 3)
    yield flows
    flows.close()


def test_packets_are_a_level(flows: Flows) -> None:
    one, two, _ = flows.pairs
    members = flows.set(one, two)
    assert members.take() == []
    one.a.writev([b"a", b"b"])
    for _ in range(3):
        assert members.take() == [(one.b.fd, PKT)]
    assert one.b.readv(1) == [b"a"]
    assert members.take() == [(one.b.fd, PKT)]
    assert one.b.readv(1) == [b"b"]
    assert members.take() == []
    two.a.write(b"c")
    one.a.write(b"d")
    assert sorted(members.take()) == [(one.b.fd, PKT), (two.b.fd, PKT)]
    one.b.drain()
    two.b.drain()
    members.close()


def test_packets_that_wait_already_are_reported(flows: Flows) -> None:
    one = flows.pairs[0]
    one.a.write(b"early")
    members = flows.set(one)
    assert members.take() == [(one.b.fd, PKT)]
    members.close()


def test_empty_packets_are_no_event(flows: Flows) -> None:
    one = flows.pairs[0]
    members = flows.set(one)
    assert members.take() == []
    one.a.writev([b"", b""])
    assert members.take() == []
    assert one.b.queues() == (0, 0)
    members.close()


def test_what_was_read_ahead_counts(flows: Flows) -> None:
    one = flows.pairs[0]
    members = flows.set(one)
    one.a.writev([b"x"] * 10)
    assert one.b.read_ahead() == [b"x"] * 10
    assert members.take() == [(one.b.fd, PKT)]
    one.b.handle.readahead_owner = 0
    assert members.take() == []
    members.close()


def test_the_others_are_delivered_once(flows: Flows) -> None:
    one = flows.pairs[0]
    members = flows.set(one)
    for event, expected in ((FlowEvent.PEER, PEER), (FlowEvent.ALLOC, ALLOC), (FlowEvent.DEALLOC, DEALLOC)):
        one.flow.raise_event(1, event)
        one.flow.raise_event(1, event)
        assert members.take() == [(one.b.fd, expected)]
        assert members.take() == []
    members.close()


def test_down_and_up_tell_the_state_as_it_is_now(flows: Flows) -> None:
    one = flows.pairs[0]
    members = flows.set(one)
    one.flow.raise_event(1, FlowEvent.DOWN)
    assert members.take() == [(one.b.fd, DOWN)]
    one.flow.raise_event(1, FlowEvent.UP)
    assert members.take() == [(one.b.fd, UP)]
    for _ in range(3):
        one.flow.raise_event(1, FlowEvent.DOWN)
        one.flow.raise_event(1, FlowEvent.UP)
    assert members.take() == [(one.b.fd, UP)]
    one.flow.raise_event(1, FlowEvent.UP)
    one.flow.raise_event(1, FlowEvent.DOWN)
    assert members.take() == [(one.b.fd, DOWN)]
    members.close()


def test_several_events_of_one_flow_come_in_order(flows: Flows) -> None:
    one = flows.pairs[0]
    members = flows.set(one)
    one.a.write(b"last words")
    for event in (FlowEvent.DEALLOC, FlowEvent.DOWN, FlowEvent.ALLOC):
        one.flow.raise_event(1, event)
    assert members.take() == [(one.b.fd, kind) for kind in (ALLOC, PKT, DOWN, DEALLOC)]
    assert members.take() == [(one.b.fd, PKT)]
    members.close()


def test_declaring_down_is_an_event_at_both_ends(flows: Flows) -> None:
    one = flows.pairs[0]
    lib.process_add(flows.writer.process, one.a.handle)
    here, there = flows.set(one), flows.writer.set()
    there.add(one.a.fd)
    here.take(), there.take()
    lib.flow_declare(one.a.handle, True)
    assert here.take() == [(one.b.fd, DOWN)]
    lib.flow_declare(one.a.handle, False)
    assert here.take() == [(one.b.fd, UP)]
    assert there.take() in ([(one.a.fd, UP)], [])
    there.close()
    here.close()
    lib.process_remove(flows.writer.process, one.a.handle)


def test_a_flow_is_in_one_set_at_most(flows: Flows) -> None:
    one, two, _ = flows.pairs
    first, second = flows.set(one), flows.set(two)
    assert first.add(one.b.fd) == 0, "adding again does nothing"
    assert is_error(second.add(one.b.fd), EPERM)
    one.a.write(b"x")
    assert second.take() == []
    assert first.take() == [(one.b.fd, PKT)]
    first.remove(one.b.fd)
    first.remove(one.b.fd)
    assert first.take() == []
    assert second.add(one.b.fd) == 0
    assert second.take() == [(one.b.fd, PKT)], "in the next set it is reported at once"
    second.close()
    assert first.add(one.b.fd) == 0, "a set that is gone has no members"
    first.close()


def test_two_sets_do_not_take_from_each_other(flows: Flows) -> None:
    one, two, three = flows.pairs
    first, second = flows.set(one, three), flows.set(two)
    for pair in flows.pairs:
        pair.a.write(b"x")
    assert second.take() == [(two.b.fd, PKT)]
    assert sorted(first.take()) == [(one.b.fd, PKT), (three.b.fd, PKT)]
    first.close()
    second.close()


@pytest.mark.parametrize("fd", [0, 63, 64 + 16384, 2**32 - 1])
def test_descriptors_out_of_range(flows: Flows, fd: int) -> None:
    members = flows.set()
    assert is_error(members.add(fd), EBADF)
    members.remove(fd)
    lib.events_raise(flows.reader.region, fd)
    assert members.take() == []
    members.close()


def test_a_descriptor_without_a_flow_is_an_allocation(flows: Flows) -> None:
    """Its flow is still being allocated; the library looks up what became of it. The last of all descriptors."""
    members = flows.set()
    last = 64 + 16383
    assert members.add(last) == 0
    assert members.take() == [(last, ALLOC)]
    assert members.take() == []
    raise_pending(flows.reader.events, last)
    assert members.take() == [(last, ALLOC)]
    members.close()


def test_every_descriptor_at_once(memory: Memory) -> None:
    """16384 of them, none lost, in as many looks as it takes."""
    reader = Process(memory)
    members = reader.set()
    everything = range(64, 64 + 16384)
    for fd in everything:
        assert members.add(fd) == 0
    for _ in range(2):
        for fd in everything:
            lib.events_raise(reader.region, fd)
            lib.events_raise(reader.region, fd)
        seen: list[int] = []
        while events := members.take():
            assert len(events) <= 512
            seen += [fd for fd, kind in events if kind == ALLOC]
        assert sorted(seen) == list(everything)
    members.close()
    reader.close()


def test_it_is_fair() -> None:
    """More busy flows than one look reports: each has its turn."""
    memory = Memory()
    flows = Flows(memory, 1100)
    members = flows.set(*flows.pairs)
    for pair in flows.pairs:
        pair.a.write(b"x")
    looks = [members.take() for _ in range(3)]
    assert all(len(look) > 500 for look in looks)
    assert {fd for look in looks for fd, _ in look} == {pair.b.fd for pair in flows.pairs}
    members.close()
    flows.close()
    memory.close()


def test_it_cannot_overflow(flows: Flows) -> None:
    one = flows.pairs[0]
    members = flows.set(one)
    for i in range(20000):
        one.a.write(packet(i, 8))
        one.flow.raise_event(1, FlowEvent.UP)
        one.b.read()
    assert members.take() == [(one.b.fd, UP)]
    assert members.take() == []
    members.close()


# ---------------------------------------------------------------- waiting


def test_waiting_ends_with_an_event(flows: Flows) -> None:
    one = flows.pairs[0]
    members = flows.set(one)
    for i in range(100):
        assert members.take() == []
        results: list[int] = []
        thread = threading.Thread(target=lambda results=results: results.append(members.sleep()))
        thread.start()
        one.a.write(packet(i, 8))
        thread.join()
        assert results == [0]
        assert members.take() == [(one.b.fd, PKT)]
        one.b.drain()
    members.close()


def test_waiting_ends_with_its_deadline(flows: Flows) -> None:
    members = flows.set(flows.pairs[0])
    members.take()
    deadline = int(lib.wait_now()) + 20_000_000
    while members.sleep(deadline) == 0:
        assert members.take() == []
    assert lib.wait_now() >= deadline
    assert members.sleep(deadline) == -ETIMEDOUT
    members.close()


def test_threads_wait_on_one_set(flows: Flows) -> None:
    members = flows.set(*flows.pairs)
    seen: set[int] = set()
    done = threading.Event()

    def wait() -> None:
        while not done.is_set():
            seen.update(fd for fd, _ in members.take())
            if not done.is_set():
                members.sleep(int(lib.wait_now()) + 50_000_000)

    threads = [threading.Thread(target=wait) for _ in range(4)]
    for thread in threads:
        thread.start()
    for pair in flows.pairs:
        pair.a.write(b"x")
    while len(seen) < 3:
        pass
    done.set()
    lib.events_wake(flows.reader.region)
    for thread in threads:
        thread.join()
    members.close()


def test_adding_a_flow_wakes_who_waits(flows: Flows) -> None:
    one = flows.pairs[0]
    one.a.write(b"x")
    members = flows.set()
    members.take()
    results: list[int] = []
    thread = threading.Thread(target=lambda: results.append(members.sleep()))
    thread.start()
    members.add(one.b.fd)
    thread.join()
    assert members.take() == [(one.b.fd, PKT)]
    members.close()


def test_closing_a_set_wakes_who_waits(flows: Flows) -> None:
    members = flows.set(flows.pairs[0])
    members.take()
    thread = threading.Thread(target=members.sleep)
    thread.start()
    while not _sleepers(flows.reader):
        os.sched_yield()
    members.close()
    thread.join()


def _sleepers(process: Process) -> int:
    """Who is asleep on the region of a process."""
    octets = os.pread(process.events.fds[0], 4, 64 + 4)
    return int.from_bytes(octets, "little")


def test_no_set_at_all() -> None:
    assert is_error(lib.fset_take(lib.fset_none(), ffi.new("struct fevent[8]"), 8, False), EBADF)
    assert is_error(lib.fset_sleep(lib.fset_none(), -1), EBADF)


# ---------------------------------------------------------------- poll(2)


class Watched:
    """A process with the thread that watches its connection and its region."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.ours, self.theirs = socket.socketpair()
        assert lib.process_watch(process.process, self.ours.fileno()) == 0

    def close(self) -> None:
        lib.process_stop(self.process.process)
        self.ours.close()
        self.theirs.close()


@pytest.fixture
def watched(flows: Flows) -> Iterator[Watched]:
    watched = Watched(flows.reader)
    yield watched
    watched.close()


def readable(fd: int, timeout: float | None = 0) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(None if timeout is None else timeout * 1000))


def test_the_descriptor_of_a_flow(flows: Flows, watched: Watched) -> None:
    one = flows.pairs[0]
    fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
    lib.process_poll_flow(flows.reader.process, one.b.handle, fd)
    for _ in range(200):
        one.b.drain()
        assert not readable(fd)
        one.a.write(b"x")
        assert readable(fd, None)
        assert one.b.read() == b"x"
    one.b.drain()
    one.flow.raise_event(1, FlowEvent.DOWN)
    assert readable(fd, None)
    one.b.drain()
    assert readable(fd), "down is a level"
    os.close(fd)


def test_the_descriptor_of_a_set(flows: Flows, watched: Watched) -> None:
    one, two, _ = flows.pairs
    members = flows.set(one, two)
    fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
    lib.fset_set_eventfd(members.handle, fd)
    for turn in range(200):
        members.take()
        assert not readable(fd)
        pair = (one, two)[turn % 2]
        pair.a.write(b"x")
        assert readable(fd, None)
        assert members.take() == [(pair.b.fd, PKT)]
        pair.b.drain()
    members.close()
    os.close(fd)


def test_the_descriptor_for_room(flows: Flows, watched: Watched) -> None:
    one = flows.pairs[0]
    back = Pair(one.flow, one.b, one.a)  # the watched process writes
    fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
    lib.process_poll_writable(flows.reader.process, back.a.handle, fd)
    for _ in range(30):
        while back.a.write(bytes(60000)) > 0:
            pass
        try:
            os.eventfd_read(fd)
        except BlockingIOError:
            pass
        if not lib.flow_notify_writable(back.a.handle):
            assert isinstance(back.b.read(), bytes)
            assert readable(fd, None)
    back.b.drain()
    os.close(fd)


def test_the_end_of_the_irmd(flows: Flows, watched: Watched) -> None:
    """Flows are down, sleepers wake, a set reports its flows' end first and its own then."""
    members = flows.set(*flows.pairs)
    members.take()
    results: list[int] = []
    thread = threading.Thread(target=lambda: results.append(members.sleep()))
    thread.start()
    watched.theirs.close()
    thread.join()
    assert results in ([0], [-EIRMD])
    seen: set[tuple[int, int]] = set()
    while len(seen) < 3:
        seen |= set(members.take())
    assert seen == {(pair.b.fd, DOWN) for pair in flows.pairs}
    while (result := members.sleep()) == 0:
        members.take()
    assert result == -EIRMD
    assert all(pair.b.down() for pair in flows.pairs)
    members.close()


def test_an_idle_process_sleeps(flows: Flows, watched: Watched) -> None:
    """The watcher is not woken by packets of flows that nobody polls (docs/design/shared-memory.md: idle costs nothing)."""
    one = flows.pairs[0]
    raw = Raw(one.flow)
    for i in range(100):
        one.a.write(packet(i, 8))
        one.b.read()
    assert raw.wait(0, "cons") == 0, "nobody has asked for the event"


def test_random_events_on_random_flows(flows: Flows) -> None:
    """Whatever happens in whichever order, a look tells each flow's state as it is."""
    chance = random.Random(3)
    members = flows.set(*flows.pairs)
    down = dict.fromkeys((pair.b.fd for pair in flows.pairs), False)
    told = dict(down)
    members.take()
    for _ in range(3000):
        pair = chance.choice(flows.pairs)
        what = chance.randrange(5)
        if what == 0:
            pair.a.write(b"x")
        elif what == 1:
            pair.b.read()
        elif what == 2:
            pair.flow.raise_event(1, FlowEvent.DOWN)
            down[pair.b.fd] = True
        elif what == 3:
            pair.flow.raise_event(1, FlowEvent.UP)
            down[pair.b.fd] = False
        else:
            events = members.take()
            for fd, kind in events:
                if kind in (DOWN, UP):
                    told[fd] = kind == DOWN
            assert told == down
            waiting = {pair.b.fd for pair in flows.pairs if pair.b.queues()[0]}
            assert {fd for fd, kind in events if kind == PKT} == waiting
    members.close()


DROPPED_FIRST = """
from irmd.memory import Memory
from tests.unit.dataplane.shm import SMALL, Process, connect

memory = Memory(SMALL)
a, b = Process(memory), Process(memory)
pair = connect(memory, a, b)
flows = a.set()
assert flows.add(pair.a.fd) == 0
a.lib.fset_destroy(flows.handle)
a.lib.flow_destroy(pair.a.handle)
flows.remove(pair.a.fd)
flows.close()
a.lib.process_remove(a.process, pair.a.handle)
pair.a.detach()
print("closed")
"""


def test_handles_may_be_dropped_before_they_are_closed() -> None:
    """Python's collector finalises what refers to each other, as a set and its flows do, in any order."""
    env = os.environ | {"MALLOC_PERTURB_": "165"}  # what has been freed is not what it was
    done = subprocess.run(
        [sys.executable, "-c", DROPPED_FIRST],
        env=env,
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "closed\n"), done.stderr
