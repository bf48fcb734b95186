"""Forwarding: the packet processing of a unicast IPCP alone (path `forward`), the time that it takes to
compute routes, and whether packets wait for that (path `routes`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.bench.process import PeerError, Process
from tests.bench.quantile import median
from tests.bench.row import Mode, Row, What, row

SIZE = 64
POLICIES = {What.ROUTES_MS: "simple", What.ROUTES_LFA_MS: "lfa", What.ROUTES_ECMP_MS: "ecmp"}
SLOWEST = "lfa"  # of the policies
INSIDE, BESIDE = "ouroboros", "beside"  # subjects: the forwarder computes, or a process beside it

Show = Callable[[str], None]


@dataclass(slots=True, frozen=True)
class Thoroughness:
    """How often and how long the figures are taken."""

    turns: int
    packets: int  # forwarded in a turn
    computations: int
    seconds: float  # of looking for stalls in a turn


QUICK = Thoroughness(turns=3, packets=200_000, computations=5, seconds=0.5)
FULL = Thoroughness(turns=7, packets=1_000_000, computations=15, seconds=1.0)


def ask(do: str, **words: Any) -> dict[str, Any]:
    """Have a command of `manager` carried out by a process of its own."""
    with Process("ouroboros", "manager", {}) as peer:
        peer.expect("ready")
        peer.ask(do=do, **words)
        answer: dict[str, Any] = peer.expect("done")
        return answer


def forward_rows(effort: Thoroughness, wanted: Callable[[What], bool], show: Show, fail: Show) -> list[Row]:
    """Packets per second, one process on one core; median over turns."""
    if not wanted(What.PPS):
        return []
    show("forwarding")
    try:
        rates = [ask("forward", size=SIZE, count=effort.packets)["pps"] for _ in range(effort.turns)]
    except (PeerError, OSError) as e:
        fail(f"forward: {e}")
        return []
    return [row("forward", What.PPS, SIZE, Mode.BURST, "ouroboros", median(rates))]


def _stalls(effort: Thoroughness) -> list[Row]:
    """The longest that a packet was on its way; median over turns, those inside and beside by turns."""
    most: dict[str, list[float]] = {INSIDE: [], BESIDE: []}
    for _ in range(effort.turns):
        for subject, where in ((INSIDE, "inside"), (BESIDE, "beside")):
            result = ask("stall", where=where, policy=SLOWEST, seconds=effort.seconds)
            most[subject].append(result["most"] / 1e3)
    return [row("routes", What.STALL_MS, 0, Mode.SINGLE, s, median(values)) for s, values in most.items()]


def route_rows(effort: Thoroughness, wanted: Callable[[What], bool], show: Show, fail: Show) -> list[Row]:
    """Routes of a layer of 1,000 nodes and 4,000 links, by policy, and whether packets are stalled meanwhile."""
    rows: list[Row] = []
    for what, policy in POLICIES.items():
        if not wanted(what):
            continue
        show(f"computing routes, {policy}")
        try:
            took = ask("routes", policy=policy, count=effort.computations)["ms"]
            rows.append(row("routes", what, 0, Mode.SINGLE, "ouroboros", median(took)))
        except (PeerError, OSError) as e:
            fail(f"{what}: {e}")
    if wanted(What.STALL_MS):
        show("forwarding while routes are computed")
        try:
            rows += _stalls(effort)
        except (PeerError, OSError) as e:
            fail(f"{What.STALL_MS}: {e}")
    return rows
