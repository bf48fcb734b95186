"""Printing of the tools: tables, colour, JSON, and the one line of an error (docs/reference/irm.md).

Shared by the tools, and cheap to import. Colour is for terminals, and for those only that did not set NO_COLOR.
"""

from __future__ import annotations

import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import zip_longest
from typing import Any, TextIO

from ouroboros.printable import printable

from .stdio import FAILURE, OutputError, failed, prepare

USAGE = 2
INTERRUPTED = 130

_WIDE = 8  # columns
_NARROW = 8  # characters: no column of a table is made narrower
_COLOURS = {"red": "31", "yellow": "33", "bold": "1", "dim": "2"}


def table(columns: Sequence[tuple[str, int]], rows: Iterable[Sequence[object]]) -> str:
    """Rows under titles: `columns` gives title and width of each. Right-aligned; longer values push the bar, and on a terminal that is
    too narrow the widest cells are wrapped."""
    lines = [[printable(value) for value in row] for row in rows]
    widths = [width for _, width in columns]
    terminal = terminal_width()
    if terminal is not None:
        widths = _fitting(
            [max(map(width_of, cells)) for cells in zip([t for t, _ in columns], *lines, strict=True)],
            widths,
            terminal,
        )
    bar = "+" + "+".join("-" * (width + 2) for width in widths) + "+"
    shown = [bar, *_row(widths, [title for title, _ in columns], terminal), bar]
    for line in lines:
        shown += _row(widths, line, terminal)
    return "\n".join([*shown, bar])


def _fitting(needed: Sequence[int], wanted: Sequence[int], terminal: int) -> list[int]:
    """The widths of columns on a terminal: as wanted, or less, the widest first, down to the narrowest width of a column."""
    widths = [max(pair) for pair in zip(needed, wanted, strict=True)]
    room = terminal - 3 * len(widths) - 1
    while sum(widths) > room and max(widths) > _NARROW:
        at = max(
            range(len(widths)), key=lambda at: (widths[at] > _NARROW, widths[at] - needed[at], widths[at])
        )
        widths[at] -= 1
    return widths


def width_of(text: str) -> int:
    """The columns that a text without control characters takes on a terminal: two for a wide character, none for one that combines."""
    if text.isascii():
        return len(text)
    from wcwidth import wcswidth

    return wcswidth(text)


def terminal_width(stream: TextIO | None = None) -> int | None:
    """The columns of the terminal that `stream`, by default stdout, is; None when it is none."""
    return shutil.get_terminal_size().columns if (stream or sys.stdout).isatty() else None


def rows_table(rows: Sequence[Mapping[str, object]]) -> str:
    """Records under the names of their fields, each column as wide as its values; a single wide record is printed one field a line."""
    titles = list(dict.fromkeys(key for row in rows for key in row))
    if len(rows) == 1 and len(titles) > _WIDE:
        return rows_table([{"": title, "value": rows[0][title]} for title in titles])
    cells = [[_cell(row.get(title)) for title in titles] for row in rows]
    columns = [
        (title, max(width_of(title), *(width_of(printable(row[at])) for row in cells)))
        for at, title in enumerate(titles)
    ]
    return table(columns, cells)


def _cell(value: object) -> str:
    """A JSON value as the text of a cell."""
    if value is None or value == []:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return " ".join(map(_cell, value))
    if isinstance(value, dict):
        return " ".join(f"{key}={_cell(entry)}" for key, entry in value.items())
    return str(value)


def _row(widths: Sequence[int], cells: Sequence[str], terminal: int | None) -> list[str]:
    """The lines of a row; more than one where cells are wrapped, which on a terminal only they are."""
    parts = [_wrapped(cell, width) if terminal else [cell] for cell, width in zip(cells, widths, strict=True)]
    lines = []
    for texts in zip_longest(*parts, fillvalue=""):
        padded = (" " * (width - width_of(text)) + text for text, width in zip(texts, widths, strict=True))
        lines.append("|" + "".join(f" {text} |" for text in padded))
    return lines


def _wrapped(cell: str, width: int) -> list[str]:
    from wcwidth import wrap

    return wrap(cell, width) or [""]


def coloured(text: str, colour: str, stream: TextIO | None = None) -> str:
    """The text in a colour (red, yellow, bold, dim) if `stream`, by default stdout, is a terminal that wants it."""
    stream = stream or sys.stdout
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or not stream.isatty():
        return text
    return f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m"


def print_json(value: Any) -> None:
    """Print a value as JSON: indented for a terminal, in one line for a program."""
    import json

    indent = 2 if sys.stdout.isatty() else None
    print(json.dumps(value, indent=indent))


def warn(text: str) -> None:
    """Print a warning, which does not stop the command, in one line on stderr."""
    print(coloured(printable(text), "yellow", sys.stderr), file=sys.stderr)


def fail(text: str, code: int = FAILURE) -> int:
    """Print one line on stderr and return the exit code."""
    sys.stdout.flush()
    print(coloured(printable(" ".join(text.split())), "red", sys.stderr), file=sys.stderr)
    return code


def end_by_interrupt() -> None:
    """Let a termination signal end the program as Ctrl-C does, so that a half-done change is taken back."""
    import signal

    signal.signal(signal.SIGTERM, signal.default_int_handler)


def guarded(body: Callable[[], int]) -> int:
    """Run a command; its errors, Ctrl-C and an output that cannot be written become exit codes, never a traceback."""
    import signal

    prepare()
    if (
        signal.getsignal(signal.SIGINT) is signal.SIG_DFL
        and threading.current_thread() is threading.main_thread()
    ):
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        try:
            code = body()
        except (OSError, ValueError) as error:
            code = fail(reason(error))
        except SystemExit as leave:  # argparse: --help, usage
            code = leave.code if isinstance(leave.code, int) else FAILURE
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return INTERRUPTED
    except OutputError as error:
        return failed(error)


def reason(error: BaseException) -> str:
    """Why an error happened, as a text for a person."""
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    text = error.strerror if isinstance(error, OSError) else None
    return text or str(error) or type(error).__name__
