"""`irmd --daemon`: the IRMd in the background, and the command that started it waits until it is ready (docs/reference/irmd.md)."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

from ouroboros import log as daemon_log
from ouroboros.printable import printable
from ouroboros.statedir import default_statedir

LOG_NAME = "irmd.log"
_READY = b"\0"


class Background:
    """The write end of a pipe to the waiting parent: the errors of the start, then one zero octet once the system is ready."""

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe

    def failed(self, text: str) -> None:
        """The start has failed: the parent prints `text`."""
        if self._pipe >= 0:
            with suppress(OSError):  # the parent was killed
                os.write(self._pipe, f"{printable(text)}\n".encode())

    def ready(self) -> None:
        """The system is ready: the parent exits."""
        if self._pipe >= 0:
            with suppress(OSError):
                os.write(self._pipe, _READY)
            os.close(self._pipe)
            self._pipe = -1


def log_file(path: str | None) -> str | None:
    """Where a daemon writes its log: the file that was named, None for the system's log, else (there is none) a file in the state directory."""
    if path is not None or daemon_log.system_log():
        return path
    return os.path.join(default_statedir() or "/tmp", LOG_NAME)


def enter(path: str | None) -> Background | int:
    """Go into the background. The child gets its `Background`, the parent the exit code, once the child is ready or has ended.

    The child leads a session of its own. Its standard streams are /dev/null and, where the log is a file, that file. Raises
    OSError when the file cannot be opened.
    """
    output = os.devnull if path is None else path
    if path is not None:
        os.makedirs(os.path.dirname(os.path.abspath(path)), 0o700, exist_ok=True)
    log = os.open(output, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY, 0o600)
    from_child, to_parent = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child:
        os.close(log)
        os.close(to_parent)
        return _wait(child, from_child)
    os.close(from_child)
    os.setsid()
    with open(os.devnull, "rb") as null:
        os.dup2(null.fileno(), 0)
    for stream in (1, 2):
        os.dup2(log, stream)
    os.close(log)
    return Background(to_parent)


def _wait(child: int, pipe: int) -> int:
    """Print what the child reports until it is ready (0) or has ended (its exit code)."""
    with open(pipe, "rb", buffering=0) as file:
        while octets := file.read(4096):
            text, ready, _ = octets.partition(_READY)
            sys.stderr.write(text.decode(errors="replace"))
            sys.stderr.flush()
            if ready:
                return 0
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        sys.stderr.write(f"irmd: ended by signal {-code} before it was ready\n")
    return code if code > 0 else 1
