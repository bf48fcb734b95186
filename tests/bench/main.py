"""Main: options of `python -m tests.bench`, and the order of a run."""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from types import FrameType

from tests.bench import (
    crowd,
    enrolment,
    forwarding,
    link,
    lossy,
    machine,
    plan,
    report,
    sealed,
    upkeep,
    voice,
)
from tests.bench.pair import Pair
from tests.bench.path import Path, World
from tests.bench.paths import PATHS, find
from tests.bench.process import PeerError
from tests.bench.progress import Progress
from tests.bench.row import Row, What, to_json
from tests.bench.subjects import SUBJECTS

QUIET = 0.15  # cores that others may use before the figures are in doubt
OTHER_PATHS = (
    *sealed.PATHS,
    *lossy.POINTS,
    crowd.PATH,
    "voice",
    "voice-one",
    "enrol-50",
    "forward",
    "routes",
    "system",
    "floor",
)


def parser() -> argparse.ArgumentParser:
    """The options; each filter may be given several times."""
    p = argparse.ArgumentParser(
        prog="python -m tests.bench", description="Measure this library beside its rivals."
    )
    p.add_argument("--json", action="store_true", help="one JSON object instead of the table")
    p.add_argument("--quick", action="store_true", help="a few minutes instead of many; noisier")
    p.add_argument("--path", action="append", type=_path, metavar="P", default=[],
                   help=f"only this path, may be repeated: {', '.join([*PATHS, *OTHER_PATHS])}; "
                        "chain-N has N forwarders, data/P is a flow of data over path P")  # fmt: skip
    p.add_argument("--size", action="append", type=int, metavar="OCTETS", default=[],
                   help="only packets of this size, may be repeated")  # fmt: skip
    for name, choices in (
        ("what", [w.value for w in What]),
        ("subject", [*SUBJECTS, "chain"]),
    ):
        p.add_argument(f"--{name}", action="append", choices=choices, metavar=name[0].upper(), default=[],
                       help=f"only this {name}, may be repeated: {', '.join(choices)}")  # fmt: skip
    return p


def _path(word: str) -> str:
    if word not in OTHER_PATHS and not find(word):
        known = ", ".join([*PATHS, *OTHER_PATHS])
        raise argparse.ArgumentTypeError(f"there is no path {word!r}, but {known}, and chain-N")
    return word


@dataclass(slots=True)
class Bench:
    """One run: the selected rows, the failures, and the notes."""

    paths: list[str]
    whats: list[str]
    subjects: list[str]
    quick: bool
    show: Callable[[str], None]
    notes: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
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

    def leave_out(self, name: str, reason: str) -> None:
        """A path or a subject that cannot be had here."""
        self.left_out.append(name)
        self.notes.append(f"{name} left out: {reason}")

    def _lane(self, subject: str, paths: Sequence[Path], world: World) -> plan.Lane | None:
        kind = SUBJECTS[subject]

        def start(stack: ExitStack) -> Pair:
            wiring = paths[0].beside(subject, world) if kind.over_path else kind.provide(stack)
            if kind.linked:
                server, client = world.link.ends
                wiring = replace(wiring, server_enter=server.enter, client_enter=client.enter)
            return Pair(subject, wiring, stack)

        lane = plan.Lane(
            subject,
            {path.name: path.sizes for path in paths},
            start,
            kind.burst,
            kind.one_way,
            any(path.paced for path in paths),
            frozenset(mode for path in paths for mode in path.modes),
        )
        self.show(f"starting {lane.title}")
        try:
            _ = lane.pair
        except (PeerError, OSError, subprocess.SubprocessError) as e:
            lane.close()
            self.fail(f"{lane.title}: {e}")
            return None
        world.stack.callback(lane.close)
        return lane

    def _groups(self, paths: Sequence[Path]) -> Iterator[tuple[str, list[Path]]]:
        """Each subject with the paths beside which it stands: a flow is another one on each, a socket is the same."""
        for subject, kind in SUBJECTS.items():
            beside = [p for p in paths if subject in p.rivals]
            if (self.subjects and subject not in self.subjects) or not (beside or subject == "ouroboros"):
                continue
            if reason := kind.missing():
                self.leave_out(subject, reason)
            elif kind.over_path:
                yield from ((subject, [path]) for path in (paths if subject == "ouroboros" else beside))
            else:
                yield subject, beside

    def _sizes(self, paths: Sequence[Path]) -> list[int]:
        return sorted({size for path in paths for size in path.sizes if not self.sizes or size in self.sizes})

    def transfers(self) -> list[Row]:
        """Round trips and one way, over all paths."""
        paths = [found for name in self.paths or PATHS if (found := find(name))]
        for path in list(paths):
            if reason := path.missing():
                self.leave_out(path.name, reason)
                paths.remove(path)
        todo = plan.tasks(self.wanted, self._sizes(paths))
        if not todo:
            return []
        with ExitStack() as stack:
            world = World(stack)
            lanes = [lane for group in self._groups(paths) if (lane := self._lane(*group, world))]
            plan.run(lanes, todo, plan.QUICK if self.quick else plan.FULL, self.show, self.fail)
            return plan.by_path(lanes, self.wanted)

    def _sealed(self) -> list[Row]:
        ciphers = [cipher for cipher in sealed.CIPHERS if self.selected(f"sealed/{cipher}")]
        if not ciphers or (self.subjects and not set(self.subjects) & set(sealed.SUBJECTS)):
            return []
        if reason := sealed.missing():
            for cipher in ciphers:
                self.leave_out(f"sealed/{cipher}", reason)
            return []
        effort = sealed.QUICK if self.quick else sealed.FULL
        return sealed.rows(ciphers, effort, self.wanted, self.show, self.fail)

    def _lossy(self) -> list[Row]:
        names = [name for name in lossy.POINTS if self.selected(name)]
        subjects = [name for name in lossy.SUBJECTS if not self.subjects or name in self.subjects]
        if not (names and subjects and self.wanted(What.GOODPUT)):
            return []
        if reason := link.missing():
            for name in names:
                self.leave_out(name, reason)
            return []
        rounds = lossy.ROUNDS_QUICK if self.quick else lossy.ROUNDS_FULL
        return lossy.rows(names, subjects, rounds, self.show, self.fail)

    def rows(self) -> list[Row]:
        """All that is asked for."""
        effort = upkeep.QUICK if self.quick else upkeep.FULL
        ours = not self.subjects or "ouroboros" in self.subjects
        rows = self.transfers()
        if not self.subjects or "chain" in self.subjects:
            rows += upkeep.chain_rows(
                effort, lambda path, what: self.selected(path) and self.wanted(what), self.show, self.fail
            )
        for name, flows in (("voice", 2), ("voice-one", 1)):
            if self.selected(name) and ours:
                if reason := link.missing():
                    self.leave_out(name, reason)
                    continue
                calls = voice.QUICK if self.quick else voice.FULL
                rows += voice.rows(flows, calls, self.wanted, self.show, self.fail)
        rows += self._sealed() + self._lossy()
        if self.selected(crowd.PATH) and ours:
            rows += crowd.rows(crowd.QUICK if self.quick else crowd.FULL, self.wanted, self.show, self.fail)
        if self.selected("enrol-50") and ours:
            rows += enrolment.rows(3 if self.quick else 10, self.wanted, self.show, self.fail)
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
    bench = Bench(
        options.path, options.what, options.subject, options.quick, progress.show, sizes=options.size
    )
    facts = machine.describe()
    others = machine.Others()
    try:
        rows = bench.rows()
    except KeyboardInterrupt:
        progress.clear()
        print("interrupted: no figures", file=sys.stderr)
        return 130
    progress.clear()
    if bench.left_out:
        bench.notes.append(f"left out: {len(bench.left_out)} ({', '.join(bench.left_out)})")
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
