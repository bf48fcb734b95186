"""Flow allocation, acceptance and deallocation (paper 2.11, 2.12.2; spec/irm-rpc.md 6).

The shell around the registry, the allocation machines and shared memory. Everything happens inside the
reader callback of a connection: a flow between two local processes is made and answered without a task or a
future in between.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from ouroboros.errors import EIPCP, ENAME
from ouroboros.rpc.messages_pb2 import (
    Envelope,
    FlowAccept,
    FlowAlloc,
    FlowJoin,
    QosSpec,
    SegmentGone,
)

from .acceptor import Acceptor
from .allocation import Allocation, Fail, Times
from .attempt import AppAttempt, Arrival, Attempt
from .endpoints import Endpoints
from .flow import Flow, FlowTable, State, Step
from .ipcp import RESPONSE_TIME, Ipcp
from .layers import broadcast, layers_for, nobody
from .memory import FlowEvent, raise_pending
from .refused import Refused
from .registry import Name, ProgramBinding, Registry, check_name
from .request import Request

if TYPE_CHECKING:
    from .connection import Connection
    from .memory import Memory
    from .process import Process
    from .superserver import SuperServer

log = logging.getLogger("irmd/flow")

DIRECT_MPL_MS = 1
"""Maximum packet lifetime of a direct flow (spec/irm-rpc.md 6.1)."""
MAX_LINGER_S = 3600


class Broker:
    """Brings those who ask for flows together with those who accept them.

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
    ) -> None:
        self.loop = loop
        self.registry = registry
        self.times = times
        self.flows = FlowTable(max_flows)
        self.endpoints = Endpoints(
            memory, self.flows, tell_provider=self._tell_provider, announce=self._announce
        )
        self.requested: dict[Flow, AppAttempt] = {}
        """Flows that an IPCP was asked for and has not decided on."""
        self._ipcps = ipcps
        self._trusts = trusts
        self._system_pool = memory.pool(0, trusted=True)
        self._waiting: dict[Name, dict[Attempt, None]] = {}
        self.stopping = False

    # ------------------------------------------------------------ requests

    def _begin(
        self, connection: Connection, envelope: Envelope, body: FlowAlloc | FlowAccept | FlowJoin
    ) -> Request:
        """Reserve a descriptor. An asynchronous request is answered with it at once."""
        process = connection.process
        if process is None:
            raise Refused(errno.EPERM, "only a process that said Hello as an application has flows")
        if self.stopping:
            raise Refused(errno.ESHUTDOWN, "the IRMd is stopping")
        fd = process.fds.take()
        if fd is None:
            raise Refused(
                errno.EBADF,
                f"{process} has all its flow descriptors in use; see descriptors in table [irmd] of the configuration",
            )
        timeout = body.timeout_ns / 1e9 if body.HasField("timeout_ns") else None
        if body.asynchronous and not timeout:
            timeout = None  # zero is how the API asks for an asynchronous allocation
        request = Request(connection, process, envelope.id, fd, body.asynchronous, timeout)
        if body.asynchronous:
            process.pending[fd] = request
            answer = Envelope()
            answer.flow_pending.fd = fd
            connection.session.reply(envelope, answer)
        else:
            connection.requests[envelope.id] = request
        return request

    def grant(self, request: Request, flow: Flow, side: int, data: bytes = b"") -> None:
        """The request has its flow: tell the process, then raise ALLOC if it did not wait."""
        request.settle()
        session = request.connection.session
        answer = Envelope()
        if not request.asynchronous:
            request.connection.requests.pop(request.id, None)
            fds = self.endpoints.describe(flow, side, answer.flow_endpoint, data)
            answer.id = request.id
            answer.reply = True
            session.send(answer, fds)
            return
        request.process.pending.pop(request.fd, None)
        answer.flow_done.fd = request.fd
        fds = self.endpoints.describe(flow, side, answer.flow_done.endpoint, data)
        session.send(answer, fds)
        if flow.memory is not None:
            flow.memory.raise_event(side, FlowEvent.ALLOC)

    def fail(self, request: Request, error: int, text: str) -> None:
        """The request gets no flow. An asynchronous one keeps its descriptor until the process gives it back."""
        request.settle()
        session, process = request.connection.session, request.process
        if not request.asynchronous:
            request.connection.requests.pop(request.id, None)
            process.fds.give_back(request.fd)
            session.send(Envelope(id=request.id, reply=True, error=error, text=text))
            return
        answer = Envelope()
        answer.flow_done.fd = request.fd
        answer.flow_done.error = error
        answer.flow_done.text = text
        session.send(answer)
        events = process.events.get(process.pool.id)
        if events is not None:
            raise_pending(events, request.fd)

    def cancel(self, connection: Connection, number: int) -> None:
        """The process gave up a request; one that was answered already has nothing to cancel."""
        request = connection.requests.get(number)
        if request is not None and request.undo is not None:
            request.undo()
            self.fail(request, errno.EINTR, "given up")

    # ------------------------------------------------------------ alloc

    def flow_alloc(self, connection: Connection, envelope: Envelope) -> None:
        """A process asks for a flow to a name."""
        body = envelope.flow_alloc
        entry = self.registry.names.get(body.dst)
        request = self._begin(connection, envelope, body)
        process = request.process
        if process.ipcp is None and not body.layer and entry is not None:
            acceptor = entry.pick(partial(self.may_be_direct, process))
            if acceptor is not None:
                self.connect(request, acceptor, entry.name, body.qos)
                return
        try:
            if entry is None:
                check_name(body.dst)
            attempt = self._attempt(request, body, entry)
        except Refused as refused:
            self.fail(request, refused.errno, refused.text)
            return
        attempt.run(attempt.machine.begin(self.loop.time()))

    def _attempt(self, request: Request, body: FlowAlloc, entry: Name | None) -> AppAttempt:
        process = request.process
        layers = layers_for(self._ipcps.values(), process, body.layer)
        bound = startable = False
        if process.ipcp is None and not body.layer and entry is not None:
            bound = any(self.may_be_direct(process, other) for other in entry.processes)
            binding = entry.startable()
            startable = binding is not None and self._same_domain(process, binding)
        machine = Allocation(
            body.dst,
            bound=bound,
            startable=startable,
            layers=layers,
            deadline=None if request.timeout is None else self.loop.time() + request.timeout,
            unknown=nobody(body.dst, body.layer, entry, layers),
            times=self.times,
        )
        return AppAttempt(self, body.dst, entry, machine, request, body.qos)

    def may_be_direct(self, process: Process, other: Process) -> bool:
        """Whether two processes may share a flow without an IPCP: same pool, and neither is an IPCP (layers
        are built over layers)."""
        return other.ipcp is None and process.ipcp is None and other.pool is process.pool

    def _same_domain(self, process: Process, binding: ProgramBinding) -> bool:
        """Whether the program, once started, would share a pool with `process`."""
        if self._trusts(binding.uid):
            return process.pool is self._system_pool
        return process.pool is not self._system_pool and process.peer.uid == binding.uid

    def connect(self, request: Request, acceptor: Acceptor, name: str, qos: QosSpec) -> None:
        """A direct flow: the flow of the accept serves both (paper Fig. 4)."""
        flow, pool = acceptor.flow, request.process.pool
        try:
            self.endpoints.open(
                flow, request.process, request.fd, acceptor.process, acceptor.request.fd, pool
            )
        except (OSError, MemoryError) as error:
            self.fail(request, errno.ENOMEM, f"no shared memory for another flow: {error}")
            return
        self.registry.end_accept(acceptor)
        flow.step(Step.GRANT)
        flow.name = name
        flow.qos = QosSpec()
        flow.qos.CopyFrom(qos)
        flow.mpl_ms = DIRECT_MPL_MS
        flow.max_packet = self.endpoints.max_packet(pool)
        self.grant(acceptor.request, flow, 1)
        self.grant(request, flow, 0)

    # ------------------------------------------------------------ join

    def flow_join(self, connection: Connection, envelope: Envelope) -> None:
        """A process joins a broadcast layer (spec/irm-rpc.md 6.5)."""
        body = envelope.flow_join
        request = self._begin(connection, envelope, body)
        try:
            ipcp = broadcast(self._ipcps.values(), body.layer)
            machine = Allocation(
                body.layer,
                bound=False,
                startable=False,
                layers=[ipcp],
                deadline=None if request.timeout is None else self.loop.time() + request.timeout,
                unknown=Fail(EIPCP, f'no layer "{body.layer}"'),
                times=self.times,
            )
            attempt = AppAttempt(self, body.layer, None, machine, request, body.qos, joining=True)
        except Refused as refused:
            self.fail(request, refused.errno, refused.text)
            return
        attempt.run(machine.begin_requested(self.loop.time()))

    # ------------------------------------------------------------ accept

    def flow_accept(self, connection: Connection, envelope: Envelope) -> None:
        """A process waits for a flow to any name it is bound to; bound to none it waits until it is."""
        request = self._begin(connection, envelope, envelope.flow_accept)
        try:
            acceptor = self._accepting(request)
        except Refused as refused:
            self.fail(request, refused.errno, refused.text)
            return
        self.superserver.accepted(request.process)
        if self._waiting and self._serve(acceptor):
            return
        if request.timeout is not None:
            request.timer = self.loop.call_later(request.timeout, self._accept_expired, request)

    def _accepting(self, request: Request) -> Acceptor:
        acceptor = Acceptor(request.process, self.flows.create(Step.ACCEPT), request)
        acceptor.flow.asker = (request.process, request.fd)
        self.registry.begin_accept(acceptor)
        request.undo = partial(self._give_up_accept, acceptor)
        return acceptor

    def _serve(self, acceptor: Acceptor) -> bool:
        """Serve the allocation that has waited longest for one of the names of an accept."""
        for name in acceptor.process.names:
            for attempt in self._waiting.get(name, ()):
                if attempt.suits(acceptor.process):
                    attempt.serve(acceptor)
                    return True
        return False

    def bound(self, process: Process) -> None:
        """A process was bound to another name: its accepts may serve those who wait for that."""
        for acceptor in list(process.accepts):
            if acceptor in process.accepts:
                self._serve(acceptor)

    def _accept_expired(self, request: Request) -> None:
        request.timer = None
        if request.undo is not None:
            request.undo()
            self.fail(request, errno.ETIMEDOUT, "no flow arrived in the time given")

    def _give_up_accept(self, acceptor: Acceptor) -> None:
        if acceptor in acceptor.process.accepts:
            self.registry.end_accept(acceptor)
        flow = acceptor.flow
        if flow.memory is not None:  # an IPCP was being told of it
            self.endpoints.close(flow, 0, orderly=False)
        else:
            flow.step(Step.REFUSE)
            self.flows.forget(flow)

    # ------------------------------------------------------------ queue of those who wait

    def queue(self, attempt: Attempt) -> None:
        """An allocation waits for an accept of its name."""
        if attempt.entry is not None:
            self._waiting.setdefault(attempt.entry, {})[attempt] = None

    def leave(self, attempt: Attempt) -> None:
        """It does so no longer."""
        if attempt.entry is None:
            return
        waiting = self._waiting.get(attempt.entry)
        if waiting is not None:
            waiting.pop(attempt, None)
            if not waiting:
                del self._waiting[attempt.entry]

    def recheck(self, entry: Name) -> None:
        """Somebody was unbound from a name, or it was destroyed: those who wait for nobody go on."""
        for attempt in list(self._waiting.get(entry, ())):
            if not any(attempt.suits(process) for process in entry.processes):
                attempt.run(attempt.machine.bound_gone(self.loop.time()))

    def start_failed(self, name: str, error: int, text: str) -> None:
        """A program that was started will not accept."""
        entry = self.registry.names.get(name)
        if entry is None:
            return
        for attempt in list(self._waiting.get(entry, ())):
            attempt.run(attempt.machine.start_failed(self.loop.time(), error, text))

    # ------------------------------------------------------------ from IPCPs

    def ipcp_flow_req(self, connection: Connection, envelope: Envelope) -> None:
        """An IPCP announces a flow to a name of this system."""
        ipcp, body = connection.ipcp, envelope.ipcp_flow_req
        if ipcp is None or ipcp.process is None:
            raise Refused(errno.EPERM, "only an IPCP announces flows")
        if self.stopping:
            raise Refused(errno.ESHUTDOWN, "the IRMd is stopping")
        entry = self.registry.by_hash(ipcp.hash, body.hash)
        if entry is None:
            raise Refused(ENAME, f"no name of this system has the hash {body.hash.hex()}")
        acceptor = entry.pick(lambda process: process is not ipcp.process)
        if acceptor is not None:
            self.arrive(connection, envelope, entry.name, acceptor)
            return
        machine: Allocation[Ipcp] = Allocation(
            entry.name,
            bound=any(process is not ipcp.process for process in entry.processes),
            startable=entry.startable() is not None,
            layers=(),
            deadline=None,
            unknown=Fail(ENAME, f'nothing is bound to "{entry.name}" at the other side'),
            times=self.times,
        )
        arrival = Arrival(self, entry, machine, connection, envelope)
        arrival.run(machine.begin(self.loop.time()))

    def arrive(self, connection: Connection, envelope: Envelope, name: str, acceptor: Acceptor) -> None:
        """Somebody accepts a flow that an IPCP announced: the IPCP gets its end, then the response; when it
        has taken both, the accept is answered."""
        ipcp, body, flow = connection.ipcp, envelope.ipcp_flow_req, acceptor.flow
        assert ipcp is not None and ipcp.process is not None
        provider, pool = ipcp.process, acceptor.process.pool
        fd = provider.fds.take()
        if fd is None:
            connection.session.refuse(
                envelope, errno.EBADF, f'IPCP "{ipcp.name}" has no flow descriptor left'
            )
            return
        try:
            self.endpoints.open(flow, acceptor.process, acceptor.request.fd, provider, fd, pool)
        except (OSError, MemoryError) as error:
            provider.fds.give_back(fd)
            connection.session.refuse(envelope, errno.ENOMEM, f"no shared memory for another flow: {error}")
            return
        self.registry.end_accept(acceptor)
        flow.name, flow.layer, flow.ipcp = name, ipcp.layer, ipcp
        flow.qos = QosSpec()
        flow.qos.CopyFrom(body.qos)
        flow.mpl_ms = body.mpl_ms
        largest = self.endpoints.max_packet(pool)
        flow.max_packet = min(body.max_packet or largest, largest)
        answer = Envelope()
        fds = self.endpoints.describe(flow, 1, answer.flow_endpoint)
        connection.session.reply(envelope, answer, fds)
        response = Envelope()
        response.ipcp_flow_alloc_resp.fd = fd
        connection.session.request(
            response, partial(self._responded, acceptor, body.data), timeout=RESPONSE_TIME
        )

    def _responded(self, acceptor: Acceptor, data: bytes, reply: Envelope | None, _fds: list[int]) -> None:
        flow, request = acceptor.flow, acceptor.request
        if request.done:
            return  # given up meanwhile, which has closed our end
        if reply is not None and not reply.error and flow.state is State.ACCEPT_PENDING:
            flow.step(Step.GRANT)
            self.grant(request, flow, 0, data)
            return
        # The requester has gone, or the IPCP: not the concern of a server, which goes on waiting.
        log.debug("flow %d to %s ended before it was accepted", flow.id, flow.name)
        self.endpoints.close(flow, 0, orderly=False)
        self._again(request)

    def _again(self, request: Request) -> None:
        """An accept goes back to waiting."""
        try:
            acceptor = self._accepting(request)
        except Refused as refused:
            self.fail(request, refused.errno, refused.text)
            return
        self._serve(acceptor)

    def ipcp_flow_alloc_reply(self, connection: Connection, envelope: Envelope) -> None:
        """An IPCP tells the outcome of an allocation it was asked for."""
        body, process = envelope.ipcp_flow_alloc_reply, connection.process
        flow = None if process is None else process.flows.get(body.fd)
        attempt = None if flow is None else self.requested.get(flow)
        if attempt is None:
            raise Refused(errno.ENOENT, f"no allocation is pending on descriptor {body.fd}")
        if envelope.id:
            connection.session.reply(envelope, Envelope())
        attempt.replied(body)

    # ------------------------------------------------------------ dealloc

    def flow_dealloc(self, connection: Connection, envelope: Envelope) -> None:
        """A process gives a descriptor back: of a flow, or of an allocation that is pending or has failed."""
        body, process = envelope.flow_dealloc, connection.process
        if process is None:
            raise Refused(errno.EPERM, "only a process that said Hello as an application has flows")
        if envelope.id:
            connection.session.reply(envelope, Envelope())
        flow = process.flows.get(body.fd)
        request = process.pending.pop(body.fd, None)
        if request is not None:
            if request.undo is not None:
                request.undo()
            request.settle()
        elif flow is not None and flow.state not in (State.ALLOC_PENDING, State.ACCEPT_PENDING):
            side = 1 if flow.ends[1].process is process and flow.ends[1].fd == body.fd else 0
            self.endpoints.close(flow, side, orderly=True, linger_s=min(body.linger_s, MAX_LINGER_S))
        elif flow is not None and flow.ends[1].process is process:
            self._provider_gave_up(flow)
            return
        else:
            log.debug("%s gave back descriptor %d, which it does not have", process, body.fd)
            return
        process.fds.give_back(body.fd)

    def _provider_gave_up(self, flow: Flow) -> None:
        """An IPCP deallocates a flow before it is allocated."""
        self.provider_closed(flow)
        attempt = self.requested.get(flow)
        if attempt is not None:
            attempt.gave_up()

    def provider_closed(self, flow: Flow) -> None:
        """The IPCP of a flow has forgotten its end."""
        end = flow.ends[1]
        if end.open:
            self.endpoints.close(flow, 1, orderly=True)
            end.process.fds.give_back(end.fd)

    def _tell_provider(self, flow: Flow, linger_s: int) -> None:
        """Ask the IPCP to forget its end. Its slot is kept until it says so or dies: there is no time limit,
        because reusing memory that it may still touch is worse than keeping it."""
        envelope = Envelope()
        envelope.ipcp_flow_dealloc.fd = flow.ends[1].fd
        envelope.ipcp_flow_dealloc.linger_s = linger_s
        assert flow.ipcp is not None

        def confirmed(reply: Envelope | None, _fds: list[int]) -> None:
            if reply is not None:
                self.provider_closed(flow)

        flow.ipcp.session.request(envelope, confirmed, timeout=None)

    # ------------------------------------------------------------ the end of a process

    def process_gone(self, connection: Connection) -> None:
        """The connection of a process has ended: what it had pending is cancelled, its flows go down."""
        process = connection.process
        assert process is not None
        process.gone = True
        for request in [*connection.requests.values(), *process.pending.values()]:
            if request is not None:
                if request.undo is not None:
                    request.undo()
                request.settle()
        connection.requests.clear()
        process.pending.clear()
        names = list(process.names)
        self.registry.depart(process)
        for name in names:
            self.recheck(name)
        if process.ipcp is not None:
            self._ipcp_gone(process.ipcp, connection)
        for fd, flow in list(process.flows.items()):
            side = 1 if flow.ends[1].process is process and flow.ends[1].fd == fd else 0
            self.endpoints.close(flow, side, orderly=False)
        self.endpoints.departed(process)

    def _ipcp_gone(self, ipcp: Ipcp, connection: Connection) -> None:
        ipcp.process = None  # it provides nothing any more, though its process may still be ending
        for flow, attempt in list(self.requested.items()):
            if flow.ipcp is ipcp:
                attempt.layer_gone(ipcp)
        for waiting in list(self._waiting.values()):
            for other in list(waiting):
                if isinstance(other, Arrival) and other.connection is connection:
                    other.give_up()

    def _announce(self, message: SegmentGone) -> None:
        """Tell every process that has mapped one of these objects to let go of it."""
        gone = {(1, number) for number in message.segments}
        gone |= {(2, number) for number in message.events}
        gone |= {(0, number) for number in message.pools}
        if not gone:
            return
        for process in self.registry.processes.values():
            if not process.known.isdisjoint(gone):
                process.known -= gone
                process.session.send(Envelope(segment_gone=message))
