"""A real IRMd in a process of its own, and raw RPC connections to it.

Each connection is a process to the IRMd, so one test can be a whole system. Nothing sleeps: `PATIENCE` only turns
a hang into a failure.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType

from irmd.daemon import layout_version
from ouroboros.rpc.codec import RPC_VERSION, close_fds, receive, send
from ouroboros.rpc.messages_pb2 import Envelope, FlowDealloc, Hello
from tests.deaths import WATCHED, check_code, check_log

PATIENCE = 30.0


class Peer:
    """One raw connection."""

    def __init__(self, path: Path) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.sock.settimeout(PATIENCE)
        self.sock.connect(str(path))
        self._next = 1
        self.notes: list[Envelope] = []
        self.fds = 0
        """Descriptors that came with the last message."""
        self.instances: dict[int, int] = {}
        """Of flow descriptors, as last heard."""

    def hello(
        self,
        kind: Hello.Kind.ValueType = Hello.Kind.APPLICATION,
        *,
        program: str = "/bin/test",
        **fields: int,
    ) -> Envelope:
        envelope = Envelope()
        envelope.hello.kind = kind
        envelope.hello.rpc_version = fields.get("rpc_version", RPC_VERSION)
        envelope.hello.layout_version = fields.get("layout_version", layout_version())
        envelope.hello.program = program
        return self.call(envelope)

    def send(self, envelope: Envelope) -> int:
        """Send a request without waiting; its id."""
        envelope.id = self._next
        self._next += 1
        send(self.sock, envelope)
        return envelope.id

    def note(self, envelope: Envelope) -> None:
        send(self.sock, envelope)

    def receive(self) -> Envelope:
        message = receive(self.sock)
        assert message is not None, "the IRMd closed the connection"
        close_fds(message[1])
        self.fds = len(message[1])
        body = message[0].WhichOneof("body")
        if body in ("flow_endpoint", "flow_pending", "flow_done"):
            about = getattr(message[0], body)
            self.instances[about.fd] = about.instance
        return message[0]

    def dealloc(self, fd: int) -> None:
        """Give a flow descriptor back."""
        self.note(Envelope(flow_dealloc=FlowDealloc(fd=fd, instance=self.instances[fd])))

    def reply(self, number: int) -> Envelope:
        """The reply to request `number`; what comes before it is a notification."""
        while True:
            envelope = self.receive()
            if envelope.reply:
                assert envelope.id == number
                return envelope
            self.notes.append(envelope)

    def call(self, envelope: Envelope) -> Envelope:
        return self.reply(self.send(envelope))

    def ask(self, **body: object) -> Envelope:
        """A request by its fields, e.g. `ask(name_list=NameList())`."""
        return self.call(Envelope(**body))  # type: ignore[arg-type]

    def closed(self) -> bool:
        """Wait for the end of the connection, which is all that may come."""
        try:
            return receive(self.sock) is None
        except ConnectionResetError:
            return True

    def close(self) -> None:
        self.sock.close()


class Daemon:
    """An IRMd on a run directory of its own. A context manager."""

    def __init__(self, config: str = "", *, base: str = "/tmp") -> None:
        self.base = Path(tempfile.mkdtemp(prefix="irmd-", dir=base))
        self.base.chmod(0o755)
        self.rundir = self.base / "run"
        self.config = config
        self.log = self.base / "log"
        self.peers: list[Peer] = []
        self.sent: set[int] = set()
        """Signals that the test sent, of which the IRMd may die."""
        self.killed: set[int] = set()
        """Processes that the test killed."""
        self.process = self.start()
        self.await_ready()

    def start(self) -> subprocess.Popen[bytes]:
        arguments = [sys.executable, "-m", "irmd", "--stdout"]
        if self.config:
            path = self.base / "irmd.conf"
            path.write_text(self.config)
            arguments += ["--config", str(path)]
        self._ready = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        name = f"irmd-test-{os.getpid()}-{id(self)}"
        self._ready.bind("\0" + name)
        environment = {
            **os.environ,
            **WATCHED,
            "OUROBOROS_RUNDIR": str(self.rundir),
            "NOTIFY_SOCKET": "@" + name,
        }
        with self.log.open("ab") as log:
            return subprocess.Popen(arguments, env=environment, stdout=log, stderr=log)

    def await_ready(self) -> None:
        pidfd = os.pidfd_open(self.process.pid)
        try:
            readable, _, _ = select.select([self._ready.fileno(), pidfd], [], [], PATIENCE)
            assert self._ready.fileno() in readable, self.log.read_text()
        finally:
            os.close(pidfd)
            self._ready.close()

    @property
    def socket(self) -> Path:
        return self.rundir / "irm.sock"

    def peer(self) -> Peer:
        peer = Peer(self.socket)
        self.peers.append(peer)
        return peer

    def application(self, program: str = "/bin/test") -> Peer:
        peer = self.peer()
        assert not peer.hello(program=program).error
        return peer

    def tool(self) -> Peer:
        peer = self.peer()
        assert not peer.hello(Hello.Kind.TOOL).error
        return peer

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.sent.add(number)
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)

    def kill(self, pid: int) -> None:
        """Kill a process of the system, e.g. an IPCP."""
        self.killed.add(pid)
        os.kill(pid, signal.SIGKILL)

    def __enter__(self) -> Daemon:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for peer in self.peers:
            peer.close()
        if self.process.poll() is None:
            self.stop()
        log = self.log.read_text(errors="replace")
        print(log)
        shutil.rmtree(self.base, ignore_errors=True)
        if kind is None:
            check_code(self.process.returncode, "the IRMd", self.sent, log)
            check_log(log, "in the IRMd's system", killed=self.killed)
