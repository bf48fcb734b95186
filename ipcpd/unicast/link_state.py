"""Link state: announces this member's links, floods those of others, maintains forwarding tables (paper 5.3; spec/link-state).

Runs in the unicast IPCP as a machine without I/O: calls, messages and timer expiries go in together with `now` (seconds,
monotonic); packets to send, events and the next deadline come out.

    connection manager ──dt_*, mgmt_*──►┌───────────┐──take_packets──► management flows
    management flows  ────receive──────►│ LinkState │
    clock             ────timer────────►└───────────┘──take_events───► forwarding tables of the data plane

A link is announced when a data transfer flow to a neighbour comes up, again after 1 s and 4 s in case that was lost, and then
every `t_update`. A link that goes is withdrawn immediately towards Python members; a prototype lets it age out. An entry
dies after `t_timeo` without a newer message. A member that receives a link of its own that it did not announce, or a number above
its last (it was a member before, and restarted), immediately announces the true state, with a number above that. Announcements of
this member that are contradicted again and again are those of another member with its address (`contention`). Where there are
prototypes, links to nowhere make them compute anew when they would not (`phantom`).

Tables are computed immediately when the graph changes; while changes go on the pause between computations doubles, up to a limit
that grows with the database, at most `t_recalc`: a small layer that is being built needs its routes, and computes them in
no time. Loss of an own link never waits, nor does a first way to a neighbour.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random, SystemRandom

from ipcpd.wire.address import legal_address
from ipcpd.wire.lsm import Lsm, Weights, after, ahead
from ouroboros.cubes import CUBES
from ouroboros.ipcp_config import LinkStateConfig
from ouroboros.qos import QoSSpec

from .contention import Contention
from .contention import Verdict as Contradiction
from .lsdb import Link, Lsdb, State, Verdict
from .pff.table import Neighbours, Table
from .phantom import Phantoms
from .routing import policy as routing_policy
from .routing.shortest_path import Routes
from .routing.weight import best_of, weights_of

REPEATS = (1.0, 4.0)
"""Seconds after a change of an own link at which it is announced again: messages are not acknowledged."""

SPACING = 1.0
"""Seconds between two announcements of an own link that comes up or is corrected: a flow may flap, and two members that
drew the same address would answer each other for ever."""

MAX_OWN = 4096
"""Links of its own that a member keeps track of, those that only others claim included."""

FIRST_HOLD = 0.05
"""Pause after a computation of tables, seconds, before it doubles."""

HOLD_PER_LINK = 0.002
"""Longest pause after a computation, seconds, for each link in the database."""

SYNC_BURST = 256
SYNC_INTERVAL = 0.02
"""A new management flow gets the database in bursts of SYNC_BURST entries, SYNC_INTERVAL seconds apart: its queue is finite."""


@dataclass(frozen=True, slots=True)
class TablesChanged:
    """Event: load these forwarding tables, one for each cube."""

    tables: tuple[Table, ...]


@dataclass(frozen=True, slots=True)
class AddressContested:
    """Event: another member has this member's address. `leave`: it is this member that draws another one, now."""

    leave: bool


Event = TablesChanged | AddressContested


@dataclass(slots=True)
class Counters:
    """For the statistics tree."""

    received: int = 0
    forwarded: int = 0
    stale: int = 0
    malformed: int = 0
    refused: int = 0
    computations: int = 0
    contradicted: int = 0
    """Announcements of this member that another member contradicted."""
    phantoms: int = 0
    """Links to nowhere that this member announced, for prototypes."""


@dataclass(slots=True)
class DtFlow:
    """A data transfer flow to a neighbour."""

    address: int
    weights: Weights
    up: bool = True


@dataclass(slots=True)
class MgmtFlow:
    """A management flow. `ours` once the peer has sent a message that a prototype cannot send."""

    address: int
    ours: bool = False
    unsent: Iterator[Link] | None = None


@dataclass(slots=True)
class _Own:
    """A link of this member: its state, the number used last, when it was announced, and when to announce it again."""

    sequence: int | None = None
    live: bool = False
    weights: Weights | None = None
    announced_at: float = float("-inf")
    agenda: list[float] = field(default_factory=list)


@dataclass(slots=True)
class _Hold:
    """The earliest time of the next computation: the pause doubles while one follows the other."""

    longest: float
    last: float = float("-inf")
    pause: float = FIRST_HOLD
    due: float | None = None

    def want(self, now: float, *, urgent: bool = False) -> None:
        when = now if urgent else max(now, self.last + self.pause)
        self.due = when if self.due is None else min(self.due, when)

    def done(self, now: float) -> None:
        quiet = now - self.last > 2 * self.longest
        self.pause = FIRST_HOLD if quiet else min(2 * self.pause, self.longest)
        self.last, self.due = now, None


@dataclass(slots=True, kw_only=True)
class LinkState:
    """The machine of one member.

    address  this member's
    config   policy and times of the layer; every member has the same
    now      time of the start, seconds
    random   for tests; otherwise the system's
    """

    address: int
    config: LinkStateConfig = field(default_factory=LinkStateConfig)
    now: float = 0.0
    random: Random = field(default_factory=SystemRandom)
    counters: Counters = field(default_factory=Counters)
    lsdb: Lsdb = field(init=False)
    tables: tuple[Table, ...] = field(init=False)
    _dt: dict[int, DtFlow] = field(default_factory=dict, init=False)
    _mgmt: dict[int, MgmtFlow] = field(default_factory=dict, init=False)
    _own: dict[int, _Own] = field(default_factory=dict, init=False)
    _packets: list[tuple[int, Lsm]] = field(default_factory=list, init=False)
    _events: list[Event] = field(default_factory=list, init=False)
    contention: Contention = field(init=False)
    _phantoms: Phantoms = field(init=False)
    _hold: _Hold = field(init=False)
    _policy: routing_policy.Policy = field(init=False)
    _next_update: float = field(init=False)
    _next_sync: float | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.lsdb = Lsdb(float(self.config.t_timeo))
        self._hold = _Hold(float(self.config.t_recalc))
        self.contention = Contention(self.now, self.random)
        self._phantoms = Phantoms(float(self.config.t_timeo + self.config.t_update), self.random)
        self._next_update = self.now + self.config.t_update
        self._policy = routing_policy.load(self.config.pol)
        self.tables = tuple(self._policy.table({}, {}) for _ in CUBES)

    # ------------------------------------------------------------ what comes out

    def take_packets(self) -> list[tuple[int, Lsm]]:
        """The messages to send, as (descriptor of a management flow, message), in order; each is returned once."""
        packets, self._packets = self._packets, []
        return packets

    def take_events(self) -> list[Event]:
        """The events since the last call."""
        events, self._events = self._events, []
        return events

    @property
    def deadline(self) -> float:
        """When `timer` has to be called next; call it also when that has passed already."""
        times = [self._next_update, self.lsdb.deadline, self._hold.due, self._next_sync]
        times += [self.contention.deadline, self._phantoms.deadline]
        times += [own.agenda[0] for own in self._own.values() if own.agenda]
        return min(time for time in times if time is not None)

    @property
    def dt_flows(self) -> dict[int, DtFlow]:
        """Data transfer flows by descriptor."""
        return dict(self._dt)

    # ------------------------------------------------------------ data transfer flows

    def dt_added(self, address: int, fd: int, qos: QoSSpec, now: float) -> None:
        """A data transfer flow to a neighbour is there. Raises ValueError for an address that cannot be a neighbour's."""
        if not legal_address(address) or address == self.address:
            raise ValueError(f"{address:#010x} cannot be the address of a neighbour of {self.address:#010x}")
        before = self._dt.pop(fd, None)
        self._dt[fd] = DtFlow(address, weights_of(qos))
        if address in self._own or self.lsdb.get(address, self.address) is not None:
            self._phantoms.follow_adjacency(
                now
            )  # a prototype knows the link, and keeps to the flow that it had
        if before is not None and before.address != address:
            self._own_link(before.address, now)
        self._own_link(address, now)

    def dt_removed(self, fd: int, now: float) -> None:
        """A data transfer flow has ended: disconnected, deallocated, or its peer was given up. Unknown ones do nothing."""
        flow = self._dt.pop(fd, None)
        if flow is not None:
            self._own_link(flow.address, now)

    def dt_down(self, fd: int, now: float) -> None:
        """A data transfer flow cannot be used at present: its link is down, or its peer is silent."""
        self._dt_state(fd, now, up=False)

    def dt_up(self, fd: int, now: float) -> None:
        """A data transfer flow can be used again."""
        self._dt_state(fd, now, up=True)

    def _dt_state(self, fd: int, now: float, *, up: bool) -> None:
        flow = self._dt.get(fd)
        if flow is not None and flow.up is not up:
            flow.up = up
            self._own_link(flow.address, now)

    def _own_link(self, address: int, now: float) -> None:
        """Announce the change of this member's link to a neighbour, if there is one."""
        up = [flow.weights for flow in self._dt.values() if flow.address == address and flow.up]
        weights = best_of(up) if up else None
        own = self._own.setdefault(address, _Own())
        self._hold.want(now, urgent=True)  # the descriptors have changed even where the link has not
        if own.live is not bool(up) or own.weights != weights:
            own.live, own.weights = bool(up), weights
            own.agenda = [now + again for again in REPEATS]
            if not up and own.sequence is not None:
                self._phantoms.follow_loss(now)
            # A lost link must be announced immediately; the announcement of a link that flaps up waits for SPACING.
            self._say(address, now, urgent=not up)

    def _say(self, address: int, now: float, *, urgent: bool = False) -> None:
        """Announce the state of an own link; unless urgent, it is put off until SPACING after the last time."""
        own = self._own[address]
        if urgent or now - own.announced_at >= SPACING:
            self._announce(address, own, now)
        else:
            own.agenda = sorted({own.announced_at + SPACING, *own.agenda})

    def _announce(self, address: int, own: _Own, now: float) -> None:
        known, used = self.lsdb.get(self.address, address), own.sequence
        if known is not None and (used is None or ahead(known.sequence, used) > 0):
            used = known.sequence
        own.sequence = 0 if used is None else after(used)
        own.announced_at = now
        own.agenda = [again for again in own.agenda if again > now]
        message = Lsm(self.address, address, own.sequence, own.weights, withdrawn=not own.live)
        if self.lsdb.accept(message, now, own=True) is Verdict.CHANGED:
            self._hold.want(now, urgent=True)
        self._flood(message)

    # ------------------------------------------------------------ management flows

    def mgmt_added(self, address: int, fd: int, now: float) -> None:
        """A management flow to a neighbour is there: it gets the whole database."""
        self._mgmt[fd] = MgmtFlow(address, unsent=iter([(e.target, e.source) for e in self.lsdb]))
        self._sync(now)

    def mgmt_removed(self, fd: int) -> None:
        """A management flow has ended: its pending messages are dropped. Unknown ones do nothing."""
        if self._mgmt.pop(fd, None) is not None:
            self._packets = [packet for packet in self._packets if packet[0] != fd]

    def receive(self, fd: int, message: Lsm, now: float) -> None:
        """A message was received on a management flow. An invalid one is counted and dropped."""
        flow = self._mgmt.get(fd)
        self.counters.received += 1
        if flow is None or not message.valid:
            self.counters.malformed += 1
            return
        if message.extended:
            flow.ours = True
        if message.source == self.address:
            self._correct(message, now)
            return
        verdict = self.lsdb.accept(message, now)
        if verdict is Verdict.STALE:
            self.counters.stale += 1
        elif verdict is Verdict.REFUSED:
            self.counters.refused += 1
        else:
            self.counters.forwarded += 1
            self._flood(message, but=fd)
            if verdict is Verdict.CHANGED:
                self._hold.want(now, urgent=self._completes(message))

    def _completes(self, message: Lsm) -> bool:
        """Whether the message makes an unreachable neighbour reachable: as soon as it knows, it sends its requests, once each."""
        own = self._own.get(message.source)
        return (
            message.target == self.address
            and not message.withdrawn
            and own is not None
            and own.live
            and message.source not in self.tables[0].entries
        )

    def malformed(self) -> None:
        """A packet was received that could not be decoded."""
        self.counters.received += 1
        self.counters.malformed += 1

    def _correct(self, message: Lsm, now: float) -> None:
        """Another member knows a link of this one. If this member does not, the link is from before a restart, forged, or of
        another member that has its address."""
        own = self._own.get(message.target)
        if own is None:
            if message.withdrawn or message.target in self._phantoms or len(self._own) >= MAX_OWN:
                return
            own = self._own[message.target] = _Own()
        elif own.sequence is not None:
            further = ahead(message.sequence, own.sequence)
            if further < 0 or (further == 0 and message.withdrawn is not own.live):
                return  # the echo of this member's announcement
            if own.live or not message.withdrawn:
                self._contradicted(message.target, now)
        elif own.live:
            self._phantoms.follow_adjacency(now)  # a prototype knows the link from before the restart
        own.sequence = message.sequence
        if own.live or not message.withdrawn:
            self._say(message.target, now)

    def _contradicted(self, target: int, now: float) -> None:
        self.counters.contradicted += 1
        verdict = self.contention.contradicted(target, now)
        if verdict is not Contradiction.NOTHING:
            self._events.append(AddressContested(leave=verdict is Contradiction.LEAVE))

    def _flood(self, message: Lsm, *, but: int | None = None) -> None:
        for fd in self._mgmt:
            if fd != but:
                self._send(fd, message)

    def _send(self, fd: int, message: Lsm) -> None:
        """To a peer that may be a prototype a message goes in both forms: it ignores the one it does not know.

        But it never gets the announcements of its own links: it would take a link that it has no more for its own, for ever.
        """
        flow = self._mgmt[fd]
        if not message.withdrawn and (flow.ours or message.source != flow.address):
            if not (flow.ours and message.extended):
                self._packets.append((fd, message.plain))
        if message.extended:
            self._packets.append((fd, message))

    # ------------------------------------------------------------ time

    def timer(self, now: float) -> None:
        """Make the calls that are due. May be called at any time."""
        refresh = now >= self._next_update
        if refresh:
            self._next_update = now + self.config.t_update
        for address, own in self._own.items():
            if (refresh and own.live) or (own.agenda and now >= own.agenda[0]):
                self._announce(address, own, now)
        if self.lsdb.expire(now):
            self._hold.want(now)
            if any(not flow.ours for flow in self._mgmt.values()):
                self._phantoms.follow_ageing(now, self.config.t_update)
        self._make_phantom(now)
        self.contention.expired(now)
        if self._next_sync is not None and now >= self._next_sync:
            self._sync(now)
        if self._hold.due is not None and now >= self._hold.due:
            self._compute(now)

    def _make_phantom(self, now: float) -> None:
        """Announce the phantom that is due, if any is, and if there is a prototype that receives it."""
        due = self._phantoms.deadline
        if due is None or due > now:
            return
        target = self._phantoms.take(now, wanted=self.mixed, taken=self.addresses)
        if target is not None:
            self.counters.phantoms += 1
            self._flood(Lsm(self.address, target, 0))

    def is_in_use(self, address: int) -> bool:
        """Whether an address belongs to a known member: to this one, or to one that a live link leads to or from."""
        entries = (entry for entry in self.lsdb if entry.state is State.LIVE)
        return address == self.address or any(address in (entry.source, entry.target) for entry in entries)

    @property
    def addresses(self) -> set[int]:
        """Every address that is known in the layer."""
        ends = {end for entry in self.lsdb for end in (entry.source, entry.target)}
        return ends | {self.address}

    @property
    def mixed(self) -> bool:
        """Whether prototypes are known in the layer: neighbours that send only messages which a prototype can send,
        and links without weights."""
        if any(not flow.ours for flow in self._mgmt.values()):
            return True
        return any(weights is None for _, _, weights in self.lsdb.graph.edges())

    def _sync(self, now: float) -> None:
        """Send another burst of the database to the neighbours that have not got all of it."""
        unfinished = False
        for fd, flow in self._mgmt.items():
            if flow.unsent is None:
                continue
            for _ in range(SYNC_BURST):
                link = next(flow.unsent, None)
                if link is None:
                    flow.unsent = None
                    break
                entry = self.lsdb.get(link[1], link[0])
                if entry is not None and entry.state is not State.AGED:
                    self._send(fd, entry.message())
            unfinished |= flow.unsent is not None
        self._next_sync = now + SYNC_INTERVAL if unfinished else None

    def _compute(self, now: float) -> None:
        size = HOLD_PER_LINK * len(self.lsdb)
        self._hold.longest = min(float(self.config.t_recalc), max(FIRST_HOLD, size))
        self._hold.done(now)
        self.counters.computations += 1
        policy = self._policy
        routes: dict[int, Routes] = {}  # cubes that see the same graph share its routes
        tables = []
        for cube, view in enumerate(self.lsdb.graph.views()):
            if id(view) not in routes:
                routes[id(view)] = policy.routes(view, self.address)
            tables.append(policy.table(routes[id(view)], self._neighbours(cube)))
        if tuple(tables) != self.tables:
            self.tables = tuple(tables)
            self._events.append(TablesChanged(self.tables))

    def _neighbours(self, cube: int) -> Neighbours:
        flows = [(fd, flow) for fd, flow in reversed(self._dt.items()) if flow.up]
        # Of equivalent flows the newest comes first: an older one may be left from before its neighbour restarted.
        first: dict[tuple[int, Weights], int] = {}
        for fd, flow in flows:
            kind = flow.address, flow.weights
            first[kind] = min(fd, first.get(kind, fd))
        flows.sort(key=lambda item: (item[1].weights[cube], first[item[1].address, item[1].weights]))
        found: dict[int, tuple[int, ...]] = {}
        for fd, flow in flows:
            found[flow.address] = (*found.get(flow.address, ()), fd)
        return found
