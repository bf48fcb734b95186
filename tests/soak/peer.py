"""One process of the soak: `python -m tests.soak.peer server|client JSON`. Prints a line of JSON with its counts every second.

A server accepts in several threads, a client allocates in several. Each closes a flow at a random point, immediately or
after a packet, so that both often close at the same moment. SIGTERM ends it properly.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from threading import Event, Lock, Thread
from typing import Any

from ouroboros.dev import Flow, flow_accept, flow_alloc
from ouroboros.qos import QOS_DATA, QOS_RAW

DEADLINE = 25.0
"""Seconds that an allocation may take: longer than any layer needs to report a failure."""

ANSWER_TIME = 0.5
"""Seconds that a client waits for an answer, which does not always come."""

PACKET_TIME = 0.03
"""Seconds that a server waits for a packet: over most layers it is not notified that the client has ended, and others wait for it."""

PAUSE = 0.02
"""Seconds between two allocations of a thread: the fast layers would leave no processor time for the others."""

IDLE = 0.5
RELIABLE = 0.05
"""The share of flows with FRCP: their ends linger."""


class Peer:
    """State that the threads share: whether to continue, and the counts."""

    def __init__(self, name: str, layer: str | None, seed: int, pause: float) -> None:
        self.name = name
        self.layer = layer
        self.seed = seed
        self.pause = pause
        self.stop = Event()
        self.counts: Counter[str] = Counter()
        self._lock = Lock()

    def count(self, what: str) -> None:
        with self._lock:
            self.counts[what] += 1

    def run(self, work: Callable[[random.Random], None], number: int) -> None:
        """One thread."""
        rng = random.Random(self.seed * 1000 + number)
        while not self.stop.is_set():
            work(rng)
            if self.pause:
                self.stop.wait(self.pause)


def client(peer: Peer, rng: random.Random) -> None:
    """Allocate a flow, perhaps use it, close it."""
    qos = QOS_DATA if rng.random() < RELIABLE else QOS_RAW
    way = rng.randrange(8)
    flow = Flow()
    try:
        if way == 0:  # give up what has hardly begun
            flow.alloc(peer.name, qos, 0, layer=peer.layer)
            flow.dealloc()
            peer.count("given up")
            return
        flow.alloc(peer.name, qos, DEADLINE, layer=peer.layer)
    except OSError as error:
        peer.count(f"errno {error.errno}: {error.strerror or error}"[:120])
        peer.stop.wait(0.05)
        return
    peer.count("ok")
    with suppress(OSError), flow:
        flow.rcv_timeout = flow.snd_timeout = ANSWER_TIME
        if way > 2:
            flow.write(b"hello")
        if way > 5:
            flow.read()


def server(peer: Peer, rng: random.Random) -> None:
    """Accept a flow, perhaps answer, close it."""
    try:
        flow = flow_accept(IDLE)
    except OSError:
        return
    peer.count("ok")
    with suppress(OSError), flow:
        flow.rcv_timeout = flow.snd_timeout = PACKET_TIME
        way = rng.randrange(4)
        if way:
            flow.read()
        if way > 1:
            flow.write(b"answer")


def main() -> int:
    """Run until SIGTERM."""
    role, options = sys.argv[1], json.loads(sys.argv[2])
    peer = Peer(options["name"], options["layer"], options["seed"], PAUSE if role == "client" else 0.0)
    signal.signal(signal.SIGTERM, lambda *_: peer.stop.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the soak, which ends us
    work = {"client": client, "server": server}[role]
    say({"pid": os.getpid()})
    sys.stdin.readline()  # a server has been bound to its name
    threads = [
        Thread(target=peer.run, args=(lambda rng: work(peer, rng), number), daemon=True)
        for number in range(options["threads"])
    ]
    for thread in threads:
        thread.start()
    while not peer.stop.wait(1.0):
        say(peer.counts)
    for thread in threads:
        thread.join()
    if role == "client":
        probe(peer, options["probes"])
    say(peer.counts)
    return 0


def probe(peer: Peer, count: int) -> None:
    """Nothing disturbs any more: now every allocation must succeed."""
    for _ in range(count):
        try:
            flow_alloc(peer.name, None, DEADLINE, layer=peer.layer).dealloc()
            peer.count("probe")
        except OSError as error:
            peer.count(f"probe: errno {error.errno}: {error.strerror or error}"[:120])


def say(what: Any) -> None:
    """A line for the soak."""
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    sys.exit(main())
