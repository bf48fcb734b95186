"""Machine: what the figures of a run depend on."""

from __future__ import annotations

import os
import platform
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
