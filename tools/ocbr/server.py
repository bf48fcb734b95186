"""ocbr's server: reports the packets that arrive, per flow and interval. One thread per flow, at most ten."""

import json
import time
from argparse import Namespace
from typing import TYPE_CHECKING

from ..program import print_lines_immediately
from ..server import FlowServer
from .counter import Counter

if TYPE_CHECKING:
    from ouroboros.dev import Flow

MAX_FLOWS = 10
_BATCH = 64
_NS = 1_000_000_000


def serve(options: Namespace) -> int:
    """Serve until a signal or the end of the IRMd."""
    print_lines_immediately()
    if not options.json:
        print(f"Server started, interval is {options.interval:g} s, timeout is {options.timeout:g} s.")

    def handle(flow: "Flow") -> None:
        Receiver(flow, interval=options.interval, timeout=options.timeout, as_json=options.json).run()

    try:
        FlowServer(handle, limit=MAX_FLOWS).run()
    except KeyboardInterrupt:
        pass
    return 0


class Receiver:
    """One test; `interval` and `timeout` are seconds."""

    def __init__(self, flow: "Flow", *, interval: float, timeout: float, as_json: bool) -> None:
        self._flow = flow
        self._fd = flow.fd
        self._interval = round(interval * _NS)
        self._timeout = round(timeout * _NS)
        self._json = as_json
        now = time.monotonic_ns()
        self._last_packet = now
        self._counter = Counter(now)

    def run(self) -> None:
        """Count until the client has closed the flow, or has sent nothing for `timeout`."""
        self._say("New flow.")
        while True:
            now = time.monotonic_ns()
            if now - self._last_packet >= self._timeout:
                self._finish(now, f"Test on flow {self._fd} timed out")
                return
            if now - self._counter.start >= self._interval:
                self._report(now)
            deadline = min(self._last_packet + self._timeout, self._counter.start + self._interval)
            if not self._receive(max(1e-6, (deadline - now) / _NS)):
                self._finish(time.monotonic_ns(), f"Test on flow {self._fd} finished")
                return

    def _receive(self, wait: float) -> bool:
        """Read the packets that wait, blocking for at most `wait` seconds; False when the flow is down."""
        from ouroboros.errors import EFLOWDOWN, EFLOWPEER

        self._flow.rcv_timeout = wait
        try:
            packets = self._flow.readv(_BATCH)
        except (TimeoutError, BlockingIOError):
            return True
        except OSError as error:
            if error.errno in (EFLOWDOWN, EFLOWPEER):
                return False
            raise
        self._counter.add(len(packets), sum(map(len, packets)))
        self._last_packet = time.monotonic_ns()
        return True

    def _report(self, now: int) -> None:
        if self._json:
            print(json.dumps({"flow": self._fd, **self._counter.to_json(now)}))
        else:
            print(self._counter.received_line(self._fd, now))
        self._counter = Counter(now)

    def _finish(self, now: int, text: str) -> None:
        if self._counter.packets:
            self._report(now)
        self._say(text)

    def _say(self, text: str) -> None:
        if not self._json:
            print(text)
