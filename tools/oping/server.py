"""oping's server: answers every request on every flow.

Two threads: the main thread waits on a set with all flows and answers; the other one accepts flows and,
while it waits, ends those on which nothing arrived for ten seconds. So no thread wakes up while there is no flow, and
no idle client keeps another from being accepted. `--poll` and `--busy` serve one flow at a time without
an event set, for the smallest delay.
"""

import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from ouroboros.wire import MalformedPacket

from ..program import interrupt_main, print_lines_immediately, reason, warn_of_peer
from ..server import accept, dismiss, is_fatal
from .options import Options
from .packet import reply_to
from .statistics import invalid_message

if TYPE_CHECKING:
    from ouroboros.dev import Flow

IDLE_S = 10.0
LINGER_S = 1.0  # how long a stopping server waits for acknowledgements of its last answers
_BATCH = 64
_LINK_PAUSE_S = 0.1


def serve(options: Options) -> int:
    """Serve until a signal or the end of the IRMd."""
    print_lines_immediately()
    print("Ouroboros ping server started.")
    try:
        if options.poll or options.busy:
            _serve_one_by_one(options)
        else:
            EventServer(quiet=options.quiet).run()
    except KeyboardInterrupt:
        pass
    return 0


class EventServer:
    """All flows in one event set."""

    def __init__(self, *, quiet: bool) -> None:
        from ouroboros.event import FlowSet

        self._quiet = quiet
        self._set = FlowSet()
        self._lock = (
            threading.Lock()
        )  # around _active: the thread that accepts adds and ends, the other answers
        self._active: dict[
            Flow, float
        ] = {}  # when the flow last had a packet, seconds of the monotonic clock
        self._failure: OSError | None = None

    def run(self) -> None:
        """Answer packets until the program is interrupted; raises OSError when the IRMd has exited."""
        from ouroboros.event import FEventQueue, FEventType

        queue = FEventQueue()
        try:
            threading.Thread(target=self._accept_flows, name="accept", daemon=True).start()
            while True:
                self._set.wait(queue)
                for flow, event in queue:
                    if event == FEventType.FlowPkt:
                        self._answer(flow)
                    elif event != FEventType.FlowUp:
                        self._went_down(flow)
        except KeyboardInterrupt:
            if self._failure is not None:
                raise self._failure from None
            raise

    def _went_down(self, flow: "Flow") -> None:
        """The client has closed the flow or does not answer: end it, unless the cause is the link, which may come back."""
        if not flow.link_down:
            self._end(flow)

    def _answer(self, flow: "Flow") -> None:
        with self._lock:
            if flow not in self._active:
                return
            self._active[flow] = time.monotonic()
        try:
            answer(flow, quiet=self._quiet)
        except OSError:
            self._went_down(flow)

    def _end(self, flow: "Flow") -> bool:
        """Remove the flow from the set; False when it was removed already."""
        with self._lock:
            if self._active.pop(flow, None) is None:
                return False
        with suppress(OSError):
            self._set.remove(flow)
        dismiss(flow)
        return True

    def _accept_flows(self) -> None:
        try:
            while True:
                flow = accept(self._until_next_idle())
                if flow is None:
                    self._end_idle_flows()
                    continue
                print(f"New flow {flow.fd}.")
                self._add(flow)
        except OSError as error:
            self._failure = error
            interrupt_main()

    def _add(self, flow: "Flow") -> None:
        prepare(flow)
        with self._lock:
            self._active[flow] = time.monotonic()
        try:
            self._set.add(flow)
        except OSError as error:
            warn_of_peer(f"Flow {flow.fd} ended: {reason(error)}")
            self._end(flow)

    def _until_next_idle(self) -> float | None:
        with self._lock:
            if not self._active:
                return None
            return max(0.001, min(self._active.values()) + IDLE_S - time.monotonic())

    def _end_idle_flows(self) -> None:
        now = time.monotonic()
        with self._lock:
            silent = [flow for flow, last in self._active.items() if now - last >= IDLE_S]
            # While a link is down no request can arrive.
            idle = [flow for flow in silent if not flow.link_down]
            self._active.update(dict.fromkeys(set(silent) - set(idle), now))
        for flow in idle:
            fd = flow.fd
            if self._end(flow):
                print(f"Flow {fd} timed out.")


def prepare(flow: "Flow") -> None:
    """Neither reads nor writes of a served flow may block: a client that does not read loses its replies."""
    from ouroboros.dev import FlowProperties

    flow.flags = FlowProperties.ReadWrite | FlowProperties.NoPartialRead | FlowProperties.NonBlocking
    flow.linger_timeout = LINGER_S


def answer(flow: "Flow", *, quiet: bool) -> int:
    """Answer the packets that wait on `flow`; how many there were. Raises OSError when the flow is down."""
    try:
        requests = flow.readv(_BATCH)
    except (BlockingIOError, TimeoutError):
        return 0
    replies = []
    for request in requests:
        try:
            replies.append(reply_to(request))
        except MalformedPacket:
            invalid_message(flow.fd)
            continue
        if not quiet:
            print(f"Received {len(request)} bytes on fd {flow.fd}.")
    if replies:
        with suppress(BlockingIOError):
            flow.writev(replies)
    return len(requests)


def _serve_one_by_one(options: Options) -> None:
    while True:
        flow = accept(None)
        if flow is None:
            continue
        print(f"New flow {flow.fd}.")
        try:
            _serve_flow(flow, options)
        except OSError as error:
            if is_fatal(error):
                raise
            if not options.quiet:
                warn_of_peer(f"Flow {flow.fd} ended: {reason(error)}")
        finally:
            dismiss(flow)


def _serve_flow(flow: "Flow", options: Options) -> None:
    from ouroboros.dev import FlowProperties
    from ouroboros.errors import FlowDownException

    flags = FlowProperties.ReadWrite | FlowProperties.NoPartialRead | FlowProperties.NonBlockingWrite
    if options.busy:
        flags |= FlowProperties.NonBlockingRead
    flow.flags = flags
    flow.rcv_timeout = IDLE_S
    last = time.monotonic()
    while True:
        try:
            answered = answer(flow, quiet=options.quiet)
        except FlowDownException:
            if not flow.link_down:
                raise
            answered = 0
            time.sleep(_LINK_PAUSE_S)
        if answered:
            last = time.monotonic()
        elif time.monotonic() - last >= IDLE_S:
            print(f"Flow {flow.fd} timed out.")
            return
