"""Connection manager: connections between components of two IPCPs, each over an N-1 flow of its own (paper 2.8, Fig. 15).

The shell around the machines of `handshake`, on the loop of the IPCP. A connection that the user requested is kept: when its flow
is lost, or its neighbour stays silent, the initiator tries again, after pauses that grow, until the user disconnects.
An accepted adjacency is kept by the peer that initiated it; when the same neighbour makes the same link anew, the new
connection replaces the old one; links over several layers coexist.

No connection is made, by either side, over a flow whose peer does not satisfy the rule of the layer.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace

from ipcpd.wire.connmgr import Record
from ouroboros.access import Access
from ouroboros.backoff import Backoff
from ouroboros.errors import EAUTH
from ouroboros.flow_event import FlowEvent
from ouroboros.log import LogLimiter
from ouroboros.name_info import Requirement
from ouroboros.rpc.messages_pb2 import QosSpec
from ouroboros.rpc.service import Refusal
from ouroboros.wire import MalformedPacket

from .admission import check_incoming, check_outgoing
from .claims import Claims
from .connection import (
    Component,
    Connection,
    Counters,
    DesiredConnection,
    Responding,
    allow_all,
    cube_of,
    is_same_link,
    link_of,
    log_level,
    own_record,
    peer_text,
    stranger,
)
from .handshake import Initiator, Responder, printable
from .ipcp import Ipcp
from .lower import Lower, LowerFlows

__all__ = ["Connection", "ConnectionManager", "Counters"]

log = logging.getLogger("ipcpd/connmgr")

MOST_RESPONDING = 1024
"""Accepted flows that may wait for the first record at the same time. One more replaces the flow that has waited longest:
a neighbour that follows the protocol sends its record immediately."""

MOST_STRANGERS = 64
"""Flows of peers not admitted by the layer that may wait in the same way: the IPCP reads their record only to answer with a
refusal, and these flows must not keep members out. The IPCP releases one more without an answer."""

REFUSED = "connections that were refused"
"""The key under which the log limiter counts lines about refused connections."""

GIVE_UP = 3600.0
"""Seconds after which an accepted connection whose neighbour stays silent is released."""

NOTHING_REQUIRED = Requirement(0)

ATTEMPT_TIME = 6.0
"""Seconds that an attempt to connect again may take: a request that was lost on a path that works again must not delay it."""


def _nobody(_connection: Connection) -> None:
    """Default callback: ignores the event."""


def _nobody_at_all(_connection: Connection, _event: FlowEvent) -> None:
    """Default callback: ignores the event."""


class ConnectionManager:
    """The connections of an IPCP.

    `on_lost(connection)` is called once for each connection that a component got and that has ended; its flow has been released,
    or is about to be. `on_state(connection, event)`: on DOWN or PEER the neighbour cannot be reached at present; on UP it can
    again.
    """

    def __init__(self, ipcp: Ipcp, lowers: LowerFlows, *, backoff: Backoff | None = None) -> None:
        self.counters = Counters()
        self.on_lost: Callable[[Connection], None] = _nobody
        self.on_state: Callable[[Connection, FlowEvent], None] = _nobody_at_all
        self.connections: dict[int, Connection] = {}
        """By the descriptor of the flow."""
        self.access = Access()
        """The rule of the layer, as soon as this IPCP is a member."""
        self._ipcp = ipcp
        self._loop = ipcp.loop
        self._lowers = lowers
        self._backoff = backoff or Backoff()
        self._components: dict[str, Component] = {}
        self._wanted: dict[tuple[str, str, int], DesiredConnection] = {}
        self._responding: OrderedDict[int, Responding] = OrderedDict()
        self._abandon: dict[int, asyncio.TimerHandle] = {}
        self._closed = False
        self._claims = Claims()
        self._limiter = LogLimiter(log, self._loop.time)

    # ------------------------------------------------------------ components

    def component(
        self,
        record: Record,
        on_connection: Callable[[Connection], None],
        *,
        on_lost: Callable[[Connection], None] | None = None,
        offer: Callable[[Record, QosSpec], tuple[Record, QosSpec]] | None = None,
        admit: Callable[[Record, Lower], str] = allow_all,
        answer: Callable[[Record, Record], Record] = own_record,
    ) -> None:
        """Add a component that peers can connect to, and that can initiate connections.

        on_connection  gets each connection when it is established; its flow has no listener and no role yet, and packets
                       wait. It may raise Refusal: then the flow is released, and the initiator gets the reason
        on_lost        is called instead of the manager's `on_lost`
        offer          the record that an initiator sends, and the QoS of the flow, given the own record and the user's QoS
        admit          may refuse a record on a flow, with a reason ("": none)
        answer         the record that a responder sends, from its own record and the peer's
        """
        self._components[record.component] = Component(record, on_connection, on_lost, offer, admit, answer)

    def serve(self) -> None:
        """Accept flows, from now on."""
        self._lowers.accept(self._accepted)

    # ------------------------------------------------------------ requests of the user

    async def connect(self, dst: str, component: str, qos: QosSpec, *, timeout: float) -> Connection:
        """Connect a component to that of `dst`, and keep it connected. Raises Refusal."""
        if component not in self._components:
            raise Refusal(
                errno.ENOTSUP,
                f'IPCP "{self._ipcp.name}" has no component "{component}" to connect; '
                f"it has {', '.join(sorted(self._components)) or 'none'}",
            )
        wanted = self._want(dst, component, qos)
        try:
            return await self._fulfil(wanted, timeout)
        except BaseException:
            if self._is_wanted(wanted):
                if wanted.made:
                    self._try_again(wanted)
                else:
                    del self._wanted[dst, component, cube_of(qos)]
            raise

    def _want(self, dst: str, component: str, qos: QosSpec) -> DesiredConnection:
        key = (dst, component, cube_of(qos))
        wanted = self._wanted.get(key)
        if wanted is None:
            wanted = self._wanted[key] = DesiredConnection(dst, component, QosSpec())
        elif wanted.connection is not None and wanted.connection.lower.usable:
            raise Refusal(
                errno.EEXIST,
                f'IPCP "{self._ipcp.name}" is connected to "{dst}" already ({component}); disconnect it first',
            )
        elif wanted.connection is None and wanted.task is None:
            raise Refusal(errno.EALREADY, f'connecting to "{dst}" is under way')
        self._stop_trying(wanted)
        wanted.qos.CopyFrom(qos)
        return wanted

    def _is_wanted(self, wanted: DesiredConnection) -> bool:
        return any(one is wanted for one in self._wanted.values())

    def disconnect(self, dst: str, component: str) -> None:
        """Undo `connect`, for every QoS. Raises Refusal when there was no such request."""
        found = [key for key in self._wanted if key[:2] == (dst, component)]
        if not found:
            raise Refusal(
                errno.ENOENT,
                f'IPCP "{self._ipcp.name}" is not connected to "{dst}" ({component}) by its own doing',
            )
        for key in found:
            wanted = self._wanted.pop(key)
            self._stop_trying(wanted)
            if wanted.connection is not None:
                self.drop(wanted.connection)

    def drop(self, connection: Connection) -> None:
        """Release a connection, whichever side initiated it. The manager makes a requested connection again."""
        if connection.lost:
            return
        self._lowers.release(connection.lower)
        self._disconnected(connection)

    def withdraw(self, connection: Connection) -> None:
        """Release a connection that is not wanted after all: the manager does not make it again."""
        for key, wanted in list(self._wanted.items()):
            if wanted.connection is connection:
                self._stop_trying(wanted)
                del self._wanted[key]
        self.drop(connection)

    def trying(self) -> list[tuple[str, str, int, str]]:
        """Connections that are being made again: name, component, attempts so far, and the failure of the last attempt."""
        return [
            (wanted.dst, wanted.component, wanted.attempts, wanted.last_error)
            for wanted in self._wanted.values()
            if wanted.task is not None
        ]

    # ------------------------------------------------------------ initiating

    async def establish(
        self,
        dst: str,
        own: Record,
        qos: QosSpec,
        *,
        timeout: float,
        require: Requirement = NOTHING_REQUIRED,
    ) -> Connection:
        """A connection for the caller only: `connections` does not have it, and no callback reports its end.

        Its flow has no listener; its packets wait. The flow must satisfy the rule of the layer, and `require`.
        Raises Refusal, and then the flow is released.
        """
        lower = await self._lowers.allocate(dst, qos, timeout=timeout)
        try:
            self._check_there(lower)
            self._check_identity(lower, require | self.access.require)
            theirs = await self._introduce(lower, Initiator(own, dst, self._loop.time()))
            self._check_there(lower)
            self._check_claim(lower, theirs)
        except OSError as error:
            self._lowers.release(lower)
            raise Refusal(error.errno or errno.EIO, f'the flow to "{dst}" failed: {error}') from error
        except BaseException:
            self._lowers.release(lower)
            raise
        self.counters.initiated += 1
        return Connection(lower, own.component, theirs.address, True, dst, theirs, self._loop.time())

    def _check_there(self, lower: Lower) -> None:
        """A flow may end while this coroutine waits to be scheduled by the loop."""
        if not self._lowers.holds(lower):
            raise Refusal(errno.ECONNRESET, f'"{lower.dst}" ended the flow at once')

    def _check_identity(self, lower: Lower, require: Requirement) -> None:
        """Check the identity of the peer before the first record is sent: the peer may not be a member."""
        reason = check_outgoing(require, lower.peer_identity)
        if reason:
            self.counters.unauthenticated += 1
            raise Refusal(EAUTH, f'"{lower.dst}" is not to be trusted: {reason}')

    def _check_claim(self, lower: Lower, theirs: Record) -> None:
        reason = self._claims.objection(theirs, lower.peer_identity, self._loop.time())
        if reason:
            self.counters.unauthenticated += 1
            raise Refusal(EAUTH, f'"{lower.dst}" is not to be trusted: {reason}')

    async def _introduce(self, lower: Lower, machine: Initiator) -> Record:
        answered: asyncio.Future[Record] = self._loop.create_future()

        def receive(packet: bytes) -> None:
            if answered.done():
                return
            try:
                answered.set_result(machine.receive(packet))
            except Refusal as refusal:
                self.counters.refused += 1
                answered.set_exception(refusal)

        def event(event: FlowEvent) -> None:
            if event is FlowEvent.DEALLOC and not answered.done():
                answered.set_exception(
                    Refusal(errno.ECONNRESET, f'"{machine.dst}" ended the flow without a word')
                )

        self._lowers.listen(lower, receive, once=True)
        self._lowers.watch(lower, event)
        if not self._lowers.send(lower, machine.begin()):
            raise Refusal(errno.EAGAIN, f'there is no room in the flow to "{machine.dst}"')
        try:
            async with asyncio.timeout_at(machine.deadline):
                return await answered
        except TimeoutError:
            self.counters.silent += 1
            raise machine.expired() from None

    async def _fulfil(self, wanted: DesiredConnection, timeout: float) -> Connection:
        component = self._components[wanted.component]
        record, qos = component.record, wanted.qos
        if component.offer is not None:
            record, qos = component.offer(record, qos)
        record = replace(record, link=link_of(wanted.dst))
        made = await self.establish(wanted.dst, record, qos, timeout=timeout)
        if not self._is_wanted(wanted):
            self._lowers.release(made.lower)
            raise Refusal(errno.ECANCELED, f'"{wanted.dst}" was disconnected while it was being connected')
        before, wanted.connection = wanted.connection, None
        if before is not None:
            self.drop(before)
        self._add(made)
        if made.lost:
            raise Refusal(errno.ECONNABORTED, f'the connection to "{wanted.dst}" was given up at once')
        wanted.connection, wanted.made = made, True
        return made

    # ------------------------------------------------------------ keeping connected

    def _try_again(self, wanted: DesiredConnection) -> None:
        if wanted.task is None and not self._closed:
            wanted.attempts = 0
            wanted.task = self._loop.create_task(self._retry(wanted))

    @staticmethod
    def _stop_trying(wanted: DesiredConnection) -> None:
        task, wanted.task = wanted.task, None
        wanted.last_error = ""
        if task is not None:
            task.cancel()

    async def _retry(self, wanted: DesiredConnection) -> None:
        while True:
            await asyncio.sleep(self._backoff.after(wanted.attempts))
            wanted.attempts += 1
            try:
                await self._fulfil(wanted, ATTEMPT_TIME)
            except Refusal as refusal:
                if not self._is_wanted(wanted):
                    return
                wanted.last_error = str(refusal)
                log.info("cannot connect %s to %s again: %s", wanted.component, wanted.dst, refusal)
            else:
                log.info("%s is connected to %s again", wanted.component, wanted.dst)
                wanted.task = None
                wanted.last_error = ""
                return

    # ------------------------------------------------------------ responding

    def _accepted(self, lower: Lower) -> None:
        objection = check_incoming(self.access, lower.peer_identity)
        strangers = sum(bool(one.machine.objection) for one in self._responding.values()) if objection else 0
        if strangers >= MOST_STRANGERS:
            self.counters.crowded += 1
            self._lowers.release(lower)
            return
        if len(self._responding) >= MOST_RESPONDING:
            self.counters.crowded += 1
            oldest = next(iter(self._responding.values()))
            self._settled(oldest)
            self._lowers.release(oldest.lower)
        machine = Responder(
            self._records(),
            lambda theirs: self._admitted(lower, theirs),
            self._answer,
            self._loop.time(),
            objection,
        )
        waiting = Responding(lower, machine)
        self._responding[lower.fd] = waiting
        waiting.timer = self._loop.call_at(machine.deadline, self._expired, waiting)
        self._lowers.watch(lower, lambda event: self._deserted(waiting, event))
        self._lowers.listen(lower, lambda packet: self._respond(waiting, packet), once=True)

    def _records(self) -> dict[str, Record]:
        return {name: component.record for name, component in self._components.items()}

    def _admitted(self, lower: Lower, theirs: Record) -> str:
        reason = self._components[theirs.component].admit(theirs, lower)
        return reason or self._claims.objection(theirs, lower.peer_identity, self._loop.time())

    def _answer(self, own: Record, theirs: Record) -> Record:
        return self._components[own.component].answer(own, theirs)

    def _respond(self, waiting: Responding, packet: bytes) -> None:
        lower = waiting.lower
        self._settled(waiting)
        try:
            answer = waiting.machine.receive(packet)
        except MalformedPacket as error:
            self.counters.malformed += 1
            self._limiter.info(REFUSED, "a flow that was accepted is not for us: %s", error)
            self._lowers.release(lower)
            return
        sent = self._lowers.send(lower, answer.packet)
        if answer.component is None or not sent:
            if waiting.machine.objection:
                self.counters.unauthenticated += 1
            else:
                self.counters.refused += 1
            self._limiter.info(
                REFUSED,
                "refused a connection of %s for %s: %s",
                stranger(answer.theirs, lower),
                f'"{printable(answer.theirs.component)}"',
                answer.reason or "there is no room for the answer",
            )
            self._lowers.release(lower)
            return
        self.counters.accepted += 1
        theirs = answer.theirs
        connection = Connection(lower, answer.component, theirs.address, False, "", theirs, self._loop.time())
        try:
            self._add(connection)
        except Refusal as refusal:
            self._limiter.info(REFUSED, "refused a connection: %s", refusal)
        else:
            self._supersede(connection)

    def _supersede(self, new: Connection) -> None:
        """A neighbour that makes a link anew has lost the link's old connection, even if no event shows this yet. The old
        connection is released when the new one is used, so that the link to the neighbour stays."""
        if new.lost:
            return
        for old in list(self.connections.values()):
            if old is not new and not old.initiator and is_same_link(new, old):
                self.counters.superseded += 1
                self.drop(old)

    def _settled(self, waiting: Responding) -> None:
        if self._responding.get(waiting.lower.fd) is waiting:
            del self._responding[waiting.lower.fd]
        if waiting.timer is not None:
            waiting.timer.cancel()

    def _expired(self, waiting: Responding) -> None:
        self.counters.silent += 1
        self._settled(waiting)
        self._lowers.release(waiting.lower)

    def _deserted(self, waiting: Responding, event: FlowEvent) -> None:
        if event is FlowEvent.DEALLOC:
            self._settled(waiting)

    # ------------------------------------------------------------ connections that are there

    def _add(self, connection: Connection) -> None:
        fd = connection.lower.fd
        self.connections[fd] = connection
        self._claims.claimed(connection.record, connection.lower.peer_identity, connection.since)
        self._lowers.listen(connection.lower, None)
        self._lowers.watch(connection.lower, lambda event: self._happened(connection, event))
        log.log(
            log_level(connection),
            "%s is connected %s",
            connection.component,
            f"to {connection.peer}" if connection.initiator else f"from {peer_text(connection)}",
        )
        try:
            self._components[connection.component].on_connection(connection)
        except Exception as error:
            self.counters.refused += 1
            connection.lost = True  # no `on_lost`: the component never had it
            self.connections.pop(fd, None)
            self._lowers.release(connection.lower)
            if isinstance(error, Refusal):
                raise
            log.exception("cannot use a connection")
            raise Refusal(errno.EIO, f"cannot use the connection: {error}") from error

    def _happened(self, connection: Connection, event: FlowEvent) -> None:
        if event is FlowEvent.DEALLOC:
            self._disconnected(connection)
            return
        wanted = self._wanting(connection)
        if event is FlowEvent.UP:
            if wanted is not None:
                self._stop_trying(wanted)
            self._keep(connection)
        elif event is FlowEvent.PEER:
            if wanted is not None:  # the neighbour may have restarted, and not know this flow
                if not connection.lower.down:
                    self._try_again(wanted)
            elif not connection.initiator:
                self._keep(connection)
                fd = connection.lower.fd
                self._abandon[fd] = self._loop.call_later(GIVE_UP, self.drop, connection)
        self.on_state(connection, event)

    def _keep(self, connection: Connection) -> None:
        timer = self._abandon.pop(connection.lower.fd, None)
        if timer is not None:
            timer.cancel()

    def _wanting(self, connection: Connection) -> DesiredConnection | None:
        for wanted in self._wanted.values():
            if wanted.connection is connection:
                return wanted
        return None

    def _disconnected(self, connection: Connection) -> None:
        """The flow of a connection has been released, or is about to be."""
        if connection.lost:
            return
        connection.lost = True
        self.counters.lost += 1
        self._keep(connection)
        self._claims.claimed(connection.record, connection.lower.peer_identity, self._loop.time())
        self.connections.pop(connection.lower.fd, None)
        log.log(
            log_level(connection),
            "%s is not connected to %s any more",
            connection.component,
            connection.peer or peer_text(connection),
        )
        wanted = self._wanting(connection)
        if wanted is not None:
            wanted.connection = None
            self._try_again(wanted)
        (self._components[connection.component].on_lost or self.on_lost)(connection)

    def close(self) -> None:
        """The IPCP ends."""
        self._closed = True
        for wanted in self._wanted.values():
            self._stop_trying(wanted)
        for waiting in list(self._responding.values()):
            self._settled(waiting)
        for timer in self._abandon.values():
            timer.cancel()
        self._abandon.clear()
