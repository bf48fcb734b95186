"""Processor time of processes, in seconds of user and system time together."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path


def spent(pid: int) -> float:
    """Processor time of process `pid` so far, all its threads, living and dead.

    A process's CPU clock has nanoseconds where /proc/<pid>/stat has ticks of 10 ms; its clock id is built as
    clock_getcpuclockid(3) builds it (CPUCLOCK_SCHED = 2). Raises ProcessLookupError when the process is gone.
    """
    try:
        return time.clock_gettime((~pid << 3) | 2)
    except OSError as e:
        raise ProcessLookupError(f"process {pid} is gone: its processor time cannot be read") from e


def spent_by(pids: Iterable[int]) -> float:
    """Sum of `spent` over processes; those that have gone count as nothing."""
    total = 0.0
    for pid in pids:
        try:
            total += spent(pid)
        except ProcessLookupError:
            continue
    return total


def descendants(root: int) -> list[int]:
    """`root` and all processes below it, ascending."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            stat = (entry / "stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        # The name in parentheses may hold anything, so count from the last one: state, parent.
        parent = int(stat.rpartition(")")[2].split()[1])
        children.setdefault(parent, []).append(int(entry.name))
    found, todo = [], [root]
    while todo:
        pid = todo.pop()
        found.append(pid)
        todo += children.get(pid, ())
    return sorted(found)


def private_mib(pid: int) -> float:
    """Memory that only process `pid` holds (Private_Clean + Private_Dirty), in MiB."""
    kib = 0
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8").splitlines():
        if line.startswith(("Private_Clean:", "Private_Dirty:")):
            kib += int(line.split()[1])
    return kib / 1024
