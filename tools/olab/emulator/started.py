"""Started: an emulator's process, seen by the process that started it. Used by the holder of a lab, by tests and the benchmark.

Calls wait for the answer of the process, which takes a few milliseconds; one that does not answer is killed, because its
late answer could be taken for that to another request. For one thread at a time.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .impairment import Impairment

START_TIME, ANSWER_TIME = 30.0, 5.0
"""Seconds after which a process that does not answer is killed."""


class EmulatorError(OSError):
    """An emulator could not be started, does not answer, or has ended; the text has the reason."""


class Emulator:
    """A process that stands between two devices."""

    def __init__(
        self,
        devices: tuple[str, str],
        *,
        env: Mapping[str, str] | None = None,
        enter: Callable[[], None] | None = None,
    ) -> None:
        """Start it, in this network namespace or the one that `enter` (between fork and exec) goes to."""
        self.devices = devices
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "ouroboros_tools.olab.emulator.process", *devices],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=env,
            preexec_fn=enter,
            start_new_session=True,
        )
        self._buffer = b""
        self.pid = self._process.pid

    def await_ready(self) -> None:
        """Wait until it forwards frames. Raises EmulatorError."""
        reply = self._receive(START_TIME)
        if "error" in reply:
            self.close()
            raise EmulatorError(reply.get("errno", 0), reply["error"])

    def set(self, impairments: Sequence[Impairment | None]) -> None:
        """Set the impairments of frames from the first device, and from the second; None: as before. Raises EmulatorError."""
        words = [None if impairment is None else str(impairment) for impairment in impairments]
        self._ask({"do": "set", "words": words})

    def show(self) -> dict[str, Any]:
        """`words` and `counters` of both directions. Raises EmulatorError."""
        return self._ask({"do": "show"})

    def exited(self, code: int) -> None:
        """Take note of the process's exit code, which the caller has waited for."""
        self._process.returncode = code
        self.close()

    def close(self) -> None:
        """End it, and wait."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        if self._process.returncode is None:
            self._process.kill()
            self._process.wait()

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        try:
            os.write(self._process.stdin.fileno(), json.dumps(request).encode() + b"\n")
        except (OSError, ValueError):
            raise EmulatorError(0, f"the emulator (pid {self.pid}) has ended") from None
        reply = self._receive(ANSWER_TIME)
        if "error" in reply:
            raise EmulatorError(0, reply["error"])
        return reply

    def _receive(self, timeout: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        fd = self._process.stdout.fileno()
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        deadline = time.monotonic() + timeout
        while b"\n" not in self._buffer:
            if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                self._process.kill()
                raise EmulatorError(0, f"the emulator (pid {self.pid}) does not answer, and was killed")
            octets = os.read(fd, 65536)
            if not octets:
                raise EmulatorError(0, f"the emulator (pid {self.pid}) has ended")
            self._buffer += octets
        line, _, self._buffer = self._buffer.partition(b"\n")
        found: dict[str, Any] = json.loads(line)
        return found
