"""Deaths by signal: a test fails when a signal that it did not send killed a process of this project.

There are three sources, because each shows deaths that the others cannot: the exit status of the processes that a test started (`Program`, `System.run`,
a lab's IRMds); the log, where the IRMd reports the ends of its IPCPs, their parent and the programs that it started, and where
Python's fault handler (`WATCHED`) writes from inside a process that faults; and the kernel's log, over the whole run, for
processes that no other process waits for (`tests/kernel_log.py`).

A test that kills a process uses `Program.kill`, `System.kill` or `SystemOfTest.kill`.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Container

WATCHED = {"PYTHONFAULTHANDLER": "1"}
"""What the environment of the processes of a test has: a process that faults writes where, before it dies."""

_KILLED = re.compile(r"\(pid (\d+)\) was killed by (SIG\w+|signal \d+)")
_FAULT = re.compile(r"Fatal Python error: |(Address|Leak|Thread|Undefined\w*)Sanitizer|: runtime error: ")


def deaths(log: str, *, killed: Container[int] = ()) -> list[str]:
    """The lines of a log that tell of a death by signal, but for the processes in `killed`.

    SIGTERM is no defect's: the IRMd sends it to what it started, and a program may die of it.
    """
    found = []
    for line in log.splitlines():
        match = _KILLED.search(line)
        if match and match[2] != signal.SIGTERM.name and int(match[1]) not in killed or _FAULT.search(line):
            found.append(line)
    return found


def check_log(log: str, where: str, *, killed: Container[int] = ()) -> None:
    """AssertionError when the log tells of a death by a signal that the test did not send."""
    found = deaths(log, killed=killed)
    assert not found, f"died of a signal {where}:\n" + "\n".join(found) + f"\n---- the whole log\n{log}"


def check_code(code: int, what: object, sent: Container[int], output: str) -> None:
    """AssertionError when an exit code is that of a signal that is not in `sent`."""
    if code < 0 and -code not in sent:
        name = signal.Signals(-code).name
        raise AssertionError(
            f"{what} was killed by {name}, which the test did not send; it printed:\n{output}"
        )
