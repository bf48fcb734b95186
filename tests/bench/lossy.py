"""Lossy: a flow of data and TCP over the same link, which loses, delays, doubles and reorders frames, by the same seed.

Paths `loss-1`, `loss-5`, `loss-10` have that many percent of loss; `loss-0` is delayed and nothing else, to show that TCP works there. A
figure is that of so many octets, from the first write until the last one was read and found right (`delivery`). Flow and connection
are new each time, and made before the link begins to lose.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

from tests.bench.emulated import EmulatedLink
from tests.bench.link import ADDRESSES, DEVICE
from tests.bench.pair import Pair
from tests.bench.path import World, bound, with_qos
from tests.bench.process import PeerError
from tests.bench.quantile import median
from tests.bench.reliable import DATA
from tests.bench.row import Mode, Row, What, row
from tests.bench.subjects.subject import Wiring

SIZE = 1400
DELAY = "delay 20ms"  # each way
BESIDE = f"{DELAY} duplicate 3% reorder 10%"
SUBJECTS = ("ouroboros", "tcp")


@dataclass(slots=True, frozen=True)
class Point:
    """A link, and the number of packets delivered over it, for which TCP needs some seconds."""

    words: str
    packets: int

    def seeded(self, seed: int) -> str:
        """The words for a round."""
        return f"{self.words} seed {seed}"


POINTS = {
    "loss-0": Point(DELAY, 6000),
    "loss-1": Point(f"loss 1% {BESIDE}", 1500),
    "loss-5": Point(f"loss 5% {BESIDE}", 900),
    "loss-10": Point(f"loss 10% {BESIDE}", 600),
}
ROUNDS_QUICK, ROUNDS_FULL = 2, 4

Show = Callable[[str], None]

# The kernel remembers of a destination what an earlier connection has suffered, and a new one would begin with that.
FORGETFUL = """
from pathlib import Path
Path("/proc/sys/net/ipv4/tcp_no_metrics_save").write_text("1")
"""


class Field:
    """The link, and a system with an Ethernet layer at each end."""

    def __init__(self, stack: ExitStack) -> None:
        self.link = EmulatedLink(stack)
        for end in self.link.ends:
            self.link._run_in(end, FORGETFUL)
        world = World(stack)
        self._server, self._client = (world.new_system(end.enter) for end in self.link.ends)
        for system in (self._server, self._client):
            system.bootstrap("eth-dix", "eth", "dev", DEVICE, "ethertype", "A000")
        self._server.register("bench.lossy", "eth")

    def wiring(self, subject: str) -> Wiring:
        """Where the two peers of a subject are."""
        if subject == "ouroboros":
            return with_qos(bound(self._server, self._client, "bench.lossy", "eth"), DATA)
        server, client = self.link.ends
        return replace(
            Wiring({"address": ADDRESSES[0]}), server_enter=server.enter, client_enter=client.enter
        )

    def delivered(self, subject: str, point: Point, seed: int) -> float:
        """Goodput of one subject, in Mbit/s. Raises PeerError when not everything came as it should."""
        self.link.set(DELAY)
        with ExitStack() as stack:
            pair = Pair(subject, self.wiring(subject), stack)
            self.link.set(point.seeded(seed))
            seconds = pair.delivery(SIZE, point.packets, seed)
            self.link.set(DELAY)  # only packets of the ends remain
        return point.packets * SIZE * 8 / seconds / 1e6


def measure(
    names: list[str], subjects: list[str], rounds: int, show: Show, fail: Show
) -> dict[tuple[str, str], list[float]]:
    """Goodputs by path and subject, in turns."""
    found: dict[tuple[str, str], list[float]] = {}
    with ExitStack() as stack:
        field = Field(stack)
        for turn in range(rounds):
            for name in names:
                for subject in subjects if turn % 2 else reversed(subjects):
                    show(f"round {turn + 1} of {rounds}: {name}: {subject}")
                    try:
                        figure = field.delivered(subject, POINTS[name], turn + 1)
                    except PeerError as e:
                        fail(f"{name}, {subject}, seed {turn + 1}: {e}")
                        continue
                    found.setdefault((name, subject), []).append(figure)
    return found


def rows(
    names: list[str], subjects: list[str], rounds: int, show: Show, fail: Callable[[str], Any]
) -> list[Row]:
    """The figures of these paths: medians over rounds, each with another seed."""
    try:
        found = measure(names, subjects, rounds, show, fail)
    except (PeerError, OSError, subprocess.SubprocessError) as e:
        fail(f"{'/'.join(names)}: {e}")
        return []
    return [
        row(name, What.GOODPUT, SIZE, Mode.BURST, subject, median(values))
        for name in names
        for subject in SUBJECTS
        if (values := found.get((name, subject)))
    ]
