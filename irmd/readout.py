"""Readouts of the IRMd: lists of IPCPs, names, flows and pools, in pages that fit a message."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable, Mapping, Sequence
from operator import methodcaller
from typing import TYPE_CHECKING

from google.protobuf.message import Message

from ouroboros.facts import ENDED, Group
from ouroboros.rpc.messages_pb2 import (
    BoundProcess,
    BoundProgram,
    Envelope,
    FlowEnd,
    FlowInfo,
    NameInfo,
    NameSecPaths,
    PoolHolder,
    PoolInfo,
    Registration,
)
from ouroboros.rpc.messages_pb2 import Readout as ReadoutRequest
from ouroboros.rpc.service import PAGE, Refusal, page

from .flow_table import FlowTable
from .ipcp_table import IpcpTable
from .records import Flow, Name, Process
from .registry import Registry

if TYPE_CHECKING:
    from .memory import Memory, Pool

_SIZE: Callable[[Message], int] = methodcaller("ByteSize")


class Readout:
    """Answers to the list requests."""

    def __init__(
        self,
        registry: Registry,
        ipcps: IpcpTable,
        flows: FlowTable,
        memory: Memory,
        counters: Sequence[tuple[Group, Mapping[str, int]]],
    ) -> None:
        self._registry = registry
        self._ipcps = ipcps
        self._flows = flows
        self._memory = memory
        self.counters = counters
        """The counters of the IRMd, group by group."""

    def ipcps(self, envelope: Envelope) -> Envelope:
        """All IPCPs, by type and pid."""
        answer = Envelope()
        table = answer.ipcp_table
        rows, table.next = page(
            self._ipcps.listed(), envelope.ipcp_list.offset, lambda ipcp: ipcp.info(), _SIZE
        )
        table.ipcps.extend(rows)
        return answer

    def names(self, envelope: Envelope) -> Envelope:
        """All names, or one, with their bindings and registrations."""
        body = envelope.name_list
        if body.name:
            entries = [self._registry.name(body.name)]
        else:
            entries = sorted(self._registry, key=lambda entry: entry.name)
        answer = Envelope()
        table = answer.name_table
        rows, table.next = page(entries, body.offset, self._name, _SIZE)
        table.names.extend(rows)
        return answer

    def flows(self, envelope: Envelope) -> Envelope:
        """All flows, pending ones too, by id."""
        entries = sorted(self._flows.flows.values(), key=lambda flow: flow.id)
        answer = Envelope()
        table = answer.flow_table
        rows, table.next = page(entries, envelope.flow_list.offset, _flow, _SIZE)
        table.flows.extend(rows)
        return answer

    def pools(self, envelope: Envelope) -> Envelope:
        """All packet pools, with the number of blocks that each process holds."""
        pools = sorted(self._memory.pools.values(), key=lambda pool: pool.id)
        answer = Envelope()
        table = answer.pool_table
        rows, table.next = page(pools, envelope.pool_list.offset, self._pool, _SIZE)
        table.pools.extend(rows)
        return answer

    def own(self, body: ReadoutRequest) -> Envelope:
        """A readout of the IRMd itself. Raises Refusal."""
        rows: list[dict[str, object]]
        if body.what == "counters":
            rows = [
                row for group, values in self.counters for row in group.rows(dict(sorted(values.items())))
            ]
        elif body.what == "ended":
            rows = [ENDED.row(name=name, pid=pid, how=how) for name, (pid, how) in self._ipcps.ended.items()]
        else:
            raise Refusal(
                errno.EINVAL, f'the IRMd has no readout "{body.what}"; it has counters, and IPCPs that ended'
            )
        answer = Envelope()
        table = answer.readout_table
        table.SetInParent()
        texts, table.next = page(rows, body.offset, json.dumps, len)
        table.rows.extend(texts)
        return answer

    def _name(self, entry: Name) -> NameInfo:
        policy = entry.policy
        info = NameInfo(name=entry.name, lb=entry.lb, require=policy.require)  # type: ignore[arg-type]
        for paths, message in ((policy.server, info.server), (policy.client, info.client)):
            message.CopyFrom(NameSecPaths(enc=paths.enc, crt=paths.crt, key=paths.key))
        info.programs.extend(
            BoundProgram(path=binding.path, auto=binding.auto, args=binding.args)
            for binding in entry.programs.values()
        )
        waiting: dict[Process, int] = {}
        for accept in entry.accepting:
            waiting[accept.process] = waiting.get(accept.process, 0) + 1
        info.processes.extend(
            BoundProcess(pid=process.peer.pid, program=process.program, accepting=waiting.get(process, 0))
            for process in entry.processes
        )
        info.registrations.extend(
            Registration(pid=ipcp.pid, ipcp=ipcp.name, layer=ipcp.layer, hash=digest.hex())
            for ipcp, digest in entry.registrations.items()
        )
        while info.ByteSize() > PAGE:  # thousands of processes bound to one name: show as many as fit
            del info.processes[len(info.processes) // 2 :]
        return info

    def _pool(self, pool: Pool) -> PoolInfo:
        info = PoolInfo(
            name=pool.name, uid=pool.uid, octets=pool.octets, failures=pool.failures, taken=pool.taken
        )
        holders = pool.holders()
        for at, count in enumerate(pool.counts()):
            row = info.classes.add(size=count.size, total=count.total, free=count.free)
            for token, blocks in holders.items():
                if blocks[at]:
                    process = self._registry.processes.get(token)
                    row.holders.append(
                        PoolHolder(
                            pid=process.peer.pid if process else 0,
                            program=process.program if process else "",
                            blocks=blocks[at],
                        )
                    )
        while info.ByteSize() > PAGE:
            for row in info.classes:
                del row.holders[len(row.holders) // 2 :]
        return info


def _flow(flow: Flow) -> FlowInfo:
    info = FlowInfo(
        flow_id=flow.id,
        state=flow.state.value,
        name=flow.name,
        layer=flow.layer,
        qos=flow.qos,
        down=flow.down,
        cipher=flow.cipher,
    )
    if flow.memory is None:
        if flow.requester is not None:
            process, descriptor = flow.requester
            info.ends.append(FlowEnd(pid=process.peer.pid, fd=descriptor.fd, program=process.program))
        return info
    for side, end in enumerate(flow.ends):
        info.ends.append(
            FlowEnd(
                pid=end.process.peer.pid,
                fd=end.fd,
                program=end.process.program,
                queued=flow.memory.queued(side),
                packets=flow.memory.written(side),
                dropped=flow.memory.dropped(side),
                refused=flow.memory.refused(side),
            )
        )
    return info
