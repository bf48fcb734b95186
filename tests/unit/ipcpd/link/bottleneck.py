"""A simulator of a bottleneck: senders with a rate control, or with CUBIC, share one queue in front of a slow line.

Deterministic by its seed; time is simulated. A sender always has packets, unless it has a demand. The line has a rate that may
change over time, a delay, random loss and jitter; the queue drops at its tail, by CoDel (RFC 8289), or is a policer.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ipcpd.dataplane.sample import Sample
from ipcpd.link.rate_control import RateControl

SIZE = 1500
"""Octets of a packet."""
MARK = 66
SHARE = 128
TOGETHER = 3000
NEVER = float("inf")


@dataclass(slots=True)
class Packet:
    """One packet on its way; `mark`: the sender's counts, where it is one."""

    sender: int
    octets: int
    sent: float
    queued: float = 0.0
    mark: tuple[int, int, bool] | None = None


@dataclass(slots=True)
class Bottleneck:
    """`rate`: octets per second at a time; `queue` octets; delay and jitter in seconds, one way."""

    rate: Callable[[float], float]
    delay: float
    queue: float
    loss: float = 0.0
    jitter: float = 0.0
    codel: bool = False
    policer: bool = False
    waiting: deque[Packet] = field(default_factory=deque)
    octets: int = 0
    tokens: float = 0.0
    tokens_at: float = 0.0
    above_since: float = NEVER
    drop_next: float = 0.0
    drops: int = 0
    dropping: bool = False
    serving: bool = False


class Sender:
    """What all senders count."""

    def __init__(self) -> None:
        self.sent_packets = self.sent_octets = 0
        self.arrived_packets = self.arrived_octets = 0
        self.dropped = 0
        self.arrivals: list[tuple[float, int]] = []
        self.delays: list[tuple[float, float]] = []
        """Time of arrival and seconds in the queue."""
        self.next = 0.0

    def goodput(self, start: float, end: float) -> float:
        """Octets per second that arrived."""
        return sum(octets for at, octets in self.arrivals if start <= at < end) / (end - start)

    def waited(self, start: float, end: float, share: float = 0.95) -> float:
        """A quantile of the seconds in the queue."""
        delays = sorted(delay for at, delay in self.delays if start <= at < end)
        return delays[int(share * (len(delays) - 1))] if delays else 0.0


class Paced(Sender):
    """A path: it paces, marks, and learns from reports, as path.c does."""

    def __init__(self, control: RateControl, *, demand: float = NEVER, start: float = 0.0) -> None:
        super().__init__()
        self.control = control
        self.demand = demand
        self.next = start
        self._reported = 0
        self._marks = 0
        self._marked_at = start - 1.0
        self._marked_octets = -1
        self._busy = False
        self._credit_at = start
        self._demanded = start
        self._heard = start

    def may_send(self, now: float) -> float:
        """0 if a packet may leave, else when to look again."""
        control = self.control
        if self._demanded > now:
            return self._demanded
        if control.window and self.sent_octets - self._reported >= control.window:
            self._busy = True
            return now + 0.05
        if control.rate and self._credit_at > now + TOGETHER / control.rate:
            self._busy = True
            return self._credit_at - TOGETHER / control.rate + 1e-6
        return 0.0

    def charge(self, octets: int, now: float) -> None:
        rate = self.control.rate
        if rate:
            self._credit_at = max(self._credit_at, now - 0.004) + octets / rate
        if self.demand < NEVER:
            self._demanded = max(self._demanded, now - 0.1) + octets / self.demand

    def mark(self, now: float) -> tuple[int, int, bool] | None:
        """The counts of a mark, if one is due."""
        if self._marked_octets == self.sent_octets or now < self._marked_at + self.control.spacing:
            if now < self._marked_at + 0.1:
                return None
        shut = 0 < self.control.window <= self.sent_octets - self._reported
        if not shut and self.sent_octets + 16384 < (self._marks + 1) * SHARE * MARK:
            return None
        self._marks += 1
        self._marked_at = now
        self.sent_packets += 1
        self.sent_octets += MARK
        self._marked_octets = self.sent_octets
        self.charge(MARK, now)
        busy, self._busy = self._busy, False
        return self.sent_packets, self.sent_octets, busy

    def report(self, packet: Packet, arrived: float, came: tuple[int, int], now: float) -> None:
        assert packet.mark is not None
        packets, octets, busy = packet.mark
        self._reported = max(self._reported, octets)
        self._heard = now
        self.control.sample(Sample(now, packet.sent, arrived, packets, octets, *came, busy))
        self.next = now

    def watch(self, now: float) -> None:
        if now - self._heard > 3.0:
            self.control.silent(now)
            self._heard = now


class Cubic(Sender):
    """A TCP flow with CUBIC (RFC 9438), without its details: a window, a loss event per round trip."""

    def __init__(self, start: float = 0.0) -> None:
        super().__init__()
        self.window = 10.0
        self.threshold = NEVER
        self.flying = 0
        self.w_max = 0.0
        self.epoch = 0.0
        self.recover = 0.0
        self.next = start

    def acked(self, now: float, rtt: float) -> None:
        self.flying -= 1
        if self.window < self.threshold:
            self.window += 1
        else:
            k = (self.w_max * 0.3 / 0.4) ** (1 / 3)
            target = 0.4 * (now + rtt - self.epoch - k) ** 3 + self.w_max
            self.window += max(target - self.window, 0.5 * self.window * 0.01) / self.window
        self.next = now

    def lost(self, now: float, rtt: float) -> None:
        self.flying -= 1
        if now >= self.recover:
            self.w_max, self.epoch, self.recover = self.window, now, now + rtt
            self.window = max(self.window * 0.7, 2.0)
            self.threshold = self.window
        self.next = now


class Simulation:
    """Runs senders over a bottleneck."""

    def __init__(self, line: Bottleneck, senders: Sequence[Sender], *, seed: int = 0) -> None:
        self.line = line
        self.senders = senders
        self.rng = random.Random(seed)
        self.now = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._last_exit = 0.0
        for number, sender in enumerate(senders):
            self.at(sender.next, lambda number=number: self._send(number))

    def at(self, when: float, call: Callable[[], None]) -> None:
        heapq.heappush(self._events, (when, next(self._order), call))

    def run(self, until: float) -> None:
        while self._events and self._events[0][0] <= until:
            self.now, _, call = heapq.heappop(self._events)
            call()

    # ------------------------------------------------------------ senders

    def _send(self, number: int) -> None:
        sender = self.senders[number]
        if isinstance(sender, Paced):
            again = self._send_paced(number, sender)
        else:
            assert isinstance(sender, Cubic)
            while sender.flying < sender.window:
                sender.flying += 1
                self._enter(Packet(number, SIZE, self.now))
            return
        self.at(again, lambda: self._send(number))

    def _send_paced(self, number: int, sender: Paced) -> float:
        sender.watch(self.now)
        for _ in range(64):
            again = sender.may_send(self.now)
            if again:
                break
            sender.charge(SIZE, self.now)
            self._enter(Packet(number, SIZE, self.now))
            self._mark(number, sender)
        self._mark(number, sender)
        return max(again, self.now + 1e-5) if again else self.now + 1e-5

    def _mark(self, number: int, sender: Paced) -> None:
        mark = sender.mark(self.now)
        if mark is not None:
            self._enter(Packet(number, MARK, self.now, mark=mark), counted=True)

    # ------------------------------------------------------------ the line

    def _enter(self, packet: Packet, *, counted: bool = False) -> None:
        line, sender = self.line, self.senders[packet.sender]
        if not counted:
            sender.sent_packets += 1
            sender.sent_octets += packet.octets
        if line.policer:
            rate = line.rate(self.now)
            line.tokens = min(line.tokens + (self.now - line.tokens_at) * rate, line.queue)
            line.tokens_at = self.now
            if line.tokens < packet.octets:
                self._drop(packet)
                return
            line.tokens -= packet.octets
            self._travel(packet)
            return
        if line.octets + packet.octets > line.queue and line.waiting:
            self._drop(packet)
            return
        packet.queued = self.now
        line.waiting.append(packet)
        line.octets += packet.octets
        if not line.serving:
            self._serve()

    def _serve(self) -> None:
        line = self.line
        while line.codel and line.waiting and self._codel_drops(line.waiting[0]):
            packet = line.waiting.popleft()
            line.octets -= packet.octets
            self._drop(packet)
        line.serving = bool(line.waiting)
        if line.serving:
            self.at(self.now + line.waiting[0].octets / line.rate(self.now), self._leave)

    def _codel_drops(self, packet: Packet) -> bool:
        line, now = self.line, self.now
        if now - packet.queued < 0.005 or line.octets < 2 * SIZE:
            line.above_since, line.dropping = NEVER, False
            return False
        if line.above_since == NEVER:
            line.above_since = now
        if not line.dropping:
            if now - line.above_since < 0.1:
                return False
            line.dropping = True
            line.drops = max(line.drops - 2, 1)
            line.drop_next = now + 0.1 / line.drops**0.5
            return True
        if now < line.drop_next:
            return False
        line.drops += 1
        line.drop_next += 0.1 / line.drops**0.5
        return True

    def _leave(self) -> None:
        line = self.line
        packet = line.waiting.popleft()
        line.octets -= packet.octets
        self._travel(packet)
        self._serve()

    def _travel(self, packet: Packet) -> None:
        line = self.line
        if line.loss and self.rng.random() < line.loss:
            self._drop(packet)
            return
        jitter = self.rng.random() * line.jitter if line.jitter else 0.0
        out = max(self.now + line.delay + jitter, self._last_exit)
        self._last_exit = out
        waited = self.now - packet.queued if packet.queued else 0.0
        self.at(out, lambda: self._arrive(packet, waited))

    def _arrive(self, packet: Packet, waited: float) -> None:
        sender, arrived = self.senders[packet.sender], self.now
        sender.arrived_packets += 1
        sender.arrived_octets += packet.octets
        if packet.mark is None:
            sender.arrivals.append((arrived, packet.octets))
            sender.delays.append((arrived, waited))
        if isinstance(sender, Cubic):
            self.at(arrived + self.line.delay, lambda: self._acked(packet))
        elif packet.mark is not None:
            came = sender.arrived_packets, sender.arrived_octets
            self.at(arrived + self.line.delay, lambda: self._reported(packet, arrived, came))

    def _acked(self, packet: Packet) -> None:
        sender = self.senders[packet.sender]
        assert isinstance(sender, Cubic)
        sender.acked(self.now, self.now - packet.sent)
        self._send(packet.sender)

    def _reported(self, packet: Packet, arrived: float, came: tuple[int, int]) -> None:
        sender = self.senders[packet.sender]
        assert isinstance(sender, Paced)
        sender.report(packet, arrived, came, self.now)

    def _drop(self, packet: Packet) -> None:
        sender = self.senders[packet.sender]
        sender.dropped += 1
        if isinstance(sender, Cubic):
            rtt = 2 * self.line.delay + self.line.octets / self.line.rate(self.now)
            self.at(self.now + rtt, lambda: self._lost(packet.sender, rtt))

    def _lost(self, number: int, rtt: float) -> None:
        sender = self.senders[number]
        assert isinstance(sender, Cubic)
        sender.lost(self.now, rtt)
        self._send(number)
