"""PrivateSystem: an IRMd of our own in a temporary run directory, and the `irm` tool to manage it."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.bench.cpu import descendants
from tests.bench.process import ROOT, PeerError, Process, born
from tests.deaths import deaths

START = 20.0  # seconds the IRMd may take until it answers
STOP = 15.0  # seconds it may take to stop before it is killed


def program(name: str, module: str) -> list[str]:
    """Command line of an installed program of this project; from the checkout where it is not installed."""
    script = Path(sys.executable).with_name(name)
    if script.exists():
        return [str(script)]
    return [sys.executable, "-c", f"import sys; from {module} import main; sys.exit(main())"]


def tools_package() -> str:
    """The tools' import package: `ouroboros_tools` once installed, `tools` in the checkout."""
    from importlib.util import find_spec

    return "ouroboros_tools" if find_spec("ouroboros_tools") else "tools"


class PrivateSystem:
    """A running system; leaving it as a context manager stops it and removes its run directory."""

    def __init__(
        self,
        enter: Callable[[], None] | None = None,
        env: Mapping[str, str] | None = None,
        config: Path | None = None,
    ) -> None:
        self.enter = enter  # what lets a process live in its namespace, if it has one
        self.rundir = tempfile.mkdtemp(prefix="bench-ouroboros-")
        self.env = {**(env or {}), "OUROBOROS_RUNDIR": self.rundir}
        self.irm_command = program("irm", f"{tools_package()}.irm.main")
        self._log = Path(self.rundir + ".log")
        self._layers: set[str] = set()
        self._registered: set[tuple[str, str]] = set()
        with open(self._log, "wb") as log:
            self._irmd = subprocess.Popen(
                [*program("irmd", "irmd.main"), "--stdout", *(["--config", str(config)] if config else [])],
                cwd=ROOT,
                env={**os.environ, **self.env},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                preexec_fn=born(enter),
            )
        try:
            self._await_start()
        except BaseException:
            self.close()
            raise

    def _await_start(self) -> None:
        """Try to connect until a process listens."""
        address = os.path.join(self.rundir, "irm.sock")
        deadline = time.monotonic() + START
        while True:
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
                try:
                    sock.connect(address)
                    return
                except OSError:
                    pass
            if self._irmd.poll() is not None:
                raise PeerError(f"irmd ended with {self._irmd.returncode}: {self._last_words()}")
            if time.monotonic() > deadline:
                raise PeerError(
                    f"irmd does not listen on {address} after {START:.0f} s: {self._last_words()}"
                )
            time.sleep(0.005)

    def _last_words(self) -> str:
        lines = self.log().strip().splitlines()
        return lines[-1] if lines else "it said nothing"

    def log(self) -> str:
        """The log of the IRMd and its IPCPs so far."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def pids(self) -> list[int]:
        """The IRMd and all processes that it started, IPCPs among them."""
        return descendants(self._irmd.pid)

    def irm(self, *words: str) -> str:
        """Run `irm`; returns its output. Raises PeerError with its message when it fails."""
        done = subprocess.run(
            [*self.irm_command, *words],
            cwd=ROOT,
            env={**os.environ, **self.env},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )
        if done.returncode:
            said = (done.stderr or done.stdout).strip().splitlines()
            raise PeerError(
                f"irm {' '.join(words)}: exit code {done.returncode}: {said[-1] if said else 'no message'}"
            )
        return done.stdout

    def read(self, what: str, ipcp: str) -> list[dict[str, Any]]:
        """A read-out of an IPCP: a word of `irm ipcp`."""
        found: list[dict[str, Any]] = json.loads(self.irm("ipcp", what, "name", ipcp, "--json"))[what]
        return found

    def bootstrap(self, kind: str, name: str, *options: str) -> None:
        """A layer of that name, and its first IPCP of the same name."""
        self.irm("ipcp", "bootstrap", "type", kind, "name", name, "layer", name, *options)

    def local_layer(self, name: str) -> None:
        """Have a local layer of that name."""
        if name not in self._layers:
            self.bootstrap("local", name)
            self._layers.add(name)

    def register(self, name: str, layer: str, *, kind: str = "layer") -> None:
        """Have a name registered in a layer, or with `kind` "ipcp" by the IPCP of that name."""
        if (name, layer) not in self._registered:
            self.irm("name", "register", name, kind, layer)
            self._registered.add((name, layer))

    def manager(self) -> Process:
        """A peer that takes the commands of `manager`."""
        peer = Process("ouroboros", "manager", {}, env=self.env)
        try:
            peer.expect("ready")
        except BaseException:
            peer.close()
            raise
        return peer

    def close(self) -> None:
        """Stop the IRMd, and remove what it and we made. A process that a signal killed is shown: the numbers are worth nothing."""
        self._irmd.terminate()
        try:
            self._irmd.wait(STOP)
        except subprocess.TimeoutExpired:
            self._irmd.kill()
            self._irmd.wait()
        shutil.rmtree(self.rundir, ignore_errors=True)
        for line in deaths(self.log()):
            print(line, file=sys.stderr)
        self._log.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
