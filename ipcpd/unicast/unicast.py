"""The unicast IPCP: a layer of its own over the layers below (paper 2.11, 2.12, 5.3).

Runs in the process of the IPCP, on its loop: the primitives that the IRMd asks for. `member` does their work, and exists from
the moment that the IPCP is a member of a layer; connections and enrolment, which a broadcast IPCP has too, are in
`ipcpd.common`. Packets never come through here: the relay's thread moves them.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from dataclasses import asdict
from typing import ClassVar

from ipcpd.common.connmgr import ConnectionManager
from ipcpd.common.end import End
from ipcpd.common.enrol import Enrolment, PendingEnrolment, SoughtLayer
from ipcpd.common.ipcp import Ipcp, Result
from ipcpd.common.life import State
from ipcpd.common.lower import LowerFlows
from ipcpd.dataplane import Dt, Punt, Relay
from ipcpd.wire.address import to_text
from ouroboros.errors import ENOTALLOC
from ouroboros.facts import ENROLMENT, Row
from ouroboros.identity import Identity
from ouroboros.ipcp_types import IpcpType
from ouroboros.name_info import Requirement
from ouroboros.policies import CongestionAvoidPolicy
from ouroboros.qos import QOS_RAW, QoSSpec
from ouroboros.rpc.messages_pb2 import (
    Envelope,
    HashAlgo,
    IpcpConfig,
    IpcpFlowAlloc,
    IpcpFlowAllocResp,
    QosSpec,
)
from ouroboros.rpc.service import Refusal

from .address import draw
from .adjacency import MANAGEMENT
from .configuration import LayerConfig
from .member import Member
from .readout import READOUTS

log = logging.getLogger("ipcpd/unicast")

ENROL_TIME = 15.0
CONNECT_TIME = 15.0
"""Seconds until a connection attempt fails with its reason; the IRMd waits for 20."""


class UnicastIpcp(Ipcp):
    """A member of a unicast layer. `fd` is a descriptor of this IPCP throughout."""

    kind: ClassVar[str] = "unicast"

    def __init__(self, name: str, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(name, loop)
        self._relay = Relay()
        self._punt = Punt()
        self._dt: Dt | None = None
        self._lowers = LowerFlows(self, self._relay, self._punt)
        self._connections = ConnectionManager(self, self._lowers)
        self._enrolment = Enrolment(self, self._lowers, self._connections)
        self._member: Member | None = None

    @property
    def member(self) -> Member:
        """The member, once the IPCP is one; primitives that need it are refused before."""
        assert self._member is not None
        return self._member

    # ------------------------------------------------------------ life

    def attach(self, welcome: Envelope, fds: list[int]) -> None:
        self._relay.attach(welcome.welcome, fds)
        self._relay.start()
        self._punt.run(self.loop)

    def segments_gone(self, envelope: Envelope) -> None:
        self._relay.release(envelope.segment_gone)

    def bootstrap(self, config: IpcpConfig, values: dict[str, str]) -> Result:
        layer = LayerConfig.from_options(config.layer, values)
        before = self._before(layer.layer)
        self._become(layer, before.address if before else draw(), before)
        return None

    def enroll(self, dst: str, layer: str, require: Requirement) -> Result:
        return self._enroll(dst, SoughtLayer(IpcpType.UNICAST, layer, require=require))

    async def _enroll(self, dst: str, wanted: SoughtLayer) -> None:
        before = self._before(wanted.layer) if wanted.layer else self.identity.latest()
        wish = before.address if before else 0
        joining = await self._enrolment.join(dst, wanted, timeout=ENROL_TIME, draw=draw, wish=wish)
        self._start_with(joining)

    def _before(self, layer: str) -> Identity | None:
        """The identity of this member in this layer before a restart."""
        return self.identity.read() if self.identity.open(layer) else None

    def _start_with(self, joining: PendingEnrolment) -> None:
        try:
            layer = LayerConfig.from_enrolment(joining.configuration)
            self._become(layer, joining.address or draw(), self._before(layer.layer))
        except Exception as error:
            joining.failed(str(error))
            raise
        joining.done()

    def _become(self, config: LayerConfig, address: int, before: Identity | None) -> None:
        """Start all components, then admit other members."""
        self.identity.write(self._start(config, address, before.node if before else b""))
        self._connections.serve()

    def _start(self, config: LayerConfig, address: int, node: bytes) -> Identity:
        """Start all components with an address, and perhaps with the id of a node of the directory."""
        unicast = config.unicast
        congestion = unicast.cong_avoid is CongestionAvoidPolicy.MB_ECN
        if self._dt is None:
            self._dt = Dt(
                self._relay, self._punt, address=address, max_ttl=unicast.max_ttl, congestion=congestion
            )
        else:
            self._dt.renumber(address)
        self.layer, self.hash = config.layer, HashAlgo.Value(config.hash.name)
        self.access = self._connections.access = config.access
        member = self._member = Member(
            self,
            config,
            address,
            relay=self._relay,
            punt=self._punt,
            dt=self._dt,
            lowers=self._lowers,
            connections=self._connections,
            node=node,
        )
        member.contested = self._contested
        self._enrolment.serve(
            lambda: config.to_enrolment(address, member.max_packet),
            member.link_state.is_in_use,
            member.vacant,
        )
        return Identity(address, member.directory.dht.own.id)

    def _contested(self, leave: bool) -> None:
        """Another member has this member's address."""
        if leave:
            self.loop.call_soon(self._draw_again, self.member)
            return
        log.warning(
            'another member of layer "%s" has our address, %s, too: one of the two will take another',
            self.layer,
            to_text(self.member.address),
        )

    def _draw_again(self, old: Member) -> None:
        """Leave the address to the other member. Connections that this member initiated are made anew, names registered anew."""
        if self.state is not State.OPERATIONAL or self._member is not old:
            return
        address = draw(taken=old.link_state.addresses)
        log.warning(
            'address %s in layer "%s" is left to another member; ours is %s from now on: flows that we had end',
            to_text(old.address),
            self.layer,
            to_text(address),
        )
        old.leave()
        identity = self._start(old.config, address, b"")
        self.member.link_state.contention.left = old.link_state.contention.left
        self.identity.write(identity)
        for digest in old.directory.registered:
            self.member.directory.register(digest, self.loop.time())
        self.member.schedule()

    def close(self) -> None:
        if self._member is not None:
            self._member.close()
        self._enrolment.close()
        self._connections.close()
        self._lowers.close()
        self._relay.close()
        if self._dt is not None:
            self._dt.close()
        self._punt.close()
        self.identity.close()

    # ------------------------------------------------------------ directory

    def reg(self, digest: bytes) -> Result:
        self._check(digest)
        self.member.directory.register(digest, self.loop.time())
        self.member.schedule()
        return None

    def unreg(self, digest: bytes) -> Result:
        if not self.member.directory.unregister(digest, self.loop.time()):
            raise Refusal(errno.ENOENT, f'that name is not registered with IPCP "{self.name}"')
        self.member.schedule()
        return None

    def query(self, digest: bytes) -> Result:
        self._check(digest)
        if self.member.directory.knows(digest, self.loop.time()):
            return None
        return self._query(digest)

    async def _query(self, digest: bytes) -> None:
        answer = self.member.directory.query(digest, self.loop.time())
        self.member.schedule()
        if not await answer:
            raise Refusal(
                errno.ENOENT, f'{digest.hex()[:8]} is not registered anywhere in layer "{self.layer}"'
            )

    def _check(self, digest: bytes) -> None:
        length = self.member.config.key_length
        if len(digest) != length:
            raise Refusal(
                errno.EINVAL, f'a hash of {len(digest)} octets; layer "{self.layer}" has hashes of {length}'
            )

    # ------------------------------------------------------------ flows

    def flow_alloc(self, request: IpcpFlowAlloc, fds: list[int]) -> Result:
        end = self.member.attach(request.endpoint, fds)  # first: the request's memory is passed only once
        try:
            self._check(request.dst)
            self._check_data(request.data)
            qos = QoSSpec.from_proto(request.qos)
            self.member.fa.allocate(end, request.dst, qos, request.data, self.loop.time())
        except BaseException:
            self.member.ends.remove(end)
            raise
        self.member.schedule()
        return None

    def flow_alloc_resp(self, response: IpcpFlowAllocResp) -> Result:
        self._check_data(response.data)
        now, end = self.loop.time(), End.of(response)
        if not self.member.fa.respond(end, response.response, response.data, now):
            self.late["ipcp_flow_alloc_resp"] += 1
            raise Refusal(ENOTALLOC, f"no flow waits for a response on descriptor {response.fd}")
        if response.response:
            self.member.ends.remove(end)
        # The end has to be connected before the process is notified and writes.
        self.member.run_due()
        return None

    def _check_data(self, data: bytes) -> None:
        most = self.member.max_data
        if len(data) > most:
            raise Refusal(
                errno.EMSGSIZE, f"{len(data)} octets of allocation data; {most} is the most over this layer"
            )

    def flow_again(self, end: End, data: bytes) -> Result:
        self._check_data(data)
        if self.member.ends.expect(end, "ipcp_flow_again"):
            self.member.fa.again(end, data, self.loop.time())
            self.member.schedule()
        return None

    def flow_dealloc(self, end: End, quiet_s: int = 0) -> Result:
        if self._member is not None and self._member.ends.expect(end, "ipcp_flow_dealloc"):
            self._member.given_up(end)
            self._member.schedule()
        return None

    # ------------------------------------------------------------ connections

    def connect(self, dst: str, component: str, qos: QosSpec) -> Result:
        return self._connect(dst, component, qos)

    async def _connect(self, dst: str, component: str, qos: QosSpec) -> None:
        asked = QoSSpec.from_proto(qos)
        if component == MANAGEMENT:
            asked = QOS_RAW.replace(timeout=asked.timeout)
        else:
            # Ordering and checks would be done by both ends' libraries; a prototype does not survive them (spec/connections 2).
            asked = asked.replace(in_order=0, ber=max(1, asked.ber))
        await self._connections.connect(dst, component, asked.to_proto(), timeout=CONNECT_TIME)

    def disconnect(self, dst: str, component: str) -> Result:
        self._connections.disconnect(dst, component)
        return None

    # ------------------------------------------------------------ read-outs

    def readout(self, what: str) -> list[Row]:
        rows = READOUTS.get(what)
        if rows is None:
            raise Refusal(
                errno.EINVAL,
                f'an IPCP of type unicast has no read-out "{what}"; it has {", ".join(READOUTS)}',
            )
        found = rows(self.member)
        return found + ENROLMENT.rows(asdict(self._enrolment.counters)) if what == "counters" else found
