"""Flows and flow descriptors (paper 2.7, spec/rpc RPC-10).

A flow has an id that is unique in the system, and two ends: side 0 requested it (or is the application over
an IPCP), side 1 accepted it (or is the IPCP). Each end is a descriptor of its process. The states are a
table: a step that is not in it is refused with `IllegalTransition`.
"""

from __future__ import annotations

import errno
import heapq
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from ouroboros.extension import Extension
from ouroboros.flow_event import FlowEvent
from ouroboros.rpc.messages_pb2 import BROADCAST

from .refused import Refused

if TYPE_CHECKING:
    from ouroboros.rpc.messages_pb2 import QosSpec

    from .descriptors import Descriptor
    from .ipcp import Ipcp
    from .memory import Events, FlowMemory, Pool
    from .oap.requester import Outcome
    from .process import Process

_TOLD = int(FlowEvent.DOWN | FlowEvent.UP | FlowEvent.PEER)
FIRST_FD = 64
"""The first flow descriptor of a process (paper 5.3: lower ones are for the components of an IPCP)."""


_A_MS = 10_000
_R_MS = 120_000
"""Delta-t: the longest time until a packet is acknowledged, and for which one is sent again."""


class State(Enum):
    """States of a flow; lists show the values."""

    __hash__ = object.__hash__  # in C; that of Enum is in Python

    INIT = "init"
    ALLOC_PENDING = "alloc-pending"
    ACCEPT_PENDING = "accept-pending"
    ALLOCATED = "allocated"
    DEALLOC_PENDING = "dealloc-pending"
    DEALLOCATED = "deallocated"


class Step(Enum):
    """Steps that change the state of a flow."""

    __hash__ = object.__hash__

    ALLOC = "alloc"
    ACCEPT = "accept"
    GRANT = "grant"
    REFUSE = "refuse"
    DEALLOC = "dealloc"
    RELEASE = "release"


TRANSITIONS: dict[tuple[State, Step], State] = {
    (State.INIT, Step.ALLOC): State.ALLOC_PENDING,
    (State.INIT, Step.ACCEPT): State.ACCEPT_PENDING,
    (State.ALLOC_PENDING, Step.GRANT): State.ALLOCATED,
    (State.ALLOC_PENDING, Step.REFUSE): State.DEALLOCATED,
    (State.ACCEPT_PENDING, Step.GRANT): State.ALLOCATED,
    (State.ACCEPT_PENDING, Step.REFUSE): State.DEALLOCATED,
    (State.ALLOCATED, Step.DEALLOC): State.DEALLOC_PENDING,
    (State.DEALLOC_PENDING, Step.RELEASE): State.DEALLOCATED,
}


class IllegalTransition(Exception):
    """The IRMd tried a step that the table does not allow: a defect of the IRMd, never of a peer."""

    def __init__(self, state: State, step: Step) -> None:
        super().__init__(f"{step.value} is not legal for a flow that is {state.value}")
        self.state = state
        self.step = step


def advance(state: State, step: Step) -> State:
    """The state that `step` leads to from `state`. Raises IllegalTransition."""
    after = TRANSITIONS.get((state, step))
    if after is None:
        raise IllegalTransition(state, step)
    return after


class Numbers:
    """Hands out numbers, lowest free first, from `first` up to `first + limit - 1`."""

    __slots__ = ("_first", "_free", "_limit", "_next")

    def __init__(self, first: int, limit: int) -> None:
        self._first = first
        self._limit = limit
        self._next = first
        self._free: list[int] = []

    def take(self) -> int | None:
        """The lowest free number, or None when all are in use."""
        if self._free:
            return heapq.heappop(self._free)
        if self._next >= self._first + self._limit:
            return None
        self._next += 1
        return self._next - 1

    def give_back(self, number: int) -> None:
        """Return a number that `take` handed out."""
        heapq.heappush(self._free, number)
        if len(self._free) == self._next - self._first:  # all are free: forget the heap
            self._free.clear()
            self._next = self._first

    @property
    def used(self) -> int:
        """How many numbers are in use."""
        return self._next - self._first - len(self._free)


@dataclass(slots=True, eq=False)
class End:
    """One end of a flow: a descriptor of a process, and the event region that the peer signals."""

    process: Process
    descriptor: Descriptor
    events: Events
    open: bool = True

    @property
    def fd(self) -> int:
        """The number of its descriptor."""
        return self.descriptor.fd


@dataclass(slots=True, eq=False)
class Flow:
    """A flow of this system."""

    id: int
    state: State = State.INIT
    user: int | None = None
    """The uid of its requester, unless that user may manage the system."""
    name: str = ""
    layer: str = ""
    """Layer that carries it; empty for a direct flow."""
    requester: tuple[Process, Descriptor] | None = None
    """Process and descriptor that wait for it, for the lists, until it has ends."""
    ends: list[End] = field(default_factory=list)
    """Side 0, then side 1."""
    qos: QosSpec | None = None
    pool: Pool | None = None
    memory: FlowMemory | None = None
    mpl_ms: int = 0
    max_packet: int = 0
    down: bool = False
    ipcp: Ipcp | None = None
    """IPCP that provides it; None for a direct flow."""
    extensions: frozenset[int] = frozenset()
    """The extensions that the allocation handshake agreed on, by type."""
    cipher: int = 0
    key: bytes = field(default=b"", repr=False)
    """Key of its packets, from the handshake, until both ends have it; cipher 0: they are in the clear."""
    certificates: list[bytes] = field(default_factory=lambda: [b"", b""])
    """By side: the verified certificate of the other, DER."""
    path: bytes = b""
    """The IPCP that provides an accepted flow, and the address in its layer that the flow comes from; b"": not known."""
    confirming: bool = False
    """The IPCP has a request to deallocate its end, and has not answered yet."""

    @property
    def quiet_s(self) -> int:
        """Seconds until no end keeps any state of the flow (Delta-t, spec/frcp 3); 0 without FRCP."""
        if self.qos is None or not self.qos.in_order:
            return 0
        return (3 * self.mpl_ms + _A_MS + _R_MS) // 1000 + 1

    @property
    def is_checked(self) -> bool:
        """Whether its packets carry a CRC-32 (spec/protection 2), by a rule that gives both ends the same result: with FRCP where the
        extension was granted, else where the QoS allows no bit error. Members of a broadcast layer may have joined with different
        QoS, so there it is off, and packets in the memory of one system have no bit errors."""
        if self.ipcp is None or self.ipcp.inside or self.ipcp.type == BROADCAST or self.qos is None:
            return False
        if self.qos.in_order:
            return Extension.FRCP_CHECK in self.extensions
        return self.qos.ber == 0

    def side_of(self, process: Process, descriptor: Descriptor) -> int:
        """The side that is this end; a flow of a process with itself has both its ends there."""
        end = self.ends[1]
        return 1 if end.process is process and end.descriptor == descriptor else 0

    def secure(self, side: int, outcome: Outcome) -> None:
        """Set the outcome of the handshake for the process at `side`."""
        self.extensions, self.cipher, self.key = outcome.extensions, outcome.cipher, outcome.key
        self.certificates[side] = outcome.certificate

    def step(self, step: Step) -> None:
        """Take one step of the table. Raises IllegalTransition."""
        self.state = advance(self.state, step)

    def notify(self, events: int) -> None:
        """Notify side 0 of an event that the layer reported. Raises ValueError."""
        if not events or events & ~_TOLD or events & FlowEvent.UP and events != FlowEvent.UP:
            raise ValueError(f"{events:#x} is not DOWN, UP, or PEER of a flow")
        assert self.memory is not None
        self.down = events != FlowEvent.UP
        self.memory.raise_event(0, FlowEvent(events), link=True)


class FlowTable:
    """All flows of the system, by id. Raises Refused(ENOSPC) when the system's limit is reached, and earlier for one user: a
    user who may not manage the system gets at most half of the flows, which leaves the others for other users."""

    def __init__(self, limit: int) -> None:
        self._ids = Numbers(1, limit)
        self._limit = limit
        self.flows: dict[int, Flow] = {}
        self._of: dict[int, int] = {}

    def create(self, step: Step, *, user: int | None = None) -> Flow:
        """A new flow that is `alloc-pending` or `accept-pending`. `user` is the requester's uid, None when that user may manage the system."""
        if user is not None and self._of.get(user, 0) >= self._limit // 2:
            raise Refused(
                errno.ENOSPC,
                f"user {user} has {self._of[user]} flows already, half of what the system can have; see flows in table "
                "[irmd] of the configuration",
            )
        number = self._ids.take()
        if number is None:
            raise Refused(
                errno.ENOSPC,
                f"the system has {self._limit} flows already; see flows in table [irmd] of the configuration",
            )
        flow = Flow(number, user=user)
        if user is not None:
            self._of[user] = self._of.get(user, 0) + 1
        flow.step(step)
        self.flows[number] = flow
        return flow

    def remove(self, flow: Flow) -> None:
        """Remove a deallocated flow; from now on its id may be used again."""
        if flow.state is not State.DEALLOCATED:
            raise IllegalTransition(flow.state, Step.RELEASE)
        del self.flows[flow.id]
        if flow.user is not None:
            self._of[flow.user] -= 1
            if not self._of[flow.user]:
                del self._of[flow.user]
        self._ids.give_back(flow.id)
