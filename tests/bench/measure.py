"""The loops that are measured. They run in the peer processes, one on each side at the same time.

Every call is taken out of its object before the loop. Times are of CLOCK_MONOTONIC, in ns, and can be compared between
processes of one machine. Processor time is that of the process itself (user and system, all its threads), in seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from itertools import repeat
from time import monotonic_ns, process_time, sleep
from typing import Any, NoReturn

from tests.bench.quantile import percentile
from tests.bench.subjects.subject import Calls, burst_of
from tests.bench.subjects.udp import SILENCE

WARM = 100  # round trips before the first that counts
SILENT = (BlockingIOError, TimeoutError)  # raised by a receive call without a packet for SILENCE


def echo(calls: Calls, size: int, count: int) -> dict[str, Any]:
    """Answer `count` packets with one of the same size each."""
    recv, room, send, payload = calls.recv, calls.room, calls.send, bytes(size)
    for _ in repeat(None, count):
        recv(room)
        send(payload)
    return {}


def ping(calls: Calls, size: int, count: int, warm: int) -> dict[str, Any]:
    """`count` round trips after `warm` others: 50th and 99th percentile in µs."""
    recv, room, send, payload = calls.recv, calls.room, calls.send, bytes(size)
    for _ in repeat(None, warm):
        send(payload)
        recv(room)
    samples: list[int] = []
    note = samples.append
    last = monotonic_ns()
    for _ in repeat(None, count):
        send(payload)
        recv(room)
        now = monotonic_ns()
        note(now - last)
        last = now
    samples.sort()
    return {"p50": percentile(samples, 50) / 1e3, "p99": percentile(samples, 99) / 1e3}


def pace(calls: Calls, size: int, count: int, seconds: float) -> dict[str, Any]:
    """The same with a pause before each, as in ping(8): all processes on the path have gone to sleep."""
    recv, room, send, payload = calls.recv, calls.room, calls.send, bytes(size)
    samples: list[int] = []
    for _ in repeat(None, count + 1):
        sleep(seconds)
        began = monotonic_ns()
        send(payload)
        recv(room)
        samples.append(monotonic_ns() - began)
    samples = sorted(samples[1:])
    return {"p50": percentile(samples, 50) / 1e3, "p99": percentile(samples, 99) / 1e3}


def _flood_single(calls: Calls, size: int, count: int) -> None:
    send, payload = calls.send, bytes(size)
    for _ in repeat(None, count):
        send(payload)


def _flood_burst(calls: Calls, size: int, count: int) -> None:
    writev = calls.writev
    assert writev is not None, "the subject has no burst calls"
    batch = [bytes(size)] * burst_of(size)
    full = len(batch)
    left = count
    while left >= full:
        left -= writev(batch)
    while left > 0:
        left -= writev(batch[:left])


def _flood_windowed(calls: Calls, size: int, count: int, burst: bool) -> None:
    """Send in steps of half a window; before a third step is on its way, the receiver must have counted one."""
    recv, room = calls.recv, calls.room
    step = calls.window // 2
    send_some = _flood_burst if burst else _flood_single
    unheard = 0
    try:
        for sent in range(0, count, step):
            if unheard == 2:
                recv(room)
                unheard -= 1
            send_some(calls, size, min(step, count - sent))
            unheard += 1
        for _ in repeat(None, unheard):
            recv(room)
    except SILENT:
        pass  # A packet was lost. The receiver notices the same, and counts what it got.


def flood(calls: Calls, size: int, count: int, burst: bool) -> dict[str, Any]:
    """Send `count` packets one way; returns the time of the first call."""
    spent, began = process_time(), monotonic_ns()
    if calls.window:
        _flood_windowed(calls, size, count, burst)
    elif burst:
        _flood_burst(calls, size, count)
    else:
        _flood_single(calls, size, count)
    return {"began": began, "cpu": process_time() - spent}


def soak(calls: Calls, size: int) -> NoReturn:
    """Send in bursts, until we are ended."""
    while True:
        _flood_burst(calls, size, 1 << 20)


def drain(calls: Calls, size: int) -> NoReturn:
    """Receive in bursts, until we are ended."""
    assert calls.readv is not None, "the subject has no burst calls"
    while True:
        with suppress(*SILENT):
            calls.readv(burst_of(size))


def _sink_single(calls: Calls, count: int) -> int:
    recv, room = calls.recv, calls.room
    for _ in repeat(None, count):
        recv(room)
    return count


def _sink_burst(calls: Calls, size: int, count: int) -> int:
    readv = calls.readv
    assert readv is not None, "the subject has no burst calls"
    most = burst_of(size)
    left = count
    while left > 0:
        left -= readv(most if most < left else left)
    return count


def _sink_windowed(calls: Calls, size: int, count: int, burst: bool) -> int:
    """Receive until all packets or none arrive any more; acknowledge each half window."""
    recv, room, readv = calls.recv, calls.room, calls.readv
    step = calls.window // 2
    most = burst_of(size)
    got = 0
    try:
        while got < count:
            least = min(got + step, count)
            if burst:
                assert readv is not None, "the subject has no burst calls"
                while got < least:
                    got += readv(min(most, least - got))
            else:
                for _ in repeat(None, least - got):
                    recv(room)
                    got += 1
            calls.send(b"+")
    except SILENT:
        pass  # SILENCE has passed without a packet
    return got


def sink(calls: Calls, size: int, count: int, burst: bool, armed: Callable[[], None]) -> dict[str, Any]:
    """Receive up to `count` packets; how many came, and when the last did. Says `armed` just before it begins."""
    spent = process_time()
    armed()
    if calls.window:
        got = _sink_windowed(calls, size, count, burst)
    elif burst:
        got = _sink_burst(calls, size, count)
    else:
        got = _sink_single(calls, count)
    ended = monotonic_ns()
    if got < count:
        ended -= round(SILENCE * 1e9)
    return {"got": got, "ended": ended, "cpu": process_time() - spent}
