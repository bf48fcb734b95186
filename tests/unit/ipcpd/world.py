"""A world for IPCPs without processes: an IRMd, relays and punts of Python, on a loop whose time advances when it is idle.

    with World() as world:
        a, b = world.ipcp("a"), world.ipcp("b")
        world.run(...)

A flow to a name goes to the IPCP that accepts under this name. Leaks are visible in `world.flows` and `ipcp.relay.ends`.
"""

from __future__ import annotations

import asyncio
import errno
import selectors
import struct
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any, TypeVar

from ipcpd.common.connmgr import ConnectionManager
from ipcpd.common.enrol import Enrolment
from ipcpd.common.lower import LowerFlows
from ipcpd.dataplane.punt import Handler, PuntCounters
from ipcpd.dataplane.relay import PortStats
from ouroboros.backoff import Backoff
from ouroboros.flow_event import FlowEvent
from ouroboros.qos import QOS_RAW
from ouroboros.rpc.messages_pb2 import Envelope, FlowEndpoint, QosSpec

T = TypeVar("T")


class _Selector(selectors.SelectSelector):
    """Does not wait: moves the clock instead."""

    passed = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        ready = super().select(0)
        if not ready and timeout is None:
            raise RuntimeError("nothing will ever happen again")
        if not ready and timeout:
            self.passed += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop on which an hour of waiting takes no time."""

    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def time(self) -> float:
        return 1000.0 + self._virtual.passed


@contextmanager
def virtual_loop() -> Iterator[VirtualLoop]:
    """The loop, closed at the end; a callback that raised fails the test."""
    loop = VirtualLoop()
    trouble: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _loop, context: trouble.append(context))
    try:
        yield loop
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.run_until_complete(asyncio.sleep(0))
    finally:
        loop.close()
    assert not trouble, trouble


@dataclass(eq=False)
class End:
    """One end of a flow."""

    ipcp: FakeIpcp
    fd: int
    waiting: deque[bytes] = field(default_factory=deque)
    component: int | None = None
    once: bool = False
    received: int = 0
    received_at: float = 0.0
    sent_at: float = 0.0
    sent: int = 0
    open: bool = True
    peer: End | None = None
    events: FlowEvent = FlowEvent(0)
    """That came before the IPCP attached."""
    cut: bool = False
    """Packets vanish on the way here."""
    instance: int = field(default_factory=count(1).__next__)


class FakePunt:
    """Hands packets over in the order in which they came, a moment later."""

    defects = 0

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._handlers: dict[int, Handler] = {}
        self._passed: dict[int, int] = {}

    def component(self, number: int, quota: int, handler: Handler) -> None:
        assert quota > 0
        self._handlers[number] = handler

    def push(self, component: int, fd: int, packet: bytes) -> bool:
        self._passed[component] = self._passed.get(component, 0) + 1
        self._loop.call_soon(self._handlers[component], fd, packet)
        return True

    def counters(self, component: int) -> PuntCounters:
        return PuntCounters(self._passed.get(component, 0), 0)


class FakeRelay:
    """The ends of one IPCP."""

    def __init__(self, ipcp: FakeIpcp) -> None:
        self.ends: dict[int, End] = {}
        self.roles: dict[int, Callable[[bytes], None]] = {}
        """What else may be done with packets of an end: a test, or a fake of a data plane, says."""
        self.refuse: OSError | None = None
        self._ipcp = ipcp
        self._events: int | None = None

    def add(self, endpoint: FlowEndpoint, fds: list[int]) -> None:
        if self.refuse is not None:
            raise self.refuse
        assert endpoint.fd not in self.ends
        end = self.ends[endpoint.fd] = self._ipcp.world.end(self._ipcp, endpoint.fd)
        if end.events:
            self.raise_events(end.fd, end.events)

    def remove(self, fd: int) -> None:
        end = self.ends.pop(fd)
        end.component = None
        self.roles.pop(fd, None)

    def punt(self, fd: int, _punt: FakePunt, component: int, *, once: bool = False) -> None:
        if fd not in self.ends:
            raise OSError(errno.EBADF, f"there is no flow with descriptor {fd}")
        end = self.ends[fd]
        end.component, end.once = component, once
        self.roles.pop(fd, None)
        self.pump(end)

    def role(self, fd: int, serve: Callable[[bytes], None] | None) -> None:
        """Give an end another role."""
        end = self.ends[fd]
        end.component = None
        self.roles.pop(fd, None)
        if serve is not None:
            self.roles[fd] = serve
        self.pump(end)

    def events(self, _punt: FakePunt, component: int) -> None:
        self._events = component

    def send(self, fd: int, packet: bytes) -> bool:
        end = self.ends.get(fd)
        if end is None or len(end.waiting) > 1000:
            return False
        end.sent += 1
        end.sent_at = self._ipcp.loop.time()
        peer = end.peer
        if peer is not None and peer.open and not peer.cut:
            peer.waiting.append(packet)
            peer.ipcp.relay.pump(peer)
        return True

    def stats(self, fd: int) -> PortStats:
        end = self.ends[fd]
        return PortStats(end.received, 0, 0, 0, 0, end.sent, end.received_at, end.sent_at)

    def pump(self, end: End) -> None:
        while end.waiting and (end.component is not None or end.fd in self.roles):
            packet = end.waiting.popleft()
            end.received += 1
            end.received_at = self._ipcp.loop.time()
            if end.component is None:
                self.roles[end.fd](packet)
                continue
            component = end.component
            if end.once and packet:
                end.component = None
            self._ipcp.punt.push(component, end.fd, packet)

    def raise_events(self, fd: int, events: FlowEvent) -> None:
        """The IRMd says something of a flow."""
        if fd not in self.ends:
            self._ipcp.world.end(self._ipcp, fd).events |= events
        elif self._events is not None:
            self.pump(self.ends[fd])
            self._ipcp.punt.push(self._events, fd, struct.pack("=I", events))


class FakeSession:
    """The channel of an IPCP to the IRMd."""

    def __init__(self, ipcp: FakeIpcp) -> None:
        self._ipcp = ipcp
        self._next = 1
        self.sent: list[Envelope] = []

    def request(
        self, envelope: Envelope, on_reply: Callable[..., None], *, timeout: float | None, fds: Any = ()
    ) -> int:
        envelope.id = self._next
        self._next += 1
        self._ipcp.loop.call_soon(self._ipcp.world.asked, self._ipcp, envelope, on_reply)
        return envelope.id

    def send(self, envelope: Envelope, fds: Any = ()) -> None:
        self.sent.append(envelope)
        self._ipcp.world.told(self._ipcp, envelope)


class FakeIpcp:
    """As much of an IPCP as the shells need."""

    def __init__(self, world: World, name: str, *, backoff: Backoff | None = None) -> None:
        self.world = world
        self.name = name
        self.loop = world.loop
        self.session = FakeSession(self)
        self.relay = FakeRelay(self)
        self.punt = FakePunt(world.loop)
        anything: Any = self
        relay: Any = self.relay
        punt: Any = self.punt
        self.lowers = LowerFlows(anything, relay, punt)
        self.connections = ConnectionManager(anything, self.lowers, backoff=backoff)
        self.enrolment = Enrolment(anything, self.lowers, self.connections)
        self.certificate: str | None = None
        """The common name of what it shows, on either side of a flow."""
        self.encrypts = False
        """Flows that it asks for are."""

    def close(self) -> None:
        self.connections.close()
        self.enrolment.close()
        self.lowers.close()


@dataclass
class _Accept:
    ipcp: FakeIpcp
    id: int
    on_reply: Callable[..., None]


class World:
    """The IRMd, and all there is."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.loop = loop
        self.ipcps: list[FakeIpcp] = []
        self.open: dict[tuple[FakeIpcp, int], End] = {}
        self.names: dict[str, FakeIpcp] = {}
        self.layers: dict[str, str] = {}
        """The layer over which flows to a name go, where there are several."""
        self.silent: set[str] = set()
        """Names to which a request for a flow is not answered before its time is up."""
        self.delay = 0.0
        """Seconds that an allocation takes."""
        self.cancelled: list[int] = []
        self.allocations = 0
        self._accepts: list[_Accept] = []

    def ipcp(self, name: str, **options: Any) -> FakeIpcp:
        """A new IPCP, bound to its name."""
        ipcp = FakeIpcp(self, name, **options)
        self.ipcps.append(ipcp)
        self.names[name] = ipcp
        return ipcp

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run this to its end."""
        return self.loop.run_until_complete(work)

    def pass_time(self, seconds: float) -> None:
        """Let time pass."""
        self.run(asyncio.sleep(seconds))

    def end(self, ipcp: FakeIpcp, fd: int) -> End:
        return self.open[ipcp, fd]

    # ------------------------------------------------------------ the IRMd

    def asked(self, ipcp: FakeIpcp, envelope: Envelope, on_reply: Callable[..., None]) -> None:
        if envelope.HasField("flow_accept"):
            self._accepts.append(_Accept(ipcp, envelope.id, on_reply))
            return
        assert envelope.HasField("flow_alloc")
        body = envelope.flow_alloc
        self.allocations += 1
        if body.dst in self.silent:
            self.loop.call_later(body.timeout_ns / 1e9, self._refuse, on_reply, 110, "no answer in time")
        elif body.dst not in self.names:
            self._refuse(on_reply, 1007, f'nobody knows "{body.dst}"')
        elif self.delay:
            self.loop.call_later(self.delay, self._connect, ipcp, body.dst, body.qos, on_reply)
        else:
            self._connect(ipcp, body.dst, body.qos, on_reply)

    def _refuse(self, on_reply: Callable[..., None], error: int, text: str) -> None:
        on_reply(Envelope(reply=True, error=error, text=text), [])

    def _connect(
        self, ipcp: FakeIpcp, dst: str, qos: QosSpec, on_reply: Callable[..., None], patience: int = 5000
    ) -> None:
        target = self.names.get(dst)
        accept = next((one for one in self._accepts if one.ipcp is target), None)
        if accept is None and target is not None and patience > 0:  # between two accepts
            self.loop.call_soon(self._connect, ipcp, dst, qos, on_reply, patience - 1)
            return
        if accept is None:
            self._refuse(on_reply, 110, f'"{dst}" does not accept')
            return
        self._accepts.remove(accept)
        ends = [self._open(ipcp), self._open(accept.ipcp)]
        ends[0].peer, ends[1].peer = ends[1], ends[0]
        accepted = self._endpoint(ends[1], qos, ipcp, encrypted=ipcp.encrypts)
        accepted.flow_endpoint.path = f"{self.layers.get(dst, '')}:{ipcp.name}".encode()
        accept.on_reply(accepted, [])
        on_reply(self._endpoint(ends[0], qos, accept.ipcp, encrypted=ipcp.encrypts), [])

    def _open(self, ipcp: FakeIpcp) -> End:
        fd = next(fd for fd in range(64, 10000) if (ipcp, fd) not in self.open)
        end = self.open[ipcp, fd] = End(ipcp, fd)
        return end

    @staticmethod
    def _endpoint(end: End, qos: QosSpec, other: FakeIpcp, *, encrypted: bool) -> Envelope:
        reply = Envelope(reply=True)
        reply.flow_endpoint.fd, reply.flow_endpoint.instance = end.fd, end.instance
        reply.flow_endpoint.qos.CopyFrom(qos)
        reply.flow_endpoint.mpl_ms = 100
        reply.flow_endpoint.max_packet = 1400
        if other.certificate is not None:
            reply.flow_endpoint.peer_certificate = b"DER"
            reply.flow_endpoint.peer_name = other.certificate
        reply.flow_endpoint.cipher = 901 if encrypted else 0
        return reply

    def told(self, ipcp: FakeIpcp, envelope: Envelope) -> None:
        if envelope.HasField("cancel"):
            self.cancelled.append(envelope.cancel.id)
        if envelope.HasField("flow_dealloc"):
            body = envelope.flow_dealloc
            assert self.open[ipcp, body.fd].instance == body.instance
            self.close(ipcp, body.fd)

    def close(self, ipcp: FakeIpcp, fd: int) -> None:
        """One end is deallocated."""
        end = self.open.pop((ipcp, fd))
        end.open = False
        if end.peer is not None and end.peer.open:
            end.peer.ipcp.relay.raise_events(end.peer.fd, FlowEvent.DOWN | FlowEvent.DEALLOC)

    def dies(self, ipcp: FakeIpcp) -> None:
        """The process of an IPCP ends."""
        ipcp.close()
        self._accepts = [accept for accept in self._accepts if accept.ipcp is not ipcp]
        self.names = {name: other for name, other in self.names.items() if other is not ipcp}
        for owner, fd in list(self.open):
            if owner is ipcp:
                self.close(ipcp, fd)
        ipcp.relay.ends.clear()


@contextmanager
def make_world() -> Iterator[World]:
    """A world; at its end every IPCP is closed, and no flow that was given back is in use."""
    with virtual_loop() as loop:
        world = World(loop)
        yield world
        for ipcp in world.ipcps:
            ipcp.close()


def raw(timeout: int = 0) -> QosSpec:
    """The raw QoS with this time-out, ms."""
    return QOS_RAW.replace(timeout=timeout).to_proto()
