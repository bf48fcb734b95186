"""The layers that may carry a flow, and the refusal when none does (paper 2.8, spec/rpc 4, RPC-17)."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Sequence

from ouroboros.errors import EIPCP, ENAME
from ouroboros.rpc.service import Refusal

from .allocation import Fail
from .records import Ipcp, Name, Process


def layers_for(ipcps: Iterable[Ipcp], process: Process, layer: str) -> list[Ipcp]:
    """The IPCPs to query, in order of preference; for an IPCP, none that may not carry its flows.

    `layer` is the name of the only layer to query, or of one IPCP of it: a system may have several members of a layer.
    """
    found = [
        ipcp
        for ipcp in ipcps
        if ipcp.operational
        and not ipcp.type.row.is_joined
        and (not layer or layer in (ipcp.layer, ipcp.name))
        and may_carry(ipcp, process)
    ]
    found.sort(key=lambda ipcp: (ipcp.type, ipcp.pid))
    return found


def may_carry(ipcp: Ipcp, process: Process) -> bool:
    """Whether a flow of `process` may go over `ipcp`.

    The order between IPCPs is strict (paper 2.8): an IPCP never uses its own layer, through whichever member, nor an
    IPCP that has a flow over it. The dependencies on other systems are not known here.
    """
    user = process.ipcp
    if user is None:
        return True
    if ipcp.type == user.type and ipcp.layer and ipcp.layer in (user.layer, user.enrolling_in):
        return False
    return not depends(ipcp, user)


def depends(ipcp: Ipcp, on: Ipcp) -> bool:
    """Whether `ipcp` is `on`, or has a flow over it, directly or through others."""
    seen: set[Ipcp] = set()
    todo = [ipcp]
    while todo:
        current = todo.pop()
        if current is on:
            return True
        if current in seen or current.process is None:
            continue
        seen.add(current)
        todo.extend(
            flow.ipcp
            for flow in current.process.flows.values()
            if flow.ipcp is not None and flow.ipcp is not current
        )
    return False


def broadcast(ipcps: Iterable[Ipcp], process: Process, layer: str) -> Ipcp:
    """The member of a broadcast layer on this system that `process` may join it by. Raises Refusal."""
    members = [ipcp for ipcp in ipcps if ipcp.operational and layer in (ipcp.layer, ipcp.name)]
    for ipcp in members:
        if ipcp.type.row.is_joined and may_carry(ipcp, process):
            return ipcp
    if members:
        raise Refusal(
            errno.ENOTSUP,
            f'layer "{layer}" is not a broadcast layer: flow_alloc to a name, not flow_join',
        )
    raise Refusal(EIPCP, f'no IPCP of this system is a member of a layer "{layer}"; see `irm ipcp list`')


def unreachable(
    dst: str,
    layer: str,
    entry: Name | None,
    layers: list[Ipcp],
    process: Process,
    *,
    near: Sequence[Process],
    starting: bool,
) -> Fail:
    """The refusal when no process, program or layer leads to the name: the text has a remedy.

    near      processes that are bound to it and might have had a flow without a layer; none has ever accepted
    starting  another one is bound to it that has not connected yet
    """
    if layer:
        if layers:
            return Fail(ENAME, f'layer "{layer}" does not know the name "{dst}"')
        return Fail(
            EIPCP, f'no IPCP of this system provides flows over a layer "{layer}"; see `irm ipcp list`'
        )
    if entry is not None and process.ipcp is not None and list(entry.processes) == [process]:
        return Fail(
            EIPCP,
            f'"{dst}" is IPCP "{process.ipcp.name}" itself, and no layer leads to another one of that name',
        )
    if entry is not None and process.ipcp is not None and (entry.processes or entry.startable() is not None):
        return Fail(
            EIPCP,
            f'"{dst}" is bound on this system, but no layer that IPCP "{process.ipcp.name}" may use leads there: '
            f"`irm name register {dst} layer LAYER`",
        )
    if near == [process] and not starting:
        return Fail(
            ENAME,
            f'only the process that asks is bound to "{dst}" on this system, and no layer knows the name: '
            "start its server",
        )
    if near or starting:
        return Fail(
            errno.ETIMEDOUT,
            f'a process is bound to "{dst}", but did not accept, as it has never done, and no layer knows the name: '
            "is its server running?",
        )
    if entry is not None and (entry.processes or entry.startable() is not None):
        return Fail(
            EIPCP,
            f'"{dst}" is bound by an IPCP or by another user, and no layer leads there; between users a layer '
            f"is needed: `irm name register {dst} layer LAYER`",
        )
    return Fail(ENAME, f'nothing is bound to "{dst}" on this system, and no layer knows the name')
