"""The command line of the soak: `make soak`, or `python -m tests.soak`.

Flows are allocated over all places at the same time, in rounds, while clients, servers and IPCPs are killed. An IPCP that was killed is made
again from the system's own file (`irm save`, `irm apply`), and allocations over the places of its system must succeed again. After each round every process of the crowd ends in good order, after
some allocations that must succeed, and the daemons are looked at: no flow may be left, and the memory and the descriptors of each
must stay flat from the second round on. At the end all IPCPs are destroyed, and every block must be back. Exit status: 0 when
all of that held, 1 when it did not.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack

from tests.bench.path import World
from tests.bench.process import PeerError
from tests.bench.system import PrivateSystem
from tests.deaths import deaths
from tests.soak import watch
from tests.soak.crowd import RECOVERY, Crowd, Recovery
from tests.soak.places import PLACES, missing
from tests.soak.watch import Held

GROWTH = 6 << 20
"""Octets by which the own memory of a daemon may grow from the first round on, where that is more than a fifth: allocators and caches fill
with chance."""

DESCRIPTORS = 24
"""The same of descriptors: sockets and segments of pairs of processes come and go."""

KILL_EVERY = 3.0
"""Seconds between two kills of clients and servers, on average."""

KILL_IPCP_EVERY = 20.0
"""The same of IPCPs; each round begins with one."""

FIRST_IPCP_KILL = 2.0
"""Seconds from the start of a round until its first."""


def options(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__.splitlines()[2] if __doc__ else "")
    parser.add_argument("--minutes", type=float, default=20.0, help="how long (20)")
    parser.add_argument("--rounds", type=int, default=8, help="between two looks at the daemons lies one (8)")
    parser.add_argument(
        "--allocations", type=int, default=200_000, help="what is to be reached (200000); 0: any number"
    )
    parser.add_argument("--places", default=",".join(PLACES), help=f"of {','.join(PLACES)} (all)")
    parser.add_argument("--clients", type=int, default=2, help="processes that allocate in each place (2)")
    parser.add_argument("--no-kills", action="store_true", help="processes end in good order only")
    parser.add_argument("--seed", type=int, default=None, help="of what is drawn (by chance)")
    found = parser.parse_args(argv)
    for word in found.places.split(","):
        if word not in PLACES:
            parser.error(f'there is no place "{word}"; there are {", ".join(PLACES)}')
    return found


class Soak:
    """One run."""

    def __init__(self, chosen: argparse.Namespace) -> None:
        self._chosen = chosen
        seed = random.SystemRandom().getrandbits(32) if chosen.seed is None else chosen.seed
        self.rng = random.Random(seed)
        self.faults: list[str] = []
        self._crowds: list[Crowd] = []
        self._systems: list[PrivateSystem] = []
        self._first: dict[tuple[int, str], Held] = {}
        self._last: dict[tuple[int, str], Held] = {}
        self._killed: set[int] = set()
        self._recoveries: list[Recovery] = []
        self._began = time.monotonic()
        show(f"seed {seed}")

    def run(self) -> int:
        """The exit status."""
        with ExitStack() as stack:
            world = World(stack)
            for word in self._chosen.places.split(","):
                why = missing(word)
                if why is not None:
                    show(f"without {word}: {why}")
                    continue
                place = PLACES[word](world)
                crowd = Crowd(place, self._chosen.clients, self.rng)
                stack.callback(crowd.close)
                self._crowds.append(crowd)
                self._systems = list(dict.fromkeys((*self._systems, place.server, place.client)))
            try:
                for number in range(self._chosen.rounds):
                    self._round(number)
                self._end()
            except PeerError as error:
                self.fault(str(error))
            for system in self._systems:
                for line in deaths(system.log(), killed=self._killed):
                    self.fault(line)
        self._verdict()
        return 1 if self.faults else 0

    def fault(self, text: str) -> None:
        """Something that must not be."""
        self.faults.append(text)
        show(f"FAULT: {text}")

    @property
    def total(self) -> int:
        """Allocations that succeeded."""
        return sum(crowd.counts["ok"] for crowd in self._crowds)

    def _round(self, number: int) -> None:
        ends = time.monotonic() + self._chosen.minutes * 60 / self._chosen.rounds
        for crowd in self._crowds:
            crowd.start()
        next_kill = time.monotonic() + KILL_EVERY
        next_ipcp_kill = time.monotonic() + FIRST_IPCP_KILL
        next_word = 0.0
        while (now := time.monotonic()) < ends or self._recoveries:
            for crowd in self._crowds:
                crowd.read()
            self._watch_recoveries(now)
            if not self._chosen.no_kills and next_ipcp_kill <= now < ends and not self._recoveries:
                self._kill_ipcp()
                next_ipcp_kill = now + self.rng.expovariate(1 / KILL_IPCP_EVERY)
            if not self._chosen.no_kills and now >= next_kill:
                crowd = self.rng.choice(self._crowds)
                before = {one.pid for one in crowd.members}
                crowd.kill_one()
                self._killed |= before - {one.pid for one in crowd.members}
                next_kill = now + self.rng.expovariate(1 / KILL_EVERY)
            if now >= next_word:
                show(f"round {number + 1} of {self._chosen.rounds}: {self._progress()}")
                next_word = now + 10.0
            time.sleep(0.2)
        for crowd in self._crowds:
            crowd.stop()
            if not any(what == "probe" for what in crowd.probes) or len(crowd.probes) > 1:
                self.fault(
                    f"{crowd.place.word}: with nothing in their way, allocations fail: {dict(crowd.probes)}"
                )
        self._look(number)

    def _kill_ipcp(self) -> None:
        """Kill an IPCP, and bring its system to the state that it had."""
        ipcps = [(at, ipcp) for at, system in enumerate(self._systems) for ipcp in watch.ipcps(system)]
        if not ipcps:
            return
        at, ipcp = self.rng.choice(ipcps)
        system, name, pid = self._systems[at], str(ipcp["name"]), int(ipcp["pid"])
        state = system.irm("save")
        self._killed.add(pid)
        os.kill(pid, signal.SIGKILL)
        watch.gone(system, pid)
        watch.restore(system, state)
        self._first.pop(
            (at, f"IPCP {name}"), None
        )  # another process: its memory is compared from the next look on
        self._last.pop((at, f"IPCP {name}"), None)
        what = f"after IPCP {name} was killed"
        self._recoveries = [
            Recovery(crowd, what)
            for crowd in self._crowds
            if system in (crowd.place.server, crowd.place.client)
        ]

    def _watch_recoveries(self, now: float) -> None:
        for recovery in self._recoveries:
            if not recovery.done and now > recovery.deadline:
                self.fault(
                    f"{recovery.crowd.place.word}: {recovery.what}, allocations fail for {RECOVERY:.0f} s"
                )
        self._recoveries = [one for one in self._recoveries if not one.done and now <= one.deadline]

    def _progress(self) -> str:
        return ", ".join(f"{crowd.place.word} {crowd.counts['ok']}" for crowd in self._crowds)

    def _look(self, number: int) -> None:
        for at, system in enumerate(self._systems):
            left = watch.idle(system)
            if left:
                self.fault(left)
            for name, held in watch.daemons(system).items():
                self._first.setdefault((at, name), held)
                self._last[at, name] = held
        if number == 0:
            show("first look at the daemons: from here on they must stay as they are")

    def _end(self) -> None:
        for key, last in self._last.items():
            first = self._first[key]
            grown = last.octets - first.octets
            if grown > max(GROWTH, first.octets // 5):
                self.fault(f"{key[1]} has grown by {grown >> 10} KiB, from {first.octets >> 10} KiB")
            if last.descriptors > first.descriptors + DESCRIPTORS:
                self.fault(f"{key[1]} has {last.descriptors} descriptors, and had {first.descriptors}")
        for system in self._systems:
            show(f"late messages: {watch.ask(system, 'flow', 'counters', key='counters')}")
            out = watch.blocks_out(system)
            if out:
                self.fault(out)
        if self.total < self._chosen.allocations:
            show(
                f"{self.total} allocations, fewer than the {self._chosen.allocations} that were wished for: give it longer"
            )

    def _verdict(self) -> None:
        for crowd in self._crowds:
            counts: Counter[str] = crowd.counts
            show(f"{crowd.place.word}: {_lines(counts.most_common())}")
        seconds = time.monotonic() - self._began
        show(
            f"{self.total} allocations in {seconds:.0f} s, {len(self._killed)} kills, {len(self.faults)} faults"
        )


def _lines(counts: Iterable[tuple[str, int]]) -> str:
    return "; ".join(f"{count} {what}" for what, count in counts)


def show(line: str) -> None:
    """A line of progress."""
    print(f"{time.strftime('%H:%M:%S')} {line}", flush=True)


def main(argv: list[str] | None = None) -> int:
    """Run the soak; the exit status."""
    try:
        return Soak(options(argv)).run()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
