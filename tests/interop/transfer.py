"""The prototype's data transfer and flow allocator (spec/dt, spec/fa).

Used by the prototype of the tests, on its loop. It handles one request at a time, and does not answer a request for an unknown name.
A reply may get lost in it (`mislaid`). Endpoint ids contain the descriptor, which is reused like the ids of `link`.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass

from . import lower, upper
from .judge import Judge
from .link import Refused
from .lower import Qos
from .names import ALLOC_TIME, Flow, Gone, Names
from .octets import Wrong
from .upper import FaMessage, Packet


def sha3(name: bytes) -> bytes:
    """The hash of the layer."""
    return hashlib.sha3_256(name).digest()


class DataTransfer:
    """Reads packets of lower flows, forwards and delivers. `routes` finds the flow to an address."""

    def __init__(
        self, address: int, max_ttl: int, judge: Judge, routes: Callable[[int], Flow | None]
    ) -> None:
        self.address = address
        self.components: dict[int, Callable[[bytes], None]] = {}
        self.dropped = 0
        self.received: list[Packet] = []
        self.forwarded: list[Packet] = []
        """As they came."""
        self._max_ttl = max_ttl
        self._judge = judge
        self._routes = routes
        self.ends: dict[int, Flow] = {}
        self._known: set[int] = set()

    def use(self, lower_flow: Flow) -> None:
        """This flow carries data transfer."""
        lower_flow.use(lambda octets: self._arrived(octets))

    def open(self, eid: int, flow: Flow) -> None:
        self.ends[eid] = flow
        self._known.add(eid)

    def closed(self, eid: int) -> None:
        self.ends.pop(eid, None)

    def send(self, dst: int, eid: int, payload: bytes, *, ecn: int = 0) -> bool:
        """False: there is no route."""
        lower_flow = self._routes(dst)
        if lower_flow is None:
            return False
        lower_flow.write(Packet(dst, 0, self._max_ttl, ecn, eid, payload).write())
        return True

    def _arrived(self, octets: bytes) -> None:
        self._judge.look("data transfer", octets, self._take, octets)

    def _take(self, octets: bytes) -> None:
        packet = upper.read_packet(octets, self._max_ttl)
        if packet.dst != self.address:
            self._forward(packet)
            return
        self.received.append(packet)
        if packet.eid < 64:
            component = self.components.get(packet.eid)
            if component is None:
                raise Wrong(f"there is no component {packet.eid}")
            component(packet.payload)
        elif packet.eid in self.ends:
            self.ends[packet.eid].arrived(packet.payload)
        elif packet.eid not in self._known:
            raise Wrong(f"endpoint id {packet.eid:#x}, which nobody was given")

    def _forward(self, packet: Packet) -> None:
        lower_flow = self._routes(packet.dst)
        if packet.ttl == 1 or lower_flow is None:
            self.dropped += 1
            return
        self.forwarded.append(packet)
        lower_flow.write(
            Packet(packet.dst, packet.cube, packet.ttl - 1, packet.ecn, packet.eid, packet.payload).write()
        )


@dataclass(slots=True)
class _Pending:
    header: bytes
    answered: asyncio.Future[FaMessage]


class FlowAllocator:
    """`resolve(hash)` asks the directory."""

    def __init__(
        self,
        dt: DataTransfer,
        names: Names,
        judge: Judge,
        resolve: Callable[[bytes, float], asyncio.Task[int | None]],
    ) -> None:
        self.updates: list[int] = []
        """Congestion levels that were reported."""
        self.refusals: list[int] = []
        self.peers: list[Peer] = []
        """Of the flows that were asked for here."""
        self.mislaid = 0
        """So many of the next replies are not sent, though the flow is there."""
        self._dt = dt
        self._names = names
        self._judge = judge
        self._resolve = resolve
        self._fds = iter(range(70, 4096))  # those before are the lower flows of the process
        self._pending: dict[int, _Pending] = {}
        self._headers: set[bytes] = set()
        self._requests: asyncio.Queue[FaMessage] = asyncio.Queue()
        self._worker = asyncio.get_running_loop().create_task(self._respond())
        self._dt.components[upper.FLOW_ALLOCATOR] = self._arrived

    def close(self) -> None:
        self._worker.cancel()

    async def allocate(
        self, name: str, qos: Qos = lower.RAW, *, timeout: float = ALLOC_TIME, tries: int = 10
    ) -> Flow:
        """A flow to a name of the layer. Raises Refused, Gone.

        The IRMd asks the directory for 200 ms; an answer that comes later is there when the user tries again.
        """
        key = sha3(name.encode())
        for _ in range(tries):
            address = await self._resolve(key, 0.2)
            if address is not None:
                break
        else:
            raise Gone(f'the directory does not answer 200 ms after the question for "{name}"')
        eid, flow = self._new_end(qos)
        peer = Peer(address)
        flow_send = peer.sender(self._dt)
        flow.send = flow_send
        header = lower.new_header()
        pending = self._pending[eid] = _Pending(header, asyncio.get_running_loop().create_future())
        request = FaMessage(upper.REQUEST, self._dt.address, 0, eid, 0, qos, 0, key, header)
        if not self._dt.send(address, upper.FLOW_ALLOCATOR, request.write()):
            raise Gone(f"no route to {address:#x}")
        try:
            async with asyncio.timeout(timeout):
                reply = await pending.answered
        except TimeoutError:
            raise Gone(f'no answer from "{name}"') from None
        del self._pending[eid]
        if reply.response:
            self.refusals.append(reply.response)
            flow.deallocate()
            raise Refused(reply.response)
        if self._judge.look("handshake", reply.data, lower.read_reply_header, reply.data, header) is None:
            raise Refused(-1008)
        peer.eid = reply.eid
        self.peers.append(peer)
        return flow

    def _new_end(self, qos: Qos) -> tuple[int, Flow]:
        fd = next(self._fds)
        eid = int.from_bytes(os.urandom(4), "big") << 32 | fd
        flow = Flow(fd, qos, lambda packet: None, lambda: self._dt.closed(eid))
        self._dt.open(eid, flow)
        return eid, flow

    # ---------------------------------------------------------------- messages

    def _arrived(self, payload: bytes) -> None:
        self._judge.look("flow allocator", payload, self._take, payload)

    def _take(self, payload: bytes) -> None:
        message = upper.read_fa(payload, 32)
        if message.code == upper.REQUEST:
            if message.source == self._dt.address:
                raise Wrong("a request that says it comes from its receiver")
            self._requests.put_nowait(message)
            return
        if message.code == upper.UPDATE:
            self.updates.append(message.congestion)
            if message.to not in self._dt.ends:
                raise Wrong("an update for a flow that there is not")
            return
        pending = self._pending.get(message.to)
        if pending is None or pending.answered.done():
            raise Wrong("a reply that nobody waits for")
        pending.answered.set_result(message)

    async def _respond(self) -> None:
        while True:
            request = await self._requests.get()
            process = self._names.find(request.key, sha3)
            offer = await process.accepting() if process is not None else None
            if process is None or offer is None:
                continue  # silence
            header = self._judge.look(
                "handshake", request.data, lower.read_request_header, request.data, time.time_ns()
            )
            if header is not None and header.octets[:24] in self._headers:
                self._judge.wrong("handshake", "a header that was used before", request.data)
                header = None
            eid, flow = self._new_end(request.qos)
            if header is None:
                process.offers.appendleft(offer)
                flow.deallocate()
                refusal = FaMessage(upper.REPLY, to=request.eid, eid=eid, response=-1009)
                self._dt.send(request.source, upper.FLOW_ALLOCATOR, refusal.write())
                continue
            self._headers.add(header.octets[:24])
            flow.send = Peer(request.source, request.eid).sender(self._dt)
            reply = FaMessage(upper.REPLY, to=request.eid, eid=eid, data=lower.reply_header(request.data))
            if self.mislaid:
                self.mislaid -= 1
            else:
                self._dt.send(request.source, upper.FLOW_ALLOCATOR, reply.write())
            offer.set_result(flow)


@dataclass(slots=True)
class Peer:
    """The other end of a flow. `ecn`: the marks on the path to it."""

    address: int
    eid: int = 0
    ecn: int = 0

    def sender(self, dt: DataTransfer) -> Callable[[bytes], None]:
        def send(packet: bytes) -> None:
            if self.eid:
                dt.send(self.address, self.eid, packet, ecn=self.ecn)

        return send
