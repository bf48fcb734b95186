"""The IRMd's sweep after the death of a process: blocks by their owner words, rings by their indices (`src/irm.h`)."""

from __future__ import annotations

from irmd.memory import FIRST_SEGMENT, LARGEST_SEGMENT, Memory
from ouroboros.dataplane._dataplane import lib
from tests.unit.dataplane.shm import EFLOWDOWN, Pair, Process, Raw, connect, free, is_error, packet, total


def test_what_a_process_held_returns(memory: Memory) -> None:
    dead, living = Process(memory), Process(memory)
    for size in (1, 1, 1000, 9000, 60000):
        dead.alloc(size)
    kept = living.alloc(1)
    assert memory.reclaim(dead.token) == 5
    assert memory.system.holders() == {living.token: [1, 0, 0, 0]}
    assert memory.reclaim(dead.token) == 0
    living.free(kept)
    dead.close()
    living.close()


def test_what_a_dead_writer_published_stays(pair: Pair, memory: Memory) -> None:
    wrote = [packet(i, 100) for i in range(10)]
    pair.a.writev(wrote)
    pair.flow.close_side(0)
    assert memory.reclaim(pair.a.process.token) == 0
    assert pair.b.drain() == wrote
    assert is_error(pair.b.read(), EFLOWDOWN)


def test_what_a_dead_writer_did_not_publish_returns(pair: Pair, memory: Memory) -> None:
    pair.a.writev([b"one", b"two"])
    block = pair.a.process.alloc(5)
    me, ring = lib.owner_process(pair.a.process.token), lib.owner_ring(pair.flow.serial, 0)
    assert lib.pool_transfer(pair.a.process.pool, block, me, ring)
    Raw(pair.flow).slot(0, 2, block << 40 | 256 << 24 | 5)
    pair.flow.close_side(0)
    assert memory.reclaim(pair.a.process.token) == 1
    assert pair.b.drain() == [b"one", b"two"]


def test_what_only_a_dead_reader_could_have_read_returns(pair: Pair, memory: Memory) -> None:
    pair.a.writev([b"x"] * 20)
    pair.flow.close_side(1)
    assert memory.reclaim(pair.b.process.token) == 20
    assert free(memory.system) == total(memory.system)
    assert is_error(pair.a.write(b"x"), EFLOWDOWN)


def test_a_flow_released_before_the_sweep(memory: Memory) -> None:
    """The sockets of both were closed first; one had died in the middle of a write."""
    pair = connect(memory, Process(memory), Process(memory))
    block = pair.a.process.alloc(5)
    me, ring = lib.owner_process(pair.a.process.token), lib.owner_ring(pair.flow.serial, 0)
    assert lib.pool_transfer(pair.a.process.pool, block, me, ring)
    pair.b.detach()
    pair.flow.release()
    assert free(memory.system) != total(memory.system)
    assert memory.reclaim(pair.a.process.token) == 1
    pair.a.process.close()
    pair.b.process.close()


def test_release_gives_back_what_nobody_read(memory: Memory) -> None:
    pair = connect(memory, Process(memory), Process(memory))
    pair.a.writev([b"x"] * 30)
    pair.b.writev([b"y"] * 30)
    pair.flow.release()  # both have ended without detaching
    assert free(memory.system) == total(memory.system)
    pair.a.process.close()
    pair.b.process.close()


def test_a_slot_that_is_used_again_is_fresh(memory: Memory) -> None:
    a, b = Process(memory), Process(memory)
    old = connect(memory, a, b)
    old.a.writev([b"old"] * 3)
    lib.flow_declare(old.a.handle, True)
    place = old.flow.segment_id, old.flow.index, old.flow.serial
    old.close()
    new = connect(memory, a, b)
    assert (new.flow.segment_id, new.flow.index) == place[:2]
    assert new.flow.serial != place[2]
    assert not new.a.down() and not new.b.down()
    assert new.flow.queued(0) == new.flow.queued(1) == new.flow.written(0) == 0
    new.a.write(b"new")
    assert new.b.drain() == [b"new"]
    new.close()
    a.close()
    b.close()


def test_a_flow_of_a_process_with_itself(memory: Memory) -> None:
    one = Process(memory)
    pair = connect(memory, one, one)
    pair.a.writev([b"x"] * 5)
    pair.b.writev([b"y"] * 5)
    assert pair.b.readv(2) == [b"x"] * 2
    assert pair.a.readv(2) == [b"y"] * 2
    one.alloc(1)
    pair.flow.close_side(0)
    pair.flow.close_side(1)
    assert memory.reclaim(one.token) == 1 + 3 + 3
    pair.flow.release()
    one.close()


def test_flows_of_a_pair_share_segments(memory: Memory) -> None:
    """Ten thousand flows do not need ten thousand descriptors; each segment holds twice as many as the last."""
    a, b, c = Process(memory), Process(memory), Process(memory)
    flows = [memory.flow(a.token, b.token, memory.system) for _ in range(700)]
    other = memory.flow(a.token, c.token, memory.system)
    places = {(flow.segment_id, flow.index) for flow in flows}
    assert len(places) == len({flow.serial for flow in flows}) == 700
    segments = {flow.segment_id for flow in flows}
    assert len(segments) <= 9
    assert other.segment_id not in segments, "another pair sees nothing of it"
    assert len({flow.segment_id for flow in flows[:FIRST_SEGMENT]}) == 1
    assert max(flow.index for flow in flows) < LARGEST_SEGMENT
    for flow in flows:
        flow.release()
    again = memory.flow(b.token, a.token, memory.system)
    assert again.segment_id in segments, "kept for the next flow of the pair"
    again.release()
    other.release()
    gone = memory.release_process(a.token)
    assert set(gone) == segments | {other.segment_id}
    for process in (a, b, c):
        process.close()


def test_other_pools_are_swept_as_well(memory: Memory) -> None:
    """An IPCP has flows in several domains."""
    user = memory.pool(1001, trusted=False)
    ipcp = Process(memory, reserve=True)
    there = Process(memory, user, token=ipcp.token, events=ipcp.events)
    application = Process(memory, user)
    pair = connect(memory, there, application)
    pair.a.writev([b"x"] * 4)
    pair.b.writev([b"y"] * 4)
    there.alloc(1)
    ipcp.alloc(1)
    pair.flow.close_side(0)
    assert memory.reclaim(ipcp.token) == 2 + 4
    assert pair.b.drain() == [b"x"] * 4
    pair.b.detach()
    pair.flow.release()
    application.close()
    memory.release_process(ipcp.token)
    ipcp.close()
