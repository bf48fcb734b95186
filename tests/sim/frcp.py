"""One flow with FRCP at both ends, over a link that loses, delays, duplicates, reorders, corrupts and is cut (paper 2.14).

python -m tests.sim.frcp --seed 17       one run, the same every time
python -m tests.sim.frcp --seeds 200     the runs 0 to 199

The ends are the C machine that applications run. The seed determines the QoS of the flow, the impairments and cuts of the link,
the writes, the pace of the reader, and whether an end dies. Invariants at any time: packets are
read whole, in order, once; on a flow with retransmission none is missing; no packet is retransmitted after R or
acknowledged after A, and so no packet arrives, even at an end that has died, that is older than these and MPL; memory is
bounded. At the end all data have arrived, and an idle flow holds no memory.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, field
from errno import EAGAIN
from random import Random
from time import perf_counter
from typing import Any

from ouroboros_tools.ocap.frcp import Flag, Header

from ouroboros.dataplane._dataplane import lib
from ouroboros.errors import EFLOWDOWN, EFLOWPEER
from ouroboros.testing import FakeClock, FakeEnd, FakeNetwork, Impairment, Timer
from ouroboros.testing.frcp import Frcp

from .invariants import Violated

A = 10.0
R = 120.0
MICRO = 1e-6
CHECK = 4


def must(holds: bool, what: str) -> None:
    """Raises Violated."""
    if not holds:
        raise Violated(what)


@dataclass(slots=True, kw_only=True)
class Promise:
    """The properties of the flow, and the actions of its users."""

    retransmit: bool
    fragments: bool
    selective: bool
    ends: bool
    """Whether both signal the end of their data."""
    lossless: bool
    """Whether the way is memory: nothing is lost there, but it is full at times, and who should read it stands still."""
    max_packet: int
    window: int
    mpl_ms: int
    timeout_ms: int
    largest: int
    """Octets of the largest packet written."""
    messages: int
    """Packets written at each end."""
    burst: int
    lazy: float
    """Seconds between two looks of a reader at the longest; 0: reads what comes when it comes."""


@dataclass(slots=True)
class End:
    """An end with a user who writes and reads."""

    name: str
    clock: FakeClock
    link: FakeEnd[tuple[float, bytes]]
    promise: Promise
    random: Random
    corrupt: float
    first: int
    frcp: Frcp = field(init=False)
    timer: Timer | None = None
    dead: bool = False
    written: int = 0
    read: list[int] = field(default_factory=list)
    heard: float = -1e9
    sent_first: dict[int, float] = field(default_factory=dict)
    heard_then: dict[float, float] = field(default_factory=dict)
    """By when an acknowledgement was sent: when anything had come before that."""
    corrupted: int = 0
    stopped: bool = False
    waiting: list[bytes] = field(default_factory=list)
    """Packets that arrived since it was stopped."""

    def __post_init__(self) -> None:
        p = self.promise
        self.frcp = Frcp(
            self.clock.time_ns(),
            retransmit=p.retransmit,
            mpl_ms=p.mpl_ms,
            timeout_ms=p.timeout_ms,
            max_packet=p.max_packet,
            window=p.window,
            first=self.first,
            fragments=p.fragments,
            selective=p.selective,
            ends=p.ends,
            lossless=p.lossless,
            send=self.send,
        )
        self.link.on_packet = self.arrived
        self.clock.call_later(self.random.random(), self.write)
        if p.lazy:
            self.clock.call_later(self.random.random() * p.lazy, self.look)
        self.rearm()

    # ---- between the machine and the link

    def send(self, packet: bytes) -> bool:
        now = self.clock.now
        if self.promise.lossless and self.random.random() < 0.1:
            return False
        must(len(packet) <= self.promise.max_packet, f"{self.name} sends {len(packet)} octets in one packet")
        if packet:
            header, data = Header.decode(packet)
            if header.flags & Flag.ACK:
                must(now - self.heard <= A + MICRO, f"{self.name} acknowledges after {now - self.heard} s: A")
                self.heard_then[now] = self.heard
            if header.flags & Flag.DATA and self.promise.retransmit:
                whole = not self.promise.fragments or header.flags & (Flag.FFGM | Flag.MFGM) == Flag.FFGM
                if self.promise.lossless and whole and data:
                    must(header.sequence not in self.sent_first, f"{self.name} sends {header.sequence} again")
                first = self.sent_first.setdefault(header.sequence, now)
                must(now - first < R, f"{self.name} sends {header.sequence} again after {now - first} s: R")
        packet += int(lib.crc32_of(0, packet, len(packet))).to_bytes(CHECK) if packet else b""
        self.link.send((now, packet))
        return True

    def too_old(self, packet: bytes, sent: float) -> None:
        """Delta-t: the names of this flow can name another one, when the quiet time is over."""
        now, mpl = self.clock.now, self.promise.mpl_ms / 1000
        must(now - sent <= mpl, f"the link keeps a packet for {now - sent} s: MPL")
        header, _ = Header.decode(packet)
        if header.flags & Flag.DATA and self.promise.retransmit:
            age = now - self.peer.sent_first[header.sequence]
            must(
                age <= R + mpl,
                f"{header.sequence} comes to {self.name} {age} s after it was first sent: R and MPL",
            )
        if header.flags & Flag.ACK:
            age = now - self.peer.heard_then[sent]
            must(age <= A + mpl, f"an acknowledgement comes to {self.name} after {age} s: A and MPL")

    def arrived(self, arrival: tuple[float, bytes]) -> None:
        sent, packet = arrival
        if packet:
            self.too_old(packet[:-CHECK], sent)
        if self.dead:
            return
        if self.stopped:
            self.waiting.append(packet)
            return
        self.take(packet)

    def take(self, packet: bytes) -> None:
        if packet and self.corrupt and self.random.random() < self.corrupt:
            packet = self.spoil(packet)
        body, check = packet[:-CHECK], packet[-CHECK:]
        if packet and (len(check) < CHECK or int(lib.crc32_of(0, body, len(body))).to_bytes(CHECK) != check):
            self.corrupted += 1
            return
        self.heard = self.clock.now
        data = self.frcp.receive(body, self.clock.time_ns(), reader=not self.promise.lazy)
        if data is not None:
            self.got(data)
        if not self.promise.lazy:
            self.drain(None)
        if self.frcp.fin_received:
            here = len(self.read) + self.frcp.c.rx.recvq.messages
            must(here == self.promise.messages, f"{self.name} hears the end after {here} packets")
        self.step()

    def stop(self) -> None:
        """The process is stopped: arriving packets wait in its memory."""
        self.stopped = True
        self.rearm()

    def go_on(self) -> None:
        """It goes on, with what has come meanwhile, unless it was killed."""
        if self.dead:
            return
        self.stopped = False
        waiting, self.waiting = self.waiting, []
        for packet in waiting:
            self.take(packet)
        self.step()

    def spoil(self, packet: bytes) -> bytes:
        """Some bits turned, or the end cut off."""
        octets = bytearray(packet)
        if self.random.random() < 0.3:
            return bytes(octets[: self.random.randrange(len(octets))])
        for _ in range(self.random.randint(1, 3)):
            octets[self.random.randrange(len(octets))] ^= 1 << self.random.randrange(8)
        return bytes(octets)

    def step(self) -> None:
        """Let the machine do what is due, and look at it."""
        now = self.clock.time_ns()
        self.frcp.run(now)
        self.check()
        self.rearm()

    def rearm(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
        self.timer = None
        if (deadline := self.frcp.deadline) is not None and not (self.dead or self.stopped):
            must(deadline > self.clock.time_ns(), f"{self.name} wants to run again at once")
            self.timer = self.clock.call_at(deadline / 1e9 + MICRO, self.step)

    def check(self) -> None:
        c, promise = self.frcp.c, self.promise
        flight = (c.tx.nxt - c.tx.una) & 0xFFFFFFFF
        must(flight <= lib.SENDQ_PLACES, f"{self.name} has sent {flight} packets at once")
        # An end that ends its data, or closes, need not wait for the window.
        must(
            (c.tx.lim + c.fin_sent - c.tx.nxt) & 0xFFFFFFFF < 1 << 31,
            f"{self.name} has sent more than it may",
        )
        must(c.tx.sendq.octets <= lib.SENDQ_OCTETS, f"{self.name} keeps {c.tx.sendq.octets} octets sent")
        most = lib.RECVQ_OCTETS + (1 << 21)
        must(c.rx.recvq.octets <= most, f"{self.name} keeps {c.rx.recvq.octets} octets received")
        must(c.rx.recvq.early < promise.window, f"{self.name} keeps {c.rx.recvq.early} packets early")
        must(c.rx.recvq.unread <= promise.window, f"{self.name} lets {c.rx.recvq.unread} packets wait")

    # ---- the user

    def content(self, number: int) -> bytes:
        """Packet `number` that this end writes: its number, and what follows from that."""
        random = Random(f"{self.name}{number}")
        length = min(int(4 * random.paretovariate(0.4)), self.promise.largest)
        return number.to_bytes(4) + random.randbytes(length)

    def write(self) -> None:
        if self.stopped:
            self.clock.call_later(1.0, self.write)
            return
        if self.dead or self.frcp.down or self.written == self.promise.messages:
            return
        for _ in range(self.random.randint(1, self.promise.burst)):
            data = self.content(self.written)
            result = self.frcp.write(data, self.clock.time_ns())
            if result == -EAGAIN:
                break
            must(result == len(data), f"{self.name}: a write gives {result}")
            self.written += 1
            if self.written == self.promise.messages:
                break
        if self.promise.ends and self.written == self.promise.messages:
            must(
                self.frcp.send_fin(self.clock.time_ns()) == 0,
                f"{self.name} cannot say that it writes no more",
            )
        self.step()
        self.clock.call_later(self.random.expovariate(1 / 0.05), self.write)

    def look(self) -> None:
        """A lazy reader looks, and reads some."""
        if self.dead:
            return
        if self.stopped:
            self.clock.call_later(1.0, self.look)
            return
        self.drain(self.random.randint(1, 200))
        self.step()
        self.clock.call_later(self.random.random() * self.promise.lazy, self.look)

    def drain(self, most: int | None) -> None:
        while most is None or most > 0:
            data = self.frcp.read(self.clock.time_ns())
            if data is None:
                return
            self.got(data)
            most = None if most is None else most - 1

    peer: Any = None

    def got(self, data: bytes) -> None:
        number = int.from_bytes(data[:4])
        last = self.read[-1] if self.read else -1
        must(number < self.peer.written, f"{self.name} reads packet {number}, which was never written")
        must(data == self.peer.content(number), f"{self.name} reads packet {number}, not as it was written")
        must(number > last, f"{self.name} reads packet {number} after {last}")
        must(not self.promise.retransmit or number == last + 1, f"{self.name} misses what is before {number}")
        self.read.append(number)

    def die(self) -> None:
        """The process ends, without a word."""
        self.dead = True
        self.rearm()

    @property
    def done(self) -> bool:
        """Everything written, sent and acknowledged."""
        return self.written == self.promise.messages and self.frcp.c.tx.sendq.count == 0


class Scenario:
    """A run, from its seed."""

    def __init__(self, seed: int, *, lossless: bool = False) -> None:
        self.seed = seed
        self.random = random = Random(f"frcp/{seed}")
        self.clock = FakeClock(1000.0)
        self.impairment = Impairment(
            loss=random.choice([0, 0, 0.01, 0.05, 0.1, 0.3]),
            delay=random.choice([0.0001, 0.001, 0.02, 0.05]),
            jitter=random.choice([0, 0.002, 0.02]),
            duplicate=random.choice([0, 0.03, 0.2]),
            reorder=random.choice([0, 0.1, 0.5]),
            reorder_delay=random.choice([0.001, 0.02]),
        )
        if lossless:
            self.impairment = Impairment(delay=0.0001)
        fragments = random.random() < 0.5
        max_packet = random.choice([64, 200, 1400, 9000])
        retransmit = random.random() < 0.75 or lossless
        self.promise = Promise(
            retransmit=retransmit,
            fragments=fragments,
            selective=random.random() < 0.5,
            ends=retransmit and Random(f"ends/{seed}").random() < 0.5,
            lossless=lossless,
            max_packet=max_packet,
            window=random.choice([64, 256, 1024]),
            mpl_ms=100,
            timeout_ms=random.choice([0, 0, 60000, 120000]),
            largest=random.choice([100, 3000, 30000]) if fragments else max_packet - 16,
            messages=random.choice([1, 30, 300]),
            burst=random.choice([1, 10, 100]),
            lazy=random.choice([0, 0, 0.5, 15.0]),
        )
        corrupt = 0.0 if lossless else random.choice([0, 0, 0.02, 0.2])
        if self.impairment.loss + corrupt > 0.05:
            self.promise.timeout_ms = 0  # four keep-alives in a row may be lost
        self.link = FakeNetwork[tuple[float, bytes]](self.clock, seed=seed).link("flow", self.impairment)
        self.a, self.b = (
            End(
                name,
                self.clock,
                link,
                self.promise,
                Random(f"{seed}/{name}"),
                corrupt,
                random.getrandbits(32),
            )
            for name, link in (("a", self.link.a), ("b", self.link.b))
        )
        self.a.peer, self.b.peer = self.b, self.a
        self.crash = random.random() < 0.1
        at = self.clock.now
        for _ in range(random.choice([0, 0, 1, 3])):
            at += random.uniform(0, 5)
            end = self.b if self.crash else Random(f"stop/{seed}").choice([self.a, self.b])
            self.clock.call_at(at, end.stop if lossless else lambda: self.link.cut(silent=True))
            at += random.choice([0.05, 1.0, 10.0, 30.0])
            self.clock.call_at(at, end.go_on if lossless else self.link.heal)
        self.calm = at + 20
        if self.crash:
            self.clock.call_at(self.clock.now + random.uniform(0, 10), self.b.die)

    def run(self) -> str:
        """Returns the events. Raises Violated."""
        begin = self.clock.now
        if self.crash:
            self.clock.run(lambda: self.b.dead, limit=20)
            self.one_left()
        else:
            self.clock.run(lambda: self.a.done and self.b.done, limit=3000)
            self.both()
        a, b = self.a.frcp.c.counters, self.b.frcp.c.counters
        return (
            f"seed {self.seed}: {'data' if self.promise.retransmit else 'lossy'}, "
            f"{len(self.b.read)} and {len(self.a.read)} packets read, {a.sent + b.sent} sent, "
            f"{a.resent + b.resent} again, {self.clock.now - begin:.1f} s"
        )

    def both(self) -> None:
        """The end of a run that both survive."""
        for end in (self.a, self.b):
            must(end.frcp.down == 0, f"{end.name} is down: {end.frcp.down}")
            must(
                end.done, f"{end.name} has written {end.written}, {end.frcp.c.tx.sendq.count} are outstanding"
            )
        # The lazy reader may take its time; then an idle flow rests, but for keep-alives.
        everything = self.promise.messages
        limit = 3000 if self.promise.retransmit else 300
        self.clock.run(lambda: all(len(e.read) == everything for e in (self.a, self.b)), limit=limit)
        self.clock.advance(60)
        for end in (self.a, self.b):
            must(
                end.frcp.fin_received == self.promise.ends,
                f"{end.name} does not know that nothing comes any more",
            )
            if self.promise.retransmit:
                must(len(end.read) == everything, f"{end.name} has read {len(end.read)} of {everything}")
            must(
                end.frcp.c.tx.sendq.size == 0,
                f"{end.name} keeps {end.frcp.c.tx.sendq.size} octets for nothing",
            )
            must(
                end.frcp.c.rx.recvq.octets == 0 or not self.promise.retransmit,
                f"{end.name} keeps what was read",
            )
            idle = end.frcp.deadline is None or self.promise.timeout_ms > 0
            must(idle, f"{end.name} does not rest")

    def one_left(self) -> None:
        """The other died: an end that waits for it is notified, in bounded time."""
        self.clock.advance(1)  # its earlier packets may be in flight
        waits = bool(self.a.frcp.c.tx.una != self.a.frcp.c.tx.nxt)
        bound = min(R if waits else 1e9, self.promise.timeout_ms / 1000 or 1e9)
        self.clock.advance(R + 130)
        if bound < 1e9 and (self.promise.retransmit or self.promise.timeout_ms):
            must(self.a.frcp.down in (-EFLOWDOWN, -EFLOWPEER), f"a has not noticed: {self.a.frcp.down}")
        if self.a.frcp.down:
            must(self.a.frcp.c.tx.sendq.octets == 0, "a flow that is down keeps data")
            must(self.a.frcp.deadline is None, "a flow that is down does not rest")


def main(argv: list[str] | None = None) -> int:
    """0 when every invariant held in every run."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim.frcp", description="Run simulated FRCP flows.")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--seed", type=int, help="this run only")
    which.add_argument("--seeds", type=int, default=100, help="runs 0 to N-1 (100)", metavar="N")
    parser.add_argument("--lossless", action="store_true", help="over memory, which loses nothing")
    options = parser.parse_args(argv)
    failed = 0
    for seed in [options.seed] if options.seed is not None else range(options.seeds):
        begin = perf_counter()
        try:
            report = Scenario(seed, lossless=options.lossless).run()
        except Violated as violated:
            failed += 1
            again = f"python -m tests.sim.frcp --seed {seed}{' --lossless' if options.lossless else ''}"
            print(f"seed {seed}: {violated}\n    again: {again}", flush=True)
        else:
            print(f"{report}; took {perf_counter() - begin:.2f} s", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
