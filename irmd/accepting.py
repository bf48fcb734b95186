"""The accepts of processes: begun, served, expired, cancelled (paper 2.11, spec/rpc RPC-16)."""

from __future__ import annotations

import errno
from functools import partial

from ouroboros.rpc.messages_pb2 import Envelope
from ouroboros.rpc.service import Refusal

from .facilities import Facilities
from .flow import Step
from .records import PendingAccept, PendingRequest, Process, RpcConnection

_NO_FLOW = "no flow arrived in the time given"


class Accepting:
    """Keeps the accepts that wait, and gives those that begin to the allocations that wait for them."""

    def __init__(self, facilities: Facilities) -> None:
        self._use = facilities

    def flow_accept(self, connection: RpcConnection, envelope: Envelope) -> None:
        """A process waits for a flow to any name it is bound to; bound to none it waits until it is."""
        request = self._use.requests.begin(connection, envelope, envelope.flow_accept)
        try:
            accept = self._begin(request)
        except Refusal as refused:
            self._use.requests.fail(request, refused.errno, refused.text)
            return
        self._use.superserver.accepted(request.process)
        # also for a served one: if its flow ends first, the accept goes on waiting
        if request.timeout is not None:
            request.timer = self._use.loop.call_later(request.timeout, self._expired, request)
        self._use.waiting.serve(accept)

    def _begin(self, request: PendingRequest) -> PendingAccept:
        accept = PendingAccept(
            request.process, self._use.flows.create(Step.ACCEPT, user=request.process.user), request
        )
        accept.flow.requester = (request.process, request.descriptor)
        request.served = False
        request.process.pace.accept(self._use.loop.time())
        self._use.registry.begin_accept(accept)
        request.undo = partial(self._cancel, accept)
        return accept

    def served(self, accept: PendingAccept) -> None:
        """An accept gets a flow. From now on the requester may have been granted it, so only its process can cancel the accept."""
        accept.request.served = True
        accept.process.pace.served(self._use.loop.time())
        self._use.registry.end_accept(accept)

    def again(self, request: PendingRequest) -> None:
        """The flow of an accept has ended before its process got it: the accept goes back to waiting, if it has time left."""
        if request.timeout is not None and request.timer is None:
            self._use.requests.fail(request, errno.ETIMEDOUT, _NO_FLOW)
            return
        try:
            accept = self._begin(request)
        except Refusal as refused:
            self._use.requests.fail(request, refused.errno, refused.text)
            return
        self._use.waiting.serve(accept)

    def waits_again(self, accept: PendingAccept) -> None:
        """An accept could not get its flow, and goes back to waiting."""
        if accept in accept.process.accepts:
            self._use.registry.end_accept(accept)
        self.again(accept.request)

    def binding_added(self, process: Process) -> None:
        """A process was bound to another name: its accepts may serve requests that wait for that name."""
        for accept in list(process.accepts):
            if accept in process.accepts:
                self._use.waiting.serve(accept)

    def _expired(self, request: PendingRequest) -> None:
        request.timer = None
        if request.undo is not None and not request.served:
            request.undo()
            self._use.requests.fail(request, errno.ETIMEDOUT, _NO_FLOW)

    def _cancel(self, accept: PendingAccept) -> None:
        if accept in accept.process.accepts:
            self._use.registry.end_accept(accept)
        flow = accept.flow
        if flow.memory is not None:  # an IPCP was being attached to it
            self._use.endpoints.close(flow, 0, orderly=False)
        else:
            flow.step(Step.REFUSE)
            self._use.flows.remove(flow)
