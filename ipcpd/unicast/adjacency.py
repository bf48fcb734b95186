"""Adjacencies: the connections to neighbours, as routing and data transfer see them (paper 2.6, 5.3; spec/link-state 4, spec/connections 2).

Runs in the unicast IPCP, on its loop, between the connection manager and the machines. A connection of component `Management`
carries link-state messages; one of `Data Transfer` carries packets, and is a link that routing announces. One whose neighbour is
silent, or whose layer is down, is not used: packets immediately take an alternative, where the policy has one, and routes change.
When it is back, it is used again, and the neighbour gets the whole database: it may have missed many messages.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Protocol

from ipcpd.common.connmgr import Connection
from ipcpd.common.lower import Lower, LowerFlows
from ipcpd.wire import link_state as wire
from ipcpd.wire.address import to_text
from ipcpd.wire.connmgr import Record
from ipcpd.wire.dt import HEADER_LENGTH
from ouroboros.flow_event import FlowEvent
from ouroboros.guard import Guard
from ouroboros.qos import DEFAULT_PEER_TIMEOUT, QoSSpec
from ouroboros.rpc.messages_pb2 import QosSpec
from ouroboros.wire import MalformedPacket

from .address import objection
from .link_state import LinkState

log = logging.getLogger("ipcpd/unicast")

MANAGEMENT = "Management"
DATA_TRANSFER = "Data Transfer"

MEMBER_TIMEOUT_MS = 20_000
"""Keep-alive time-out between two Python members where the user kept the default, ms: a neighbour whose lower IPCP was killed
has lost the flow without a notice to the other end, and the initiator makes it anew when it detects the silence."""

RESEND = 1.0
"""Seconds after which a neighbour gets the database again when the queue to it was full and dropped a message."""

_encode = lru_cache(maxsize=1024)(wire.encode)  # many neighbours get the same octets


def offer_keep_alive(own: Record, asked: QosSpec) -> tuple[Record, QosSpec]:
    """The record of an initiator, with the keep-alive time-out that it offers, and the QoS of the flow. A prototype skips the offer, and
    keeps the time-out of the QoS."""
    default = asked.timeout == DEFAULT_PEER_TIMEOUT
    return replace(own, timeout=MEMBER_TIMEOUT_MS if default else asked.timeout), asked


def grant_keep_alive(own: Record, theirs: Record) -> Record:
    """The record of a responder, which grants the offer."""
    return replace(own, timeout=theirs.timeout)


class LowerDt(Protocol):
    """The properties of a lower flow that data transfer needs."""

    def lower(self, fd: int) -> None: ...

    def down(self, fd: int, down: bool) -> None: ...


class Adjacencies:
    """`clock()` is the time, seconds; `changed()` is called when a machine may have output; `withdraw` takes a
    connection back that cannot be used; `most()` is the largest packet of the layer."""

    def __init__(
        self,
        link_state: LinkState,
        dt: LowerDt,
        lowers: LowerFlows,
        *,
        guard: Guard,
        clock: Callable[[], float],
        changed: Callable[[], None],
        withdraw: Callable[[Connection], None],
        most: Callable[[], int],
    ) -> None:
        self.connections: dict[int, Connection] = {}
        self.unsent = 0
        """Link-state messages that were dropped because the queue of the flow was full."""
        self._link_state = link_state
        self._dt = dt
        self._lowers = lowers
        self._guard = guard
        self._clock = clock
        self._changed = changed
        self._withdraw = withdraw
        self._most = most
        self._resend: dict[int, float] = {}

    # ------------------------------------------------------------ connections

    def admit(self, theirs: Record, _lower: Lower) -> str:
        """The reason why a neighbour cannot connect; "" when it can."""
        return objection(theirs.address, self._link_state.address)

    def connected(self, connection: Connection) -> None:
        """The connection manager has a new connection of one of the two components."""
        reason = self.admit(connection.record, connection.lower)
        if reason:
            log.error("the connection to %s is not used: %s", connection.peer or "a neighbour", reason)
            self._withdraw(connection)
            return
        fd, now = connection.lower.fd, self._clock()
        self.connections[fd] = connection
        if connection.record.timeout:
            self._lowers.keep_alive(connection.lower, connection.record.timeout)
        if connection.component == MANAGEMENT:
            self._lowers.listen(connection.lower, lambda packet: self._receive(fd, packet))
            self._link_state.mgmt_added(connection.peer_address, fd, now)
        else:
            self._check_size(connection)
            self._dt.lower(fd)
            self._link_state.dt_added(
                connection.peer_address, fd, QoSSpec.from_proto(connection.lower.qos), now
            )
            if not connection.lower.usable:
                self.happened(connection, FlowEvent.DOWN)
        self._changed()

    def _check_size(self, connection: Connection) -> None:
        most, fits = self._most(), connection.lower.max_packet - HEADER_LENGTH
        if 0 < fits < most:
            log.warning(
                "the flow to %s takes packets of %d octets; the layer has packets of up to %d, which are dropped there: "
                "give the layer a smaller max_packet at bootstrap",
                connection.peer or f"address {to_text(connection.peer_address)}",
                fits,
                most,
            )

    def lost(self, connection: Connection) -> None:
        """A connection has ended."""
        fd = connection.lower.fd
        if self.connections.get(fd) is not connection:
            return
        del self.connections[fd]
        self._resend.pop(fd, None)
        if connection.component == MANAGEMENT:
            self._link_state.mgmt_removed(fd)
        else:
            self._link_state.dt_removed(fd, self._clock())
        self._changed()

    def happened(self, connection: Connection, event: FlowEvent) -> None:
        """The neighbour cannot be reached over a connection (DOWN, PEER), or can again (UP)."""
        fd, now = connection.lower.fd, self._clock()
        if self.connections.get(fd) is not connection:
            return
        up = event is FlowEvent.UP
        if connection.component == MANAGEMENT:
            if up:
                self._link_state.mgmt_added(connection.peer_address, fd, now)
        elif up:
            self._dt.down(fd, False)
            self._link_state.dt_up(fd, now)
        else:
            self._dt.down(fd, True)
            self._link_state.dt_down(fd, now)
        self._changed()

    # ------------------------------------------------------------ link-state messages

    def _receive(self, fd: int, packet: bytes) -> None:
        try:
            message = wire.decode(packet)
        except MalformedPacket:
            self._link_state.malformed()
        else:
            self._link_state.receive(fd, message, self._clock())
        self._changed()

    def run_due(self, now: float) -> bool:
        """Send the packets of the link-state machine; returns whether there were any."""
        packets = self._link_state.take_packets()
        for fd, message in packets:
            with self._guard("a link-state message to a neighbour"):
                connection = self.connections.get(fd)
                if connection is not None and not self._lowers.send(connection.lower, _encode(message)):
                    self.unsent += 1
                    self._resend.setdefault(fd, now + RESEND)
        return bool(packets)

    @property
    def deadline(self) -> float | None:
        """When `timer` has to be called next."""
        return min(self._resend.values(), default=None)

    def timer(self, now: float) -> None:
        """Make the calls that are due."""
        for fd in [fd for fd, due in self._resend.items() if due <= now]:
            del self._resend[fd]
            connection = self.connections.get(fd)
            if connection is not None and connection.lower.usable:
                self._link_state.mgmt_added(connection.peer_address, fd, now)
