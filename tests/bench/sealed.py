"""Sealed: encrypted flows of data over a local layer, beside the same without encryption and OpenSSL alone.

A path for each cipher, and in each round first this library, then `plain`, then `openssl speed` for packets of as many octets. `core_gbps` is the
goodput of one core: octets for each second of processor time (user and system, all threads) of the writing process, or of the reading one
if that took more. It does not contain the time of the IPCP in between, which does not encrypt.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.pair import OneWay, Pair
from tests.bench.path import bound, with_qos
from tests.bench.process import PeerError
from tests.bench.quantile import median
from tests.bench.reliable import DATA
from tests.bench.row import Mode, Row, What, row
from tests.bench.subjects.subject import burst_of
from tests.bench.system import PrivateSystem

CIPHERS = ("aes-256-gcm", "chacha20-poly1305")
PATHS = tuple(f"sealed/{cipher}" for cipher in CIPHERS)
SIZES = (1400, 65000)
LAYER = "local"
SUBJECTS = ("ouroboros", "plain", "openssl")

Show = Callable[[str], None]
Found = dict[tuple[str, What, int, str], list[float]]


@dataclass(slots=True, frozen=True)
class Thoroughness:
    """How often is measured, and how long one measure takes."""

    rounds: int
    seconds: float


QUICK = Thoroughness(rounds=3, seconds=0.15)
FULL = Thoroughness(rounds=5, seconds=0.5)


def openssl(cipher: str, size: int) -> float:
    """The result of `openssl speed` for a cipher and packets of that size, in Gbit/s of processor time. Raises PeerError."""
    words = ["openssl", "speed", "-mr", "-seconds", "1", "-evp", cipher, "-bytes", str(size)]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=30)
    except OSError as e:
        raise PeerError(f"openssl speed: {e}") from e
    return speed_of(done.stdout)


def speed_of(said: str) -> float:
    """Gbit/s, from what `openssl speed -mr` prints: +F:number:cipher:octets per second. Raises PeerError."""
    for line in said.splitlines():
        if line.startswith("+F:"):
            return float(line.rpartition(":")[2]) * 8 / 1e9
    raise PeerError(f"openssl speed gave no figure: {said.strip() or 'it said nothing'}")


def core_gbps(way: OneWay, size: int) -> float:
    """Goodput of one core in Gbit/s: of the one of both ends that has more to do."""
    return way.received * size * 8 / max(way.sender_cpu, way.receiver_cpu) / 1e9


class Field:
    """A system with a local layer, and names whose flows are encrypted with each cipher, or not at all."""

    def __init__(self, ciphers: list[str], stack: ExitStack) -> None:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        for cipher in ciphers:
            for side in ("server", "client"):
                place = folder / "security" / side / f"bench.{cipher}"
                place.mkdir(parents=True)
                (place / "enc.conf").write_text(f"cipher={cipher}\n")
        config = folder / "irmd.toml"
        config.write_text(f'[irmd]\nsecurity = "{folder / "security"}"\n')
        self._system = stack.enter_context(PrivateSystem(config=config))
        self._system.local_layer(LAYER)
        for cipher in ciphers:
            self._system.irm("name", "create", f"bench.{cipher}", "require", "encryption")

    def pair(self, name: str, stack: ExitStack) -> Pair:
        """Two peers with a flow of data to `bench.NAME` between them."""
        self._system.register(f"bench.{name}", LAYER)
        wiring = bound(self._system, self._system, f"bench.{name}", LAYER)
        return Pair("ouroboros", with_qos(wiring, DATA), stack)


def measure(ciphers: list[str], effort: Thoroughness, show: Show) -> Found:
    """The figures of all rounds, by path, what, size and subject."""
    found: Found = {}

    def one_way(pair: Pair, path: str, subject: str, size: int, count: int) -> None:
        way = pair.one_way(size, count, True)
        found.setdefault((path, What.GBPS, size, subject), []).append(way.pps * size * 8 / 1e9)
        found.setdefault((path, What.CORE_GBPS, size, subject), []).append(core_gbps(way, size))

    with ExitStack() as stack:
        field = Field(ciphers, stack)
        show("starting encrypted flows")
        pairs = {name: field.pair(name, stack) for name in (*ciphers, "plain")}
        counts = {
            (name, size): calibrated(pair, size, effort.seconds)
            for name, pair in pairs.items()
            for size in SIZES
        }
        for turn in range(effort.rounds):
            for cipher in ciphers:
                path = f"sealed/{cipher}"
                for size in SIZES:
                    show(f"round {turn + 1} of {effort.rounds}: {cipher}, {size} bytes")
                    one_way(pairs[cipher], path, "ouroboros", size, counts[cipher, size])
                    one_way(pairs["plain"], path, "plain", size, counts["plain", size])
                    found.setdefault((path, What.CORE_GBPS, size, "openssl"), []).append(
                        openssl(cipher, size)
                    )
    return found


def calibrated(pair: Pair, size: int, seconds: float) -> int:
    """The number of packets for about this time; also warms up."""
    step = burst_of(size)
    pair.one_way(size, 20 * step, True)
    rate = pair.one_way(size, 50 * step, True).pps
    return max(int(rate * seconds) // step, 4) * step


def rows(
    ciphers: list[str],
    effort: Thoroughness,
    wanted: Callable[[What], bool],
    show: Show,
    fail: Callable[[str], Any],
) -> list[Row]:
    """The figures of the paths `sealed/CIPHER`: medians over rounds."""
    if not (ciphers and any(map(wanted, (What.GBPS, What.CORE_GBPS)))):
        return []
    try:
        found = measure(ciphers, effort, show)
    except (PeerError, OSError, subprocess.SubprocessError) as e:
        fail(f"encrypted flows: {e}")
        return []
    return [
        row(path, what, size, Mode.BURST, subject, median(values))
        for (path, what, size, subject), values in found.items()
        if wanted(what)
    ]


def missing() -> str | None:
    """Why there is nothing to compare with, or None."""
    return None if shutil.which("openssl") else "there is no program openssl (apt install openssl)"
