"""The stage of the demo: shows each command, runs it, and removes every program and file at the end, also after a failure."""

from __future__ import annotations

import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
TIMEOUT = 60.0
"""Seconds after which a step counts as stuck."""


class DemoFailure(Exception):
    """A step failed; the text names the step and the reason."""


class Program:
    """A program in the background, and the lines that it prints, each with the time at which it was read."""

    def __init__(self, command: str, argv: Sequence[str], **options: Any) -> None:
        self.command = command
        self.process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            **options,
        )
        self._lines: queue.Queue[tuple[float, str] | None] = queue.Queue()
        threading.Thread(target=self._collect, daemon=True).start()

    def _collect(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put((time.monotonic(), line.rstrip("\n")))
        self._lines.put(None)

    def line(self, timeout: float = TIMEOUT) -> tuple[float, str]:
        """The next line and when it was read. Raises DemoFailure if there is none within `timeout` seconds."""
        try:
            found = self._lines.get(timeout=timeout)
        except queue.Empty:
            raise DemoFailure(f"`{self.command}` has printed nothing for {timeout:.0f} s") from None
        if found is None:
            raise DemoFailure(f"`{self.command}` ended with exit code {self.process.wait()}")
        return found

    def pending(self) -> bool:
        """Whether a line is there already."""
        return not self._lines.empty()

    def show_until(self, text: str) -> None:
        """Show the lines that it prints, up to a line with this text."""
        while True:
            _, line = self.line()
            print(line, flush=True)
            if text in line:
                return

    def rest(self) -> list[tuple[float, str]]:
        """The lines that it prints until it exits."""
        found = []
        while (one := self._lines.get(timeout=TIMEOUT)) is not None:
            found.append(one)
        return found

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Stop the program (with SIGKILL if the signal does not end it); returns its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()


class Stage:
    """A private folder, and the programs that the demo started. A context manager."""

    def __init__(self) -> None:
        # Directly under /tmp: the path of a UNIX socket has at most 107 bytes.
        self.base = Path(tempfile.mkdtemp(prefix="ouro-demo-", dir="/tmp"))
        self.pictures = CHECKOUT / "demo" / "pictures"
        self.env = {
            **os.environ,
            "PATH": f"{BIN}:{os.environ.get('PATH', os.defpath)}",
            "PYTHONUNBUFFERED": "1",
        }
        self.running: list[Program] = []
        self.logs: dict[str, Path] = {}
        """Logs to show when a step fails, by the program that wrote them."""
        self.colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ

    def __enter__(self) -> Stage:
        return self

    def __exit__(self, *_: object) -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # the demo is being stopped already
        for program in self.running:
            program.stop()
        shutil.rmtree(self.base, ignore_errors=True)

    # ---------------------------------------------------------------- output

    def title(self, text: str) -> None:
        print(f"\n\033[1;36m# {text}\033[0m" if self.colour else f"\n# {text}", flush=True)

    def show(self, command: str, system: str = "") -> None:
        """Print a command as a user types it; with several systems, with the system where it is typed."""
        text = f"{system}$ {command}" if system else f"$ {command}"
        print(f"\033[1m{text}\033[0m" if self.colour else text, flush=True)

    def note(self, text: str) -> None:
        print(f"\033[2m  {text}\033[0m" if self.colour else f"  {text}", flush=True)

    def show_logs(self) -> None:
        for what, path in self.logs.items():
            if path.exists():
                print(f"\nlog of {what}:\n{path.read_text(errors='replace')}", file=sys.stderr)

    def check_logs(self) -> None:
        """Raise DemoFailure when a log reports a process that a signal killed, unless SIGTERM: with that the IRMd stops its programs."""
        for what, path in self.logs.items():
            log = path.read_text(errors="replace") if path.exists() else ""
            for line in log.splitlines():
                if re.search(r"was killed by (?!SIGTERM)|Fatal Python error", line):
                    raise DemoFailure(f"a process of {what} died: {line}")

    # ---------------------------------------------------------------- commands

    def run(
        self, command: str, argv: Sequence[str], *, system: str = "", env: dict[str, str] | None = None
    ) -> None:
        """Show a command and run it with the demo's output as its own; fail unless its exit code is 0."""
        self.show(command, system)
        try:
            result = subprocess.run(
                argv, env=env or self.env, cwd=CHECKOUT, stdin=subprocess.DEVNULL, timeout=TIMEOUT
            )
        except subprocess.TimeoutExpired:
            raise DemoFailure(f"`{command}` has not ended after {TIMEOUT:.0f} s") from None
        if result.returncode != 0:
            where = f" on system {system}" if system else ""
            raise DemoFailure(f"`{command}`{where} ended with exit code {result.returncode}")

    def start(
        self, command: str, argv: Sequence[str], *, system: str = "", env: dict[str, str] | None = None
    ) -> Program:
        """Show a command and start it in the background."""
        self.show(command + " &", system)
        program = Program(command, argv, env=env or self.env, cwd=CHECKOUT)
        self.running.append(program)
        return program
