"""An IRMd for tests of management: a thread behind a real socket, with tables of IPCPs and names.

It answers as the real one does, without effect. `refuse` makes a kind of request fail; `requests` contains the requests,
in order, without the lists.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import threading
from collections.abc import Callable
from typing import TypeVar

from ouroboros.errors import EIPCP, EIPCPSTATE, ENAME
from ouroboros.ipcp_types import IpcpType
from ouroboros.rpc.codec import SOCKET_NAME, receive, send
from ouroboros.rpc.messages_pb2 import (
    BoundProcess,
    BoundProgram,
    Envelope,
    FlowEnd,
    FlowInfo,
    FlowTable,
    IpcpInfo,
    IpcpTable,
    LoadBalance,
    NameInfo,
    NameTable,
    PoolClass,
    PoolHolder,
    PoolInfo,
    PoolTable,
    QosSpec,
    ReadoutTable,
    Registration,
    Welcome,
)

Row = TypeVar("Row")
PAGE = 3  # short, so that tables are paged


class Refused(Exception):
    def __init__(self, number: int, text: str) -> None:
        self.number = number
        self.text = text


class FakeIrmd:
    """One IRMd in a run directory; a context manager."""

    def __init__(self, rundir: str) -> None:
        self.path = os.path.join(rundir, SOCKET_NAME)
        self.ipcps: dict[int, IpcpInfo] = {}
        self.names: dict[str, NameInfo] = {}
        self.flows: list[FlowInfo] = []
        self.pools: list[PoolInfo] = []
        self.shown: dict[tuple[str, str], list[dict[str, object]]] = {}
        self.requests: list[Envelope] = []
        self.refuse: dict[str, tuple[int, str]] = {}
        self.learned_layer = "learned"
        self.undestroyable: set[int] = set()
        self._next_pid = 1000
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(self.path)
        self._listener.listen()
        self._sessions: list[socket.socket] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def __enter__(self) -> FakeIrmd:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End at once, as a killed IRMd does."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()
        for session in self._sessions:
            session.close()
        os.unlink(self.path)

    def asked(self) -> list[str]:
        """The kinds of the requests so far."""
        return [str(request.WhichOneof("body")) for request in self.requests]

    def add_ipcp(self, name: str, ipcp_type: str = "LOCAL", layer: str = "") -> int:
        self._next_pid += 1
        pid = self._next_pid
        self.ipcps[pid] = IpcpInfo(
            pid=pid,
            name=name,
            type=IpcpType[ipcp_type],
            layer=layer,
            hash=1,  # type: ignore[arg-type]
            state="operational" if layer else "boot",
        )
        return pid

    def add_name(self, name: str, lb: str = "SPILLOVER") -> NameInfo:
        self.names.setdefault(name, NameInfo(name=name, lb=LoadBalance.Value(lb)))
        return self.names[name]

    # ------------------------------------------------------------ serving

    def _accept(self) -> None:
        while True:
            try:
                session, _ = self._listener.accept()
            except OSError:
                return
            self._sessions.append(session)
            threading.Thread(target=self._serve, args=(session,), daemon=True).start()

    def _serve(self, session: socket.socket) -> None:
        try:
            while (message := receive(session)) is not None:
                request = message[0]
                if not request.id:
                    continue
                answer = self._answer(request)
                answer.id = request.id
                answer.reply = True
                send(session, answer)
        except OSError:
            pass

    def _answer(self, request: Envelope) -> Envelope:
        kind = str(request.WhichOneof("body"))
        if kind == "hello":
            return Envelope(welcome=Welcome(version="fake"))
        if not kind.endswith("_list"):
            self.requests.append(request)
        if kind in self.refuse:
            number, text = self.refuse[kind]
            return Envelope(error=number, text=text)
        handler: Callable[[Envelope], Envelope | None] = getattr(self, f"_{kind}")
        try:
            return handler(request) or Envelope()
        except Refused as refused:
            return Envelope(error=refused.number, text=refused.text)

    def _ipcp(self, pid: int) -> IpcpInfo:
        if pid not in self.ipcps:
            raise Refused(EIPCP, f"there is no IPCP with pid {pid}")
        return self.ipcps[pid]

    def _name(self, name: str) -> NameInfo:
        if name not in self.names:
            raise Refused(ENAME, f"name {name} is unknown")
        return self.names[name]

    # ------------------------------------------------------------ IPCPs

    def _ipcp_create(self, request: Envelope) -> Envelope:
        body = request.ipcp_create
        pid = self.add_ipcp(body.name, IpcpType(body.type).name)
        return Envelope(ipcp_info=self.ipcps[pid])

    def _ipcp_destroy(self, request: Envelope) -> None:
        info = self._ipcp(request.ipcp_destroy.pid)
        if info.pid in self.undestroyable:
            raise Refused(EIPCP, f"IPCP {info.name} cannot be destroyed")
        del self.ipcps[request.ipcp_destroy.pid]

    def _ipcp_list(self, request: Envelope) -> Envelope:
        rows, following = page(list(self.ipcps.values()), request.ipcp_list.offset)
        return Envelope(ipcp_table=IpcpTable(ipcps=rows, next=following))

    def _ipcp_bootstrap(self, request: Envelope) -> Envelope:
        return self._join(request.ipcp_bootstrap.pid, request.ipcp_bootstrap.config.layer)

    def _ipcp_enroll(self, request: Envelope) -> Envelope:
        return self._join(request.ipcp_enroll.pid, self.learned_layer)

    def _join(self, pid: int, layer: str) -> Envelope:
        info = self._ipcp(pid)
        if info.layer:
            raise Refused(EIPCPSTATE, f"IPCP {info.name} is a member already")
        info.layer, info.state = layer, "operational"
        return Envelope(ipcp_info=info)

    def _ipcp_connect(self, request: Envelope) -> None:
        self._ipcp(request.ipcp_connect.pid)
        refused = self.refuse.get(request.ipcp_connect.component)
        if refused:
            raise Refused(*refused)

    def _ipcp_disconnect(self, request: Envelope) -> None:
        self._ipcp(request.ipcp_disconnect.pid)
        refused = self.refuse.get(request.ipcp_disconnect.component)
        if refused:
            raise Refused(*refused)

    # ------------------------------------------------------------ bindings and names

    def _bind_program(self, request: Envelope) -> None:
        body = request.bind_program
        self.add_name(body.name).programs.append(BoundProgram(path=body.path, auto=body.auto, args=body.args))

    def _unbind_program(self, request: Envelope) -> None:
        pass

    def _bind_process(self, request: Envelope) -> None:
        self.add_name(request.bind_process.name).processes.append(
            BoundProcess(pid=request.bind_process.pid, program="/bin/x", accepting=2)
        )

    def _unbind_process(self, request: Envelope) -> None:
        for info in self.names.values():
            kept = [process for process in info.processes if process.pid != request.unbind_process.pid]
            if request.unbind_process.name in ("", info.name):
                del info.processes[:]
                info.processes.extend(kept)

    def _name_create(self, request: Envelope) -> None:
        self.names.setdefault(request.name_create.info.name, request.name_create.info)

    def _name_set(self, request: Envelope) -> None:
        body = request.name_set
        info = self._name(body.name)
        if body.HasField("lb"):
            info.lb = body.lb
        if body.HasField("require"):
            info.require = body.require
        for side in ("server", "client"):
            if body.HasField(side):
                getattr(info, side).CopyFrom(getattr(body, side))

    def _name_destroy(self, request: Envelope) -> None:
        del self.names[self._name(request.name_destroy.name).name]

    def _name_list(self, request: Envelope) -> Envelope:
        only = request.name_list.name
        rows, following = page(
            [self._name(only)] if only else list(self.names.values()), request.name_list.offset
        )
        return Envelope(name_table=NameTable(names=rows, next=following))

    def _name_register(self, request: Envelope) -> None:
        ipcp = self._ipcp(request.name_register.pid)
        if ipcp.name in self.refuse:
            raise Refused(*self.refuse[ipcp.name])
        self._name(request.name_register.name).registrations.append(
            Registration(pid=ipcp.pid, ipcp=ipcp.name, layer=ipcp.layer, hash="abcd")
        )

    def _name_unregister(self, request: Envelope) -> None:
        info = self._name(request.name_unregister.name)
        kept = [reg for reg in info.registrations if reg.pid != request.name_unregister.pid]
        if len(kept) == len(info.registrations):
            raise Refused(ENAME, f"{info.name} is not registered there")
        del info.registrations[:]
        info.registrations.extend(kept)

    # ------------------------------------------------------------ read-outs

    def _readout(self, request: Envelope) -> Envelope:
        body = request.readout
        rows, following = page(
            self.shown.get((self._ipcp(body.pid).name if body.pid else "", body.what), []), body.offset
        )
        return Envelope(readout_table=ReadoutTable(rows=map(json.dumps, rows), next=following))

    def _flow_list(self, request: Envelope) -> Envelope:
        rows, following = page(self.flows, request.flow_list.offset)
        return Envelope(flow_table=FlowTable(flows=rows, next=following))

    def _pool_list(self, request: Envelope) -> Envelope:
        rows, following = page(self.pools, request.pool_list.offset)
        return Envelope(pool_table=PoolTable(pools=rows, next=following))


def page(rows: list[Row], offset: int) -> tuple[list[Row], int]:
    """One page of a table, and where the next begins."""
    end = offset + PAGE
    return rows[offset:end], end if end < len(rows) else 0


def a_flow(number: int = 5) -> FlowInfo:
    return FlowInfo(
        flow_id=number,
        state="allocated",
        name="oping",
        ends=[
            FlowEnd(pid=11, fd=64, program="/bin/a", queued=3, packets=7, dropped=2, refused=1),
            FlowEnd(pid=12, fd=65, program="/bin/b", queued=0, packets=9),
        ],
        qos=QosSpec(delay=1000, max_gap=2000, in_order=1, timeout=120000),
        cipher=901,
    )


def a_pool() -> PoolInfo:
    holders = [PoolHolder(pid=11, program="/bin/a", blocks=4), PoolHolder(flow_id=5, blocks=1)]
    return PoolInfo(
        name="system",
        uid=0,
        octets=1 << 20,
        failures=2,
        taken=1 << 19,
        classes=[
            PoolClass(size=1760, total=100, free=95, holders=holders),
            PoolClass(size=67296, total=8, free=8),
        ],
    )


PERMISSION = (errno.EPERM, "management needs root")
