"""Carries out the configuration file, in its order (spec/rpc 6).

For an IPCP: create; bootstrap or enrol; bind; register; connect. The first failure ends the configuration, unless the IPCP
has `retry`: then it is created in its turn, and its other steps go on in the background.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Coroutine
from typing import Any

from ouroboros.ipcp_types import DT_COMP
from ouroboros.name_info import Requirement
from ouroboros.qos import QOS_RAW, cube
from ouroboros.rpc.messages_pb2 import (
    SPILLOVER,
    Envelope,
    IpcpConfig,
    IpcpConnect,
    IpcpEnroll,
    NameInfo,
    NameSecPaths,
    Retry,
)

from .config import Config, IpcpEntry, NameEntry
from .ipcps import Ipcps
from .manager import Manager, user_ids
from .oap.credentials import SecurityPaths
from .records import Ipcp
from .refused import Refused

log = logging.getLogger("irmd")

Later = Callable[[Coroutine[Any, Any, None]], None]
"""Runs a coroutine in the background."""


async def apply(config: Config, manager: Manager, ipcps: Ipcps, later: Later) -> None:
    """Make all names and IPCPs of the file. Raises Refused."""
    for entry in config.entries:
        if isinstance(entry, NameEntry):
            _name(entry, manager)
        else:
            await _ipcp(entry, manager, ipcps, later)


def _name(entry: NameEntry, manager: Manager) -> None:
    manager.create_name(
        NameInfo(
            name=entry.name,
            lb=entry.lb,  # type: ignore[arg-type]
            server=_paths(entry.policy.server),
            client=_paths(entry.policy.client),
            require=entry.policy.require,
        )
    )
    uid, gid = os.geteuid(), os.getegid()
    if entry.user:
        uid, gid = user_ids(entry.user, uid, auto=any(args is not None for _, args in entry.programs))
    for path, args in entry.programs:
        manager.bind_program(entry.name, path, auto=args is not None, args=args or (), uid=uid, gid=gid)


def _paths(paths: SecurityPaths) -> NameSecPaths:
    return NameSecPaths(enc=paths.enc, crt=paths.crt, key=paths.key)


async def _ipcp(entry: IpcpEntry, manager: Manager, ipcps: Ipcps, later: Later) -> None:
    ipcp = await ipcps.create(entry.name, entry.type)
    work = _join(entry, ipcp, manager, ipcps)
    if entry.retry is None:
        await work
    else:
        later(_finish_in_background(work, ipcp, ipcps))


async def _finish_in_background(work: Coroutine[Any, Any, None], ipcp: Ipcp, ipcps: Ipcps) -> None:
    """Carry out steps that may take long beside the rest of the file; when they finally fail, destroy the IPCP."""
    try:
        await work
    except Refused as refused:
        log.error("configuration: IPCP %s: %s", ipcp.name, refused.text)
        with contextlib.suppress(Refused):
            await ipcps.destroy(ipcp.pid, ipcp.instance)


async def _join(entry: IpcpEntry, ipcp: Ipcp, manager: Manager, ipcps: Ipcps) -> None:
    retry = None if entry.retry is None else Retry(times=entry.retry)
    if entry.enroll:
        words = entry.options.get("require")
        require = Requirement.from_words(words.split(",")) if words else 0
        await ipcps.enroll(
            IpcpEnroll(
                pid=ipcp.pid,
                instance=ipcp.instance,
                dst=entry.enroll,
                layer=entry.layer,
                retry=retry,
                require=require,
            )
        )
    elif entry.bootstrap:
        envelope = Envelope()
        envelope.ipcp_bootstrap.pid = ipcp.pid
        envelope.ipcp_bootstrap.instance = ipcp.instance
        envelope.ipcp_bootstrap.config.CopyFrom(
            IpcpConfig(layer=entry.bootstrap, type=ipcp.type, options=entry.options)  # type: ignore[arg-type]
        )
        await ipcps.bootstrap(envelope)
    if entry.autobind:
        for name in dict.fromkeys((entry.name, ipcp.layer)):
            if name:
                manager.bind_process(ipcp.pid, name)
    for name in entry.register:
        manager.create_name(NameInfo(name=name, lb=SPILLOVER))
        await ipcps.register(name, ipcp.pid, ipcp.instance)
    for connection in entry.connect:
        for component in connection.components:
            # Routing needs no QoS: management flows are raw (docs/reference/irm.md).
            qos = cube(connection.qos) if component == DT_COMP else QOS_RAW
            if connection.timeout_ms is not None:
                qos = qos.replace(timeout=connection.timeout_ms)
            await ipcps.connect(
                IpcpConnect(
                    pid=ipcp.pid,
                    instance=ipcp.instance,
                    dst=connection.dst,
                    component=component,
                    qos=qos.to_proto(),
                    retry=retry,
                )
            )
