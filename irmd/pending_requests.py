"""The requests of processes for flows: begun with a descriptor, ended with a flow, an error, or a cancellation.

A synchronous request is answered once. An asynchronous one is answered immediately with its descriptor and ends with a
FlowDone notification (paper 4.1: a time-out of zero).
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from ouroboros.flow_event import FlowEvent
from ouroboros.rpc.messages_pb2 import Envelope, FlowAccept, FlowAlloc, FlowJoin
from ouroboros.rpc.service import Refusal

from .memory import raise_pending
from .records import Flow, PendingRequest, RpcConnection

if TYPE_CHECKING:
    from .descriptors import Late
    from .endpoints import Endpoints


class PendingRequests:
    """Begins and ends requests, of any kind."""

    def __init__(self, endpoints: Endpoints, late: Late) -> None:
        self._endpoints = endpoints
        self._late = late
        self.stopping = False
        """The IRMd is stopping: new requests are refused."""

    def begin(
        self, connection: RpcConnection, envelope: Envelope, body: FlowAlloc | FlowAccept | FlowJoin
    ) -> PendingRequest:
        """Reserve a descriptor. An asynchronous request is answered with it immediately. Raises Refusal."""
        process = connection.process
        if process is None:
            raise Refusal(errno.EPERM, "only a process whose Hello names an application has flows")
        self.check_running()
        descriptor = process.fds.take()
        if descriptor is None:
            raise Refusal(
                errno.EBADF,
                f"{process} has all its flow descriptors in use; see descriptors in table [irmd] of the configuration",
            )
        timeout = body.timeout_ns / 1e9 if body.HasField("timeout_ns") else None
        if body.asynchronous and not timeout:
            timeout = None  # in the API a time-out of zero requests an asynchronous allocation
        request = PendingRequest(connection, process, envelope.id, descriptor, body.asynchronous, timeout)
        if body.asynchronous:
            process.pending[descriptor] = request
            answer = Envelope()
            answer.flow_pending.fd, answer.flow_pending.instance = descriptor
            connection.session.reply(envelope, answer)
        else:
            connection.requests[envelope.id] = request
        return request

    def check_running(self) -> None:
        """Raises Refusal when the IRMd is stopping (spec/lessons 21)."""
        if self.stopping:
            raise Refusal(errno.ESHUTDOWN, "the IRMd is stopping")

    def grant(self, request: PendingRequest, flow: Flow, side: int, data: bytes = b"") -> None:
        """The request has its flow: send it to the process, then raise ALLOC for an asynchronous request."""
        session = request.connection.session
        answer = Envelope()
        endpoint = answer.flow_done.endpoint if request.asynchronous else answer.flow_endpoint
        fds = self._endpoints.describe(flow, side, endpoint, data)
        request.end()
        if not request.asynchronous:
            request.connection.requests.pop(request.id, None)
            answer.id = request.id
            answer.reply = True
            session.send(answer, fds)
            return
        request.process.pending.pop(request.descriptor, None)
        answer.flow_done.fd, answer.flow_done.instance = request.descriptor
        session.send(answer, fds)
        if flow.memory is not None:
            flow.memory.raise_event(side, FlowEvent.ALLOC)

    def fail(self, request: PendingRequest, error: int, text: str) -> None:
        """The request gets no flow. An asynchronous one keeps its descriptor until the process returns it. One that has been
        answered is not changed."""
        if request.done:
            return
        request.end()
        session, process = request.connection.session, request.process
        if not request.asynchronous:
            request.connection.requests.pop(request.id, None)
            process.fds.give_back(request.descriptor)
            session.send(Envelope(id=request.id, reply=True, error=error, text=text))
            return
        answer = Envelope()
        answer.flow_done.fd, answer.flow_done.instance = request.descriptor
        answer.flow_done.error = error
        answer.flow_done.text = text
        session.send(answer)
        events = process.events.get(process.pool.id)
        if events is not None:
            raise_pending(events, request.descriptor.fd)

    def failed(self, connection: RpcConnection, number: int, error: int, text: str) -> bool:
        """A defect has ended the work on a request: undo its effects, and fail it. False: it has been answered."""
        request = connection.requests.get(number)
        if not isinstance(request, PendingRequest):
            pending = () if connection.process is None else connection.process.pending.values()
            request = next((one for one in pending if one.id == number), None)
        if request is None or request.done:
            return False
        if request.undo is not None:
            request.undo()
        self.fail(request, error, text)
        return True

    def cancel(self, connection: RpcConnection, number: int) -> None:
        """The process cancels a request; one that was answered already has nothing to cancel."""
        request = connection.requests.get(number)
        if isinstance(request, PendingRequest) and request.undo is not None:
            request.undo()
            self.fail(request, errno.EINTR, "given up")
        else:
            self._late["cancel"] += 1

    @staticmethod
    def abandon(connection: RpcConnection) -> None:
        """The session of the process is over: cancel all its requests."""
        process = connection.process
        pending = [] if process is None else list(process.pending.values())
        for request in [*connection.requests.values(), *pending]:
            if isinstance(request, PendingRequest):
                if request.undo is not None:
                    request.undo()
                request.end()
        connection.requests.clear()
        if process is not None:
            process.pending.clear()
