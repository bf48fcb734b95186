"""The shell around one `Allocation`: its timer, its queries to IPCPs, its flow.

`OutgoingAllocation` is a flow that a process of this system requested (incoming.py has those that IPCPs announce).
Every outcome but success undoes its effects.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from ouroboros.errors import EIPCP, ENAME
from ouroboros.rpc.messages_pb2 import Envelope, IpcpFlowAllocReply, QosSpec

from .allocation import Allocation, Fail, QueryLayers, RequestFlow, StartProgram, ipcp_exited
from .ask import no_answer
from .flow import Step
from .oap import offer
from .oap.credentials import Policy
from .records import Flow, Ipcp, Name, PendingAccept, PendingRequest, Process
from .refused import Refused
from .registry import name_hash

if TYPE_CHECKING:
    import asyncio

    from .broker import Broker
    from .oap.requester import Requester


log = logging.getLogger("irmd/flow")

ID_LENGTH = 16
"""Octets of a handshake's id, at the start of its header."""

AGAIN = (2.5, 4.0)
"""Seconds after an unanswered request, and after the next one, at which the layer gets the header of another: a prototype sometimes
sends its answer to no valid address."""


class AllocationDriver:
    """The common part of both kinds: carries out the actions of the machine, and keeps its deadline."""

    __slots__ = ("_timer", "broker", "entry", "machine", "name")

    def __init__(self, broker: Broker, name: str, entry: Name | None, machine: Allocation[Ipcp]) -> None:
        self.broker = broker
        self.name = name
        self.entry = entry
        self.machine = machine
        self._timer: asyncio.TimerHandle | None = None

    def suits(self, process: Process) -> bool:
        """Whether `process` could accept this flow."""
        raise NotImplementedError

    def serve(self, accept: PendingAccept) -> None:
        """Serve a suitable accept."""
        raise NotImplementedError

    def fail(self, error: int, text: str) -> None:
        """Refuse the request, and undo its effects."""
        raise NotImplementedError

    def query(self, layers: tuple[Ipcp, ...]) -> None:
        """Query layers for the name."""

    def request_flow(self, ipcp: Ipcp) -> None:
        """Request the flow from a layer."""

    def run(self, actions: list[object]) -> None:
        """Carry out the actions of the machine, then wait for its next deadline. A defect ends this allocation, and undoes its
        effects."""
        with self.guarded():
            self._run(actions)

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """An exception ends this allocation, not its caller."""
        try:
            yield
        except Exception as error:
            log.exception("cannot go on with the allocation of a flow to %s", self.name)
            self.machine.cancel()
            self.stop()
            self.fail(errno.EIO, f"the IRMd failed on this request: {type(error).__name__}")

    def _run(self, actions: list[object]) -> None:
        for action in actions:
            if isinstance(action, StartProgram):
                self._start_program()
            elif isinstance(action, QueryLayers):
                self.query(action.layers)
            elif isinstance(action, RequestFlow):
                self.request_flow(action.layer)
            elif isinstance(action, Fail):
                self.stop()
                self.fail(action.errno, action.text)
                return
        self._wait()

    def stop(self) -> None:
        """The machine is done: no timer, no place in the queue of the name."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.broker.waiting.leave(self)

    def _wait(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = self.machine.due
        if due is None:
            return
        self._timer = self.broker.loop.call_at(due, self._expired)
        if not self.machine.waits_locally:
            self.broker.waiting.leave(self)
            return
        self.broker.waiting.enter(self)
        # A process may have begun to accept during the query.
        accept = None if self.entry is None else self.entry.pick(self.suits)
        if accept is not None:
            self.serve(accept)

    def _expired(self) -> None:
        self._timer = None
        # A timer may fire a tick early; the machine needs a `now` at or after the deadline.
        due = self.machine.due
        now = self.broker.loop.time()
        self.run(self.machine.expired(now if due is None else max(now, due)))

    def _start_program(self) -> None:
        assert self.entry is not None
        binding = self.entry.startable()
        try:
            if binding is None:
                raise Refused(errno.ENOENT, f'no program is bound to "{self.name}" any more')
            self.broker.superserver.start(self.name, binding)
        except Refused as refused:
            self.run(self.machine.start_failed(self.broker.loop.time(), refused.errno, refused.text))


class OutgoingAllocation(AllocationDriver):
    """A flow that a process requested: first from a local process, then over a layer."""

    __slots__ = ("_flow", "_handshakes", "_joining", "_repeating", "_qos", "_request")

    def __init__(
        self,
        broker: Broker,
        name: str,
        entry: Name | None,
        machine: Allocation[Ipcp],
        request: PendingRequest,
        qos: QosSpec,
        *,
        joining: bool = False,
    ) -> None:
        super().__init__(broker, name, entry, machine)
        self._request = request
        self._qos = qos
        self._joining = joining
        self._handshakes: dict[bytes, Requester] = {}
        """Handshakes of the request that the layer got, and of its repetitions, by id. A flow to a broadcast layer has none."""
        self._repeating: asyncio.TimerHandle | None = None
        self._flow: Flow | None = broker.flows.create(Step.ALLOC, user=broker.limited(request.process))
        self._flow.name = name
        self._flow.qos = qos
        self._flow.requester = (request.process, request.descriptor)
        request.undo = self._cancel

    def suits(self, process: Process) -> bool:
        return self.broker.may_be_direct(self._request.process, process)

    def serve(self, accept: PendingAccept) -> None:
        with self.guarded():
            self.machine.served()
            self.stop()
            self._drop_flow()
            self.broker.connect(self._request, accept, self.name, self._qos)

    def fail(self, error: int, text: str) -> None:
        self._drop_flow()
        self.broker.requests.fail(self._request, error, text)

    def query(self, layers: tuple[Ipcp, ...]) -> None:
        for ipcp in layers:
            envelope = Envelope()
            envelope.ipcp_query.hash = name_hash(ipcp.hash, self.name)
            ipcp.session.request(envelope, partial(self._answered, ipcp), timeout=ipcp.query_time)

    def _answered(self, ipcp: Ipcp, reply: Envelope | None, _fds: list[int]) -> None:
        known = reply is not None and not reply.error and ipcp.operational
        error = reply.text if reply is not None and reply.error not in (0, ENAME, errno.ENOENT) else ""
        self.run_if_waiting(lambda: self.machine.answered(ipcp, known, self.broker.loop.time(), error))

    def run_if_waiting(self, step: Callable[[], list[object]]) -> None:
        """Give the machine an input, which is dropped when the machine is done already (spec/lessons 18)."""
        if self.machine.due is not None:
            self.run(step())

    def request_flow(self, ipcp: Ipcp) -> None:
        flow, provider = self._flow, ipcp.process
        assert flow is not None
        if provider is None or not ipcp.operational:
            self._refused(ipcp_exited(ipcp.name))
            return
        request = self._request
        if not self._joining:
            try:
                header = self._make_header(ipcp)
            except Refused as refused:
                self._refused(Fail(refused.errno, refused.text))
                return
        descriptor = provider.fds.take()
        if descriptor is None:
            self._refused(Fail(errno.EBADF, f'IPCP "{ipcp.name}" has no flow descriptor left'))
            return
        try:
            self.broker.endpoints.open(
                flow, request.process, request.descriptor, provider, descriptor, request.process.pool
            )
        except (OSError, MemoryError) as error:
            provider.fds.give_back(descriptor)
            self._refused(Fail(errno.ENOMEM, f"no shared memory for another flow: {error}"))
            return
        flow.ipcp = ipcp
        flow.layer = ipcp.layer
        flow.max_packet = self.broker.endpoints.max_packet(request.process.pool)
        self.broker.requested[flow] = (
            self  # before the request is sent: the answer may overtake its reply (spec/lessons 27)
        )
        envelope = Envelope()
        body = envelope.ipcp_flow_join if self._joining else envelope.ipcp_flow_alloc
        if not self._joining:
            envelope.ipcp_flow_alloc.data = header
        body.dst = name_hash(ipcp.hash, self.name)
        body.qos.CopyFrom(offer.carried(self._qos, inside=ipcp.inside))
        body.uid = request.process.peer.uid
        fds = self.broker.endpoints.describe(flow, 1, body.endpoint)
        ipcp.session.request(envelope, partial(self._sent, ipcp), timeout=self.broker.times.layer, fds=fds)
        self._repeat_after(ipcp, AGAIN)

    def _make_header(self, ipcp: Ipcp) -> bytes:
        """The header of a new request, which repeats those before it. Raises Refused."""
        user = self._request.process.ipcp
        layer = "" if user is None else user.layer or user.joining or ""
        # The policy of a layer's name holds for its members.
        entry = self.entry or self.broker.registry.names.get(layer)
        policy = Policy() if entry is None else entry.policy
        handshake = self.broker.oap.request(
            self.name,
            policy,
            offer.wanted(self._qos, inside=ipcp.inside),
            room=ipcp.handshake_room,
            layer=layer,
            repeats=b"".join(self._handshakes),  # the layer may have sent any of them
            lasts_ms=self._lasts_ms(),
        )
        self._handshakes[handshake.octets[:ID_LENGTH]] = handshake
        return handshake.octets

    def _lasts_ms(self) -> int | None:
        """After how many ms the caller gives up; None when the layer does so before."""
        deadline = self.machine.deadline
        rest = None if deadline is None else deadline - self.broker.loop.time()
        return None if rest is None or rest >= self.broker.times.layer else int(rest * 1000)

    def _repeat(self, ipcp: Ipcp, pauses: tuple[float, ...]) -> None:
        """The answer may be lost: give the layer the header of a request that replaces the one before."""
        self._repeating = None
        flow = self._flow
        if flow is None or self.broker.requested.get(flow) is not self or not ipcp.operational:
            return
        try:
            data = self._make_header(ipcp)
        except Refused:
            return  # the first header could be made, so its answer may still arrive
        envelope = Envelope()
        body = envelope.ipcp_flow_again
        body.fd, body.instance = flow.ends[1].descriptor
        body.data = data
        ipcp.session.send(envelope)
        self._repeat_after(ipcp, pauses)

    def _repeat_after(self, ipcp: Ipcp, pauses: tuple[float, ...]) -> None:
        if pauses and self._handshakes and not ipcp.inside:
            self._repeating = self.broker.loop.call_later(pauses[0], self._repeat, ipcp, pauses[1:])

    def _sent(self, ipcp: Ipcp, reply: Envelope | None, _fds: list[int]) -> None:
        """The IPCP has accepted the request or refused it; `replied` gets the outcome of an accepted one."""
        if reply is None:
            unanswered = no_answer(ipcp, "allocate a flow", self.broker.times.layer)
            self.run_if_waiting(lambda: self.machine.refused(unanswered.errno, unanswered.text))
        elif reply.error:
            if self._flow is not None and self.broker.requested.get(self._flow) is self:
                self.broker.endpoints.send_again(self._flow, 1)
                self.broker.provider_closed(self._flow)
            self.run_if_waiting(lambda: self.machine.refused(reply.error, reply.text))

    def replied(self, reply: IpcpFlowAllocReply) -> None:
        """The layer allocated the flow, or refused with a reason."""
        with self.guarded():
            self._replied(reply)

    def _replied(self, reply: IpcpFlowAllocReply) -> None:
        flow = self._flow
        assert flow is not None
        if reply.response:
            self.broker.provider_closed(flow)
            text = reply.text or f'the flow to "{self.name}" was refused by the other side'
            self.run(self.machine.refused(abs(reply.response), text))
            return
        data = b""
        if self._handshakes:
            first = next(iter(self._handshakes.values()))
            handshake = self._handshakes.get(reply.data[:ID_LENGTH], first)
            try:
                outcome = self.broker.oap.complete(handshake, reply.data, self.name, flow.layer)
            except Refused as refused:
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
        self.broker.requests.grant(self._request, flow, 0, data)
        del self.broker.requested[flow]
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
        self.broker.requested.pop(flow, None)
        if flow.memory is not None:
            self.broker.endpoints.close(flow, 0, orderly=False)
        elif not flow.ends:  # no memory was allocated
            flow.step(Step.REFUSE)
            self.broker.flows.remove(flow)
