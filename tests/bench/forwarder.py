"""Forwarder: the data plane of a unicast IPCP alone, with its neighbours played beside it: forwarding, and stalls.

Runs in a peer process. The shared memory is that of the unit tests, and so are the ends of the flows.
"""

from __future__ import annotations

import json
import os
import random
import select
import signal
import struct
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from errno import EAGAIN, ETIMEDOUT
from itertools import cycle
from time import monotonic_ns, perf_counter_ns, sleep
from typing import Any, NoReturn

from ipcpd.dataplane._ipcp import lib
from ipcpd.dataplane.dt import HEADER, Dt
from ipcpd.dataplane.punt import Punt
from ipcpd.unicast.pff.table import Function, Table
from ipcpd.unicast.routing.policy import load
from irmd.memory import Memory
from ouroboros.policies import LinkStatePolicy
from tests.bench.process import die_with_parent
from tests.bench.quantile import percentile
from tests.sim.routes import random_graph
from tests.unit.dataplane.shm import End, Process
from tests.unit.ipcpd.relays import CONFIG, Relay

ME = 0x01020304
ADDRESSES = 65536
NEIGHBOURS = 16  # over which the table's addresses are spread
BURST = 960  # packets that are put before the clock starts: a ring has room for 1024
VERTICES, LINKS = 1000, 4000
PACE = 50e-6  # s between packets when stalls are looked for
GRACE = 10_000_000_000  # ns after which a packet is taken for lost


class _Handle:
    """The interface of a relay that `Dt` needs."""

    def __init__(self, relay: Relay) -> None:
        self.handle = nullcontext(relay.relay)


class Forwarder:
    """A unicast IPCP's data plane: packets come in at `source`, and leave over `lowers`."""

    def __init__(self, neighbours: int = NEIGHBOURS) -> None:
        self._memory = Memory(CONFIG)
        self.relay = Relay(self._memory)
        self._punt = Punt()
        self.dt = Dt(_Handle(self.relay), self._punt, address=ME, max_ttl=60, congestion=True)  # type: ignore[arg-type]
        self._source_fd, self.source = self._lower()
        self.lowers = dict(self._lower() for _ in range(neighbours))

    def _lower(self) -> tuple[int, End]:
        fd, end = self.relay.flow(Process(self._memory))
        self.dt.lower(fd)
        return fd, end

    def attach_again(self) -> list[End]:
        """In a forked child, where no mapping of the parent's is left: the source, and the neighbours' ends."""
        ends = []
        for fd, end in {self._source_fd: self.source, **self.lowers}.items():
            was = end.process
            process = Process(self._memory, was.of, token=was.token, events=was.events)
            flow = self.relay.flows[fd]
            ends.append(process.attach(flow, 1, end.fd, fd, self.relay.events[was.of.id]))
        return ends

    def step(self) -> int:
        """One round of the packet thread, here and now; how many packets it took."""
        return int(lib.relay_step(self.relay.relay, monotonic_ns()))

    def start(self) -> None:
        """From now on the packet thread forwards."""
        self.relay.start()


def packet(destination: int, size: int) -> bytes:
    """A data transfer packet of `size` octets, the header among them."""
    return struct.pack("<IBBBQ", destination, 0, 60, 0, 1 << 40) + bytes(size - HEADER)


def forward(size: int, count: int) -> dict[str, Any]:
    """Forward some `count` packets of `size` octets on one core: packets per second of the thread's own work.

    What is timed is what the thread does with packets that wait in a ring until they wait in others: filling the one
    and emptying the others is the work of other processes.
    """
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    box, rng = Forwarder(), random.Random(1)
    table = {address: (rng.choice(list(box.lowers)),) for address in rng.sample(range(1, 1 << 32), ADDRESSES)}
    for cube in range(3):
        box.dt.table(cube, Function.SIMPLE, table)
    packets = [packet(address, size) for address in rng.sample(list(table), ADDRESSES // BURST * BURST)]
    bursts = cycle([packets[i : i + BURST] for i in range(0, len(packets), BURST)])
    spent = done = 0
    while done < count:
        put = box.source.writev(next(bursts))
        began, moved = perf_counter_ns(), 0
        while moved < put:
            moved += box.step()
        spent += perf_counter_ns() - began
        done += put
        for end in box.lowers.values():
            end.drain()
    if (forwarded := sum(counters.forwarded for counters in box.dt.counters())) != done:
        raise RuntimeError(f"{done} packets came in and {forwarded} were forwarded")
    return {"pps": done / spent * 1e9}


def layer(policy: LinkStatePolicy, fds: list[int]) -> tuple[int, Callable[[], list[Table]]]:
    """A large layer, its links of different weight: how many destinations there are, and how tables are made."""
    graph, source = random_graph(VERTICES, LINKS, weighted=True)
    neighbours = {address: (fds[i % len(fds)],) for i, address in enumerate(graph.neighbours(source))}
    how = load(policy)

    def tables() -> list[Table]:
        views = graph.views()
        routes = {id(view): how.routes(view, source) for view in {id(view): view for view in views}.values()}
        return [how.table(routes[id(view)], neighbours) for view in views]

    return VERTICES - 1, tables


def routes(policy: str, count: int) -> dict[str, Any]:
    """Compute the routes of a large layer, weights and all three cubes, `count` times: ms each."""
    destinations, tables = layer(LinkStatePolicy[policy.upper()], list(range(64, 64 + NEIGHBOURS)))
    if missing := [cube for cube, table in enumerate(tables()) if len(table.entries) < destinations]:
        raise RuntimeError(f"not every vertex is reached in cubes {missing}")
    took = []
    for _ in range(count):
        began = perf_counter_ns()
        tables()
        took.append((perf_counter_ns() - began) / 1e6)
    return {"ms": took}


def _pass_packets(box: Forwarder, addresses: list[int], seconds: float) -> dict[str, Any]:
    """In a forked child, the neighbours' process: packets one by one, and how long each is on its way, µs."""
    source, lower = box.attach_again()
    data = cycle([packet(address, 64) for address in addresses])
    samples: list[int] = []
    until = monotonic_ns() + int(seconds * 1e9)
    while (began := monotonic_ns()) < until:
        source.write(next(data))
        while lower.read() == -EAGAIN:
            if lower.sleep(deadline=began + GRACE) == -ETIMEDOUT:
                raise RuntimeError("a packet that was put is not forwarded")
        samples.append(monotonic_ns() - began)
        sleep(PACE)
    samples.sort()
    return {"p50": percentile(samples, 50) / 1e3, "most": samples[-1] / 1e3, "packets": len(samples)}


def stall(where: str, policy: str, seconds: float) -> dict[str, Any]:
    """How long a packet is on its way through a forwarder, most of all, µs, while routes are computed all the time.

    `where`: "inside", by the forwarder itself, which also loads the tables; or "beside", by a process that has nothing
    to do with it and takes as much of the machine.
    """
    box = Forwarder(neighbours=1)
    _, tables = layer(LinkStatePolicy[policy.upper()], list(box.lowers))
    loaded = 0

    def load(made: list[Table]) -> None:
        nonlocal loaded
        for cube, table in enumerate(made):
            box.dt.table(cube, table.function, table.entries)
        loaded += 1

    load(made := tables())
    box.start()
    with ExitStack() as stack:
        answer = _fork(stack, lambda: _pass_packets(box, list(made[0].entries), seconds))
        if where == "beside":
            _fork(stack, lambda: _for_ever(tables))
        while not select.select([answer], [], [], None if where == "beside" else 0)[0]:
            load(tables())
        result: dict[str, Any] = json.loads(os.read(answer, 1 << 16))
    if "error" in result:
        raise RuntimeError(result["error"])
    return result | {"loaded": loaded}


def _for_ever(work: Callable[[], object]) -> NoReturn:
    while True:
        work()


def _fork(stack: ExitStack, work: Callable[[], dict[str, Any]]) -> int:
    """Run `work` in a child that `stack` ends; the descriptor from which its result can be read, as JSON."""
    answer, told = os.pipe()
    stack.callback(os.close, answer)
    child = os.fork()
    if child == 0:
        try:
            die_with_parent()
            os.write(told, json.dumps(work()).encode())
        except Exception as e:
            os.write(told, json.dumps({"error": f"{type(e).__name__}: {e}"}).encode())
        finally:
            os._exit(0)
    os.close(told)
    stack.callback(os.waitpid, child, 0)
    stack.callback(os.kill, child, signal.SIGKILL)  # first; one that has ended is still ours to wait for
    return answer
