"""Crowd: ten thousand reliable flows between two processes: their memory, and whether a further flow slows the others.

Subject `few` is the same between two processes with ten flows, in turns. The figures of path `flows-10000`:

    flow_kib     memory of a flow end without its FIFO, C and Python together; the larger of the two ends
    flow_python_kib   the part of it that Python's allocators hold, in two other processes (counting it takes memory)
    fifo_kib     shared memory of a flow that a process has touched
    unread_us    processor time of the library's thread for a packet that no call reads, on ten of the flows: it is received,
                 acknowledged, and the timers run
    active_us    processor time of both ends for a packet, in bursts over one of the flows
    idle_cpu_percent   of a process whose flows are all idle
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.process import PeerError, Process
from tests.bench.quantile import median
from tests.bench.row import Mode, Row, What, row
from tests.bench.system import PrivateSystem

PATH = "flows-10000"
MANY, FEW = 10_000, 10
WARM = 100  # flows before those that count: the first ones load code, and fill what is left of pages
TRACED = 1000
PACE = 0.002
SETTLED = 3.0  # seconds after which flows are idle: nothing is to be acknowledged any more
CONFIG = "[irmd]\ndescriptors = 16384\n"

Answer = dict[str, Any]
Show = Callable[[str], None]


@dataclass(slots=True, frozen=True)
class Thoroughness:
    """How often and how long is measured."""

    turns: int
    packets: int  # without a reader
    burst: int  # packets of a measure that are read
    idle_seconds: float


QUICK = Thoroughness(turns=3, packets=300, burst=100_000, idle_seconds=3.0)
FULL = Thoroughness(turns=5, packets=1000, burst=1_000_000, idle_seconds=15.0)


class Crowd:
    """Two processes with flows between them."""

    def __init__(self, system: PrivateSystem, name: str, stack: ExitStack) -> None:
        self._name = name
        self._ends: tuple[Process, Process] = (
            stack.enter_context(system.manager()),
            stack.enter_context(system.manager()),
        )
        system.irm("bind", "process", str(self._ends[0].pid), "name", name)

    def both(self, first: Answer, then: Answer) -> tuple[Answer, Answer]:
        """A command for each; their answers."""
        for end, command in zip(self._ends, (first, then), strict=True):
            end.ask(**command)
        here, there = (end.expect("done") for end in self._ends)
        return here, there

    def gather(self, count: int) -> tuple[Answer, Answer]:
        """So many more flows."""
        what = {"do": "gather", "name": self._name, "count": count}
        return self.both(what | {"accept": True}, what | {"accept": False})

    def grow(self, count: int, *whats: str) -> list[float]:
        """The resources of each additional flow, at the end that needs more."""
        before, after = self.gather(WARM), self.gather(count)
        return [
            max((b[what] - a[what]) / count for a, b in zip(before, after, strict=True)) for what in whats
        ]

    def unread(self, count: int) -> float:
        """µs of the reading process's thread for a packet."""
        here, _ = self.both(
            {"do": "idle", "seconds": count * PACE * 1.2 + 0.2},
            {"do": "poke", "count": count, "seconds": PACE},
        )
        if here["unread"] != count:
            raise PeerError(f"{count} packets were written, and {here['unread']} came within their time")
        return float(here["thread_ns"]) / count / 1e3

    def active(self, count: int) -> float:
        """µs of both ends for a packet."""
        what = {"do": "talk", "count": count}
        answers = self.both(what | {"answer": True}, what | {"answer": False})
        return float(sum(answer["cpu_ns"] for answer in answers)) / count / 1e3

    def idle(self, seconds: float) -> float:
        """The share of a core, in percent, that either process needs for nothing."""
        what = {"do": "idle", "seconds": seconds}
        return max(answer["share"] for answer in self.both(what, what)) * 100


def measure(effort: Thoroughness, show: Show) -> dict[tuple[What, str], float]:
    """All figures, by subject."""
    found: dict[tuple[What, str], float] = {}
    with ExitStack() as stack:
        config = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-"))) / "irmd.toml"
        config.write_text(CONFIG)
        system = stack.enter_context(PrivateSystem(config=config))
        show(f"allocating {TRACED} flows, counting what Python takes")
        with ExitStack() as short:
            traced = Crowd(system, "bench.traced", short)
            traced.gather(FEW)
            traced.both({"do": "trace"}, {"do": "trace"})
            (octets,) = traced.grow(TRACED, "traced")
            found[What.FLOW_PYTHON_KIB, "ouroboros"] = octets / 1024
        few, many = Crowd(system, "bench.few", stack), Crowd(system, "bench.many", stack)
        few.gather(FEW)
        show(f"allocating {MANY} flows")
        for what, each in zip(
            (What.FLOW_KIB, What.FIFO_KIB), many.grow(MANY - WARM, "own", "shared"), strict=True
        ):
            found[what, "ouroboros"] = each
        many.idle(SETTLED)
        show(f"idling for {effort.idle_seconds:.0f} s")
        found[What.IDLE_CPU, "ouroboros"] = many.idle(effort.idle_seconds)
        turns: dict[tuple[What, str], list[float]] = {}
        for turn in range(effort.turns):
            both = (("few", few), ("ouroboros", many))
            for subject, crowd in both if turn % 2 else reversed(both):
                show(f"round {turn + 1} of {effort.turns}: {subject}")
                turns.setdefault((What.UNREAD_US, subject), []).append(crowd.unread(effort.packets))
                turns.setdefault((What.ACTIVE_US, subject), []).append(crowd.active(effort.burst))
    return found | {key: median(values) for key, values in turns.items()}


WHATS = (
    What.FLOW_KIB,
    What.FLOW_PYTHON_KIB,
    What.FIFO_KIB,
    What.UNREAD_US,
    What.ACTIVE_US,
    What.IDLE_CPU,
)


def rows(
    effort: Thoroughness, wanted: Callable[[What], bool], show: Show, fail: Callable[[str], Any]
) -> list[Row]:
    """The figures of path `flows-10000`."""
    if not any(map(wanted, WHATS)):
        return []
    try:
        found = measure(effort, show)
    except (PeerError, OSError, subprocess.SubprocessError) as e:
        fail(f"{PATH}: {e}")
        return []
    return [
        row(PATH, what, 0, Mode.SINGLE, subject, found[what, subject])
        for what in WHATS
        if wanted(what)
        for subject in ("ouroboros", "few")
        if (what, subject) in found
    ]
