"""Data transfer in C: forwarding, delivery, drops and their counters, and that no flow waits for another."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from contextlib import nullcontext
from errno import EAGAIN, EHOSTUNREACH, EINVAL

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipcpd.dataplane.dt import FLOW_ALLOCATOR, Dt, DtCounters
from ipcpd.dataplane.punt import Punt
from ipcpd.unicast.pff.table import Function, Table
from ipcpd.wire import dt as wire
from irmd.memory import Memory
from tests.unit.dataplane.shm import SLOTS, End, Process, close_all, free, is_error, packet, total

from .relays import CONFIG, Relay, lib

ME, NEAR, FAR = 0x01020304, 0x0A0B0C0D, 0x7F000001
EID = 0xA78BAB3D << 32


class Handle:
    """What `Dt` wants of a relay."""

    def __init__(self, relay: Relay) -> None:
        self.handle = nullcontext(relay.relay)


class Layer:
    """A unicast IPCP's data plane, stepped by hand: neighbours, users, components."""

    def __init__(self, memory: Memory, *, congestion: bool = False) -> None:
        self.memory = memory
        self.relay = Relay(memory)
        self.punt = Punt()
        self.punted: list[tuple[int, int, bytes]] = []
        for component in (0, 1, 2, 3, 4):
            self.punt.component(component, 1 << 16, self._handler(component))
        self.dt = Dt(Handle(self.relay), self.punt, address=ME, max_ttl=60, congestion=congestion)  # type: ignore[arg-type]
        self.now = 1_000_000_000

    def _handler(self, component: int):  # type: ignore[no-untyped-def]
        return lambda fd, data: self.punted.append((component, fd, data))

    def lower(self) -> tuple[int, End]:
        fd, end = self.relay.flow(Process(self.memory))
        self.dt.lower(fd)
        return fd, end

    def upper(self, *, peer: int = FAR, cube: int = 0, user: Process | None = None) -> tuple[int, End]:
        fd, end = self.relay.flow(user or Process(self.memory))
        lib.relay_cube(self.relay.relay, fd, cube)
        self.dt.upper(fd, eid=EID | fd, cube=cube, peer_eid=EID | 77, peer_address=peer)
        return fd, end

    def routes(self, entries: dict[int, tuple[int, ...]], function: Function = Function.SIMPLE) -> None:
        for cube in range(3):
            self.dt.table(cube, function, entries)

    def step(self, times: int = 1) -> int:
        moved = sum(lib.relay_step(self.relay.relay, self.now) for _ in range(times))
        self.punt.dispatch()
        return moved

    @property
    def counters(self) -> DtCounters:
        return DtCounters(*(sum(values) for values in zip(*self.dt.counters(), strict=True)))

    def close(self) -> None:
        self.relay.close()
        self.dt.close()
        self.punt.close()


@pytest.fixture
def layer(memory: Memory) -> Iterator[Layer]:
    layer = Layer(memory)
    yield layer
    layer.close()


def dt_packet(
    dst: int, payload: bytes = b"", *, cube: int = 0, ttl: int = 60, ecn: int = 0, eid: int = 0
) -> bytes:
    return struct.pack("<IBBBQ", dst, cube, ttl, ecn, eid) + payload


def test_a_packet_for_another_is_forwarded_with_one_hop_taken_off(layer: Layer) -> None:
    (_, left), (right_fd, right) = layer.lower(), layer.lower()
    layer.routes({FAR: (right_fd,)})
    left.write(dt_packet(FAR, b"payload", cube=1, ttl=60, eid=5 << 40))
    assert layer.step() == 1
    assert right.drain() == [dt_packet(FAR, b"payload", cube=1, ttl=59, eid=5 << 40)]
    assert (
        layer.dt.counters()[1]._asdict() | {"received": 1, "forwarded": 1} == layer.dt.counters()[1]._asdict()
    )


@pytest.mark.parametrize(("ttl", "far", "me"), [(0, False, False), (1, False, True), (2, True, True)])
def test_a_ttl_that_runs_out(layer: Layer, ttl: int, far: bool, me: bool) -> None:
    (_, left), (right_fd, right), (fd, user) = layer.lower(), layer.lower(), layer.upper()
    layer.routes({FAR: (right_fd,)})
    left.write(dt_packet(FAR, ttl=ttl))
    left.write(dt_packet(ME, b"x", ttl=ttl, eid=EID | fd))
    layer.step()
    assert bool(right.drain()) == far
    assert user.drain() == [b"x"] * me
    assert layer.counters.expired == 2 - far - me


def test_a_packet_for_a_flow_is_delivered_bare(layer: Layer) -> None:
    (_, left), (fd, user) = layer.lower(), layer.upper()
    left.writev([dt_packet(ME, bytes([i]) * i, eid=EID | fd) for i in range(1, 101)])
    layer.step(3)
    assert user.drain() == [bytes([i]) * i for i in range(1, 101)]
    assert layer.counters.delivered == 100
    assert layer.dt.flow_counters(fd).received == 100


def test_a_flow_is_sent_with_a_header(layer: Layer) -> None:
    (right_fd, right), (_, user) = layer.lower(), layer.upper(cube=2)
    layer.routes({FAR: (right_fd,)})
    user.write(b"hello")
    layer.step()
    assert right.drain() == [dt_packet(FAR, b"hello", cube=2, ttl=60, eid=EID | 77)]
    assert layer.dt.counters()[2].sent == 1


def test_between_trust_domains_packets_are_copied(memory: Memory, layer: Layer) -> None:
    stranger = Process(memory, memory.pool(65534, trusted=False))
    (right_fd, right), (fd, user) = layer.lower(), layer.upper(user=stranger)
    layer.routes({FAR: (right_fd,)})
    user.write(b"out")
    right.write(dt_packet(ME, b"in", eid=EID | fd))
    layer.step(2)
    assert right.drain() == [dt_packet(FAR, b"out", eid=EID | 77)]
    assert user.drain() == [b"in"]


@pytest.mark.parametrize("eid", [1 << 63, EID | 64 | 1 << 40, 2, 3, 4, 15, 63, (1 << 64) - 1, 64])
def test_endpoints_that_are_not_there(layer: Layer, eid: int) -> None:
    """Above all the numbers that components inside the IPCP have."""
    (_, left), _ = layer.lower(), layer.upper()
    left.write(dt_packet(ME, b"x", eid=eid))
    layer.step()
    assert layer.counters.unknown == 1
    assert layer.punted == []


def test_components_get_their_packets_and_a_flood_is_bounded(layer: Layer) -> None:
    fd, left = layer.lower()
    left.write(dt_packet(ME, b"for the flow allocator"))
    left.write(dt_packet(ME, b"for the directory", eid=1))
    layer.step()
    assert layer.punted == [(0, fd, b"for the flow allocator"), (1, fd, b"for the directory")]
    left.writev([dt_packet(ME, bytes(1000))] * 100)
    layer.step(3)
    assert len(layer.punted) < 100
    assert layer.counters.no_room + layer.counters.punted == 102


def test_what_is_malformed_is_counted_and_an_empty_packet_is_a_sign_of_life(layer: Layer) -> None:
    _, left = layer.lower()
    for length in range(15):
        left.write(bytes(length))
    layer.step()
    assert layer.counters.malformed == 14
    assert layer.dt.keepalives == 1


@given(data=st.lists(st.binary(max_size=60), max_size=40))
def test_no_octets_disturb_a_flow(data: list[bytes]) -> None:
    memory = Memory(CONFIG)
    layer = Layer(memory)
    (_, left), (fd, user), (_, other) = layer.lower(), layer.upper(), layer.lower()
    layer.routes({FAR: (fd + 1,)})
    for octets in data:
        left.write(octets)
        left.write(dt_packet(ME)[:4] + octets)
        left.write(dt_packet(ME, b"good", eid=EID | fd))
    layer.step(5)
    assert user.drain() == [b"good"] * len(data)
    other.drain()
    counters = layer.counters
    taken = sum(counters) - counters.received - counters.sent + layer.dt.keepalives
    assert taken == 3 * len(data), "every packet is in one counter"
    layer.close()
    assert all(free(pool) == total(pool) for pool in memory.pools.values())
    close_all()
    memory.close()


# ---------------------------------------------------------------- tables


def test_no_route(layer: Layer) -> None:
    (_, left), (fd, user) = layer.lower(), layer.upper()
    left.write(dt_packet(FAR))
    user.write(b"x")
    layer.step()
    assert layer.counters.no_route == 2
    assert layer.dt.flow_counters(fd).no_route == 1
    assert layer.dt.send(FAR, eid=0, payload=b"") is False
    with pytest.raises(OSError, match="our own") as refusal:
        layer.dt.send(ME, eid=0, payload=b"")
    assert refusal.value.errno == EINVAL


def test_a_packet_of_a_component(layer: Layer) -> None:
    fd, right = layer.lower()
    layer.routes({FAR: (fd,)})
    assert layer.dt.send(FAR, eid=FLOW_ALLOCATOR, payload=b"request", cube=1)
    assert right.drain() == [dt_packet(FAR, b"request", cube=1)]


@pytest.mark.parametrize("function", list(Function))
def test_lookups_are_those_of_the_model(memory: Memory, layer: Layer, function: Function) -> None:
    rng = random.Random(7)
    lowers = dict(layer.lower() for _ in range(5))
    _, source = layer.lower()
    fds = list(lowers)
    entries = {
        rng.randrange(1, 1 << 32): tuple(
            rng.sample(fds, 1 if function is Function.SIMPLE else rng.randint(1, 5))
        )
        for _ in range(3000)
    }
    table, down, turns = Table(function, entries), set(rng.sample(fds, 2)), dict[tuple[int, ...], int]()
    layer.routes(entries, function)
    for fd in down:
        layer.dt.down(fd, True)
    for destination in rng.sample(list(entries), 300):
        hops = entries[destination]
        turn = turns[hops] = turns.get(hops, -1) + 1
        source.write(dt_packet(destination))
        layer.step()
        got = [fd for fd, end in lowers.items() if end.drain()]
        expected = table.next_hop(destination, down=down, turn=turn)
        if function is Function.MULTIPATH:
            assert set(got) <= set(hops) - down
            assert bool(got) == (expected is not None)
        elif expected in down:
            assert got == []
        else:
            assert got == ([] if expected is None else [expected])


def test_multipath_takes_each_in_turn(layer: Layer) -> None:
    lowers = dict(layer.lower() for _ in range(3))
    _, source = layer.lower()
    layer.routes({FAR: tuple(lowers)}, Function.MULTIPATH)
    source.writev([dt_packet(FAR)] * 30)
    layer.step()
    assert [len(end.drain()) for end in lowers.values()] == [10, 10, 10]


def test_an_alternate_takes_over_at_once_and_gives_back(layer: Layer) -> None:
    (one_fd, one), (two_fd, two), (_, user) = layer.lower(), layer.lower(), layer.upper()
    layer.routes({FAR: (one_fd, two_fd)}, Function.ALTERNATE)
    for down, end in ((False, one), (True, two), (False, one)):
        layer.dt.down(one_fd, down)
        user.write(b"x")
        layer.step()
        assert len(end.drain()) == 1
    layer.relay.remove(one_fd)
    user.write(b"x")
    layer.step()
    assert len(two.drain()) == 1, "one that is gone is not usable either"


def test_a_large_table_is_replaced_under_traffic(memory: Memory, layer: Layer) -> None:
    (one_fd, one), (two_fd, two), (_, source) = layer.lower(), layer.lower(), layer.lower()
    addresses = random.Random(3).sample(range(1, 1 << 32), 65536)
    tables = [dict.fromkeys(addresses, (fd,)) for fd in (one_fd, two_fd)]
    layer.dt.table(0, Function.SIMPLE, tables[0])
    layer.relay.start()
    for i in range(20):
        for address in addresses[i * 100 : i * 100 + 100]:
            assert source.write(dt_packet(address)) > 0
        layer.dt.table(0, Function.SIMPLE, tables[(i + 1) % 2])
        got = 0
        while got < 100:
            got += len(one.drain()) + len(two.drain())
    assert layer.counters.forwarded == 2000


@pytest.mark.parametrize(
    "entries",
    [{0: (64,)}, {1: ()}, {1: (63,)}, {1: (64 + 16384,)}],
    ids=["address 0", "no hop", "fd 63", "fd too large"],
)
def test_tables_that_make_no_sense(layer: Layer, entries: dict[int, tuple[int, ...]]) -> None:
    with pytest.raises(OSError, match="makes no sense"):
        layer.dt.table(0, Function.SIMPLE, entries)


# ---------------------------------------------------------------- who waits, and who does not


def test_a_slow_reader_delays_nobody(layer: Layer) -> None:
    (_, left), (slow_fd, slow), (fast_fd, fast) = layer.lower(), layer.upper(), layer.upper()
    got = 0
    for i in range(4):
        for fd, count in ((slow_fd, 500), (fast_fd, 400)):
            for _ in range(count):
                assert left.write(dt_packet(ME, packet(i, 64), eid=EID | fd)) > 0
        layer.step(20)
        got += len(fast.drain())
    assert got == 1600
    assert len(slow.drain()) == SLOTS
    assert layer.dt.flow_counters(slow_fd).dropped == 2000 - SLOTS


def test_a_sender_waits_for_the_lower_flow_and_loses_nothing(layer: Layer) -> None:
    (right_fd, right), (_, user) = layer.lower(), layer.upper()
    layer.routes({FAR: (right_fd,)})
    sent = got = 0
    while got < 5000:
        while sent < 5000 and not is_error(user.write(packet(sent, 32)), EAGAIN):
            sent += 1
        layer.step(10)
        layer.step(200)  # it stops looking, and is told of room
        for data in right.drain():
            assert wire.decode(data).payload == packet(got, 32)
            got += 1
    assert layer.counters.no_room == 0


def test_a_queue_that_was_full_and_is_read_takes_packets_again(layer: Layer) -> None:
    (right_fd, right), (_, left) = layer.lower(), layer.lower()
    layer.routes({FAR: (right_fd,)})
    left.writev([dt_packet(FAR, b"bulk", eid=EID)] * 900)
    layer.step(50)
    assert layer.counters.no_room > 0
    right.drain()
    left.write(dt_packet(FAR, b"one", eid=EID))  # what was seen last of the queue is that it was full
    layer.step(2)
    assert [wire.decode(data).payload for data in right.drain()] == [b"one"]


def test_bulk_leaves_room_for_components(layer: Layer) -> None:
    (right_fd, right), (_, left) = layer.lower(), layer.lower()
    layer.routes({FAR: (right_fd,)})
    left.writev([dt_packet(FAR, b"bulk", eid=EID)] * 900)
    left.write(dt_packet(FAR, b"request"))
    layer.step(50)
    assert wire.decode(right.drain()[-1]).payload == b"request"


def test_bulk_leaves_room_for_voice(layer: Layer) -> None:
    (right_fd, right), (_, bulk), (_, voice), (_, left) = (
        layer.lower(),
        layer.upper(),
        layer.upper(cube=2),
        layer.lower(),
    )
    layer.routes({FAR: (right_fd,)})
    for _ in range(4):
        while not is_error(bulk.write(b"bulk"), EAGAIN):
            pass
        left.writev([dt_packet(FAR, b"by the way")] * 900)
        layer.step(50)
    voice.write(b"voice")
    left.write(dt_packet(FAR, b"voice", cube=2))
    layer.step(2)
    got = [wire.decode(data).payload for data in right.drain()]
    assert got.count(b"voice") == 2
    assert len(got) < SLOTS
    assert layer.counters.no_room > 0


def test_a_queue_is_short_in_time_however_slow_its_reader(layer: Layer) -> None:
    (right_fd, right), (_, user) = layer.lower(), layer.upper()
    layer.routes({FAR: (right_fd,)})

    def queue(milliseconds: int, packets: int) -> int:
        """What is queued after a time in which the reader took so many packets a millisecond."""
        for _ in range(milliseconds):
            while not is_error(user.write(b"bulk"), EAGAIN):
                pass
            layer.step(3)
            layer.now += 1_000_000
            right.readv(packets)
        return right.queues()[0]

    assert 30 <= queue(300, 9) <= 60, "5 ms"
    assert queue(300, 2) <= 12
    assert queue(300, 200) > 100, "who becomes fast is kept busy"


def test_voice_is_served_before_bulk_of_the_same_turn(layer: Layer) -> None:
    (right_fd, right), *bulk = layer.lower(), *(layer.upper()[1] for _ in range(2))
    _, voice = layer.upper(cube=2)
    layer.routes({FAR: (right_fd,)})
    for end in bulk:
        end.writev([b"bulk"] * 50)
    voice.write(b"voice")
    layer.step()
    assert [wire.decode(data).payload for data in right.drain()].index(b"voice") == 0


# ---------------------------------------------------------------- congestion


def test_marks_of_the_queue_are_added_and_reported(memory: Memory) -> None:
    layer = Layer(memory, congestion=True)
    (right_fd, right), (_, left), (fd, user) = layer.lower(), layer.lower(), layer.upper()
    layer.routes({FAR: (right_fd,)})
    for _ in range(4):
        for _ in range(64):
            left.write(dt_packet(FAR, ecn=1))
        layer.step()
        layer.now += 1_000_000
    assert [wire.decode(data).ecn for data in right.drain()][-1] == 1 | 64 >> 4, (
        "what stood for a millisecond"
    )
    left.write(dt_packet(FAR, ecn=1))
    layer.step()
    assert [wire.decode(data).ecn for data in right.drain()] == [1 | 128 >> 4], "until it is seen to be gone"
    layer.now += 1_000_000
    for _ in range(2):
        left.write(dt_packet(FAR))
        layer.step()
        layer.now += 1_000_000
    assert [wire.decode(data).ecn for data in right.drain()][-1] == 0
    left.write(dt_packet(ME, b"x", eid=EID | fd, ecn=4))
    layer.step()
    assert user.drain() == [b"x"]
    assert layer.punted == [(4, fd, (4).to_bytes(2, "little"))]
    assert layer.dt.congestion(fd, 9)
    assert not layer.dt.congestion(fd + 1, 9)
    assert layer.dt.flow_counters(fd).level == 9
    layer.close()


def test_a_reader_that_is_slow_is_told_to_the_sender_as_congestion(memory: Memory) -> None:
    layer = Layer(memory, congestion=True)
    (_, left), (fd, user), (other, _) = layer.lower(), layer.upper(), layer.upper()
    for _ in range(4):
        for _ in range(64):
            left.write(dt_packet(ME, b"x", eid=EID | fd))
        left.write(dt_packet(ME, b"x", eid=EID | other))
        layer.step()
        layer.now += 1_000_000
    assert layer.punted[0] == (4, fd, (64 >> 4).to_bytes(2, "little")), "what stood for a millisecond"
    assert {flow for _, flow, _ in layer.punted} == {fd}, "the queue of the other flow is short"
    user.drain()
    for _ in range(10):
        layer.now += 1_000_000
        left.write(dt_packet(ME, b"x", eid=EID | fd))
        layer.step()
    assert layer.punted[-1] == (4, fd, bytes(2))
    layer.close()


def test_a_flow_that_is_throttled_waits_and_another_does_not(memory: Memory) -> None:
    layer = Layer(memory, congestion=True)
    (right_fd, right), (_, busy), (_, calm) = layer.lower(), layer.upper(), layer.upper()
    layer.routes({FAR: (right_fd,)})
    busy.writev([bytes(1500)] * 200)
    layer.step(5)
    first = len(right.drain())
    assert 0 < first < 200, "a slot takes 64 KiB"
    calm.write(b"calm")
    layer.step(2)
    assert [wire.decode(data).payload for data in right.drain()] == [b"calm"]
    layer.now += 1 << 25
    layer.step(5)
    assert len(right.drain()) > 0
    layer.close()


def test_a_flow_that_is_throttled_goes_on_by_itself(memory: Memory) -> None:
    """Nothing else wakes the thread."""
    layer = Layer(memory, congestion=True)
    (right_fd, right), (_, user) = layer.lower(), layer.upper()
    layer.routes({FAR: (right_fd,)})
    layer.relay.start()
    wrote = got = 0
    while got < 500:
        while wrote < 500 and not is_error(user.write(bytes(1400)), EAGAIN):
            wrote += 1
        right.sleep()
        got += len(right.drain())
    layer.close()


def test_errors_of_the_control_plane(layer: Layer) -> None:
    with layer.dt.handle as dt:
        assert lib.dt_send(dt, FAR, 0, 0, b"", 0) == -EHOSTUNREACH
    with pytest.raises(OSError, match="no flow with descriptor 99"):
        layer.dt.lower(99)
    with pytest.raises(OSError, match="no flow with descriptor 99"):
        layer.dt.upper(99, eid=EID | 99, cube=0)
    fd, _ = layer.relay.flow(Process(layer.memory))
    with pytest.raises(OSError, match="can be used so"):
        layer.dt.upper(fd, eid=EID | fd + 1, cube=0)
