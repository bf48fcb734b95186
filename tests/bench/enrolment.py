"""Enrolment: into a layer that has many members already (path `enrol-50`), all on one system over one local layer."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable

from tests.bench.networks import join, line
from tests.bench.path import patiently
from tests.bench.process import PeerError
from tests.bench.quantile import median
from tests.bench.row import Mode, Row, What, row
from tests.bench.system import PrivateSystem

MEMBERS = 50
LAYER = "crowd"
NEIGHBOURS = 4  # each member but the first connects to the one this share of the way back: a tree

Show = Callable[[str], None]


def crowd(system: PrivateSystem, show: Show) -> list[str]:
    """A layer of MEMBERS members in the shape of a tree: their names."""
    system.local_layer("below")
    names = line(system, LAYER, "below", 1)
    for number in range(1, MEMBERS):
        show(f"enrolling member {number + 1} of {MEMBERS}")
        name = f"{LAYER}.{number}"
        join(system, name, LAYER, names[(number - 1) // NEIGHBOURS])
        system.irm("name", "register", name, "layer", "below")
        names.append(name)
    return names


def newcomer(system: PrivateSystem, name: str, member: str) -> tuple[float, float]:
    """One more member: ms until it is enrolled, and from then, with its connection, until it has routes to all."""
    system.irm("ipcp", "create", "type", "unicast", "name", name)
    began = time.monotonic()
    system.irm("ipcp", "enroll", "name", name, "layer", LAYER, "dst", member)
    enrolled = time.monotonic()
    system.irm("ipcp", "connect", "name", name, "dst", member)

    def routes() -> None:
        destinations = {route["address"] for route in system.read("routes", name)}
        if len(destinations) < MEMBERS:
            raise PeerError(f"{name} has routes to {len(destinations)} of {MEMBERS} members")

    patiently(routes)
    return (enrolled - began) * 1e3, (time.monotonic() - enrolled) * 1e3


def rows(turns: int, wanted: Callable[[What], bool], show: Show, fail: Show) -> list[Row]:
    """The figures of path `enrol-50`: medians over newcomers, each of which leaves before the next comes."""
    if not (wanted(What.ENROL_MS) or wanted(What.ROUTES_TO_ALL_MS)):
        return []
    took: list[tuple[float, float]] = []
    try:
        with PrivateSystem() as system:
            names = crowd(system, show)
            for turn in range(turns):
                show(f"newcomer {turn + 1} of {turns}")
                took.append(newcomer(system, f"newcomer.{turn}", names[turn % len(names)]))
                system.irm("ipcp", "destroy", "name", f"newcomer.{turn}")
    except (PeerError, OSError, subprocess.SubprocessError) as e:
        fail(f"enrol-{MEMBERS}: {e}")
        return []
    figures = {What.ENROL_MS: 0, What.ROUTES_TO_ALL_MS: 1}
    return [
        row(f"enrol-{MEMBERS}", what, 0, Mode.SINGLE, "ouroboros", median([turn[which] for turn in took]))
        for what, which in figures.items()
        if wanted(what)
    ]
