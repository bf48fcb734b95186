"""The objects of an IPCP's data plane exist as long as another refers to them, in any order of unmapping, removing and closing."""

from __future__ import annotations

import itertools
import socket
import threading
from collections.abc import Callable, Iterator
from errno import EAGAIN, EALREADY, EBADF, EINVAL, EPROTO, ESHUTDOWN

import pytest

from ipcpd.dataplane import Dt, Punt
from ipcpd.dataplane import Relay as IpcpRelay
from ipcpd.dataplane.broadcast import FanOut
from ipcpd.dataplane.eth import Eth, Framing, PacketNic
from ipcpd.dataplane.udp import Udp
from irmd.memory import Memory
from ouroboros.errors import OuroborosError
from ouroboros.qos import QOS_VOICE
from ouroboros.rpc.messages_pb2 import FlowEndpoint, Resource, SegmentGone
from tests.unit.dataplane.shm import End, Process, is_error, packet

from .relays import Relay, lib, read

CIPHER, KEY = 901, bytes(32)


def test_a_relay_has_one_thread() -> None:
    """A second one would not be joined, and would go on in the memory of the closed relay."""
    relay = IpcpRelay()
    relay.start()
    with pytest.raises(OSError) as raised:
        relay.start()
    assert raised.value.errno == EALREADY
    relay.close()


@pytest.fixture
def relay(memory: Memory) -> Iterator[Relay]:
    relay = Relay(memory)
    yield relay
    relay.close()


def unmap_all(relay: Relay, order: tuple[str, ...]) -> None:
    """The IRMd takes everything back, in this order, while ports still use it."""
    for what in order:
        if what == "segments":
            for segment in relay.segments.values():
                lib.segment_unmap(segment)
            relay.segments.clear()
        elif what == "peers":
            for peer in relay.peers.values():
                lib.events_unmap(peer)
            relay.peers.clear()
        elif what == "regions":
            for region in relay.regions.values():
                lib.relay_remove_region(relay.relay, region)
                lib.events_unmap(region)
            relay.regions.clear()
        else:
            for pool in relay.pools.values():
                lib.pool_unmap(pool)
            relay.pools.clear()


@pytest.mark.parametrize("order", list(itertools.permutations(("segments", "peers", "regions", "pools"))))
def test_nothing_is_unmapped_that_a_port_uses(memory: Memory, relay: Relay, order: tuple[str, ...]) -> None:
    """Packets are under way in both directions, and one port waits for room at another."""
    relay.start()
    a, b = relay.pair(Process(memory), Process(memory))
    while not is_error(a.writev([packet(1, 64)] * 32), EAGAIN):
        pass
    assert read(b) == packet(1, 64)
    unmap_all(relay, order)
    b.drain()
    while not is_error(a.write(packet(1, 64)), EAGAIN):
        pass
    b.drain()
    for fd in (64, 65):
        assert lib.relay_remove(relay.relay, fd) == 0


def test_a_port_that_sleeps_at_another_is_removed(memory: Memory, relay: Relay) -> None:
    """There is room again, but nobody has told the port that sleeps until there is: then it is removed."""
    a, b = relay.pair(Process(memory), Process(memory))
    now = 1_000_000_000
    while True:
        written = a.writev([packet(1, 64)] * 32)
        if is_error(written, EAGAIN) and lib.relay_step(relay.relay, now) == 0:
            break
        lib.relay_step(relay.relay, now)
    for _ in range(100):
        lib.relay_step(relay.relay, now)  # the port is not looked at any more
    assert b.drain()
    assert lib.relay_remove(relay.relay, 64) == 0
    assert lib.relay_remove(relay.relay, 65) == 0


def test_one_that_others_sleep_at_is_removed(memory: Memory, relay: Relay) -> None:
    a, _ = relay.pair(Process(memory), Process(memory))
    now = 1_000_000_000
    while not (is_error(a.writev([packet(1, 64)] * 32), EAGAIN) and lib.relay_step(relay.relay, now) == 0):
        lib.relay_step(relay.relay, now)
    for _ in range(100):
        lib.relay_step(relay.relay, now)
    assert lib.relay_remove(relay.relay, 65) == 0
    fd, end = relay.flow(Process(memory))
    assert lib.relay_pair(relay.relay, 64, fd) == 0
    lib.relay_step(relay.relay, now)
    assert end.drain()


# ---------------------------------------------------------------- the border


class Parts:
    """One of each class of the data plane, with sockets."""

    def __init__(self) -> None:
        self.sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(5)]
        fds = [one.fileno() for one in self.sockets]
        self.relay = IpcpRelay()
        self.punt = Punt(1 << 16)
        for component in (1, 2):
            self.punt.component(component, 1 << 12, lambda fd, data: None)
        self.relay.events(self.punt, 1)
        self.relay.start()
        self.dt = Dt(self.relay, self.punt, address=1, max_ttl=60, congestion=True)
        self.fan_out = FanOut(self.relay)
        self.eth = Eth(
            self.relay,
            self.punt,
            component=2,
            framing=Framing.DIX,
            ethertype=0xA000,
            nic=PacketNic(fds[0], (fds[1], fds[2], fds[3])),
        )
        self.udp = Udp(
            self.relay,
            self.punt,
            component=3,
            quota=1 << 12,
            socket=fds[4],
            max_packet=1400,
            on_management=lambda peer, data: None,
        )

    @property
    def all(self) -> dict[str, object]:
        return {
            "relay": self.relay,
            "punt": self.punt,
            "dt": self.dt,
            "fan_out": self.fan_out,
            "eth": self.eth,
            "udp": self.udp,
        }

    def calls(self) -> dict[str, list[Callable[[], object]]]:
        """Every method, with arguments that it takes."""
        relay, punt, dt, fan_out, eth, udp = (
            self.relay,
            self.punt,
            self.dt,
            self.fan_out,
            self.eth,
            self.udp,
        )
        mac, peer = b"\2\0\0\0\0\1", (b"\x7f\0\0\1", 3435, 0)
        return {
            "relay": [
                lambda: relay.add(FlowEndpoint(fd=64), []),
                lambda: relay.pair(64, 65),
                lambda: relay.punt(64, punt, 1),
                lambda: relay.events(punt, 1),
                lambda: relay.send(64, b"x"),
                lambda: relay.remove(64),
                lambda: relay.release(SegmentGone(segments=[1], events=[2], pools=[3])),
                lambda: relay.stats(64),
            ],
            "punt": [
                lambda: punt.component(4, 100, lambda fd, data: None),
                lambda: punt.push(1, 64, b"x"),
                punt.fileno,
                punt.dispatch,
                lambda: punt.counters(1),
            ],
            "dt": [
                lambda: dt.renumber(2),
                lambda: dt.lower(64),
                lambda: dt.down(64, True),
                lambda: dt.upper(64, eid=64, cube=0),
                lambda: dt.peer(64, peer_eid=64, peer_address=2),
                lambda: dt.table(0, 0, {5: [64]}),
                lambda: dt.send(5, eid=0, payload=b"x"),
                lambda: dt.congestion(64, 1),
                dt.counters,
                lambda: dt.flow_counters(64),
                lambda: dt.keepalives,
            ],
            "fan_out": [lambda: fan_out.add(64), fan_out.counters],
            "eth": [
                lambda: eth.device(mac, 1500),
                lambda: eth.open(64, 5, mac),
                lambda: eth.leave(64),
                lambda: eth.connect(64, 5, mac),
                eth.counters,
            ],
            "udp": [
                lambda: udp.open(64, 64, peer),
                lambda: udp.leave(5),
                lambda: udp.connect(64, 65),
                udp.counters,
                lambda: udp.flow_counters(64),
            ],
        }

    def close(self) -> None:
        for one in self.all.values():
            one.close()  # type: ignore[attr-defined]
        for one in self.sockets:
            one.close()


@pytest.fixture
def parts() -> Iterator[Parts]:
    parts = Parts()
    yield parts
    parts.close()


PARTS = ("relay", "punt", "dt", "fan_out", "eth", "udp")


WITHOUT_C = ("start", "attach", "run", "close", "defects")
"""Methods that can be called after the end, or are called before it."""


def test_the_list_of_methods_is_whole(parts: Parts) -> None:
    """A method that is added is tried too."""
    counts = {}
    for name, part in parts.all.items():
        methods = [one for one in vars(type(part)) if not one.startswith("_")]
        counts[name] = len([one for one in methods if one not in WITHOUT_C])
    assert counts == {name: len(calls) for name, calls in parts.calls().items()}


@pytest.mark.parametrize("name", PARTS)
def test_a_part_that_is_closed_says_so(parts: Parts, name: str) -> None:
    """Each of its methods; and the other parts go on without it, whichever was closed first."""
    parts.all[name].close()  # type: ignore[attr-defined]
    for other, calls in parts.calls().items():
        for call in calls:
            try:
                call()
            except OuroborosError as error:
                assert error.errno in (EBADF, EINVAL, EPROTO, ESHUTDOWN) or error.errno >= 1000, error
            else:
                assert other != name or call in (parts.punt.dispatch,) or name == "relay", (other, call)
    for call in parts.calls()[name]:
        try:
            call()
        except OuroborosError as error:
            assert error.errno in (ESHUTDOWN, EPROTO), error


@pytest.mark.parametrize("first", PARTS)
@pytest.mark.parametrize("second", PARTS)
def test_parts_are_closed_in_any_order(parts: Parts, first: str, second: str) -> None:
    for name in (first, second, *reversed(PARTS)):
        parts.all[name].close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", PARTS)
def test_threads_call_while_another_closes(name: str, parts: Parts) -> None:
    """No call gets what has been given back."""
    start = threading.Barrier(4)
    wrong: list[BaseException] = []

    def work() -> None:
        calls = [call for group in parts.calls().values() for call in group]
        start.wait()
        for _ in range(20):
            for call in calls:
                try:
                    call()
                except OuroborosError:
                    pass
                except BaseException as error:
                    wrong.append(error)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    start.wait()
    parts.all[name].close()  # type: ignore[attr-defined]
    parts.close()
    for thread in threads:
        thread.join()
    assert not wrong


def test_mac_addresses_and_cubes_are_checked(parts: Parts) -> None:
    for call in (
        lambda: parts.eth.device(b"\2\0", 1500),
        lambda: parts.eth.open(64, 5, b""),
        lambda: parts.eth.connect(64, 5, bytes(7)),
        lambda: parts.dt.table(3, 0, {5: [64]}),
        lambda: parts.dt.table(0, 0, {0: [64]}),
    ):
        with pytest.raises(OuroborosError):
            call()


# ---------------------------------------------------------------- what is refused leaves nothing


class Bench:
    """An IPCP's relay, and a process with which it is to have flow 64."""

    def __init__(self, memory: Memory) -> None:
        self.relay = IpcpRelay()
        self.process = Process(memory)
        self.own = memory.events()
        self.relay.resources.token = memory.token()
        self.flow = memory.flow(self.relay.resources.token, self.process.token, memory.system)
        self.flow.open(self.own, 64, self.process.events, 65)
        self.fds = [memory.system.fd, self.flow.segment_fd, *self.own.fds, *self.process.events.doorbell_fds]
        self.first = True

    def endpoint(self, memory: Memory) -> FlowEndpoint:
        flow = self.flow
        endpoint = FlowEndpoint(
            fd=64, index=flow.index, side=0, serial=flow.serial, peer_fd=65, qos=QOS_VOICE.to_proto()
        )
        endpoint.pool, endpoint.segment = memory.system.id, flow.segment_id
        endpoint.events, endpoint.peer_events = self.own.id, self.process.events.id
        if self.first:
            for kind, number in (
                (Resource.POOL, endpoint.pool),
                (Resource.SEGMENT, endpoint.segment),
                (Resource.EVENTS, endpoint.events),
                (Resource.EVENTS, endpoint.peer_events),
            ):
                endpoint.resources.add(kind=kind, id=number)
        return endpoint

    def add(self, endpoint: FlowEndpoint) -> None:
        fds, self.first = self.fds if self.first else [], False
        self.relay.add(endpoint, fds)

    def attach(self) -> End:
        return self.process.attach(self.flow, 1, 65, 64, self.own)

    def close(self) -> None:
        self.relay.close()
        self.flow.release()
        self.own.close()


WRONG: dict[str, Callable[[FlowEndpoint], None]] = {
    "availability": lambda endpoint: setattr(endpoint.qos, "availability", 256),
    "in_order": lambda endpoint: setattr(endpoint.qos, "in_order", 2**32 - 1),
    "pool": lambda endpoint: setattr(endpoint, "pool", 2**63),
    "segment": lambda endpoint: setattr(endpoint, "segment", 2**63),
    "events": lambda endpoint: setattr(endpoint, "events", 2**63),
    "index": lambda endpoint: setattr(endpoint, "index", 2**32 - 1),
    "side": lambda endpoint: setattr(endpoint, "side", 2),
    "fd": lambda endpoint: setattr(endpoint, "fd", 2**32 - 1),
    "fd below": lambda endpoint: setattr(endpoint, "fd", 63),
    "cipher": lambda endpoint: (setattr(endpoint, "cipher", 7), setattr(endpoint, "key", KEY))[0],  # type: ignore[func-returns-value]
    "key": lambda endpoint: (setattr(endpoint, "cipher", CIPHER), setattr(endpoint, "key", KEY[1:]))[0],  # type: ignore[func-returns-value]
    "max_packet": lambda endpoint: (setattr(endpoint, "check", True), setattr(endpoint, "max_packet", 1))[0],  # type: ignore[func-returns-value]
}


@pytest.mark.parametrize("wrong", WRONG)
def test_an_end_that_is_refused_leaves_no_port(memory: Memory, wrong: str) -> None:
    """The number, and the memory, can be used for the next flow."""
    bench = Bench(memory)
    endpoint = bench.endpoint(memory)
    WRONG[wrong](endpoint)
    with pytest.raises(OuroborosError):
        bench.add(endpoint)
    with pytest.raises(OuroborosError, match="no flow with descriptor 64"):
        bench.relay.stats(64)
    bench.add(bench.endpoint(memory))
    end = bench.attach()
    assert bench.relay.send(64, b"works")
    assert end.read() == b"works"
    end.detach()
    bench.close()


@pytest.mark.parametrize("count", [0, 1, 5, 7])
def test_descriptors_and_objects_agree(memory: Memory, count: int) -> None:
    bench = Bench(memory)
    endpoint = bench.endpoint(memory)
    with pytest.raises(OuroborosError, match="descriptors for 4 memory objects"):
        bench.relay.add(endpoint, (bench.fds * 2)[:count])
    bench.relay.add(endpoint, bench.fds)
    bench.close()


def test_an_object_that_cannot_be_mapped_keeps_no_other_from_it(memory: Memory) -> None:
    """They come only once: the next flow may need them."""
    bench = Bench(memory)
    endpoint = bench.endpoint(memory)
    fds = [bench.fds[1], *bench.fds[1:]]  # that is not a pool
    with pytest.raises(OuroborosError, match="cannot map pool"):
        bench.relay.add(endpoint, fds)
    del endpoint.resources[1:]
    bench.relay.add(endpoint, bench.fds[:1])
    bench.close()


def test_memory_that_is_given_up_goes_with_the_last_flow(memory: Memory) -> None:
    """SegmentGone overtakes the end of a flow."""
    bench = Bench(memory)
    bench.relay.start()
    endpoint = bench.endpoint(memory)
    bench.add(endpoint)
    end = bench.attach()
    bench.relay.release(
        SegmentGone(
            segments=[endpoint.segment],
            events=[endpoint.events, endpoint.peer_events],
            pools=[endpoint.pool],
        )
    )
    assert bench.relay.send(64, b"still there")
    assert read(end) == b"still there"
    bench.relay.remove(64)
    end.detach()
    bench.close()
