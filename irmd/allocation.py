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
from typing import Generic, TypeVar

from ouroboros.errors import EIPCP, ENAME

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
        expected = self.bound.servers()
        if expected == NEVER:
            return self._start(now)
        self._enter(Phase.LOCAL_BOUND, max(expected, now + self._times.bound))
        return []

    def begin_requested(self, now: float) -> list[object]:
        """Start with the only layer, without a query (a join)."""
        self._enter(Phase.REQUESTED, now + self._times.layer)
        return [RequestFlow(self._layers[0])]

    def served(self) -> None:
        """A local accept takes the flow, or a layer grants it."""
        self.phase = Phase.DONE

    def bound_changed(self, now: float) -> list[object]:
        """A process was unbound, or has exited: if the allocation waited for that process alone, it goes on to the next phase."""
        reason = Fail(
            ENAME, f'the process bound to "{self.name}" has ended or was unbound, and no layer knows the name'
        )
        if self.phase is Phase.LOCAL_BOUND and self.bound.servers() == NEVER:
            self._reason = reason
            return self._start(now)
        if self.phase is Phase.LOCAL_NEW and self.bound.servers() == self.bound.newcomers() == NEVER:
            return self._fail(reason)
        return []

    def start_failed(self, now: float, error: int, text: str) -> list[object]:
        """The program could not be started, or ended before it accepted."""
        if self.phase is not Phase.LOCAL_STARTING:
            return []
        self._reason = Fail(error, text)
        return self._query(now)

    def answered(self, layer: Layer, known: bool, now: float, error: str = "") -> list[object]:
        """A layer answered whether it knows the name, or with an error; no answer in time is an expiry."""
        if self.phase is not Phase.QUERY:
            return []
        self._answers[layer] = known
        if error:
            self._errors.append(error)
        return self._choose(now)

    def refused(self, error: int, text: str) -> list[object]:
        """The layer, or the far end, refused."""
        return self._fail(Fail(error, text)) if self.phase is Phase.REQUESTED else []

    def cancel(self) -> None:
        """The caller cancelled or has exited: no further action follows."""
        self.phase = Phase.DONE

    def expired(self, now: float) -> list[object]:
        """`due` has passed."""
        if self.deadline is not None and now >= self.deadline and self.phase is not Phase.DONE:
            return self._fail(
                Fail(errno.ETIMEDOUT, f'no flow to "{self.name}" in the time given ({self.phase.value})')
            )
        if now < self._until:
            return []
        if self.waits_locally and (expected := self.bound.servers()) > now:
            self._until = expected  # the process served other requests meanwhile
            return []
        if self.phase is Phase.LOCAL_BOUND:
            self._reason = Fail(
                errno.ETIMEDOUT,
                f'a process is bound to "{self.name}", but did not accept within {self._times.bound:g} s',
            )
            return self._start(now)
        if self.phase is Phase.LOCAL_NEW:
            return self._fail(self._unknown)
        if self.phase is Phase.LOCAL_STARTING:
            self._reason = Fail(
                errno.ETIMEDOUT,
                f'the program started for "{self.name}" did not accept within {self._times.starting:g} s',
            )
            return self._query(now)
        if self.phase is Phase.QUERY:
            return self._choose(now)
        if self.phase is Phase.REQUESTED:
            return self._fail(
                Fail(
                    errno.ETIMEDOUT,
                    f'no answer to the request for a flow to "{self.name}" within {self._times.layer:g} s',
                )
            )
        return []

    # ------------------------------------------------------------ steps

    def _enter(self, phase: Phase, until: float) -> None:
        self.phase = phase
        self._until = until

    def _start(self, now: float) -> list[object]:
        if not self._startable:
            return self._query(now)
        self._enter(Phase.LOCAL_STARTING, now + self._times.starting)
        return [StartProgram()]

    def _query(self, now: float) -> list[object]:
        if not self._layers:
            return self._unserved(now)
        self._queried_at = now
        self._enter(Phase.QUERY, now + self._query_timeout(self._layers[0]))
        return [QueryLayers(self._layers)]

    def _choose(self, now: float) -> list[object]:
        """Choose the first layer, in order, that knows the name, unless one before it still has time to answer."""
        found = any(self._answers.values())
        for layer in self._layers:
            known = self._answers.get(layer)
            if known:
                self._enter(Phase.REQUESTED, now + self._times.layer)
                return [RequestFlow(layer)]
            if known is None:
                query_timeout = self._query_timeout(layer)
                limit = self._queried_at + (
                    min(query_timeout, self._times.preferred_wait) if found else query_timeout
                )
                if now < limit:
                    self._until = limit
                    return []
        return self._unserved(now)

    def _unserved(self, now: float) -> list[object]:
        """No layer knows the name: only a process that has connected just now may still accept."""
        expected = max(self.bound.newcomers(), self.bound.servers())  # it may have accepted during the query
        if self._reason is self._unknown and expected > now:
            self._enter(Phase.LOCAL_NEW, expected)
            return []
        reason = self._reason
        unanswered = [layer for layer in self._layers if layer not in self._answers]
        if unanswered and reason is self._unknown:
            reason = self._undecided(unanswered)
        return self._fail(Fail(reason.errno, "; ".join([reason.text, *self._errors])))

    def _undecided(self, unanswered: list[Layer]) -> Fail:
        """The refusal when a layer did not answer: it must not claim that the name is unknown."""
        names = " and ".join(self._describe(layer) for layer in unanswered)
        longest = max(map(self._query_timeout, unanswered))
        return Fail(
            errno.ETIMEDOUT, f'{names} did not answer within {longest:g} s whether "{self.name}" is known'
        )

    def _fail(self, reason: Fail) -> list[object]:
        self.phase = Phase.DONE
        return [reason]


def ipcp_exited(ipcp: str) -> Fail:
    """The refusal when an IPCP exited while a request needed it."""
    return Fail(EIPCP, f'IPCP "{ipcp}" has ended; `irm ipcp list` shows those that run')
