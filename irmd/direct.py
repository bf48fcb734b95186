"""Flows between two processes of this system, without an IPCP (paper Fig. 4).

A direct flow is made and answered inside the reader callback of a connection, without a task or a future in between.
"""

from __future__ import annotations

from ouroboros.rpc.messages_pb2 import QosSpec
from ouroboros.rpc.service import Refusal

from .accepting import Accepting
from .facilities import Facilities
from .flow import Step
from .oap import offer
from .records import PendingAccept, PendingRequest, Process

DIRECT_MPL_MS = 1
"""Maximum packet lifetime of a direct flow (spec/rpc RPC-10)."""


def may_be_direct(process: Process, other: Process) -> bool:
    """Whether two processes may share a flow without an IPCP: same pool, and neither is an IPCP (layers
    are built over layers)."""
    return other.ipcp is None and process.ipcp is None and other.pool is process.pool


class DirectAllocation:
    """Gives the flow of an accept to the process that requested it."""

    def __init__(self, facilities: Facilities, accepting: Accepting) -> None:
        self._use = facilities
        self._accepting = accepting

    def connect(self, request: PendingRequest, accept: PendingAccept, name: str, qos: QosSpec) -> None:
        """A direct flow: the flow of the accept serves both (paper Fig. 4)."""
        flow, pool = accept.flow, request.process.pool
        try:
            outcomes = self._use.oap.direct(name, self._use.registry.name(name).policy, request.require)
            self._use.endpoints.open(
                flow,
                request.process,
                request.descriptor,
                accept.process,
                accept.request.descriptor,
                pool,
            )
        except Refusal as refused:
            self._use.requests.fail(request, refused.errno, refused.text)
            return
        try:
            flow.step(Step.GRANT)
            flow.name = name
            flow.qos = QosSpec()
            flow.qos.CopyFrom(qos)
            flow.mpl_ms = DIRECT_MPL_MS
            for side, outcome in enumerate(outcomes):
                flow.secure(side, outcome)
            flow.extensions = offer.applicable(qos, inside=True)
            flow.max_packet = self._use.endpoints.max_packet(pool)
            self._accepting.served(accept)
            self._use.requests.grant(accept.request, flow, 1)
            self._use.requests.grant(request, flow, 0)
        except BaseException:
            # A defect: the client has no flow; the server goes on waiting, or has one that is down.
            self._use.endpoints.close(flow, 0, orderly=False)
            if not accept.request.done:
                self._use.endpoints.close(flow, 1, orderly=False)
                self._accepting.waits_again(accept)
            raise
