"""The prototype's udp4 IPCP, and its IRMd's part of the handshake: flows over real datagrams (spec/common 7, spec/udp, spec/oap).

Used by the prototype of the tests, on its loop. It does not answer unknown senders, handles one request at a time and the last
one first. It reuses the lowest free endpoint id immediately after a raw flow, and none of an ordered flow while that lingers.
Having refused once it answers no request any more (`wedged`), and a reply may get lost in it (`mislaid`).
"""

from __future__ import annotations

import asyncio
import hashlib
import socket
import struct
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from . import lower
from .judge import Judge
from .lower import Management, Qos
from .names import ALLOC_TIME, Flow, Gone, Names
from .octets import Wrong

Address = tuple[str, int]
_EID = struct.Struct(">I")
MOST_AT_ONCE = 16
"""Requests that may be open: twenty simultaneous ones crash a prototype's IPCP."""
GRACE = 30.0
"""Seconds for which packets may still arrive at a released endpoint: its peer is not notified of the release."""
LINGER = 3 * 5.0 + 10.0 + 120.0
"""Seconds for which an ordered flow holds its endpoint id after it was given up: 3 MPL + A + R."""


class Refused(Exception):
    """The other side refused, with `response`."""

    def __init__(self, response: int) -> None:
        super().__init__(f"response {response}")
        self.response = response


def md5(name: bytes) -> bytes:
    """The hash of the layer."""
    return hashlib.md5(name, usedforsecurity=False).digest()


@dataclass(slots=True)
class _End:
    """An endpoint id of this prototype."""

    flow: Flow
    peer: Address
    peer_eid: int
    again: bool = False
    """Whether what comes may be meant for a flow that had it before."""
    replied: bool = True
    """Whether the reply has come: data follows it."""
    request: bytes = b""
    answered: asyncio.Future[tuple[Management, Address]] | None = None


class Link:
    """`hosts` has the contents of a hosts file: addresses by name. `cut` loses every datagram, in both directions."""

    def __init__(
        self, names: Names, judge: Judge, hosts: Mapping[str, str], *, ip: str, port: int = 3435
    ) -> None:
        self.names = names
        self.judge = judge
        self.cut = False
        self.deaf = False
        """It does not even answer requests: as a process that was stopped."""
        self.mislaid = 0
        """The number of next replies that are sent to an address that was not stored yet: they are lost, though the flow exists."""
        self.wedged = False
        """It has refused a request, and answers none any more."""
        self.requests: list[Management] = []
        """That came."""
        self.refusals: list[int] = []
        """Responses of refusals that came."""
        self._hosts = hosts
        self._port = port
        self._loop = asyncio.get_running_loop()
        self._ends: dict[int, _End] = {}
        self._freed: dict[int, float] = {}
        self._lingering: dict[int, float] = {}
        """Until when ids are held by ordered flows."""
        self._headers: set[bytes] = set()
        self.stack: list[tuple[bytes, Address]] = []
        self._arrived = asyncio.Event()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind((ip, port))
        self._loop.add_reader(self._socket, self._receive)
        self.handler = self._loop.create_task(self._handle())

    def close(self) -> None:
        self.handler.cancel()
        for end in list(self._ends.values()):
            end.flow.deallocate()
        self._loop.remove_reader(self._socket)
        self._socket.close()

    def send(self, datagram: bytes, to: Address) -> None:
        """Put octets on the wire, whatever they are."""
        if not self.cut:
            self._socket.sendto(datagram, to)

    # ---------------------------------------------------------------- requester

    async def allocate(self, name: str, qos: Qos = lower.RAW, *, timeout: float = ALLOC_TIME) -> Flow:
        """A flow to a name. Raises Refused, Gone."""
        peer = (self._hosts[name], self._port)
        eid = self.take()
        header = lower.new_header()
        end = self.open(eid, qos, peer, 0)
        end.again, end.replied = self._loop.time() - self._freed.get(eid, float("-inf")) <= GRACE, False
        end.request, end.answered = header, self._loop.create_future()
        request = Management(lower.REQUEST, eid, 0, 0, qos, md5(name.encode()) + header)
        self.send(lower.write_management(request), peer)
        try:
            async with asyncio.timeout(timeout):
                reply, source = await end.answered
        except TimeoutError:
            del self._ends[eid]  # the real one keeps it, for ever
            raise Gone(f'no answer from "{name}"') from None
        finally:
            end.answered = None
        if reply.response:
            self.refusals.append(reply.response)
            end.flow.deallocate()
            raise Refused(reply.response)
        good = self.judge.look("handshake", reply.header, lower.read_reply_header, reply.header, header)
        if good is None:
            end.flow.deallocate()
            raise Refused(-1008)
        end.peer_eid = reply.acceptor
        return end.flow

    def take(self) -> int:
        """The lowest endpoint id that is free."""
        self.expire()
        held = self._ends.keys() | self._lingering.keys()
        return next(eid for eid in range(lower.FIRST_EID, lower.LAST_EID + 1) if eid not in held)

    def expire(self, later: float = 0.0) -> None:
        """Free the ids of flows that have lingered for long enough, now or the given number of seconds later."""
        now = self._loop.time() + later
        self._lingering = {eid: until for eid, until in self._lingering.items() if now < until}

    def open(self, eid: int, qos: Qos, peer: Address, peer_eid: int) -> _End:
        flow = Flow(eid, qos, lambda packet: self._write(eid, packet), lambda: self._free(eid))
        self._ends[eid] = _End(flow, peer, peer_eid)
        return self._ends[eid]

    def _free(self, eid: int) -> None:
        end = self._ends.pop(eid)
        self._freed[eid] = self._loop.time()
        if end.flow.qos.in_order:
            self._lingering[eid] = self._loop.time() + LINGER

    def _write(self, eid: int, packet: bytes) -> None:
        end = self._ends[eid]
        if end.peer_eid and len(packet) <= 8980:
            self.send(_EID.pack(end.peer_eid) + packet, end.peer)

    # ---------------------------------------------------------------- datagrams

    def _receive(self) -> None:
        while True:
            try:
                datagram, source = self._socket.recvfrom(65536)
            except BlockingIOError:
                return
            if not (self.cut or self.deaf):
                self.judge.look("datagram", datagram, self._take_in, datagram, source)

    def _take_in(self, datagram: bytes, source: Address) -> None:
        if len(datagram) < _EID.size:
            raise Wrong("a datagram without endpoint id")
        (eid,) = _EID.unpack_from(datagram)
        if eid == 0:
            self.stack.append((datagram, source))
            self._arrived.set()
            self._note_reply(datagram)
            return
        if eid > lower.LAST_EID:
            raise Wrong(f"endpoint id {eid}: 0.23 looks behind its table")
        if len(datagram) > lower.MOST_DATAGRAM:
            raise Wrong(f"a datagram of {len(datagram)} octets, which is cut at {lower.MOST_DATAGRAM}")
        end = self._ends.get(eid)
        if end is not None and not end.replied:
            if not end.again:
                raise Wrong(f"endpoint id {eid}: data before the reply")
        elif end is not None:
            end.flow.arrived(datagram[_EID.size :])
        elif self._loop.time() - self._freed.get(eid, float("-inf")) > GRACE:
            raise Wrong(f"endpoint id {eid}, which nobody was given")

    def _note_reply(self, datagram: bytes) -> None:
        """At once: it is handled later, perhaps after the data behind it."""
        with suppress(Wrong):
            message = lower.read_management(datagram)
            if message.code == lower.REPLY and (end := self._ends.get(message.requester)):
                end.replied = True

    # ---------------------------------------------------------------- management, one thread

    async def _handle(self) -> None:
        while True:
            while not self.stack:
                self._arrived.clear()
                await self._arrived.wait()
            if len(self.stack) > MOST_AT_ONCE:
                self.judge.wrong("management", f"{len(self.stack)} requests at once", self.stack[0][0])
            datagram, source = self.stack.pop()  # the last one first
            message = self.judge.look("management", datagram, lower.read_management, datagram)
            if message is None:
                continue
            if message.code == lower.REPLY:
                self._replied(message, source, datagram)
            else:
                await self._requested(message, source, datagram)

    def _replied(self, message: Management, source: Address, datagram: bytes) -> None:
        end = self._ends.get(message.requester)
        if end is None or end.answered is None or end.answered.done():
            self.judge.wrong("management", "a reply that nobody waits for", datagram)
        elif source != end.peer:
            self.judge.wrong("management", f"a reply from {source} and not {end.peer}", datagram)
        else:
            end.answered.set_result((message, source))

    async def _requested(self, message: Management, source: Address, datagram: bytes) -> None:
        self.requests.append(message)
        if self.wedged:
            return
        process = self.names.find(message.name, md5)
        if process is None:
            return  # silence
        offer = await process.accepting()
        if offer is None:
            return
        header = self.judge.look(
            "handshake", datagram, lower.read_request_header, message.header, time.time_ns()
        )
        if header is not None and header.octets[:24] in self._headers:
            self.judge.wrong("handshake", "a header that was used before", datagram)
            header = None
        eid = self.take()
        if header is None:
            process.offers.appendleft(offer)
            refusal = Management(lower.REPLY, message.requester, eid, -1009, lower.NO_QOS, b"")
            self.send(lower.write_management(refusal), source)
            self.wedged = True
            return
        self._headers.add(header.octets[:24])
        end = self.open(eid, message.qos, source, message.requester)
        data = lower.reply_header(header.octets)
        reply = Management(lower.REPLY, message.requester, eid, 0, lower.NO_QOS, data)
        if self.mislaid:
            self.mislaid -= 1
        else:
            self.send(lower.write_management(reply), source)
        offer.set_result(end.flow)
