"""Voice: round trips of a flow of the highest QoS cube while another one floods the same adjacency, on a slow link.

The link is the bottleneck, as it is where voice matters: packets wait in front of it, and nowhere else. On path `voice` the
two members have connected twice, with flows for raw and for voice; on `voice-one` they have one raw flow for everything.
Subjects: `ouroboros` is voice under the flood; `raw` the same packets in the cube of the flood; `quiet` voice without it.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from tests.bench.networks import MEMBER, NEWCOMER, Ethernet
from tests.bench.pair import Pair
from tests.bench.path import World, with_qos
from tests.bench.process import PeerError
from tests.bench.quantile import median
from tests.bench.row import Mode, Row, What, row
from tests.bench.subjects.subject import Wiring

SIZE = 64
FLOOD_SIZE = 1400
RATE = "100mbit"
# The QoS of voice, without its order: that would make it a flow with FRCP, and this path is about layers.
VOICE = {"delay": 50, "bandwidth": 100_000, "availability": 5, "max_gap": 50}
RAW: dict[str, int] = {}
# Nothing but the scheduler stands between the flood and voice.
OPTIONS = ("ls_t_recalc", "1", "congestion", "none")


@dataclass(slots=True, frozen=True)
class Thoroughness:
    """How often and how long round trips are measured."""

    turns: int
    count: int
    slow: int  # of those that wait for the flood: each takes a tenth of a second or more


QUICK = Thoroughness(turns=2, count=200, slow=10)
FULL = Thoroughness(turns=3, count=2000, slow=100)
WARM = 2

Show = Callable[[str], None]


@contextmanager
def flooded(wiring: Wiring) -> Iterator[None]:
    """Something floods, as fast as it can, for as long as this lasts."""
    with ExitStack() as stack:
        Pair("ouroboros", wiring, stack).flood_for_ever(FLOOD_SIZE)
        yield


def measure(flows: int, effort: Thoroughness, show: Show) -> dict[str, list[tuple[float, float]]]:
    """p50 and p99 of each subject, by turns, with this number of flows between the two members."""
    found: dict[str, list[tuple[float, float]]] = {"ouroboros": [], "raw": [], "quiet": []}
    path = Ethernet("unicast/eth-dix", unicast=True, options=OPTIONS)
    with ExitStack() as stack:
        world = World(stack)
        _, client = path.systems(world)
        for _ in range(1, flows):
            client.irm("ipcp", "connect", "name", NEWCOMER, "dst", MEMBER, "component", "dt", "qos", "voice")
        wiring = path.wire(world)
        pairs = {
            subject: Pair("ouroboros", with_qos(wiring, qos), stack)
            for subject, qos in (("ouroboros", VOICE), ("raw", RAW), ("quiet", VOICE))
        }
        world.link.slow_down(RATE)
        for turn in range(effort.turns):
            show(f"round {turn + 1} of {effort.turns}: voice over {flows} flows")
            found["quiet"].append(pairs["quiet"].round_trips(SIZE, effort.count, WARM))
            with flooded(wiring):
                for subject in ("ouroboros", "raw"):
                    count = effort.count if flows > 1 and subject == "ouroboros" else effort.slow
                    found[subject].append(pairs[subject].round_trips(SIZE, count, WARM))
    return found


def rows(
    flows: int, effort: Thoroughness, wanted: Callable[[What], bool], show: Show, fail: Callable[[str], Any]
) -> list[Row]:
    """The figures of path `voice`, or with one flow `voice-one`: medians over turns."""
    name = "voice" if flows > 1 else "voice-one"
    whats = {What.VOICE_P50: 0, What.VOICE_P99: 1}
    if not any(map(wanted, whats)):
        return []
    try:
        found = measure(flows, effort, show)
    except (PeerError, OSError, subprocess.SubprocessError) as e:
        fail(f"{name}: {e}")
        return []
    return [
        row(name, what, SIZE, Mode.SINGLE, subject, median([turn[which] for turn in turns]))
        for what, which in whats.items()
        if wanted(what)
        for subject, turns in found.items()
    ]
