"""Flow allocator: requests, replies and congestion updates of the flows over the layer (paper 2.11, 5.3; spec/fa).

Runs in the unicast IPCP as a machine without I/O: calls, messages and timer expiries go in together with `now` (seconds,
monotonic); events, packets to send and the next deadline come out. Events are to be carried out before packets are
sent: an end can then receive before its peer knows of it.

    IRMd           ──allocate, announced, respond, deallocate──►┌───────────────┐──take_events───► IRMd, directory, Dt
    directory      ──resolved──────────────────────────────────►│ FlowAllocator │
    data transfer  ──receive, unsent, congested────────────────►└───────────────┘──take_packets──► endpoint id 0

    requester    allocate ─► RESOLVING ─resolved──► REQUESTED ─reply 0───► ALLOCATED
    responder    request ──► ANNOUNCED ─announced─► OFFERED ───respond 0─► ALLOCATED

Every other move (MOVES) leads to ENDED, and is reported: the requester's to the IRMd, the responder's to the requester, always with
a reply. The flow allocator neither acknowledges nor retransmits messages, so every state but ALLOCATED has a limit of time. Where
several members hold a name they are tried one after the other, each with an endpoint id of its own: a reply
from one that was given up is late, and cannot be taken for the answer of another. Of the requests to one member the first answer
is taken, whichever request it answers: it may have been under way when the request was repeated.

A name that is registered here and nowhere else leads back to this member: the two ends are then joined directly.
"""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from random import Random, SystemRandom
from typing import Any, TypeVar

from ipcpd.common.end import End
from ipcpd.wire.address import to_text
from ipcpd.wire.fa import FlowReply, FlowRequest, FlowUpdate, Message
from ouroboros.errors import ENAME, known_errno, strerror
from ouroboros.machine import Condition, Move, Table, find_move
from ouroboros.qos import QoSSpec

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
    Packet,
    Resolve,
)
from .timers import Timer, Timers

LIMIT = 19.5
"""Seconds until an allocation fails. The IRMd gives up after 20: so the flow allocator reports the reason first."""

NEXT_MEMBER = 6.0
"""Seconds until the next member that holds the name is tried: a program that has to be started may take 5."""

OFFER_LIMIT = 20.0
"""Seconds until a request is refused that the IRMd has not answered: its requester has given up."""

MAX_OFFERS = 1024
"""Requests that wait for the IRMd; one more is refused: it could be forged."""

MAX_OFFERS_OF_ONE = MAX_OFFERS // 2
"""Of these, requests of one member: the rest is left to other members."""

MAX_OFFERS_OF_NAME = MAX_OFFERS // 2
"""Of these, requests for one name: the rest is left to the servers of other names."""

MAX_REPEATED = 1024
"""Replies that wait to be sent again. One more refusal is given up: its request could be forged, and lead nowhere."""

MAX_REPEATED_OF_ONE = MAX_REPEATED // 2
"""Of these, replies to one member: the rest is left to other members."""

REPLY_PAUSE, REPLY_TRIES = 0.1, 7
"""A reply without a route is sent again after pauses that double: the first pause, seconds, and the number of times."""


NO_END = End(0, 0)

Key = TypeVar("Key")


class Phase(Enum):
    """The state of a flow."""

    RESOLVING = "resolving"
    REQUESTED = "requested"
    ANNOUNCED = "announced"
    OFFERED = "offered"
    ALLOCATED = "allocated"
    ENDED = "ended"


class Event(Enum):
    """The events of a flow."""

    RESOLVED = "the directory answered"
    NEXT_MEMBER = "no answer for 6 s, and another member holds the name"
    OTHERS = "more holders of the name were found"
    REPEAT = "the IRMd asks for another request"
    UNSENT = "the request could not be sent"
    GRANTED = "reply: accepted"
    REFUSED = "reply: refused"
    ANNOUNCED = "the IRMd has a process that accepts"
    DECLINED = "the IRMd has none"
    REPLACED = "another request has taken its place"
    ACCEPTED = "the process accepted"
    REJECTED = "the process refused"
    EXPIRED = "the time limit has passed"
    UNREACHABLE = "the reply could not be sent"
    DEALLOCATED = "the flow is deallocated"
    LEFT = "the other end, at this member, is deallocated"
    ABANDONED = "the member leaves its address"


@dataclass(slots=True)
class Counters:
    """For the read-outs.

    unknown     replies and updates for an endpoint id that no flow has
    late        replies for a flow that has its reply already
    duplicates  requests that had been received before
    refused     flows that this member refused, or that were refused to it
    timeouts    flows that ended because no answer arrived in time
    again       requests that were sent because an earlier one had no answer
    unsent      messages for which there was no route
    given_up    refusals that were not sent again, because too many waited for that
    """

    requests: int = 0
    replies: int = 0
    updates: int = 0
    malformed: int = 0
    unknown: int = 0
    late: int = 0
    duplicates: int = 0
    refused: int = 0
    timeouts: int = 0
    again: int = 0
    unsent: int = 0
    requests_sent: int = 0
    replies_sent: int = 0
    updates_sent: int = 0
    given_up: int = 0


@dataclass(slots=True, eq=False)
class Flow:
    """One end of a flow. `end` is NO_END while it is ANNOUNCED; `address` and `peer_eid` are 0 while they are not known."""

    phase: Phase
    cube: int
    end: End = NO_END
    eid: int = 0
    address: int = 0
    peer_eid: int = 0
    key: bytes = b""
    qos: QoSSpec = field(default_factory=QoSSpec)
    data: bytes = b""
    offer: int = 0
    candidates: list[int] = field(default_factory=list)
    former: list[int] = field(default_factory=list)
    """Endpoint ids of the requests to the same member that the last one repeats."""
    limit: Timer | None = None
    next_member: Timer | None = None


class FlowAllocator:
    """The machine of one member.

    address  this member's, in the layer
    layer    its name, for log messages and read-outs
    random   for tests; otherwise the system's
    """

    def __init__(self, *, address: int, layer: str = "", random: Random | None = None) -> None:
        self.address = address
        self.layer = layer
        self.counters = Counters()
        self._random = random or SystemRandom()
        self._timers = Timers()
        self._flows: dict[End, Flow] = {}
        self._by_eid: dict[int, Flow] = {}
        self._offers: dict[int, Flow] = {}
        self._arrived: dict[
            tuple[int, int], Flow
        ] = {}  # responder's flows by address and endpoint id of the requester
        self._offering: Counter[int] = Counter()  # offers by the address of the requester
        self._wanted: Counter[bytes] = Counter()  # offers by name
        self._repeated: Counter[int] = Counter()  # replies that wait to be sent again, by address
        self._serial = 0
        self._packets: list[Packet] = []
        self._events: list[Output] = []

    # ------------------------------------------------------------ what comes out

    def take_packets(self) -> list[Packet]:
        """The packets to send, in order; each is returned once. A packet that could not be sent goes to `unsent`."""
        packets, self._packets = self._packets, []
        return packets

    def take_events(self) -> list[Output]:
        """The events since the last call, in order; they are carried out before packets are sent."""
        events, self._events = self._events, []
        return events

    @property
    def defects(self) -> int:
        """Calls that were due, and failed."""
        return self._timers.guard.defects

    @property
    def deadline(self) -> float | None:
        """When `timer` has to be called next."""
        return self._timers.deadline

    def timer(self, now: float) -> None:
        """Make the calls that are due. May be called at any time."""
        self._timers.run(now)

    def __len__(self) -> int:
        return len(self._flows)

    def __iter__(self) -> Iterator[Flow]:
        """The flows that have a descriptor, ascending."""
        return (self._flows[end] for end in sorted(self._flows))

    @property
    def waiting(self) -> int:
        """Requests of other members that wait for the IRMd."""
        return len(self._offers)

    # ------------------------------------------------------------ requester

    def allocate(self, end: End, key: bytes, qos: QoSSpec, data: bytes, now: float) -> None:
        """The IRMd asks for a flow, its end being `end`. The outcome is an event: Granted or Failed."""
        flow = Flow(Phase.RESOLVING, qos.cube, end=end, key=key, qos=qos, data=data)
        flow.limit = self._timers.at(now + LIMIT, lambda now: self._expired(flow, now))
        self._flows[end] = flow
        self._events.append(Resolve(key))

    def resolved(self, key: bytes, addresses: Sequence[int], now: float) -> None:
        """These members hold the name, the preferred one first; empty: no holder is known."""
        reason = ENAME, f'nobody in layer "{self.layer}" has registered the name'
        for flow in [f for f in self._flows.values() if f.phase is Phase.RESOLVING and f.key == key]:
            flow.candidates = list(addresses)
            self._take(flow, Event.RESOLVED, now, reason)

    def awaiting_reply(self, end: End) -> tuple[bytes, int] | None:
        """Name and member of the request for a flow, as long as that has no answer and there is no other member to ask."""
        flow = self._flows.get(end)
        if flow is None or flow.phase is not Phase.REQUESTED or flow.candidates:
            return None
        return flow.key, flow.address

    def again(self, end: End, data: bytes, now: float) -> None:
        """Send another request to the same member, with this handshake. It has an endpoint id of its own; the one before may still be
        answered."""
        self._take(self._flows.get(end), Event.REPEAT, now, data)

    def others(self, end: End, addresses: Sequence[int], now: float) -> None:
        """More members that hold the name: the member that was asked has not answered."""
        if addresses and self.awaiting_reply(end) is not None:
            flow = self._flows[end]
            flow.candidates = list(addresses)
            self._try_next(flow, now, Event.OTHERS)

    def _try_next(self, flow: Flow, now: float, event: Event = Event.NEXT_MEMBER) -> None:
        self.counters.timeouts += 1
        self._take(flow, event, now, (errno.ETIMEDOUT, f"no answer from {to_text(flow.address)}"))

    def _expired(self, flow: Flow, now: float) -> None:
        self.counters.timeouts += 1
        asked_member = f"member {to_text(flow.address)}" if flow.address else "the directory"
        text = f'no answer from {asked_member} of layer "{self.layer}" within {LIMIT:g} s'
        self._take(flow, Event.EXPIRED, now, (errno.ETIMEDOUT, text))

    # ------------------------------------------------------------ responder

    def announced(self, offer: int, end: End, now: float) -> None:
        """The IRMd has a process that accepts; `end` is this member's. Next comes `respond`."""
        if not self._take(self._offers.get(offer), Event.ANNOUNCED, now, end):
            self._events.append(Lost(end))  # the IRMd answered too late

    def declined(self, offer: int, number: int, now: float) -> None:
        """The IRMd has no process that accepts, or does not know the name: a positive errno."""
        event = Event.REPLACED if number == errno.EALREADY else Event.DECLINED
        self._take(self._offers.get(offer), event, now, number)

    def respond(self, end: End, response: int, data: bytes, now: float) -> bool:
        """The local process has accepted (0) or refused (a positive errno). False: no request waits for a response on `end`."""
        flow = self._flows.get(end)
        if response:
            return self._take(flow, Event.REJECTED, now, response)
        return self._take(flow, Event.ACCEPTED, now, data)

    def _offer_expired(self, flow: Flow, now: float) -> None:
        self.counters.timeouts += 1
        self._take(flow, Event.EXPIRED, now, errno.ETIMEDOUT)

    # ------------------------------------------------------------ either

    def deallocate(self, end: End, now: float) -> None:
        """The local process, or the IRMd, gives the flow up. An unknown flow has been removed already."""
        self._take(self._flows.get(end), Event.DEALLOCATED, now, errno.ECONNREFUSED)

    def abandon(self, now: float) -> None:
        """This member leaves its address, and with it all its flows."""
        reason = errno.ECONNRESET, f'the member of layer "{self.layer}" takes another address'
        for flow in [*self._flows.values(), *self._offers.values()]:
            self._take(flow, Event.ABANDONED, now, reason)

    def congested(self, end: End, level: int, now: float) -> None:
        """Packets that arrive on a flow were marked: notify their sender."""
        flow = self._flows.get(end)
        if flow is not None and flow.phase is Phase.ALLOCATED:
            self.counters.updates_sent += 1
            self._send(flow.address, FlowUpdate(flow.peer_eid, level), now)

    def _take(self, flow: Flow | None, event: Event, now: float, what: Any = None) -> bool:
        """Make the move of the table; `what` is the argument of its action. False: the event has no effect, or there is no flow."""
        if flow is None:
            return False
        move = find_move(MOVES, flow.phase, event, self, flow, what, now)
        if move is None:
            return False
        flow.phase = move.after
        move.action(self, flow, what, now)
        return True

    # ------------------------------------------------------------ actions

    def _ask_next(self, flow: Flow, what: object, now: float) -> None:
        """request from the next member"""
        self._by_eid.pop(flow.eid, None)
        self._leave_former(flow)
        if flow.next_member is not None:
            flow.next_member.cancel()
        flow.address = flow.candidates.pop(0)
        if flow.candidates:
            flow.next_member = self._timers.at(now + NEXT_MEMBER, lambda now: self._try_next(flow, now))
        self._request(flow, now)

    def _repeat(self, flow: Flow, data: bytes, now: float) -> None:
        """request from the same member, with a new endpoint id"""
        flow.data = data
        flow.former.append(flow.eid)
        self.counters.again += 1
        self._request(flow, now)

    def _fail(self, flow: Flow, reason: tuple[int, str], now: float) -> None:
        """report the failure to the IRMd"""
        self._forget(flow)
        self._events.append(Failed(flow.end, flow.key, *reason))

    def _grant(self, flow: Flow, reply: FlowReply, now: float) -> None:
        """connect, report to the IRMd"""
        self._settle(flow)
        if reply.to in flow.former:
            flow.former.remove(reply.to)
            del self._by_eid[flow.eid]
            flow.eid = reply.to
            self._events.append(Opened(flow.end, flow.eid, flow.cube))
        self._leave_former(flow)
        flow.peer_eid = reply.eid
        if flow.address == self.address:
            self._events.append(Joined(flow.end, self._by_eid[reply.eid].end))
        else:
            self._events.append(Connected(flow.end, flow.peer_eid, flow.address))
        self._events.append(Granted(flow.end, reply.data))

    def _offer(self, flow: Flow, end: End, now: float) -> None:
        """wait for its response"""
        flow.end, flow.eid = end, self._new_eid(end)
        self._flows[end] = flow

    def _accept(self, flow: Flow, data: bytes, now: float) -> None:
        """connect, reply"""
        self._settle(flow)
        self._by_eid[flow.eid] = flow
        if flow.address != self.address:
            self._events.append(Opened(flow.end, flow.eid, flow.cube))
            self._events.append(Connected(flow.end, flow.peer_eid, flow.address))
        self._reply(flow.address, FlowReply(flow.peer_eid, flow.eid, 0, data), now)

    def _refuse(self, flow: Flow, number: int, now: float) -> None:
        """reply with the errno"""
        self._forget(flow)
        self.counters.refused += 1
        self._reply(flow.address, FlowReply(flow.peer_eid, 0, -number), now)

    def _refuse_and_report(self, flow: Flow, number: int, now: float) -> None:
        """reply with the errno, report the end to the IRMd"""
        self._refuse(flow, number, now)
        self._events.append(Lost(flow.end))

    def _drop_duplicate(self, flow: Flow, what: object, now: float) -> None:
        """count a duplicate"""
        self.counters.duplicates += 1
        self._forget(flow)

    def _close(self, flow: Flow, what: object, now: float) -> None:
        """remove; the other end too where it is at this member"""
        self._forget(flow)
        if flow.address == self.address:
            self._take(self._by_eid.get(flow.peer_eid), Event.LEFT, now)

    def _remove(self, flow: Flow, what: object, now: float) -> None:
        """remove"""
        self._forget(flow)

    def _lose(self, flow: Flow, what: object, now: float) -> None:
        """report the end to the IRMd"""
        self._forget(flow)
        self._events.append(Lost(flow.end))

    # ------------------------------------------------------------ parts of them

    def _request(self, flow: Flow, now: float) -> None:
        """Send the request to the member that is being tried."""
        flow.eid = self._new_eid(flow.end)
        self._by_eid[flow.eid] = flow
        if flow.address != self.address:
            self._events.append(Opened(flow.end, flow.eid, flow.cube))
        self.counters.requests_sent += 1
        request = FlowRequest(self.address, flow.eid, flow.key, flow.qos, flow.data)
        self._send(flow.address, request, now)

    def _reply(self, address: int, reply: FlowReply, now: float) -> None:
        self.counters.replies_sent += 1
        self._send(address, reply, now)

    def _new_eid(self, end: End) -> int:
        return self._random.getrandbits(32) << 32 | end.fd

    def _leave_former(self, flow: Flow) -> None:
        for eid in flow.former:
            del self._by_eid[eid]
        flow.former.clear()

    def _settle(self, flow: Flow) -> None:
        """Cancel the flow's timers."""
        for timer in (flow.limit, flow.next_member):
            if timer is not None:
                timer.cancel()
        if self._offers.pop(flow.offer, None) is not None:
            _subtract(self._offering, flow.address)
            _subtract(self._wanted, flow.key)

    def _forget(self, flow: Flow) -> None:
        self._settle(flow)
        self._by_eid.pop(flow.eid, None)
        self._leave_former(flow)
        self._flows.pop(flow.end, None)
        if self._arrived.get((flow.address, flow.peer_eid)) is flow:
            del self._arrived[flow.address, flow.peer_eid]

    # ------------------------------------------------------------ messages

    def _send(self, address: int, message: Message, now: float) -> None:
        if address == self.address:
            self._handle(message, now)
        else:
            self._packets.append(Packet(address, message))

    def unsent(self, packet: Packet, now: float) -> None:
        """There is no route to this member at present, or the queue is full."""
        self.counters.unsent += 1
        message = packet.message
        if isinstance(message, FlowRequest):
            reason = errno.EHOSTUNREACH, f"there is no way to member {to_text(packet.address)}"
            self._take(self._by_eid.get(message.eid), Event.UNSENT, now, reason)
        elif isinstance(message, FlowReply):
            if message.response and (
                self._repeated[packet.address] >= MAX_REPEATED_OF_ONE
                or self._repeated.total() >= MAX_REPEATED
            ):
                self.counters.given_up += 1
                return
            self._repeated[packet.address] += 1
            pause = REPLY_PAUSE * 2 ** (packet.tries - 1)
            again = Packet(packet.address, message, packet.tries + 1)
            self._timers.at(now + pause, lambda now: self._reply_again(again, message, now))

    def _reply_again(self, packet: Packet, reply: FlowReply, now: float) -> None:
        _subtract(self._repeated, packet.address)
        flow = self._by_eid.get(reply.eid)
        if reply.response == 0 and flow is None:
            return  # deallocated meanwhile
        if packet.tries <= REPLY_TRIES:
            self._packets.append(packet)
        else:
            self._take(flow, Event.UNREACHABLE, now)

    def malformed(self) -> None:
        """A payload came in that could not be decoded."""
        self.counters.malformed += 1

    def receive(self, message: Message, now: float) -> None:
        """A message was received. An invalid one is counted and dropped."""
        if isinstance(message, FlowRequest) and message.source == self.address:
            self.malformed()  # a request to this member itself never leaves it
        else:
            self._handle(message, now)

    def _handle(self, message: Message, now: float) -> None:
        if isinstance(message, FlowRequest):
            self._requested(message, now)
        elif isinstance(message, FlowReply):
            self._replied(message, now)
        else:
            self._updated(message)

    def _requested(self, request: FlowRequest, now: float) -> None:
        self.counters.requests += 1
        whose = request.source, request.eid
        if whose in self._arrived:
            self.counters.duplicates += 1
            return
        if (
            len(self._offers) >= MAX_OFFERS
            or self._offering[request.source] >= MAX_OFFERS_OF_ONE
            or self._wanted[request.name_hash] >= MAX_OFFERS_OF_NAME
        ):
            self.counters.refused += 1
            self._reply(request.source, FlowReply(request.eid, 0, -errno.EAGAIN), now)
            return
        self._serial += 1
        flow = Flow(Phase.ANNOUNCED, request.qos.cube, address=request.source, peer_eid=request.eid)
        flow.key = request.name_hash
        flow.offer = self._serial
        flow.limit = self._timers.at(now + OFFER_LIMIT, lambda now: self._offer_expired(flow, now))
        self._offers[flow.offer] = self._arrived[whose] = flow
        self._offering[flow.address] += 1
        self._wanted[flow.key] += 1
        self._events.append(
            Announce(flow.offer, request.name_hash, request.qos, request.data, request.source)
        )

    def _replied(self, reply: FlowReply, now: float) -> None:
        self.counters.replies += 1
        flow = self._by_eid.get(reply.to)
        here = flow is not None and flow.address == self.address
        if flow is None or (here and not reply.response and reply.eid not in self._by_eid):
            self.counters.unknown += 1
        elif not reply.response:
            self.counters.late += not self._take(flow, Event.GRANTED, now, reply)
        elif reply.to in flow.former:  # the request that repeats it has its own answer
            self.counters.late += 1
        else:
            number = known_errno(reply.response)
            reason = number, f"member {to_text(flow.address)} refused the flow: {strerror(number)}"
            taken = self._take(flow, Event.REFUSED, now, reason)
            self.counters.refused += taken
            self.counters.late += not taken

    def _updated(self, update: FlowUpdate) -> None:
        self.counters.updates += 1
        flow = self._by_eid.get(update.to)
        if flow is None or flow.phase is not Phase.ALLOCATED:
            self.counters.unknown += 1
            return
        self._events.append(Congestion(flow.end, update.congestion))


def _subtract(counter: Counter[Key], key: Key) -> None:
    counter[key] -= 1
    if not counter[key]:
        del counter[key]


_F = FlowAllocator
_Condition = Condition[FlowAllocator, Flow, Any, float]
_Moves = tuple[Move[Phase, None, FlowAllocator, Flow, Any, float], ...]

_MEMBER: _Condition = Condition(
    "another member holds the name", lambda one, flow, what, now: bool(flow.candidates)
)
_ONLY: _Condition = Condition(
    "no other member holds the name, and it is not this one",
    lambda one, flow, what, now: not flow.candidates and flow.address != one.address,
)

_TRY_NEXT: _Moves = (Move(Phase.REQUESTED, _F._ask_next, _MEMBER), Move(Phase.ENDED, _F._fail))
_FAIL: _Moves = (Move(Phase.ENDED, _F._fail),)
_REFUSE: _Moves = (Move(Phase.ENDED, _F._refuse),)
_REMOVE: _Moves = (Move(Phase.ENDED, _F._remove),)
_LOSE: _Moves = (Move(Phase.ENDED, _F._lose),)

MOVES: Table[Phase, Event, None, FlowAllocator, Flow, Any, float] = {
    (Phase.RESOLVING, Event.RESOLVED): _TRY_NEXT,
    (Phase.REQUESTED, Event.NEXT_MEMBER): _TRY_NEXT,
    (Phase.REQUESTED, Event.OTHERS): _TRY_NEXT,
    (Phase.REQUESTED, Event.UNSENT): _TRY_NEXT,
    (Phase.REQUESTED, Event.REFUSED): _TRY_NEXT,
    (Phase.REQUESTED, Event.REPEAT): (Move(Phase.REQUESTED, _F._repeat, _ONLY),),
    (Phase.REQUESTED, Event.GRANTED): (Move(Phase.ALLOCATED, _F._grant),),
    **{(phase, Event.EXPIRED): _FAIL for phase in (Phase.RESOLVING, Phase.REQUESTED)},
    **{(phase, Event.ABANDONED): _FAIL for phase in (Phase.RESOLVING, Phase.REQUESTED)},
    **{(phase, Event.DEALLOCATED): _REMOVE for phase in (Phase.RESOLVING, Phase.REQUESTED)},
    (Phase.ANNOUNCED, Event.ANNOUNCED): (Move(Phase.OFFERED, _F._offer),),
    (Phase.ANNOUNCED, Event.DECLINED): _REFUSE,
    (Phase.ANNOUNCED, Event.REPLACED): (Move(Phase.ENDED, _F._drop_duplicate),),
    (Phase.ANNOUNCED, Event.EXPIRED): _REFUSE,
    (Phase.ANNOUNCED, Event.ABANDONED): _REMOVE,
    (Phase.OFFERED, Event.ACCEPTED): (Move(Phase.ALLOCATED, _F._accept),),
    (Phase.OFFERED, Event.REJECTED): _REFUSE,
    (Phase.OFFERED, Event.EXPIRED): (Move(Phase.ENDED, _F._refuse_and_report),),
    (Phase.OFFERED, Event.DEALLOCATED): _REFUSE,
    (Phase.OFFERED, Event.ABANDONED): _LOSE,
    (Phase.ALLOCATED, Event.DEALLOCATED): (Move(Phase.ENDED, _F._close),),
    (Phase.ALLOCATED, Event.LEFT): _LOSE,
    (Phase.ALLOCATED, Event.UNREACHABLE): _LOSE,
    (Phase.ALLOCATED, Event.ABANDONED): _LOSE,
}
"""The moves of a flow from a phase with an event: the first whose condition holds. An event that is not here has no effect."""
