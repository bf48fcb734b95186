"""The allocation of one flow, as a state machine without I/O (docs/design/wire.md, spec/rpc 4).

Events and expiries are inputs, each with `now`; actions are the output, and `due` is the time to call `expired`.

    LOCAL_BOUND     a process that is bound to the name is between two accepts: up to 1 s after its last accept, or
                    twice the pause between its last two (pace.py). While the process goes on accepting, the
                    request waits for its turn, until the caller's deadline
    LOCAL_STARTING  the bound program was started and has not accepted yet: up to 5 s, and then as LOCAL_BOUND
    QUERY           all layers were queried for the name together. The first in order that knows it is chosen. A
                    layer without an answer delays those after it for `preferred_wait`, the prototype's query
                    time-out; after that only while no other layer knows the name, up to its type's time-out.
    LOCAL_NEW       no layer knows the name, and no program can be started, but a process that is bound to it has
                    connected and has never accepted: up to 1 s. Such a process, which may be the requester itself,
                    delays no other phase
    REQUESTED       a layer has the request for the flow: until the caller's deadline, or 20 s
    DONE            served, refused, or given up

A request from an IPCP (a flow for a local process) is the same machine without layers.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Generic, TypeVar

from ouroboros.errors import EIPCP, ENAME
from ouroboros.machine import Condition, Move, Table, find_move

from .pace import NEVER

Layer = TypeVar("Layer")


class Phase(Enum):
    """Phases of an allocation."""

    NEW = "new"
    LOCAL_BOUND = "waiting for an accept"
    LOCAL_STARTING = "starting the program"
    QUERY = "asking the layers"
    LOCAL_NEW = "waiting for a first accept"
    REQUESTED = "requested from a layer"
    DONE = "done"


class Event(Enum):
    """Inputs of an allocation."""

    BEGIN = "begin"
    JOIN = "begin, with the only layer and without a query"
    UNBOUND = "a process was unbound, or has exited"
    START_FAILED = "the program did not start, or exited before it accepted"
    ANSWERED = "a layer answered the query"
    REFUSED = "the layer, or the far end, refused"
    EXPIRED = "the time of the phase has passed"
    DEADLINE = "the deadline of the caller has passed"
    CLOSED = "the flow was accepted or granted, or the caller cancelled or has exited"


@dataclass(slots=True, frozen=True)
class Times:
    """How long each phase may take, in seconds (docs/design/wire.md, docs/reference/irmd.md).

    `layer`: also the longest time that a request from a layer waits for an accept. `preferred_wait`: how long a layer that
    knows the name waits for preferred layers, from the query on.
    """

    bound: float = 1.0
    starting: float = 5.0
    preferred_wait: float = 0.2
    layer: float = 20.0


@dataclass(slots=True, frozen=True)
class StartProgram:
    """Start the program that is bound to the name, unless it is being started."""


@dataclass(slots=True, frozen=True)
class QueryLayers(Generic[Layer]):
    """Query these layers for the name."""

    layers: tuple[Layer, ...]


@dataclass(slots=True, frozen=True)
class RequestFlow(Generic[Layer]):
    """Request the flow from this layer."""

    layer: Layer


@dataclass(slots=True, frozen=True)
class Fail:
    """Refuse the request, and undo its effects."""

    errno: int
    text: str


@dataclass(slots=True, frozen=True)
class Bound:
    """Times that depend on the suitable processes bound to the name, computed at each call: until when one that has accepted
    before is expected to accept again, and until when one that never has is. pace.NEVER: there is none."""

    servers: Callable[[], float] = lambda: NEVER
    newcomers: Callable[[], float] = lambda: NEVER


class Allocation(Generic[Layer]):
    """One flow being allocated.

    `bound`: the processes that may accept it; `startable`: a program can be started for it; `layers`: the layers to query, in order
    of preference, with the `query_timeout` of each, and `describe` its name in an error; `deadline`: the caller's, or None;
    `unknown`: the refusal when no process has ever accepted, and no layer knows the name.
    """

    __slots__ = (
        "_answers",
        "_queried_at",
        "_describe",
        "_layers",
        "_query_timeout",
        "_reason",
        "_startable",
        "_times",
        "_errors",
        "_unknown",
        "_until",
        "bound",
        "deadline",
        "name",
        "phase",
    )

    def __init__(
        self,
        name: str,
        *,
        bound: Bound,
        startable: bool,
        layers: Sequence[Layer],
        query_timeout: Callable[[Layer], float],
        deadline: float | None,
        unknown: Fail,
        times: Times,
        describe: Callable[[Layer], str] = str,
    ) -> None:
        self.name = name
        self.phase = Phase.NEW
        self.bound = bound
        self._startable = startable
        self._layers = tuple(layers)
        self._query_timeout = query_timeout
        self._describe = describe
        self._queried_at = 0.0
        self._answers: dict[Layer, bool] = {}
        self.deadline = deadline
        self._reason = self._unknown = unknown
        self._times = times
        self._errors: list[str] = []
        self._until = 0.0

    @property
    def due(self) -> float | None:
        """When to call `expired`; None when done."""
        if self.phase is Phase.DONE:
            return None
        return self._until if self.deadline is None else min(self._until, self.deadline)

    @property
    def waits_locally(self) -> bool:
        """Whether an accept that begins now would serve this allocation."""
        return self.phase in (Phase.LOCAL_BOUND, Phase.LOCAL_STARTING, Phase.LOCAL_NEW)

    # ------------------------------------------------------------ inputs

    def begin(self, now: float) -> list[object]:
        """Start: no process is accepting at this moment."""
        return self._take(Event.BEGIN, now)

    def begin_requested(self, now: float) -> list[object]:
        """Start with the only layer, without a query (a join)."""
        return self._take(Event.JOIN, now)

    def served(self) -> None:
        """A local accept takes the flow, or a layer grants it."""
        self._take(Event.CLOSED)

    def bound_changed(self, now: float) -> list[object]:
        """A process was unbound, or has exited: if the allocation waited for that process alone, it goes on to the next phase."""
        reason = f'the process bound to "{self.name}" has ended or was unbound, and no layer knows the name'
        return self._take(Event.UNBOUND, now, Fail(ENAME, reason))

    def start_failed(self, now: float, error: int, text: str) -> list[object]:
        """The program could not be started, or ended before it accepted."""
        return self._take(Event.START_FAILED, now, Fail(error, text))

    def answered(self, layer: Layer, known: bool, now: float, error: str = "") -> list[object]:
        """A layer answered whether it knows the name, or with an error; no answer in time is an expiry."""
        if self.phase is Phase.QUERY:
            self._answers[layer] = known
            if error:
                self._errors.append(error)
        return self._take(Event.ANSWERED, now)

    def refused(self, error: int, text: str) -> list[object]:
        """The layer, or the far end, refused."""
        return self._take(Event.REFUSED, reason=Fail(error, text))

    def cancel(self) -> None:
        """The caller cancelled or has exited: no further action follows."""
        self._take(Event.CLOSED)

    def expired(self, now: float) -> list[object]:
        """`due` has passed."""
        if self.deadline is not None and now >= self.deadline:
            text = f'no flow to "{self.name}" in the time given ({self.phase.value})'
            return self._take(Event.DEADLINE, now, Fail(errno.ETIMEDOUT, text))
        if now < self._until:
            return []
        text = _EXPIRED.get(self.phase, "").format(name=self.name, times=self._times)
        reason = Fail(errno.ETIMEDOUT, text) if text else None
        return self._take(Event.EXPIRED, now, reason)

    def _take(self, event: Event, now: float = 0.0, reason: Fail | None = None) -> list[object]:
        """Make the first move of the table whose condition holds; an event without one has no effect. `reason`: of the refusal that may
        follow in a later phase."""
        before, self._reason = self._reason, reason or self._reason
        move = find_move(MOVES, self.phase, event, self, now)
        if move is None or move.after is self.phase:
            self._reason = before
        if move is None:
            return []
        self.phase = move.after
        return move.action(self, now)

    def _choice(self, now: float) -> tuple[Layer | None, float | None]:
        """The first layer, in order, that knows the name; or until when one before it still has time to answer."""
        found = any(self._answers.values())
        for layer in self._layers:
            known = self._answers.get(layer)
            if known:
                return layer, None
            if known is None:
                longest = self._query_timeout(layer)
                limit = self._queried_at + (min(longest, self._times.preferred_wait) if found else longest)
                if now < limit:
                    return None, limit
        return None, None

    def _newcomers_by(self) -> float:
        return max(self.bound.newcomers(), self.bound.servers())  # it may have accepted during the query

    # ------------------------------------------------------------ actions

    def _none(self, now: float) -> list[object]:
        """none"""
        return []

    def _await_accept(self, now: float) -> list[object]:
        """wait for its accept"""
        self._until = max(self.bound.servers(), now + self._times.bound)
        return []

    def _prolong(self, now: float) -> list[object]:
        """wait for its next accept"""
        self._until = self.bound.servers()
        return []

    def _await_newcomer(self, now: float) -> list[object]:
        """wait for its first accept"""
        self._until = self._newcomers_by()
        return []

    def _start(self, now: float) -> list[object]:
        """start the program"""
        self._until = now + self._times.starting
        return [StartProgram()]

    def _query(self, now: float) -> list[object]:
        """query all layers"""
        self._queried_at = now
        self._until = now + self._query_timeout(self._layers[0])
        return [QueryLayers(self._layers)]

    def _await_answer(self, now: float) -> list[object]:
        """wait for its answer"""
        self._until = self._choice(now)[1] or now
        return []

    def _request(self, now: float) -> list[object]:
        """request the flow from that layer"""
        layer = self._choice(now)[0]
        self._until = now + self._times.layer
        return [RequestFlow(self._layers[0] if layer is None else layer)]

    def _fail(self, now: float) -> list[object]:
        """refuse"""
        return [self._reason]

    def _unserved(self, now: float) -> list[object]:
        """refuse, with the errors of the layers"""
        reason = self._reason
        unanswered = [layer for layer in self._layers if layer not in self._answers]
        if unanswered and reason is self._unknown:  # the refusal must not claim that the name is unknown
            names = " and ".join(self._describe(layer) for layer in unanswered)
            longest = max(map(self._query_timeout, unanswered))
            text = f'{names} did not answer within {longest:g} s whether "{self.name}" is known'
            reason = Fail(errno.ETIMEDOUT, text)
        return [Fail(reason.errno, "; ".join([reason.text, *self._errors]))]


_EXPIRED = {
    Phase.LOCAL_BOUND: 'a process is bound to "{name}", but did not accept within {times.bound:g} s',
    Phase.LOCAL_STARTING: 'the program started for "{name}" did not accept within {times.starting:g} s',
    Phase.REQUESTED: 'no answer to the request for a flow to "{name}" within {times.layer:g} s',
}
"""The reason of a refusal, by the phase that has taken too long."""


_A = Allocation
_Moves = tuple[Move[Phase, list[object], Allocation[Any], float], ...]
_SERVERS = Condition("a bound process has accepted before", lambda one, now: one.bound.servers() != NEVER)
_EXPECTED = Condition("one is expected to accept again", lambda one, now: one.bound.servers() > now)
_BOUND = Condition("a process is bound that may accept", lambda one, now: one._newcomers_by() != NEVER)
_STARTABLE = Condition("a program can be started", lambda one, now: one._startable)
_LAYERS = Condition("there are layers", lambda one, now: bool(one._layers))
_KNOWN = Condition("a layer knows the name", lambda one, now: one._choice(now)[0] is not None)
_UNDECIDED = Condition("a preferred one may still answer", lambda one, now: one._choice(now)[1] is not None)
_NEWCOMER = Condition(
    "a process that has never accepted may be about to, and nothing has failed",
    lambda one, now: one._reason is one._unknown and one._newcomers_by() > now,
)

_UNSERVED: _Moves = (Move(Phase.LOCAL_NEW, _A._await_newcomer, _NEWCOMER), Move(Phase.DONE, _A._unserved))
_ASK = (Move(Phase.QUERY, _A._query, _LAYERS), *_UNSERVED)
_START = (Move(Phase.LOCAL_STARTING, _A._start, _STARTABLE), *_ASK)
_CHOOSE = (
    Move(Phase.REQUESTED, _A._request, _KNOWN),
    Move(Phase.QUERY, _A._await_answer, _UNDECIDED),
    *_UNSERVED,
)
_REFUSE: _Moves = (Move(Phase.DONE, _A._fail),)

MOVES: Table[Phase, Event, list[object], Allocation[Any], float] = {
    (Phase.NEW, Event.BEGIN): (Move(Phase.LOCAL_BOUND, _A._await_accept, _SERVERS), *_START),
    (Phase.NEW, Event.JOIN): (Move(Phase.REQUESTED, _A._request),),
    (Phase.LOCAL_BOUND, Event.UNBOUND): (Move(Phase.LOCAL_BOUND, _A._none, _SERVERS), *_START),
    (Phase.LOCAL_BOUND, Event.EXPIRED): (Move(Phase.LOCAL_BOUND, _A._prolong, _EXPECTED), *_START),
    (Phase.LOCAL_STARTING, Event.START_FAILED): _ASK,
    (Phase.LOCAL_STARTING, Event.EXPIRED): (Move(Phase.LOCAL_STARTING, _A._prolong, _EXPECTED), *_ASK),
    (Phase.QUERY, Event.ANSWERED): _CHOOSE,
    (Phase.QUERY, Event.EXPIRED): _CHOOSE,
    (Phase.LOCAL_NEW, Event.UNBOUND): (Move(Phase.LOCAL_NEW, _A._none, _BOUND), *_REFUSE),
    (Phase.LOCAL_NEW, Event.EXPIRED): (Move(Phase.LOCAL_NEW, _A._prolong, _EXPECTED), *_REFUSE),
    (Phase.REQUESTED, Event.REFUSED): _REFUSE,
    (Phase.REQUESTED, Event.EXPIRED): _REFUSE,
    **{(phase, Event.DEADLINE): _REFUSE for phase in Phase if phase is not Phase.DONE},
    **{(phase, Event.CLOSED): (Move(Phase.DONE, _A._none),) for phase in Phase},
}
"""The moves from a phase with an event: the first whose condition holds is made. An event that is not here has no effect."""


def ipcp_exited(ipcp: str) -> Fail:
    """The refusal when an IPCP exited while a request needed it."""
    return Fail(EIPCP, f'IPCP "{ipcp}" has ended; `irm ipcp list` shows those that run')
