"""Rate control of a path: how many octets per second it carries, from samples of it (spec/path 4).

Runs in the link IPCPs as a machine without I/O: a sample is the content of one report; rate, window and the spacing of marks come out.

    STARTUP ──► PACED ◄──► COMPETING          OPEN: the path has shown no limit
       └──────► OPEN ───┘

STARTUP doubles a window until the path shows a limit: a queue, loss, or no more packets per second. PACED sends at the rate at
which the receiver got packets, tries a higher one every few round trips, and goes below while a queue stands: BBR's model
(Cardwell et al. 2016), with the short standing queue as the limit, as in Copa (Arun and Balakrishnan 2018), because the rate of
arrivals is exact while a queue stands. Random loss changes nothing. A queue that does not drain is another sender's:
COMPETING has the window of CUBIC (RFC 9438), which shares such a queue, until the queue has been empty.
"""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass
from enum import Enum

from ipcpd.dataplane.sample import Sample

FIRST_WINDOW = 24_000
"""Octets that are sent before the first report: those of 16 packets."""

LEAST_RATE = 4_000.0
"""Octets per second: a path is never slower (64 kbit/s are 8,000)."""

UNKNOWN_RATE = 32_000.0
"""Octets per second on a path that is silent and has never carried more."""

OPEN_RATE = 2.5e9
"""Octets per second that a path has not resisted: it needs no pace."""

QUEUE = 0.003
"""Seconds of standing queue that show a limit, besides the time of a burst."""
OPEN_DELAY = 0.010
"""The same on an open path: the processes of one machine delay each other for as long."""

UNMARKED = 12_000
"""Octets that may be sent before another mark may be (path.c)."""

TOGETHER = 3_000
"""Octets that leave together (path.c)."""

LOSS = 0.01
"""Share of packets lost, above the share that is lost anyway, that shows a full queue."""
OPEN_LOSS = 0.03

SHORTEST_ROUND = 0.02
"""Seconds: rates over less are noise."""

MIN_RTT_LASTS = 10.0
"""Seconds after which the least round trip is measured again, with an empty queue."""
MEASURING = 0.2
"""Seconds for which less is sent, then."""

UP = 1.15
FAST_UP = 1.5
GROWTH = 1.05
"""Growth of the rate of arrivals that shows that a probe found more."""

REMEMBERED = 8
"""Rounds: the path carries the most that arrived in one of them."""

STUBBORN = 4
"""Drains in a row after which a queue is another sender's."""
RECENT = 30.0
"""Seconds after another sender was there for which the first drain decides."""

ALONE_ROUNDS = 3
"""Rounds without a queue after which no other sender is there."""
TEST = 8.0
"""Seconds after which COMPETING sends half as much for a round trip: a queue that drains as fast has no other sender."""

CUBIC_C = 0.4
CUBIC_BETA = 0.7
SEGMENT = 1_500

SPACING = 0.002
"""Seconds between marks, at least."""


class Mode(Enum):
    """The knowledge about the path."""

    STARTUP = "startup"
    OPEN = "open"
    PACED = "paced"
    COMPETING = "competing"
    SILENT = "silent"


class Phase(Enum):
    """The state of a PACED path."""

    CRUISE = "cruise"
    UP = "up"
    """More than the path is known to carry, for a round trip."""
    DRAIN = "drain"
    """Less, for a round trip."""
    JUDGE = "judge"
    """The reports on the round trip before arrive now."""
    MEASURE = "measure"


@dataclass(slots=True)
class _Round:
    """A round trip's worth of samples, behind the last sample of the round before."""

    first: Sample
    began: float
    min_rtt: float = float("inf")
    samples: int = 0
    busy: int = 0
    held: bool = False
    last: Sample | None = None

    def add(self, sample: Sample) -> None:
        self.min_rtt = min(self.min_rtt, sample.rtt)
        self.samples += 1
        self.busy += sample.busy
        self.held |= sample.held
        self.last = sample

    @property
    def rate(self) -> float:
        """Octets per second that arrived, and no more than were sent."""
        assert self.last is not None
        first, last = self.first, self.last
        elapsed = max(last.arrived - first.arrived, last.marked - first.marked)
        return max(last.arrived_octets - first.arrived_octets, 0) / elapsed if elapsed > 0 else 0.0

    @property
    def loss(self) -> float:
        """Share of the packets sent that did not arrive."""
        assert self.last is not None
        sent = self.last.sent_packets - self.first.sent_packets
        arrived = self.last.arrived_packets - self.first.arrived_packets
        return max(sent - arrived, 0) / sent if sent > 0 else 0.0

    @property
    def spare(self) -> bool:
        """Whether the senders wanted no more than was sent, most of the time."""
        return 2 * self.busy < self.samples

    @property
    def lost(self) -> int:
        assert self.last is not None
        sent = self.last.sent_packets - self.first.sent_packets
        return max(sent - (self.last.arrived_packets - self.first.arrived_packets), 0)


class RateControl:
    """The rate of one path."""

    def __init__(self, rng: random.Random | None = None) -> None:
        self.mode = Mode.STARTUP
        self.phase = Phase.CRUISE
        self.bandwidth = 0.0
        """Octets per second that the path carries, as far as known."""
        self.min_rtt: float | None = None
        self.rtt: float | None = None
        self.queue = 0.0
        """Seconds of standing queue in the last round."""
        self.loss = 0.0
        """Share of packets lost, smoothed, while no queue stands."""
        self.jitter = 0.0
        """Seconds by which the round trip varies, smoothed."""
        self.delivered = 0.0
        """Octets per second that arrived in the last round."""
        self.spare = True
        self.held = False
        self._rng = rng or random.Random()
        self._gain = 1.0
        self._window = float(FIRST_WINDOW)
        self._round: _Round | None = None
        self._last: Sample | None = None
        self._best = 0.0
        self._flat = 0
        self._evidence = 0
        self._judge = False  # the window of STARTUP has not been reported on
        self._left = 0  # rounds of this phase
        self._drains = 0  # in a row
        self._drain_from = 0.0
        self._undrained = 0.0  # the bandwidth before
        self._most = 0.0
        self._peak = 0.0  # octets per second of the line, as far as seen lately
        self._competed = float("-inf")
        self._before_up = 0.0
        self._fast = False
        self._rates: deque[float] = deque(maxlen=REMEMBERED)
        self._min_rtt_at = 0.0
        self._measure_until = 0.0
        self._w_max = 0.0
        self._epoch = 0.0
        self._cut_at = 0.0
        self._test_at = 0.0
        self._drained_for = 0.0
        self._empty = 0

    # ------------------------------------------------------------ output

    @property
    def rate(self) -> int:
        """Octets per second that may be sent; 0: without limit."""
        rate = self._rate()
        return round(max(rate, LEAST_RATE)) if rate else 0

    def _rate(self) -> float:
        match self.mode:
            case Mode.OPEN:
                return 0.0
            case Mode.STARTUP:
                return 2 * self._window / self.rtt if self.rtt is not None else 0.0
            case Mode.COMPETING:
                assert self.rtt is not None
                return self.bandwidth / 2 if self.phase is Phase.DRAIN else 1.2 * self._window / self.rtt
            case Mode.SILENT:
                return max(self.bandwidth / 4, LEAST_RATE) if self.bandwidth else UNKNOWN_RATE
            case Mode.PACED:
                return self._gain * self.bandwidth

    @property
    def window(self) -> int:
        """Octets that may be under way without a report; 0: any number."""
        match self.mode:
            case Mode.OPEN | Mode.SILENT:
                return 0
            case Mode.STARTUP | Mode.COMPETING:
                return round(self._window)
            case Mode.PACED:
                assert self.min_rtt is not None
                if self.phase is Phase.MEASURE:
                    return round(max(self.bandwidth * self.min_rtt / 2, 4 * SEGMENT))
                return round(self.bandwidth * (2 * self.min_rtt + SHORTEST_ROUND) + UNMARKED)

    @property
    def spacing(self) -> float:
        """Seconds between marks."""
        if self.rtt is None or self.mode is Mode.STARTUP:
            return SPACING / 4
        return min(max(self.rtt / 8, SPACING), 0.05)

    # ------------------------------------------------------------ input

    def silent(self, now: float) -> bool:
        """Marks had no report for a second. True: that is new."""
        new = self.mode is not Mode.SILENT
        self.mode = Mode.SILENT
        self._round = self._last = None
        return new

    def sample(self, sample: Sample) -> None:
        """A report arrived."""
        if self.mode is Mode.SILENT:
            self._start_again()
        rtt = sample.rtt
        self.jitter += (abs(rtt - (self.rtt or rtt)) - self.jitter) / 16
        self.rtt = rtt if self.rtt is None else self.rtt + (rtt - self.rtt) / 8
        if self.min_rtt is None or rtt <= self.min_rtt:
            self.min_rtt = rtt
        if rtt <= self.min_rtt * 1.02 + 0.0002:
            self._min_rtt_at = sample.now
        if self._round is None:
            self._round = _Round(sample, sample.now)
            self._last = sample
            return
        self._round.add(sample)
        self._last = sample
        if (
            sample.marked >= self._round.began
            and sample.arrived - self._round.first.arrived >= self._shortest()
        ):
            done, self._round = self._round, _Round(sample, sample.now)
            self._on_round(done, sample.now)

    def _shortest(self) -> float:
        return SHORTEST_ROUND / 4 if self.mode is Mode.STARTUP else SHORTEST_ROUND

    def _start_again(self) -> None:
        self.mode, self._window = Mode.STARTUP, float(FIRST_WINDOW)
        self._best, self._flat, self._evidence, self._judge = 0.0, 0, 0, False
        self.min_rtt = None

    # ------------------------------------------------------------ rounds

    def _on_round(self, done: _Round, now: float) -> None:
        assert self.min_rtt is not None
        self.queue = max(done.min_rtt - self.min_rtt, 0.0)
        self.delivered = done.rate
        self.spare, self.held = done.spare, done.held
        self._peak = max(0.99 * self._peak, done.rate)
        match self.mode:
            case Mode.STARTUP:
                self._start(done)
            case Mode.OPEN:
                self._watch(done)
            case Mode.PACED:
                self._pace(done, now)
            case Mode.COMPETING:
                self._compete(done, now)
        if not self._is_queue() and not self._is_overflow(done):
            self.loss += (done.loss - self.loss) / 8

    def _allowed_queue(self) -> float:
        return QUEUE + (TOGETHER / self._peak if self._peak else 0.0)

    def _is_queue(self) -> bool:
        return self.queue > self._allowed_queue()

    def _is_overflow(self, done: _Round) -> bool:
        return done.lost >= 2 and done.loss > 2 * self.loss + LOSS

    def _start(self, done: _Round) -> None:
        assert self.min_rtt is not None
        rate = done.rate
        self.bandwidth = max(self.bandwidth, rate)
        if self._is_queue() or self._is_overflow(done):
            self.bandwidth = rate
            self._enter(Mode.PACED, Phase.DRAIN)
            return
        if done.spare:
            return
        self._judge = not self._judge
        if self._judge:
            return
        self._flat = self._flat + 1 if rate < 1.25 * self._best else 0
        self._best = max(self._best, rate)
        if self._flat >= 3:
            self._enter(Mode.PACED, Phase.CRUISE)
            return
        self._window *= 2
        if self._window / done.min_rtt > OPEN_RATE:
            self.mode, self._evidence = Mode.OPEN, 0

    def _watch(self, done: _Round) -> None:
        """An open path: does it show a limit?"""
        self.bandwidth = max(self.bandwidth * 0.99, done.rate)
        if done.spare or not (self.queue > OPEN_DELAY or done.loss > OPEN_LOSS):
            self._evidence = 0
            return
        self._evidence += 1
        if self._evidence >= 3:
            self.bandwidth = done.rate
            self._enter(Mode.PACED, Phase.DRAIN)

    def _enter(self, mode: Mode, phase: Phase) -> None:
        self.mode = mode
        self._evidence = self._drains = 0
        self._fast = False
        self._rates.clear()
        self._rates.append(self.bandwidth)
        self._to(phase)

    def _to(self, phase: Phase) -> None:
        self.phase = phase
        self._gain = 1.0
        match phase:
            case Phase.CRUISE:
                self._left, self._drains, self._fast = self._rng.randint(2, 5), 0, False
            case Phase.UP:
                self._gain, self._before_up = (FAST_UP if self._fast else UP), self.bandwidth
            case Phase.DRAIN:
                assert self.min_rtt is not None
                if self._drains == 0:
                    self._drain_from, self._undrained = self.queue, max(self._most, self.bandwidth)
                self._drains += 1
                length = max(self.min_rtt + self.queue, SHORTEST_ROUND)
                self._gain = min(max(1 - (self.queue - QUEUE / 4) / length, 0.5), 0.95)

    # ------------------------------------------------------------ paced

    def _pace(self, done: _Round, now: float) -> None:
        if self.phase is Phase.MEASURE:
            self._measured(now)
            return
        full, overflow = self._is_queue(), self._is_overflow(done)
        self._most = self.bandwidth
        self._learn(done, full)
        if self._must_measure(now):
            self._measure(now)
            return
        match self.phase:
            case Phase.UP | Phase.DRAIN:
                self._to(Phase.JUDGE)
            case Phase.JUDGE:
                self._judged(done, full, overflow, now)
            case _ if full or overflow:
                self._to(Phase.DRAIN)
            case _:
                self._left -= 1
                if self._left <= 0 and not done.spare:
                    self._to(Phase.UP)

    def _learn(self, done: _Round, full: bool) -> None:
        """What the path carries."""
        if full and not done.spare and self.phase is not Phase.JUDGE:
            self._rates.clear()  # a queue stood all the time: no more than that arrives
        elif done.spare and done.rate < self.bandwidth:
            return
        self._rates.append(done.rate)
        self.bandwidth = max(*self._rates, LEAST_RATE)

    def _judged(self, done: _Round, full: bool, overflow: bool, now: float) -> None:
        if full or overflow:
            self._fast = False
            stubborn = 1 if now - self._competed < RECENT else STUBBORN
            if self._drains >= stubborn and self.queue > 0.7 * self._drain_from:
                self._begin_competing(now)
            else:
                self._to(Phase.DRAIN)
        elif self._before_up and done.rate > GROWTH * self._before_up:
            self._fast = True
            self._to(Phase.UP)
            return
        else:
            self._to(Phase.CRUISE)
        self._before_up = 0.0

    def _measure(self, now: float) -> None:
        """Send little, so that the queue is empty, whatever the least round trip was."""
        self._to(Phase.MEASURE)
        self._measure_until = now + MEASURING
        self.min_rtt = self.rtt
        self._round = None

    def _must_measure(self, now: float) -> bool:
        return now - self._min_rtt_at > MIN_RTT_LASTS and not self.spare

    def _measured(self, now: float) -> None:
        if now >= self._measure_until:
            self._min_rtt_at = now
            self._to(Phase.CRUISE)

    # ------------------------------------------------------------ competing

    def _begin_competing(self, now: float) -> None:
        assert self.rtt is not None
        self.mode, self.phase = Mode.COMPETING, Phase.CRUISE
        self._empty = 0
        self._window = max(self._undrained * self.rtt, 4.0 * SEGMENT)
        self._w_max, self._epoch, self._cut_at, self._test_at = self._window, now, now, now + TEST

    def _compete(self, done: _Round, now: float) -> None:
        assert self.rtt is not None
        self.bandwidth = max(done.rate if not done.spare else max(done.rate, self.bandwidth), LEAST_RATE)
        self._empty = 0 if self._is_queue() else self._empty + 1
        self._competed = now
        if self._empty >= ALONE_ROUNDS or self._is_alone(done, now):
            self.bandwidth = max(self.bandwidth, self._window / self.rtt)
            self._enter(Mode.PACED, Phase.CRUISE)
        elif done.lost and done.loss > 2 * self.loss:
            if now - self._cut_at > 1.5 * self.rtt:
                self._w_max, self._epoch, self._cut_at = self._window, now, now
                self._window = max(self._window * CUBIC_BETA, 4.0 * SEGMENT)
        elif not done.spare:
            self._grow(now)

    def _is_alone(self, done: _Round, now: float) -> bool:
        """Test it now and then: half the rate for a round trip; the queue drains while the reports on it arrive."""
        assert self.rtt is not None
        match self.phase:
            case Phase.CRUISE if now >= self._test_at:
                self.phase, self._drain_from, self._test_at = Phase.DRAIN, self.queue, now
            case Phase.DRAIN:
                self.phase, self._drained_for = Phase.JUDGE, now - self._test_at
            case Phase.JUDGE:
                self.phase, self._test_at = Phase.CRUISE, now + TEST
                return self._drain_from - self.queue > 0.35 * self._drained_for
        return False

    def _grow(self, now: float) -> None:
        """A window grows as CUBIC's, and at least as Reno's."""
        segments = self._w_max / SEGMENT
        k = (segments * (1 - CUBIC_BETA) / CUBIC_C) ** (1 / 3)
        cubic = (CUBIC_C * (now - self._epoch - k) ** 3 + segments) * SEGMENT
        reno = self._window + 0.53 * SEGMENT
        self._window = min(max(cubic, reno), self._window * 1.5)
