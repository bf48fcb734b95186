"""Process: a peer as the benchmark sees it, with commands and answers as JSON lines over its standard streams."""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 60.0  # seconds without an answer after which a peer is taken for hung
PR_SET_PDEATHSIG = 1

_libc = ctypes.CDLL(None)


class PeerError(Exception):
    """A peer failed, or gave no answer."""


def die_with_parent() -> None:
    """Between fork and exec: end when the benchmark does, even if that was killed."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def born(enter: Callable[[], None] | None) -> Callable[[], None]:
    """The code of a child between fork and exec, with `enter` of its namespace if it has one."""

    def begin() -> None:
        if enter:
            enter()
        die_with_parent()

    return begin


class Process:
    """A running `tests.bench.peer`; leaving it as a context manager ends it."""

    def __init__(
        self,
        subject: str,
        role: str,
        args: Mapping[str, Any],
        *,
        fds: tuple[int, ...] = (),
        env: Mapping[str, str] | None = None,
        enter: Callable[[], None] | None = None,
    ) -> None:
        self.title = f"{subject} {role}"
        self._child = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.peer", subject, role, json.dumps(args)],
            cwd=ROOT,
            env={**os.environ, **(env or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=fds,
            preexec_fn=born(enter),
        )
        self._buffer = b""

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._child.pid

    @property
    def _out(self) -> IO[bytes]:
        assert self._child.stdout is not None
        return self._child.stdout

    def ask(self, **command: Any) -> None:
        """Send a command."""
        assert self._child.stdin is not None
        try:
            self._child.stdin.write(json.dumps(command).encode() + b"\n")
            self._child.stdin.flush()
        except BrokenPipeError as e:
            raise PeerError(f"{self.title} (pid {self.pid}) has ended") from e

    def expect(self, word: str, patience: float = PATIENCE) -> Any:
        """The next answer, which must be `word`; raises PeerError for another, an error, or none within `patience` s."""
        while b"\n" not in self._buffer:
            if not select.select([self._out], [], [], patience)[0]:
                raise PeerError(
                    f"{self.title} (pid {self.pid}) gave no answer ({word!r}) for {patience:.0f} s"
                )
            piece = os.read(self._out.fileno(), 1 << 16)
            if not piece:
                raise PeerError(f"{self.title} (pid {self.pid}) ended without an answer ({word!r})")
            self._buffer += piece
        line, _, self._buffer = self._buffer.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise PeerError(f"{self.title}: {answer['error']}")
        if word not in answer:
            raise PeerError(f"{self.title}: expected {word!r}, got {answer}")
        return answer[word]

    def close(self) -> None:
        """End it: by the end of its input, and by force if that does not help."""
        assert self._child.stdin is not None
        try:
            self._child.stdin.close()
        except BrokenPipeError:
            pass
        try:
            self._child.wait(0.5)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        self._out.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
