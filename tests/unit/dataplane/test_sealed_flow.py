"""Flow ends whose packets are encrypted and checked (spec/protection): raw ones, and those with FRCP, over a hostile wire."""

from __future__ import annotations

import mmap
import os
import random
from collections.abc import Iterator
from errno import EAGAIN, EMSGSIZE, ENOBUFS

import pytest

from irmd.memory import Memory
from ouroboros.dataplane._dataplane import ffi, lib
from tests.unit.dataplane.shm import PKT, SMALL, End, Pair, Process, Raw, connect, packet
from tests.unit.dataplane.test_seal import KEY, Seal

KINDS = [(901, False), (1018, True), (904, False), (0, True)]


def protect(end: End, cipher: int, check: bool) -> End:
    assert lib.flow_protect(end.handle, cipher, KEY if cipher else ffi.NULL, check) == 0
    return end


@pytest.fixture(params=KINDS)
def flow(pair: Pair, request: pytest.FixtureRequest) -> Pair:
    """Both ends protected."""
    for end in (pair.a, pair.b):
        protect(end, *request.param)
    return pair


def refused(end: End) -> tuple[int, int, int]:
    """Forged, spoilt, too short."""
    seal = end.handle.end.seal
    return seal.forged, seal.spoilt, seal.runt


# ---------------------------------------------------------------- raw


def test_packets_of_any_size(flow: Pair) -> None:
    most = int(flow.a.handle.max_packet)
    for size in (1, 8, 223, 224, 225, 1400, 1760, 9952, most):
        data = bytes(i % 251 for i in range(size))
        assert flow.a.write(data) == size
        assert flow.b.read() == data
        assert flow.b.write(data) == size
        assert flow.a.read_into(size) == data
    assert flow.a.read() == -EAGAIN
    assert flow.a.write(bytes(most + 1)) == -EMSGSIZE
    assert refused(flow.a) == refused(flow.b) == (0, 0, 0)


def test_bursts(flow: Pair) -> None:
    packets = [packet(i, 8 + i) for i in range(300)]
    assert flow.a.writev(packets) == 300
    first = flow.b.read_ahead()
    assert isinstance(first, list) and len(first) > 1
    assert first + flow.b.drain() == packets


def test_the_largest_packet_is_smaller(pair: Pair) -> None:
    most = int(pair.a.handle.max_packet)
    assert most == SMALL.classes[-1][0] - 288
    protect(pair.a, 901, True)
    assert int(pair.a.handle.max_packet) == most - 32


def test_what_is_not_possible(pair: Pair) -> None:
    assert lib.flow_protect(pair.a.handle, 7, KEY, False) < 0
    pair.a.handle.end.max_packet = 28
    assert lib.flow_protect(pair.a.handle, 901, KEY, False) == -EMSGSIZE
    assert lib.flow_protect(pair.a.handle, 0, ffi.NULL, False) == 0
    assert pair.a.handle.end.seal == ffi.NULL


def test_a_packet_longer_than_the_buffer_stays(flow: Pair) -> None:
    """It is opened once, however often it is looked at."""
    flow.a.write(packet(1, 300))
    flow.a.write(packet(2, 100))
    for _ in range(3):
        assert flow.b.read_into(299) == -ENOBUFS
    assert flow.b.read_into(300) == packet(1, 300)
    assert flow.b.read_into(100) == packet(2, 100)


def test_a_burst_goes_as_far_as_the_buffer(flow: Pair) -> None:
    flow.a.writev([packet(i, 300) for i in range(5)])
    assert flow.b.readv(5, 650) == [packet(0, 300), packet(1, 300)]
    assert flow.b.readv(5, 650) == [packet(2, 300), packet(3, 300)]
    assert flow.b.drain() == [packet(4, 300)]


def test_empty_packets_are_not_for_the_reader(flow: Pair) -> None:
    flow.a.write(b"")
    flow.a.write(b"data")
    flow.a.write(b"")
    assert flow.b.drain() == [b"data"]
    assert refused(flow.b) == (0, 0, 0)


@pytest.mark.parametrize(("cipher", "visible"), [(901, False), (0, True)])
def test_what_lies_in_the_pool(memory: Memory, pair: Pair, cipher: int, visible: bool) -> None:
    """Whoever sees the memory of the system on its way, or the wire, does not see what was written."""
    protect(pair.a, cipher, True)
    protect(pair.b, cipher, True)
    secret = b"what nobody shall read but who it is for"
    pair.a.write(secret)
    fd = memory.system.fd
    with mmap.mmap(fd, os.fstat(fd).st_size, mmap.MAP_SHARED, mmap.PROT_READ) as pool:
        assert (pool.find(secret) >= 0) == visible
        assert pair.b.read_into(10) == -ENOBUFS
        assert pair.b.read() == secret
        assert (pool.find(secret) >= 0) == visible


def test_what_frcp_leaves_in_the_pool(memory: Memory, pair: Pair) -> None:
    """Neither the sender's packet nor the receiver's."""
    for end in (pair.a, pair.b):
        protect(end, 1018, False)
        config = ffi.new("struct frcp_config *", {"mpl_ms": 100, "retransmit": True, "fragments": True})
        assert lib.frcp_io_begin(end.handle, config) == 0
    secret = b"what nobody shall read but who it is for"
    pair.a.write(secret * 10_000)
    while (got := pair.b.readv(1, 1 << 20)) == -EAGAIN:
        lib.frcp_io_poll(pair.a.handle, lib.wait_now(), ffi.new("bool *"))
    assert got == [secret * 10_000]
    fd = memory.system.fd
    with mmap.mmap(fd, os.fstat(fd).st_size, mmap.MAP_SHARED, mmap.PROT_READ) as pool:
        assert pool.find(secret) < 0


def test_events_are_for_packets_that_can_be_read(pair: Pair) -> None:
    """A forged packet raises none; and what raised one is there for the reader."""
    protect(pair.b, 901, False)
    peer = Seal(901)
    members = pair.b.process.set()
    lib.process_add(pair.b.process.process, pair.b.handle)
    assert members.add(pair.b.fd) == 0
    members.take()
    pair.a.write(b"x" * 60)
    assert members.take() == []
    assert refused(pair.b) == (1, 0, 0)
    pair.a.write(peer.close(b"genuine"))
    assert members.take() == members.take() == [(pair.b.fd, PKT)]
    assert pair.b.read() == b"genuine"
    assert members.take() == []
    lib.process_remove(pair.b.process.process, pair.b.handle)


@pytest.mark.parametrize(("cipher", "check"), [(901, False), (1018, True), (0, True)])
def test_a_hostile_wire(pair: Pair, cipher: int, check: bool) -> None:
    """Forged, changed and cut packets between good ones: counted; the good ones are read, in bursts and alone."""
    protect(pair.b, cipher, check)
    peer, chance = Seal(cipher, check), random.Random(5)
    bad = 0
    for i in range(300):
        data = packet(i, 20 + i % 50)
        good = peer.close(data)
        for _ in range(chance.randrange(4)):
            spoilt = bytearray(good)
            spoilt[chance.randrange(len(spoilt))] ^= 1 << chance.randrange(8)
            pair.a.write(
                chance.choice([bytes(spoilt), good[: chance.randrange(1, len(good))], chance.randbytes(70)])
            )
            bad += 1
        pair.a.write(good)
        got = pair.b.drain() if i % 2 else [pair.b.read()]
        assert got == [data]
    assert sum(refused(pair.b)) == bad > 300


def test_a_slot_that_changes_after_the_packet_was_opened(memory: Memory, pair: Pair) -> None:
    """What the reader gets is what was opened."""
    protect(pair.b, 901, False)
    members = pair.b.process.set()
    lib.process_add(pair.b.process.process, pair.b.handle)
    members.add(pair.b.fd)
    pair.a.write(Seal(901).close(b"opened"))
    assert members.take() == [(pair.b.fd, PKT)]
    raw = Raw(pair.flow)
    slot = raw.slot(0, 0)
    raw.slot(0, 0, slot + 20000)  # longer than its block
    assert pair.b.read() == -EAGAIN
    lib.process_remove(pair.b.process.process, pair.b.handle)
    pool = pair.b.process.pool
    assert lib.pool_free(pool, slot >> 40, lib.owner_ring(pair.flow.serial, 0))


def test_the_key_changes_on_the_way(pair: Pair) -> None:
    """More packets than one key is for, both ways."""
    for end in (pair.a, pair.b):
        protect(end, 901, False)
    burst = [packet(i, 16) for i in range(100)]
    octets = b"".join(burst)
    total = 0
    while total < lib.CIPHER_PERIOD + 10_000:
        writer, reader = (pair.a, pair.b) if total % 3 else (pair.b, pair.a)
        written = lib.flow_writev(writer.handle, octets, ffi.NULL, 16, 100)
        assert written > 0
        assert reader.readv(100) == burst[:written]
        total += written
    assert refused(pair.a) == refused(pair.b) == (0, 0, 0)


# ---------------------------------------------------------------- FRCP


class Wire:
    """Two protected ends with FRCP, and between them somebody who has every packet in his hands."""

    def __init__(self, memory: Memory, *, cipher: int = 901, check: bool = False, seed: int = 1) -> None:
        self.left = connect(memory, Process(memory), Process(memory))
        self.right = connect(memory, Process(memory), Process(memory))
        self.a, self.b = self.left.a, self.right.b
        self.chance = random.Random(seed)
        self.seen: list[bytes] = []
        for first, end in enumerate((self.a, self.b)):
            protect(end, cipher, check)
            config = ffi.new(
                "struct frcp_config *",
                {"mpl_ms": 100, "retransmit": True, "selective": True, "first": 7 * first},
            )
            assert lib.frcp_io_begin(end.handle, config) == 0

    def hostile(self, data: bytes) -> list[bytes]:
        """What becomes of a packet."""
        self.seen.append(data)
        what = self.chance.random()
        spoilt = bytearray(data)
        spoilt[self.chance.randrange(len(data))] ^= 1 << self.chance.randrange(8)
        if what < 0.02:
            return []
        if what < 0.05:
            return [bytes(spoilt)]
        if what < 0.08:
            return [data[: self.chance.randrange(1, len(data))]]
        if what < 0.2:
            return [data, self.chance.choice(self.seen)]  # an old one again
        if what < 0.3:
            return [self.chance.randbytes(len(data)), data]
        return [data]

    def carry(self) -> None:
        for source, sink in ((self.left.b, self.right.a), (self.right.a, self.left.b)):
            for data in source.drain():
                for one in self.hostile(data):
                    sink.write(one)
        for end in (self.a, self.b):
            lib.frcp_io_poll(end.handle, lib.wait_now(), ffi.new("bool *"))

    def close(self) -> None:
        self.left.end()
        self.right.end()


@pytest.fixture
def wire(memory: Memory) -> Iterator[Wire]:
    wire = Wire(memory, check=True)
    yield wire
    wire.close()


def test_everything_is_delivered_over_a_hostile_wire(wire: Wire) -> None:
    """Once and in order, whatever is done to the packets; and nothing of it was to be seen on the way."""
    sent, received, n = 0, 0, 400
    while received < n:
        while sent < n and wire.a.write(packet(sent, 200)) > 0:
            sent += 1
        wire.carry()
        for data in wire.b.drain():
            assert data == packet(received, 200)
            received += 1
    bad = refused(wire.b)
    assert bad[0] == 0 and bad[1] > 20
    assert refused(wire.a)[1] > 0, "acknowledgements are protected too"
    assert not any(packet(i, 200)[8:40] in one for i in range(5) for one in wire.seen)
    assert min(len(one) for one in wire.seen) == 12 + 12 + 16 + 4, "an acknowledgement"


def test_sent_again_with_another_iv(wire: Wire) -> None:
    """The packet is made anew: who compares the two learns nothing (6.3)."""
    wire.a.write(b"to be lost once")
    first = wire.left.b.read()
    assert isinstance(first, bytes)
    again = -EAGAIN
    while again == -EAGAIN:
        lib.frcp_io_poll(wire.a.handle, lib.wait_now(), ffi.new("bool *"))
        again = wire.left.b.read()
    assert isinstance(again, bytes)
    assert len(again) == len(first)
    assert sum(x == y for x, y in zip(first, again, strict=True)) < len(first) // 2
    wire.right.a.write(again)
    assert wire.b.read() == b"to be lost once"
    wire.right.a.write(first)
    assert wire.b.read() == -EAGAIN, "it comes late, and is a duplicate"


def test_what_a_prototype_sends_again(wire: Wire) -> None:
    """A piece of the ciphertext, with a clear number in octets 8 to 11: dropped and counted (6.3)."""
    wire.a.write(b"some data")
    first = wire.left.b.read()
    assert isinstance(first, bytes)
    piece = first[12 : 12 + 12 + 9]
    wire.right.a.write(piece[:8] + b"\0\0\0\1" + piece[12:])
    wire.right.a.write((piece[:8] + b"\0\0\0\1" + piece[12:]).ljust(60, b"x"))
    assert wire.b.read() == -EAGAIN
    assert refused(wire.b) == (0, 1, 1)
    wire.right.a.write(first)
    assert wire.b.read() == b"some data"
