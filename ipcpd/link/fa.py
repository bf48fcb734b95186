"""Flow allocator of a link-level IPCP: one request, one reply (paper 5.4; spec/common 7, spec/ethernet 4, 5, spec/udp 2).

Runs in these IPCPs as a machine without I/O: calls, messages and timer expiries go in together with `now`
(seconds); messages to send, events and the next deadline come out. A flow is known by its local end.

    local request        request ──► QUEUED ──► SENT ──► allocated, or refused
    remote request       received ──► Announce ──► announced ──► responded

Nothing is retransmitted: a prototype takes a second copy for a replay, refuses it, and keeps an endpoint for ever. A second
copy that the network makes is ignored here. But a prototype sometimes sends its reply to an unset address: so a request
without an answer is followed by another one, with its own handshake and endpoint. A Python acceptor replaces the first. The
first answer is taken, whichever request it is for: it may have been under way when the second was sent. A prototype handles
one request at a time, and twenty together end it; so only a few are under way to one machine, and an unanswered one stops
delaying the next after a while. Of several machines with the name, the next gets the request when one refuses or stays silent.

A prototype does not answer for names that it does not have, or no longer has, and on Ethernet neither does this IPCP, for
another IPCP on the same device may have them. So while a request is unanswered the name is queried again: a machine that does
not answer the query either, for longer than a prototype is ever busy, does not have the name.

No message reports the end of a flow. But an endpoint has one flow: when another machine has a new one at the endpoint of an
old one, the old one has ended, and packets still sent there would enter the new one.
"""

from __future__ import annotations

import errno
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import blake2b

from ipcpd.common.end import End
from ipcpd.wire.link import FlowReply, FlowRequest
from ouroboros.errors import ENAME, known_errno, strerror
from ouroboros.qos import QoSSpec

from .endpoints import Endpoints
from .fa_events import Allocated, Announce, Ask, Close, Connect, Doubt, Event, Open, Refused, Stale

WINDOW = 4
"""Requests under way to one machine that answers."""

MOST = 12
"""Requests under way to one machine, whether it answers or not."""

SILENCE = 0.5
"""Seconds after which an unanswered request no longer delays other requests: perhaps no process accepts there."""

QUERY_AGAIN = (1.0, 2.0, 3.0)
"""Seconds after a request without a reply at which the name is queried again."""

FALLBACK = 4.0
"""Seconds after which the next machine that has the name gets the request, for a program may have to be started first; and after
which a machine that has not answered for the name is given up."""

REFUSAL_HELD = 0.1
"""Seconds for which a refusal is held where several IPCPs may share an address: another of them may grant the flow."""

LATE = 30.0
"""Seconds that the endpoint of an unanswered request rests: its answer may still come."""

REPLAY = 20.0
"""Seconds for which a request is remembered: the lifetime of the handshake's header."""

MAX_ARRIVALS = 1024
"""Requests of other machines that wait for a local process."""

MAX_ARRIVALS_OF_ONE = MAX_ARRIVALS // 2
"""Of these, requests of one machine: the rest stays available to other machines."""

MAX_ARRIVALS_OF_NAME = MAX_ARRIVALS // 2
"""Of these, requests for one name: the rest stays available to other names. One more is refused."""

MAX_REMEMBERED = 8192
"""Requests that are remembered for REPLAY; one more takes the place of the oldest."""


class NoEndpoint(Exception):
    """All endpoints are used."""


@dataclass(slots=True)
class Counters:
    """For the read-out."""

    requests: int = 0
    replies: int = 0
    arrivals: int = 0
    unregistered: int = 0
    """Requests for names that are not registered here."""
    again: int = 0
    """Requests that were sent because an earlier one had no answer."""
    repeated: int = 0
    """Requests that arrived twice."""
    crowded: int = 0
    """Requests dropped, or refused, because too many wait."""
    strange: int = 0
    """Replies for which no request waits."""
    stale: int = 0
    """Flows of which the other end had ended without notice."""


@dataclass(slots=True)
class _Request:
    """A flow that a local process requested, until it is answered."""

    end: End
    endpoint: int
    name: bytes
    qos: QoSSpec
    data: bytes
    holders: deque[bytes]  # the first has the request
    sent: float | None = None
    agenda: deque[float] = field(default_factory=deque)
    """When to doubt, at last to give up."""
    refusal: tuple[int, str] | None = None
    """Errno and text of a refusal that is held."""
    former: list[int] = field(default_factory=list)
    """Endpoints of the requests to the same machine that this one repeats."""

    @property
    def peer(self) -> bytes:
        return self.holders[0]


@dataclass(slots=True)
class _IncomingRequest:
    """A flow that another machine requested, until it is answered."""

    peer: bytes
    peer_endpoint: int
    name: bytes
    endpoint: int = 0


@dataclass(frozen=True, slots=True)
class Flow:
    """A flow that is allocated."""

    endpoint: int
    peer: bytes
    peer_endpoint: int


@dataclass(slots=True)
class _Lane:
    """Requests that are queued for or under way to one machine."""

    queue: deque[_Request] = field(default_factory=deque)
    sent: dict[int, float] = field(default_factory=dict)  # by endpoint
    repeated: deque[float] = field(default_factory=deque)
    """When requests were sent that another request has replaced: the machine may still have them."""
    due: float | None = None
    """When more may be sent, if anything waits."""

    def forget(self, now: float) -> None:
        """Stop counting replaced requests that were sent long ago."""
        while self.repeated and now - self.repeated[0] >= FALLBACK:
            self.repeated.popleft()

    def may_send(self, now: float) -> bool:
        """Whether the machine may have one more request."""
        young = sum(now - when < SILENCE for when in self.sent.values())
        recent = sum(now - when < FALLBACK for when in self.sent.values())
        return young < WINDOW and recent + len(self.repeated) < MOST

    def next_change(self, now: float) -> float | None:
        """When more may be sent, if no message arrives before."""
        ages = [when + wait for when in self.sent.values() for wait in (SILENCE, FALLBACK)]
        ages += [when + FALLBACK for when in self.repeated]
        return min((at for at in ages if at > now), default=None)


def colons(peer: bytes) -> str:
    """A MAC address in the usual notation."""
    return peer.hex(":")


class FlowAllocator:
    """The flow allocator of one IPCP.

    registered  the names that other machines can request; the set may change any time
    show        a machine's address, for logs
    alone       no other IPCP at this address can have the name: a request for one that is not registered is refused
    answered_at       time at which a machine last answered that it has a name; None: machines are not queried
    """

    def __init__(
        self,
        endpoints: Endpoints,
        registered: set[bytes],
        *,
        show: Callable[[bytes], str] = colons,
        alone: bool = False,
        answered_at: Callable[[bytes, bytes], float] | None = None,
    ) -> None:
        self.endpoints = endpoints
        self.flows: dict[End, Flow] = {}
        self.counters = Counters()
        self._registered = registered
        self._show = show
        self._alone = alone
        self._answered_at = answered_at
        self._ends: dict[tuple[bytes, int], End] = {}  # local end by the other end
        self._requests: dict[End, _Request] = {}
        self._waiting: dict[int, _Request] = {}  # by endpoint
        self._lanes: dict[bytes, _Lane] = {}
        self._announced: dict[int, _IncomingRequest] = {}  # by ticket
        self._accepting: dict[End, _IncomingRequest] = {}
        self._seen: OrderedDict[tuple[bytes, int, bytes], float] = OrderedDict()
        self._arriving: Counter[bytes] = Counter()  # by machine: announced and accepting
        self._wanted: Counter[bytes] = Counter()  # the same by name
        self._messages: list[tuple[bytes, FlowRequest | FlowReply]] = []
        self._events: list[Event] = []
        self._ticket = 0

    # ------------------------------------------------------------ output

    def take_messages(self) -> list[tuple[bytes, FlowRequest | FlowReply]]:
        """Messages to send, with their destinations."""
        messages, self._messages = self._messages, []
        return messages

    def take_events(self) -> list[Event]:
        """Events for the shell, in order."""
        events, self._events = self._events, []
        return events

    @property
    def deadline(self) -> float | None:
        """When to call `expired`."""
        times = [lane.due for lane in self._lanes.values() if lane.due is not None]
        times += [request.agenda[0] for request in self._requests.values() if request.agenda]
        return min(times, default=None)

    @property
    def pending(self) -> int:
        """Flows that are being allocated, in either direction."""
        return len(self._requests) + len(self._announced) + len(self._accepting)

    # ------------------------------------------------------------ requests of local processes

    def request(
        self, end: End, name: bytes, qos: QoSSpec, data: bytes, holders: tuple[bytes, ...], now: float
    ) -> None:
        """Request a flow from the first of `holders`, later from the others. Raises NoEndpoint."""
        endpoint = self.endpoints.take(now)
        if endpoint is None:
            raise NoEndpoint
        request = _Request(end, endpoint, name, qos, data, deque(holders))
        self._requests[end] = self._waiting[endpoint] = request
        self._events.append(Open(end, endpoint, request.peer))
        self._enqueue(request, now)

    def _enqueue(self, request: _Request, now: float) -> None:
        self._lanes.setdefault(request.peer, _Lane()).queue.append(request)
        self._launch(request.peer, now)

    def _launch(self, peer: bytes, now: float) -> None:
        lane = self._lanes.get(peer)
        if lane is None:
            return
        lane.forget(now)
        while lane.queue and lane.may_send(now):
            request = lane.queue.popleft()
            request.sent = lane.sent[request.endpoint] = now
            if self._answered_at is not None:
                request.agenda.extend(now + wait for wait in QUERY_AGAIN)
            if self._answered_at is not None or len(request.holders) > 1:
                request.agenda.append(now + FALLBACK)
            self.counters.requests += 1
            self._ask(request)
        lane.due = lane.next_change(now) if lane.queue or lane.repeated else None
        if not lane.queue and not lane.sent and not lane.repeated:
            del self._lanes[peer]

    def _ask(self, request: _Request) -> None:
        message = FlowRequest(request.endpoint, request.name, request.qos, request.data)
        self._messages.append((request.peer, message))

    def again(self, end: End, data: bytes, now: float) -> None:
        """Send another request for a flow that has no answer, with this header, if the machine answers for the name and does not
        have too many requests already. The request has an endpoint of its own; the one before may still be answered."""
        request = self._requests.get(end)
        if (
            request is None
            or request.sent is None
            or request.refusal is not None
            or not self._answers(request)
        ):
            return
        lane = self._lanes[request.peer]
        lane.forget(now)
        if not lane.may_send(now):
            return  # the machine is busy, and its answer may still arrive
        endpoint = self.endpoints.take(now)
        if endpoint is None:
            return  # the answer may still arrive
        request.data = data
        self._waiting[endpoint] = request
        self.counters.again += 1
        self._move(request, endpoint)
        lane.repeated.append(lane.sent[endpoint])
        lane.sent[endpoint] = now
        lane.due = lane.next_change(now)
        self._ask(request)

    def _move(self, request: _Request, endpoint: int) -> None:
        """The request has this endpoint now."""
        before, request.endpoint = request.endpoint, endpoint
        request.former.append(before)
        sent = self._lanes[request.peer].sent if request.refusal is None else {}
        if before in sent:
            sent[endpoint] = sent.pop(before)
        self._events += [Close(request.end, before), Open(request.end, endpoint, request.peer)]

    def _leave_former(self, request: _Request, now: float) -> None:
        for endpoint in request.former:
            del self._waiting[endpoint]
            self.endpoints.give_back(endpoint, now, LATE)
        request.former.clear()

    def _answers(self, request: _Request) -> bool:
        """Whether the machine has answered for the name since the request was sent, as far as this IPCP can find out."""
        assert request.sent is not None
        return self._answered_at is None or self._answered_at(request.name, request.peer) >= request.sent

    def _make_way(self, request: _Request, now: float) -> None:
        """The request has an answer: the next one may be sent."""
        self._lanes[request.peer].sent.pop(request.endpoint)
        self._launch(request.peer, now)

    def _leave_lane(self, request: _Request, now: float) -> None:
        if request.sent is None:
            self._lanes[request.peer].queue.remove(request)
            self._launch(request.peer, now)
        elif request.refusal is None:
            self._make_way(request, now)
        request.sent = request.refusal = None
        request.agenda.clear()
        self._leave_former(request, now)

    def _forget(self, request: _Request, now: float) -> None:
        self._leave_lane(request, now)
        del self._requests[request.end]
        del self._waiting[request.endpoint]

    def _reply(self, reply: FlowReply, source: bytes, now: float) -> None:
        request = self._waiting.get(reply.to)
        repeated = request is not None and reply.to != request.endpoint
        if (
            request is None
            or request.sent is None
            or request.peer != source
            or (repeated and reply.response)  # the request that repeats it has its own answer
        ):
            self.counters.strange += 1  # too late, for another IPCP on this device, or forged
            return
        self.counters.replies += 1
        if reply.response:
            number = known_errno(reply.response) if reply.response < 0 else errno.ECONNREFUSED
            text = f"refused by {self._show(source)}"
            if number not in (ENAME, errno.ECONNREFUSED):
                text += f": {strerror(number)}"
            if self._answered_at is None:
                self._refused(request, number, text, now)
            elif request.refusal is None:
                request.refusal = number, text
                request.agenda = deque((now + REFUSAL_HELD,))
                self._make_way(request, now)
            return
        if repeated:
            request.former.remove(reply.to)
            self._move(request, reply.to)
        self._forget(request, now)
        self._established(request.end, Flow(request.endpoint, source, reply.endpoint), now)
        self._events.append(Connect(request.end, reply.endpoint, source))
        self._events.append(Allocated(request.end, reply.data))

    def unsent(self, message: FlowRequest, peer: bytes, number: int, text: str, now: float) -> None:
        """The request could not be sent to this machine."""
        request = self._waiting.get(message.endpoint)
        if request is not None and request.sent is not None and request.peer == peer:
            self._refused(request, number, text, now)

    def _refused(self, request: _Request, number: int, text: str, now: float, rest: float = 0.0) -> None:
        if len(request.holders) > 1:
            self._ask_next(request, now)
            return
        self._forget(request, now)
        self.endpoints.give_back(request.endpoint, now, rest)
        if number == ENAME:
            self._events.append(Doubt(request.name, request.peer))
        self._events.append(Refused(request.end, number, text))

    def _ask_next(self, request: _Request, now: float) -> None:
        self._events.append(Doubt(request.name, request.peer))
        self._leave_lane(request, now)
        request.holders.popleft()
        self._events.append(Open(request.end, request.endpoint, request.peer))
        self._enqueue(request, now)

    def expired(self, now: float) -> None:
        """`deadline` has passed."""
        for request in list(self._requests.values()):
            if request.agenda and request.agenda[0] <= now:
                self._unanswered(request, now)
        for peer in list(self._lanes):
            self._launch(peer, now)

    def _unanswered(self, request: _Request, now: float) -> None:
        assert request.sent is not None
        if request.refusal is not None:
            self._refused(request, *request.refusal, now)
            return
        while request.agenda and request.agenda[0] <= now:
            request.agenda.popleft()
        alive = self._answers(request)
        if not request.agenda and len(request.holders) > 1:
            self._ask_next(request, now)
        elif alive:
            request.agenda.clear()  # the machine waits for its process: the request waits until its process gives it up
            if len(request.holders) > 1:
                request.agenda.append(request.sent + FALLBACK)
        elif request.agenda:
            self._events.append(Ask(request.name))
        else:
            text = f"{self._show(request.peer)} had registered the name, and answers for it no longer"
            self._refused(request, ENAME, text, now, LATE)

    # ------------------------------------------------------------ requests of other machines

    def received(self, message: FlowRequest | FlowReply, source: bytes, now: float) -> None:
        """A message arrived."""
        if isinstance(message, FlowReply):
            self._reply(message, source, now)
            return
        if message.name_hash not in self._registered:
            self.counters.unregistered += 1
            if self._alone and not self._is_repeated(message, source, now):
                self._refuse(_IncomingRequest(source, message.endpoint, message.name_hash), ENAME, now)
            return  # else another IPCP on this device may have it: no answer
        if self._is_repeated(message, source, now):
            self.counters.repeated += 1
            return
        if (
            len(self._announced) + len(self._accepting) >= MAX_ARRIVALS
            or self._arriving[source] >= MAX_ARRIVALS_OF_ONE
        ):
            self.counters.crowded += 1
            return
        arrival = _IncomingRequest(source, message.endpoint, message.name_hash)
        if self._wanted[arrival.name] >= MAX_ARRIVALS_OF_NAME:
            self.counters.crowded += 1
            self._refuse(arrival, errno.EAGAIN, now)
            return
        self.counters.arrivals += 1
        self._ticket += 1
        self._announced[self._ticket] = arrival
        self._arriving[source] += 1
        self._wanted[arrival.name] += 1
        self._events.append(Announce(self._ticket, message.name_hash, message.qos, message.data, source))

    def _is_repeated(self, message: FlowRequest, source: bytes, now: float) -> bool:
        while self._seen and now - next(iter(self._seen.values())) >= REPLAY:
            self._seen.popitem(last=False)
        digest = blake2b(message.name_hash + message.data, digest_size=16).digest()
        key = (source, message.endpoint, digest)
        if key in self._seen:
            return True
        self._seen[key] = now
        if len(self._seen) > MAX_REMEMBERED:
            self._seen.popitem(last=False)
        return False

    def _arrived(self, arrival: _IncomingRequest) -> None:
        """The request waits for no process any more."""
        for counter, key in ((self._arriving, arrival.peer), (self._wanted, arrival.name)):
            counter[key] -= 1
            if not counter[key]:
                del counter[key]

    def announced(self, ticket: int, end: End, now: float) -> None:
        """The IRMd has a process for the request, and `end` is the local end. Raises NoEndpoint: then the request is refused."""
        arrival = self._announced.pop(ticket)
        endpoint = self.endpoints.take(now)
        if endpoint is None:
            self._arrived(arrival)
            self._messages.append((arrival.peer, FlowReply(0, arrival.peer_endpoint, -errno.ENOSPC)))
            raise NoEndpoint
        arrival.endpoint = endpoint
        self._accepting[end] = arrival
        self._events.append(Open(end, endpoint, arrival.peer))

    def turned_down(self, ticket: int, number: int, now: float) -> None:
        """The IRMd has no process for the request."""
        arrival = self._announced.pop(ticket)
        self._arrived(arrival)
        if number == errno.EALREADY:  # another request has taken its place
            self.counters.repeated += 1
            return
        # A refusal has an endpoint too, as those of a prototype have.
        arrival.endpoint = self.endpoints.take(now) or 0
        self._refuse(arrival, number, now)

    def responded(self, end: End, number: int, data: bytes, now: float) -> bool:
        """The process accepts (0), or refuses with an errno. False: no request waits for a response on `end`."""
        arrival = self._accepting.pop(end, None)
        if arrival is None:
            return False
        self._arrived(arrival)
        if number:
            self._refuse(arrival, number, now)
            return True
        self._established(end, Flow(arrival.endpoint, arrival.peer, arrival.peer_endpoint), now)
        self._events.append(Connect(end, arrival.peer_endpoint, arrival.peer))
        self._messages.append((arrival.peer, FlowReply(arrival.endpoint, arrival.peer_endpoint, 0, data)))
        return True

    def _established(self, end: End, flow: Flow, now: float) -> None:
        other_end = (flow.peer, flow.peer_endpoint)
        old = self._ends.get(other_end)
        if old is not None:
            self.counters.stale += 1
            self._end(old, now)
            self._events.append(Stale(old))
        self.flows[end] = flow
        self._ends[other_end] = end

    def _end(self, end: End, now: float, quiet: float = 0.0) -> None:
        flow = self.flows.pop(end)
        del self._ends[flow.peer, flow.peer_endpoint]
        self.endpoints.give_back(flow.endpoint, now, quiet=quiet)

    def _refuse(self, arrival: _IncomingRequest, number: int, now: float) -> None:
        self._messages.append(
            (arrival.peer, FlowReply(arrival.endpoint, arrival.peer_endpoint, -abs(number)))
        )
        self.endpoints.give_back(arrival.endpoint, now)

    # ------------------------------------------------------------ the end

    def deallocate(self, end: End, now: float, quiet: float = 0.0) -> None:
        """The local end has ended, in whatever state; the protocol has no message for it. The endpoint rests for `quiet`."""
        if end in self.flows:
            self._end(end, now, quiet)
            return
        request = self._requests.get(end)
        if request is not None:
            asked = request.sent is not None
            if asked and len(request.holders) == 1:
                self._events.append(Doubt(request.name, request.peer))
            self._forget(request, now)
            self.endpoints.give_back(request.endpoint, now, LATE)
            return
        arrival = self._accepting.pop(end, None)
        if arrival is not None:  # the process ended before it had accepted
            self._arrived(arrival)
            self._refuse(arrival, errno.ECONNREFUSED, now)
