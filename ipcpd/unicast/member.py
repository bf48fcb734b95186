"""A member of a unicast layer: its components, wired together (paper Fig. 15, 5.3; docs/design/overview.md).

Runs in the unicast IPCP, on its loop. The machines have no I/O; here each input goes to its machine, outputs are carried out
in the order that matters (forwarding tables, then ends of flows, then packets); one timer runs each machine that is due. Input
is handled immediately, its consequences in the next turn of the loop: a burst of messages is answered as one.

    management flows ──► adjacency ──► LinkState ──tables──► Dt (C)
    Dt, endpoint id 0 ─────────────► FlowAllocator ──ends of flows──► Dt, IRMd
    Dt, endpoint id 1 ──► directory ──► Dht
"""

from __future__ import annotations

import asyncio
import errno
import logging
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Protocol

from ipcpd.common.connmgr import Connection, ConnectionManager
from ipcpd.common.end import End
from ipcpd.common.ends import Ends
from ipcpd.common.ipcp import Ipcp
from ipcpd.common.lower import LowerFlows
from ipcpd.dataplane import Dt, Punt
from ipcpd.dataplane.dt import CONGESTION
from ipcpd.wire import fa as fa_wire
from ipcpd.wire.address import DIRECTORY, FLOW_ALLOCATOR
from ipcpd.wire.connmgr import data_transfer, management
from ouroboros.errors import ENAME
from ouroboros.guard import Guard
from ouroboros.rpc.messages_pb2 import FlowEndpoint
from ouroboros.wire import MalformedPacket

from .adjacency import Adjacencies, grant_keep_alive, offer_keep_alive
from .configuration import LayerConfig, most_over
from .dht import Dht
from .directory import Directory
from .fa import FlowAllocator
from .fa_events import (
    Announce,
    Congestion,
    Connected,
    Failed,
    Granted,
    Joined,
    Lost,
    Opened,
    Output,
    Resolve,
    ends_of,
)
from .link_state import AddressContested, LinkState
from .link_state import Event as RoutingEvent
from .pursuit import Pursuit
from .routing.shortest_path import distances
from .vacancy import Answered, Vacancy

log = logging.getLogger("ipcpd/unicast")

MPL_MS = 100
"""Maximum packet lifetime of the layer, ms."""

QUOTAS = {FLOW_ALLOCATOR: 1 << 20, DIRECTORY: 1 << 18, CONGESTION: 1 << 16}
"""Octets of packets for each component that may wait for Python."""

FIXED = 61
"""Octets of a flow allocator's message before hash and data."""

AFTER_DEFECT = 1.0
"""Seconds of pause after a defect: it may occur again in the next turn."""

_ROUNDS = 64  # of machines that have work because another ran; then the loop has its turn


class FlowEnds(Protocol):
    """The part of the relay that a member uses: the ends of the flows that it provides."""

    def add(self, endpoint: FlowEndpoint, fds: list[int]) -> None: ...

    def pair(self, a: int, b: int) -> None: ...

    def remove(self, fd: int) -> None: ...


class Member:
    """address  this member's, in the layer; `now` is the time of the loop, seconds"""

    def __init__(
        self,
        ipcp: Ipcp,
        config: LayerConfig,
        address: int,
        *,
        relay: FlowEnds,
        punt: Punt,
        dt: Dt,
        lowers: LowerFlows,
        connections: ConnectionManager,
        node: bytes = b"",
    ) -> None:
        now = ipcp.loop.time()
        self.ipcp = ipcp
        self.config = config
        self.address = address
        self.dt = dt
        self.connections = connections
        self.since = time.time()
        self.congestion_malformed = 0
        self.guard = Guard(ipcp.loop.time)
        self._relay = relay
        self.ends = Ends(relay, ipcp.late)
        self._upper: dict[int, tuple[End, int]] = {}
        """By descriptor the flow of the layer that has it, and the number of marks handed over before it did."""
        self._marked = punt.counters(CONGESTION).passed
        """Marks of congestion that the packet thread has handed over."""
        self.lowers = lowers
        self.punt = punt
        self._loop = ipcp.loop
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = 0.0
        self._scheduled: asyncio.Handle | None = None
        self._closed = False
        self._most = config.unicast.max_packet
        self._distances: tuple[int, Mapping[int, int]] = (-1, {})
        self.link_state = LinkState(address=address, config=config.link_state, now=now)
        self.fa = FlowAllocator(address=address, layer=config.layer)
        dht = Dht(
            address=address,
            key_length=config.key_length,
            config=config.dht,
            peer=config.peer,
            node=node,
            now=now,
            epoch=time.time() - now,
        )
        self.directory = Directory(
            dht,
            key_length=config.key_length,
            resolved=lambda key, members: self.fa.resolved(key, members, self.now),
            distances=self.distances,
            guard=self.guard,
        )
        self._vacancy = Vacancy(self._probe)
        self.contested: Callable[[bool], None] = lambda _leave: None
        """Is called when another member has this member's address; True: this member has to draw another."""
        self.adjacencies = Adjacencies(
            self.link_state,
            dt,
            lowers,
            guard=self.guard,
            clock=ipcp.loop.time,
            changed=self.schedule,
            withdraw=connections.withdraw,
            most=lambda: self.max_packet,
        )
        self._pursuit = Pursuit()
        self._machines = (self.link_state, self.adjacencies, self.fa, self._pursuit, self.directory.dht)
        self._register()
        self.schedule()

    def _register(self) -> None:
        punt = self.punt
        punt.component(FLOW_ALLOCATOR, QUOTAS[FLOW_ALLOCATOR], self._fa_packet)
        punt.component(DIRECTORY, QUOTAS[DIRECTORY], self._directory_packet)
        punt.component(CONGESTION, QUOTAS[CONGESTION], self._congested)
        connections, adjacencies = self.connections, self.adjacencies
        for record in (management(self.address), data_transfer(self.address)):
            connections.component(
                record,
                adjacencies.connected,
                offer=offer_keep_alive,
                admit=adjacencies.admit,
                answer=grant_keep_alive,
            )
        connections.on_lost = adjacencies.lost
        connections.on_state = adjacencies.happened

    @property
    def now(self) -> float:
        """The time of the loop, seconds."""
        return self._loop.time()

    @property
    def max_packet(self) -> int:
        """The largest packet of the layer, octets: as configured, else as its first lower flow can carry; 0: not known yet."""
        if not self._most:
            for lower in self.lowers.flows.values():
                self._most = most_over(lower.max_packet)
                break
        return self._most

    @property
    def max_data(self) -> int:
        """Octets of data that a request for a flow, or its reply, can carry."""
        return fa_wire.MAX_MESSAGE - FIXED - self.config.key_length

    def vacant(self, address: int) -> bool:
        """Whether an address that seems to be taken is known to be no living member's."""
        return address != self.address and self._vacancy.vacant(address, self.now)

    def _probe(self, address: int, answered: Answered) -> None:
        self.directory.dht.probe(address, answered, self.now)
        self.schedule()

    def distances(self) -> Mapping[int, int]:
        """The distance of each member that can be reached, best effort."""
        computed, found = self._distances
        if computed != self.link_state.counters.computations:
            view = self.link_state.lsdb.graph.views()[0]
            here = view.index.get(self.address)
            found = {} if here is None else dict(zip(view.addresses, distances(view, here), strict=True))
            self._distances = (self.link_state.counters.computations, found)
        return found

    # ------------------------------------------------------------ packets for the components

    def _fa_packet(self, _fd: int, payload: bytes) -> None:
        try:
            message = fa_wire.decode(payload, hash_length=self.config.key_length)
        except MalformedPacket:
            self.fa.malformed()
        else:
            self.fa.receive(message, self.now)
            self.schedule()

    def _directory_packet(self, _fd: int, payload: bytes) -> None:
        self.directory.receive(payload, self.now)
        self.schedule()

    def _congested(self, fd: int, packet: bytes) -> None:
        self._marked += 1
        if len(packet) != 2:
            self.congestion_malformed += 1
            return
        end, before = self._upper.get(fd, (None, 0))
        if end is None or self._marked <= before or end not in self.ends:
            self.ipcp.late["congested"] += 1  # the packet thread meant an earlier flow at this descriptor
            return
        self.fa.congested(end, int.from_bytes(packet, "little"), self.now)
        self.schedule()

    # ------------------------------------------------------------ the turn of the machines

    def schedule(self) -> None:
        """A machine may have work: run it in the next turn of the loop."""
        if self._scheduled is None and not self._closed:
            self._scheduled = self._loop.call_soon(self.run_due)

    def run_due(self) -> None:
        """Carry out the machines' output, until there is none."""
        if self._scheduled is not None:
            self._scheduled.cancel()
            self._scheduled = None
        if not self._closed:
            self._work(self._rounds)

    def _work(self, work: Callable[[], None]) -> None:
        """Do some work, and schedule the next. A defect in one machine must not stop the others for good."""
        defects = self.guard.defects
        with self.guard("what the machines want"):
            work()
        self._arm(self.now + AFTER_DEFECT if self.guard.defects > defects else 0.0)

    def _rounds(self) -> None:
        for _ in range(_ROUNDS):
            if not self._round(self.now):
                return
        self.schedule()

    def _round(self, now: float) -> bool:
        if self.link_state.deadline <= now:
            with self.guard("time that has passed in routing"):
                self.link_state.timer(now)
        busy = False
        for change in self.link_state.take_events():
            with self.guard("an event of routing"):
                self._routing(change, now)
            busy = True
        busy |= self.adjacencies.run_due(now)
        for event in self.fa.take_events():
            with self.guard("an event of the flow allocator"):
                self._carry_out(event, now)
            busy = True
        for end in self._pursuit.take_unanswered():
            with self.guard("a request without an answer"):
                self._seek_others(end, now)
            busy = True
        for packet in self.fa.take_packets():
            with self.guard("a message of the flow allocator"):
                if not self._send(packet.address, FLOW_ALLOCATOR, fa_wire.encode(packet.message)):
                    self.fa.unsent(packet, now)
            busy = True
        return self.directory.run_due(self._send, now) or busy

    def _routing(self, event: RoutingEvent, now: float) -> None:
        if isinstance(event, AddressContested):
            self.contested(event.leave)
            return
        for cube, table in enumerate(event.tables):
            self.dt.table(cube, table.function, table.entries)
        self.directory.reachable(event.tables[0].entries, now)

    def _send(self, address: int, eid: int, payload: bytes) -> bool:
        return self.dt.send(address, eid=eid, payload=payload)

    def _arm(self, earliest: float = 0.0) -> None:
        deadlines = (machine.deadline for machine in self._machines)
        due = max(earliest, min(deadline for deadline in deadlines if deadline is not None))
        if self._timer is not None:
            if self._timer_due == due:
                return
            self._timer.cancel()
        self._timer_due = due
        self._timer = self._loop.call_at(due, self._wake)

    def _wake(self) -> None:
        self._timer = None
        self._work(self._due)

    def _due(self) -> None:
        # A timer may fire a tick before its time; the machines need a time past their deadline.
        now = max(self.now, self._timer_due)
        self.directory.dht.epoch = time.time() - self.now  # the wall clock may have been set
        for machine in self._machines:
            with self.guard("time that has passed"):
                machine.timer(now)
        self._rounds()

    # ------------------------------------------------------------ flows

    def _carry_out(self, event: Output, now: float) -> None:
        """Carry out an event of the flow allocator."""
        try:
            self._carry(event, now)
        except OSError as failure:  # only an end of a flow can fail, and then the flow has failed
            for end in ends_of(event):
                log.error("flow %d cannot be used: %s", end.fd, failure)
                self.fa.deallocate(end, now)
                self.ends.remove(end)
                self.ipcp.deallocated(end)

    def _carry(self, event: Output, now: float) -> None:
        if isinstance(event, Failed):
            self.directory.forget(event.key)
        if not all([self.ends.expect(end, type(event).__name__) for end in ends_of(event)]):
            return  # the IRMd has the descriptor back, and may have used it again
        match event:
            case Resolve(key):
                self.directory.resolve(key, now)
            case Opened(end, eid, cube):
                self.dt.upper(end.fd, eid=eid, cube=cube)
                asked = self.fa.awaiting_reply(end)
                if asked is not None:
                    self._pursuit.begin(end, asked[1], now)
            case Connected(end, peer_eid, address):
                self.dt.peer(end.fd, peer_eid=peer_eid, peer_address=address)
            case Joined(one, other):
                self._relay.pair(one.fd, other.fd)
            case Granted(end, data):
                self._pursuit.end(end)
                self.ipcp.allocated(end, 0, mpl_ms=MPL_MS, max_packet=self.max_packet, data=data)
            case Failed(end, _, number, text):
                self._pursuit.end(end)
                self.ends.remove(end)
                self.ipcp.allocated(end, number, text)
            case Announce(offer, key, _, _, _) if key not in self.directory.registered:
                self.fa.declined(
                    offer, ENAME, now
                )  # it may have been registered: the requester has an old answer of the directory
            case Announce(offer, key, qos, data, source):
                self.ipcp.announce(
                    key,
                    qos.to_proto(),
                    mpl_ms=MPL_MS,
                    max_packet=self.max_packet,
                    data=data,
                    source=source.to_bytes(8, "big"),
                    done=partial(self._announced, offer),
                )
            case Lost(end):
                self.ends.remove(end)
                self.ipcp.deallocated(end)
            case Congestion(end, level):
                self.dt.congestion(end.fd, level)

    def _seek_others(self, end: End, now: float) -> None:
        """A request for a flow has no answer yet, and no other member is known."""
        asked = self.fa.awaiting_reply(end)
        if asked is not None and asked[1] != self.address:
            self.directory.seek(*asked, partial(self._others, end, asked), now)

    def _others(self, end: End, asked: tuple[bytes, int], addresses: tuple[int, ...]) -> None:
        """Members that hold a name beside the one that was asked and has not answered."""
        if self.fa.awaiting_reply(end) == asked:
            self.fa.others(end, addresses, self.now)
            self.schedule()

    def _announced(
        self, offer: int, endpoint: FlowEndpoint | None, fds: list[int], error: int, _text: str
    ) -> None:
        """The IRMd found a process that accepts, or none."""
        if self._closed:
            if endpoint is not None:
                self.ipcp.deallocated(End.of(endpoint))
            return
        now = self.now
        if endpoint is None:
            self.fa.declined(offer, error, now)
        else:
            try:
                end = self.attach(endpoint, fds)
            except OSError as failure:
                log.error("cannot serve a flow: %s", failure)
                self.ipcp.deallocated(End.of(endpoint))
                self.fa.declined(offer, failure.errno or errno.EIO, now)
            else:
                self.fa.announced(offer, end, now)
        self.schedule()

    def attach(self, endpoint: FlowEndpoint, fds: list[int]) -> End:
        """Attach to an end of a flow that this IPCP provides. Raises OSError."""
        end = self.ends.add(endpoint, fds)
        self._upper[end.fd] = end, self.punt.counters(CONGESTION).passed
        return end

    def given_up(self, end: End) -> None:
        """The IRMd gives a flow up, in whatever state it is."""
        self._pursuit.end(end)
        self.fa.deallocate(end, self.now)
        self.ends.remove(end)

    @property
    def defects(self) -> int:
        """Packets, events and deadlines that could not be handled."""
        return self.guard.defects + self.punt.defects + self.fa.defects + self.directory.dht.defects

    # ------------------------------------------------------------ connections

    def silent(self) -> list[Connection]:
        """Connections whose neighbour cannot be reached at present."""
        return [c for c in self.adjacencies.connections.values() if not c.lower.usable]

    # ------------------------------------------------------------ the end

    def leave(self) -> None:
        """This member has to take another address: its flows and adjacencies end, then all components are closed."""
        for connection in list(self.adjacencies.connections.values()):
            self.connections.drop(connection)
        self.fa.abandon(self.now)
        self.run_due()
        self.close()

    def close(self) -> None:
        """The IPCP ends: every pending request gets an answer."""
        if self._closed:
            return
        self._closed = True
        for handle in (self._timer, self._scheduled):
            if handle is not None:
                handle.cancel()
        self.directory.close(self.now)
