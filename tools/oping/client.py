"""oping's client: one thread that sends by the schedule and reads replies in between."""

import json
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from ouroboros.wire import MalformedPacket

from ..program import (
    allocation_error,
    client_flow,
    packet_size,
    print_lines_immediately,
    qos,
    reason,
    warn,
    warn_of_peer,
)
from . import packet
from .options import Options
from .packet import MIN_SIZE
from .schedule import Schedule
from .statistics import Statistics, invalid_message

if TYPE_CHECKING:
    from ouroboros.dev import Flow
    from ouroboros.errors import FlowDownException

_NS = 1_000_000_000
_MIN_WAIT = 1e-6
_LOOK_NS = 100_000_000
"""Interval at which the client polls for the link while it is down."""


def ping(options: Options) -> int:
    """Ping the server; 0 when the flow was allocated, whatever was lost (docs/reference/oping.md)."""
    from ouroboros.dev import flow_alloc

    assert options.name is not None
    cube = qos(options.qos)
    try:
        flow = flow_alloc(options.name, cube, layer=options.layer)
    except OSError as error:
        raise allocation_error(error) from None
    with client_flow(flow):
        options.size = packet_size(options.size, MIN_SIZE, MIN_SIZE, flow)
        return Pinger(flow, options).run()


class Pinger:
    """One run over an allocated flow."""

    def __init__(self, flow: "Flow", options: Options) -> None:
        assert options.name is not None
        self._flow = flow
        self._options = options
        self._flood = options.flood or options.flood_busy
        self._silent = options.quiet or options.json
        self._statistics = Statistics(options.name, options.size)
        self._start = time.monotonic_ns()
        self._schedule = Schedule(
            interval=round(options.interval * _NS), count=options.count, flood=self._flood, start=self._start
        )
        self._interrupted = False
        self._end: int | None = None
        if self._flood and options.duration is not None:
            self._end = self._start + round(options.duration * _NS)
        self._prepare_flow()

    def _prepare_flow(self) -> None:
        from ouroboros.dev import FlowProperties

        flags = FlowProperties.ReadWrite | FlowProperties.NoPartialRead | FlowProperties.NonBlockingWrite
        if self._options.flood_busy:
            flags |= FlowProperties.NonBlockingRead
        self._flow.flags = flags

    def run(self) -> int:
        """Send and receive until every request is answered, the server has closed the flow or the user interrupts."""
        if not self._flood and self._options.interval:
            print_lines_immediately()
        try:
            self._print_opening()
            self._loop()
        except KeyboardInterrupt:
            pass  # the user interrupts to see the statistics
        except OSError as error:
            warn(f"oping: the flow to {self._options.name} ended: {reason(error)}")
        elapsed = time.monotonic_ns() - self._start
        self._statistics.resent = self._resent()
        if self._options.json:
            print(json.dumps(self._statistics.to_json(elapsed)))
        else:
            print(self._statistics.render(elapsed))
        return 0

    def _resent(self) -> int | None:
        """Packets that FRCP has sent again; None on a flow without it, or that does not retransmit."""
        with suppress(OSError):
            frcp = self._flow.frcp
            if frcp is not None and frcp.retransmits:
                return frcp.resent
        return None

    def _print_opening(self) -> None:
        if self._silent:
            return
        count = self._schedule.count
        packets = "" if count is None else f" ({count} packets)"
        print(f"Pinging {self._options.name} with {self._options.size} bytes of data{packets}:\n", flush=True)

    def _loop(self) -> None:
        schedule = self._schedule
        while not (schedule.all_sent and self._statistics.received >= schedule.number):
            now = time.monotonic_ns()
            if self._interrupted and self._waits_for_link(now):
                continue
            if self._end is not None and now >= self._end and not schedule.all_sent:
                schedule.finish()
            elif not schedule.all_sent and now >= schedule.send_at:
                self._send(now)
            elif now < schedule.give_up_at:
                self._receive(schedule.wake_at - now)
            elif not self._receive(0):  # unless this process itself did not run (no free core, or Ctrl-Z)
                print("Server timed out.", file=sys.stderr if self._options.json else sys.stdout, flush=True)
                return

    def _interruption(self, error: "FlowDownException") -> None:
        """The flow went down; raises the error again unless the cause is its link, which may come back."""
        if not self._flow.link_down:
            raise error
        if not self._interrupted:
            self._interrupted = True
            warn(f"The link to {self._options.name} is down.")

    def _waits_for_link(self, now: int) -> bool:
        """While the link is down each request that is due counts as lost, as with ping; False when the client need not wait for the link."""
        schedule = self._schedule
        if not self._flow.link_down:
            self._interrupted = False
            warn(f"The link to {self._options.name} is up again.")
            return False
        if schedule.all_sent and now >= schedule.give_up_at:
            return False
        if not schedule.all_sent:
            schedule.held(now)
        if self._end is not None and now >= self._end:
            schedule.finish()
        elif not schedule.all_sent and now >= schedule.send_at:
            schedule.sent(now)
            self._statistics.transmitted += 1
        else:
            time.sleep(min(max(0, schedule.wake_at - now), _LOOK_NS) / _NS)
        return True

    def _send(self, now: int) -> None:
        from ouroboros.errors import FlowDownException

        number = self._schedule.number
        request = packet.encode(packet.Kind.REQUEST, number, now, self._options.size)
        try:
            self._flow.write(request)
        except FlowDownException as error:
            self._interruption(error)
            return
        except BlockingIOError:
            if not (self._flood or self._options.interval == 0):
                warn_of_peer("Failed to send packet.")
            self._schedule.blocked(now)
            self._receive(0)
            return
        self._schedule.sent(now)
        self._statistics.transmitted += 1

    def _receive(self, wait_ns: int) -> bool:
        """Wait for a packet for at most `wait_ns`; whether it was a reply."""
        from ouroboros.errors import FlowDownException

        if not self._options.flood_busy:
            self._flow.rcv_timeout = max(wait_ns / _NS, _MIN_WAIT)
        try:
            return self._take(self._flow.recv())
        except (TimeoutError, BlockingIOError):
            return False
        except FlowDownException as error:
            self._interruption(error)
            return False

    def _take(self, reply: bytes) -> bool:
        now = time.monotonic_ns()
        try:
            kind, number, sent_ns = packet.decode(reply)
        except MalformedPacket:
            kind, number, sent_ns = packet.Kind.REQUEST, 0, 0
        if kind is not packet.Kind.REPLY or not self._start <= sent_ns <= now:
            invalid_message(self._flow.fd)
            return False
        line = self._statistics.reply(number, now - sent_ns)
        if line is None:
            warn_of_peer("Invalid id.")
            return False
        self._schedule.replied(number, now)
        if not self._silent:
            print(self._time_prefix() + line)
        return True

    def _time_prefix(self) -> str:
        if not self._options.timeofday:
            return ""
        seconds, microseconds = divmod(time.time_ns() // 1000, 1_000_000)
        return f"[{seconds}.{microseconds:06d}] "
