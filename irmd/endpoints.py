"""The ends of flows in shared memory: made, described to their processes, closed, given back.

The only module that uses `Memory` for flows. The message that gives a process its end carries the descriptors that it
needs to attach; a pool, a segment or an event region is sent to a process once.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from ouroboros.flow_event import FlowEvent
from ouroboros.rpc.messages_pb2 import Envelope, FlowEndpoint, Resource, SegmentGone
from ouroboros.rpc.service import Refusal

from .flow import State, Step
from .flow_table import FlowTable
from .records import End, Flow, Ipcp, Process

if TYPE_CHECKING:
    from google.protobuf.internal.containers import RepeatedCompositeFieldContainer

    from .descriptors import Descriptor
    from .memory import Events, Memory, Pool

log = logging.getLogger("irmd/flow")


_POOL = Resource.Kind.POOL
_SEGMENT = Resource.Kind.SEGMENT
_EVENTS = Resource.Kind.EVENTS

_ENDED = FlowEvent.DOWN | FlowEvent.DEALLOC


def name_of(der: bytes) -> str:
    """The common name of a verified certificate, "" when it has none, or several."""
    from .oap import certificate  # loaded already: it was verified

    try:
        return certificate.common_name(certificate.load(der))
    except certificate.NotAuthentic:
        return ""


class Endpoints:
    """Makes and ends flows. `announce(message)` notifies the processes that have mapped what the message names."""

    def __init__(
        self,
        memory: Memory,
        flows: FlowTable,
        *,
        announce: Callable[[SegmentGone], None],
    ) -> None:
        self._memory = memory
        self._system_pool = memory.pool(0, trusted=True)
        self._flows = flows
        self._announce = announce
        self._max_packet: dict[int, int] = {}
        self._unfinished: dict[Process, int] = {}
        self._exited: dict[Process, bool] = {}
        """True once the process itself has exited, not only its session is over."""
        self._pool_users: dict[int, int] = {}

    # ------------------------------------------------------------ processes

    def add_process(self, process: Process, envelope: Envelope) -> tuple[int, ...]:
        """Fill the Welcome of a new process with its pool and event region; returns their descriptors."""
        pool = process.pool
        self._pool_users[pool.id] = self._pool_users.get(pool.id, 0) + 1
        try:
            events = self._events(process, pool)
        except BaseException:
            self._leave_pool(pool, SegmentGone())  # no process knows it
            raise
        self._unfinished[process] = 0
        welcome = envelope.welcome
        welcome.process = process.token
        welcome.pool = pool.id
        welcome.events = events.id
        fds: list[int] = []
        self._attach(process, welcome.resources, fds, _POOL, pool.id, (pool.fd,))
        self._attach(process, welcome.resources, fds, _EVENTS, events.id, events.fds)
        return tuple(fds)

    def disconnected(self, process: Process) -> None:
        """The session of a process is over and its ends are closed."""
        self._exited.setdefault(process, False)
        self._release_process(process)

    def exited(self, process: Process) -> None:
        """The process has exited: every block it held returns to its pool."""
        self._exited[process] = True
        pools = [process.pool] if process.ipcp is None else None
        self._memory.reclaim(process.token, pools)
        self._release_process(process)

    def _release_process(self, process: Process) -> None:
        """Release the memory of a process that has exited, once no peer has an end of a flow with it."""
        if not process.disconnected or self._unfinished.get(process) != 0 or not self._exited.get(process):
            return
        del self._unfinished[process]
        del self._exited[process]
        message = SegmentGone(
            segments=self._memory.release_process(process.token),
            events=[events.id for events in process.events.values()],
        )
        for events in process.events.values():
            events.close()
        process.events.clear()
        self._leave_pool(process.pool, message)
        self._announce(message)

    def _leave_pool(self, pool: Pool, message: SegmentGone) -> None:
        """A process has left a pool: a user's pool is released with the last one, and its id is added to `message`."""
        self._pool_users[pool.id] -= 1
        if not self._pool_users[pool.id]:
            del self._pool_users[pool.id]
            if pool is not self._system_pool:
                self._memory.release_pool(pool)
                self._max_packet.pop(pool.id, None)
                message.pools.append(pool.id)
                message.events.extend(self._close_domain(pool))

    def _close_domain(self, pool: Pool) -> list[int]:
        """Close the event regions that IPCPs have for flows of a released pool: the trust domain has no process any more."""
        closed: list[int] = []
        for process in self._unfinished:
            events = process.events.pop(pool.id, None) if process.ipcp is not None else None
            if events is not None:
                closed.append(events.id)
                events.close()
        return closed

    def _events(self, process: Process, pool: Pool) -> Events:
        """The event region of a process for flows of `pool`: an IPCP has one for each trust domain."""
        key = pool.id if process.ipcp is not None else process.pool.id
        events = process.events.get(key)
        if events is None:
            events = process.events[key] = self._memory.events(pool)
        return events

    # ------------------------------------------------------------ flows

    def open(
        self,
        flow: Flow,
        first: Process,
        descriptor: Descriptor,
        second: Process,
        other: Descriptor,
        pool: Pool,
    ) -> None:
        """Make the FIFOs of a flow between two processes. Raises Refusal, and nothing is made."""
        try:
            memory = self._memory.flow(first.token, second.token, pool)
            try:
                ends = [
                    End(first, descriptor, self._events(first, pool)),
                    End(second, other, self._events(second, pool)),
                ]
                memory.open(ends[0].events, descriptor.fd, ends[1].events, other.fd)
            except BaseException:
                memory.release()
                raise
        except (OSError, MemoryError) as error:
            raise Refusal(errno.ENOMEM, f"no shared memory for another flow: {error}") from None
        flow.memory = memory
        flow.pool = pool
        flow.ends = ends
        first.flows[descriptor] = flow
        second.flows[other] = flow
        self._unfinished[first] += 1
        self._unfinished[second] += 1

    def open_over(self, flow: Flow, process: Process, descriptor: Descriptor, ipcp: Ipcp) -> None:
        """The same for a flow over a layer, between a process and its IPCP. Raises Refusal, and nothing is made."""
        provider = ipcp.process
        assert provider is not None
        other = provider.fds.take()
        if other is None:
            raise Refusal(errno.EBADF, f'IPCP "{ipcp.name}" has no flow descriptor left')
        try:
            self.open(flow, process, descriptor, provider, other, process.pool)
        except BaseException:
            provider.fds.give_back(other)
            raise

    def max_packet(self, pool: Pool) -> int:
        """The largest packet that a block of `pool` holds, in octets."""
        size = self._max_packet.get(pool.id)
        if size is None:
            size = self._max_packet[pool.id] = max(count.size for count in pool.counts())
        return size

    def describe(self, flow: Flow, side: int, endpoint: FlowEndpoint, data: bytes = b"") -> tuple[int, ...]:
        """Fill in all facts that the process at `side` needs to attach; returns the descriptors to send with them."""
        memory, pool = flow.memory, flow.pool
        assert memory is not None and pool is not None
        mine, peer = flow.ends[side], flow.ends[1 - side]
        endpoint.flow_id = flow.id
        endpoint.fd, endpoint.instance = mine.descriptor
        endpoint.segment = memory.segment_id
        endpoint.index = memory.index
        endpoint.side = side
        endpoint.serial = memory.serial
        endpoint.events = mine.events.id
        endpoint.peer_events = peer.events.id
        endpoint.peer_fd = peer.fd
        endpoint.pool = pool.id
        if flow.qos is not None:
            endpoint.qos.CopyFrom(flow.qos)
        endpoint.mpl_ms = flow.mpl_ms
        endpoint.max_packet = flow.max_packet
        endpoint.direct = flow.ipcp is None
        endpoint.inside = flow.ipcp is None or flow.ipcp.inside
        if flow.extensions:
            endpoint.extensions.extend(sorted(flow.extensions))
        if data:
            endpoint.data = data
        if not (side == 1 and flow.ipcp is not None):  # a layer carries the flow, and gets no secret of it
            if flow.cipher:
                endpoint.cipher, endpoint.key = flow.cipher, flow.key
            if (
                side == 0
            ):  # side 0 is attached last: the IRMd does not need the key any more, from which later keys are derived
                flow.key = b""
            if flow.is_checked:
                endpoint.check = True
            certificate = flow.certificates[side]
            if certificate:
                endpoint.peer_certificate = certificate
                endpoint.peer_name = name_of(certificate)
        process = mine.process
        if side == 0 and process.ipcp is not None:
            endpoint.path, endpoint.layer = flow.path, flow.layer
        fds: list[int] = []
        self._attach(process, endpoint.resources, fds, _POOL, pool.id, (pool.fd,))
        self._attach(process, endpoint.resources, fds, _SEGMENT, memory.segment_id, (memory.segment_fd,))
        self._attach(process, endpoint.resources, fds, _EVENTS, mine.events.id, mine.events.fds)
        self._attach(process, endpoint.resources, fds, _EVENTS, peer.events.id, peer.events.doorbell_fds)
        return tuple(fds)

    @staticmethod
    def _attach(
        process: Process,
        resources: RepeatedCompositeFieldContainer[Resource],
        fds: list[int],
        kind: Resource.Kind.ValueType,
        number: int,
        descriptors: tuple[int, ...],
    ) -> None:
        if (kind, number) not in process.known:
            process.known.add((kind, number))
            resources.add(kind=kind, id=number)
            fds.extend(descriptors)

    @staticmethod
    def send_again(flow: Flow, side: int) -> None:
        """The process at `side` has failed to attach, so it may lack the objects that came with its end: the next end carries
        them again."""
        memory, pool = flow.memory, flow.pool
        assert memory is not None and pool is not None
        mine, peer = flow.ends[side], flow.ends[1 - side]
        mine.process.known.difference_update(
            (
                (_POOL, pool.id),
                (_SEGMENT, memory.segment_id),
                (_EVENTS, mine.events.id),
                (_EVENTS, peer.events.id),
            )
        )

    # ------------------------------------------------------------ the end of a flow

    def close(self, flow: Flow, side: int, *, orderly: bool, quiet_s: int = 0) -> None:
        """One end has been deallocated (`orderly`), or its process has exited; closing it again has no effect.

        quiet_s  the rest of Delta-t by the process's own count; for one that exited without it, the longest possible.
        The other end sees DOWN after it has read the queued packets. The flow is released with its second end.
        """
        mine, other = flow.ends[side], flow.ends[1 - side]
        memory = flow.memory
        if not mine.open or memory is None:
            return
        mine.open = False
        mine.process.flows.pop(mine.descriptor, None)
        if flow.state is State.ALLOCATED:
            flow.step(Step.DEALLOC)
        elif flow.state in (State.ALLOC_PENDING, State.ACCEPT_PENDING):
            flow.step(Step.REFUSE)
        flow.down = True
        if not other.open:
            self._release_flow(flow)
            return
        # An IPCP must learn that this flow does not come up again.
        ended = orderly or other.process.ipcp is not None
        memory.close_side(side, _ENDED if ended else FlowEvent.DOWN)
        if side == 0 and flow.ipcp is not None:
            self._dealloc_at_provider(flow, quiet_s if orderly else flow.quiet_s)

    def provider_closed(self, flow: Flow) -> None:
        """The IPCP of a flow has deallocated its end."""
        end = flow.ends[1]
        if end.open:
            self.close(flow, 1, orderly=True)
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

    def _release_flow(self, flow: Flow) -> None:
        assert flow.memory is not None
        flow.memory.release()
        flow.memory = None
        idle = self._memory.trim()
        if idle:
            self._announce(SegmentGone(segments=idle))
        if flow.state is State.DEALLOC_PENDING:
            flow.step(Step.RELEASE)
        self._flows.remove(flow)
        for end in flow.ends:
            self._unfinished[end.process] -= 1
            if end.process.disconnected:
                self._release_process(end.process)


def announce(processes: Mapping[int, Process], message: SegmentGone) -> None:
    """Notify each process that has mapped one of these objects to unmap it."""
    released = {(_SEGMENT, number) for number in message.segments}
    released |= {(_EVENTS, number) for number in message.events}
    released |= {(_POOL, number) for number in message.pools}
    if not released:
        return
    for process in processes.values():
        if not process.known.isdisjoint(released):
            process.known -= released
            process.session.send(Envelope(segment_gone=message))
