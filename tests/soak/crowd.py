"""Crowd: the server and the clients of one place, as processes that are counted, and killed now and then."""

from __future__ import annotations

import json
import os
import random
import select
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import IO

from tests.bench.process import ROOT, PeerError, born
from tests.bench.system import PrivateSystem
from tests.soak.places import Place

THREADS = {"client": 2, "server": 6}
SILENCE = 90.0
"""Seconds without a line after which a process is taken for hung."""


RECOVERY = 120.0
"""Seconds that a place may take until allocations succeed again."""

RECOVERED = 100
"""Allocations after which it has recovered: some were counted only later, and had succeeded before."""


@dataclass(eq=False)
class Member:
    """A process of the crowd."""

    place: Place
    role: str
    seed: int
    probes: int
    counts: Counter[str] = field(default_factory=Counter)
    heard: float = field(default_factory=time.monotonic)
    _rest: bytes = b""

    def __post_init__(self) -> None:
        system = self.system
        options = {
            "name": self.place.name,
            "layer": self.place.layer,
            "seed": self.seed,
            "threads": THREADS[self.role],
            "probes": self.probes,
        }
        self._child = subprocess.Popen(
            [sys.executable, "-m", "tests.soak.peer", self.role, json.dumps(options)],
            cwd=ROOT,
            env={**os.environ, **system.env, "PYTHONFAULTHANDLER": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            preexec_fn=born(system.enter),
        )
        first = self._out.readline()
        if not first:
            raise PeerError(f"a {self.role} of {self.place.word} ended before it began")
        self.pid = int(json.loads(first)["pid"])
        os.set_blocking(self._out.fileno(), False)
        if self.role == "server":
            system.irm("bind", "process", str(self.pid), "name", self.place.name)
        assert self._child.stdin is not None
        self._child.stdin.write(b"\n")
        self._child.stdin.flush()

    @property
    def system(self) -> PrivateSystem:
        """Where it runs."""
        return self.place.server if self.role == "server" else self.place.client

    @property
    def _out(self) -> IO[bytes]:
        assert self._child.stdout is not None
        return self._child.stdout

    def read(self) -> None:
        """Take in what it has printed. Raises PeerError when it has died or hangs."""
        while chunk := self._out.read():
            *lines, self._rest = (self._rest + chunk).split(b"\n")
            for line in lines:
                self.counts = Counter(json.loads(line))
                self.heard = time.monotonic()
        code = self._child.poll()
        if code is not None and code != 0:
            raise PeerError(f"a {self.role} of {self.place.word} ended with {code}")
        if time.monotonic() - self.heard > SILENCE:
            raise PeerError(f"a {self.role} of {self.place.word} (pid {self.pid}) hangs")

    def kill(self) -> None:
        """SIGKILL."""
        self._child.kill()
        self._child.wait()

    def stop(self) -> None:
        """SIGTERM: it ends properly, and prints its last counts."""
        self._child.send_signal(signal.SIGTERM)

    def join(self) -> None:
        """Wait for that. Raises PeerError."""
        deadline = time.monotonic() + SILENCE
        while self._child.poll() is None:
            select.select([self._out], [], [], 0.2)
            self.read()
            if time.monotonic() > deadline:
                raise PeerError(f"a {self.role} of {self.place.word} (pid {self.pid}) does not end")
        self.read()

    def close(self) -> None:
        """End it whatever it does."""
        if self._child.poll() is None:
            self.kill()
        for stream in (self._child.stdin, self._child.stdout):
            if stream is not None:
                stream.close()


class Recovery:
    """What is expected of a crowd after an IPCP below it was killed and made again: allocations succeed."""

    def __init__(self, crowd: Crowd, what: str) -> None:
        self.crowd = crowd
        self.what = what
        self.deadline = time.monotonic() + RECOVERY
        self._before = crowd.counts["ok"]

    @property
    def done(self) -> bool:
        """Whether they have."""
        return self.crowd.counts["ok"] >= self._before + RECOVERED


class Crowd:
    """One server process and `clients` of those that allocate."""

    def __init__(self, place: Place, clients: int, rng: random.Random) -> None:
        self.place = place
        self.done: Counter[str] = Counter()
        """The counts of clients that have ended."""
        self.probes: Counter[str] = Counter()
        self._rng = rng
        self._clients = clients
        self.members: list[Member] = []

    def start(self) -> None:
        """Begin, or begin again."""
        self.members = [self._member("server")]
        self.members += [self._member("client") for _ in range(self._clients)]

    def _member(self, role: str) -> Member:
        return Member(self.place, role, self._rng.getrandbits(30), probes=10)

    def read(self) -> None:
        """Take in what all have printed."""
        for member in self.members:
            member.read()

    @property
    def counts(self) -> Counter[str]:
        """Of allocations, so far."""
        return sum((one.counts for one in self.members if one.role == "client"), Counter(self.done))

    def kill_one(self) -> None:
        """Kill a process, and start another in its place."""
        at = self._rng.randrange(len(self.members))
        victim = self.members[at]
        victim.read()
        self._forget(victim)
        victim.kill()
        victim.close()
        self.members[at] = self._member(victim.role)

    def stop(self) -> None:
        """Clients end while the server is there, which is what their last allocations need."""
        clients = [one for one in self.members if one.role == "client"]
        for group in (clients, [one for one in self.members if one.role == "server"]):
            for member in group:
                member.stop()
            for member in group:
                member.join()
                self._forget(member)
                member.close()
        self.members = []

    def _forget(self, member: Member) -> None:
        if member.role == "client":
            for what, count in member.counts.items():
                (self.probes if what.startswith("probe") else self.done)[what] += count

    def close(self) -> None:
        """End everything whatever it does."""
        for member in self.members:
            member.close()
        self.members = []
