"""Text that another party chose, on its way to a log or a terminal."""

from __future__ import annotations

import logging
import sys

import pytest

from ouroboros.log import Format
from ouroboros.printable import printable

HOSTILE = "a\x1b[2J\r\n\x07\x9b1m\u202eb"


def record(text: str, *, failure: str = "") -> logging.LogRecord:
    found = logging.LogRecord("irmd", logging.ERROR, __file__, 1, "layer %s", (text,), None)
    if failure:
        try:
            raise ValueError(failure)
        except ValueError:
            found.exc_info = sys.exc_info()
    return found


@pytest.mark.parametrize("text", [HOSTILE, "\x00", "\u2028", "\ud800", "\x7f"])
def test_nothing_that_moves_the_cursor_is_left(text: str) -> None:
    assert printable(text).isprintable()
    assert Format().format(record(text)).isprintable()


def test_plain_text_stays() -> None:
    assert printable("na\u00efve \u6771\u4eac") == "na\u00efve \u6771\u4eac"


def test_a_traceback_keeps_its_lines_and_no_others() -> None:
    lines = Format().format(record("x", failure=HOSTILE)).split("\n")
    assert all(line.isprintable() for line in lines)
    assert any(line.startswith("    ValueError: a") for line in lines)
    assert all(line.startswith("    ") for line in lines[1:]), "none is a record"
