"""`make demo`: a whole Ouroboros system in a few seconds, as any user, and nothing left of it afterwards.

Every line that begins with `$` is a command that you can type yourself; the run directory is a private one, so the demo
does not meet a system that runs already. Exit code 0 when everything worked; otherwise the log of the IRMd is shown.
"""

from __future__ import annotations

import os
import select
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import FrameType

CHECKOUT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
PATIENCE = 60.0
"""Seconds after which a step hangs rather than takes its time."""


class DemoFailure(Exception):
    """A step did not do what it should; the text says which and how."""


class Demo:
    """The private system, and the programs that run on it. Leaving the context stops all of them."""

    def __init__(self) -> None:
        # Directly under /tmp: the path of a UNIX socket has at most 107 bytes.
        self.base = Path(tempfile.mkdtemp(prefix="ouro-demo-", dir="/tmp"))
        self.log = self.base / "irmd.log"
        self.env = {
            **os.environ,
            "OUROBOROS_RUNDIR": str(self.base / "run"),
            "PATH": f"{BIN}:{os.environ.get('PATH', os.defpath)}",
            "PYTHONUNBUFFERED": "1",
        }
        self.running: list[subprocess.Popen[str]] = []
        self.irmd: subprocess.Popen[str] | None = None
        self.colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ

    # ---------------------------------------------------------------- what is shown

    def title(self, text: str) -> None:
        print(f"\n\033[1;36m# {text}\033[0m" if self.colour else f"\n# {text}", flush=True)

    def show(self, command: str) -> None:
        print(f"\033[1m$ {command}\033[0m" if self.colour else f"$ {command}", flush=True)

    # ---------------------------------------------------------------- what is done

    def run(self, command: str) -> None:
        """Show a command, run it to its end with its output on ours, and insist on exit code 0."""
        self.show(command)
        process = self._start(shlex.split(command))
        try:
            code = process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise DemoFailure(f"`{command}` has not ended after {PATIENCE:.0f} s") from None
        if code != 0:
            raise DemoFailure(f"`{command}` ended with exit code {code}")

    def start(self, command: str) -> subprocess.Popen[str]:
        """Show a command and start it in the background; `show_line_of` shows what it prints."""
        self.show(command + " &")
        return self._start(shlex.split(command), stdout=subprocess.PIPE)

    def show_line_of(self, process: subprocess.Popen[str]) -> None:
        """Wait for a line of a program in the background, and show it."""
        assert process.stdout is not None
        if not select.select([process.stdout], [], [], PATIENCE)[0] or not (
            line := process.stdout.readline()
        ):
            raise DemoFailure("the server has printed nothing")
        print(line, end="", flush=True)

    def start_irmd(self) -> None:
        """Start the IRMd, and wait until it says that it is ready, in the way it says it to systemd."""
        self.show(f"export OUROBOROS_RUNDIR={self.env['OUROBOROS_RUNDIR']}")
        self.show("irmd --stdout > irmd.log &")
        address = str(self.base / "notify")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready, open(self.log, "w") as log:
            ready.bind(address)
            self.irmd = subprocess.Popen(
                [str(BIN / "irmd"), "--stdout"],
                env={**self.env, "NOTIFY_SOCKET": address},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,  # Ctrl-C is for the demo, which then stops the IRMd in good order
            )
            pidfd = os.pidfd_open(self.irmd.pid)
            try:
                while True:
                    readable, _, _ = select.select([ready.fileno(), pidfd], [], [], PATIENCE)
                    if ready.fileno() not in readable:
                        raise DemoFailure("the irmd did not start")
                    if b"READY=1" in ready.recv(4096).split(b"\n"):
                        return
            finally:
                os.close(pidfd)

    def stop(self, process: subprocess.Popen[str]) -> int:
        """End a program (SIGTERM, and SIGKILL for one that does not care); its exit code."""
        if process.poll() is None:
            process.terminate()
        try:
            return process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()

    def stop_irmd(self) -> None:
        """Stop the IRMd as systemd would; it stops its IPCPs and the servers that it has started."""
        if self.irmd is None:
            return
        self.show("kill %irmd")
        code = self.stop(self.irmd)
        self.irmd = None
        if code != 0:
            raise DemoFailure(f"the irmd ended with exit code {code}")

    def show_log(self) -> None:
        if self.log.exists():
            print(f"\nlog of the irmd:\n{self.log.read_text(errors='replace')}", file=sys.stderr)

    def _start(self, argv: list[str], stdout: int | None = None) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            argv, env=self.env, cwd=CHECKOUT, stdin=subprocess.DEVNULL, stdout=stdout, text=True
        )
        self.running.append(process)
        return process

    def close(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # it is being stopped already
        for process in self.running:
            self.stop(process)
        if self.irmd is not None:
            self.stop(self.irmd)
        shutil.rmtree(self.base, ignore_errors=True)


def show_everything(demo: Demo) -> None:
    demo.title("The IRMd, which manages the system. It needs no privileges.")
    demo.start_irmd()

    demo.title("A layer: an IPC process of type `local`, which connects the programs of one system")
    demo.run("irm ipcp bootstrap type local name local layer local")

    demo.title("A server that the IRMd starts when somebody allocates a flow to it, registered in the layer")
    demo.run("irm bind program oping name oping auto -- --listen --quiet")
    demo.run("irm name register oping layer local")

    demo.title("64 bytes there and back: directly between the two processes, and over the layer")
    demo.run("oping --server-name oping --count 5 --interval 100 --size 64")
    demo.run("oping --server-name oping --count 5 --interval 100 --size 64 --layer local")

    demo.title("How much goes through: as many packets of 1500 bytes as it takes, for a second")
    demo.run("irm bind program operf name operf auto -- --listen")
    demo.run("irm name register operf layer local")
    demo.run("operf --server-name operf --duration 1s --size 1500 --flood")
    demo.run("operf --server-name operf --duration 1s --size 1500 --flood --layer local")

    demo.title("Two programs of ten lines: start the server, give its process a name, run the client")
    server = demo.start("python examples/hello.py --listen")
    demo.run(f"irm bind process {server.pid} name helloworld-server")
    demo.run("python examples/hello.py")
    demo.show_line_of(server)
    demo.stop(server)

    demo.title("What there is now")
    demo.run("irm ipcp list")
    demo.run("irm name list")

    demo.title("Stop everything")
    demo.stop_irmd()


def on_signal(number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt(signal.Signals(number).name)


def main(show: Callable[[Demo], None] = show_everything) -> int:
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, on_signal)
    demo = Demo()
    try:
        show(demo)
        print("\nThe demo is done, and nothing of it is left. docs/tutorial.md goes on from here.")
        return 0
    except DemoFailure as failure:
        print(f"\nThe demo failed: {failure}.", file=sys.stderr)
        demo.show_log()
        return 1
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        return 130
    finally:
        demo.close()


if __name__ == "__main__":
    sys.exit(main())
