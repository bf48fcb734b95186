"""Flows that IPCPs announce for names of this system (paper Fig. 6, step 3; spec/rpc RPC-16; spec/oap 5).

The handshake header is checked before a server is involved: a refused request never reaches a server, and the IPCP gets
the error number. A server whose flow ends before it is attached goes on waiting.
"""

from __future__ import annotations

import errno
import logging
from collections import OrderedDict
from functools import partial

from ouroboros.errors import ENAME
from ouroboros.flow_event import FlowEvent
from ouroboros.rpc.messages_pb2 import Envelope, QosSpec
from ouroboros.rpc.service import Refusal

from .accepting import Accepting
from .allocation import Allocation, Fail
from .ask import RESPONSE_TIME
from .descriptors import Descriptor
from .facilities import Facilities
from .flow import State, Step
from .layers import may_carry
from .oap import offer
from .oap.extension import lasts, repeated_ids
from .oap.oap import Received
from .pace import NEVER
from .records import Flow, Ipcp, Name, PendingAccept, Process, RpcConnection
from .waiting import AllocationDriver

log = logging.getLogger("irmd/flow")

_REPORTED = int(FlowEvent.DOWN | FlowEvent.UP | FlowEvent.PEER)

CROSSING = 2.0
"""Seconds after the answer to a request in which a repetition of it counts as sent before that answer arrived. It is dropped: it would
take an accept for a flow that its requester has already."""

MAX_ANSWERED = 4096
"""Answered requests that are remembered for this check; a new one replaces the oldest."""


class IncomingAllocation(AllocationDriver):
    """A flow for a local process, until a process accepts it."""

    __slots__ = ("_envelope", "_service", "connection", "received")

    def __init__(
        self,
        facilities: Facilities,
        service: IncomingAllocations,
        entry: Name,
        machine: Allocation[Ipcp],
        connection: RpcConnection,
        envelope: Envelope,
        received: Received,
    ) -> None:
        super().__init__(facilities.waiting, facilities.superserver, entry.name, entry, machine)
        self._service = service
        self.connection = connection
        self.received = received
        self._envelope = envelope

    def suits(self, process: Process) -> bool:
        ipcp = self.connection.ipcp
        return ipcp is not None and may_carry(ipcp, process)

    def serve(self, accept: PendingAccept) -> None:
        with self:
            self.machine.served()
            self.stop()
            self._service.deliver(self.connection, self._envelope, self.name, accept, self.received)

    @property
    def id(self) -> bytes:
        """The id of the handshake."""
        return self.received.accepted.header.id

    def replace(self, envelope: Envelope, received: Received) -> None:
        """The requester has repeated its request: the newer one takes the place in the queue."""
        self.connection.session.refuse(
            self._envelope, errno.EALREADY, "the requester has repeated its request"
        )
        self._envelope, self.received = envelope, received

    def fail(self, error: int, text: str) -> None:
        self.connection.session.refuse(self._envelope, error, text)

    def cancel(self) -> None:
        """The session of the IPCP is over."""
        self.machine.cancel()
        self.stop()


def notify_user(flow: Flow, events: int) -> None:
    """Notify side 0 of an event that the layer reported. Raises ValueError."""
    if not events or events & ~_REPORTED or events & FlowEvent.UP and events != FlowEvent.UP:
        raise ValueError(f"{events:#x} is not DOWN, UP, or PEER of a flow")
    assert flow.memory is not None
    flow.down = events != FlowEvent.UP
    flow.memory.raise_event(0, FlowEvent(events), link=True)


def _unserved(entry: Name, bound: bool) -> Fail:
    if bound:
        return Fail(
            errno.ETIMEDOUT, f'no process bound to "{entry.name}" at the other side has ever accepted a flow'
        )
    return Fail(ENAME, f'nothing is bound to "{entry.name}" at the other side')


class IncomingAllocations:
    """Delivers the flows that IPCPs announce to accepting processes."""

    def __init__(self, facilities: Facilities, accepting: Accepting) -> None:
        self._use = facilities
        self._accepting = accepting
        self._answered: OrderedDict[bytes, float] = OrderedDict()  # when, by the id of the request

    def flow_req(self, connection: RpcConnection, envelope: Envelope) -> None:
        """An IPCP announces a flow to a name of this system."""
        ipcp, body = connection.ipcp, envelope.ipcp_flow_req
        if ipcp is None or ipcp.process is None:
            raise Refusal(errno.EPERM, "only an IPCP announces flows")
        self._use.requests.check_running()
        entry = self._use.registry.by_hash(ipcp.hash, body.hash)
        if entry is None:
            raise Refusal(ENAME, f"no name of this system has the hash {body.hash.hex()}")
        kinds = offer.applicable(body.qos, inside=ipcp.inside, link=ipcp.link)
        received = self._use.oap.received(body.data, entry.name, entry.policy, ipcp.layer, kinds)
        if earlier := repeated_ids(received.accepted.offer):
            repeated = self._repeated(entry, connection, earlier)
            if repeated is not None:
                repeated.replace(envelope, received)
                return
            if self._crossing(earlier):
                raise Refusal(errno.EALREADY, "the request that this one repeats has been answered")
        suits = partial(may_carry, ipcp)
        accept = entry.pick(suits)
        if accept is not None:
            self.deliver(connection, envelope, entry.name, accept, received)
            return
        now = self._use.waiting.loop.time()
        machine: Allocation[Ipcp] = Allocation(
            entry.name,
            bound=self._use.waiting.bound(entry, suits),
            startable=entry.startable() is not None,
            layers=(),
            query_timeout=lambda ipcp: 0.0,
            deadline=now + self._lasts(received),
            unknown=_unserved(entry, any(map(suits, entry.processes))),
            times=self._use.waiting.times,
        )
        incoming = IncomingAllocation(self._use, self, entry, machine, connection, envelope, received)
        incoming.run(machine.begin(now))

    def _repeated(
        self, entry: Name, connection: RpcConnection, earlier: tuple[bytes, ...]
    ) -> IncomingAllocation | None:
        """The waiting request that one which repeats those with these ids replaces: only the same requester knows the ids."""
        for one in self._use.waiting.of(entry):
            if isinstance(one, IncomingAllocation) and one.connection is connection and one.id in earlier:
                return one
        return None

    def _crossing(self, earlier: tuple[bytes, ...]) -> bool:
        """Whether the answer to one of these requests is on its way."""
        latest = max(self._answered.get(one, NEVER) for one in earlier)
        return self._use.loop.time() < latest + CROSSING

    def _remember(self, received: Received) -> None:
        now = self._use.waiting.loop.time()
        answered = self._answered
        answered[received.accepted.header.id] = now
        while len(answered) > MAX_ANSWERED or next(iter(answered.values())) + CROSSING < now:
            answered.popitem(last=False)

    def _lasts(self, received: Received) -> float:
        """Seconds after which the requester cancels."""
        longest = self._use.waiting.times.layer
        offered = lasts(received.accepted.offer)
        return longest if offered is None else min(offered, longest)

    def deliver(
        self,
        connection: RpcConnection,
        envelope: Envelope,
        name: str,
        accept: PendingAccept,
        received: Received,
    ) -> None:
        """A process accepts a flow that an IPCP announced: the IPCP gets its end, then the response; when it
        has confirmed both, the accept is answered."""
        ipcp, flow = connection.ipcp, accept.flow
        assert ipcp is not None and ipcp.process is not None
        try:
            answering = self._use.oap.reply(received, name, max_octets=ipcp.handshake_octets)
            self._use.endpoints.open_over(flow, accept.process, accept.request.descriptor, ipcp)
        except Refusal as refused:
            connection.session.refuse(envelope, refused.errno, refused.text)
            return
        try:
            self._attach(connection, envelope, name, accept, received, answering)
        except BaseException:  # a defect: neither end has the flow, and the server goes on waiting
            self._use.endpoints.close(flow, 0, orderly=False)
            if flow.ipcp is None:  # else the IPCP has a request to deallocate its end
                self._use.endpoints.provider_closed(flow)
            self._accepting.waits_again(accept)
            raise

    def _attach(
        self,
        connection: RpcConnection,
        envelope: Envelope,
        name: str,
        accept: PendingAccept,
        received: Received,
        answering: bytes,
    ) -> None:
        """Send the IPCP its end of the new flow, and then the response."""
        ipcp, body, flow = connection.ipcp, envelope.ipcp_flow_req, accept.flow
        assert ipcp is not None
        self._accepting.served(accept)
        flow.name, flow.layer, flow.ipcp = name, ipcp.layer, ipcp
        self._remember(received)
        outcome = received.outcome
        flow.qos = QosSpec()
        flow.qos.CopyFrom(offer.obtained(body.qos, outcome.extensions, inside=ipcp.inside))
        flow.mpl_ms = body.mpl_ms
        if body.source:
            flow.path = flow.ends[1].process.token.to_bytes(8, "big") + body.source
        flow.secure(0, outcome)
        largest = self._use.endpoints.max_packet(accept.process.pool)
        flow.max_packet = min(body.max_packet or largest, largest)
        answer = Envelope()
        fds = self._use.endpoints.describe(flow, 1, answer.flow_endpoint)
        connection.session.reply(envelope, answer, fds)
        response = Envelope()
        answered = response.ipcp_flow_alloc_resp
        answered.fd, answered.instance = flow.ends[1].descriptor
        answered.data = answering
        connection.session.request(
            response, partial(self._responded, accept, outcome.data), timeout=RESPONSE_TIME
        )

    def _responded(self, accept: PendingAccept, data: bytes, reply: Envelope | None, _fds: list[int]) -> None:
        flow, request = accept.flow, accept.request
        if request.done:
            return  # cancelled meanwhile, which has closed this end
        if reply is not None and not reply.error and flow.state is State.ACCEPT_PENDING:
            flow.step(Step.GRANT)
            self._use.requests.grant(request, flow, 0, data)
            return
        # The requester or the IPCP has exited: the server goes on waiting.
        log.debug("flow %d to %s ended before it was accepted", flow.id, flow.name)
        self._use.endpoints.close(flow, 0, orderly=False)
        self._accepting.again(request)

    def flow_event(self, connection: RpcConnection, envelope: Envelope) -> None:
        """A layer reports that the other end of a flow is down, up again, or silent: notify its user (spec/protection 5)."""
        body, process = envelope.ipcp_flow_event, connection.process
        if connection.ipcp is None or process is None:
            raise Refusal(errno.EPERM, "only an IPCP reports events of flows over its layer")
        flow = process.flows.get(Descriptor(body.fd, body.instance))
        if flow is None or flow.ipcp is not connection.ipcp or flow.state is not State.ALLOCATED:
            self._use.late["ipcp_flow_event"] += 1
            return  # it ended meanwhile
        try:
            notify_user(flow, body.events)
        except ValueError as error:
            raise Refusal(errno.EINVAL, str(error)) from None

    def ipcp_disconnected(self, connection: RpcConnection) -> None:
        """The session of an IPCP is over: cancel the flows that it has announced."""
        for allocation in self._use.waiting:
            if isinstance(allocation, IncomingAllocation) and allocation.connection is connection:
                allocation.cancel()
