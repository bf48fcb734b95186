"""The log of the daemons: IRMd and IPCPs (docs/reference/irmd.md).

`==PID== sub(LVL): text` on standard output when asked for, coloured on terminals only (`NO_COLOR` is
honoured); otherwise the journal (its native socket), else syslog, else standard error.
"""

from __future__ import annotations

import logging
import logging.handlers
import os
import socket
import struct
import sys
from typing import TextIO

JOURNAL = "/run/systemd/journal/socket"
SYSLOG = "/dev/log"

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
        # The text may hold names that strangers chose: one record is one line.
        text = record.getMessage().replace("\n", " ").replace("\033", "?")
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
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


def start(identifier: str, *, stdout: bool, debug: bool = False) -> bool:
    """Send the log of this process to standard output, or to the system's log. Whether a person at the
    terminal sees it."""
    logging.raiseExceptions = False  # a log that is full or gone must not stop a daemon
    handler = _stream(sys.stdout) if stdout else _system(identifier)
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
