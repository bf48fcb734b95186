"""An IRMd inside the test's own event loop, with IPCPs that the test controls.

The IRMd is the real one, shared memory included; only the process that forks IPCPs is replaced. An IPCP is a sleeping process,
so that a test can kill it, and the other end of its channel is a `FakeIpcp` in this loop.
"""

from __future__ import annotations

import asyncio
import errno
import os
import random
import shutil
import socket
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import TracebackType
from typing import Any, cast

from irmd.config import Config
from irmd.daemon import Irmd, layout_version
from irmd.registry import name_hash
from irmd.rundir import RunDir
from ouroboros.flow_event import FlowEvent
from ouroboros.rpc.aio_session import Session
from ouroboros.rpc.codec import RPC_VERSION, close_fds
from ouroboros.rpc.messages_pb2 import (
    SHA3_256,
    BindProcess,
    Envelope,
    FlowAccept,
    FlowAlloc,
    FlowDealloc,
    FlowEndpoint,
    Hello,
    IpcpBootstrap,
    IpcpConfig,
    IpcpCreate,
    NameCreate,
    NameInfo,
    QosSpec,
)

PATIENCE = 30.0
_BODIES = {field.name for field in Envelope.DESCRIPTOR.oneofs_by_name["body"].fields}


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a test that is a coroutine; `PATIENCE` only turns a hang into a failure."""

    async def bounded() -> None:
        async with asyncio.timeout(PATIENCE):
            await test()

    asyncio.run(bounded())


class Party:
    """One end of an RPC connection in this loop: what came is kept, and can be waited for."""

    def __init__(self, sock: socket.socket) -> None:
        self.received: list[Envelope] = []
        self.instances: dict[int, int] = {}
        """Of its descriptors, as last heard."""
        self.closed = False
        self._changed = asyncio.Event()
        loop = asyncio.get_running_loop()
        self.session = Session(loop, sock, on_message=self._on_message, on_close=self._on_close)

    def _on_message(self, _session: Session, envelope: Envelope, fds: list[int]) -> None:
        close_fds(fds)
        self._learn(envelope)
        self.handle(envelope)
        self.received.append(envelope)
        self._changed.set()

    def _learn(self, envelope: Envelope) -> None:
        name = envelope.WhichOneof("body") or ""
        body = getattr(envelope, name, None)
        if name in ("ipcp_flow_alloc", "ipcp_flow_join"):
            body = body.endpoint
        if name in ("ipcp_flow_alloc", "ipcp_flow_join", "flow_endpoint", "flow_pending", "flow_done"):
            self.instances[body.fd] = body.instance

    def dealloc(self, fd: int, **fields: int) -> None:
        """Give a descriptor back."""
        self.note(flow_dealloc=FlowDealloc(fd=fd, instance=self.instances.get(fd, 0), **fields))

    def handle(self, envelope: Envelope) -> None:
        """Answer, where that is needed."""

    def _on_close(self, _session: Session, _reason: str) -> None:
        self.closed = True
        self._changed.set()

    async def call(self, envelope: Envelope | None = None, **body: object) -> Envelope:
        reply = await self.session.call(envelope or Envelope(**body), timeout=None)  # type: ignore[arg-type]
        assert reply is not None, "the IRMd closed the connection"
        self._learn(reply)
        return reply

    def begin(self, **body: object) -> asyncio.Task[Envelope]:
        """A request whose reply comes later."""
        return asyncio.get_running_loop().create_task(self.call(**body))

    def note(self, **body: object) -> None:
        self.session.send(Envelope(**body))  # type: ignore[arg-type]

    async def next(self, body: str) -> Envelope:
        """The next message with that body; it is taken out."""
        assert body in _BODIES
        while True:
            for envelope in self.received:
                if envelope.WhichOneof("body") == body:
                    self.received.remove(envelope)
                    return envelope
            assert not self.closed, f"closed before {body}"
            self._changed.clear()
            await self._changed.wait()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for something that messages of this party bring about."""
        while not condition():
            await asyncio.sleep(0)

    async def hello(self, kind: Hello.Kind.ValueType, program: str = "/bin/test") -> Envelope:
        hello = Hello(kind=kind, rpc_version=RPC_VERSION, layout_version=layout_version(), program=program)
        reply = await self.call(hello=hello)
        assert not reply.error, reply.text
        return reply

    def close(self) -> None:
        self.session.close()


Answer = Envelope | tuple[int, str] | None


class FakeIpcp(Party):
    """An IPCP: knows the names in `knows`; `answers` overrides what it says to a request (None: nothing)."""

    def __init__(self, name: str, kind: int, pid: int, sock: socket.socket) -> None:
        super().__init__(sock)
        self.name = name
        self.kind = kind
        self.pid = pid
        self.hash = SHA3_256
        self.layer = ""
        self.knows: set[str] = set()
        self.answers: dict[str, Callable[[Envelope], Answer]] = {}

    async def boot(self) -> None:
        await self.hello(Hello.Kind.IPCP)
        self.state("boot")

    def state(self, state: str) -> None:
        envelope = Envelope()
        envelope.ipcp_state.state = state
        self.session.send(envelope)

    def handle(self, envelope: Envelope) -> None:
        body = envelope.WhichOneof("body") or ""
        answer = self.answers[body](envelope) if body in self.answers else self._answer(envelope, body)
        if isinstance(answer, tuple):
            self.session.refuse(envelope, *answer)
        elif answer is not None and envelope.id:
            self.session.reply(envelope, answer)

    def _answer(self, envelope: Envelope, body: str) -> Answer:
        if body in ("ipcp_bootstrap", "ipcp_enroll"):
            self.layer = (
                envelope.ipcp_bootstrap.config.layer
                if body == "ipcp_bootstrap"
                else envelope.ipcp_enroll.layer or envelope.ipcp_enroll.dst
            )
            answer = Envelope()
            answer.ipcp_layer.layer, answer.ipcp_layer.hash = self.layer, self.hash
            return answer
        if body == "ipcp_query":
            known = {name_hash(self.hash, name) for name in self.knows}
            return Envelope() if envelope.ipcp_query.hash in known else (errno.ENOENT, "not here")
        return Envelope()

    def allocated(self, fd: int, response: int = 0, data: bytes = b"", text: str = "") -> None:
        envelope = Envelope()
        body = envelope.ipcp_flow_alloc_reply
        body.fd, body.response, body.data, body.text = fd, response, data, text
        body.instance = self.instances.get(fd, 0)
        self.session.send(envelope)

    def announce(self, name: str, data: bytes, qos: QosSpec | None = None) -> asyncio.Task[Envelope]:
        envelope = Envelope()
        body = envelope.ipcp_flow_req
        body.hash, body.mpl_ms, body.data = name_hash(self.hash, name), 100, data
        body.qos.CopyFrom(qos or QosSpec())
        return asyncio.get_running_loop().create_task(self.call(envelope))

    def event(self, fd: int, events: FlowEvent | int) -> None:
        envelope = Envelope()
        body = envelope.ipcp_flow_event
        body.fd, body.instance, body.events = fd, self.instances.get(fd, 0), events
        self.session.send(envelope)


class FakeSpawner:
    """Makes FakeIpcps; each has a process, so that it can be killed."""

    def __init__(self) -> None:
        self.ipcps: dict[str, FakeIpcp] = {}
        self.pids: list[int] = []
        self.tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def fork(self, name: str, kind: int, channel: socket.socket) -> tuple[int, int]:
        pid = os.posix_spawn("/bin/sleep", ["sleep", "1000"], {})
        self.pids.append(pid)
        ipcp = self.ipcps[name] = FakeIpcp(name, kind, pid, channel.dup())
        task = asyncio.get_running_loop().create_task(ipcp.boot())
        self.tasks.add(task)
        return pid, os.pidfd_open(pid)

    def reap(self) -> None:
        for pid in self.pids:
            os.kill(pid, 9)
            os.waitpid(pid, 0)


class _RunDir:
    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def close(self) -> None: ...


class Inside:
    """The IRMd. An async context manager."""

    def __init__(self, config: Config | None = None) -> None:
        self.base = Path(tempfile.mkdtemp(prefix="irmd-inside-"))
        self.config = config or Config()
        self.spawner = FakeSpawner()
        self._parties: list[Party] = []

    async def __aenter__(self) -> Inside:
        loop = asyncio.get_running_loop()
        self.irmd = Irmd(loop, cast(RunDir, _RunDir(self.base)), self.config, stdout=False)
        self.irmd.ipcps._spawner = self.irmd._spawner = self.spawner  # type: ignore[assignment]
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        listener.bind(str(self.base / "irm.sock"))
        listener.listen()
        self.irmd.server.listen(listener)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for party in [*self._parties, *self.spawner.ipcps.values()]:
            party.close()
        await self.irmd.stop()
        self.spawner.reap()
        shutil.rmtree(self.base)
        if kind is None:
            assert not self.irmd.facilities.flows.flows, "flows are left"

    async def _connect(self, kind: Hello.Kind.ValueType, program: str = "/bin/test") -> Party:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        sock.connect(str(self.base / "irm.sock"))
        party = Party(sock)
        self._parties.append(party)
        await party.hello(kind, program)
        return party

    async def application(self, program: str = "/bin/test") -> Party:
        return await self._connect(Hello.Kind.APPLICATION, program)

    async def tool(self) -> Party:
        return await self._connect(Hello.Kind.TOOL)

    async def ipcp(self, name: str, kind: int, layer: str = "") -> FakeIpcp:
        """An IPCP; with a layer, it is bootstrapped in it."""
        tool = await self.tool()
        reply = await tool.call(ipcp_create=IpcpCreate(name=name, type=kind))  # type: ignore[arg-type]
        assert not reply.error, reply.text
        ipcp = self.spawner.ipcps[name]
        if layer:
            config = IpcpConfig(layer=layer, type=kind)  # type: ignore[arg-type]
            reply = await tool.call(ipcp_bootstrap=IpcpBootstrap(pid=ipcp.pid, config=config))
            assert not reply.error, reply.text
            ipcp.received.clear()
        tool.close()
        return ipcp

    async def bind(self, pid: int, name: str) -> None:
        tool = await self.tool()
        assert not (await tool.call(bind_process=BindProcess(pid=pid, name=name))).error
        tool.close()

    async def create_name(self, name: str) -> None:
        tool = await self.tool()
        assert not (await tool.call(name_create=NameCreate(info=NameInfo(name=name)))).error
        tool.close()


def alloc(dst: str, **fields: Any) -> FlowAlloc:
    return FlowAlloc(dst=dst, **fields)


def given_back(endpoint: FlowEndpoint) -> FlowDealloc:
    """What a process says that does not want its end of a flow any more."""
    return FlowDealloc(fd=endpoint.fd, instance=endpoint.instance)


def accept() -> FlowAccept:
    return FlowAccept()


def identity(seed: int) -> bytes:
    """An id for a handshake."""
    return random.Random(seed).randbytes(16)


async def settle(*parties: Party) -> None:
    """What these parties have sent has been handled by the IRMd: it answers in order."""
    for party in parties:
        await party.call(flow_alloc=alloc("\n"))
