"""Whole unicast IPCPs in the world without processes: the shell that the daemon runs, over a data plane of Python.

    with make_network() as network:
        a, b = network.bootstrap("a"), network.enroll("b", "a")
        network.connect(b, "a")
        server = b.register(NAME)
        client = network.allocate(a, NAME)

Time passes when nothing happens, so every time-out of the daemon can be waited for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from ipcpd.common.connmgr import ConnectionManager
from ipcpd.common.lower import LowerFlows
from ipcpd.unicast import unicast
from ipcpd.unicast.member import Member
from ipcpd.unicast.unicast import UnicastIpcp
from ouroboros.errors import ENAME
from ouroboros.qos import QOS_RAW, QoSSpec
from ouroboros.rpc.messages_pb2 import Envelope, FlowEndpoint
from tests.unit.ipcpd.unicast.dataplane import FakeDt
from tests.unit.ipcpd.world import End, FakePunt, FakeRelay, FakeSession, World, virtual_loop

MGMT, DT = "Management", "Data Transfer"


class Punt(FakePunt):
    """With what only the daemon calls."""

    closed = False

    def fileno(self) -> int:
        return -1

    def run(self, loop: asyncio.AbstractEventLoop) -> None: ...

    def close(self) -> None:
        self.closed = True

    def push(self, component: int, fd: int, packet: bytes) -> bool:
        self._passed[component] = self._passed.get(component, 0) + 1
        self._loop.call_soon(self._hand_over, component, fd, packet)
        return True

    def _hand_over(self, component: int, fd: int, packet: bytes) -> None:
        if not self.closed:
            self._handlers[component](fd, packet)


class Relay(FakeRelay):
    """With what only the daemon calls."""

    def attach(self, welcome: Any, fds: list[int]) -> None: ...

    def start(self) -> None: ...

    def release(self, message: Any) -> None: ...

    def pair(self, a: int, b: int) -> None:
        self.role(a, lambda packet: self.send(b, packet) and None)
        self.role(b, lambda packet: self.send(a, packet) and None)

    def remove(self, fd: int) -> None:
        if fd not in self.ends:
            raise OSError(9, f"there is no flow with descriptor {fd}")
        super().remove(fd)

    def close(self) -> None:
        self.ends.clear()


@dataclass(eq=False)
class App:
    """A process at the other end of a flow of the layer."""

    node: Node
    fd: int
    instance: int
    end: End
    heard: list[bytes] = field(default_factory=list)
    outcome: Envelope | None = None
    gone: bool = False

    def write(self, packet: bytes) -> None:
        own = self.node.world.open[self.node, self.fd]  # type: ignore[index]
        own.waiting.append(packet)
        self.node.relay.pump(own)

    @property
    def relay(self) -> App:
        return self

    def pump(self, end: End) -> None:
        self.heard += end.waiting
        end.waiting.clear()


class Session(FakeSession):
    """The channel to the IRMd; answers to the IRMd are kept by the id of its request."""

    def __init__(self, node: Node) -> None:
        super().__init__(node)  # type: ignore[arg-type]
        self.answers: dict[int, Envelope] = {}

    def reply(self, request: Envelope, envelope: Envelope) -> None:
        self.answers[request.id] = envelope

    def refuse(self, request: Envelope, number: int, text: str) -> None:
        self.answers[request.id] = Envelope(error=number, text=text)


class Node:
    """A system with one unicast IPCP, as far as the IPCP can see."""

    def __init__(self, world: Network, name: str, patch: pytest.MonkeyPatch) -> None:
        self.world = world
        self.name = name
        self.loop = world.loop
        self.punt = Punt(world.loop)
        self.relay = Relay(self)  # type: ignore[arg-type]
        self.session = Session(self)
        patch.setattr(unicast, "Relay", lambda: self.relay)
        patch.setattr(unicast, "Punt", lambda: self.punt)
        patch.setattr(unicast, "Dt", FakeDt)
        self.ipcp = UnicastIpcp(name, world.loop)
        patch.undo()
        self._patch = patch
        self.loop.remove_reader = lambda fd: False  # type: ignore[method-assign]
        self.ipcp.start(self.session)  # type: ignore[arg-type]
        self.servers: dict[bytes, Callable[[App], int] | None] = {}
        """What accepts flows to names of this system: gets the flow, returns the response."""
        self.apps: dict[int, App] = {}
        self._ids = 0
        self.certificate: str | None = None
        self.encrypts = False

    @property
    def member(self) -> Member:
        return self.ipcp.member

    @property
    def dt(self) -> FakeDt:
        dt: Any = self.member.dt
        assert isinstance(dt, FakeDt)
        return dt

    @property
    def lowers(self) -> LowerFlows:
        return self.ipcp._lowers

    @property
    def connections(self) -> ConnectionManager:
        return self.ipcp._connections

    def close(self) -> None:
        self.ipcp.stop()

    def request(self, **body: Any) -> int:
        """The IRMd asks; the answer turns up in `session.answers` under this number."""
        self._ids += 1
        self._patch.setattr(unicast, "Dt", FakeDt)
        self.ipcp.handle(self.session, Envelope(id=self._ids, **body), [])  # type: ignore[arg-type]
        return self._ids

    def ask(self, **body: Any) -> Envelope:
        """The IRMd asks, and waits for the answer."""
        number = self.request(**body)
        return self.world.run(self.answer(number))

    async def answer(self, number: int) -> Envelope:
        while number not in self.session.answers:
            await asyncio.sleep(0.001)
        return self.session.answers.pop(number)

    def ok(self, **body: Any) -> Envelope:
        answer = self.ask(**body)
        assert not answer.error, answer.text
        return answer

    def app(self) -> App:
        """One more process, with a flow end of this IPCP at its other side."""
        own = self.world._open(self)  # type: ignore[arg-type]
        app = App(self, own.fd, own.instance, End(self, own.fd))  # type: ignore[arg-type]
        app.end.ipcp = app  # type: ignore[assignment]
        own.peer, app.end.peer = app.end, own
        self.apps[own.fd] = app
        return app

    def endpoint(self, app: App, qos: QoSSpec) -> FlowEndpoint:
        return FlowEndpoint(fd=app.fd, instance=app.instance, qos=qos.to_proto(), max_packet=60000)

    def register(self, key: bytes, serve: Callable[[App], int] | None = lambda app: 0) -> None:
        """A name of this system; None: nobody is bound to it."""
        self.servers[key] = serve
        self.ok(ipcp_reg={"hash": key})
        self.world.settle()

    # ------------------------------------------------------------ what the IPCP tells the IRMd

    def announced(self, envelope: Envelope, on_reply: Callable[..., None]) -> None:
        body = envelope.ipcp_flow_req
        serve = self.servers.get(body.hash)
        if serve is None:
            on_reply(Envelope(reply=True, error=ENAME, text="nobody"), [])
            return
        app = self.app()
        reply = Envelope(reply=True)
        reply.flow_endpoint.CopyFrom(self.endpoint(app, QoSSpec.from_proto(body.qos)))
        on_reply(reply, [])
        response = serve(app)
        if response >= 0:
            self.request(
                ipcp_flow_alloc_resp={
                    "fd": app.fd, "instance": app.instance, "response": response, "data": b"answer"
                }
            )  # fmt: skip

    def told(self, envelope: Envelope) -> bool:
        if envelope.HasField("ipcp_flow_alloc_reply"):
            body = envelope.ipcp_flow_alloc_reply
            app = self.apps[body.fd]
            assert app.instance == body.instance
            app.outcome = envelope
            if body.response:
                self._gone(app)
            return True
        if envelope.HasField("flow_dealloc") and envelope.flow_dealloc.fd in self.apps:
            app = self.apps[envelope.flow_dealloc.fd]
            assert app.instance == envelope.flow_dealloc.instance
            self._gone(app)
            return True
        return not envelope.HasField("flow_dealloc")

    def _gone(self, app: App) -> None:
        app.gone = True
        del self.apps[app.fd]
        self.world.open.pop((self, app.fd))  # type: ignore[call-overload]

    def deallocate(self, app: App) -> None:
        """The process gives its flow back."""
        self.ok(ipcp_flow_dealloc={"fd": app.fd, "instance": app.instance})
        self._gone(app)


class Network(World):
    """The world, with an IRMd that knows flows of the layer too."""

    def __init__(self, loop: Any, patch: pytest.MonkeyPatch) -> None:
        super().__init__(loop)
        self._patch = patch

    def asked(self, ipcp: Any, envelope: Envelope, on_reply: Callable[..., None]) -> None:
        if envelope.HasField("ipcp_flow_req"):
            ipcp.announced(envelope, on_reply)
        else:
            super().asked(ipcp, envelope, on_reply)

    def told(self, ipcp: Any, envelope: Envelope) -> None:
        if not ipcp.told(envelope):
            super().told(ipcp, envelope)

    def node(self, name: str) -> Node:
        node = Node(self, name, self._patch)
        self.ipcps.append(node)  # type: ignore[arg-type]
        self.names[name] = node  # type: ignore[assignment]
        return node

    def bootstrap(self, name: str, **options: str) -> Node:
        """The first member of a layer."""
        node = self.node(name)
        node.ok(ipcp_bootstrap={"config": {"layer": "unicast", "options": options}})
        return node

    def enroll(self, name: str, dst: str) -> Node:
        """A newcomer."""
        node = self.node(name)
        node.ok(ipcp_enroll={"dst": dst})
        return node

    def connect(self, node: Node, dst: str, *, qos: QoSSpec = QOS_RAW) -> None:
        """As `irm ipcp connect`."""
        for component in (MGMT, DT):
            node.ok(ipcp_connect={"dst": dst, "component": component, "qos": qos.to_proto()})

    def line(self, count: int, **options: str) -> list[Node]:
        """Members that are connected one behind the other: a, b, c, ..."""
        nodes: list[Node] = []
        for name in "abcdefgh"[:count]:
            nodes.append(self.enroll(name, nodes[-1].name) if nodes else self.bootstrap(name, **options))
            if len(nodes) > 1:
                self.connect(nodes[-1], nodes[-2].name)
        self.settle()
        return nodes

    def settle(self) -> None:
        """Let what is under way arrive."""
        self.pass_time(0.5)

    def request(self, node: Node, key: bytes, qos: QoSSpec = QOS_RAW, data: bytes = b"request") -> App:
        """A process asks for a flow."""
        app = node.app()
        node.request(
            ipcp_flow_alloc={
                "endpoint": node.endpoint(app, qos), "dst": key, "qos": qos.to_proto(), "data": data
            }
        )  # fmt: skip
        return app

    def allocate(self, node: Node, key: bytes, qos: QoSSpec = QOS_RAW) -> App:
        """A process asks for a flow, and waits for the outcome."""

        async def outcome(app: App) -> None:
            while app.outcome is None:
                await asyncio.sleep(0.001)

        app = self.request(node, key, qos)
        self.run(outcome(app))
        return app


@contextmanager
def make_network() -> Iterator[Network]:
    """A network; at its end every IPCP stops."""
    patch = pytest.MonkeyPatch()
    with virtual_loop() as loop:
        network = Network(loop, patch)
        try:
            yield network
        finally:
            for node in network.ipcps:
                node.close()
            patch.undo()
