"""The ethernet IPCPs, eth-dix and eth-llc: a layer on one link (paper 5.4, 5.7, 5.10; spec/common 7, spec/ethernet).

The shell around the machines: it connects the directory and the flow allocator to the device's sockets, to the clock
and to the IRMd. Runs in the process of the IPCP, on its loop; packets of flows pass it by, in C (`dataplane/src/eth.h`).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
from abc import abstractmethod
from collections.abc import Iterable
from typing import ClassVar

from ipcpd.common.end import End
from ipcpd.common.ipcp import Result
from ipcpd.dataplane import Punt
from ipcpd.dataplane import eth as dataplane
from ipcpd.link.endpoints import Endpoints
from ipcpd.link.fa import FlowAllocator
from ipcpd.link.link import MANAGEMENT, PATHS, LinkIpcp
from ipcpd.link.paths import NONE, QUOTA, Paths
from ipcpd.wire import mac
from ipcpd.wire.eth import Message, NameQuery
from ipcpd.wire.link import FlowReply, FlowRequest
from ouroboros.errors import ENAME
from ouroboros.facts import ETH_NEIGHBOURS, ETH_STATUS, FRAMES, Row
from ouroboros.flow_event import FlowEvent
from ouroboros.ipcp_types import DirectoryHashAlgo
from ouroboros.rpc.messages_pb2 import HashAlgo, IpcpConfig, IpcpFlowAlloc
from ouroboros.rpc.service import Refusal
from ouroboros.wire import HASH_LENGTHS, MalformedPacket, UnsendablePacket

from .claims import Claims
from .device import Device, DeviceError, DeviceState, usable
from .directory import Answer, Directory, TooManyQuestions
from .framing import DixFraming, Framing, LlcFraming

log = logging.getLogger("ipcpd/eth")

MANAGEMENT_QUOTA = 256 * 1024
"""Octets of management frames that may wait for this IPCP."""

CARRIER_TIME = 1.5
"""Seconds that a name query waits for the carrier of a device that was brought up."""

ON_THE_WAY = 0.1
"""Seconds for which frames received before the loss of the carrier may still be queued for this IPCP."""

LARGEST_FIXED = 39
"""Octets of a management message before the hash."""


class EthIpcp(LinkIpcp):
    """The common part of eth-dix and eth-llc: all but the framing."""

    mpl_ms: ClassVar[int] = 100

    def __init__(self, name: str, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(name, loop)
        self._eth: dataplane.Eth | None = None
        self._device: Device | None = None
        self._claims: Claims | None = None
        self._framing: Framing
        self._directory = Directory()
        self._registered = self._directory.registered
        self._down = False
        self._down_since = 0.0
        self._carrier = asyncio.Event()
        self._questions: dict[int, asyncio.Future[bool]] = {}
        self._foreign = 0

    # ------------------------------------------------------------ life

    @abstractmethod
    def make_framing(self, values: dict[str, str]) -> Framing:
        """The framing that these options select."""

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
                nic=device.nic,
            )
            self._paths = Paths(eth.paths, self._show_path, values.get("rate", NONE))
            punt.component(PATHS, QUOTA, self._paths.reported)
            eth.device(state.mac, framing.max_packet(state.mtu))
            device.watch(self.loop, self._device_changed)
            self._claims = Claims(name, framing.protocol)
            punt.run(self.loop)
        except DeviceError as failure:
            self._let_go()
            raise Refusal(failure.errno or errno.EIO, str(failure.strerror)) from None
        except BaseException:
            self._let_go()
            raise
        self._fa = FlowAllocator(
            Endpoints(framing.endpoints, framing.block, self._claims),
            self._directory.registered,
            answered_at=self._directory.answered_at,
        )
        self._down = not state.running
        if self._down:
            log.warning("%s has no carrier: flows wait until it has", name)
        return None

    def _check_mtu(self, name: str, state: DeviceState) -> None:
        # A request with its handshake must fit a frame, and so must the packets of tools.
        least = self._framing.overhead + LARGEST_FIXED + 64 + 128
        if state.mtu < least:
            raise DeviceError(
                errno.EMSGSIZE,
                f'device "{name}" has an MTU of {state.mtu}; an IPCP of type {self.kind} needs {least} at least',
            )

    def close(self) -> None:
        for future in self._questions.values():
            future.cancel()
        super().close()

    def _let_go(self) -> None:
        if self._eth is not None:
            self._eth.close()
            self._eth = None
        super()._let_go()
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
    def _running(self) -> bool:
        return self._eth is not None

    @property
    def _largest(self) -> int:
        return self._framing.max_packet(self._up[0].state.mtu)

    @property
    def _room(self) -> int:
        return min(self._framing.max_message, self._largest) - LARGEST_FIXED

    def _device_changed(self) -> None:
        device, eth = self._up
        before, name = device.state, device.name
        now = device.look()
        if device.name != name:
            log.info("%s is called %s now", name, device.name)
        if now == before:
            return
        if (now.mac, now.mtu) != (before.mac, before.mtu):
            log.info("%s has MTU %d and address %s now", device.name, now.mtu, mac.to_text(now.mac))
            eth.device(now.mac, self._framing.max_packet(now.mtu))
        if now.running == self._down:
            self._set_down(not now.running)

    def _set_down(self, down: bool) -> None:
        self._down = down
        log.info("%s is %s", self._up[0].name, "down" if down else "up")
        self._directory.forget_all()
        for end in self._fa.flows:
            self.flow_event(end, FlowEvent.DOWN if down else FlowEvent.UP)
        if not down:
            self._carrier.set()
        self._down_since = self.loop.time()

    def _check_up(self) -> None:
        if self._down:
            device = self._up[0]
            why = "has no carrier" if device.state.up else "is down" if device.state.index else "is gone"
            raise Refusal(errno.ENETDOWN, f'device "{device.name}" of IPCP "{self.name}" {why}')

    # ------------------------------------------------------------ directory

    def query(self, digest: bytes) -> Result:
        if self._down and self._up[0].state.up:
            return self._query_when_up(digest)
        return self._query(digest)

    async def _query_when_up(self, digest: bytes) -> None:
        """The kernel reports the carrier of a device that was brought up as much as a second late."""
        self._carrier.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CARRIER_TIME):
                await self._carrier.wait()
        if self._eth is None:
            raise Refusal(errno.ESHUTDOWN, f'IPCP "{self.name}" is ending')
        answer = self._query(digest)
        if answer is not None:
            await answer

    def _query(self, digest: bytes) -> Result:
        self._check_up()
        try:
            known = self._directory.query(digest, self.loop.time())
        except TooManyQuestions:
            raise Refusal(errno.EAGAIN, "too many names are being asked for") from None
        if known is True:
            return None
        # Here, not in the coroutine: the answer to a question that an earlier query asked may come before this coroutine has begun.
        future: asyncio.Future[bool] = self.loop.create_future()
        self._questions[known] = future
        future.add_done_callback(lambda _: self._questions.pop(known, None))
        self._run_due()
        return self._await_answer(future, digest)

    @staticmethod
    async def _await_answer(answer: asyncio.Future[bool], digest: bytes) -> None:
        if not await answer:
            raise Refusal(errno.ENOENT, f"no machine on the link has registered {digest.hex()[:8]}")

    def _answered(self, answer: Answer) -> None:
        future = self._questions.get(answer.ticket)
        if future is not None and not future.done():
            future.set_result(answer.known)

    # ------------------------------------------------------------ flows

    def _find(self, end: End, request: IpcpFlowAlloc) -> Result:
        self._check_up()
        holders = self._directory.holders(request.dst, self.loop.time())
        if not holders:
            raise Refusal(ENAME, f'no machine in layer "{self.layer}" has registered the name')
        self._request(end, request, holders)
        return None

    def _open(self, end: End, endpoint: int, peer: bytes) -> None:
        self._up[1].open(end.fd, endpoint, peer)

    def _close(self, end: End, endpoint: int) -> None:
        self._up[1].leave(end.fd)

    def _connect(self, end: End, endpoint: int, peer: bytes) -> None:
        self._up[1].connect(end.fd, endpoint, peer)
        if self._down:  # the event is sent after the IRMd knows the flow
            self.loop.call_soon(self.flow_event, end, FlowEvent.DOWN)

    def _path_of(self, peer: bytes) -> bytes:
        return peer

    @staticmethod
    def _show_path(peer: bytes) -> str:
        return mac.to_text(peer[:6])

    def _doubt(self, name: bytes, holder: bytes) -> None:
        self._directory.forget(name, holder)

    def _ask_again(self, name: bytes) -> None:
        self._directory.ask(name, self.loop.time())

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
        if self._down and self._up[0].state.up and now > self._down_since + ON_THE_WAY:
            self._set_down(
                False
            )  # the kernel reports the carrier up to a second late; a received frame proves it
        if isinstance(message, FlowRequest | FlowReply):
            self._fa.received(message, source, now)
        else:
            self._directory.received(message, source, now)
        self._run_due()

    def _send(self, peer: bytes, message: Message) -> None:
        device = self._up[0]
        try:
            frame = self._framing.encode(peer, device.state.mac, message)
        except UnsendablePacket as fault:
            log.error("%s", fault)
            return
        device.send(frame)

    def _flush(self) -> None:
        answers = self._directory.take_answers()
        for destination, message in self._directory.take_messages():
            self._send(destination, message)
        for answer in answers:
            self._answered(answer)

    def _deadlines(self) -> Iterable[float | None]:
        return (self._directory.deadline,)

    def _time_passed(self, now: float) -> None:
        self._directory.expired(now)

    # ------------------------------------------------------------ read-outs

    def readout(self, what: str) -> list[Row]:
        device, eth = self._up
        now = self.loop.time()
        match what:
            case "status":
                return [self._status(device)]
            case "neighbours":
                return [
                    ETH_NEIGHBOURS.row(name=name.hex(), machine=mac.to_text(holder), heard=round(age, 3))
                    for name, holder, age in self._directory.entries(now)
                ]
            case "directory":
                return self._read_directory()
            case "paths":
                return self._paths.rows()
            case "counters":
                counters = eth.counters()._asdict()
                dropped = counters.pop("dropped")
                counters |= {f"dropped_{reason}": count for reason, count in dropped.items()}
                counters |= {
                    "foreign": self._foreign,
                    "unasked": self._directory.unasked,
                    "unsent": device.unsent,
                    "cut": device.cut(),
                }
                return FRAMES.rows(counters) + self._read_counters()
        return super().readout(what)

    def _status(self, device: Device) -> Row:
        state = device.state
        return ETH_STATUS.row(
            device=device.name,
            state="down" if self._down else "up",
            mac=mac.to_text(state.mac),
            mtu=state.mtu,
            max_packet=self._largest,
            flows=len(self._fa.flows),
            pending=self._fa.pending,
            endpoints=len(self._framing.endpoints),
        )


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
