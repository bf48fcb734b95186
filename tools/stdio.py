"""Standard streams of the tools: closed, full, or without a reader, they make an exit code and at most one line.

`prepare()` replaces stdout and stderr of the process by the streams below. Then a write to stdout that fails raises
OutputError, which cannot be confused with an error of a flow, and a write to stderr never fails. Runs first in each tool, in its
main thread; where a program has other streams already, as a test has, it leaves them.
"""

from __future__ import annotations

import io
import os
import select
import sys
from errno import EPIPE
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

FAILURE = 1
_MODES = (os.O_WRONLY, os.O_RDONLY, os.O_RDWR)


class OutputError(Exception):
    """Standard output cannot be written; `errno` is the reason."""

    def __init__(self, number: int) -> None:
        super().__init__(f"cannot write to standard output: {os.strerror(number)}")
        self.errno = number


class _Output(io.FileIO):
    """Standard output: a failure is an OutputError; a write waits for a descriptor that does not block."""

    def write(self, data: ReadableBuffer, /) -> int:
        try:
            while (written := super().write(data)) is None:
                select.select([], [self], [])
        except OSError as error:
            raise OutputError(error.errno or EPIPE) from None
        return written


class _Errors(io.FileIO):
    """Standard error: text that cannot be written is lost, because there is no place to report that."""

    def write(self, data: ReadableBuffer, /) -> int:
        try:
            return super().write(data) or memoryview(data).nbytes
        except OSError:
            return memoryview(data).nbytes


def prepare() -> None:
    """Open those of the first three descriptors that are closed, and replace stdout and stderr."""
    for fd, mode in enumerate(_MODES):
        try:
            os.fstat(fd)
        except OSError:
            os.open(
                os.devnull, mode
            )  # in a mode in which it cannot be used, but for stderr: the lowest number is taken
    if _is_original(sys.stdout, sys.__stdout__):
        sys.stdout = _stream(_Output(1, "w", closefd=False), sys.stdout)
    if _is_original(sys.stderr, sys.__stderr__):
        sys.stderr = _stream(_Errors(2, "w", closefd=False), sys.stderr, lines=True)


def failed(error: OutputError, prefix: str = "") -> int:
    """The exit code after stdout could not be written; no line when the reader has closed its end."""
    if error.errno != EPIPE:
        print(f"{prefix}{error}", file=sys.stderr)
    # Python flushes stdout once more at exit: redirect the remaining text to /dev/null.
    os.dup2(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC), 1)
    return FAILURE


def _is_original(stream: TextIO | None, original: TextIO | None) -> bool:
    return stream is original and not isinstance(
        getattr(getattr(stream, "buffer", None), "raw", None), (_Output, _Errors)
    )


def _stream(raw: io.FileIO, old: TextIO | None, *, lines: bool = False) -> TextIO:
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=getattr(old, "encoding", None),
        errors="backslashreplace",
        line_buffering=lines or raw.isatty(),
    )
