"""Dispatches the messages of processes and IPCPs about flows, and ends the flows of a process whose session is over (paper 2.11, 2.12.2; spec/rpc 4).

All of it runs inside the reader callback of a connection.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping

from ouroboros.rpc.messages_pb2 import Envelope
from ouroboros.rpc.service import Refusal

from .accepting import Accepting
from .descriptors import Descriptor
from .facilities import Facilities
from .flow import State
from .incoming import IncomingAllocations
from .outgoing import OutgoingAllocations
from .records import Ipcp, RpcConnection

MAX_QUIET_S = 3600


class Broker:
    """The services that match requests for flows with accepts."""

    def __init__(
        self,
        facilities: Facilities,
        accepting: Accepting,
        outgoing: OutgoingAllocations,
        incoming: IncomingAllocations,
    ) -> None:
        self._use = facilities
        self._accepting = accepting
        self.outgoing = outgoing
        self.incoming = incoming

    def handlers(self) -> Mapping[str, Callable[[RpcConnection, Envelope], None]]:
        """The handler of each message about flows."""
        return {
            "flow_alloc": self.outgoing.flow_alloc,
            "flow_accept": self._accepting.flow_accept,
            "flow_dealloc": self.flow_dealloc,
            "flow_join": self.outgoing.flow_join,
            "ipcp_flow_req": self.incoming.flow_req,
            "ipcp_flow_event": self.incoming.flow_event,
            "ipcp_flow_alloc_reply": self.outgoing.ipcp_flow_alloc_reply,
        }

    def flow_dealloc(self, connection: RpcConnection, envelope: Envelope) -> None:
        """A process returns a descriptor: of a flow, or of an allocation that is pending or has failed."""
        body, process = envelope.flow_dealloc, connection.process
        if process is None:
            raise Refusal(errno.EPERM, "only a process whose Hello names an application has flows")
        if envelope.id:
            connection.session.reply(envelope, Envelope())
        descriptor = Descriptor(body.fd, body.instance)
        flow = process.flows.get(descriptor)
        request = process.pending.pop(descriptor, None)
        if request is not None:
            if request.undo is not None:
                request.undo()
            request.end()
        elif flow is not None and flow.state not in (State.ALLOC_PENDING, State.ACCEPT_PENDING):
            side = flow.side_of(process, descriptor)
            self._use.endpoints.close(flow, side, orderly=True, quiet_s=min(body.quiet_s, MAX_QUIET_S))
        elif flow is not None and flow.ends[1].process is process:
            self.outgoing.provider_deallocated(flow)
            return
        else:
            self._use.late["flow_dealloc"] += 1
            return
        process.fds.give_back(descriptor)

    def process_disconnected(self, connection: RpcConnection) -> None:
        """The session of a process is over: its pending requests are cancelled, its flows go down."""
        process = connection.process
        assert process is not None
        process.disconnected = True
        self._use.requests.abandon(connection)
        names = list(process.names)
        self._use.registry.remove_process(process)
        for name in names:
            self._use.waiting.recheck(name)
        if process.ipcp is not None:
            self._ipcp_disconnected(process.ipcp, connection)
        for descriptor, flow in list(process.flows.items()):
            self._use.endpoints.close(flow, flow.side_of(process, descriptor), orderly=False)
        self._use.endpoints.disconnected(process)

    def _ipcp_disconnected(self, ipcp: Ipcp, connection: RpcConnection) -> None:
        ipcp.process = None  # it provides no flows any more, though its process may still run
        self.outgoing.ipcp_disconnected(ipcp)
        self.incoming.ipcp_disconnected(connection)
