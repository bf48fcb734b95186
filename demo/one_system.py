"""One system, as any user and without namespaces: flows between its programs, and how fast they are.

Every line that begins with `$` is a command that you can type yourself; the run directory is a private one, so the demo
does not meet a system that runs already.
"""

from __future__ import annotations

import os
import select
import shlex
import signal
import socket
import subprocess

from stage import BIN, TIMEOUT, DemoFailure, Program, Stage


class System:
    """A system of the demo's own. Leaving the context stops it."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.log = stage.base / "irmd.log"
        self.env = {**stage.env, "OUROBOROS_RUNDIR": str(stage.base / "run")}
        self.irmd: subprocess.Popen[bytes] | None = None
        stage.logs["the irmd"] = self.log

    def __enter__(self) -> System:
        return self

    def __exit__(self, *_: object) -> None:
        if self.irmd is not None:
            self.irmd.terminate()
            self.irmd.wait()

    def run(self, command: str) -> None:
        self.stage.run(command, shlex.split(command), env=self.env)

    def start(self, command: str) -> Program:
        return self.stage.start(command, shlex.split(command), env=self.env)

    def start_irmd(self) -> None:
        """Start the IRMd, and wait for its notification READY=1, the one that it sends to systemd."""
        self.stage.show(f"export OUROBOROS_RUNDIR={self.env['OUROBOROS_RUNDIR']}")
        self.stage.show("irmd --stdout > irmd.log &")
        address = str(self.stage.base / "notify")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready, open(self.log, "w") as log:
            ready.bind(address)
            self.irmd = subprocess.Popen(
                [str(BIN / "irmd"), "--stdout"],
                env={**self.env, "NOTIFY_SOCKET": address},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the demo, which then stops the IRMd in good order
            )
            pidfd = os.pidfd_open(self.irmd.pid)
            try:
                while True:
                    readable, _, _ = select.select([ready.fileno(), pidfd], [], [], TIMEOUT)
                    if ready.fileno() not in readable:
                        raise DemoFailure("the irmd did not start")
                    if b"READY=1" in ready.recv(4096).split(b"\n"):
                        return
            finally:
                os.close(pidfd)

    def stop_irmd(self) -> None:
        """Stop the IRMd as systemd would; it stops its IPCPs and the servers that it has started."""
        assert self.irmd is not None
        self.stage.show("kill %irmd")
        self.irmd.send_signal(signal.SIGTERM)
        code = self.irmd.wait(TIMEOUT)
        self.irmd = None
        if code != 0:
            raise DemoFailure(f"the irmd ended with exit code {code}")
        self.stage.check_logs()


def one_system(stage: Stage) -> None:
    """The IRMd, a local layer, servers that are started on demand, and two programs of ten lines."""
    with System(stage) as system:
        stage.title("The IRMd, which manages the system. It needs no privileges.")
        system.start_irmd()

        stage.title("A layer: an IPC process of type `local`, which connects the programs of one system")
        system.run("irm ipcp bootstrap type local name local layer local")

        stage.title(
            "A server that the IRMd starts when a client allocates a flow to it, registered in the layer"
        )
        system.run("irm bind program oping name oping auto -- --listen --quiet")
        system.run("irm name register oping layer local")

        stage.title("64 bytes there and back: directly between the two processes, and over the layer")
        system.run("oping --server-name oping --count 5 --interval 100 --size 64")
        system.run("oping --server-name oping --count 5 --interval 100 --size 64 --layer local")

        stage.title("How much goes through: as many packets of 1500 bytes as it takes, for a second")
        system.run("irm bind program operf name operf auto -- --listen")
        system.run("irm name register operf layer local")
        system.run("operf --server-name operf --duration 1s --size 1500 --flood")
        system.run("operf --server-name operf --duration 1s --size 1500 --flood --layer local")

        stage.title("Two programs of ten lines: start the server, give its process a name, run the client")
        server = system.start("python examples/hello.py --listen")
        system.run(f"irm bind process {server.process.pid} name helloworld-server")
        system.run("python examples/hello.py")
        print(server.line()[1], flush=True)
        server.stop()

        stage.title("IPCPs, names and flows now")
        system.run("irm ipcp list")
        system.run("irm name list")

        stage.title("Stop everything")
        system.stop_irmd()
