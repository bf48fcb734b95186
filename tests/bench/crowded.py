"""Crowded: a peer process with a large number of reliable flows, and their costs. Commands of `manager`."""

from __future__ import annotations

import gc
import threading
import tracemalloc
from contextlib import suppress
from pathlib import Path
from time import monotonic_ns, process_time_ns, sleep
from typing import Any

from tests.bench.reliable import DATA
from tests.bench.subjects.ouroboros import PATIENCE, reach

_flows: list[Any] = []


def resident(smaps: str) -> tuple[int, int]:
    """KiB that are this process's alone and no shared memory; and KiB of shared memory that it has touched."""
    own = shared = 0
    memfd = False
    for line in smaps.splitlines():
        head, *rest = line.split()
        if not head.endswith(":"):
            memfd = "/memfd:" in line
        elif memfd and head == "Rss:":
            shared += int(rest[0])
        elif not memfd and head in ("Private_Clean:", "Private_Dirty:"):
            own += int(rest[0])
    return own, shared


def _memory() -> dict[str, int]:
    gc.collect()
    own, shared = resident(Path("/proc/self/smaps").read_text(encoding="utf-8"))
    traced, _ = tracemalloc.get_traced_memory() if tracemalloc.is_tracing() else (0, 0)
    return {"own": own, "shared": shared, "traced": traced, "flows": len(_flows)}


def gather(name: str, count: int, accept: bool) -> dict[str, Any]:
    """Allocate or accept `count` more flows of data; returns the resources of this process."""
    from ouroboros import QoSSpec, flow_accept, flow_alloc

    qos = QoSSpec(**DATA)
    if not accept and not _flows:
        _flows.append(reach(name, None, DATA))
        count -= 1
    for _ in range(count):
        _flows.append(flow_accept(PATIENCE) if accept else flow_alloc(name, qos, PATIENCE))
    return _memory()


def trace() -> dict[str, Any]:
    """From now on count what Python allocates."""
    tracemalloc.start()
    return _memory()


def idle(seconds: float) -> dict[str, Any]:
    """Let that much time pass: the share of it that this process was at work, and what each packet that came took its thread."""
    began, before, thread = monotonic_ns(), process_time_ns(), _thread_ns()
    sleep(seconds)
    passed = monotonic_ns() - began
    busy, thread_ns = process_time_ns() - before, _thread_ns() - thread
    return {"share": busy / passed, "thread_ns": thread_ns, "unread": sum(map(_drain, some(len(_flows))))}


def _drain(flow: Any) -> int:
    got = 0
    flow.blocking = False
    with suppress(BlockingIOError):
        while True:
            got += len(flow.readv())
    flow.blocking = True
    return got


def _thread_ns() -> int:
    """Processor time of all threads but this one: of the library's."""
    mine = threading.get_native_id()
    return sum(
        int((task / "schedstat").read_text(encoding="utf-8").split()[0])
        for task in Path("/proc/self/task").iterdir()
        if int(task.name) != mine
    )


ACTIVE = 10  # flows of those that there are on which something goes on


def some(count: int) -> list[Any]:
    """ACTIVE of the flows, from among all."""
    return [_flows[number * count // ACTIVE] for number in range(ACTIVE)]


def poke(count: int, seconds: float) -> dict[str, Any]:
    """Write a packet without a reader to one of ACTIVE flows in turn, at an interval in seconds."""
    flows = some(len(_flows))
    for number in range(count):
        flows[number % ACTIVE].write(bytes(64))
        sleep(seconds)
    return {}


def talk(count: int, answer: bool) -> dict[str, Any]:
    """Packets over one of the flows, in bursts, from one end to the other: the processor time that this one needs, in ns.

    Not round trips: whether two processes share a core or not makes these four times as long, and any other difference small.
    """
    flow, burst = some(len(_flows))[ACTIVE // 2], [bytes(64)] * 64
    before, left = process_time_ns(), count
    while left > 0:
        left -= len(flow.readv()) if answer else flow.writev(burst[:left])
    return {"cpu_ns": process_time_ns() - before}
