"""A link-level IPCP: the base of the shells of the ethernet and UDP types (paper 5.4, 5.5; spec/common 7).

Such a layer is one hop, over a network that is not Ouroboros. The shell connects the flow allocator, which is the same for all
types, to the data plane, to the clock and to the IRMd. Each type adds its own resolution of names, and the format and
sending of messages. Runs in the process of the IPCP, on its loop; packets of flows bypass it, in C.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import asdict
from functools import partial
from typing import ClassVar

from ipcpd.common.end import End
from ipcpd.common.ends import Ends
from ipcpd.common.ipcp import Ipcp, Result
from ipcpd.dataplane import Punt, Relay
from ipcpd.wire.link import FlowReply, FlowRequest, has_path_item
from ouroboros.errors import ENOTALLOC
from ouroboros.facts import LINK_DIRECTORY, LINK_FA, LINK_MACHINES, Row
from ouroboros.guard import Guard
from ouroboros.qos import QoSSpec
from ouroboros.rpc.messages_pb2 import Envelope, FlowEndpoint, IpcpFlowAlloc, IpcpFlowAllocResp
from ouroboros.rpc.service import Refusal

from . import fa_events as fa
from .fa import FlowAllocator, NoEndpoint
from .paths import Paths

log = logging.getLogger("ipcpd/link")

MANAGEMENT = 0
"""The component of the punt that gets management messages."""
PATHS = MANAGEMENT + 1
"""The component that gets the reports of paths (eth.h, udp.h)."""

AFTER_DEFECT = 1.0
"""Seconds of rest after a defect: it may recur with the next deadline."""


class LinkIpcp(Ipcp):
    """A peer is a machine, as the octets of its address."""

    mpl_ms: ClassVar[int]
    """Maximum packet lifetime of the layer, ms (spec/common 3)."""

    def __init__(self, name: str, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(name, loop)
        self._relay = Relay()
        self._punt: Punt | None = None
        self._registered: set[bytes] = set()
        self._fa: FlowAllocator
        self._paths: Paths
        self._ends = Ends(self._relay, self.late)
        self._timer: asyncio.TimerHandle | None = None
        self._malformed = 0
        self._guard = Guard(loop.time)
        self._rest_until = 0.0

    # ------------------------------------------------------------ methods of a type

    @property
    @abstractmethod
    def _running(self) -> bool:
        """Whether there is a data plane: from bootstrap until the end."""

    @property
    @abstractmethod
    def _largest(self) -> int:
        """Octets of the largest packet."""

    @property
    @abstractmethod
    def _room(self) -> int:
        """Octets that a message may have behind its fixed part: hash and data of a request, data of a reply."""

    @abstractmethod
    def _send(self, peer: bytes, message: FlowRequest | FlowReply) -> None:
        """Send a message of the flow allocator."""

    @abstractmethod
    def _open(self, end: End, endpoint: int, peer: bytes) -> None:
        """Register this endpoint of the local end of a flow with the data plane."""

    @abstractmethod
    def _close(self, end: End, endpoint: int) -> None:
        """Remove from the data plane this endpoint of the local end of a flow, which has not been connected."""

    @abstractmethod
    def _connect(self, end: End, endpoint: int, peer: bytes) -> None:
        """Give the data plane the destination of a flow."""

    @abstractmethod
    def _doubt(self, name: bytes, holder: bytes) -> None:
        """The machine `holder` does not answer as a holder of the name would."""

    @abstractmethod
    def _path_of(self, peer: bytes) -> bytes:
        """A machine's address, as the data plane has it for the path there."""

    def _ask_again(self, name: bytes) -> None:
        """Query the name's holders, even if they are cached."""

    def _deadlines(self) -> Iterable[float | None]:
        """The next deadlines of the type's machines."""
        return ()

    def _time_passed(self, now: float) -> None:
        """Run the type's machines for expired deadlines."""

    def _flush(self) -> None:
        """Carry out the output of the type's machines."""

    # ------------------------------------------------------------ life

    def attach(self, welcome: Envelope, fds: list[int]) -> None:
        self._relay.attach(welcome.welcome, fds)
        self._relay.start()

    def segments_gone(self, envelope: Envelope) -> None:
        self._relay.release(envelope.segment_gone)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._let_go()
        self._relay.close()

    def _let_go(self) -> None:
        """Give back the resources that bootstrap got before it failed."""
        if self._punt is not None:
            self._punt.close()
            self._punt = None

    # ------------------------------------------------------------ names

    def reg(self, digest: bytes) -> Result:
        self._registered.add(digest)
        return None

    def unreg(self, digest: bytes) -> Result:
        if digest not in self._registered:
            raise Refusal(errno.ENOENT, f'that name is not registered with IPCP "{self.name}"')
        self._registered.remove(digest)
        return None

    # ------------------------------------------------------------ flows that local processes request

    def flow_alloc(self, request: IpcpFlowAlloc, fds: list[int]) -> Result:
        end = self._ends.add(request.endpoint, fds)  # first: the IRMd passes the memory only once
        try:
            room = self._room - len(request.dst)
            if len(request.data) > room:
                raise Refusal(
                    errno.EMSGSIZE,
                    f"the request for a flow has {len(request.data)} octets, and {room} fit a message over this layer",
                )
            result = self._find(end, request)
        except BaseException:
            self._drop_port(end)
            raise
        self._run_due()
        return result

    @abstractmethod
    def _find(self, end: End, request: IpcpFlowAlloc) -> Result:
        """Find the machines that have the name, and `_request` the flow from them."""

    def _request(self, end: End, request: IpcpFlowAlloc, peers: Iterable[bytes]) -> None:
        qos = QoSSpec.from_proto(request.qos)
        try:
            self._fa.request(end, request.dst, qos, request.data, tuple(peers), self.loop.time())
        except NoEndpoint:
            raise Refusal(errno.ENOSPC, self._no_endpoint()) from None

    def _no_endpoint(self) -> str:
        return (
            f'IPCP "{self.name}" has no endpoint left: {self._fa.endpoints.used} are in use, the others were so a '
            "moment ago, or belong to other IPCPs on this device"
        )

    def flow_again(self, end: End, data: bytes) -> Result:
        if self._running and len(data) <= self._room and self._ends.expect(end, "ipcp_flow_again"):
            self._fa.again(end, data, self.loop.time())
            self._run_due()
        return None

    def flow_dealloc(self, end: End, quiet_s: int = 0) -> Result:
        if self._ends.expect(end, "ipcp_flow_dealloc"):
            self._drop_port(end)
            self._fa.deallocate(end, self.loop.time(), quiet_s)
            self._run_due()
        return None

    def _drop_port(self, end: End) -> None:
        self._ends.remove(end)

    def _give_up(self, end: End) -> None:
        self._drop_port(end)
        self.deallocated(end)

    # ------------------------------------------------------------ flows that other machines request

    def _announced(
        self, ticket: int, endpoint: FlowEndpoint | None, fds: list[int], error: int, text: str
    ) -> None:
        """The IRMd found a process that accepts, or there is none."""
        now = self.loop.time()
        if not self._running:
            return  # ending
        if endpoint is None:
            log.debug("turned down a flow: %s", text)
            self._fa.turned_down(ticket, error, now)
            self._run_due()
            return
        try:
            self._fa.announced(ticket, self._ends.add(endpoint, fds), now)
        except NoEndpoint:
            log.error("%s", self._no_endpoint())
            self._give_up(End.of(endpoint))
        except OSError as failure:
            log.error("cannot attach to a flow: %s", failure)
            self._fa.turned_down(ticket, failure.errno or errno.EIO, now)
            self._give_up(End.of(endpoint))
        self._run_due()

    def flow_alloc_resp(self, response: IpcpFlowAllocResp) -> Result:
        room, number, end = self._room, response.response, End.of(response)
        if not number and len(response.data) > room:
            number = errno.EMSGSIZE
        if not self._fa.responded(end, number, response.data, self.loop.time()):
            self.late["ipcp_flow_alloc_resp"] += 1
            raise Refusal(ENOTALLOC, f"no flow waits for a response on descriptor {response.fd}")
        self._run_due()
        if number:
            self._drop_port(end)
        else:
            self._measure(end, response.data)
        if number and not response.response:
            raise Refusal(
                number, f"the reply has {len(response.data)} octets, and {room} fit a message over this layer"
            )
        return None

    def _measure(self, end: End, reply: bytes) -> None:
        """A flow was allocated with this reply, which may agree that both machines measure the path."""
        flow = self._fa.flows.get(end)
        if flow is not None and has_path_item(reply):
            self._paths.measure(self._path_of(flow.peer), self.loop.time())

    # ------------------------------------------------------------ running the machines

    def _run_due(self) -> None:
        """Carry out the output of the machines, and wait for the next deadline."""
        if not self._running:
            return
        while True:
            for event in self._fa.take_events():
                with self._guard("an event of the flow allocator"):
                    self._carry_out(event)
            with self._guard("what the directory wants"):
                self._flush()
            sending = self._fa.take_messages()
            if not sending:
                break
            for peer, message in sending:
                with self._guard("a message of the flow allocator"):
                    self._send(peer, message)
        self._schedule()

    def _carry_out(self, event: fa.Event) -> None:
        about = fa.end_of(event)
        if about is not None and not self._ends.expect(about, type(event).__name__):
            return  # the IRMd has the descriptor back, and may have reused it
        match event:
            case fa.Open(end, endpoint, peer):
                self._open(end, endpoint, peer)
            case fa.Close(end, endpoint):
                self._close(end, endpoint)
            case fa.Connect(end, endpoint, peer):
                self._connect(end, endpoint, peer)
            case fa.Allocated(end, data):
                self.allocated(end, 0, mpl_ms=self.mpl_ms, max_packet=self._largest, data=data)
                self._measure(end, data)
            case fa.Refused(end, number, text):
                self._drop_port(end)
                self.allocated(end, number, text)
            case fa.Stale(end):
                self._give_up(end)
            case fa.Doubt(name, holder):
                self._doubt(name, holder)
            case fa.Ask(name):
                self._ask_again(name)
            case fa.Announce(ticket, name, qos, data, peer):
                self.announce(
                    name,
                    qos.to_proto(),
                    mpl_ms=self.mpl_ms,
                    max_packet=self._largest,
                    data=data,
                    source=peer,
                    done=partial(self._announced, ticket),
                )

    def _schedule(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = min(
            (when for when in (self._fa.deadline, *self._deadlines()) if when is not None), default=None
        )
        if due is not None:
            due = max(due, self._rest_until)
            self._timer = self.loop.call_at(due, self._expired, due)

    def _expired(self, due: float) -> None:
        self._timer = None
        if self._punt is None:
            return
        self._punt.dispatch()  # on a busy machine the answer may have arrived without having been read yet
        now = max(due, self.loop.time())  # a timer may fire a tick before its deadline
        defects = self._guard.defects
        for passed in (self._time_passed, self._fa.expired):
            with self._guard("time that has passed"):
                passed(now)
        if self._guard.defects > defects:
            self._rest_until = now + AFTER_DEFECT
        self._run_due()

    # ------------------------------------------------------------ read-outs

    def _read_directory(self) -> list[Row]:
        return [LINK_DIRECTORY.row(name=name.hex()) for name in sorted(self._registered)]

    def _read_counters(self) -> list[Row]:
        """The counters of all link-level IPCPs."""
        defects = self._guard.defects + (self._punt.defects if self._punt else 0)
        return [
            *LINK_FA.rows({f"flow_{key}": count for key, count in asdict(self._fa.counters).items()}),
            *LINK_MACHINES.rows({"malformed": self._malformed, "defects": defects}),
            *self.message_counters(),
        ]
