"""The shell of the UDP IPCPs: its socket, relay and IRMd are played, and time passes when nothing else happens."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ipcpd.common.end import End
from ipcpd.link import link
from ipcpd.udp import port, udp
from ipcpd.udp.address import Address
from ipcpd.udp.hosts import VARIABLE
from ipcpd.udp.udp import ROOM, Udp4Ipcp, Udp6Ipcp
from ipcpd.wire import udp as wire
from ipcpd.wire.udp import HASH_LENGTH
from ouroboros.errors import EIPCP, ENAME, ENOTALLOC
from ouroboros.facts import DATAGRAMS
from ouroboros.qos import QOS_VOICE
from ouroboros.rpc.messages_pb2 import (
    MD5,
    Envelope,
    FlowEndpoint,
    IpcpConfig,
    IpcpFlowAlloc,
    IpcpFlowAllocResp,
)
from ouroboros.rpc.service import Refusal
from tests.unit.ipcpd.world import VirtualLoop, virtual_loop

NAME = hashlib.md5(b"oping").digest()
OWN, HOST, SECOND = (Address.of(f"10.0.0.{n}", 3435) for n in (1, 2, 3))


class FakeSocket:
    """What was sent; `errors` are raised by the next calls."""

    def __init__(self) -> None:
        self._pair = socket.socketpair()
        self.sent: list[tuple[Any, Any]] = []
        self.errors: list[OSError] = []
        self.closed = False

    def fileno(self) -> int:
        return self._pair[0].fileno()

    def sendto(self, datagram: bytes, to: tuple[str, int]) -> None:
        if self.errors:
            raise self.errors.pop(0)
        self.sent.append((wire.decode(datagram), Address.of(*to)))

    def close(self) -> None:
        self.closed = True
        for one in self._pair:
            one.close()


class FakeRelay:
    def __init__(self) -> None:
        self.ends: set[int] = set()

    def add(self, endpoint: FlowEndpoint, fds: list[int]) -> None:
        assert endpoint.fd not in self.ends
        self.ends.add(endpoint.fd)

    def remove(self, fd: int) -> None:
        self.ends.remove(fd)

    def close(self) -> None:
        pass


class FakePunt:
    defects = 0

    def __init__(self, octets: int) -> None:
        self._pair = socket.socketpair()

    def run(self, loop: asyncio.AbstractEventLoop) -> None:
        pass

    def component(self, number: int, quota: int, handler: object) -> None:
        pass

    def fileno(self) -> int:
        return self._pair[0].fileno()

    def close(self) -> None:
        for one in self._pair:
            one.close()


class FakePaths:
    """The neighbours whose paths are measured."""

    def __init__(self) -> None:
        self.measured: list[bytes] = []

    def measure(self, peer: bytes) -> int:
        self.measured.append(peer)
        return len(self.measured)

    def set(self, *pace: float) -> bool:
        return True

    def states(self, most: int) -> list[object]:
        return []


class FakeUdp:
    """Endpoints that are open, and where they lead."""

    def __init__(self, relay: FakeRelay, punt: FakePunt, **how: Any) -> None:
        self.relay = relay
        self.how = how
        self.peers: dict[int, tuple[int, Address]] = {}
        self.connected: dict[int, int] = {}
        self.paths = FakePaths()

    def open(self, eid: int, fd: int, peer: Address) -> None:
        assert fd in self.relay.ends
        self.peers[fd] = (eid, peer)

    def connect(self, eid: int, peer_eid: int) -> None:
        self.connected[eid] = peer_eid

    def counters(self) -> dict[str, int]:
        return {fact.name: 1 for fact in DATAGRAMS.facts if fact.name != "unsent"}

    def close(self) -> None:
        pass


class FakeSession:
    """What the IPCP has said to the IRMd."""

    def __init__(self) -> None:
        self.sent: list[Envelope] = []
        self.announced: list[tuple[Envelope, Callable[..., None]]] = []

    def send(self, envelope: Envelope) -> None:
        self.sent.append(envelope)

    def request(self, envelope: Envelope, answered: Callable[..., None], *, timeout: float | None) -> None:
        self.announced.append((envelope, answered))

    def outcome(self) -> Any:
        envelope = self.sent.pop(0)
        return getattr(envelope, envelope.WhichOneof("body") or "")


class World:
    """An IPCP at 10.0.0.1 with its hosts file."""

    def __init__(self, loop: VirtualLoop, hosts: Path) -> None:
        self.loop = loop
        self.hosts = hosts
        self.socket = FakeSocket()
        self.session = FakeSession()
        self.ipcp = Udp4Ipcp("u", loop)
        self.ipcp._session = self.session  # type: ignore[assignment]
        self.ipcp.bootstrap(IpcpConfig(layer="net"), {"ip": "10.0.0.1", "port": "3435"})
        self.ipcp.layer = "net"
        self.relay: Any = self.ipcp._relay
        self.udp: Any = self.ipcp._udp

    def name(self, *addresses: Address) -> None:
        self.hosts.write_text("".join(f"{address.host} {NAME.hex()}\n" for address in addresses))

    def alloc(self, fd: int = 64, data: bytes = b"oap") -> Any:
        endpoint = FlowEndpoint(fd=fd)
        request = IpcpFlowAlloc(endpoint=endpoint, dst=NAME, qos=QOS_VOICE.to_proto(), data=data)
        return self.ipcp.flow_alloc(request, [])

    def hear(self, message: wire.FlowRequest | wire.FlowReply, source: Address = HOST) -> None:
        self.udp.how["on_management"](tuple(source), wire.encode(message))

    def arrive(self, requester: int = 70, source: Address = HOST) -> Callable[..., None]:
        """Another host asks for a flow; how the IRMd answers."""
        self.ipcp.reg(NAME)
        self.hear(wire.FlowRequest(requester, NAME, QOS_VOICE, b"oap%d" % requester), source)
        envelope, answered = self.session.announced.pop(0)
        assert envelope.ipcp_flow_req.max_packet == 8976 and envelope.ipcp_flow_req.mpl_ms == 5000
        return answered

    def sent(self) -> list[tuple[Any, Address]]:
        sent, self.socket.sent = self.socket.sent, []
        return sent

    def pass_time(self, seconds: float) -> None:
        self.loop.run_until_complete(asyncio.sleep(seconds))


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[World]:
    made: list[World] = []
    monkeypatch.setenv(VARIABLE, str(tmp_path / "hosts"))
    monkeypatch.setattr(link, "Relay", FakeRelay)
    monkeypatch.setattr(udp, "Punt", FakePunt)
    monkeypatch.setattr(udp, "Udp", FakeUdp)
    monkeypatch.setattr(port, "take", lambda ip, number: (made[0].socket, Address.of(ip, number)))
    with virtual_loop() as loop:
        world = World.__new__(World)
        made.append(world)
        world.__init__(loop, tmp_path / "hosts")  # type: ignore[misc]
        yield world
        world.ipcp.close()
        assert world.socket.closed
        world.loop.run_until_complete(asyncio.sleep(0))


def test_kinds() -> None:
    assert (Udp4Ipcp.kind, Udp4Ipcp.max_packet) == ("udp4", 8976)
    assert (Udp6Ipcp.kind, Udp6Ipcp.max_packet) == ("udp6", 8948)


def test_a_flow_that_our_process_asks_for(world: World) -> None:
    world.name(HOST)
    assert world.ipcp.hash == MD5
    world.alloc()
    ((request, to),) = world.sent()
    assert to == HOST
    assert request == wire.FlowRequest(request.requester, NAME, QOS_VOICE, b"oap")
    assert world.udp.peers[64] == (request.requester, HOST) and not world.udp.connected
    world.hear(wire.FlowReply(request.requester, 99, 0, b"answer"))
    outcome = world.session.outcome()
    assert (outcome.fd, outcome.response, outcome.data) == (64, 0, b"answer")
    assert (outcome.mpl_ms, outcome.max_packet) == (5000, 8976)
    assert world.udp.connected == {request.requester: 99}
    world.pass_time(60)
    assert world.session.sent == [] and world.relay.ends == {64}, "nobody waits for a reply any more"
    world.ipcp.flow_dealloc(End(64, 0))
    world.ipcp.flow_dealloc(End(64, 0))
    assert world.relay.ends == set()


def test_nobody_answers(world: World) -> None:
    """The one who asked is told whom, a moment before the IRMd gives up."""
    world.name(HOST)
    world.alloc()
    world.sent()
    world.pass_time(19.4)
    assert world.session.sent == []
    world.pass_time(0.2)
    outcome = world.session.outcome()
    assert outcome.response == errno.ETIMEDOUT
    assert "10.0.0.2:3435" in outcome.text and '"net"' in outcome.text and "NAT" in outcome.text
    assert "no process accepts flows to the name there, or no member" in outcome.text
    assert world.relay.ends == set() and world.ipcp._fa.pending == 0


def test_a_member_that_is_there_is_silent_about_the_name(world: World) -> None:
    """A prototype is, where no process accepts: a flow to that member says that nothing on the way stops datagrams."""
    world.name(HOST)
    world.alloc()
    ((request, _),) = world.sent()
    world.hear(wire.FlowReply(request.requester, 99, 0, b"answer"))
    world.session.outcome()
    world.alloc(65)
    world.pass_time(20)
    text = world.session.outcome().text
    assert "no process accepts flows to the name there" in text and "NAT" not in text
    world.ipcp.flow_dealloc(64)


def test_the_second_host(world: World) -> None:
    world.name(HOST, SECOND)
    world.alloc()
    ((request, _),) = world.sent()
    world.hear(wire.FlowReply(request.requester, 0, -EIPCP))
    ((again, to),) = world.sent()
    assert to == SECOND and again == request
    assert world.udp.peers[64] == (request.requester, SECOND)
    world.alloc(65)
    assert [to for _, to in world.sent()] == [SECOND], "the first one is in doubt"


def test_a_host_that_cannot_be_reached(world: World) -> None:
    world.name(HOST)
    world.socket.errors.append(OSError(errno.ENETUNREACH, "x"))
    world.alloc()
    outcome = world.session.outcome()
    assert outcome.response == errno.ENETUNREACH
    assert outcome.text == "10.0.0.2:3435 cannot be reached: Network is unreachable"
    assert world.relay.ends == set()


def test_a_full_socket_loses_no_message(world: World) -> None:
    """They wait, in order, until it takes them."""
    world.name(HOST)
    world.socket.errors.append(BlockingIOError())
    for fd in (64, 65, 66):
        world.alloc(fd)
    assert world.sent() == []
    world.loop.run_until_complete(asyncio.sleep(0))
    world.loop.run_until_complete(asyncio.sleep(0))
    assert len(world.sent()) == 3
    assert not world.ipcp._waiting


def test_a_message_that_waits_and_cannot_be_sent_holds_up_no_other(world: World) -> None:
    """It is counted as a defect and not tried again: the socket stays writable, and the loop would not rest."""
    world.name(HOST)
    world.socket.errors += [BlockingIOError(), ValueError("no way to write this")]
    for fd in (64, 65, 66):
        world.alloc(fd)
    world.loop.run_until_complete(asyncio.sleep(0))
    world.loop.run_until_complete(asyncio.sleep(0))
    assert len(world.sent()) == 2 and not world.ipcp._waiting
    counters = {row["counter"]: row["value"] for row in world.ipcp.readout("counters")}
    assert counters["defects"] == 1


def test_a_name_that_has_to_be_looked_up(world: World) -> None:
    world.ipcp._resolver._system = lambda host, family: [HOST.ip]  # type: ignore[union-attr]
    task = world.loop.create_task(world.ipcp.query(NAME))  # type: ignore[arg-type]
    finish(world, task)
    assert world.alloc() is None, "known by now"
    assert [to for _, to in world.sent()] == [HOST]


def finish(world: World, task: asyncio.Task[Any]) -> None:
    """Real time passes: a thread asks the system's resolver."""
    while not task.done():
        world.loop.run_until_complete(asyncio.sleep(0))


def test_an_allocation_that_has_to_look_the_name_up(world: World) -> None:
    world.ipcp._resolver._system = lambda host, family: [HOST.ip]  # type: ignore[union-attr]
    task = world.loop.create_task(world.alloc())
    finish(world, task)
    assert task.result() is None and [to for _, to in world.sent()] == [HOST]


def test_given_up_while_the_name_is_looked_up(world: World) -> None:
    world.ipcp._resolver._system = lambda host, family: [HOST.ip]  # type: ignore[union-attr]
    task = world.loop.create_task(world.alloc())
    world.loop.run_until_complete(asyncio.sleep(0))
    world.ipcp.flow_dealloc(End(64, 0))
    second = world.loop.create_task(world.alloc())  # the same descriptor, anew
    finish(world, task)
    finish(world, second)
    assert isinstance(task.exception(), Refusal) and second.exception() is None
    assert len(world.sent()) == 1 and world.relay.ends == {64}


def test_a_name_that_nobody_has(world: World) -> None:
    world.ipcp._resolver._system = lambda host, family: []  # type: ignore[union-attr]
    for work, number in ((world.ipcp.query(NAME), errno.ENOENT), (world.alloc(), ENAME)):
        task = world.loop.create_task(work)  # type: ignore[arg-type]
        finish(world, task)
        failure = task.exception()
        assert isinstance(failure, Refusal) and failure.errno == number
        assert NAME.hex() in str(failure)
    assert world.relay.ends == set()


def test_a_handshake_that_fits_no_datagram(world: World) -> None:
    """A prototype's memory ends at 2048 octets: what is longer is never sent."""
    world.name(HOST)
    with pytest.raises(Refusal) as caught:
        world.alloc(data=bytes((ROOM - HASH_LENGTH) + 1))
    assert caught.value.errno == errno.EMSGSIZE and world.relay.ends == set()
    world.alloc(data=bytes(ROOM - HASH_LENGTH))
    ((request, _),) = world.sent()
    assert len(wire.encode(request)) == 2048
    answered = world.arrive()
    answered(Envelope(flow_endpoint=FlowEndpoint(fd=65)), [])
    with pytest.raises(Refusal) as caught:
        world.ipcp.flow_alloc_resp(IpcpFlowAllocResp(fd=65, data=bytes(ROOM + 1)))
    assert caught.value.errno == errno.EMSGSIZE
    ((reply, _),) = world.sent()
    assert reply.response == -errno.EMSGSIZE and 65 not in world.relay.ends


def test_a_flow_that_another_host_asks_for(world: World) -> None:
    source = Address.of("10.0.0.9", 41000)  # behind a NAT
    answered = world.arrive(70, source)
    answered(Envelope(flow_endpoint=FlowEndpoint(fd=64)), [])
    eid, peer = world.udp.peers[64]
    assert peer == source and world.sent() == []
    world.ipcp.flow_alloc_resp(IpcpFlowAllocResp(fd=64, data=b"yes"))
    assert world.udp.connected == {eid: 70}
    assert world.sent() == [(wire.FlowReply(70, eid, 0, b"yes"), source)]
    with pytest.raises(Refusal) as caught:
        world.ipcp.flow_alloc_resp(IpcpFlowAllocResp(fd=64))
    assert caught.value.errno == ENOTALLOC


def test_nobody_accepts(world: World) -> None:
    world.arrive()(Envelope(error=EIPCP, text="nobody"), [])
    ((reply, to),) = world.sent()
    assert (reply.response, reply.requester, reply.data, to) == (-EIPCP, 70, b"", HOST)
    answered = world.arrive(71)
    answered(Envelope(flow_endpoint=FlowEndpoint(fd=64)), [])
    world.ipcp.flow_alloc_resp(IpcpFlowAllocResp(fd=64, response=1009))
    ((reply, _),) = world.sent()
    assert reply.response == -1009 and world.relay.ends == set()
    answered = world.arrive(72)
    answered(Envelope(flow_endpoint=FlowEndpoint(fd=65)), [])
    world.ipcp.flow_dealloc(End(65, 0))  # it ended before it had accepted
    ((reply, _),) = world.sent()
    assert reply.response == -errno.ECONNREFUSED and world.relay.ends == set()


def test_a_flow_whose_other_end_is_used_again(world: World) -> None:
    for fd, requester in ((64, 70), (65, 71), (66, 70)):
        answered = world.arrive(requester)
        answered(Envelope(flow_endpoint=FlowEndpoint(fd=fd)), [])
        world.hosts.touch()
        world.ipcp.flow_alloc_resp(IpcpFlowAllocResp(fd=fd, data=b"yes %d" % fd))
        world.ipcp._fa._seen.clear()  # the handshake of another time
    assert world.session.outcome().fd == 64, "it is down"
    assert world.relay.ends == {65, 66}


def test_datagrams_that_are_none(world: World) -> None:
    hear = world.udp.how["on_management"]
    for datagram in (bytes(4), bytes(47), b"\0" * 44 + b"\x03\0\0", bytes(2048)):
        hear(tuple(HOST), datagram)
    counters = {row["counter"]: row["value"] for row in world.ipcp.readout("counters")}
    assert counters["malformed"] == 4
    assert world.sent() == []


def test_readouts(world: World) -> None:
    world.name(HOST)
    world.ipcp.reg(NAME)
    world.alloc()
    assert world.ipcp.readout("directory") == [{"name": NAME.hex()}]
    (neighbour,) = world.ipcp.readout("neighbours")
    assert neighbour == {"name": NAME.hex(), "machine": "10.0.0.2:3435", "heard": 0.0, "source": "hosts"}
    (status,) = world.ipcp.readout("status")
    assert status["address"] == "10.0.0.1:3435" and status["pending"] == 1
    with pytest.raises(Refusal):
        world.ipcp.readout("routes")
    world.ipcp.unreg(NAME)
    with pytest.raises(Refusal) as caught:
        world.ipcp.unreg(NAME)
    assert caught.value.errno == errno.ENOENT
