"""Lower flows of an IPCP that are encrypted or checked: packets forwarded, delivered, sent, copied and passed to Python."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ipcpd.dataplane._ipcp import ffi
from ipcpd.dataplane.relay import Relay as IpcpRelay
from irmd.memory import Events, FlowMemory, Memory
from ouroboros.dataplane import _dataplane
from ouroboros.rpc.messages_pb2 import FlowEndpoint, Resource
from tests.unit.dataplane.shm import End, Process, packet
from tests.unit.dataplane.test_seal import KEY

from .relays import lib
from .test_dt import EID, FAR, ME, Layer, dt_packet

PLAIN = (0, False)
KINDS = [(901, False), (1018, True), (0, True)]


@pytest.fixture
def layer(memory: Memory) -> Iterator[Layer]:
    layer = Layer(memory)
    yield layer
    layer.close()


def neighbour(layer: Layer, cipher: int, check: bool) -> tuple[int, End]:
    """A lower flow; the neighbour's end is protected too, and shows what it opens."""
    fd, end = layer.lower()
    protect(layer, fd, end, cipher, check)
    return fd, end


def protect(layer: Layer, fd: int, end: End, cipher: int, check: bool) -> None:
    if (cipher, check) == PLAIN:
        return
    most = int(end.handle.max_packet)
    key = KEY if cipher else ffi.NULL
    result = lib.relay_protect(layer.relay.relay, fd, cipher, key, check)
    own = _dataplane.ffi.NULL if not cipher else KEY
    assert _dataplane.lib.flow_protect(end.handle, cipher, own, check) == 0
    assert result == end.handle.max_packet < most


@pytest.mark.parametrize("left", [PLAIN, *KINDS])
@pytest.mark.parametrize("right", [PLAIN, *KINDS])
def test_forwarded(layer: Layer, left: tuple[int, bool], right: tuple[int, bool]) -> None:
    """From one neighbour to the next, each with a key of its own or none."""
    (_, one), (fd, other) = neighbour(layer, *left), neighbour(layer, *right)
    layer.routes({FAR: (fd,)})
    for size in (0, 1, 200, 224, 240, 1400, 9000):
        one.write(dt_packet(FAR, bytes(i % 251 for i in range(size)), ttl=60))
        layer.step()
        assert other.drain() == [dt_packet(FAR, bytes(i % 251 for i in range(size)), ttl=59)]
    assert layer.counters.forwarded == 7


@pytest.mark.parametrize("kind", KINDS)
def test_delivered_and_sent(layer: Layer, kind: tuple[int, bool]) -> None:
    """Flows of the layer do not see what protects the packets below them."""
    (low, wire), (fd, user) = neighbour(layer, *kind), layer.upper()
    layer.routes({FAR: (low,)})
    wire.writev([dt_packet(ME, packet(i, 100), eid=EID | fd) for i in range(100)])
    layer.step(2)
    assert user.drain() == [packet(i, 100) for i in range(100)]
    user.writev([packet(i, 50 + 10 * i) for i in range(100)])
    layer.step(2)
    assert wire.drain() == [dt_packet(FAR, packet(i, 50 + 10 * i), eid=EID | 77) for i in range(100)]


@pytest.mark.parametrize("kind", KINDS)
def test_of_another_trust_domain(layer: Layer, memory: Memory, kind: tuple[int, bool]) -> None:
    """Copied across, and protected in the copy."""
    user = Process(memory, memory.pool(1000, trusted=False))
    (low, wire), (fd, end) = neighbour(layer, *kind), layer.upper(user=user)
    layer.routes({FAR: (low,)})
    end.write(b"out")
    wire.write(dt_packet(ME, b"in", eid=EID | fd))
    layer.step()
    assert wire.drain() == [dt_packet(FAR, b"out", eid=EID | 77)]
    assert end.drain() == [b"in"]


@pytest.mark.parametrize("kind", KINDS)
def test_for_and_from_components(layer: Layer, kind: tuple[int, bool]) -> None:
    low, wire = neighbour(layer, *kind)
    layer.routes({FAR: (low,)})
    wire.write(dt_packet(ME, b"to the flow allocator", eid=0))
    layer.step()
    assert layer.punted == [(0, low, b"to the flow allocator")]
    assert layer.dt.send(FAR, cube=0, eid=1, payload=b"from the directory")
    layer.step()
    assert [one[15:] for one in wire.drain()] == [b"from the directory"]


def test_what_cannot_be_opened(layer: Layer) -> None:
    """It is dropped and counted at that flow; those behind it are delivered, and no other flow notices."""
    (low, wire), (_, other), (fd, user) = neighbour(layer, 901, True), layer.lower(), layer.upper()
    _dataplane.lib.seal_fini(wire.handle.end.seal)
    wire.handle.end.seal = _dataplane.ffi.NULL  # from now on the neighbour says what it likes
    for i in range(50):
        wire.write(packet(i, 8 + i))
    wire.write(b"")
    other.write(dt_packet(ME, b"plain", eid=EID | fd))
    layer.step(2)
    assert user.drain() == [b"plain"]
    assert layer.relay.stats(low)["refused"] == 50
    assert layer.counters.malformed == 0
    assert layer.dt.keepalives == 1


def test_longer_than_it_may_be(layer: Layer) -> None:
    low, wire = layer.lower()
    most = int(wire.handle.max_packet)
    protect(layer, low, wire, 901, True)
    layer.routes({FAR: (low,)})
    (_, near), header = layer.lower(), len(dt_packet(FAR))
    near.write(dt_packet(FAR, bytes(most - 32 - header)))
    layer.step()
    assert len(wire.drain()) == 1
    near.write(dt_packet(FAR, bytes(most - 31 - header)))
    layer.step()
    assert wire.drain() == []
    assert layer.counters.no_room == 1
    assert layer.relay.stats(low)["dropped"] == 1


def test_what_is_not_possible(layer: Layer) -> None:
    """There is no flow then, rather than one in the clear."""
    fd, _ = layer.lower()
    assert lib.relay_protect(layer.relay.relay, fd, 7, KEY, False) < 0
    assert lib.relay_protect(layer.relay.relay, 9999, 901, KEY, False) < 0
    assert lib.relay_protect(layer.relay.relay, fd, 901, KEY, True) > 0


def test_an_endpoint_that_cannot_be_protected_is_left(memory: Memory) -> None:
    """The shell's part: the IRMd described a flow with a cipher that there is not; then one that there is."""
    relay, process, own = IpcpRelay(), Process(memory), memory.events()
    relay.resources.token = memory.token()
    flow = memory.flow(relay.resources.token, process.token, memory.system)
    flow.open(own, 64, process.events, 65)
    endpoint = FlowEndpoint(
        fd=64, index=flow.index, side=0, serial=flow.serial, peer_fd=65, cipher=7, key=KEY
    )
    endpoint.pool, endpoint.segment = memory.system.id, flow.segment_id
    endpoint.events, endpoint.peer_events = own.id, process.events.id
    fds = [memory.system.fd, flow.segment_fd, *own.fds, *process.events.doorbell_fds]
    for kind, number in (
        (Resource.POOL, endpoint.pool),
        (Resource.SEGMENT, endpoint.segment),
        (Resource.EVENTS, endpoint.events),
        (Resource.EVENTS, endpoint.peer_events),
    ):
        endpoint.resources.add(kind=kind, id=number)
    with pytest.raises(OSError, match="cannot protect the packets"):
        relay.add(endpoint, fds)
    with pytest.raises(OSError, match="no flow with descriptor 64"):
        relay.stats(64)
    del endpoint.resources[:]
    endpoint.cipher, endpoint.check, endpoint.max_packet = 901, True, 1500
    relay.add(endpoint, [])
    assert endpoint.max_packet == 1500 - 32
    end = protected_end(process, flow, own)
    assert relay.send(64, b"hello")
    assert end.read() == b"hello"
    relay.remove(64)
    end.detach()
    flow.release()
    relay.close()
    own.close()


def protected_end(process: Process, flow: FlowMemory, peer: Events) -> End:
    end = process.attach(flow, 1, 65, 64, peer)
    assert _dataplane.lib.flow_protect(end.handle, 901, KEY, True) == 0
    return end


def test_copies_for_many(memory: Memory) -> None:
    """Broadcast: the same packet, encrypted for one member, checked for the next, as it is for the third."""
    layer = Layer(memory)
    broadcast = lib.broadcast_create(layer.relay.relay)
    ends = []
    for kind in (PLAIN, *KINDS, (904, True)):
        fd, end = layer.relay.flow(Process(memory))
        protect(layer, fd, end, *kind)
        assert lib.broadcast_add(broadcast, fd) == 0
        ends.append(end)
    for speaker in ends:
        speaker.write(packet(1, 700))
        layer.step(2)
        for end in ends:
            assert end.drain() == ([] if end is speaker else [packet(1, 700)])
    layer.close()
    lib.broadcast_destroy(broadcast)
