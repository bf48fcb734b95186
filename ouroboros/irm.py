"""Management of a system: IPCPs by pid, names, bindings, and what is there to see (paper 5.7; docs/reference/api.md).

A library module of tools and applications; one function per request to the IRMd. `ouroboros.cli` has the same by
name, as the `irm` command does. All functions are synchronous and safe for threads. They share one connection,
which is made by the first call; when the IRMd has been restarted since the last call, a new one is made.

Every function raises IrmdError when there is no IRMd, and otherwise the error that its description names, always an
OSError with the IRMd's errno and text.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from errno import EFBIG
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeVar

from . import arguments
from .arguments import checked
from .cipher import cipher_name
from .errors import (
    BindError,
    IpcpBootstrapError,
    IpcpConnectError,
    IpcpCreateError,
    IpcpEnrollError,
    IrmdError,
    IrmError,
    IrmNameError,
    OuroborosError,
    about,
)
from .ipcp_types import DT_COMP, MGMT_COMP, DirectoryHashAlgo, IpcpType, LoadBalancePolicy
from .qos import QOS_RAW, QoSSpec
from .readout import FlowEnd, FlowInfo, IpcpInfo, PoolClass, PoolHolder, PoolInfo
from .rpc import messages_pb2 as pb
from .rpc.client import Client
from .rundir import rundir_candidates

if TYPE_CHECKING:
    from .ipcp_config import (
        DhtConfig,
        DirConfig,
        DtConfig,
        EthConfig,
        IpcpConfig,
        LinkStateConfig,
        RoutingConfig,
        Udp4Config,
        Udp6Config,
        UnicastConfig,
    )
    from .name_info import (
        BoundProcess,
        BoundProgram,
        NameInfo,
        NameSecPaths,
        Registration,
        Requirement,
    )
    from .policies import (
        AddressAuthPolicy,
        CongestionAvoidPolicy,
        DirectoryPolicy,
        LinkStatePolicy,
        RoutingPolicy,
    )

__all__ = [
    "BIND_AUTO",
    "DT_COMP",
    "MGMT_COMP",
    "AddressAuthPolicy",
    "BindError",
    "BoundProcess",
    "BoundProgram",
    "CongestionAvoidPolicy",
    "DhtConfig",
    "DirConfig",
    "DirectoryHashAlgo",
    "DirectoryPolicy",
    "DtConfig",
    "EthConfig",
    "FlowEnd",
    "FlowInfo",
    "IpcpBootstrapError",
    "IpcpConfig",
    "IpcpConnectError",
    "IpcpCreateError",
    "IpcpEnrollError",
    "IpcpInfo",
    "IpcpType",
    "IrmError",
    "IrmdError",
    "LinkStateConfig",
    "LinkStatePolicy",
    "LoadBalancePolicy",
    "NameError",
    "NameInfo",
    "NameSecPaths",
    "PoolClass",
    "PoolHolder",
    "PoolInfo",
    "Registration",
    "Requirement",
    "RoutingConfig",
    "RoutingPolicy",
    "Udp4Config",
    "Udp6Config",
    "UnicastConfig",
    "apply_system",
    "bind_process",
    "bind_program",
    "bootstrap_ipcp",
    "connect_ipcp",
    "create_ipcp",
    "create_name",
    "destroy_ipcp",
    "destroy_name",
    "disconnect_ipcp",
    "enroll_ipcp",
    "list_flows",
    "list_ipcps",
    "list_names",
    "list_pools",
    "readout_ipcp",
    "readout_irmd",
    "reg_name",
    "save_system",
    "set_name",
    "show_name",
    "unbind_process",
    "unbind_program",
    "unreg_name",
]

NameError = IrmNameError  # noqa: A001 - the binding's name for it

BIND_AUTO = 1

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """Configuration classes are loaded when they are used: a list does not need them, and starts faster."""
        if name in __all__:
            from . import ipcp_config, name_info

            for module in (ipcp_config, name_info):
                if hasattr(module, name):
                    globals()[name] = getattr(module, name)
                    return globals()[name]
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


# ---------------------------------------------------------------- the connection


_LARGEST_FILE = 60_000
"""Octets of a compressed configuration file: it travels in one message."""


class _Connection:
    """The connection with the IRMd, made when it is first needed."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._client: Client | None = None
        self._rundirs: list[str] = []
        os.register_at_fork(after_in_child=self._forked)

    def call(self, default: type[OuroborosError], **body: object) -> pb.Envelope:
        try:
            reply, _ = self._current().call(pb.Envelope(**body), default=default)  # type: ignore[arg-type]
        except OuroborosError as failure:
            (message,) = body.values()
            message = getattr(message, "info", message)
            about(failure, getattr(message, "name", None), getattr(message, "layer", None))
            raise
        return reply

    def _current(self) -> Client:
        with self._lock:
            client, rundirs = self._client, rundir_candidates()
            if client is not None and (rundirs != self._rundirs or not client.run_once()):
                client.close()
                client = None
            if client is None:
                client = self._client = Client.connect(pb.Hello.TOOL)
                self._rundirs = rundirs
            return client

    def _forked(self) -> None:
        self._lock = Lock()
        if self._client is not None:
            self._client.abandon()
            self._client = None


_connection = _Connection()
_call = _connection.call


# ---------------------------------------------------------------- the system as a file


def save_system() -> str:
    """The running system as the text of a configuration file (docs/reference/config.md). Raises IrmError."""
    return zlib.decompress(_call(IrmError, node_save=pb.NodeSave()).node_report.file).decode()


@checked
def apply_system(text: str, path: str = "<text>", *, dry_run: bool = False) -> list[str]:
    """Bring the running system to the state of a configuration file; returns the changes, a line for each.

    text     its text
    path     its name, for errors
    dry_run  change nothing: only return what would be changed

    Raises IrmError: the file has a mistake (nothing was changed), or a change failed (it can be repeated when the cause is mended).
    """
    file = zlib.compress(text.encode())
    if len(file) > _LARGEST_FILE:
        raise IrmError(
            EFBIG, f"{path} is too long: compressed it has {len(file)} octets, more than {_LARGEST_FILE}"
        )
    request = pb.NodeApply(file=file, path=path, dry_run=dry_run)
    return list(_call(IrmError, node_apply=request).node_report.changes)


# ---------------------------------------------------------------- IPCPs


Ipcp = int | IpcpInfo

"""An IPCP: a pid means the IPCP that has it when the request arrives; an IpcpInfo means the very IPCP that it describes, also
when that has ended and another has its pid."""


def _check_ipcp(name: str, value: object) -> object:
    return value if isinstance(value, IpcpInfo) else arguments.CHECKS["int"](name, value)


arguments.CHECKS["Ipcp"] = _check_ipcp


@checked
def create_ipcp(name: str, ipcp_type: IpcpType) -> int:
    """Create an IPCP; returns its pid. Raises IpcpCreateError."""
    return new_ipcp(name, ipcp_type).pid


def new_ipcp(name: str, ipcp_type: IpcpType) -> IpcpInfo:
    """Create an IPCP; returns its record. Raises IpcpCreateError."""
    request = pb.IpcpCreate(name=name, type=IpcpType(ipcp_type))
    return _ipcp_info(_call(IpcpCreateError, ipcp_create=request).ipcp_info)


@checked
def destroy_ipcp(pid: Ipcp) -> None:
    """Destroy an IPCP; returns when it has ended. Raises IpcpCreateError."""
    number, instance = _meant(pid)
    _call(IpcpCreateError, ipcp_destroy=pb.IpcpDestroy(pid=number, instance=instance))


@checked
def list_ipcps() -> list[IpcpInfo]:
    """All IPCPs. Raises IrmError."""
    found: list[IpcpInfo] = []
    for table in _pages(lambda offset: _call(IrmError, ipcp_list=pb.IpcpList(offset=offset)).ipcp_table):
        found.extend(map(_ipcp_info, table.ipcps))
    return found


@checked
def bootstrap_ipcp(pid: Ipcp, conf: IpcpConfig) -> IpcpInfo:
    """Make the first IPCP of a layer. Raises IpcpBootstrapError, and ValueError for an illegal configuration."""
    number, instance = _meant(pid)
    request = pb.IpcpBootstrap(pid=number, instance=instance, config=conf.to_proto())
    return _ipcp_info(_call(IpcpBootstrapError, ipcp_bootstrap=request).ipcp_info)


@checked
def enroll_ipcp(
    pid: Ipcp, dst: str, *, layer: str | None = None, retry: int | None = None, require: int = 0
) -> IpcpInfo:
    """Enrol an IPCP in the layer of a member that accepts flows for the name `dst`.

    With `layer`, that layer and no other; `require` (of `Requirement`) is the requirement on that member. `retry` is the number of
    further attempts, after pauses that grow: 0 is until the enrolment succeeds or the call is interrupted, None is none. Raises
    IpcpEnrollError.
    """
    number, instance = _meant(pid)
    request = pb.IpcpEnroll(
        pid=number, instance=instance, dst=dst, layer=layer or "", retry=_retry(retry), require=require
    )
    return _ipcp_info(_call(IpcpEnrollError, ipcp_enroll=request).ipcp_info)


@checked
def connect_ipcp(
    pid: Ipcp, component: str, dst: str, qos: QoSSpec | None = None, *, retry: int | None = None
) -> None:
    """Connect a component, DT_COMP or MGMT_COMP, with that of the member `dst`; None is raw. Raises IpcpConnectError.

    The timeout of `qos` is the time without packets after which the neighbour is dead; `retry` is as for `enroll_ipcp`.
    `component` and `dst` may come in either order: the C header and its implementation disagree.
    """
    component, dst = _component_first(component, dst)
    qos = qos or QOS_RAW
    number, instance = _meant(pid)
    request = pb.IpcpConnect(
        pid=number, instance=instance, dst=dst, component=component, qos=qos.to_proto(), retry=_retry(retry)
    )
    _call(IpcpConnectError, ipcp_connect=request)


@checked
def disconnect_ipcp(pid: Ipcp, component: str, dst: str) -> None:
    """Undo `connect_ipcp`. Raises IpcpConnectError."""
    component, dst = _component_first(component, dst)
    number, instance = _meant(pid)
    request = pb.IpcpDisconnect(pid=number, instance=instance, dst=dst, component=component)
    _call(IpcpConnectError, ipcp_disconnect=request)


# ---------------------------------------------------------------- bindings


@checked
def bind_program(
    prog: str, name: str, opts: int = 0, argv: Sequence[str] | None = None, *, user: str = ""
) -> None:
    """Bind a program, by its path, to a name: every process of it that starts from now on.

    With BIND_AUTO in `opts` the IRMd starts it, with the arguments `argv`, when a flow to the name is requested and
    no process of it waits. A name that does not exist is made. Processes of users who may not manage the IRMd are bound
    only where the program was bound for them: `user` names one (default: the caller), which also owns the started process.
    Raises BindError.
    """
    auto = bool(opts & BIND_AUTO)
    request = pb.BindProgram(path=prog, name=name, auto=auto, args=list(argv or ()), user=user)
    _call(BindError, bind_program=request)


@checked
def unbind_program(prog: str, name: str | None = None) -> None:
    """Undo `bind_program` for one name, or for all (None). Raises BindError."""
    _call(BindError, unbind_program=pb.UnbindProgram(path=prog, name=name or ""))


@checked
def bind_process(pid: int, name: str) -> None:
    """Bind a running process to a name, which is made if need be. Raises BindError."""
    _call(BindError, bind_process=pb.BindProcess(pid=pid, name=name))


@checked
def unbind_process(pid: int, name: str | None = None) -> None:
    """Undo `bind_process` for one name, or for all (None). Raises BindError."""
    _call(BindError, unbind_process=pb.UnbindProcess(pid=pid, name=name or ""))


# ---------------------------------------------------------------- names


@checked
def create_name(info: NameInfo, *, given: Iterable[str] = ()) -> None:
    """Create a name; one that exists stays as it is. Raises NameError (of this module).

    given  of "lb", "server", "client", "require": a name that exists and differs in one of them is refused. A requirement that it lacks
           is refused in any case.
    """
    proto = pb.NameInfo(
        name=arguments.text("info.name", info.name),
        lb=pb.LoadBalance.Value(arguments.member("info.pol_lb", info.pol_lb, LoadBalancePolicy).name),
        server=_paths("info.server_sec", info.server_sec),
        client=_paths("info.client_sec", info.client_sec),
        require=arguments.integer("info.require", info.require),
    )
    _call(IrmNameError, name_create=pb.NameCreate(info=proto, given=given))


@checked
def set_name(
    name: str,
    *,
    pol_lb: LoadBalancePolicy | None = None,
    server_sec: NameSecPaths | None = None,
    client_sec: NameSecPaths | None = None,
    require: Requirement | None = None,
) -> None:
    """Change the policies of a name: those that are not None. Flows that exist keep what they have. Raises NameError (of this module).

    server_sec, client_sec  the paths of that side as a whole; "" means the default place
    """
    proto = pb.NameSet(name=arguments.text("name", name))
    if pol_lb is not None:
        proto.lb = pb.LoadBalance.Value(arguments.member("pol_lb", pol_lb, LoadBalancePolicy).name)
    if require is not None:
        proto.require = arguments.integer("require", require)
    if server_sec is not None:
        proto.server.CopyFrom(_paths("server_sec", server_sec))
    if client_sec is not None:
        proto.client.CopyFrom(_paths("client_sec", client_sec))
    _call(IrmNameError, name_set=proto)


@checked
def destroy_name(name: str) -> None:
    """Forget a name. Raises NameError (of this module)."""
    _call(IrmNameError, name_destroy=pb.NameDestroy(name=name))


@checked
def list_names() -> list[NameInfo]:
    """All names, with their bindings and registrations. Raises IrmError."""
    return list(_names(""))


@checked
def show_name(name: str) -> NameInfo:
    """One name. Raises NameError (of this module) when it does not exist."""
    for info in _names(name):
        if info.name == name:
            return info
    raise IrmNameError(f"Name {name} is not known; create it with `irm name create {name}`.")


@checked
def reg_name(name: str, pid: Ipcp) -> None:
    """Register a name in the layer of an IPCP: it can be reached over that layer. Raises NameError."""
    number, instance = _meant(pid)
    _call(IrmNameError, name_register=pb.NameRegister(name=name, pid=number, instance=instance))


@checked
def unreg_name(name: str, pid: Ipcp) -> None:
    """Undo `reg_name`. Raises NameError (of this module)."""
    number, instance = _meant(pid)
    _call(IrmNameError, name_unregister=pb.NameUnregister(name=name, pid=number, instance=instance))


# ---------------------------------------------------------------- read-outs


@checked
def list_flows() -> list[FlowInfo]:
    """All flows. Raises IrmError."""
    found: list[FlowInfo] = []
    for table in _pages(lambda offset: _call(IrmError, flow_list=pb.FlowList(offset=offset)).flow_table):
        for flow in table.flows:
            ends = [
                FlowEnd(e.pid, e.fd, e.program, e.queued, e.packets, e.dropped, e.refused) for e in flow.ends
            ]
            qos = QoSSpec.from_proto(flow.qos) if flow.HasField("qos") else None
            cipher = cipher_name(flow.cipher)
            found.append(
                FlowInfo(flow.flow_id, flow.state, flow.name, flow.layer, ends, qos, flow.down, cipher)
            )
    return found


@checked
def list_pools() -> list[PoolInfo]:
    """All packet pools, block by block class, and the holders of the blocks. Raises IrmError."""
    found: list[PoolInfo] = []
    for table in _pages(lambda offset: _call(IrmError, pool_list=pb.PoolList(offset=offset)).pool_table):
        for pool in table.pools:
            classes = [
                PoolClass(
                    c.size,
                    c.total,
                    c.free,
                    [PoolHolder(h.pid, h.flow_id, h.program, h.blocks) for h in c.holders],
                )
                for c in pool.classes
            ]
            found.append(PoolInfo(pool.name, pool.uid, pool.octets, pool.failures, classes, pool.taken))
    return found


@checked
def readout_ipcp(pid: Ipcp, what: str) -> list[dict[str, Any]]:
    """A read-out of an IPCP: "neighbours", "routes", "directory", "counters" or "status". Raises IrmError."""
    return _readout(*_meant(pid), what)


@checked
def readout_irmd(what: str = "counters") -> list[dict[str, Any]]:
    """A read-out of the IRMd: "counters", or "ended": IPCPs that failed and were not created again. Raises IrmError."""
    return _readout(0, 0, what)


def _readout(pid: int, instance: int, what: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for table in _pages(
        lambda offset: (
            _call(
                IrmError, readout=pb.Readout(pid=pid, instance=instance, what=what, offset=offset)
            ).readout_table
        )
    ):
        if table.rows:
            import json

            found.extend(map(json.loads, table.rows))
    return found


# ---------------------------------------------------------------- inside

Page = TypeVar("Page", pb.IpcpTable, pb.FlowTable, pb.PoolTable, pb.NameTable, pb.ReadoutTable)


def _meant(ipcp: Ipcp) -> tuple[int, int]:
    return (ipcp, 0) if isinstance(ipcp, int) else (ipcp.pid, ipcp.instance)


def _paths(name: str, paths: NameSecPaths) -> pb.NameSecPaths:
    from .name_info import NameSecPaths

    arguments.instance(name, paths, NameSecPaths)
    enc, key, crt = (arguments.text(f"{name}.{part}", getattr(paths, part)) for part in ("enc", "key", "crt"))
    return pb.NameSecPaths(enc=enc, key=key, crt=crt)


def _retry(times: int | None) -> pb.Retry | None:
    return None if times is None else pb.Retry(times=times)


def _ipcp_info(proto: pb.IpcpInfo) -> IpcpInfo:
    return IpcpInfo(
        proto.pid,
        proto.name,
        IpcpType(proto.type),
        proto.layer,
        DirectoryHashAlgo(proto.hash),
        proto.state,
        proto.progress,
        [word for bit, word in ((1, "encryption"), (2, "authentication")) if proto.access.require & bit],
        proto.access.admit.split(",") if proto.access.admit else (),
        proto.instance,
    )


def _names(name: str) -> Iterator[NameInfo]:
    from .name_info import BoundProcess, BoundProgram, NameInfo, NameSecPaths, Registration, Requirement

    for table in _pages(
        lambda offset: _call(IrmNameError, name_list=pb.NameList(offset=offset, name=name)).name_table
    ):
        for proto in table.names:
            yield NameInfo(
                proto.name,
                LoadBalancePolicy(proto.lb),
                NameSecPaths(proto.server.enc, proto.server.key, proto.server.crt),
                NameSecPaths(proto.client.enc, proto.client.key, proto.client.crt),
                [BoundProgram(p.path, p.auto, list(p.args)) for p in proto.programs],
                [BoundProcess(p.pid, p.program, p.accepting) for p in proto.processes],
                [Registration(r.pid, r.ipcp, r.layer, r.hash) for r in proto.registrations],
                Requirement(proto.require),
            )


def _pages(ask: Callable[[int], Page]) -> Iterator[Page]:
    """The pages of a table, of which `ask` gets the one at an offset."""
    offset = 0
    while True:
        page = ask(offset)
        yield page
        if page.next <= offset:
            return  # the last; a table that does not advance would be read for ever
        offset = page.next


def _component_first(component: str, dst: str) -> tuple[str, str]:
    if component not in (DT_COMP, MGMT_COMP) and dst in (DT_COMP, MGMT_COMP):
        return dst, component
    return component, dst
