"""The records of the IRMd's tables (paper 5.2): data, which the services share and change.

A record calls no service and does no I/O: its methods read or change its own fields. Records name each other, so they are one file; every
table and service of the IRMd imports it, and it imports none of them.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ouroboros.dataplane._dataplane import lib
from ouroboros.extension import Extension
from ouroboros.ipcp_types import IpcpType
from ouroboros.name_info import Requirement
from ouroboros.rpc.messages_pb2 import SHA3_256, SPILLOVER, Access, IpcpInfo

from .descriptors import Descriptor, Descriptors
from .flow import State, Step, advance
from .oap.credentials import Policy
from .oap.header import MAX_LENGTH
from .pace import NEVER, Pace

if TYPE_CHECKING:
    from ouroboros.rpc.aio_session import Session
    from ouroboros.rpc.messages_pb2 import Envelope, IpcpEnroll, QosSpec

    from .memory import Events, FlowMemory, Pool
    from .oap.requester import Outcome
    from .peer import Peer


@dataclass(slots=True, eq=False)
class RpcConnection:
    """A connection of a process to the IRMd; `kind` is None until its Hello has arrived."""

    session: Session
    peer: Peer
    pidfd: int
    trusted: bool
    """Whether it may manage the system and share its pool."""
    kind: int | None = None
    process: Process | None = None
    ipcp: Ipcp | None = None
    requests: dict[int, PendingRequest | asyncio.Task[Envelope] | None] = field(default_factory=dict)
    """Requests that are not answered yet. For those of management: the task if it can be cancelled, or None."""

    def __str__(self) -> str:
        return f"connection of pid {self.peer.pid} (uid {self.peer.uid})"


@dataclass(slots=True, eq=False)
class Process:
    """A process whose Hello has arrived and that has not exited."""

    token: int
    peer: Peer
    program: str
    """Real path of its program or script."""
    session: Session
    pool: Pool
    fds: Descriptors
    events: dict[int, Events] = field(default_factory=dict)
    """Event region by pool id: an application has one, an IPCP one for each trust domain."""
    user: int | None = None
    """The uid whose flows are counted, and whose pool it has; None for a process that shares the pool of the system."""
    ipcp: Ipcp | None = None
    names: dict[Name, None] = field(default_factory=dict)
    """Names it is bound to."""
    accepts: dict[PendingAccept, None] = field(default_factory=dict)
    """Its accepts that wait."""
    flows: dict[Descriptor, Flow] = field(default_factory=dict)
    """Flows by descriptor."""
    pending: dict[Descriptor, PendingRequest] = field(default_factory=dict)
    """Asynchronous requests by descriptor, until the process returns the descriptor."""
    known: set[tuple[int, int]] = field(default_factory=set)
    """Shared-memory objects (kind, id) that the IRMd has sent it."""
    pace: Pace = field(default_factory=Pace)
    """How it accepts."""
    disconnected: bool = False

    def __str__(self) -> str:
        return f"process {self.peer.pid} ({self.program})"


@dataclass(slots=True, eq=False)
class PendingRequest:
    """A request, its process, and how to cancel it. `descriptor` is reserved from the start.

    A synchronous request is answered under its `id`; an asynchronous one was answered immediately with the
    descriptor, and ends with a FlowDone notification.
    """

    connection: RpcConnection
    process: Process
    id: int
    descriptor: Descriptor
    asynchronous: bool
    timeout: float | None
    """The caller's time-out in seconds, or None."""
    require: Requirement = Requirement(0)
    """Of a request for a flow: its security, beyond what the name requires."""
    undo: Callable[[], None] | None = None
    """Cancels the work on the request; set while the request waits."""
    timer: asyncio.TimerHandle | None = None
    served: bool = False
    """Of an accept: it has a flow, and waits for the IPCP that provides it. Its time-out does not end it any more."""
    done: bool = False

    def end(self) -> None:
        """The request is answered or cancelled: no timer, nothing to undo."""
        self.done = True
        self.undo = None
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


@dataclass(slots=True, eq=False)
class PendingAccept:
    """The accept of a process, and the flow that it will get."""

    process: Process
    flow: Flow
    request: PendingRequest


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

    @property
    def quiet_s(self) -> int:
        """Seconds until no end keeps any state of the flow (Delta-t, spec/frcp 3); 0 without FRCP."""
        if self.qos is None or not self.qos.in_order:
            return 0
        return lib.frcp_sender_inactivity(self.mpl_ms)

    @property
    def is_checked(self) -> bool:
        """Whether its packets carry a CRC-32 (spec/protection 2), by a rule that gives both ends the same result: with FRCP where the
        extension was granted, else where the QoS allows no bit error. Members of a broadcast layer may have joined with different
        QoS, so there it is off, and packets in the memory of one system have no bit errors."""
        if self.ipcp is None or self.ipcp.inside or self.ipcp.type.row.is_joined or self.qos is None:
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


@dataclass(slots=True, eq=False)
class Ipcp:
    """An IPCP of this system, from the moment its process was forked."""

    name: str
    type: IpcpType
    pid: int
    instance: int
    """Never used again, unlike the pid."""
    pidfd: int
    session: Session
    up: asyncio.Future[None]
    """Done when it is in state boot, or has exited."""
    exited: asyncio.Future[None]
    """Done when its process has exited."""
    process: Process | None = None
    state: str = "init"
    layer: str = ""
    hash: int = SHA3_256
    enrolling_in: str | None = None
    """The layer that it is enrolling in, empty for any layer; None when it is not enrolling."""
    access: Access = field(default_factory=Access)
    """The rule by which its layer admits members."""
    progress: str = ""
    """The operation that is being tried again, and the reason."""
    options: dict[str, str] = field(default_factory=dict)
    """The options it was bootstrapped with."""
    enrolled: IpcpEnroll | None = None
    """The request by which it was enrolled."""
    connections: dict[tuple[str, str], QosSpec] = field(default_factory=dict)
    """The connections that were requested of it, by destination and component."""

    @property
    def query_timeout(self) -> float:
        """Seconds that it may take to answer whether its layer knows a name."""
        return self.type.row.query_timeout

    @property
    def handshake_octets(self) -> int:
        """Octets of a handshake that its layer certainly carries."""
        return self.type.row.handshake_octets or MAX_LENGTH

    @property
    def inside(self) -> bool:
        """Whether the packets of its layer stay in the memory of this system."""
        return self.type.row.is_inside

    @property
    def link(self) -> bool:
        """Whether its layer is a network that is not Ouroboros."""
        return self.type.row.is_link

    @property
    def measures_paths(self) -> bool:
        """Whether it offers to measure paths: only where a rate was asked for, so that requests are else those of a prototype."""
        return self.link and self.options.get("rate", "none") != "none"

    @property
    def operational(self) -> bool:
        """Whether it is a member of a layer and alive."""
        return self.state == "operational" and self.process is not None

    def info(self) -> IpcpInfo:
        """Its row in lists."""
        return IpcpInfo(
            pid=self.pid,
            instance=self.instance,
            name=self.name,
            type=self.type,
            layer=self.layer,
            hash=self.hash,  # type: ignore[arg-type]
            state=self.state,
            progress=self.progress,
            access=self.access if self.layer else None,
        )


@dataclass(slots=True, frozen=True)
class ProgramBinding:
    """A program that is bound to a name. `uid` and `gid` are those of the user who bound it, or of the user named in the request:
    it is started with them, and of the users who may not manage the system only that user's processes serve the name. A process
    reports its program itself, so the path proves nothing."""

    path: str
    auto: bool
    args: tuple[str, ...]
    uid: int
    gid: int


@dataclass(slots=True, eq=False)
class Name:
    """A name: the abstract object that processes are bound to and that is registered in layers."""

    name: str
    lb: int = SPILLOVER
    policy: Policy = Policy()
    programs: dict[str, ProgramBinding] = field(default_factory=dict)
    processes: dict[Process, None] = field(default_factory=dict)
    accepting: OrderedDict[PendingAccept, None] = field(default_factory=OrderedDict)
    """Accepts that wait, next to be served first."""
    registrations: dict[Ipcp, bytes] = field(default_factory=dict)
    """Hash by the IPCP that the name is registered with."""
    servers: dict[Process, None] = field(default_factory=dict)
    """Bound processes that have accepted before: a request waits for them, but not for those that have never accepted."""
    alive: bool = True
    """False once it has been destroyed: operations that have waited check it (spec/lessons 18)."""

    def startable(self) -> ProgramBinding | None:
        """The program to start on demand: the one that was bound last."""
        for binding in reversed(self.programs.values()):
            if binding.auto:
                return binding
        return None

    def enter(self, accept: PendingAccept) -> None:
        """A bound process waits in accept: at the tail for round-robin, at the head for spillover."""
        self.accepting[accept] = None
        if self.lb == SPILLOVER:
            self.accepting.move_to_end(accept, last=False)

    def expected_by(self, suits: Callable[[Process], bool], wait: float, longest: float) -> float:
        """Until when a bound process that suits and has accepted before may be expected to accept again (pace.py);
        pace.NEVER: there is none."""
        times = (server.pace.expected_by(wait, longest) for server in self.servers if suits(server))
        return max(times, default=NEVER)

    def newcomers_by(self, suits: Callable[[Process], bool], wait: float) -> float:
        """The same for bound processes that have never accepted and may be about to."""
        times = (
            process.pace.expected_by(wait, wait)
            for process in self.processes
            if process not in self.servers and suits(process)
        )
        return max(times, default=NEVER)

    def pick(self, suits: Callable[[Process], bool]) -> PendingAccept | None:
        """The next accept to serve, of those with a suitable process. It stays in the queue until `end_accept`."""
        for accept in self.accepting:
            if suits(accept.process):
                return accept
        return None
