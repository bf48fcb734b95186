"""Upkeep: figures of the system itself (path `system`) and of the kernel's wake-up (path `floor`)."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

from tests.bench.cpu import private_mib, spent_by
from tests.bench.pair import Pair
from tests.bench.process import PeerError
from tests.bench.quantile import median, percentile
from tests.bench.row import Mode, Row, What, row
from tests.bench.subjects import chain
from tests.bench.subjects.floor import Floor
from tests.bench.system import PrivateSystem

IPCPS = 20


@dataclass(slots=True, frozen=True)
class Thoroughness:
    """How often and how long the figures of a system are taken."""

    flows: int  # allocated and released one after the other, per turn
    turns: int
    tool_runs: int  # of `irm`
    idle_seconds: float
    wakes: int


QUICK = Thoroughness(flows=300, turns=3, tool_runs=7, idle_seconds=4.0, wakes=1000)
FULL = Thoroughness(flows=2000, turns=5, tool_runs=25, idle_seconds=20.0, wakes=10000)

Show = Callable[[str], None]


def _figure(what: What, value: float) -> Row:
    return row("system", what, 0, Mode.SINGLE, "ouroboros", value)


def allocation(system: PrivateSystem, layer: str | None, effort: Thoroughness) -> float:
    """Flows allocated and released per second, one after the other; median over turns."""
    name = f"bench.alloc.{layer or 'direct'}"
    if layer:
        system.local_layer(layer)
        system.register(name, layer)
    rates = []
    with system.manager() as server, system.manager() as client:
        system.irm("bind", "process", str(server.pid), "name", name)
        for turn in range(effort.turns + 1):
            count = effort.flows if turn else 20
            server.ask(do="accept", count=count)
            client.ask(do="allocate", name=name, layer=layer, count=count)
            seconds = client.expect("done")["seconds"]
            server.expect("done")
            if turn:
                rates.append(count / seconds)
    return median(rates)


def tool(system: PrivateSystem, *words: str) -> float:
    """Wall time of `irm words` as a whole process, in ms."""
    began = time.perf_counter()
    system.irm(*words)
    return (time.perf_counter() - began) * 1e3


def population(system: PrivateSystem, effort: Thoroughness, show: Show) -> list[Row]:
    """Create 20 local IPCPs, half by the library's call and half by the tool, and see what they cost."""
    names = [f"idle{i}" for i in range(IPCPS)]
    half = IPCPS // 2
    show("creating IPCPs")
    with system.manager() as manager:
        manager.ask(do="create", names=names[:half])
        made = manager.expect("done")
    by_tool = [tool(system, "ipcp", "create", "name", name, "type", "local") for name in names[half:]]
    rows = [_figure(What.CREATE_MS, median(made["ms"])), _figure(What.CREATE_TOOL_MS, median(by_tool))]
    show("bootstrapping IPCPs")
    for name in names:
        system.irm("ipcp", "bootstrap", "name", name, "layer", name)
    show("listing IPCPs")
    rows.append(
        _figure(What.LIST_MS, median([tool(system, "ipcp", "list") for _ in range(effort.tool_runs)]))
    )
    memory = sorted(private_mib(pid) for pid in made["pids"])
    show(f"idling for {effort.idle_seconds:.0f} s")
    pids = system.pids()
    before, began = spent_by(pids), time.monotonic()
    time.sleep(effort.idle_seconds)
    used = (spent_by(pids) - before) / (time.monotonic() - began) * 100
    if gone := set(pids) - set(system.pids()):
        raise PeerError(f"{len(gone)} processes of the system ended while it was idle")
    rows += [
        _figure(What.IDLE_CPU, used),
        _figure(What.PRIVATE_MIB, median(memory)),
        _figure(What.PRIVATE_MIB_MAX, memory[-1]),
    ]
    return rows


def system_rows(effort: Thoroughness, wanted: Callable[[What], bool], show: Show, fail: Show) -> list[Row]:
    """The figures of path `system`; missing figures are reported to `fail`."""
    rows: list[Row] = []
    rates = ((What.ALLOC_RATE, None), (What.ALLOC_RATE_LOCAL, "local"))
    crowd = {
        What.CREATE_MS,
        What.CREATE_TOOL_MS,
        What.LIST_MS,
        What.IDLE_CPU,
        What.PRIVATE_MIB,
        What.PRIVATE_MIB_MAX,
    }
    errors = (PeerError, OSError, subprocess.SubprocessError)
    for what, layer in rates:
        if not wanted(what):
            continue
        show(f"allocating flows, {layer or 'direct'}")
        try:
            with PrivateSystem() as system:
                rows.append(_figure(what, allocation(system, layer, effort)))
        except errors as e:
            fail(f"{what}: {e}")
    if any(map(wanted, crowd)):
        try:
            with PrivateSystem() as system:
                rows += [r for r in population(system, effort, show) if wanted(r.what)]
        except errors as e:
            fail(f"{IPCPS} IPCPs: {e}")
    return rows


CHAINS = {"unicast/local": 5, "unicast/eth-dix": 6}
"""Processes that a round trip over a path goes through, the two ends among them."""
PACE = 0.01


def chain_rows(
    effort: Thoroughness, wanted: Callable[[str, What], bool], show: Show, fail: Show
) -> list[Row]:
    """A round trip through processes that only wait: subject `chain`."""
    rows = []
    for path, processes in CHAINS.items():
        for what, count, pause in (
            (What.RTT_P50, effort.wakes * 5, 0.0),
            (What.PACED_P50, min(effort.wakes, 300), PACE),
        ):
            if not wanted(path, what):
                continue
            show(f"a token through {processes} processes")
            try:
                samples = sorted(chain.latencies(processes, count, pause=pause))
            except OSError as e:
                fail(f"{path} {what}: chain: {e}")
                continue
            rows.append(row(path, what, 64, Mode.SINGLE, "chain", percentile(samples, 50) / 1e3))
    return rows


def floor_rows(effort: Thoroughness, wanted: Callable[[What], bool], show: Show, fail: Show) -> list[Row]:
    """The time from a futex wake call until the sleeper in the other process runs: median, in µs."""
    if not wanted(What.FUTEX_WAKE):
        return []
    if reason := Floor.missing():
        fail(reason)
        return []
    show("waking a sleeper")
    try:
        with ExitStack() as stack:
            pair = Pair(Floor.name, Floor.provide(stack), stack)
            pair.futex_wakes(100, 50_000)
            samples = sorted(pair.futex_wakes(effort.wakes, 50_000))
    except PeerError as e:
        fail(f"{What.FUTEX_WAKE}: {e}")
        return []
    return [row("floor", What.FUTEX_WAKE, 0, Mode.SINGLE, Floor.name, percentile(samples, 50) / 1e3)]
