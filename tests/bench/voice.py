"""Voice: round trips of a flow of the highest QoS cube while another one floods the same adjacency (path `voice`).

Subjects: `ouroboros` is voice under the flood; `raw` the same packets in the cube of the flood; `quiet` voice without it.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from tests.bench.networks import Chain
from tests.bench.pair import Pair
from tests.bench.path import World, with_qos
from tests.bench.process import PeerError
from tests.bench.quantile import median
from tests.bench.row import Mode, Row, What, row
from tests.bench.subjects.subject import Wiring

SIZE = 64
FLOOD_SIZE = 1400
# What voice asks of a layer, but for its order: that would make it a flow with FRCP, and this is about layers.
VOICE = {"delay": 50, "bandwidth": 100_000, "availability": 5, "max_gap": 50}
RAW: dict[str, int] = {}
# Nothing but the scheduler stands between the flood and voice.
OPTIONS = ("ls_t_recalc", "1", "congestion", "none")


@dataclass(slots=True, frozen=True)
class Thoroughness:
    """How often and how long round trips are measured."""

    turns: int
    count: int


QUICK = Thoroughness(turns=3, count=500)
FULL = Thoroughness(turns=7, count=3000)

Show = Callable[[str], None]


@contextmanager
def flooded(wiring: Wiring) -> Iterator[None]:
    """Something floods, as fast as it can, for as long as this lasts."""
    with ExitStack() as stack:
        Pair("ouroboros", wiring, stack).flood_for_ever(FLOOD_SIZE)
        yield


def measure(effort: Thoroughness, show: Show) -> dict[str, list[tuple[float, float]]]:
    """p50 and p99 of each subject, turn by turn."""
    found: dict[str, list[tuple[float, float]]] = {"ouroboros": [], "raw": [], "quiet": []}
    with ExitStack() as stack:
        path = Chain("voice", 0, options=OPTIONS)
        wiring = path.wire(World(stack))
        pairs = {
            subject: Pair("ouroboros", with_qos(wiring, qos), stack)
            for subject, qos in (("ouroboros", VOICE), ("raw", RAW), ("quiet", VOICE))
        }
        for turn in range(effort.turns):
            show(f"round {turn + 1} of {effort.turns}: voice")
            found["quiet"].append(pairs["quiet"].round_trips(SIZE, effort.count))
            with flooded(wiring):
                for subject in ("ouroboros", "raw"):
                    found[subject].append(pairs[subject].round_trips(SIZE, effort.count))
    return found


def rows(
    effort: Thoroughness, wanted: Callable[[What], bool], show: Show, fail: Callable[[str], Any]
) -> list[Row]:
    """The figures of path `voice`: medians over turns."""
    whats = {What.VOICE_P50: 0, What.VOICE_P99: 1}
    if not any(map(wanted, whats)):
        return []
    try:
        found = measure(effort, show)
    except (PeerError, OSError, subprocess.SubprocessError) as e:
        fail(f"voice: {e}")
        return []
    return [
        row("voice", what, SIZE, Mode.SINGLE, subject, median([turn[which] for turn in turns]))
        for what, which in whats.items()
        if wanted(what)
        for subject, turns in found.items()
    ]
