"""Plan: which transfers are measured, how long, and in which order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from subprocess import SubprocessError

from tests.bench.pair import Pair
from tests.bench.process import PeerError
from tests.bench.quantile import median
from tests.bench.row import Mode, Row, What, row
from tests.bench.subjects.subject import burst_of

RTT = frozenset({What.RTT_P50, What.RTT_P99})
PACED = frozenset({What.PACED_P50, What.PACED_P99})
PACED_SIZE = 64  # the size of ping's packets
PACED_SHARE = 2  # pings take longer than other measurements, and give few samples
PACE = 0.01  # seconds between two pings, as of `ping -i 0.01`
SLOW = 1000  # µs of a round trip from which on a few must do
FIRST, FIRST_LARGE = 20, 4  # bursts of the first measure, which finds out how many take how long
MOST = burst_of(1)
ONE_WAY = frozenset({What.PPS, What.GBPS, What.CPU})


@dataclass(slots=True, frozen=True)
class Effort:
    """How much time a run may take."""

    rounds: int
    seconds: float  # that one measure of one subject should take

    def count(self, rate: float, least: int, most: int) -> int:
        """How many operations at `rate` per second."""
        return min(max(int(rate * self.seconds), least), most)


QUICK = Effort(rounds=5, seconds=0.08)
FULL = Effort(rounds=7, seconds=0.3)


@dataclass(slots=True, frozen=True)
class Task:
    """One measure: round trips, back to back or with pauses, or one way in a mode."""

    one_way: bool
    size: int
    mode: Mode
    paced: bool = False

    @property
    def gives(self) -> frozenset[What]:
        """The figures that come of it."""
        return ONE_WAY if self.one_way else PACED if self.paced else RTT

    @property
    def title(self) -> str:
        """For people."""
        way = f"one way, {self.mode}" if self.one_way else "pings" if self.paced else "round trips"
        return f"{self.size} bytes, {way}"


def tasks(wanted: Callable[[What], bool], sizes: Iterable[int]) -> list[Task]:
    """The measures that give the wanted rows, in the order in which a round makes them."""
    found: list[Task] = []
    for size in sizes:
        found.append(Task(False, size, Mode.SINGLE))
        if size == PACED_SIZE:
            found.append(Task(False, size, Mode.SINGLE, paced=True))
        found += [Task(True, size, mode) for mode in Mode]
    return [task for task in found if any(map(wanted, task.gives))]


@dataclass(slots=True)
class Lane:
    """A pair of peers that takes part in the rounds, and for which paths, with which sizes, its figures stand.

    Subjects without a path (sockets, the floor) are measured once and stand beside each path.
    """

    subject: str
    paths: Mapping[str, tuple[int, ...]]
    start: Callable[[ExitStack], Pair]  # makes the pair, and makes it again after a failure
    burst: bool
    one_way: bool = True
    paced: bool = True
    modes: frozenset[Mode] = frozenset(Mode)  # of one way
    counts: dict[Task, int] = field(default_factory=dict)
    values: dict[tuple[What, int, Mode], list[float]] = field(default_factory=dict)
    failed: set[Task] = field(default_factory=set)
    _stack: ExitStack = field(default_factory=ExitStack)
    _pair: Pair | None = None

    @property
    def pair(self) -> Pair:
        """The peers, started when there are none."""
        if self._pair is None:
            self._pair = self.start(self._stack)
        return self._pair

    @property
    def title(self) -> str:
        """Subject and paths, for people."""
        return f"{self.subject} ({'/'.join(self.paths)})"

    def can(self, task: Task) -> bool:
        """Whether there is such a measure for this subject, and it has not failed before."""
        if task in self.failed or all(task.size not in sizes for sizes in self.paths.values()):
            return False
        if task.one_way:
            return self.one_way and task.mode in self.modes and (self.burst or task.mode is Mode.SINGLE)
        return self.paced or not task.paced

    def drop(self, task: Task) -> None:
        """Give up a measure that failed, with what it gave so far. The peers are in an unknown state: end them."""
        self.failed.add(task)
        for what in task.gives:
            self.values.pop((what, task.size, task.mode), None)
        self.close()

    def close(self) -> None:
        """End the peers."""
        self._pair = None
        self._stack.close()

    def _note(self, what: What, task: Task, value: float) -> None:
        self.values.setdefault((what, task.size, task.mode), []).append(value)

    def calibrate(self, task: Task, effort: Effort) -> None:
        """Find out how many operations take the wanted time; it also warms everything up."""
        if task.paced:
            self.pair.paced(task.size, 1, PACE)
            self.counts[task] = effort.count(PACED_SHARE / PACE, 20, 1000)
        elif task.one_way:
            step = burst_of(task.size)
            first = FIRST if step == MOST else FIRST_LARGE
            rate = self.pair.one_way(task.size, first * step, task.mode is Mode.BURST).pps
            rate = self.pair.one_way(
                task.size, max(int(rate * effort.seconds / 4) // step, 4) * step, task.mode is Mode.BURST
            ).pps
            count = effort.count(rate, 4 * step, 20_000_000)
            self.counts[task] = -(-count // step) * step
        else:
            p50, _ = self.pair.round_trips(task.size, 100)
            self.counts[task] = effort.count(1e6 / p50, 500 if p50 < SLOW else 20, 200_000)

    def run(self, task: Task) -> None:
        """One measure, noted."""
        count = self.counts[task]
        if task.one_way:
            result = self.pair.one_way(task.size, count, task.mode is Mode.BURST)
            self._note(What.PPS, task, result.pps)
            self._note(What.GBPS, task, result.pps * task.size * 8 / 1e9)
            self._note(What.CPU, task, result.cpu_per_mpkt)
        elif task.paced:
            p50, p99 = self.pair.paced(task.size, count, PACE)
            self._note(What.PACED_P50, task, p50)
            self._note(What.PACED_P99, task, p99)
        else:
            p50, p99 = self.pair.round_trips(task.size, count)
            self._note(What.RTT_P50, task, p50)
            self._note(What.RTT_P99, task, p99)

    def rows(self, wanted: Callable[[What], bool]) -> list[Row]:
        """The medians over the rounds."""
        return [
            row(path, what, size, mode, self.subject, median(values))
            for path, sizes in self.paths.items()
            for (what, size, mode), values in self.values.items()
            if wanted(what) and size in sizes
        ]


def run(
    lanes: Iterable[Lane],
    todo: Iterable[Task],
    effort: Effort,
    show: Callable[[str], None],
    fail: Callable[[str], None],
) -> None:
    """Measure all lanes in turn, task by task, round by round. A measure that fails is not tried again."""
    lanes, todo = list(lanes), list(todo)
    for turn in range(effort.rounds + 1):
        title = f"round {turn} of {effort.rounds}" if turn else "warming up"
        for task in todo:
            # Every other round the other way about, so that no subject always follows the same one.
            for lane in lanes if turn % 2 else reversed(lanes):
                if not lane.can(task):
                    continue
                show(f"{title}: {task.title}: {lane.title}")
                try:
                    if turn == 0:
                        lane.calibrate(task, effort)
                    else:
                        lane.run(task)
                except (PeerError, OSError, SubprocessError) as e:
                    lane.drop(task)
                    fail(f"{lane.title}, {task.title}: {e}")


def by_path(lanes: Iterable[Lane], wanted: Callable[[What], bool]) -> list[Row]:
    """The rows of all lanes, path by path."""
    rows = [r for lane in lanes for r in lane.rows(wanted)]
    order: Mapping[str, int] = {p: i for i, p in enumerate(dict.fromkeys(r.path for r in rows))}
    return sorted(rows, key=lambda r: order[r.path])
