"""The log of the daemons: IRMd and IPCPs (docs/reference/irmd.md).

`==PID== sub(LVL): text` on standard output when asked for, coloured on terminals only (`NO_COLOR` is
honoured); otherwise the journal (its native socket), else syslog, else standard error.

Lines that other parties cause are bounded in number. `LogLimiter` bounds the lines about one culprit, so that
one user or neighbour cannot keep lines about another out of the log. Behind it, every handler bounds the lines of each place in the
code (`SiteLimit`), whatever their cause. Suppressed lines are counted, and the next line that is written gives the count.
"""

from __future__ import annotations

import logging
import logging.handlers
import os
import socket
import struct
import sys
import time
from collections.abc import Callable
from typing import TextIO

from .limiter import Limiter
from .printable import printable

JOURNAL = "/run/systemd/journal/socket"
SYSLOG = "/dev/log"

BURST = 20
"""Lines about one culprit in `limiter.PERIOD`."""

SITE_BURST = 50
"""Lines from one place in the code in the same time."""

WARNING_PERIOD = 60.0
"""Seconds in which one place in the code may write WARNING_BURST warnings and errors, of which TRACE_BURST with a traceback."""

WARNING_BURST = 20
TRACE_BURST = 3

_LEVELS = {
    logging.DEBUG: ("DB", "", 7),
    logging.INFO: ("II", "\033[32m", 6),
    logging.WARNING: ("WW", "\033[33m", 4),
    logging.ERROR: ("EE", "\033[31m", 3),
    logging.CRITICAL: ("EE", "\033[31m", 2),
}
_RESET = "\033[0m"


class Format(logging.Formatter):
    """`==PID== sub(LVL): text`; the logger's name is the prefix, e.g. `irmd/flow`."""

    def __init__(self, *, colour: bool = False) -> None:
        super().__init__()
        self._colour = colour

    def format(self, record: logging.LogRecord) -> str:
        level, colour, _ = _LEVELS.get(record.levelno, _LEVELS[logging.INFO])
        # The text may hold names that another party chose: one record is one line.
        text = printable(record.getMessage())
        if record.exc_info:
            # Indented: no line of the exception's text can be taken for a record.
            lines = self.formatException(record.exc_info).split("\n")
            text = "\n    ".join([text, *map(printable, lines)])
        line = f"=={os.getpid():05d}== {record.name}({level}): {text}"
        return f"{colour}{line}{_RESET}" if self._colour and colour else line


class JournalHandler(logging.Handler):
    """Native protocol of the systemd journal: one datagram of fields for each record."""

    def __init__(self, identifier: str, path: str = JOURNAL) -> None:
        super().__init__()
        self._identifier = identifier
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._sock.connect(path)

    def emit(self, record: logging.LogRecord) -> None:
        _, _, priority = _LEVELS.get(record.levelno, _LEVELS[logging.INFO])
        text = self.format(record).encode(errors="replace")
        message = f"PRIORITY={priority}\nSYSLOG_IDENTIFIER={self._identifier}\nMESSAGE\n".encode()
        try:
            self._sock.send(message + struct.pack("<Q", len(text)) + text + b"\n")
        except OSError:
            self.handleError(record)

    def close(self) -> None:
        self._sock.close()
        super().close()


class LogLimiter:
    """Lines about culprits, e.g. "processes of uid 1000": at most BURST about each in `limiter.PERIOD`. `clock` gives seconds."""

    __slots__ = ("_log", "_windows")

    def __init__(self, log: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._windows = Limiter(clock)

    def log(self, level: int, about: str, text: str, *args: object, exc_info: bool = False) -> None:
        """Write a line, unless there were enough of them about the same culprit lately."""
        left_out = self._windows.admit(about, BURST)
        if left_out is None:
            return
        if left_out:
            self._log.log(level, "%d more lines about %s were left out", left_out, about, stacklevel=3)
        self._log.log(level, text, *args, exc_info=exc_info, stacklevel=3)

    def info(self, about: str, text: str, *args: object) -> None:
        """A line of level INFO."""
        self.log(logging.INFO, about, text, *args)

    def warning(self, about: str, text: str, *args: object) -> None:
        """A line of level WARNING."""
        self.log(logging.WARNING, about, text, *args)

    def exception(self, about: str, text: str, *args: object) -> None:
        """A line of level ERROR, with the traceback of the exception that is being handled."""
        self.log(logging.ERROR, about, text, *args, exc_info=True)


class SiteLimit(logging.Filter):
    """Bounds the lines of each place in the code. Lines for debugging are not bounded: a person asked for them."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._lines = Limiter(clock)
        self._warnings = Limiter(clock, WARNING_PERIOD)

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is written."""
        if record.levelno <= logging.DEBUG:
            return True
        site = (record.pathname, record.lineno)
        if record.levelno < logging.WARNING:
            left_out = self._lines.admit(site, SITE_BURST)
        else:
            left_out = self._warnings.admit(site, TRACE_BURST if record.exc_info else WARNING_BURST)
        if left_out:
            record.msg = f"{record.getMessage()} ({left_out} more lines like this were left out)"
            record.args = None
        return left_out is not None


def _stream(stream: TextIO) -> logging.Handler:
    handler = logging.StreamHandler(stream)
    handler.setFormatter(Format(colour=stream.isatty() and not os.environ.get("NO_COLOR")))
    return handler


def _system(identifier: str) -> logging.Handler:
    handler: logging.Handler
    try:
        handler = JournalHandler(identifier)
    except OSError:
        try:
            handler = logging.handlers.SysLogHandler(
                SYSLOG, facility=logging.handlers.SysLogHandler.LOG_DAEMON
            )
            handler.ident = f"{identifier}: "
        except OSError:
            return _stream(sys.stderr)
    handler.setFormatter(Format())
    return handler


def system_log() -> bool:
    """Whether the system has a log: the journal, or syslog."""
    return os.path.exists(JOURNAL) or os.path.exists(SYSLOG)


def start(identifier: str, *, stdout: bool, debug: bool = False) -> bool:
    """Send the log of this process to standard output, or to the system's log. Whether a person at the
    terminal sees it."""
    logging.raiseExceptions = False  # a log that is full or closed must not stop a daemon
    handler = _stream(sys.stdout) if stdout else _system(identifier)
    handler.addFilter(SiteLimit())
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(logging.DEBUG if debug else logging.INFO)
    return isinstance(handler, logging.StreamHandler)


def set_comm(name: str) -> None:
    """Name this process for `ps` and `top` (at most 15 octets are shown)."""
    try:
        with open("/proc/self/comm", "wb") as file:
            file.write(name.encode()[:15])
    except OSError:
        return  # no /proc: it goes by the interpreter's name
