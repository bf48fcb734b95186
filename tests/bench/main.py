"""Main: options of `python -m tests.bench`, and what happens in which order."""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import FrameType

from tests.bench import forwarding, machine, plan, report, upkeep
from tests.bench.pair import Pair
from tests.bench.path import PATHS, World
from tests.bench.process import PeerError
from tests.bench.progress import Progress
from tests.bench.row import Row, What, to_json
from tests.bench.subjects import SUBJECTS

QUIET = 0.15  # cores that others may use before the figures are in doubt
OTHER_PATHS = ("forward", "routes", "system", "floor")


def parser() -> argparse.ArgumentParser:
    """The options; each filter may be given several times."""
    p = argparse.ArgumentParser(
        prog="python -m tests.bench", description="Measure this library beside its rivals."
    )
    p.add_argument("--json", action="store_true", help="one JSON object instead of the table")
    p.add_argument("--quick", action="store_true", help="under a minute instead of some minutes; noisier")
    for name, choices in (
        ("path", [*PATHS, *OTHER_PATHS]),
        ("what", [w.value for w in What]),
        ("subject", list(SUBJECTS)),
    ):
        p.add_argument(f"--{name}", action="append", choices=choices, metavar=name[0].upper(), default=[],
                       help=f"only this {name}, may be repeated: {', '.join(choices)}")  # fmt: skip
    return p


@dataclass(slots=True)
class Bench:
    """One run: what is wanted, what went wrong, and what there is to tell about it."""

    paths: list[str]
    whats: list[str]
    subjects: list[str]
    quick: bool
    show: Callable[[str], None]
    notes: list[str] = field(default_factory=list)
    failed: bool = False

    def wanted(self, what: What) -> bool:
        """Whether rows of this kind are asked for."""
        return not self.whats or what.value in self.whats

    def selected(self, path: str) -> bool:
        """Whether rows of this path are asked for."""
        return not self.paths or path in self.paths

    def fail(self, text: str) -> None:
        """A measure that could not be made."""
        self.failed = True
        self.notes.append(f"FAILED {text}")

    def _lane(self, subject: str, paths: Sequence[str], world: World) -> plan.Lane | None:
        kind = SUBJECTS[subject]
        if reason := kind.missing():
            self.notes.append(f"{subject} left out: {reason}")
            return None
        over_path = subject == "ouroboros"

        def start(stack: ExitStack) -> Pair:
            wiring = PATHS[paths[0]].wire(world) if over_path else kind.provide(stack)
            return Pair(subject, wiring, stack)

        lane = plan.Lane(subject, tuple(paths), start, kind.burst)
        self.show(f"starting {lane.title}")
        try:
            _ = lane.pair
        except (PeerError, OSError, subprocess.SubprocessError) as e:
            lane.close()
            self.fail(f"{lane.title}: {e}")
            return None
        world.stack.callback(lane.close)
        return lane

    def transfers(self) -> list[Row]:
        """Round trips and one way, over all paths."""
        paths = [p for p in PATHS if self.selected(p)]
        todo = plan.tasks(self.wanted)
        if not paths or not todo:
            return []
        with ExitStack() as stack:
            world = World(stack)
            lanes = []
            for subject in SUBJECTS:
                if self.subjects and subject not in self.subjects:
                    continue
                # A flow is another one on each path; a socket is the same beside each.
                for group in [[p] for p in paths] if subject == "ouroboros" else [paths]:
                    if lane := self._lane(subject, group, world):
                        lanes.append(lane)
            plan.run(lanes, todo, plan.QUICK if self.quick else plan.FULL, self.show, self.fail)
            return plan.by_path(lanes, self.wanted)

    def rows(self) -> list[Row]:
        """All that is asked for."""
        effort = upkeep.QUICK if self.quick else upkeep.FULL
        ours = not self.subjects or "ouroboros" in self.subjects
        rows = self.transfers()
        load = forwarding.QUICK if self.quick else forwarding.FULL
        if self.selected("forward") and ours:
            rows += forwarding.forward_rows(load, self.wanted, self.show, self.fail)
        if self.selected("routes") and ours:
            rows += forwarding.route_rows(load, self.wanted, self.show, self.fail)
        if self.selected("floor") and (not self.subjects or "floor" in self.subjects):
            rows += upkeep.floor_rows(effort, self.wanted, self.show, self.fail)
        if self.selected("system") and ours:
            rows += upkeep.system_rows(effort, self.wanted, self.show, self.fail)
        return rows


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; 1 when something could not be measured, whether or not a goal is missed."""
    options = parser().parse_args(argv)
    signal.signal(signal.SIGTERM, _interrupt)  # so that everything that was started is stopped
    progress = Progress()
    bench = Bench(options.path, options.what, options.subject, options.quick, progress.show)
    facts = machine.describe()
    others = machine.Others()
    try:
        rows = bench.rows()
    except KeyboardInterrupt:
        progress.clear()
        print("interrupted: no figures", file=sys.stderr)
        return 130
    progress.clear()
    facts["others_cores"] = others.cores()
    if facts["others_cores"] > QUIET:
        bench.notes.append(
            f"others kept {facts['others_cores']} cores busy during this run: run it again when it is quiet"
        )
    if options.json:
        print(to_json(facts, rows))
        for note in bench.notes:
            print(note, file=sys.stderr)
    else:
        print(report.table(facts, rows, bench.notes))
    return 1 if bench.failed else 0
