"""`Flow`'s packets without an IRMd: ends of the data plane under the library's objects (docs/reference/api.md)."""

from __future__ import annotations

import random
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from errno import EMSGSIZE
from typing import cast

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from irmd.memory import Memory
from ouroboros import buffers
from ouroboros.dataplane._dataplane import lib
from ouroboros.errors import FlowDownException, FlowException, FlowTimeout, FlowWouldBlock
from ouroboros.fccntl import FlowProperties
from ouroboros.flow import Flow, _Facts
from ouroboros.library import Library
from ouroboros.linger import Leaving
from ouroboros.rpc.messages_pb2 import FlowEndpoint
from tests.unit.dataplane.shm import PKT, End, Pair, Process, connect, packet


class Stub:
    """As much of `library.Library` as a flow needs."""

    def __init__(self, process: Process) -> None:
        self.process = process.process
        self.events = process.region
        self.flows: dict[int, Flow] = {}
        self.alive = False

    def leave(
        self, handle: object, fd: int, instance: int, *, stall_timeout: float, timeo: float | None = None
    ) -> Leaving:
        return Leaving(cast(Library, self), handle, fd, instance, stall_timeout=stall_timeout, timeo=timeo)

    def let_go(self, handle: object) -> None:
        lib.process_remove(self.process, handle)
        lib.flow_detach(handle)

    def release(self, fd: int, instance: int, quiet: int = 0) -> None:
        pass

    def explain(self, number: int, fd: int, handle: object) -> str:
        return f"flow {fd}: {number}"


def flow_of(end: End) -> Flow:
    """A flow object on an end; blocking, as after an allocation."""
    flow = Flow()
    flow._library = Stub(end.process)  # type: ignore[assignment]
    flow._handle, flow._fd, flow._info = end.handle, end.fd, _Facts(FlowEndpoint(fd=end.fd))
    end.flags(2)
    return flow


class Flows:
    """Both ends of a flow, as objects of the library."""

    def __init__(self) -> None:
        self.memory = Memory()
        self.pair: Pair = connect(self.memory, Process(self.memory), Process(self.memory))
        self.a, self.b = flow_of(self.pair.a), flow_of(self.pair.b)

    def close(self) -> None:
        for flow in (self.a, self.b):
            if flow.fd >= 0:
                flow.dealloc()
        self.pair.end()
        self.memory.close()


@pytest.fixture
def flows() -> Iterator[Flows]:
    flows = Flows()
    yield flows
    flows.close()


def test_parts_and_end_marks(flows: Flows) -> None:
    flows.a.writev([b"abcdefgh", b"next"])
    assert [flows.b.read(3), flows.b.read(3), flows.b.read(3), flows.b.read(9)] == [
        b"abc",
        b"def",
        b"gh",
        b"next",
    ]
    flows.a.write(b"abcd")
    assert [flows.b.read(4), flows.b.read(4)] == [b"abcd", b""]
    flows.a.writev([b"abcd", b"e"])
    assert flows.b.read(4) == b"abcd"
    assert flows.b.read(0) == b""
    assert flows.b.read(9) == b"e"


def test_marks_mean_nothing_to_whole_packets(flows: Flows) -> None:
    flows.a.writev([b"abcd", b"efgh", b"ijkl"])
    assert flows.b.read(4) == b"abcd"
    assert flows.b.recv() == b"efgh"
    assert flows.b.read(4) == b"ijkl"
    flows.b.blocking = False
    with pytest.raises(FlowWouldBlock):
        flows.b.readv()
    flows.b.blocking = True
    flows.a.write(b"x")
    assert flows.b.readv() == [b"x"]


def test_a_dropped_packet_says_how_long_it_was(flows: Flows) -> None:
    flows.b.flags = FlowProperties.ReadWrite | FlowProperties.NoPartialRead
    flows.a.writev([bytes(100), b"x"])
    with pytest.raises(FlowException, match="100 octets") as caught:
        flows.b.read(99)
    assert caught.value.errno == EMSGSIZE
    assert flows.b.read(99) == b"x"


def test_packets_larger_than_any_buffer(flows: Flows) -> None:
    largest = flows.a.max_packet
    assert largest < buffers.BURST_OCTETS
    for size in (1, 2048, 2049, largest):
        flows.a.write(packet(1, max(size, 8)))
        assert flows.b.read(1 << 22) == packet(1, max(size, 8))
    into = bytearray(largest)
    flows.a.write(bytes([7]) * largest)
    assert flows.b.read_into(into) == largest and into == bytes([7]) * largest
    assert flows.b.read(0) == b""


def test_what_waits_is_counted_wherever_it_is(flows: Flows) -> None:
    flows.a.writev([b"x"] * 100)
    assert flows.b.rx_queue_len == 100
    for left in range(99, -1, -1):
        assert flows.b.read() == b"x"
        assert flows.b.rx_queue_len == left
    assert flows.b._handle.readahead_pending == 0


def test_arguments_that_make_no_sense(flows: Flows) -> None:
    for call in (lambda: flows.b.read(-1), lambda: flows.b.readv(0), lambda: flows.b.readv(-3)):
        with pytest.raises(ValueError):
            call()
    flows.a.write(b"still there")
    with pytest.raises(ValueError):
        flows.b.read(-1)
    assert flows.b.read() == b"still there"
    with pytest.raises((TypeError, BufferError)):
        flows.b.read_into(b"not writable")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        flows.a.write("text")  # type: ignore[arg-type]
    assert flows.a.write(memoryview(b"abcdef")[::1], 3) == 3
    assert flows.b.read() == b"abc"


def test_a_burst_with_one_that_is_too_long(flows: Flows) -> None:
    assert flows.a.writev([b"one", bytes(flows.a.max_packet + 1), b"three"]) == 1
    assert flows.a.writev([bytes(9000), bytes(flows.a.max_packet + 1)]) == 1
    assert flows.b.readv() == [b"one", bytes(9000)]
    assert flows.a.writev([]) == 0


def test_a_timeout_is_that_of_its_call(flows: Flows) -> None:
    flows.b.rcv_timeout = 0
    with pytest.raises(FlowTimeout):
        flows.b.read()
    flows.b.rcv_timeout = 0.02
    with pytest.raises(FlowTimeout, match="0.02 s"):
        flows.b.recv()
    flows.b.rcv_timeout = None
    flows.a.write(b"x")
    assert flows.b.read() == b"x"


def test_a_flood_of_keep_alives_does_not_stop_a_timeout(flows: Flows) -> None:
    stop = threading.Event()
    flows.a.blocking = False

    def flood() -> None:
        while not stop.is_set():
            try:
                flows.a.writev([b""] * 30)
            except FlowWouldBlock:
                pass

    thread = threading.Thread(target=flood)
    thread.start()
    flows.b.rcv_timeout = 0.05
    for call in (flows.b.read, flows.b.readv, flows.b.recv):
        with pytest.raises(FlowTimeout):
            call()
    stop.set()
    thread.join()


def test_readers_that_mix_their_calls(flows: Flows) -> None:
    """Threads with every kind of read: each packet is read once, and sets know of what was taken ahead."""
    total = 8000
    got: list[list[int]] = [[] for _ in range(4)]

    def read(k: int, mine: list[int]) -> None:
        chance = random.Random(k)
        try:
            while True:
                kind = chance.randrange(3)
                if kind == 0:
                    packets = [flows.b.read()]
                elif kind == 1:
                    packets = [flows.b.recv()]
                else:
                    packets = flows.b.readv(chance.randrange(1, 50))
                mine += [int.from_bytes(data, "little") for data in packets]
        except FlowDownException:
            pass

    threads = [threading.Thread(target=read, args=(k, mine)) for k, mine in enumerate(got)]
    for thread in threads:
        thread.start()
    for i in range(0, total, 20):
        flows.a.writev([(i + k).to_bytes(4, "little") for k in range(20)])
    flows.pair.flow.close_side(0)
    for thread in threads:
        thread.join()
    assert sorted(i for mine in got for i in mine) == list(range(total))
    assert flows.b._handle.readahead_pending == 0


class Before(deque[bytes]):
    """What a read takes ahead comes in here; before it does, something else happens."""

    def __init__(self, action: Callable[[], None]) -> None:
        super().__init__()
        self.action = action

    def extend(self, packets: Iterable[bytes]) -> None:
        thread = threading.Thread(target=self.action)
        thread.start()
        thread.join()
        super().extend(packets)


def test_a_thread_that_finds_nothing_while_another_holds_packets(flows: Flows) -> None:
    """What one thread takes ahead is on its way from C into the flow: another reads what there is else, and looks for events."""
    members = flows.pair.b.process.set()
    lib.process_add(flows.pair.b.process.process, flows.pair.b.handle)
    assert members.add(flows.b.fd) == 0
    flows.b.blocking = False
    flows.a.writev([packet(i, 9) for i in range(40)])
    others: list[bytes] = []

    def meanwhile() -> None:
        front = flows.b._front
        flows.b._front = own  # the other thread extends its own only once
        others.extend(flows.b.read() for _ in range(8))
        members.take()
        flows.b._front = front

    own: deque[bytes] = deque()
    flows.b._front = Before(meanwhile)
    first = flows.b.read()
    assert members.take() == [(flows.b.fd, PKT)], "31 packets are there"
    rest = [flows.b.read() for _ in range(31)]
    assert sorted([first, *rest, *others]) == sorted(packet(i, 9) for i in range(40))
    assert members.take() == []
    members.close()
    lib.process_remove(flows.pair.b.process.process, flows.pair.b.handle)


def test_a_blocked_reader_gets_what_another_took_ahead(flows: Flows) -> None:
    """One thread takes many and goes on with something else; those that wait must not sleep beside the rest."""
    got: list[bytes] = []
    threads = [threading.Thread(target=lambda: got.append(flows.b.recv())) for _ in range(3)]
    for thread in threads:
        thread.start()
    flows.a.writev([packet(i, 9) for i in range(10)])
    for thread in threads:
        thread.join()
    assert len(set(got)) == 3
    assert len({*got, *flows.b.readv(10)}) == 10


def test_a_thread_that_took_packets_and_lost_them(flows: Flows) -> None:
    """An exception from a signal handler may strike between C and the flow. What was taken is lost; no event stays for ever."""
    members = flows.pair.b.process.set()
    lib.process_add(flows.pair.b.process.process, flows.pair.b.handle)
    assert members.add(flows.b.fd) == 0
    flows.a.writev([b"x"] * 10)
    assert isinstance(flows.pair.b.read_ahead(), list)
    assert members.take() == [(flows.b.fd, PKT)]
    flows.b.blocking = False
    with pytest.raises(FlowWouldBlock):
        flows.b.read()
    assert members.take() == []
    flows.b._handle.readahead_pending = 1  # the same, a moment later
    with pytest.raises(FlowWouldBlock):
        flows.b.readv()
    assert members.take() == []
    members.close()
    lib.process_remove(flows.pair.b.process.process, flows.pair.b.handle)


class Reading(RuleBasedStateMachine):
    """Every mix of reads against a model that says what is left of each packet, and where an end mark stands."""

    @initialize()
    def begin(self) -> None:
        self.flows = Flows()
        self.flows.b.blocking = False
        self.queue: deque[bytes] = deque()
        self.mark = False
        self.sent = 0

    @rule(sizes=st.lists(st.sampled_from([0, 1, 4, 5, 100, 5000]), min_size=1, max_size=50))
    def write(self, sizes: list[int]) -> None:
        burst = [bytes((self.sent + i + k) % 256 for k in range(size)) for i, size in enumerate(sizes)]
        self.sent += len(burst)
        if len(self.queue) < 900:
            assert self.flows.a.writev(burst) == len(burst)
            self.queue.extend(data for data in burst if data)

    @rule(count=st.sampled_from([0, 1, 4, 5, 99, 100, 2048]))
    def read(self, count: int) -> None:
        if self.mark or count == 0:
            self.mark = False
            assert self.flows.b.read(count) == b""
            return
        if not self.queue:
            with pytest.raises(FlowWouldBlock):
                self.flows.b.read(count)
            return
        first = self.queue.popleft()
        assert self.flows.b.read(count) == first[:count]
        if len(first) > count:
            self.queue.appendleft(first[count:])
        self.mark = len(first) == count

    @rule(count=st.sampled_from([1, 4, 100, 2048]))
    def read_into(self, count: int) -> None:
        into = bytearray(count)
        if self.mark:
            self.mark = False
            assert self.flows.b.read_into(into) == 0
            return
        if not self.queue:
            with pytest.raises(FlowWouldBlock):
                self.flows.b.read_into(into)
            return
        first = self.queue.popleft()
        n = self.flows.b.read_into(into)
        assert into[:n] == first[:count]
        if len(first) > count:
            self.queue.appendleft(first[count:])
        self.mark = len(first) == count

    @rule(count=st.integers(1, 40))
    def readv(self, count: int) -> None:
        self.mark = False
        if not self.queue:
            with pytest.raises(FlowWouldBlock):
                self.flows.b.readv(count)
            return
        got = self.flows.b.readv(count)
        assert 1 <= len(got) <= count
        assert got == [self.queue.popleft() for _ in got]

    @rule()
    def recv(self) -> None:
        self.mark = False
        if not self.queue:
            with pytest.raises(FlowWouldBlock):
                self.flows.b.recv()
            return
        assert self.flows.b.recv() == self.queue.popleft()

    @rule()
    def count(self) -> None:
        waiting = self.flows.b.rx_queue_len
        assert waiting >= len(self.queue), "empty ones may be among those in the ring"

    def teardown(self) -> None:
        if hasattr(self, "flows"):
            self.flows.close()


Reading.TestCase.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestReading = Reading.TestCase
