"""ocbr's client: sends packets of zeros at the given rate, in the main thread."""

import json
import os
import time
from argparse import Namespace
from typing import TYPE_CHECKING

from ..pacing import Pacer
from ..program import allocation_error, packet_size, reason, warn
from .counter import DEFAULT_SIZE, Counter

if TYPE_CHECKING:
    from ouroboros.dev import Flow

_NS = 1_000_000_000
_WRITE_TIMEOUT_S = 0.5


def send(options: Namespace) -> int:
    """Allocate a flow and send; 0 when the test ran to its end or was interrupted."""
    from ouroboros.dev import flow_alloc

    try:
        flow = flow_alloc(options.name, layer=options.layer)
    except OSError as error:
        raise allocation_error(error) from None
    with flow:
        options.size = packet_size(options.size, DEFAULT_SIZE, 1, flow)
        return _run(flow, options)


def _run(flow: "Flow", options: Namespace) -> int:
    rate = "flood" if options.flood else f"{options.rate:.0f} b/s"
    if not options.json:
        print(
            f"Client started, duration {options.duration:g} s, rate {rate}, size {options.size} B.",
            flush=True,
        )
    counter = Counter(time.monotonic_ns())
    code = 0
    try:
        _send_packets(flow, options, counter)
    except KeyboardInterrupt:
        pass
    except OSError as error:
        warn(f"ocbr: the flow to {options.name} ended: {reason(error)}")
        code = 1
    now = time.monotonic_ns()
    print(json.dumps(counter.to_json(now)) if options.json else counter.sent_line(now))
    return code


def _send_packets(flow: "Flow", options: Namespace, counter: Counter) -> None:
    packet = bytes(options.size)
    end = counter.start + round(options.duration * _NS)
    pacer = None
    if not options.flood:
        pacer = Pacer(size=options.size, bits_per_second=options.rate, start=counter.start)
    # A server that does not read blocks the write; the test ends on time all the same.
    flow.snd_timeout = _WRITE_TIMEOUT_S
    while (now := time.monotonic_ns()) < end:
        if pacer is not None and pacer.next_at > now:
            _wait_until(min(pacer.next_at, end), now, spin=options.spin)
            continue
        try:
            flow.write(packet)
        except TimeoutError:
            continue
        counter.add(1, options.size)
        if pacer is not None:
            pacer.sent(now)


def _wait_until(when: int, now: int, *, spin: bool) -> None:
    if not spin:
        time.sleep((when - now) / _NS)
        return
    while time.monotonic_ns() < when:
        os.sched_yield()
