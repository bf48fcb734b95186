"""The UDP IPCPs, udp4 and udp6: a layer over IP (paper 5.5, 5.10; spec/common, spec/udp).

The shell around the machines: it connects the flow allocator, which is that of the ethernet types, and the resolver to the
socket, to the clock and to the IRMd. Runs in the process of the IPCP, on its loop; packets of flows pass it by, in C
(`dataplane/src/udp.h`).

Only names that are registered with the IPCP can be reached from outside (a prototype does not look): an administrator opens a
service of a system to a network by registering it there. The IPCP refuses a request for another name; a requesting
prototype treats that as any refusal, and need not wait 20 s for a timeout.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
from collections import deque
from typing import ClassVar

from ipcpd.common.end import End
from ipcpd.common.ipcp import Result
from ipcpd.dataplane import Punt
from ipcpd.dataplane.udp import Peer, Udp, pack_peer, unpack_peer
from ipcpd.link.endpoints import Endpoints
from ipcpd.link.fa import FlowAllocator
from ipcpd.link.link import MANAGEMENT, PATHS, LinkIpcp
from ipcpd.link.paths import NONE, QUOTA, Paths
from ipcpd.wire import udp as wire
from ipcpd.wire.link import FlowReply, FlowRequest
from ouroboros.errors import ENAME
from ouroboros.facts import DATAGRAMS, UDP_NEIGHBOURS, UDP_STATUS, Row
from ouroboros.rpc.messages_pb2 import MD5, IpcpConfig, IpcpFlowAlloc
from ouroboros.rpc.service import Refusal
from ouroboros.wire import FIRST_EID, MAX_EID, MalformedPacket, UnsendablePacket

from . import port, translation
from .address import Address, is_link_local
from .ddns import DnsError, DnsServer
from .hosts import HostsFile, default_path
from .resolver import Resolver, Unresolved

log = logging.getLogger("ipcpd/udp")

MPL_MS = 5000
"""Maximum packet lifetime of the layer, ms (spec/common 3)."""

MANAGEMENT_QUOTA = 512 << 10
"""Octets of management datagrams that may wait for this IPCP."""
PUNT_OCTETS = 1 << 20

REPLY_TIME = 19.5
"""Seconds until a request without a reply is given up: a little before the IRMd does (20 s), because its error cannot
name the member that did not answer."""

EIDS = range(FIRST_EID, MAX_EID + 1)
ROOM = wire.MAX_MESSAGE - wire.MESSAGE_LENGTH
MAX_WAITING = 1024
"""Management datagrams that wait for the socket to take them."""


class UdpIpcp(LinkIpcp):
    """The common part of the two types. `ip` and `port` of the layer are those of its socket."""

    mpl_ms: ClassVar[int] = MPL_MS
    max_packet: ClassVar[int]

    def __init__(self, name: str, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(name, loop)
        self.hash = MD5
        self._resolving: dict[End, IpcpFlowAlloc] = {}
        """Requests whose name is being looked up, by descriptor."""
        self._asking: dict[End, asyncio.TimerHandle] = {}
        """Requests that wait for a reply, with the timer of their deadline."""
        endpoints = Endpoints(EIDS, len(EIDS), lambda _: True, rest=MPL_MS / 1000)
        self._fa = FlowAllocator(
            endpoints, self._registered, show=lambda peer: str(Address.unpack(peer)), alone=True
        )
        self._waiting: deque[tuple[Address, FlowRequest | FlowReply]] = deque()
        self._unsent = 0
        self._udp: Udp | None = None
        self._socket: socket.socket | None = None
        self._address = Address(b"", 0)
        self._resolver: Resolver | None = None
        self._server: DnsServer | None = None

    # ------------------------------------------------------------ life

    def bootstrap(self, config: IpcpConfig, values: dict[str, str]) -> Result:
        try:
            self._socket, self._address = port.take(values["ip"], int(values["port"]))
        except port.PortError as failure:
            raise Refusal(failure.errno or errno.EIO, str(failure.strerror)) from None
        try:
            dns = values.get("dns")
            if dns and any(Address.of(dns, 0).ip):
                self._server = DnsServer(dns, self._address.host)
            self._punt = punt = Punt(PUNT_OCTETS)
            self._udp = Udp(
                self._relay,
                punt,
                component=MANAGEMENT,
                quota=MANAGEMENT_QUOTA,
                socket=self._socket.fileno(),
                max_packet=self.max_packet,
                on_management=self._received,
            )
            self._paths = Paths(self._udp.paths, self._show_path, values.get("rate", NONE))
            punt.component(PATHS, QUOTA, self._paths.reported)
            self._resolver = Resolver(
                self.loop, family=self._address.family, hosts=HostsFile(default_path()), server=self._server
            )
            punt.run(self.loop)
        except BaseException:
            self._let_go()
            raise
        log.info("member of layer %s at %s", config.layer, self._address)
        return None

    def close(self) -> None:
        for timer in self._asking.values():
            timer.cancel()
        if self._resolver is not None:
            self._resolver.close()
        if self._server is not None:
            self._server.farewell()
        super().close()

    def _let_go(self) -> None:
        if self._udp is not None:
            self._udp.close()
            self._udp = None
        super()._let_go()
        if self._socket is not None:
            self.loop.remove_writer(self._socket.fileno())
            self._socket.close()
            self._socket = None

    @property
    def _up(self) -> tuple[Udp, Resolver]:
        """Data plane and resolver, which a member has."""
        assert self._udp is not None and self._resolver is not None
        return self._udp, self._resolver

    @property
    def _running(self) -> bool:
        return self._udp is not None

    @property
    def _largest(self) -> int:
        return self.max_packet

    @property
    def _room(self) -> int:
        return ROOM

    # ------------------------------------------------------------ directory

    def reg(self, digest: bytes) -> Result:
        super().reg(digest)
        return None if self._server is None else self._register(self._server, digest)

    async def _register(self, server: DnsServer, digest: bytes) -> None:
        try:
            await server.register(digest.hex())
        except DnsError as failure:
            self._registered.discard(digest)
            raise Refusal(errno.EIO, f"cannot register the name: {failure}") from None

    def unreg(self, digest: bytes) -> Result:
        super().unreg(digest)
        return None if self._server is None else self._unregister(self._server, digest)

    async def _unregister(self, server: DnsServer, digest: bytes) -> None:
        try:
            await server.unregister(digest.hex())
        except DnsError as failure:
            raise Refusal(errno.EIO, f"the name is not registered here any more, but: {failure}") from None

    def query(self, digest: bytes) -> Result:
        _, resolver = self._up
        if resolver.known(digest):
            return None
        return self._resolve(resolver, digest)

    async def _resolve(self, resolver: Resolver, digest: bytes) -> None:
        try:
            await resolver.resolve(digest)
        except Unresolved as failure:
            raise Refusal(errno.ENOENT, str(failure)) from None

    # ------------------------------------------------------------ flows that our processes ask for

    def _find(self, end: End, request: IpcpFlowAlloc) -> Result:
        _, resolver = self._up
        ips = resolver.known(request.dst)
        if ips:
            self._ask(end, request, ips)
            return None
        self._resolving[end] = request
        return self._resolve_and_ask(resolver, end, request)

    async def _resolve_and_ask(self, resolver: Resolver, end: End, request: IpcpFlowAlloc) -> None:
        try:
            ips = await resolver.resolve(request.dst)
        except Unresolved as failure:
            if self._resolving.get(end) is request:
                self._drop_port(end)
            raise Refusal(ENAME, f'no host of layer "{self.layer}" has the name: {failure}') from None
        if self._resolving.get(end) is not request or self._udp is None:
            raise Refusal(errno.EINTR, "given up")
        try:
            self._ask(end, request, ips)
        except BaseException:
            self._drop_port(end)
            raise

    def _ask(self, end: End, request: IpcpFlowAlloc, ips: tuple[bytes, ...]) -> None:
        self._resolving.pop(end, None)
        self._request(end, request, (self._member(ip).packed for ip in ips))
        self._asking[end] = self.loop.call_later(REPLY_TIME, self._unanswered, end, ips)
        self._run_due()

    def _unanswered(self, end: End, ips: tuple[bytes, ...]) -> None:
        members = [self._member(ip) for ip in ips]
        self._drop_port(end)
        self._fa.deallocate(end, self.loop.time())
        self.allocated(end, errno.ETIMEDOUT, self._silence(members))
        self._run_due()

    def _silence(self, members: list[Address]) -> str:
        """Possible causes when members do not answer: a prototype also sends no reply when no process accepts."""
        hosts = " nor ".join(map(str, members))
        silent = f"no answer from {hosts} within {REPLY_TIME:g} s: no process accepts flows to the name there"
        peers = {flow.peer for flow in self._fa.flows.values()}
        if all(member.packed in peers for member in members):
            return silent  # flows to these members exist: they run, and datagrams get through
        return (
            f'{silent}, or no member of layer "{self.layer}" runs there, or a firewall or NAT on the way stops UDP port '
            f"{self._address.port}"
        )

    def _member(self, ip: bytes) -> Address:
        """The socket address of another member: all of a layer have one port."""
        return Address(ip, self._address.port, self._address.scope if is_link_local(ip) else 0)

    def _drop_port(self, end: End) -> None:
        self._resolving.pop(end, None)
        self._stop_waiting(end)
        super()._drop_port(end)

    def _stop_waiting(self, end: End) -> None:
        timer = self._asking.pop(end, None)
        if timer is not None:
            timer.cancel()

    def _open(self, end: End, endpoint: int, peer: bytes) -> None:
        self._up[0].open(endpoint, end.fd, Address.unpack(peer))

    def _close(self, end: End, endpoint: int) -> None:
        self._up[0].leave(endpoint)

    def _connect(self, end: End, endpoint: int, peer: bytes) -> None:
        self._stop_waiting(end)
        flow = self._fa.flows.get(end)
        if flow is not None:
            self._up[0].connect(flow.endpoint, endpoint)

    def _path_of(self, peer: bytes) -> bytes:
        return pack_peer(Address.unpack(peer))

    @staticmethod
    def _show_path(peer: bytes) -> str:
        return str(Address(*unpack_peer(peer)))

    def _doubt(self, name: bytes, holder: bytes) -> None:
        self._up[1].doubt(name, Address.unpack(holder).ip)

    # ------------------------------------------------------------ datagrams

    def _received(self, peer: Peer, datagram: bytes) -> None:
        """A management datagram."""
        try:
            message = translation.decode(datagram)
        except MalformedPacket as fault:
            self._malformed += 1
            log.debug("%s", fault)
            return
        self._fa.received(message, Address(*peer).packed, self.loop.time())
        self._run_due()

    def _send_now(self, to: Address, message: FlowRequest | FlowReply) -> bool:
        """False: the socket is full."""
        assert self._socket is not None
        try:
            self._socket.sendto(translation.encode(message), to.sockaddr)
        except BlockingIOError:
            return False
        except UnsendablePacket as fault:
            log.error("%s", fault)
        except OSError as failure:
            self._unsent += 1
            number = failure.errno or errno.EIO
            text = f"{to} cannot be reached: {os.strerror(number)}"
            log.debug("%s", text)
            if isinstance(message, FlowRequest):
                self._fa.unsent(message, to.packed, number, text, self.loop.time())
        return True

    def _send_waiting(self) -> None:
        assert self._socket is not None
        while self._waiting:
            sent = True  # a datagram that a defect keeps from being sent is not tried again
            with self._guard("a message of the flow allocator"):
                sent = self._send_now(*self._waiting[0])
            if not sent:
                break
            self._waiting.popleft()
        if not self._waiting:
            self.loop.remove_writer(self._socket.fileno())
        self._run_due()

    def _send(self, peer: bytes, message: FlowRequest | FlowReply) -> None:
        assert self._socket is not None
        to = Address.unpack(peer)
        if not self._waiting and self._send_now(to, message):
            return
        if len(self._waiting) >= MAX_WAITING:
            self._unsent += 1
            return
        self._waiting.append((to, message))
        self.loop.add_writer(self._socket.fileno(), self._send_waiting)

    # ------------------------------------------------------------ read-outs

    def readout(self, what: str) -> list[Row]:
        udp, resolver = self._up
        now = self.loop.time()
        match what:
            case "status":
                return [self._status()]
            case "neighbours":
                return [
                    UDP_NEIGHBOURS.row(
                        name=name.hex(),
                        machine=str(self._member(ip)),
                        heard=round(now - entry.learnt, 3),
                        source=entry.source.value,
                    )
                    for name, entry in resolver.entries()
                    for ip in entry.ips
                ]
            case "directory":
                return self._read_directory()
            case "paths":
                return self._paths.rows()
            case "counters":
                return DATAGRAMS.rows(udp.counters() | {"unsent": self._unsent}) + self._read_counters()
        return super().readout(what)

    def _status(self) -> Row:
        return UDP_STATUS.row(
            address=str(self._address),
            state="up",
            dns=self._server.server if self._server is not None else "",
            hosts=str(default_path()),
            max_packet=self.max_packet,
            flows=len(self._fa.flows),
            pending=self._fa.pending,
            endpoints=len(EIDS),
        )


class Udp4Ipcp(UdpIpcp):
    """UDP over IPv4."""

    kind: ClassVar[str] = "udp4"
    max_packet = wire.MAX_SDU_4


class Udp6Ipcp(UdpIpcp):
    """UDP over IPv6."""

    kind: ClassVar[str] = "udp6"
    max_packet = wire.MAX_SDU_6
