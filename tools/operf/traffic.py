"""The traffic of operf's client: packets out at the given rate, echoes in. The client's only thread."""

import os
import time
from typing import TYPE_CHECKING

from ..pacing import Pacer
from . import wire
from .options import Options
from .progress import Progress
from .results import Results
from .tally import Tally

if TYPE_CHECKING:
    from ouroboros.dev import Flow

_NS = 1_000_000_000
_BATCH = 256
_WRITE_TIMEOUT_S = 0.5
_MIN_WAIT = 1e-6


class Traffic:
    """Sends one test's packets and takes its echoes; writes the counts into `results`."""

    def __init__(self, flow: "Flow", options: Options, results: Results, *, progress: bool) -> None:
        self._flow = flow
        self._options = options
        self._results = results
        self._echoing = results.kind is wire.Kind.BIDIRECTIONAL
        self._echoes = Tally(wire.Type.ECHO)
        burst = options.burst if options.flood else 1
        self._packets = [bytearray(wire.encode(wire.Type.DATA, size=results.size)) for _ in range(burst)]
        self._prepare_flow()
        self._show_progress = progress
        self._start_at(time.monotonic_ns())

    def _start_at(self, now: int) -> None:
        options = self._options
        self._start = now
        self._end = now + round(options.duration * _NS)
        self._progress = Progress(enabled=self._show_progress, start=now)
        self._pacer: Pacer | None = None
        if not options.flood:
            self._pacer = Pacer(size=self._results.size, bits_per_second=options.rate, start=now)

    def _prepare_flow(self) -> None:
        from ouroboros.dev import FlowProperties

        flags = FlowProperties.ReadWrite | FlowProperties.NoPartialRead
        if self._echoing:
            flags |= FlowProperties.NonBlockingWrite
            if self._options.flood or not self._options.sleep:
                flags |= FlowProperties.NonBlockingRead
        self._flow.flags = flags
        self._flow.snd_timeout = _WRITE_TIMEOUT_S

    # ---------------------------------------------------------------- sending

    def send(self) -> None:
        """Send until the time is over; raises OSError when the flow fails."""
        self._start_at(time.monotonic_ns())
        results = self._results
        pacer = self._pacer
        while (now := time.monotonic_ns()) < self._end:
            if now >= self._progress.next_at:
                self._progress.tick(now, results.packets, results.octets)
            written = 0
            if pacer is None or pacer.next_at <= now:
                written = self._write(now)
            if self._echoing:
                self._take_echoes_until(self._next_at, busy=written > 0)
            elif not written:
                self._wait_until(self._next_at)

    @property
    def _next_at(self) -> int:
        """When to send again."""
        return self._end if self._pacer is None else min(self._pacer.next_at, self._end)

    def _write(self, now: int) -> int:
        """Write one burst; how many packets the flow took."""
        first = self._results.packets
        for number, packet in enumerate(self._packets, first):
            wire.NUMBER_AND_TIME.pack_into(packet, wire.NUMBER_OFFSET, number, now)
        try:
            written = self._write_packets()
        except (TimeoutError, BlockingIOError):
            return 0
        self._results.packets += written
        self._results.octets += written * self._results.size
        if self._pacer is not None:
            self._pacer.sent(now, written)
        return written

    def _write_packets(self) -> int:
        if len(self._packets) > 1:
            return self._flow.writev(self._packets)
        self._flow.write(self._packets[0])
        return 1

    def _wait_until(self, when: int) -> None:
        if self._pacer is None:
            return  # a flood that was blocked has waited in the write
        if self._options.sleep:
            time.sleep(max(0, when - time.monotonic_ns()) / _NS)
            return
        while time.monotonic_ns() < when:
            os.sched_yield()

    def measured(self) -> None:
        """The sending is over: note how long it took."""
        if not self._results.elapsed_ns:
            self._results.elapsed_ns = time.monotonic_ns() - self._start
        if self._echoing:
            self._results.echoes = self._echoes.report()

    # ---------------------------------------------------------------- echoes

    @property
    def echoes_missing(self) -> bool:
        """Whether some packet has not come back."""
        return self._echoes.sequence.received < self._results.packets

    def block_reads(self, timeout: float) -> None:
        """From now on a read waits for at most `timeout` seconds, and a write too."""
        from ouroboros.dev import FlowProperties

        self._flow.flags = FlowProperties.ReadWrite | FlowProperties.NoPartialRead
        self._flow.rcv_timeout = timeout
        self._flow.snd_timeout = timeout

    def take_echoes(self) -> bool:
        """Take the echoes that wait, or that arrive while the read blocks; whether there were any."""
        before = self._echoes.sequence.received
        self.read()
        return self._echoes.sequence.received > before

    def read(self) -> list[bytes]:
        """Take a batch: echoes are counted, other packets returned."""
        try:
            packets = self._flow.readv(_BATCH)
        except (TimeoutError, BlockingIOError):
            return []
        now = time.monotonic_ns()
        others = self._echoes.take(packets, now)
        self._results.echoes = self._echoes.report() if self._echoing else None
        for packet in packets:
            self._note_rtt(packet, now)
        return others

    def _note_rtt(self, packet: bytes, now: int) -> None:
        if len(packet) < wire.HEADER.size:
            return
        kind, _, _, sent_ns = wire.HEADER.unpack_from(packet)
        if kind == wire.Type.ECHO and self._start <= sent_ns <= now:
            self._results.rtt.add(now - sent_ns)

    def _take_echoes_until(self, when: int, *, busy: bool) -> None:
        """Take echoes until it is time to send; a flood takes those that wait, and yields the processor when it cannot send."""
        if self._pacer is None:
            if not self.take_echoes() and not busy:
                os.sched_yield()
            return
        while (now := time.monotonic_ns()) < when:
            if self._options.sleep:
                self._flow.rcv_timeout = max((when - now) / _NS, _MIN_WAIT)
            if not self.take_echoes() and not self._options.sleep:
                os.sched_yield()
