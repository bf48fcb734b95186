"""The ethernet IPCPs, eth-dix and eth-llc: a layer on one link (paper 5.4, 5.7, 5.10; wire-lower 0 to 2).

The shell around the machines: it connects the directory and the flow allocator to the device's sockets, to the clock
and to the IRMd. Runs in the process of the IPCP, on its loop; packets of flows pass it by, in C (`dataplane/src/eth.h`).
"""

from __future__ import annotations

import asyncio
import errno
import logging
from abc import abstractmethod
from dataclasses import asdict
from functools import partial
from typing import ClassVar

from ipcpd.common.ipcp import Ipcp, Refusal, Result, Row
from ipcpd.dataplane import Punt, Relay
from ipcpd.dataplane import eth as dataplane
from ouroboros.errors import ENAME, ENOTALLOC
from ouroboros.flow_event import FlowEvent
from ouroboros.ipcp_types import DirectoryHashAlgo
from ouroboros.qos import QoSSpec
from ouroboros.rpc.messages_pb2 import (
    Envelope,
    FlowEndpoint,
    HashAlgo,
    IpcpConfig,
    IpcpFlowAlloc,
    IpcpFlowAllocResp,
)
from ouroboros.wire import HASH_LENGTHS, MalformedPacket, UnsendablePacket

from . import fa
from .claims import Claims
from .device import Device, DeviceError, DeviceState, usable
from .directory import Answer, Directory, TooManyQuestions
from .endpoints import Endpoints
from .fa import FlowAllocator, NoEndpoint
from .framing import DixFraming, Framing, LlcFraming
from .wire import mac
from .wire.messages import FlowReply, FlowRequest, Message, NameQuery

log = logging.getLogger("ipcpd/eth")

MPL_MS = 100
"""Maximum packet lifetime of the layer, ms."""

MANAGEMENT = 0
"""The component of the punt that gets management frames."""

MANAGEMENT_QUOTA = 256 * 1024
"""Octets of management frames that may wait for us."""

LARGEST_FIXED = 39
"""Octets of a management message before the hash."""


class EthIpcp(Ipcp):
    """What eth-dix and eth-llc share, which is all but the framing."""

    def __init__(self, name: str, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(name, loop)
        self._relay = Relay()
        self._punt: Punt | None = None
        self._eth: dataplane.Eth | None = None
        self._device: Device | None = None
        self._claims: Claims | None = None
        self._framing: Framing
        self._directory = Directory()
        self._fa: FlowAllocator
        self._ports: set[int] = set()
        """Descriptors that the packet thread knows."""
        self._down = False
        self._questions: dict[int, asyncio.Future[bool]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._malformed = 0
        self._foreign = 0

    # ------------------------------------------------------------ life

    @abstractmethod
    def make_framing(self, values: dict[str, str]) -> Framing:
        """The framing that these options ask for."""

    def attach(self, welcome: Envelope, fds: list[int]) -> None:
        self._relay.attach(welcome.welcome, fds)
        self._relay.start()

    def segments_gone(self, envelope: Envelope) -> None:
        self._relay.gone(envelope.segment_gone)

    def bootstrap(self, config: IpcpConfig, values: dict[str, str]) -> Result:
        self.hash = HashAlgo.Value(values["hash"])
        self._framing = framing = self.make_framing(values)
        kind = dataplane.Framing.DIX if isinstance(framing, DixFraming) else dataplane.Framing.LLC
        name = values["dev"]
        try:
            state = usable(name, self.kind)
            self._check_mtu(name, state)
            self._device = device = Device(
                name, state, kind=self.kind, framing=kind, protocol=framing.protocol
            )
            self._punt = punt = Punt()
            punt.component(MANAGEMENT, MANAGEMENT_QUOTA, self._received)
            self._eth = eth = dataplane.Eth(
                self._relay,
                punt,
                component=MANAGEMENT,
                framing=kind,
                ethertype=framing.protocol,
                receiver=device.receiver.fileno(),
                senders=(
                    device.senders[0].fileno(),
                    device.senders[1].fileno(),
                    device.senders[2].fileno(),
                ),
            )
            eth.device(state.mac, framing.max_packet(state.mtu))
            device.watch(self.loop, self._device_changed)
        except DeviceError as failure:
            self._let_go()
            raise Refusal(failure.errno or errno.EIO, str(failure.strerror)) from None
        except BaseException:
            self._let_go()
            raise
        self._claims = Claims(name, framing.protocol)
        self._fa = FlowAllocator(
            Endpoints(framing.endpoints, framing.block, self._claims),
            self._directory.registered,
            heard=self._directory.heard,
        )
        self._down = not state.running
        if self._down:
            log.warning("%s has no carrier: flows wait until it has", name)
        punt.run(self.loop)
        return None

    def _check_mtu(self, name: str, state: DeviceState) -> None:
        # A request with its handshake must fit a frame, and so must what tools send.
        least = self._framing.overhead + LARGEST_FIXED + 64 + 128
        if state.mtu < least:
            raise DeviceError(
                errno.EMSGSIZE,
                f'device "{name}" has an MTU of {state.mtu}; an IPCP of type {self.kind} needs {least} at least',
            )

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for future in self._questions.values():
            future.cancel()
        self._let_go()
        self._relay.close()

    def _let_go(self) -> None:
        if self._eth is not None:
            self._eth.close()
            self._eth = None
        if self._punt is not None:
            self.loop.remove_reader(self._punt.fileno())
            self._punt.close()
            self._punt = None
        if self._device is not None:
            self._device.close()
            self._device = None
        if self._claims is not None:
            self._claims.close()
            self._claims = None

    # ------------------------------------------------------------ the device

    @property
    def _up(self) -> tuple[Device, dataplane.Eth]:
        """Device and data plane, which a member has."""
        assert self._device is not None and self._eth is not None
        return self._device, self._eth

    @property
    def _max_packet(self) -> int:
        return self._framing.max_packet(self._up[0].state.mtu)

    def _device_changed(self) -> None:
        device, eth = self._up
        before = device.state
        now = device.look()
        if now == before:
            return
        if (now.mac, now.mtu) != (before.mac, before.mtu):
            log.info("%s has MTU %d and address %s now", device.name, now.mtu, mac.to_text(now.mac))
            eth.device(now.mac, self._framing.max_packet(now.mtu))
        if now.running == self._down:
            self._down = not now.running
            log.info("%s is %s", device.name, "down" if self._down else "up")
            self._directory.forget_all()
            for fd in self._fa.flows:
                self.flow_event(fd, FlowEvent.DOWN if self._down else FlowEvent.UP)

    def _check_up(self) -> None:
        if self._down:
            device = self._up[0]
            why = "has no carrier" if device.state.up else "is down" if device.state.index else "is gone"
            raise Refusal(errno.ENETDOWN, f'device "{device.name}" of IPCP "{self.name}" {why}')

    # ------------------------------------------------------------ directory

    def reg(self, digest: bytes) -> Result:
        self._directory.registered.add(digest)
        return None

    def unreg(self, digest: bytes) -> Result:
        if digest not in self._directory.registered:
            raise Refusal(errno.ENOENT, f'that name is not registered with IPCP "{self.name}"')
        self._directory.registered.remove(digest)
        return None

    def query(self, digest: bytes) -> Result:
        self._check_up()
        try:
            known = self._directory.query(digest, self.loop.time())
        except TooManyQuestions:
            raise Refusal(errno.EAGAIN, "too many names are being asked for") from None
        self._pump()
        return None if known is True else self._await_answer(known, digest)

    async def _await_answer(self, ticket: int, digest: bytes) -> None:
        future: asyncio.Future[bool] = self.loop.create_future()
        self._questions[ticket] = future
        try:
            known = await future
        finally:
            self._questions.pop(ticket, None)
        if not known:
            raise Refusal(errno.ENOENT, f"no machine on the link has registered {digest.hex()[:8]}")

    def _answered(self, answer: Answer) -> None:
        future = self._questions.get(answer.ticket)
        if future is not None and not future.done():
            future.set_result(answer.known)

    # ------------------------------------------------------------ flows that our processes ask for

    def flow_alloc(self, request: IpcpFlowAlloc, fds: list[int]) -> Result:
        fd = request.endpoint.fd
        self._relay.add(request.endpoint, fds)  # first: the memory that came along comes only once
        self._ports.add(fd)
        try:
            self._request(fd, request)
        except BaseException:
            self._drop_port(fd)
            raise
        self._pump()
        return None

    def _request(self, fd: int, request: IpcpFlowAlloc) -> None:
        self._check_up()
        room = min(self._framing.max_message, self._max_packet) - LARGEST_FIXED - len(request.dst)
        if len(request.data) > room:
            raise Refusal(
                errno.EMSGSIZE,
                f"the request for a flow has {len(request.data)} octets, and {room} fit a frame of this device",
            )
        now = self.loop.time()
        holders = self._directory.holders(request.dst, now)
        if not holders:
            raise Refusal(ENAME, f'no machine in layer "{self.layer}" has registered the name')
        try:
            self._fa.request(fd, request.dst, QoSSpec.from_proto(request.qos), request.data, holders, now)
        except NoEndpoint:
            raise Refusal(errno.ENOSPC, self._no_endpoint()) from None

    def _no_endpoint(self) -> str:
        return (
            f'IPCP "{self.name}" has no endpoint left: {self._fa.endpoints.used} of '
            f"{len(self._framing.endpoints)} are in use, the others rest, or belong to other IPCPs on this device"
        )

    def flow_dealloc(self, fd: int) -> Result:
        self._drop_port(fd)
        self._fa.deallocate(fd, self.loop.time())
        self._pump()
        return None

    def _drop_port(self, fd: int) -> None:
        if fd in self._ports:
            self._ports.remove(fd)
            self._relay.remove(fd)

    # ------------------------------------------------------------ flows that other machines ask for

    def _announced(
        self, ticket: int, endpoint: FlowEndpoint | None, fds: list[int], error: int, text: str
    ) -> None:
        """The IRMd found a process that accepts, or nobody."""
        now = self.loop.time()
        if self._eth is None:
            return  # ending
        if endpoint is None:
            log.debug("turned down a flow: %s", text)
            self._fa.turned_down(ticket, error, now)
            self._pump()
            return
        try:
            self._relay.add(endpoint, fds)
            self._ports.add(endpoint.fd)
            self._fa.announced(ticket, endpoint.fd, now)
        except NoEndpoint:
            log.error("%s", self._no_endpoint())
            self._give_up(endpoint.fd)
        except OSError as failure:
            log.error("cannot attach to a flow: %s", failure)
            self._fa.turned_down(ticket, failure.errno or errno.EIO, now)
            self._give_up(endpoint.fd)
        self._pump()

    def _give_up(self, fd: int) -> None:
        self._drop_port(fd)
        self.deallocated(fd)

    def flow_alloc_resp(self, response: IpcpFlowAllocResp) -> Result:
        room = min(self._framing.max_message, self._max_packet) - LARGEST_FIXED
        number = response.response
        if not number and len(response.data) > room:
            number = errno.EMSGSIZE
        if not self._fa.responded(response.fd, number, response.data, self.loop.time()):
            raise Refusal(ENOTALLOC, f"no flow waits for a response on descriptor {response.fd}")
        self._pump()
        if number:
            self._drop_port(response.fd)
        if number and not response.response:
            raise Refusal(
                number, f"the reply has {len(response.data)} octets, and {room} fit a frame of this device"
            )
        return None

    # ------------------------------------------------------------ frames

    def _received(self, _fd: int, frame: bytes) -> None:
        """A management frame. The packet thread has checked addresses and length."""
        try:
            destination, source, message = self._framing.decode(
                frame, hash_length=HASH_LENGTHS[DirectoryHashAlgo(self.hash)]
            )
        except MalformedPacket as fault:
            self._malformed += 1
            log.debug("%s", fault)
            return
        if destination == mac.BROADCAST and not isinstance(message, NameQuery):
            self._foreign += 1
            return
        now = self.loop.time()
        if isinstance(message, FlowRequest | FlowReply):
            self._fa.received(message, source, now)
        else:
            self._directory.received(message, source, now)
        self._pump()

    def _send(self, destination: bytes, message: Message) -> None:
        device = self._up[0]
        try:
            frame = self._framing.encode(destination, device.state.mac, message)
        except UnsendablePacket as fault:
            log.error("%s", fault)
            return
        device.send(frame)

    def _pump(self) -> None:
        """Carry out what the machines have said, and wait for their next deadline."""
        if self._eth is None:
            return
        for event in self._fa.take_events():
            self._carry_out(event)
        answers = self._directory.take_answers()
        messages: list[tuple[bytes, Message]] = [
            *self._directory.take_messages(),
            *self._fa.take_messages(),
        ]
        for destination, message in messages:
            self._send(destination, message)
        for answer in answers:
            self._answered(answer)
        self._schedule()

    def _carry_out(self, event: fa.Event) -> None:
        _, eth = self._up
        match event:
            case fa.Open(fd, endpoint, peer):
                eth.open(fd, endpoint, peer)
            case fa.Connect(fd, endpoint, peer):
                eth.connect(fd, endpoint, peer)
                if self._down:  # said once the IRMd knows that there is a flow
                    self.loop.call_soon(self.flow_event, fd, FlowEvent.DOWN)
            case fa.Allocated(fd, data):
                self.allocated(fd, 0, mpl_ms=MPL_MS, max_packet=self._max_packet, data=data)
            case fa.Refused(fd, number, text):
                self._drop_port(fd)
                self.allocated(fd, number, text)
            case fa.Stale(fd):
                self._give_up(fd)
            case fa.Doubt(name, holder):
                self._directory.forget(name, holder)
            case fa.Ask(name):
                self._directory.ask(name, self.loop.time())
            case fa.Announce(ticket, name, qos, data):
                self.announce(
                    name,
                    qos.to_proto(),
                    mpl_ms=MPL_MS,
                    max_packet=self._max_packet,
                    data=data,
                    done=partial(self._announced, ticket),
                )

    def _schedule(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = min(
            (when for when in (self._directory.deadline, self._fa.deadline) if when is not None), default=None
        )
        if due is not None:
            self._timer = self.loop.call_at(due, self._expired, due)

    def _expired(self, due: float) -> None:
        self._timer = None
        if self._punt is None:
            return
        self._punt.dispatch()  # on a machine that is busy the answer may be there, and nobody has looked yet
        now = max(due, self.loop.time())  # a timer may fire a tick before its time
        self._directory.expired(now)
        self._fa.expired(now)
        self._pump()

    # ------------------------------------------------------------ read-outs

    def readout(self, what: str) -> list[Row]:
        device, eth = self._up
        now = self.loop.time()
        match what:
            case "status":
                return [self._status(device)]
            case "neighbours":
                return [
                    {"name": name.hex(), "machine": mac.to_text(holder), "heard": round(age, 3)}
                    for name, holder, age in self._directory.entries(now)
                ]
            case "directory":
                return [{"name": name.hex()} for name in sorted(self._directory.registered)]
            case "counters":
                counters = eth.counters()._asdict()
                dropped = counters.pop("dropped")
                counters |= {f"dropped_{reason}": count for reason, count in dropped.items()}
                counters |= {f"flow_{key}": count for key, count in asdict(self._fa.counters).items()}
                counters |= {
                    "malformed": self._malformed,
                    "foreign": self._foreign,
                    "unasked": self._directory.unasked,
                    "unsent": device.unsent,
                    "cut": device.cut(),
                }
                return [{"counter": key, "value": count} for key, count in counters.items()]
        return super().readout(what)

    def _status(self, device: Device) -> Row:
        state = device.state
        return {
            "device": device.name,
            "state": "down" if self._down else "up",
            "mac": mac.to_text(state.mac),
            "mtu": state.mtu,
            "max_packet": self._max_packet,
            "flows": len(self._fa.flows),
            "pending": self._fa.pending,
            "endpoints": len(self._framing.endpoints),
        }


class EthDixIpcp(EthIpcp):
    """Ethernet II with an inner header: endpoint id and length."""

    kind: ClassVar[str] = "eth-dix"

    def make_framing(self, values: dict[str, str]) -> Framing:
        return DixFraming(int(values["ethertype"], 16))

    def _status(self, device: Device) -> Row:
        return super()._status(device) | {"ethertype": f"0x{self._framing.protocol:04X}"}


class EthLlcIpcp(EthIpcp):
    """IEEE 802.2 LLC: at most 62 flows on a device, and one layer."""

    kind: ClassVar[str] = "eth-llc"

    def make_framing(self, values: dict[str, str]) -> Framing:
        return LlcFraming()
