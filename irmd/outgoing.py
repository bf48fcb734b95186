"""Flows that processes of this system request (paper 2.11, Fig. 6; spec/rpc 4); incoming.py has those that IPCPs announce.

First from a local process, then over a layer. Every outcome but success undoes its effects.
"""

from __future__ import annotations

import errno
from asyncio import TimerHandle
from collections.abc import Callable
from functools import partial

from ouroboros.errors import EIPCP, ENAME
from ouroboros.name_info import Requirement
from ouroboros.qos import UINT32_MAX, QoSSpec
from ouroboros.rpc.messages_pb2 import Envelope, FlowAlloc, IpcpFlowAllocReply, QosSpec
from ouroboros.rpc.service import Refusal

from .allocation import Allocation, Bound, Fail, ipcp_exited
from .ask import no_answer
from .descriptors import Descriptor
from .direct import DirectAllocation, may_be_direct
from .facilities import Facilities
from .flow import Step
from .ipcp_table import IpcpTable
from .layers import broadcast, layers_for, unreachable
from .oap import offer
from .oap.credentials import Policy
from .oap.header import ID_LENGTH
from .oap.requester import Requester
from .records import Flow, Ipcp, Name, PendingAccept, PendingRequest, Process, ProgramBinding, RpcConnection
from .registry import check_name, name_hash
from .waiting import AllocationDriver

JOINED = QoSSpec(loss=UINT32_MAX, ber=UINT32_MAX, timeout=0).to_proto()
"""QoS of a flow to a broadcast layer (spec/common 5)."""

AGAIN = (2.5, 4.0)
"""Seconds after an unanswered request, and after the next one, at which the layer gets the header of another: a prototype sometimes
sends its answer to no valid address."""


class OutgoingAllocation(AllocationDriver):
    """A flow that a process requested: first from a local process, then over a layer."""

    __slots__ = ("_flow", "_handshakes", "_is_join", "_qos", "_repeating", "_request", "_service", "_use")

    def __init__(
        self,
        facilities: Facilities,
        service: OutgoingAllocations,
        name: str,
        entry: Name | None,
        machine: Allocation[Ipcp],
        request: PendingRequest,
        qos: QosSpec,
        *,
        is_join: bool = False,
    ) -> None:
        super().__init__(facilities.waiting, facilities.superserver, name, entry, machine)
        self._use = facilities
        self._service = service
        self._request = request
        self._qos = qos
        self._is_join = is_join
        self._handshakes: dict[bytes, Requester] = {}
        """Handshakes of the request that the layer got, and of its repetitions, by id. A flow to a broadcast layer has none."""
        self._repeating: TimerHandle | None = None
        self._flow: Flow | None = facilities.flows.create(Step.ALLOC, user=request.process.user)
        self._flow.name = name
        self._flow.qos = qos
        self._flow.requester = (request.process, request.descriptor)
        request.undo = self._cancel

    def suits(self, process: Process) -> bool:
        return may_be_direct(self._request.process, process)

    def serve(self, accept: PendingAccept) -> None:
        with self:
            self.machine.served()
            self.stop()
            self._drop_flow()
            self._service.direct.connect(self._request, accept, self.name, self._qos)

    def fail(self, error: int, text: str) -> None:
        self._drop_flow()
        self._use.requests.fail(self._request, error, text)

    def query(self, layers: tuple[Ipcp, ...]) -> None:
        for ipcp in layers:
            envelope = Envelope()
            envelope.ipcp_query.hash = name_hash(ipcp.hash, self.name)
            ipcp.session.request(envelope, partial(self._answered, ipcp), timeout=ipcp.query_timeout)

    def _answered(self, ipcp: Ipcp, reply: Envelope | None, _fds: list[int]) -> None:
        known = reply is not None and not reply.error and ipcp.operational
        error = reply.text if reply is not None and reply.error not in (0, ENAME, errno.ENOENT) else ""
        self.run_if_waiting(lambda: self.machine.answered(ipcp, known, self._waiting.loop.time(), error))

    def run_if_waiting(self, step: Callable[[], list[object]]) -> None:
        """Give the machine an input, which is dropped when the machine is done already (spec/lessons 18)."""
        if self.machine.due is not None:
            self.run(step())

    def request_flow(self, ipcp: Ipcp) -> None:
        flow = self._flow
        assert flow is not None
        if not ipcp.operational:
            self._refused(ipcp_exited(ipcp.name))
            return
        request = self._request
        try:
            header = b"" if self._is_join else self._make_header(ipcp)
            self._use.endpoints.open_over(flow, request.process, request.descriptor, ipcp)
        except Refusal as refused:
            self._refused(Fail(refused.errno, refused.text))
            return
        flow.ipcp = ipcp
        flow.layer = ipcp.layer
        flow.max_packet = self._use.endpoints.max_packet(request.process.pool)
        # before the request is sent: the answer may overtake its reply (spec/lessons 27)
        self._service.requested[flow] = self
        envelope = Envelope()
        body = envelope.ipcp_flow_join if self._is_join else envelope.ipcp_flow_alloc
        if not self._is_join:
            envelope.ipcp_flow_alloc.data = header
        body.dst = name_hash(ipcp.hash, self.name)
        body.qos.CopyFrom(offer.carried(self._qos, inside=ipcp.inside))
        body.uid = request.process.peer.uid
        fds = self._use.endpoints.describe(flow, 1, body.endpoint)
        ipcp.session.request(envelope, partial(self._sent, ipcp), timeout=self._waiting.times.layer, fds=fds)
        self._repeat_after(ipcp, AGAIN)

    def _make_header(self, ipcp: Ipcp) -> bytes:
        """The header of a new request, which repeats those before it. Raises Refusal."""
        user = self._request.process.ipcp
        layer = "" if user is None else user.layer or user.enrolling_in or ""
        # The policy of a layer's name holds for its members.
        entry = self.entry or self._use.registry.names.get(layer)
        policy = Policy() if entry is None else entry.policy
        handshake = self._use.oap.request(
            self.name,
            policy,
            offer.offered(self._qos, inside=ipcp.inside, link=ipcp.measures_paths),
            max_octets=ipcp.handshake_octets,
            layer=layer,
            repeats=b"".join(self._handshakes),  # the layer may have sent any of them
            lasts_ms=self._lasts_ms(),
            require=self._request.require,
        )
        self._handshakes[handshake.octets[:ID_LENGTH]] = handshake
        return handshake.octets

    def _lasts_ms(self) -> int | None:
        """After how many ms the caller gives up; None when the layer does so before."""
        deadline = self.machine.deadline
        remaining = None if deadline is None else deadline - self._waiting.loop.time()
        return None if remaining is None or remaining >= self._waiting.times.layer else int(remaining * 1000)

    def _repeat(self, ipcp: Ipcp, pauses: tuple[float, ...]) -> None:
        """The answer may be lost: give the layer the header of a request that replaces the one before."""
        self._repeating = None
        flow = self._flow
        if flow is None or self._service.requested.get(flow) is not self or not ipcp.operational:
            return
        try:
            data = self._make_header(ipcp)
        except Refusal:
            return  # the first header could be made, so its answer may still arrive
        envelope = Envelope()
        body = envelope.ipcp_flow_again
        body.fd, body.instance = flow.ends[1].descriptor
        body.data = data
        ipcp.session.send(envelope)
        self._repeat_after(ipcp, pauses)

    def _repeat_after(self, ipcp: Ipcp, pauses: tuple[float, ...]) -> None:
        if pauses and self._handshakes and not ipcp.inside:
            self._repeating = self._waiting.loop.call_later(pauses[0], self._repeat, ipcp, pauses[1:])

    def _sent(self, ipcp: Ipcp, reply: Envelope | None, _fds: list[int]) -> None:
        """The IPCP has accepted the request or refused it; `replied` gets the outcome of an accepted one."""
        if reply is None:
            unanswered = no_answer(ipcp, "allocate a flow", self._waiting.times.layer)
            self.run_if_waiting(lambda: self.machine.refused(unanswered.errno, unanswered.text))
        elif reply.error:
            if self._flow is not None and self._service.requested.get(self._flow) is self:
                self._use.endpoints.send_again(self._flow, 1)
                self._use.endpoints.provider_closed(self._flow)
            self.run_if_waiting(lambda: self.machine.refused(reply.error, reply.text))

    def replied(self, reply: IpcpFlowAllocReply) -> None:
        """The layer allocated the flow, or refused with a reason."""
        with self:
            self._replied(reply)

    def _replied(self, reply: IpcpFlowAllocReply) -> None:
        flow = self._flow
        assert flow is not None
        if reply.response:
            self._use.endpoints.provider_closed(flow)
            text = reply.text or f'the flow to "{self.name}" was refused by the other side'
            self.run(self.machine.refused(abs(reply.response), text))
            return
        data = b""
        if self._handshakes:
            first = next(iter(self._handshakes.values()))
            handshake = self._handshakes.get(reply.data[:ID_LENGTH], first)
            try:
                outcome = self._use.oap.complete(handshake, reply.data, self.name, flow.layer)
            except Refusal as refused:
                self.run(self.machine.refused(refused.errno, refused.text))
                return
            flow.secure(0, outcome)
            assert flow.ipcp is not None
            flow.qos = offer.obtained(self._qos, outcome.extensions, inside=flow.ipcp.inside)
            data = outcome.data
        self.machine.served()
        self.stop()
        flow.step(Step.GRANT)
        flow.mpl_ms = reply.mpl_ms
        flow.max_packet = min(reply.max_packet or flow.max_packet, flow.max_packet)
        self._use.requests.grant(self._request, flow, 0, data)
        del self._service.requested[flow]
        self._flow = None

    def deallocated(self) -> None:
        """The IPCP deallocated the flow before it answered."""
        self._refused(Fail(EIPCP, f'the layer cancelled the flow to "{self.name}"'))

    def ipcp_disconnected(self, ipcp: Ipcp) -> None:
        """The session of the IPCP with the request is over."""
        self._refused(ipcp_exited(ipcp.name))

    def _refused(self, reason: Fail) -> None:
        self.run(self.machine.refused(reason.errno, reason.text))

    def stop(self) -> None:
        super().stop()
        if self._repeating is not None:
            self._repeating.cancel()
            self._repeating = None

    def _cancel(self) -> None:
        self.machine.cancel()
        self.stop()
        self._drop_flow()

    def _drop_flow(self) -> None:
        flow, self._flow = self._flow, None
        if flow is None:
            return
        self._service.requested.pop(flow, None)
        if flow.memory is not None:
            self._use.endpoints.close(flow, 0, orderly=False)
        elif not flow.ends:  # no memory was allocated
            flow.step(Step.REFUSE)
            self._use.flows.remove(flow)


class OutgoingAllocations:
    """Begins the allocations, and takes the IPCPs' answers. `trusts(uid)`: whether a program started as that user would share the
    system pool."""

    def __init__(
        self,
        facilities: Facilities,
        *,
        ipcps: IpcpTable,
        direct: DirectAllocation,
        trusts: Callable[[int], bool],
    ) -> None:
        self._use = facilities
        self._ipcps = ipcps
        self._trusts = trusts
        self.direct = direct
        self.requested: dict[Flow, OutgoingAllocation] = {}
        """Flows that an IPCP has a request for and has not answered."""

    def flow_alloc(self, connection: RpcConnection, envelope: Envelope) -> None:
        """A process requests a flow to a name."""
        body = envelope.flow_alloc
        entry = self._use.registry.names.get(body.dst)
        request = self._use.requests.begin(connection, envelope, body)
        request.require = Requirement(body.require)
        process = request.process
        if process.ipcp is None and not body.layer and entry is not None:
            accept = entry.pick(partial(may_be_direct, process))
            if accept is not None:
                self.direct.connect(request, accept, entry.name, body.qos)
                return
        try:
            if entry is None:
                check_name(body.dst)
            allocation = self._outgoing(request, body, entry)
        except Refusal as refused:
            self._use.requests.fail(request, refused.errno, refused.text)
            return
        allocation.run(allocation.machine.begin(self._use.waiting.loop.time()))

    def _outgoing(self, request: PendingRequest, body: FlowAlloc, entry: Name | None) -> OutgoingAllocation:
        process = request.process
        layers = layers_for(self._ipcps, process, body.layer)
        bound, startable = Bound(), False
        suits = partial(may_be_direct, process)
        if process.ipcp is None and not body.layer and entry is not None:
            bound = self._use.waiting.bound(entry, suits)
            binding = entry.startable()
            startable = binding is not None and self._same_domain(process, binding)
        machine = Allocation(
            body.dst,
            bound=bound,
            startable=startable,
            layers=layers,
            query_timeout=lambda ipcp: ipcp.query_timeout,
            deadline=None if request.timeout is None else self._use.waiting.loop.time() + request.timeout,
            unknown=unreachable(
                body.dst,
                body.layer,
                entry,
                layers,
                process,
                near=[] if entry is None else [other for other in entry.processes if suits(other)],
                starting=entry is not None and self._use.registry.expects(entry),
            ),
            times=self._use.waiting.times,
            describe=lambda ipcp: f'IPCP "{ipcp.name}" of layer "{ipcp.layer}"',
        )
        return OutgoingAllocation(self._use, self, body.dst, entry, machine, request, body.qos)

    def _same_domain(self, process: Process, binding: ProgramBinding) -> bool:
        """Whether the program, once started, would share a pool with `process`."""
        return process.user == (None if self._trusts(binding.uid) else binding.uid)

    def flow_join(self, connection: RpcConnection, envelope: Envelope) -> None:
        """A process joins a broadcast layer (spec/rpc RPC-17). No single peer could keep the QoS of such
        a flow, so it has none (spec/broadcast 2)."""
        body = envelope.flow_join
        request = self._use.requests.begin(connection, envelope, body)
        try:
            ipcp = broadcast(self._ipcps, request.process, body.layer)
            machine = Allocation(
                body.layer,
                bound=Bound(),
                startable=False,
                layers=[ipcp],
                query_timeout=lambda ipcp: ipcp.query_timeout,
                deadline=None if request.timeout is None else self._use.waiting.loop.time() + request.timeout,
                unknown=Fail(EIPCP, f'no layer "{body.layer}"'),
                times=self._use.waiting.times,
            )
            allocation = OutgoingAllocation(
                self._use, self, body.layer, None, machine, request, JOINED, is_join=True
            )
        except Refusal as refused:
            self._use.requests.fail(request, refused.errno, refused.text)
            return
        allocation.run(machine.begin_requested(self._use.waiting.loop.time()))

    def ipcp_flow_alloc_reply(self, connection: RpcConnection, envelope: Envelope) -> None:
        """An IPCP reports the outcome of a requested allocation."""
        body, process = envelope.ipcp_flow_alloc_reply, connection.process
        flow = None if process is None else process.flows.get(Descriptor(body.fd, body.instance))
        allocation = None if flow is None else self.requested.get(flow)
        if allocation is None:
            self._use.late["ipcp_flow_alloc_reply"] += 1
            raise Refusal(errno.ENOENT, f"no allocation is pending on descriptor {body.fd}")
        if envelope.id:
            connection.session.reply(envelope, Envelope())
        allocation.replied(body)

    def provider_deallocated(self, flow: Flow) -> None:
        """An IPCP deallocates a flow before it is allocated."""
        self._use.endpoints.provider_closed(flow)
        allocation = self.requested.get(flow)
        if allocation is not None:
            allocation.deallocated()

    def ipcp_disconnected(self, ipcp: Ipcp) -> None:
        """The session of an IPCP is over: it answers no request any more."""
        for flow, allocation in list(self.requested.items()):
            if flow.ipcp is ipcp:
                allocation.ipcp_disconnected(ipcp)
