"""N-1 flows: the use that a unicast or broadcast IPCP makes of the layers below it (paper 2.8; spec/protection 5).

A shell on the loop of the IPCP: it asks the IRMd over the IPCP's own channel, attaches flows to the relay, gives packets for
the control plane to their listeners, and keeps the flows alive. A step that fails gives back its resources: a flow that is
granted after its requester has given up is deallocated.

The IRMd reuses descriptors immediately, but packets of the old flow may still be queued between the packet thread and the loop:
so a flow is deallocated only when the last of them has passed.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from ipcpd.dataplane import Punt, Relay
from ipcpd.dataplane.relay import PortStats, flow_events
from ouroboros.flow_event import FlowEvent
from ouroboros.guard import Guard
from ouroboros.rpc.codec import close_fds
from ouroboros.rpc.messages_pb2 import Envelope, QosSpec
from ouroboros.rpc.service import Refusal

from .admission import PeerIdentity
from .end import End
from .ipcp import Ipcp
from .keepalive import Act, KeepAlive, Traffic

log = logging.getLogger("ipcpd/lower")

RAW_COMPONENT = 2
"""Packets of connections that the control plane reads, at the Punt."""
EVENT_COMPONENT = 3
RAW_QUOTA = 1 << 18
EVENT_QUOTA = 1 << 16

ACCEPT_PAUSE = 0.1
ACCEPT_PAUSE_MOST = 10.0
"""Seconds to wait after an accept that failed, doubled each time, up to the second."""

LEAST_TIMEOUT_MS = 100
"""Shortest keep-alive time-out. The neighbour chooses it: a shorter one would make this IPCP send packets without pause."""

Handler = Callable[[bytes], None]


@dataclass(slots=True, eq=False)
class Lower:
    """An N-1 flow of this IPCP. `dst` is the name it was allocated to, "" when it was accepted; `max_packet` is in octets."""

    fd: int
    dst: str
    qos: QosSpec
    mpl_ms: int
    max_packet: int
    down: bool = False
    """The layer below has reported the flow as down."""
    silent: bool = False
    """No packet has arrived for longer than its time-out."""
    peer_identity: PeerIdentity = PeerIdentity()
    """The verified identity of the peer."""
    instance: int = 0
    """Of the descriptor: messages to the IRMd name the flow by both."""
    path: bytes = b""
    """Of an accepted flow: equal for two flows that come over the same layer from the same address in it; b"": not known."""
    layer: str = ""
    """The layer that carries it."""

    @property
    def usable(self) -> bool:
        """Whether packets may get through."""
        return not (self.down or self.silent)


@dataclass(slots=True)
class Counters:
    """Dropped packets and events."""

    strays: int = 0
    """Packets of flows without a listener."""
    failures: int = 0
    """Packets and events whose handler raised an exception: defects of this program."""
    late: int = 0
    """Uses of a flow that had been released."""


@dataclass(slots=True)
class _Closing:
    """A flow that is given back when `after` packets and events have been handled."""

    end: End
    after: int


def _nothing(_fd: int, _event: FlowEvent) -> None:
    """Default callback: ignores the event."""


@dataclass(slots=True)
class _Accepting:
    on_flow: Callable[[Lower], None]
    pause: float = ACCEPT_PAUSE
    timer: asyncio.TimerHandle | None = field(default=None)


class LowerFlows:
    """All N-1 flows of an IPCP. A flow is named by its record: the descriptor in it may have passed to another.

    `on_event(fd, event)` gets DOWN, PEER (silent for longer than the time-out), UP (usable again), and DEALLOC: the other end, or
    the IPCP that provides the flow, has ended for good; the flow is released when it returns. A flow may have a `watch` of its
    own, which is called after `on_event`.
    """

    def __init__(self, ipcp: Ipcp, relay: Relay, punt: Punt) -> None:
        self.flows: dict[int, Lower] = {}
        self.counters = Counters()
        self.on_event: Callable[[int, FlowEvent], None] = _nothing
        self._ipcp = ipcp
        self._loop = ipcp.loop
        self._relay = relay
        self._punt = punt
        self._handlers: dict[int, Handler] = {}
        self._watches: dict[int, Callable[[FlowEvent], None]] = {}
        self._closing: deque[_Closing] = deque()
        self._handed = 0
        """Packets and events that have been handled."""
        self._keepalive = KeepAlive(self._traffic)
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = 0.0
        self._accepting: _Accepting | None = None
        self._closed = False
        self._guard = Guard(ipcp.loop.time)
        punt.component(RAW_COMPONENT, RAW_QUOTA, self._packet)
        punt.component(EVENT_COMPONENT, EVENT_QUOTA, self._event)
        relay.events(punt, EVENT_COMPONENT)

    # ------------------------------------------------------------ flows come

    async def allocate(self, dst: str, qos: QosSpec, *, timeout: float) -> Lower:
        """A flow to `dst` over any layer that knows the name. Raises Refusal; cancelling the coroutine gives the request up."""
        envelope = Envelope()
        body = envelope.flow_alloc
        body.dst = dst
        body.qos.CopyFrom(qos)
        body.timeout_ns = max(1, round(timeout * 1e9))
        granted: asyncio.Future[Lower] = self._loop.create_future()

        def answered(reply: Envelope | None, fds: list[int]) -> None:
            if self._closed:  # the IRMd closes what is open
                close_fds(fds)
                granted.cancel()
                return
            try:
                lower = self._attach(reply, fds, dst)
            except (Refusal, OSError, ValueError) as error:
                if not granted.done():
                    granted.set_exception(error)
                return
            if granted.done():  # cancelled
                self.release(lower)
            else:
                granted.set_result(lower)

        number = self._ipcp.session.request(envelope, answered, timeout=None)
        try:
            return await granted
        except asyncio.CancelledError:
            if granted.done() and not granted.cancelled() and granted.exception() is None:
                self.release(granted.result())
            else:
                self._ipcp.session.send(_cancel(number))
            raise
        except (OSError, ValueError) as error:
            number = getattr(error, "errno", None) or errno.EIO
            raise Refusal(number, f'cannot use the flow to "{dst}": {error}') from error

    def accept(self, on_flow: Callable[[Lower], None]) -> None:
        """Accept every flow for a name that this IPCP is bound to: one accept is outstanding at all times."""
        started = self._accepting is not None
        self._accepting = _Accepting(on_flow)
        if not started:
            self._accept()

    def _accept(self) -> None:
        if self._closed or self._accepting is None:
            return
        self._accepting.timer = None
        envelope = Envelope()
        envelope.flow_accept.SetInParent()
        self._ipcp.session.request(envelope, self._accepted, timeout=None)

    def _accepted(self, reply: Envelope | None, fds: list[int]) -> None:
        accepting = self._accepting
        if self._closed or accepting is None or reply is None:
            close_fds(fds)
            return  # the IRMd has ended, and this process ends with it
        try:
            lower = self._attach(reply, fds, "")
        except (Refusal, OSError, ValueError) as error:
            log.warning("cannot accept a flow (next try in %g s): %s", accepting.pause, error)
            accepting.timer = self._loop.call_later(accepting.pause, self._accept)
            accepting.pause = min(2 * accepting.pause, ACCEPT_PAUSE_MOST)
            return
        accepting.pause = ACCEPT_PAUSE
        self._accept()  # before anything else: a requester may be waiting
        accepting.on_flow(lower)

    def _attach(self, reply: Envelope | None, fds: list[int], dst: str) -> Lower:
        """The flow in the IRMd's answer. Raises Refusal, OSError or ValueError; then the flow has been given back."""
        try:
            if reply is None:
                raise Refusal(errno.ECONNRESET, "the IRMd has gone")
            if reply.error:
                raise Refusal(reply.error, reply.text)
            endpoint = reply.flow_endpoint
            try:
                self._relay.add(endpoint, fds)
            except (OSError, ValueError):
                self._dealloc(End.of(endpoint))
                raise
        finally:
            close_fds(fds)
        qos = QosSpec()
        qos.CopyFrom(endpoint.qos)
        peer_identity = PeerIdentity(
            bool(endpoint.peer_certificate), endpoint.peer_name, bool(endpoint.cipher)
        )
        lower = Lower(
            endpoint.fd,
            dst,
            qos,
            endpoint.mpl_ms,
            endpoint.max_packet,
            peer_identity=peer_identity,
            instance=endpoint.instance,
            path=endpoint.path,
            layer=endpoint.layer,
        )
        self.flows[lower.fd] = lower
        self.keep_alive(lower, qos.timeout)
        return lower

    def holds(self, lower: Lower) -> bool:
        """Whether a flow has not been released."""
        return self.flows.get(lower.fd) is lower

    def _expect(self, lower: Lower) -> bool:
        held = self.holds(lower)
        self.counters.late += not held
        return held

    # ------------------------------------------------------------ packets

    def listen(self, lower: Lower, handler: Handler | None, *, once: bool = False) -> None:
        """Give the packets of a flow to `handler`; the empty ones are keep-alives, and are not given to it.

        once  only the next one: those behind it wait until the flow is listened to again, or gets another role
        None  the flow has no listener any more
        """
        if not self._expect(lower):
            return
        if handler is None:
            self._handlers.pop(lower.fd, None)
            return
        self._handlers[lower.fd] = handler
        self._relay.punt(lower.fd, self._punt, RAW_COMPONENT, once=once)

    def send(self, lower: Lower, packet: bytes) -> bool:
        """Send a packet; False: the queue was full, or the flow has been released."""
        return self._expect(lower) and self._relay.send(lower.fd, packet)

    def _packet(self, fd: int, packet: bytes) -> None:
        self._handed += 1
        handler = self._handlers.get(fd)
        if handler is None:
            self.counters.strays += 1
        elif packet:
            with self._guard(f"a packet of {len(packet)} octets from flow {fd}"):
                handler(packet)
            self.counters.failures = self._guard.defects
        self._settle()

    # ------------------------------------------------------------ events and keep-alives

    def watch(self, lower: Lower, on_event: Callable[[FlowEvent], None]) -> None:
        """Have `on_event` called for the events of one flow."""
        if self._expect(lower):
            self._watches[lower.fd] = on_event

    def keep_alive(self, lower: Lower, timeout_ms: int) -> None:
        """Set the keep-alive time-out of a flow; 0: none. The initial value is that of the flow's QoS."""
        if self._expect(lower):
            if timeout_ms:
                timeout_ms = max(timeout_ms, LEAST_TIMEOUT_MS)
            self._keepalive.watch(lower.fd, timeout_ms / 1000, self._loop.time())
            self._reschedule()

    def _event(self, fd: int, packet: bytes) -> None:
        self._handed += 1
        lower = self.flows.get(fd)
        if lower is not None:
            with self._guard(f"an event of flow {fd}"):
                self._happened(lower, flow_events(packet))
            self.counters.failures = self._guard.defects
        self._settle()

    def _happened(self, lower: Lower, events: int) -> None:
        """Handle events of the IRMd: DOWN or UP, the present state; PEER when the layer below detected the silence."""
        if events & FlowEvent.DEALLOC:
            lower.down = True
            self._raise_event(lower, FlowEvent.DEALLOC)
            if self.holds(lower):
                self.release(lower)
        elif events & FlowEvent.UP:
            self._become(lower, FlowEvent.UP, down=False, silent=lower.silent)
        elif events & (FlowEvent.DOWN | FlowEvent.PEER):
            event = FlowEvent.PEER if events & FlowEvent.PEER else FlowEvent.DOWN
            self._become(lower, event, down=True, silent=lower.silent)

    def _become(self, lower: Lower, event: FlowEvent, *, down: bool, silent: bool) -> None:
        """Report a change of the flow's state to its users."""
        usable, changed = lower.usable, (down, silent) != (lower.down, lower.silent)
        lower.down, lower.silent = down, silent
        if not changed:
            return
        if event is FlowEvent.UP and not lower.usable:
            if down:
                return
            event = FlowEvent.PEER  # the link is back, the neighbour is not
        if event is not FlowEvent.UP or not usable:
            self._raise_event(lower, event)

    def _raise_event(self, lower: Lower, event: FlowEvent) -> None:
        self.on_event(lower.fd, event)
        watch = self._watches.get(lower.fd)
        if watch is not None and self.holds(lower):
            watch(event)

    def stats(self, fd: int) -> PortStats:
        """Counters of a flow. Raises OSError."""
        return self._relay.stats(fd)

    def _traffic(self, fd: int) -> Traffic:
        stats = self.stats(fd)
        return Traffic(stats.packets, stats.received_at, stats.sent_at)

    def _keep(self) -> None:
        self._timer = None
        # A timer may fire a tick before its deadline; the machine acts only after the deadline.
        for fd, act in self._keepalive.timer(max(self._loop.time(), self._timer_due)):
            lower = self.flows.get(fd)
            if lower is not None:
                with self._guard(f"the keep-alive of flow {fd}"):
                    self._act(lower, act)
        self.counters.failures = self._guard.defects
        self._reschedule()

    def _act(self, lower: Lower, act: Act) -> None:
        if act is Act.SEND:
            self._relay.send(lower.fd, b"")
        elif act is Act.SILENT:
            self._become(lower, FlowEvent.PEER, down=lower.down, silent=True)
        else:
            self._become(lower, FlowEvent.UP, down=lower.down, silent=False)

    def _reschedule(self) -> None:
        due = self._keepalive.deadline
        if self._timer is not None:
            if due == self._timer_due:
                return
            self._timer.cancel()
            self._timer = None
        if due is not None and not self._closed:
            self._timer_due = due
            self._timer = self._loop.call_at(due, self._keep)

    # ------------------------------------------------------------ flows go

    def release(self, lower: Lower) -> None:
        """Deallocate a flow; one that has been released already is counted as late."""
        if self._closed or not self._expect(lower):
            return
        fd = lower.fd
        del self.flows[fd]
        self._handlers.pop(fd, None)
        self._watches.pop(fd, None)
        self._keepalive.forget(fd)
        self._reschedule()
        try:
            self._relay.remove(fd)
        except OSError as error:
            log.error("cannot leave flow %d: %s", fd, error)
        passed = self._punt.counters(RAW_COMPONENT).passed + self._punt.counters(EVENT_COMPONENT).passed
        self._closing.append(_Closing(End(fd, lower.instance), passed))
        self._settle()

    def _settle(self) -> None:
        while self._closing and self._closing[0].after <= self._handed:
            self._dealloc(self._closing.popleft().end)

    def _dealloc(self, end: End) -> None:
        envelope = Envelope()
        envelope.flow_dealloc.fd, envelope.flow_dealloc.instance = end
        self._ipcp.session.send(envelope)

    def close(self) -> None:
        """The IPCP ends: no more timers and accepts. The IRMd closes what is open."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self._accepting is not None and self._accepting.timer is not None:
            self._accepting.timer.cancel()


def _cancel(number: int) -> Envelope:
    envelope = Envelope()
    envelope.cancel.id = number
    return envelope
