"""Flow allocation, acceptance and deallocation (paper 2.11, 2.12.2; spec/rpc 4).

The shell around the registry, the allocation machines and shared memory: requests and accepts of processes of this
system (incoming.py has flows that IPCPs announce), and the end of flows. All of it runs inside the reader callback of a
connection: a flow between two local processes is made and answered without a task or a future in between.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from ouroboros.errors import EIPCP
from ouroboros.qos import UINT32_MAX, QoSSpec
from ouroboros.rpc.messages_pb2 import Envelope, FlowAlloc, QosSpec, SegmentGone

from .allocation import Allocation, Bound, Fail, Times
from .descriptors import Descriptor, Late
from .endpoints import Endpoints
from .flow import State, Step
from .flow_table import FlowTable
from .incoming import IncomingAllocations
from .layers import broadcast, layers_for, unreachable
from .oap import offer
from .outgoing import OutgoingAllocation
from .pending_requests import PendingRequests
from .records import Connection, Flow, Ipcp, Name, PendingAccept, PendingRequest, Process, ProgramBinding
from .refused import Refused
from .registry import Registry, check_name
from .waiting import Waiting

if TYPE_CHECKING:
    from .memory import Memory
    from .oap.oap import Oap
    from .superserver import SuperServer

log = logging.getLogger("irmd/flow")

DIRECT_MPL_MS = 1
"""Maximum packet lifetime of a direct flow (spec/rpc RPC-10)."""
JOINED = QoSSpec(loss=UINT32_MAX, ber=UINT32_MAX, timeout=0).to_proto()
"""QoS of a flow to a broadcast layer (spec/common 5)."""
MAX_QUIET_S = 3600


class Broker:
    """Matches requests for flows with accepts.

    `trusts(uid)`: whether a program started as that user would share the system pool.
    """

    superserver: SuperServer

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        memory: Memory,
        registry: Registry,
        ipcps: dict[int, Ipcp],
        *,
        max_flows: int,
        times: Times,
        trusts: Callable[[int], bool],
        late: Late,
        oap: Oap,
    ) -> None:
        self.loop = loop
        self.registry = registry
        self.times = times
        self.flows = FlowTable(max_flows)
        self.endpoints = Endpoints(
            memory, self.flows, dealloc_at_provider=self._dealloc_at_provider, announce=self._announce
        )
        self.requested: dict[Flow, OutgoingAllocation] = {}
        """Flows that an IPCP has a request for and has not answered."""
        self._ipcps = ipcps
        self._trusts = trusts
        self._system_pool = memory.pool(0, trusted=True)
        self.oap = oap
        self.late = late
        self.requests = PendingRequests(self.endpoints, self.late)
        self.waiting = Waiting()
        self.incoming = IncomingAllocations(self)

    # ------------------------------------------------------------ alloc

    def flow_alloc(self, connection: Connection, envelope: Envelope) -> None:
        """A process requests a flow to a name."""
        body = envelope.flow_alloc
        entry = self.registry.names.get(body.dst)
        request = self.requests.begin(connection, envelope, body)
        process = request.process
        if process.ipcp is None and not body.layer and entry is not None:
            accept = entry.pick(partial(self.may_be_direct, process))
            if accept is not None:
                self.connect(request, accept, entry.name, body.qos)
                return
        try:
            if entry is None:
                check_name(body.dst)
            allocation = self._outgoing(request, body, entry)
        except Refused as refused:
            self.requests.fail(request, refused.errno, refused.text)
            return
        allocation.run(allocation.machine.begin(self.loop.time()))

    def _outgoing(self, request: PendingRequest, body: FlowAlloc, entry: Name | None) -> OutgoingAllocation:
        process = request.process
        layers = layers_for(self._ipcps.values(), process, body.layer)
        bound, startable = Bound(), False
        suits = partial(self.may_be_direct, process)
        if process.ipcp is None and not body.layer and entry is not None:
            bound = self.bound(entry, suits)
            binding = entry.startable()
            startable = binding is not None and self._same_domain(process, binding)
        machine = Allocation(
            body.dst,
            bound=bound,
            startable=startable,
            layers=layers,
            query_timeout=lambda ipcp: ipcp.query_time,
            deadline=None if request.timeout is None else self.loop.time() + request.timeout,
            unknown=unreachable(
                body.dst,
                body.layer,
                entry,
                layers,
                process,
                near=[] if entry is None else [other for other in entry.processes if suits(other)],
                starting=entry is not None and self.registry.expects(entry),
            ),
            times=self.times,
            describe=lambda ipcp: f'IPCP "{ipcp.name}" of layer "{ipcp.layer}"',
        )
        return OutgoingAllocation(self, body.dst, entry, machine, request, body.qos)

    def bound(self, entry: Name, suits: Callable[[Process], bool]) -> Bound:
        """The processes that are bound to a name and suit a request."""
        times = self.times

        def servers() -> float:
            if entry.pick(suits) is not None:
                return self.loop.time() + times.bound
            return entry.expected_by(suits, times.bound, times.layer)

        def newcomers() -> float:
            known = entry.newcomers_by(suits, times.bound)
            return self.loop.time() + times.bound if self.registry.expects(entry) else known

        return Bound(servers, newcomers)

    def may_be_direct(self, process: Process, other: Process) -> bool:
        """Whether two processes may share a flow without an IPCP: same pool, and neither is an IPCP (layers
        are built over layers)."""
        return other.ipcp is None and process.ipcp is None and other.pool is process.pool

    def limited(self, process: Process) -> int | None:
        """The uid whose flows are counted: of a process that does not share the pool of the system; None for the others."""
        return None if process.pool is self._system_pool else process.peer.uid

    def _same_domain(self, process: Process, binding: ProgramBinding) -> bool:
        """Whether the program, once started, would share a pool with `process`."""
        if self._trusts(binding.uid):
            return process.pool is self._system_pool
        return process.pool is not self._system_pool and process.peer.uid == binding.uid

    def connect(self, request: PendingRequest, accept: PendingAccept, name: str, qos: QosSpec) -> None:
        """A direct flow: the flow of the accept serves both (paper Fig. 4)."""
        flow, pool = accept.flow, request.process.pool
        try:
            outcomes = self.oap.direct(name, self.registry.name(name).policy)
        except Refused as refused:
            self.requests.fail(request, refused.errno, refused.text)
            return
        try:
            self.endpoints.open(
                flow,
                request.process,
                request.descriptor,
                accept.process,
                accept.request.descriptor,
                pool,
            )
        except (OSError, MemoryError) as error:
            self.requests.fail(request, errno.ENOMEM, f"no shared memory for another flow: {error}")
            return
        try:
            flow.step(Step.GRANT)
            flow.name = name
            flow.qos = QosSpec()
            flow.qos.CopyFrom(qos)
            flow.mpl_ms = DIRECT_MPL_MS
            for side, outcome in enumerate(outcomes):
                flow.secure(side, outcome)
            flow.extensions = offer.fitting(qos, inside=True)
            flow.max_packet = self.endpoints.max_packet(pool)
            self.end_accept(accept)
            self.requests.grant(accept.request, flow, 1)
            self.requests.grant(request, flow, 0)
        except BaseException:
            # A defect: the client has no flow; the server goes on waiting, or has one that is down.
            self.endpoints.close(flow, 0, orderly=False)
            if not accept.request.done:
                self.endpoints.close(flow, 1, orderly=False)
                self.waits_again(accept)
            raise

    def waits_again(self, accept: PendingAccept) -> None:
        """The flow of an accept has ended before its process got it: the accept goes on waiting."""
        if accept in accept.process.accepts:
            self.registry.end_accept(accept)
        self.accept_again(accept.request)

    # ------------------------------------------------------------ join

    def flow_join(self, connection: Connection, envelope: Envelope) -> None:
        """A process joins a broadcast layer (spec/rpc RPC-17). No single peer could keep the QoS of such
        a flow, so it has none (spec/broadcast 2)."""
        body = envelope.flow_join
        request = self.requests.begin(connection, envelope, body)
        try:
            ipcp = broadcast(self._ipcps.values(), request.process, body.layer)
            machine = Allocation(
                body.layer,
                bound=Bound(),
                startable=False,
                layers=[ipcp],
                query_timeout=lambda ipcp: ipcp.query_time,
                deadline=None if request.timeout is None else self.loop.time() + request.timeout,
                unknown=Fail(EIPCP, f'no layer "{body.layer}"'),
                times=self.times,
            )
            allocation = OutgoingAllocation(self, body.layer, None, machine, request, JOINED, joining=True)
        except Refused as refused:
            self.requests.fail(request, refused.errno, refused.text)
            return
        allocation.run(machine.begin_requested(self.loop.time()))

    # ------------------------------------------------------------ accept

    def flow_accept(self, connection: Connection, envelope: Envelope) -> None:
        """A process waits for a flow to any name it is bound to; bound to none it waits until it is."""
        request = self.requests.begin(connection, envelope, envelope.flow_accept)
        try:
            accept = self._accepting(request)
        except Refused as refused:
            self.requests.fail(request, refused.errno, refused.text)
            return
        self.superserver.accepted(request.process)
        if (
            request.timeout is not None
        ):  # also for a served one: if its flow ends first, the accept goes on waiting
            request.timer = self.loop.call_later(request.timeout, self._accept_expired, request)
        self.waiting.serve(accept)

    def _accepting(self, request: PendingRequest) -> PendingAccept:
        accept = PendingAccept(
            request.process, self.flows.create(Step.ACCEPT, user=self.limited(request.process)), request
        )
        accept.flow.requester = (request.process, request.descriptor)
        request.process.pace.accept(self.loop.time())
        self.registry.begin_accept(accept)
        request.undo = partial(self._cancel_accept, accept)
        return accept

    def end_accept(self, accept: PendingAccept) -> None:
        """An accept gets a flow."""
        accept.process.pace.served(self.loop.time())
        self.registry.end_accept(accept)

    def accept_again(self, request: PendingRequest) -> None:
        """An accept goes back to waiting."""
        try:
            accept = self._accepting(request)
        except Refused as refused:
            self.requests.fail(request, refused.errno, refused.text)
            return
        self.waiting.serve(accept)

    def binding_added(self, process: Process) -> None:
        """A process was bound to another name: its accepts may serve requests that wait for that name."""
        for accept in list(process.accepts):
            if accept in process.accepts:
                self.waiting.serve(accept)

    def _accept_expired(self, request: PendingRequest) -> None:
        request.timer = None
        if request.undo is not None:
            request.undo()
            self.requests.fail(request, errno.ETIMEDOUT, "no flow arrived in the time given")

    def _cancel_accept(self, accept: PendingAccept) -> None:
        if accept in accept.process.accepts:
            self.registry.end_accept(accept)
        flow = accept.flow
        if flow.memory is not None:  # an IPCP was being attached to it
            self.endpoints.close(flow, 0, orderly=False)
        else:
            flow.step(Step.REFUSE)
            self.flows.remove(flow)

    def recheck(self, entry: Name) -> None:
        """A process was unbound from a name, or the name was destroyed."""
        self.waiting.recheck(entry, self.loop.time())

    def start_failed(self, name: str, error: int, text: str) -> None:
        """A program that was started will not accept."""
        entry = self.registry.names.get(name)
        if entry is not None:
            self.waiting.start_failed(entry, self.loop.time(), error, text)

    # ------------------------------------------------------------ from IPCPs

    def ipcp_flow_alloc_reply(self, connection: Connection, envelope: Envelope) -> None:
        """An IPCP reports the outcome of a requested allocation."""
        body, process = envelope.ipcp_flow_alloc_reply, connection.process
        flow = None if process is None else process.flows.get(Descriptor(body.fd, body.instance))
        allocation = None if flow is None else self.requested.get(flow)
        if allocation is None:
            self.late["ipcp_flow_alloc_reply"] += 1
            raise Refused(errno.ENOENT, f"no allocation is pending on descriptor {body.fd}")
        if envelope.id:
            connection.session.reply(envelope, Envelope())
        allocation.replied(body)

    # ------------------------------------------------------------ dealloc

    def flow_dealloc(self, connection: Connection, envelope: Envelope) -> None:
        """A process returns a descriptor: of a flow, or of an allocation that is pending or has failed."""
        body, process = envelope.flow_dealloc, connection.process
        if process is None:
            raise Refused(errno.EPERM, "only a process whose Hello names an application has flows")
        if envelope.id:
            connection.session.reply(envelope, Envelope())
        descriptor = Descriptor(body.fd, body.instance)
        flow = process.flows.get(descriptor)
        request = process.pending.pop(descriptor, None)
        if request is not None:
            if request.undo is not None:
                request.undo()
            request.finish()
        elif flow is not None and flow.state not in (State.ALLOC_PENDING, State.ACCEPT_PENDING):
            side = flow.side_of(process, descriptor)
            self.endpoints.close(flow, side, orderly=True, quiet_s=min(body.quiet_s, MAX_QUIET_S))
        elif flow is not None and flow.ends[1].process is process:
            self._provider_deallocated(flow)
            return
        else:
            self.late["flow_dealloc"] += 1
            return
        process.fds.give_back(descriptor)

    def _provider_deallocated(self, flow: Flow) -> None:
        """An IPCP deallocates a flow before it is allocated."""
        self.provider_closed(flow)
        allocation = self.requested.get(flow)
        if allocation is not None:
            allocation.deallocated()

    def provider_closed(self, flow: Flow) -> None:
        """The IPCP of a flow has deallocated its end."""
        end = flow.ends[1]
        if end.open:
            self.endpoints.close(flow, 1, orderly=True)
            end.process.fds.give_back(end.descriptor)

    def _dealloc_at_provider(self, flow: Flow, quiet_s: int) -> None:
        """Request that the IPCP deallocates its end. Its slot is kept until the IPCP confirms or exits: without a time limit,
        because the IPCP may still write to the slot."""
        envelope = Envelope()
        body = envelope.ipcp_flow_dealloc
        body.fd, body.instance = flow.ends[1].descriptor
        body.quiet_s = quiet_s
        assert flow.ipcp is not None

        def confirmed(reply: Envelope | None, _fds: list[int]) -> None:
            if reply is not None:
                self.provider_closed(flow)

        flow.ipcp.session.request(envelope, confirmed, timeout=None)

    # ------------------------------------------------------------ the end of a process

    def process_disconnected(self, connection: Connection) -> None:
        """The session of a process is over: its pending requests are cancelled, its flows go down."""
        process = connection.process
        assert process is not None
        process.disconnected = True
        self.requests.abandon(connection)
        names = list(process.names)
        self.registry.remove_process(process)
        for name in names:
            self.recheck(name)
        if process.ipcp is not None:
            self._ipcp_disconnected(process.ipcp, connection)
        for descriptor, flow in list(process.flows.items()):
            self.endpoints.close(flow, flow.side_of(process, descriptor), orderly=False)
        self.endpoints.disconnected(process)

    def _ipcp_disconnected(self, ipcp: Ipcp, connection: Connection) -> None:
        ipcp.process = None  # it provides no flows any more, though its process may still run
        for flow, allocation in list(self.requested.items()):
            if flow.ipcp is ipcp:
                allocation.ipcp_disconnected(ipcp)
        self.incoming.ipcp_disconnected(connection)

    def _announce(self, message: SegmentGone) -> None:
        """Notify each process that has mapped one of these objects to unmap it."""
        released = {(1, number) for number in message.segments}
        released |= {(2, number) for number in message.events}
        released |= {(0, number) for number in message.pools}
        if not released:
            return
        for process in self.registry.processes.values():
            if not process.known.isdisjoint(released):
                process.known -= released
                process.session.send(Envelope(segment_gone=message))
