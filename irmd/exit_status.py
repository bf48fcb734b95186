"""How a process ended, for the log: the tests of this project recognise a process that was killed by this text."""

from __future__ import annotations

import signal


def status_text(status: int) -> str:
    """How a process with exit code `status` ended; negative numbers are signals, as in `subprocess`."""
    if status >= 0:
        return f"exited with status {status}"
    try:
        return f"was killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"was killed by signal {-status}"
