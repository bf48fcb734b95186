"""Machine: the properties that the figures of a run depend on, and the load of other processes during it."""

from __future__ import annotations

import os
import platform
from time import monotonic
from typing import Any


def _field(path: str, name: str) -> str:
    """Value of the first `name : value` line of a /proc file, or an empty string."""
    try:
        with open(path, encoding="utf-8") as lines:
            for line in lines:
                key, _, value = line.partition(":")
                if key.strip() == name:
                    return value.strip()
    except OSError:
        pass
    return ""


def describe() -> dict[str, Any]:
    """Processor, cores, memory (MiB), kernel, Python, and the load (1 minute) at the start."""
    memory = _field("/proc/meminfo", "MemTotal").split()
    return {
        "cpu": _field("/proc/cpuinfo", "model name") or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_mib": int(memory[0]) // 1024 if memory else 0,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 2),
    }


def _busy() -> float:
    """Processor time that the machine has used so far, stolen time included, in seconds of one core."""
    with open("/proc/stat", encoding="utf-8") as lines:
        user, nice, system, _idle, _wait, irq, softirq, steal = map(int, lines.readline().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


class Others:
    """How much of the machine others use while this run goes on."""

    def __init__(self) -> None:
        self._before = self._now()

    @staticmethod
    def _now() -> tuple[float, float]:
        own = os.times()  # with all children that have ended
        return monotonic(), _busy() - own.user - own.system - own.children_user - own.children_system

    def cores(self) -> float:
        """Cores that were busy with others since the start, on average; meaningful once our children have ended."""
        (began, before), (now, after) = self._before, self._now()
        return round(max(after - before, 0.0) / max(now - began, 1e-9), 2)
