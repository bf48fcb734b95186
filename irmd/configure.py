"""Carries out what the configuration file says, in its order (spec/irm-rpc.md 8).

For an IPCP: create; bootstrap or enroll; bind; register; connect. The first failure ends it all.
"""

from __future__ import annotations

import os

from ouroboros.rpc.messages_pb2 import (
    BROADCAST,
    SPILLOVER,
    Envelope,
    IpcpConfig,
    IpcpConnect,
    NameInfo,
    NameSecPaths,
)

from .config import Config, IpcpEntry, NameEntry
from .ipcps import Ipcps
from .manager import Manager
from .registry import SecurityPaths

COMPONENTS = ("Management", "Data Transfer")


async def apply(config: Config, manager: Manager, ipcps: Ipcps) -> None:
    """Make everything that the file asks for. Raises Refused."""
    for entry in config.entries:
        if isinstance(entry, NameEntry):
            _name(entry, manager)
        else:
            await _ipcp(entry, manager, ipcps)


def _name(entry: NameEntry, manager: Manager) -> None:
    manager.create_name(
        NameInfo(
            name=entry.name,
            lb=entry.lb,  # type: ignore[arg-type]
            server=_paths(entry.server),
            client=_paths(entry.client),
        )
    )
    for path, args in entry.programs:
        manager.bind_program(
            entry.name, path, auto=args is not None, args=args or (), uid=os.geteuid(), gid=os.getegid()
        )


def _paths(paths: SecurityPaths) -> NameSecPaths:
    return NameSecPaths(enc=paths.enc, crt=paths.crt, key=paths.key)


async def _ipcp(entry: IpcpEntry, manager: Manager, ipcps: Ipcps) -> None:
    ipcp = await ipcps.create(entry.name, entry.type)
    if entry.enroll:
        await ipcps.enroll(ipcp.pid, entry.enroll)
    elif entry.bootstrap:
        envelope = Envelope()
        envelope.ipcp_bootstrap.pid = ipcp.pid
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
        await ipcps.register(name, ipcp.pid)
    for dst in entry.connect:
        # A broadcast IPCP has no management component.
        for component in COMPONENTS[1:] if ipcp.type == BROADCAST else COMPONENTS:
            await ipcps.connect(IpcpConnect(pid=ipcp.pid, dst=dst, component=component))
