"""An IRMd, IPCPs and applications without sockets: every message waits until the test delivers it.

Each connection keeps its order in either direction, as a socket does, and no order between two of them is kept. The IRMd is the real one,
shared memory included; the IPCPs are the real local, unicast, UDP and broadcast ones over a data plane that only keeps account of its
ends. The UDP IPCP has the only host of its layer: datagrams to itself wait too, in no order.
IRMd and IPCPs have a loop each, so a message may arrive between two turns of either.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from ipcpd.broadcast import broadcast
from ipcpd.common.ipcp import Ipcp
from ipcpd.link import link
from ipcpd.local import local
from ipcpd.udp import port, udp
from ipcpd.udp.address import Address
from ipcpd.unicast import unicast
from irmd.config import Config
from irmd.daemon import Irmd, layout_version
from irmd.descriptors import Descriptor
from irmd.peer import Peer
from irmd.records import Ipcp as IpcpRecord
from irmd.records import Process, RpcConnection
from irmd.registry import name_hash
from ouroboros.ipcp_types import IpcpType
from ouroboros.rpc.codec import RPC_VERSION
from ouroboros.rpc.messages_pb2 import (
    Cancel,
    Envelope,
    FlowDealloc,
    FlowEndpoint,
    Hello,
    IpcpBootstrap,
    IpcpConfig,
)
from tests.unit.ipcpd.unicast.dataplane import FakeDt
from tests.unit.ipcpd.world import FakePunt, VirtualLoop

NAME = "n"
HOST = Address.of("10.0.0.1", 3435)
LAYERS = {
    "local": IpcpType.LOCAL,
    "here": IpcpType.UNICAST,
    "udp": IpcpType.UDP4,
    "all": IpcpType.BROADCAST,
}
CLASSES: dict[int, type[Ipcp]] = {
    IpcpType.LOCAL: local.LocalIpcp,
    IpcpType.UNICAST: unicast.UnicastIpcp,
    IpcpType.UDP4: udp.Udp4Ipcp,
    IpcpType.BROADCAST: broadcast.BroadcastIpcp,
}
Reply = Callable[[Envelope | None, list[int]], None]


class Errors(logging.Handler):
    """What is logged as an error is one of ours."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(logging.Formatter().format(record))


class Half:
    """One end of a connection, with what is on its way here. It is called as a `Session` is."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.inbox: deque[Envelope] = deque()
        self.peer: Half
        self.closed = False
        self.on_message: Callable[[Any, Envelope, list[int]], None]
        self.on_close: Callable[[Any, str], None] = lambda half, reason: None
        self._loop = loop
        self._replies: dict[int, tuple[Reply, Any]] = {}
        self._next = 1

    def send(self, envelope: Envelope, fds: tuple[int, ...] = ()) -> None:
        if not self.closed:
            message = Envelope()
            message.CopyFrom(envelope)
            self.peer.inbox.append(message)

    def reply(self, request: Envelope, envelope: Envelope, fds: tuple[int, ...] = ()) -> None:
        envelope.id, envelope.reply = request.id, True
        self.send(envelope)

    def refuse(self, request: Envelope, number: int, text: str) -> None:
        if request.id:
            self.send(Envelope(id=request.id, reply=True, error=number, text=text))

    def request(
        self, envelope: Envelope, on_reply: Reply, *, timeout: float | None, fds: tuple[int, ...] = ()
    ) -> int:
        number, self._next = self._next, self._next + 1
        envelope.id = number
        if self.closed:
            self._loop.call_soon(on_reply, None, [])
            return number
        timer = None if timeout is None else self._loop.call_later(timeout, self._expire, number)
        self._replies[number] = on_reply, timer
        self.send(envelope)
        return number

    def _expire(self, number: int) -> None:
        self._replies.pop(number)[0](None, [])

    def deliver(self) -> None:
        """Hand over the oldest message."""
        envelope = self.inbox.popleft()
        if not envelope.reply:
            self.on_message(self, envelope, [])
            return
        on_reply, timer = self._replies.pop(envelope.id, (None, None))
        if on_reply is not None:
            if timer is not None:
                timer.cancel()
            on_reply(envelope, [])

    def drain(self) -> None:
        while self.inbox:
            self.deliver()

    def close(self, reason: str = "") -> None:
        if self.closed:
            return
        self.closed = True
        self.inbox.clear()
        replies, self._replies = self._replies, {}
        for on_reply, timer in replies.values():
            if timer is not None:
                timer.cancel()
            self._loop.call_soon(on_reply, None, [])


class Ports:
    """The packet thread, as far as it keeps account. It refuses what the real one refuses."""

    def __init__(self) -> None:
        self.ends: dict[int, int] = {}
        """Instance by descriptor."""
        self.pairs: dict[int, int] = {}
        """Both ways, by instance; they are never forgotten."""
        self.roles: dict[int, object] = {}

    def add(self, endpoint: FlowEndpoint, fds: list[int]) -> None:
        if endpoint.fd in self.ends:
            raise OSError(17, f"cannot attach to flow {endpoint.flow_id}")
        self.ends[endpoint.fd] = endpoint.instance

    def remove(self, fd: int) -> None:
        if fd not in self.ends:
            raise OSError(9, f"there is no flow with descriptor {fd}")
        del self.ends[fd]

    def pair(self, a: int, b: int) -> None:
        one, other = self.ends[a], self.ends[b]
        assert one not in self.pairs and other not in self.pairs, "paired already"
        self.pairs[one], self.pairs[other] = other, one

    def role(self, fd: int, serve: object) -> None: ...

    def events(self, punt: object, component: int) -> None: ...

    def attach(self, welcome: object, fds: list[int]) -> None: ...

    def start(self) -> None: ...

    def release(self, message: object) -> None: ...

    def close(self) -> None:
        self.ends.clear()


class Punt(FakePunt):
    """With what only the daemon calls."""

    def fileno(self) -> int:
        return -1

    def run(self, loop: object) -> None: ...

    def dispatch(self) -> None: ...

    def close(self) -> None: ...


class Socket:
    """That of the UDP IPCP; `datagrams` are on their way back to it."""

    def __init__(self) -> None:
        self.datagrams: list[bytes] = []

    def fileno(self) -> int:
        return -1

    def sendto(self, datagram: bytes, to: tuple[str, int]) -> None:
        assert Address.of(*to) == HOST
        self.datagrams.append(datagram)

    def close(self) -> None: ...


class NoPaths:
    """The paths of the UDP IPCP: its neighbour's is not known to the packet thread."""

    def measure(self, peer: bytes) -> None: ...


class Datagrams:
    """The endpoints of the UDP IPCP in the packet thread."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports
        self.paths = NoPaths()
        self.received: Callable[[tuple[bytes, int, int], bytes], None]

    def open(self, eid: int, fd: int, peer: Address) -> None:
        assert fd in self._ports.ends

    def connect(self, eid: int, peer_eid: int) -> None: ...

    def leave(self, eid: int) -> None: ...

    def close(self) -> None: ...


class Hosts:
    """The resolver: every name is that of the only host."""

    def known(self, digest: bytes) -> tuple[bytes, ...]:
        return (HOST.ip,)

    def doubt(self, digest: bytes, ip: bytes) -> None: ...

    def close(self) -> None: ...


class FanOut:
    """The broadcast IPCP's part of the packet thread."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports

    def add(self, fd: int) -> None:
        assert fd in self._ports.ends

    def close(self) -> None: ...


@dataclass(eq=False)
class App:
    """A process: what it has asked for, and what it has got, as far as messages have reached it."""

    half: Half
    connection: RpcConnection
    closed: set[int]
    """Instances of all ends that a process has given back: that of the system."""
    asked: dict[int, str] = field(default_factory=dict)
    """Requests that are not answered yet, by id."""
    pending: set[Descriptor] = field(default_factory=set)
    """Asynchronous ones that have their descriptor."""
    held: set[Descriptor] = field(default_factory=set)
    """Ends of flows."""
    given_up: set[int] = field(default_factory=set)
    number: int = 0

    @property
    def process(self) -> Process:
        assert self.connection.process is not None
        return self.connection.process

    def ask(self, **body: Any) -> int:
        self.number += 1
        (what,) = body
        self.asked[self.number] = what
        self.half.send(Envelope(id=self.number, **body))
        return self.number

    def cancel(self, number: int) -> None:
        self.given_up.add(number)
        self.half.send(Envelope(cancel=Cancel(id=number)))

    def dealloc(self, descriptor: Descriptor) -> None:
        self.closed.add(descriptor.instance)
        self.held.discard(descriptor)
        self.pending.discard(descriptor)
        self.half.send(Envelope(flow_dealloc=FlowDealloc(fd=descriptor.fd, instance=descriptor.instance)))

    def received(self, _half: object, envelope: Envelope, _fds: list[int]) -> None:
        """As the library does."""
        body = envelope.WhichOneof("body")
        if body == "flow_done":
            done = envelope.flow_done
            descriptor = Descriptor(done.fd, done.instance)
            if descriptor in self.pending and not done.error:
                assert Descriptor(done.endpoint.fd, done.endpoint.instance) == descriptor
                self.pending.remove(descriptor)
                self.granted(descriptor)
        else:
            assert body == "segment_gone", envelope

    def replied(self, envelope: Envelope) -> None:
        self.asked.pop(envelope.id)
        body = envelope.WhichOneof("body")
        if envelope.error or body is None:
            return
        granted = envelope.flow_endpoint if body == "flow_endpoint" else envelope.flow_pending
        descriptor = Descriptor(granted.fd, granted.instance)
        if envelope.id in self.given_up:
            self.dealloc(descriptor)
        elif body == "flow_pending":
            self.pending.add(descriptor)
        else:
            self.granted(descriptor)

    def granted(self, descriptor: Descriptor) -> None:
        assert all(descriptor.fd != other.fd for other in self.held | self.pending), "one descriptor twice"
        self.held.add(descriptor)


class _RunDir:
    path = "/nonexistent"

    def close(self) -> None: ...


class System:
    """All of it. `close` at the end."""

    def __init__(self) -> None:
        self.loop, self.ipcp_loop = VirtualLoop(), VirtualLoop()
        self.troubles: list[object] = []
        for loop in (self.loop, self.ipcp_loop):
            loop.set_exception_handler(lambda _loop, context: self.troubles.append(context))
        self.errors = Errors()
        logging.getLogger().addHandler(self.errors)
        self.irmd = Irmd(self.loop, _RunDir(), Config(), stdout=False)  # type: ignore[arg-type]
        self.broker = self.irmd.broker
        self.entry, _ = self.irmd.registry.create_name(NAME)
        self.apps: list[App] = []
        self.closed: set[int] = set()
        self.ipcps: dict[str, Ipcp] = {}
        self.ports: dict[str, Ports] = {}
        self.halves: list[Half] = []
        self._pids = 100_000
        self.socket = Socket()
        self._datagrams: Datagrams
        for layer, kind in LAYERS.items():
            self._ipcp(layer, kind)

    # ------------------------------------------------------------ connections

    def _connect(self) -> tuple[Half, RpcConnection]:
        """Our half of a connection, and what the IRMd has of it."""
        mine, theirs = Half(self.loop), Half(self.loop)
        mine.peer, theirs.peer = theirs, mine
        self._pids += 1
        peer = Peer(self._pids, os.geteuid(), os.getegid(), frozenset(), 0)
        server = self.irmd.server
        connection = RpcConnection(theirs, peer, -1, True)  # type: ignore[arg-type]
        theirs.on_message = server._on_message
        server._connections[theirs] = connection  # type: ignore[index]
        server._per_uid[peer.uid] = server._per_uid.get(peer.uid, 0) + 1
        self.halves += [mine, theirs]
        return mine, connection

    def _hello(self, half: Half, kind: Hello.Kind.ValueType) -> None:
        hello = Hello(kind=kind, rpc_version=RPC_VERSION, layout_version=layout_version(), program="/bin/a")
        half.send(Envelope(id=1 << 40, hello=hello))
        half.peer.deliver()
        welcome = half.inbox.popleft()
        assert not welcome.error, welcome.text

    def app(self) -> App:
        """A new process, bound to the name."""
        half, connection = self._connect()
        app = App(half, connection, self.closed)
        half.on_message = app.received
        self._hello(half, Hello.APPLICATION)
        self.irmd.registry.bind_record(app.process, NAME)
        self.apps.append(app)
        return app

    def kill(self, app: App) -> None:
        """A process dies: what it had sent may have arrived, what was sent to it has not."""
        self.apps.remove(app)
        theirs = app.half.peer
        self.irmd.server._process_exited(app.connection)
        app.half.close()
        for half in (app.half, theirs):
            self.halves.remove(half)

    def _ipcp(self, layer: str, kind: int) -> None:
        half, connection = self._connect()
        half._loop = self.ipcp_loop
        record = IpcpRecord(
            layer,
            kind,
            connection.peer.pid,
            next(self.irmd.server._instances),
            -1,
            connection.session,
            self.loop.create_future(),
            self.loop.create_future(),
        )
        connection.ipcp = record
        self.irmd.ipcps.table.add(record)
        self._hello(half, Hello.IPCP)
        ports, patch = Ports(), pytest.MonkeyPatch()
        for module in (local, unicast, broadcast, link):
            patch.setattr(module, "Relay", lambda: ports)
        for module in (unicast, broadcast, udp):
            patch.setattr(module, "Punt", lambda *octets: Punt(self.ipcp_loop))
        patch.setattr(unicast, "Dt", FakeDt)
        patch.setattr(broadcast, "FanOut", FanOut)
        patch.setattr(udp, "Udp", self._udp)
        patch.setattr(udp, "Resolver", lambda *_, **how: Hosts())
        patch.setattr(port, "take", lambda ip, number: (self.socket, HOST))
        ipcp = CLASSES[kind](layer, self.ipcp_loop)
        half.on_message = ipcp.handle
        ipcp.start(half)  # type: ignore[arg-type]
        self.ipcps[layer], self.ports[layer] = ipcp, ports
        options = {"ip": HOST.host, "port": str(HOST.port)} if kind == IpcpType.UDP4 else {}
        config = IpcpConfig(layer=layer, type=kind, options=options)  # type: ignore[arg-type]
        number = connection.session.request(
            Envelope(ipcp_bootstrap=IpcpBootstrap(config=config)), lambda reply, fds: None, timeout=None
        )
        assert number
        self.settle()
        patch.undo()
        record.state, record.layer, record.hash = "operational", layer, ipcp.hash
        if kind != IpcpType.BROADCAST:
            digest = name_hash(record.hash, NAME)
            ipcp.reg(digest)
            self.entry.registrations[record] = digest

    def _udp(self, relay: Ports, punt: Punt, *, on_management: Any, **how: Any) -> Datagrams:
        self._datagrams = Datagrams(relay)
        self._datagrams.received = on_management
        return self._datagrams

    # ------------------------------------------------------------ what happens

    def waiting(self) -> list[Half]:
        """Ends to which a message is on its way."""
        return [half for half in self.halves if half.inbox]

    def deliver(self, half: Half) -> None:
        """The oldest message to this end arrives."""
        app = next((app for app in self.apps if app.half is half), None)
        if app is not None and half.inbox[0].reply:
            app.replied(half.inbox.popleft())
        else:
            half.deliver()

    def datagram(self, at: int, *, again: bool = False) -> None:
        """A datagram arrives, and perhaps another copy of it later."""
        datagrams = self.socket.datagrams
        datagram = datagrams[at % len(datagrams)] if again else datagrams.pop(at % len(datagrams))
        self._datagrams.received(tuple(HOST), datagram)

    def turn(self, loop: VirtualLoop) -> None:
        """One turn of a loop: what is ready runs, and time does not pass."""
        loop.call_soon(loop.stop)
        loop.run_forever()

    def pass_time(self, seconds: float) -> None:
        """Time passes in both, and what is due runs."""
        for loop in (self.loop, self.ipcp_loop):
            loop._virtual.passed += seconds
            for _ in range(3):
                self.turn(loop)

    def settle(self) -> None:
        """Everything arrives, and is carried out, until nothing is left to do."""
        quiet = 0
        while quiet < 4:
            quiet += 1
            for half in self.waiting():
                while half.inbox:
                    quiet = 0
                    self.deliver(half)
            while self.socket.datagrams:
                quiet = 0
                self.datagram(0)
            for loop in (self.loop, self.ipcp_loop):
                self.turn(loop)

    def partners(self) -> Iterator[tuple[int, int]]:
        """The instance of a process's end, and that of the IPCP's end of the same flow."""
        for flow in self.irmd.facilities.flows.flows.values():
            if flow.ipcp is not None and len(flow.ends) == 2:
                yield flow.ends[0].descriptor.instance, flow.ends[1].descriptor.instance

    def pair_datagram_flows(self) -> None:
        """The ends that the UDP IPCP has connected with each other."""
        flows = self.ipcps["udp"]._fa.flows  # type: ignore[attr-defined]
        ends = {flow.endpoint: end for end, flow in flows.items()}
        for end, flow in flows.items():
            other = ends.get(flow.peer_endpoint)
            if other is not None and flows[other].peer_endpoint == flow.endpoint:
                self.ports["udp"].pairs[end.instance] = other.instance

    def close(self) -> None:
        logging.getLogger().removeHandler(self.errors)
        for ipcp in self.ipcps.values():
            ipcp.loop.remove_reader = ipcp.loop.remove_writer = lambda fd: False  # type: ignore[method-assign]
            ipcp.stop()
        for loop in (self.loop, self.ipcp_loop):
            self.turn(loop)
            loop.close()
        self.irmd.memory.close()
