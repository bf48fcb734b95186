"""The broadcast IPCP: a stateless broadcast layer over the layers below (paper 2.13, 5.6.1; spec/broadcast).

Runs in the process of the IPCP, on its loop: joins, adjacencies, enrolment. Packets never pass through this module: the relay's
thread copies the packets of one member to all others.

A prototype as neighbour stands still when it gets a keep-alive on an adjacency that it accepted, so we ask the layer below for
flows without. Between two Python members the side that connects offers keep-alives in its connection record, and the other grants
them.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import logging
from dataclasses import asdict, replace
from typing import ClassVar

from ipcpd.common.connmgr import Connection, ConnectionManager
from ipcpd.common.end import End
from ipcpd.common.ends import Ends
from ipcpd.common.enrol import Enrolment, SoughtLayer
from ipcpd.common.ipcp import Ipcp, Result
from ipcpd.common.lower import LowerFlows
from ipcpd.dataplane import Punt, Relay
from ipcpd.dataplane.broadcast import MOST, FanOut
from ipcpd.wire.connmgr import BROADCAST, Record
from ipcpd.wire.enrol import Configuration
from ouroboros.access import Access
from ouroboros.errors import ENAME
from ouroboros.facts import (
    BROADCAST_DT,
    BROADCAST_NEIGHBOURS,
    BROADCAST_STATUS,
    CONNECTIONS,
    ENROLMENT,
    LOWERS,
    Row,
)
from ouroboros.ipcp_types import DirectoryHashAlgo, IpcpType
from ouroboros.name_info import Requirement
from ouroboros.rpc.messages_pb2 import SHA3_256, Envelope, IpcpConfig, IpcpFlowJoin, QosSpec
from ouroboros.rpc.service import Refusal

from .tree import Tree, Verdict

log = logging.getLogger("ipcpd/broadcast")

MPL_MS = 100
"""Maximum packet lifetime of the layer, ms."""

ENROL_TIME = 15.0
CONNECT_TIME = 15.0
"""Seconds after which the IPCP answers with the reason of the failure; the IRMd waits for 20."""

READOUTS = ("neighbours", "counters", "status")


class BroadcastIpcp(Ipcp):
    """A member of a broadcast layer. `fd` is a descriptor of this IPCP throughout."""

    kind: ClassVar[str] = "broadcast"

    def __init__(self, name: str, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(name, loop)
        self._relay = Relay()
        self._punt = Punt()
        self._fan_out = FanOut(self._relay)
        self._lowers = LowerFlows(self, self._relay, self._punt)
        self._connections = ConnectionManager(self, self._lowers)
        self._enrolment = Enrolment(self, self._lowers, self._connections)
        self._tree = Tree(usable=lambda fd: self._adjacencies[fd].lower.usable)
        self._adjacencies: dict[int, Connection] = {}
        self._ends = Ends(self._relay, self.late)
        """The ends of flows of processes that have joined."""

    # ------------------------------------------------------------ life

    def attach(self, welcome: Envelope, fds: list[int]) -> None:
        self._relay.attach(welcome.welcome, fds)
        self._relay.start()
        self._punt.run(self.loop)

    def segments_gone(self, envelope: Envelope) -> None:
        self._relay.release(envelope.segment_gone)

    def bootstrap(self, config: IpcpConfig, values: dict[str, str]) -> Result:
        if values.get("hash", "SHA3_256") != "SHA3_256":
            raise Refusal(errno.EINVAL, f"a broadcast layer has hash SHA3_256, not {values['hash']}")
        self._become(config.layer, Access.from_texts(values.get("require", ""), values.get("admit", "")))
        return None

    def enroll(self, dst: str, layer: str, require: Requirement) -> Result:
        return self._enroll(dst, SoughtLayer(IpcpType.BROADCAST, layer, DirectoryHashAlgo.SHA3_256, require))

    async def _enroll(self, dst: str, wanted: SoughtLayer) -> None:
        joining = await self._enrolment.join(dst, wanted, timeout=ENROL_TIME)
        self._become(joining.configuration.layer, joining.configuration.access)
        joining.done()

    def _become(self, layer: str, access: Access) -> None:
        """Accept flows of newcomers and neighbours."""
        self.layer, self.hash = layer, SHA3_256
        self.access = self._connections.access = access
        configuration = Configuration(layer, IpcpType.BROADCAST, access=access)
        self._enrolment.serve(lambda: configuration)
        self._connections.component(
            BROADCAST,
            self._connected,
            on_lost=self._lost,
            offer=self._offer,
            admit=lambda theirs, lower: self._tree.objection(theirs, lower.path),
            answer=self._grant,
        )
        self._connections.serve()

    def close(self) -> None:
        self._enrolment.close()
        self._connections.close()
        self._lowers.close()
        self._relay.close()
        self._fan_out.close()
        self._punt.close()

    # ------------------------------------------------------------ applications

    def query(self, digest: bytes) -> Result:
        if digest != self._digest():
            raise Refusal(errno.ENOENT, f"{digest.hex()[:8]} is not this broadcast layer")
        return None

    def flow_join(self, request: IpcpFlowJoin, fds: list[int]) -> Result:
        end = self._ends.add(request.endpoint, fds)  # first: the memory that came along comes only once
        try:
            if request.dst != self._digest():
                raise Refusal(ENAME, f'a broadcast layer is joined by its name, which is "{self.layer}" here')
            self._fan_out.add(end.fd)
        except BaseException:
            self._ends.remove(end)
            raise
        largest = request.endpoint.max_packet
        self.allocated(end, 0, mpl_ms=MPL_MS, max_packet=min(largest, MOST) if largest else MOST)
        return None

    def flow_dealloc(self, end: End, quiet_s: int = 0) -> Result:
        if self._ends.expect(end, "ipcp_flow_dealloc"):
            self._ends.remove(end)
        return None

    def _digest(self) -> bytes:
        return hashlib.sha3_256(self.layer.encode()).digest()

    # ------------------------------------------------------------ adjacencies

    def connect(self, dst: str, component: str, qos: QosSpec) -> Result:
        return self._connect(dst, component or BROADCAST.component, qos)

    async def _connect(self, dst: str, component: str, qos: QosSpec) -> None:
        if component != BROADCAST.component:
            raise Refusal(
                errno.ENOTSUP,
                f'a broadcast IPCP has no component "{component}"; connect {BROADCAST.component} (dt)',
            )
        await self._connections.connect(dst, component, qos, timeout=CONNECT_TIME)

    def disconnect(self, dst: str, component: str) -> Result:
        self._connections.disconnect(dst, component or BROADCAST.component)
        return None

    def _offer(self, _own: Record, asked: QosSpec) -> tuple[Record, QosSpec]:
        """The record of an initiator, and a QoS without keep-alives and the properties that a raw adjacency cannot have."""
        qos = QosSpec()
        qos.CopyFrom(asked)
        qos.timeout, qos.in_order, qos.ber = 0, 0, max(1, asked.ber)
        return self._record(asked.timeout), qos

    def _grant(self, _own: Record, theirs: Record) -> Record:
        return self._record(theirs.timeout if theirs.member else 0)

    def _record(self, timeout: int) -> Record:
        return replace(BROADCAST, member=self._tree.member, tree=self._tree.id, timeout=timeout)

    def _connected(self, connection: Connection) -> None:
        """The connection manager has a new adjacency. Raises Refusal when the adjacency must not exist."""
        fd, theirs = connection.lower.fd, connection.record
        verdict, old = self._tree.verdict(theirs, initiator=connection.initiator)
        if verdict is Verdict.REFUSE:
            raise Refusal(errno.EEXIST, "that IPCP is a neighbour already")
        if verdict is Verdict.REPLACE:
            self._connections.withdraw(self._adjacencies[old])
        else:
            reason = self._tree.objection(theirs, connection.lower.path)
            if reason:
                raise Refusal(errno.ELOOP, reason)
        self._fan_out.add(fd)
        self._adjacencies[fd] = connection
        self._tree.add(fd, theirs, initiator=connection.initiator, path=connection.lower.path)
        if theirs.timeout:
            self._lowers.keep_alive(connection.lower, theirs.timeout)

    def _lost(self, connection: Connection) -> None:
        fd = connection.lower.fd
        if self._adjacencies.get(fd) is connection:
            del self._adjacencies[fd]
            self._tree.remove(fd)

    # ------------------------------------------------------------ read-outs

    def readout(self, what: str) -> list[Row]:
        if what == "neighbours":
            return self._neighbours()
        if what == "counters":
            return self._counters()
        if what == "status":
            return self._status()
        raise Refusal(
            errno.EINVAL, f'an IPCP of type broadcast has no read-out "{what}"; it has {", ".join(READOUTS)}'
        )

    def _neighbours(self) -> list[Row]:
        rows = [self._neighbour(connection) for connection in self._adjacencies.values()]
        for name, _component, attempts, last_error in self._connections.trying():
            rows.append(
                BROADCAST_NEIGHBOURS.row(
                    name=name, component="dt", state="connecting", attempts=attempts, trouble=last_error
                )
            )
        return rows

    def _neighbour(self, connection: Connection) -> Row:
        lower, theirs = connection.lower, connection.record
        stats = self._relay.stats(lower.fd)
        return BROADCAST_NEIGHBOURS.row(
            component="dt",
            name=connection.peer or None,
            certificate=lower.peer_identity.name if lower.peer_identity.certificate else None,
            encrypted=lower.peer_identity.encrypted,
            member=f"{theirs.member:016x}" if theirs.member else None,
            state="up" if lower.usable else "down" if lower.down else "silent",
            layer=lower.layer or None,
            fd=lower.fd,
            timeout_ms=theirs.timeout or lower.qos.timeout,
            max_packet=lower.max_packet,
            since=round(self.loop.time() - connection.since, 3),
            received=stats.packets,
            sent=stats.sent,
            dropped=stats.dropped,
        )

    def _counters(self) -> list[Row]:
        return [
            *BROADCAST_DT.rows(self._fan_out.counters()._asdict() | {"defects": self._punt.defects}),
            *CONNECTIONS.rows(asdict(self._connections.counters)),
            *ENROLMENT.rows(asdict(self._enrolment.counters)),
            *LOWERS.rows(asdict(self._lowers.counters)),
            *self.message_counters(),
        ]

    def _status(self) -> list[Row]:
        return [
            BROADCAST_STATUS.row(
                layer=self.layer,
                member=f"{self._tree.member:016x}",
                tree=f"{self._tree.id:016x}" if self._tree.id else None,
                max_packet=MOST,
                require=self.access.require.words,
                admit=list(self.access.admit),
                neighbours=len(self._adjacencies),
                unreachable=sum(not one.lower.usable for one in self._adjacencies.values()),
                joined=len(self._ends),
            )
        ]
