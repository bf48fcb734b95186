"""Management by name, as the `irm` command does it (docs/reference/api.md, docs/reference/irm.md; paper 5.7).

A library module of tools and applications, above `ouroboros.irm`. Where it takes the name of an IPCP or of a layer,
shell-style wildcards (* ? [..]) select several; an IPCP that nothing matches is an error. A function of several steps
leaves nothing half-made: when one fails, it undoes those before, and raises the first error.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from errno import EACCES, EINVAL, ENOENT, ESRCH
from typing import TYPE_CHECKING, Any

from .arguments import checked, wrong_value
from .errors import (
    EIPCP,
    EIPCPTYPE,
    BindError,
    IpcpBootstrapError,
    IpcpConnectError,
    IpcpCreateError,
    IpcpEnrollError,
    IrmdError,
    IrmError,
    IrmNameError,
    OuroborosError,
)
from .ipcp_types import COMPONENT_WORDS, ENROLLING, IpcpType, LoadBalancePolicy
from .readout import IpcpInfo

if TYPE_CHECKING:
    from .ipcp_config import IpcpConfig
    from .name_info import NameInfo, NameSecPaths

from . import irm
from .ipcp_options import is_pattern
from .qos import QOS_RAW, QoSSpec
from .selection import matches, matching, patterns, registrars, select

__all__ = [
    "IrmError",
    "IrmdError",
    "autoboot",
    "bind_ipcp",
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
    "find_program",
    "list_ipcps",
    "list_names",
    "readout_ipcp",
    "reg_name",
    "show_name",
    "unbind_ipcp",
    "unbind_process",
    "unbind_program",
    "unreg_name",
]

_COMPONENTS = COMPONENT_WORDS | {name: name for name in COMPONENT_WORDS.values()}


# ---------------------------------------------------------------- IPCPs


@checked
def create_ipcp(name: str, ipcp_type: IpcpType) -> int:
    """Create an IPCP; returns its pid. Raises IpcpCreateError."""
    return irm.create_ipcp(name, ipcp_type)


@checked
def destroy_ipcp(name: str, *, destroyed: Callable[[IpcpInfo], object] = lambda ipcp: None) -> None:
    """Destroy all IPCPs of that name. Raises IpcpCreateError, also when there is none.

    `destroyed` is called for each that has been destroyed; one that cannot be does not spare the others.
    """
    failure: IpcpCreateError | None = None
    for ipcp in matching(irm.list_ipcps(), name, IpcpCreateError):
        try:
            irm.destroy_ipcp(ipcp)
        except IpcpCreateError as error:
            failure = failure or error
        else:
            destroyed(ipcp)
    if failure is not None:
        raise failure


@checked
def list_ipcps(
    name: str | None = None, layer: str | None = None, ipcp_type: IpcpType | None = None
) -> list[IpcpInfo]:
    """The IPCPs of the system that fit all filters that are given. Raises IrmError."""
    found = irm.list_ipcps()
    if name is not None:
        found = select(found, name, lambda ipcp: ipcp.name)
    if layer is not None:
        found = select(found, layer, lambda ipcp: ipcp.layer)
    return [ipcp for ipcp in found if ipcp_type is None or ipcp.type == ipcp_type]


@checked
def bootstrap_ipcp(
    name: str,
    conf: IpcpConfig | Callable[[IpcpType], IpcpConfig],
    autobind: bool = False,
    *,
    create: IpcpType | None = None,
) -> list[IpcpInfo]:
    """Make the IPCP `name` the first of a layer; returns what was bootstrapped.

    `conf` may be a function of the IPCP's type. With `create` an IPCP of that type is made when there is none.
    `autobind` (unicast and broadcast) binds it to its own name and to the layer's. Raises IpcpBootstrapError, or
    the error of a step.
    """
    ipcps = list_ipcps(name)
    with ExitStack() as undo:
        if not ipcps:
            if create is None or is_pattern(name):
                hint = "" if is_pattern(name) else "; give a type to create one"
                raise IpcpBootstrapError(EIPCP, f"No IPCPs matching {name} found{hint}.")
            ipcps = [_create(name, create, undo)]
        for ipcp in ipcps:
            if create is not None and ipcp.type != create:
                raise IpcpBootstrapError(
                    EIPCPTYPE,
                    f"Types do not match: IPCP {ipcp.name} is of type {ipcp.type.type_name}, not {create.type_name}.",
                )
        done = []
        for ipcp in ipcps:
            config = conf(ipcp.type) if callable(conf) else conf
            if config.ipcp_type != ipcp.type:
                raise IpcpBootstrapError(
                    EIPCPTYPE,
                    f"Types do not match: IPCP {ipcp.name} is of type {ipcp.type.type_name}, "
                    f"the configuration is for {config.ipcp_type.type_name}.",
                )
            if autobind and ipcp.type.enrols:
                _bind_pid(ipcp.pid, (ipcp.name, config.layer_name), undo)
            done.append(irm.bootstrap_ipcp(ipcp, config))
        undo.pop_all()
    return done


@checked
def autoboot(name: str, ipcp_type: IpcpType, layer: str, conf: IpcpConfig | None = None) -> None:
    """Create an IPCP, bind it to its name and to the layer's, and bootstrap it. Raises IpcpBootstrapError."""
    from .ipcp_config import IpcpConfig

    if conf is None:
        conf = IpcpConfig(ipcp_type, layer)
    elif not conf.layer_name:
        conf.layer_name = layer
    bootstrap_ipcp(name, conf, ipcp_type.enrols, create=ipcp_type)


@checked
def enroll_ipcp(
    name: str,
    dst: str | None = None,
    autobind: bool = False,
    *,
    layer: str | None = None,
    ipcp_type: IpcpType | None = None,
    create: bool = False,
    retry: int | None = None,
    require: Iterable[str] = (),
) -> IpcpInfo:
    """Enrol the IPCP `name` with a member that accepts flows for `dst`; returns it with the layer it learned.

    `dst` defaults to the layer's name (anycast). When `layer` is given, the layer that was learned must be that one.
    With `create` an IPCP of type `ipcp_type` (default: unicast) is made when there is none. `autobind` binds it,
    after the enrolment, to its own name and to the layer's. `retry` is the number of further attempts, 0 for ever. `require` is
    the requirement on the member: "authentication", "encryption". Raises IpcpEnrollError, or the error of a step.
    """
    required = _required(require)
    dst = dst or layer
    if not dst:
        raise IpcpEnrollError(EINVAL, "To enrol, a destination or a layer is needed.")
    ipcps = list_ipcps(name)
    ipcps = [ipcp for ipcp in ipcps if ipcp.type.enrols and ipcp_type in (None, ipcp.type)] or ipcps
    ipcps = [ipcp for ipcp in ipcps if not ipcp.layer] or ipcps
    with ExitStack() as undo:
        if ipcps:
            ipcp = ipcps[0]
        elif create and not is_pattern(name):
            ipcp = _create(name, ipcp_type if ipcp_type is not None else IpcpType.UNICAST, undo)
        else:
            raise IpcpEnrollError(EIPCP, f"No IPCPs matching {name} found.")
        if not ipcp.type.enrols:
            raise IpcpEnrollError(
                EIPCPTYPE,
                f"IPCP {ipcp.name} is of type {ipcp.type.type_name}, which is bootstrapped, never enrolled.",
            )
        if ipcp_type not in (None, ipcp.type):
            raise IpcpEnrollError(
                EIPCPTYPE,
                f"Types do not match: IPCP {ipcp.name} is of type {ipcp.type.type_name}, not {ipcp_type.type_name}.",
            )
        try:
            enrolled = irm.enroll_ipcp(ipcp, dst, layer=layer, retry=retry, require=required)
        except IpcpEnrollError as exc:
            raise IpcpEnrollError(
                exc.errno or EIPCP, f"Failed to enroll IPCP {ipcp.name} with {dst}: {exc}"
            ) from None
        if layer is not None and enrolled.layer != layer:
            raise IpcpEnrollError(
                EINVAL,
                f"Enrollment destination does not match requested layer: {dst} is in {enrolled.layer}, not in {layer}.",
            )
        if autobind:
            _bind_pid(ipcp.pid, (ipcp.name, enrolled.layer), undo)
        undo.pop_all()
    return enrolled


def _required(words: Iterable[str]) -> int:
    """Raises IpcpEnrollError."""
    if not words:
        return 0
    from .name_info import Requirement

    try:
        return Requirement.from_words(words)
    except ValueError as error:
        raise IpcpEnrollError(EINVAL, f"Wrong requirement: {error}.") from None


@checked
def connect_ipcp(
    name: str,
    dst: str,
    comp: str = "*",
    qos: QoSSpec | None = None,
    *,
    timeout: int | None = None,
    retry: int | None = None,
) -> None:
    """Connect the IPCP `name` with the member `dst`.

    `comp` is "dt", "mgmt", or "*": all components that an IPCP of that type has, management first. `qos` is for data
    transfer; None is raw, and management always is. `timeout` is the time without packets after which the neighbour is dead, in
    ms (0: never; None: that of `qos`); `retry` the number of further attempts, 0 for ever. Raises IpcpConnectError.
    """
    for ipcp in matching(irm.list_ipcps(), name, IpcpConnectError):
        with ExitStack() as undo:
            for component in _components(ipcp, comp):
                chosen = qos or QOS_RAW if component == irm.DT_COMP else QOS_RAW
                if timeout is not None:
                    chosen = chosen.replace(timeout=timeout)
                irm.connect_ipcp(ipcp, component, dst, chosen, retry=retry)
                undo.callback(_try, irm.disconnect_ipcp, ipcp, component, dst)
            undo.pop_all()


@checked
def disconnect_ipcp(name: str, dst: str, comp: str = "*") -> None:
    """Undo `connect_ipcp`, data transfer first. One that is not connected does not spare the other.

    Raises IpcpConnectError.
    """
    for ipcp in matching(irm.list_ipcps(), name, IpcpConnectError):
        failure: OuroborosError | None = None
        for component in reversed(_components(ipcp, comp)):
            try:
                irm.disconnect_ipcp(ipcp, component, dst)
            except IpcpConnectError as exc:
                failure = failure or exc
        if failure is not None:
            raise failure


@checked
def readout_ipcp(name: str, what: str) -> list[dict[str, Any]]:
    """The read-outs of the IPCPs of that name (see `irm.readout_ipcp`). Raises IrmError, also when there is none.

    Where several fit, each row begins with the name of its IPCP.
    """
    ipcps = matching(irm.list_ipcps(), name, IrmError)
    if len(ipcps) == 1:
        return irm.readout_ipcp(ipcps[0], what)
    return [{"ipcp": ipcp.name, **row} for ipcp in ipcps for row in irm.readout_ipcp(ipcp, what)]


# ---------------------------------------------------------------- bindings


@checked
def find_program(prog: str) -> str:
    """Real path of a program given as a path, or to be looked up in PATH.

    Raises BindError: `PROG does not exist.`, or that it cannot be executed.
    """
    candidates = [prog]
    if "/" not in prog:
        candidates += [os.path.join(folder or ".", prog) for folder in os.get_exec_path()]
    denied = False
    for candidate in candidates:
        try:
            path = os.path.realpath(candidate)
            if not os.path.isfile(path):
                continue
            if os.stat(path).st_mode & 0o111:
                return path
            denied = True
        except (OSError, ValueError):
            continue
    if denied:
        raise BindError(EACCES, f"Cannot execute {prog}, please check permissions.")
    raise BindError(ENOENT, f"{prog} does not exist.")


@checked
def bind_program(
    prog: str, name: str, opts: int = 0, argv: Sequence[str] | None = None, *, user: str = ""
) -> None:
    """Bind a program, by its path or as found in PATH, to a name (see `irm.bind_program`). Raises BindError."""
    irm.bind_program(find_program(prog), name, opts, argv, user=user)


@checked
def unbind_program(prog: str, name: str | None = None) -> list[str]:
    """Unbind a program from a name, or from all (None); returns those names. Raises BindError.

    The program need not exist any more if it is given by its path.
    """
    try:
        path = find_program(prog)
    except BindError:
        if "/" not in prog:
            raise
        path = os.path.realpath(prog)
    names = [name] if name else _bound(lambda info: any(bound.path == path for bound in info.programs))
    irm.unbind_program(path, name)
    return names


@checked
def bind_process(pid: int, name: str) -> None:
    """Bind a running process to a name. Raises BindError."""
    _check_process(pid)
    irm.bind_process(pid, name)


@checked
def unbind_process(pid: int, name: str | None = None) -> list[str]:
    """Unbind a process from a name, or from all (None); returns those names. Raises BindError."""
    _check_process(pid)
    return _unbind_pid(pid, name)


@checked
def bind_ipcp(ipcp: str, name: str) -> None:
    """Bind an IPCP, given by its own name, to a name. Raises BindError, also when there is no such IPCP."""
    with ExitStack() as undo:
        for info in matching(irm.list_ipcps(), ipcp, BindError):
            _bind_pid(info.pid, (name,), undo)
        undo.pop_all()


@checked
def unbind_ipcp(ipcp: str, name: str | None = None) -> list[str]:
    """Unbind an IPCP from a name, or from all (None); returns those names. Raises BindError."""
    found = [_unbind_pid(info.pid, name) for info in matching(irm.list_ipcps(), ipcp, BindError)]
    return list(dict.fromkeys(one for names in found for one in names))


# ---------------------------------------------------------------- names


@checked
def create_name(
    name: str,
    pol_lb: LoadBalancePolicy = LoadBalancePolicy.ROUND_ROBIN,
    srv_sec_paths: NameSecPaths | None = None,
    cli_sec_paths: NameSecPaths | None = None,
    *,
    info: NameInfo | None = None,
    require: Iterable[str] = (),
    given: Iterable[str] = (),
) -> None:
    """Create a name; one that exists stays as it is. Raises `irm.NameError`.

    info      policy, paths and requirements in one, in place of the other arguments
    require   "encryption", "authentication": flows to the name without it are refused, at this end. A name that exists and does
              not require it is an error.
    given     of "lb", "server", "client": a name that exists and differs in one of them is an error
    """
    from .name_info import NameInfo, NameSecPaths, Requirement

    if info is not None:
        from dataclasses import replace

        if info.name not in ("", name):
            wrong_value("info", f'a NameInfo for "{name}"', info)
        irm.create_name(replace(info, name=name), given=given)
        return
    server = srv_sec_paths or NameSecPaths()
    client = cli_sec_paths or NameSecPaths()
    irm.create_name(
        NameInfo(name, pol_lb, server, client, require=Requirement.from_words(require)), given=given
    )


@checked
def set_name(
    name: str,
    pol_lb: LoadBalancePolicy | None = None,
    srv_sec_paths: NameSecPaths | None = None,
    cli_sec_paths: NameSecPaths | None = None,
    *,
    require: Iterable[str] | None = None,
) -> None:
    """Change the policies of a name: those that are not None. Flows that exist keep what they have. Raises `irm.NameError`.

    srv_sec_paths, cli_sec_paths  paths of that side; those that are "" stay as they are, and "default" means the default place
    require                       all requirements from now on; none when it is empty
    """
    from .name_info import Requirement

    known = irm.show_name(name) if srv_sec_paths or cli_sec_paths else None
    irm.set_name(
        name,
        pol_lb=pol_lb,
        server_sec=_merged(srv_sec_paths, None if known is None else known.server_sec),
        client_sec=_merged(cli_sec_paths, None if known is None else known.client_sec),
        require=None if require is None else Requirement.from_words(require),
    )


def _merged(given: NameSecPaths | None, known: NameSecPaths | None) -> NameSecPaths | None:
    if given is None or known is None:
        return None
    from .name_info import NameSecPaths

    def path(given: str, known: str) -> str:
        return "" if given == "default" else given or known

    return NameSecPaths(path(given.enc, known.enc), path(given.key, known.key), path(given.crt, known.crt))


@checked
def destroy_name(name: str) -> None:
    """Forget a name. Raises `irm.NameError`, also when it does not exist."""
    irm.destroy_name(name)


@checked
def list_names(name: str | None = None) -> list[NameInfo]:
    """All names, or those that fit `name`. Raises IrmError."""
    return [info for info in irm.list_names() if name is None or matches(info.name, name)]


@checked
def show_name(name: str) -> NameInfo:
    """One name, with its bindings and registrations. Raises `irm.NameError` when it does not exist."""
    return irm.show_name(name)


@checked
def reg_name(
    name: str,
    ipcp: str | None = None,
    ipcps: Iterable[str] | None = None,
    layer: str | None = None,
    layers: Iterable[str] | None = None,
) -> list[IpcpInfo]:
    """Register a name with IPCPs, given by their names and by the names of their layers; returns those IPCPs.

    A name that does not exist is made, with spillover. Raises `irm.NameError`, also when a pattern fits no IPCP.
    """
    targets = registrars(
        irm.list_ipcps(), name, patterns(ipcp, ipcps, "IPCPs"), patterns(layer, layers, "layers")
    )
    with ExitStack() as undo:
        if not any(info.name == name for info in irm.list_names()):
            create_name(name, LoadBalancePolicy.SPILLOVER)
            undo.callback(_try, irm.destroy_name, name)
        for target in targets:
            try:
                irm.reg_name(name, target)
            except IrmNameError as exc:
                text = f"Failed to register {name} with {target.name}: {exc}"
                raise IrmNameError(exc.errno or EIPCP, text) from None
            undo.callback(_try, irm.unreg_name, name, target)
        undo.pop_all()
    return targets


@checked
def unreg_name(
    name: str,
    ipcp: str | None = None,
    ipcps: Iterable[str] | None = None,
    layer: str | None = None,
    layers: Iterable[str] | None = None,
) -> list[IpcpInfo]:
    """Undo `reg_name`; returns the IPCPs where it was registered. Raises `irm.NameError`, also when the name is not registered with any of these IPCPs."""
    targets = registrars(
        irm.list_ipcps(), name, patterns(ipcp, ipcps, "IPCPs"), patterns(layer, layers, "layers")
    )
    registered = {registration.pid for registration in irm.show_name(name).registrations}
    found = [target for target in targets if target.pid in registered]
    if not found:
        raise IrmNameError(
            f"Name {name} is not registered with {', '.join(target.name for target in targets)}."
        )
    for target in found:
        irm.unreg_name(name, target)
    return found


# ---------------------------------------------------------------- inside


def _create(name: str, ipcp_type: IpcpType, undo: ExitStack) -> IpcpInfo:
    ipcp = irm.new_ipcp(name, ipcp_type)
    undo.callback(_try, irm.destroy_ipcp, ipcp)
    return ipcp


def _bind_pid(pid: int, names: Iterable[str], undo: ExitStack) -> None:
    """Bind, and learn to undo that, without undoing a binding that was there before."""
    for name in dict.fromkeys(names):
        known = [info for info in irm.list_names() if info.name == name]
        if any(process.pid == pid for info in known for process in info.processes):
            continue
        irm.bind_process(pid, name)
        if not known:
            undo.callback(_try, irm.destroy_name, name)
        undo.callback(_try, irm.unbind_process, pid, name)


def _unbind_pid(pid: int, name: str | None) -> list[str]:
    names = [name] if name else _bound(lambda info: any(process.pid == pid for process in info.processes))
    irm.unbind_process(pid, name)
    return names


def _bound(is_bound: Callable[[NameInfo], bool]) -> list[str]:
    return [info.name for info in irm.list_names() if is_bound(info)]


def _try(action: Callable[..., object], *arguments: object) -> None:
    """Undo something: the error that made it necessary is the one to be raised."""
    try:
        action(*arguments)
    except OuroborosError:
        pass


def _components(ipcp: IpcpInfo, comp: str) -> tuple[str, ...]:
    available = ipcp.type.row.components
    if not available:
        raise IpcpConnectError(
            EIPCPTYPE,
            f"IPCP {ipcp.name} is of type {ipcp.type.type_name}; only {' and '.join(ENROLLING)} IPCPs connect.",
        )
    if comp == "*":
        return available
    component = _COMPONENTS.get(comp)
    if component is None:
        raise IpcpConnectError(EINVAL, f'Component "{comp}" is unknown; it must be dt or mgmt.')
    if component not in available:
        raise IpcpConnectError(
            EIPCPTYPE, f"IPCP {ipcp.name} is of type {ipcp.type.type_name}, which has no component {comp}."
        )
    return (component,)


def _check_process(pid: int) -> None:
    if pid <= 0 or not os.path.isdir(f"/proc/{pid}"):
        raise BindError(ESRCH, f'"{pid}" is not a valid process id.')
