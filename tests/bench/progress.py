"""Progress: one line on standard error, on a terminal only."""

from __future__ import annotations

import sys
from time import monotonic


class Progress:
    """A line that is written over; silent where standard error is not a terminal."""

    def __init__(self) -> None:
        self._shown = sys.stderr.isatty()
        self._began = monotonic()

    def show(self, text: str) -> None:
        """Replace the line."""
        if self._shown:
            sys.stderr.write(f"\r\x1b[K[{monotonic() - self._began:4.0f} s] {text}"[:110])
            sys.stderr.flush()

    def clear(self) -> None:
        """Remove the line."""
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
