"""Brings a running system to the state of a configuration file, and writes its state as one (docs/reference/config.md; spec/rpc 6).

At the start, at SIGHUP and by `irm apply` the steps of `node.plan` are carried out, in their order; the first failure ends them. A step that may have
to wait for another system, an enrolment or a connection with `retry`, goes on in the background, with the later steps of its IPCP.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import pwd
import zlib
from collections.abc import Mapping
from dataclasses import fields
from errno import EINVAL, ENOENT
from functools import partial
from typing import Any

import tomli_w

from ouroboros.cubes import PRESETS
from ouroboros.ipcp_types import DT_COMP, LoadBalancePolicy
from ouroboros.name_info import Requirement
from ouroboros.qos import DEFAULT_PEER_TIMEOUT, QoSSpec, cube
from ouroboros.rpc.limits import CONFIG_FILE
from ouroboros.rpc.messages_pb2 import (
    SPILLOVER,
    Envelope,
    IpcpBootstrap,
    IpcpConfig,
    IpcpConnect,
    IpcpDisconnect,
    IpcpEnroll,
    NameInfo,
    NameSecPaths,
    Retry,
)
from ouroboros.rpc.service import Refusal

from .config import Config, ConfigError, loads
from .ipcps import Ipcps
from .manager import ManagementHandler, Manager, user_ids
from .memory import PoolConfig
from .node import (
    SHORT_NAMES,
    Adjacency,
    BindIpcp,
    BindProgram,
    Connect,
    CreateIpcp,
    DestroyIpcp,
    DestroyName,
    IpcpEntry,
    Join,
    NameEntry,
    Node,
    Program,
    Register,
    SetName,
    Step,
    grouped,
    plan,
)
from .oap.credentials import SecurityPaths
from .records import Ipcp, Name, ProgramBinding
from .registry import Registry
from .settings import Applications, Settings

log = logging.getLogger("irmd")


class Configurer:
    """The state of the system as a file has it. `config` is that of the start: the settings that a running system keeps."""

    def __init__(self, config: Config, registry: Registry, ipcps: Ipcps, manager: Manager) -> None:
        self._config = config
        self._registry = registry
        self._ipcps = ipcps
        self._manager = manager
        self._waiting: dict[str, tuple[IpcpEntry, asyncio.Task[None]]] = {}
        """IPCPs whose steps go on in the background: their entries, which they do not have yet."""
        self._busy = asyncio.Lock()
        self.handlers: dict[str, ManagementHandler] = {
            "node_save": lambda envelope, peer: self._save(),
            "node_apply": lambda envelope, peer: self._apply(envelope),
        }

    # ------------------------------------------------------------ requests

    def _save(self) -> Envelope:
        answer = Envelope()
        answer.node_report.file = zlib.compress(self.save().encode())
        return answer

    async def _apply(self, envelope: Envelope) -> Envelope:
        body = envelope.node_apply
        inflate = zlib.decompressobj()
        try:
            text = inflate.decompress(body.file, CONFIG_FILE + 1)
        except zlib.error as error:
            raise Refusal(EINVAL, f"{body.path} has arrived damaged: {error}") from None
        if len(text) <= CONFIG_FILE and not inflate.eof:
            # Without its end it may lack tables, and apply would destroy what they describe.
            raise Refusal(EINVAL, f"{body.path} has arrived damaged: its end is missing")
        try:
            config = loads(text, body.path)
        except ConfigError as error:
            raise Refusal(EINVAL, str(error)) from None
        answer = Envelope()
        changes = self.changes(config) if body.dry_run else await self.apply(config)
        answer.node_report.changes.extend(changes)
        return answer

    # ------------------------------------------------------------ the running system

    def node(self) -> Node:
        """The running system."""
        node = Node()
        ipcps = {ipcp.name: ipcp for ipcp in self._ipcps.table if ipcp.state != "shutdown"}
        for name in self._registry:
            node.names[name.name] = _name_entry(name)
            node.bound[name.name] = {
                process.ipcp.name if process.ipcp is not None else "" for process in name.processes
            }
            if self._registry.expects(name):
                node.bound[name.name].add("")
        for ipcp in ipcps.values():
            entry, task = self._waiting.get(ipcp.name, (None, None))
            node.ipcps[ipcp.name] = entry if entry and task and not task.done() else self._ipcp_entry(ipcp)
        return node

    def _ipcp_entry(self, ipcp: Ipcp) -> IpcpEntry:
        if not ipcp.layer:
            return IpcpEntry(ipcp.name, ipcp.type)
        bound = [] if ipcp.process is None else [name.name for name in ipcp.process.names]
        autobind = ipcp.name in bound and ipcp.layer in bound
        options = dict(ipcp.options)
        enrolled = ipcp.enrolled
        if enrolled is not None:
            options = {"require": ",".join(Requirement(enrolled.require).words)} if enrolled.require else {}
        return IpcpEntry(
            ipcp.name,
            ipcp.type,
            bootstrap="" if enrolled is not None else ipcp.layer,
            enroll=enrolled.dst if enrolled is not None else "",
            layer=ipcp.layer if enrolled is not None else "",
            options=options,
            autobind=autobind,
            bind=tuple(name for name in bound if not autobind or name not in (ipcp.name, ipcp.layer)),
            register=tuple(name.name for name in self._registry if ipcp in name.registrations),
            connect=tuple(
                _adjacency(dst, component, qos) for (dst, component), qos in ipcp.connections.items()
            ),
        )

    def save(self) -> str:
        """The running system as the text of a file. Bindings by pid, which end with a process, are not in it."""
        node = self.node()
        tables: dict[str, Any] = {}
        for word, values in (("irmd", self._config.settings), ("pool", self._config.pool)):
            if changed := _changed(values):
                tables[word] = changed
        registered = {name for entry in node.ipcps.values() for name in entry.register}
        names = {
            name: table
            for name, entry in node.names.items()
            if (table := _name_table(entry)) or not (node.bound[name] or name in registered)
        }
        if names:
            tables["name"] = names
        for entry in node.ipcps.values():
            tables.setdefault(entry.type.type_name, {})[entry.name] = _ipcp_table(entry)
        return tomli_w.dumps(tables)

    # ------------------------------------------------------------ changes

    def changes(self, desired: Config) -> list[str]:
        """The steps that `apply` would take, a line for each."""
        return [*self._notes(desired), *(step.text for step in plan(self.node(), desired.node))]

    def _notes(self, desired: Config) -> list[str]:
        """The changes that only a new start of the IRMd brings about."""
        return [
            f"[{table}] has changed: it takes effect when the IRMd is started again"
            for table, new, old in (
                ("irmd", desired.settings, self._config.settings),
                ("pool", desired.pool, self._config.pool),
            )
            if new != old
        ]

    async def apply(self, desired: Config) -> list[str]:
        """Carry out what is missing, and undo what is too much; returns the steps. Raises Refusal with the step that failed.

        One at a time. It may be repeated, also after a failure: it then does what is left.
        """
        async with self._busy:
            node = desired.node
            entries = node.ipcps
            await self._stop_waiting(entries)
            done = self._notes(desired)
            later: dict[str, list[Step]] = {}
            for step in plan(self.node(), node):
                entry = entries.get(getattr(step, "ipcp", ""))
                if entry is not None and (entry.name in later or _may_wait(step, entry)):
                    later.setdefault(entry.name, []).append(step)
                    done.append(f"{step.text} (in the background)")
                    continue
                try:
                    await self._carry_out(step)
                except Refusal as refused:
                    what = step.text.partition(" ")[0]
                    text = f"cannot {step.text}: {refused.text}" if what not in refused.text else refused.text
                    raise Refusal(refused.errno, text) from None
                done.append(step.text)
            for name, steps in later.items():
                task = asyncio.get_running_loop().create_task(self._in_background(name, steps))
                # By a callback: a task that is cancelled before its first step runs no `finally`.
                task.add_done_callback(partial(self._no_longer_waits, name))
                self._waiting[name] = entries[name], task
            return done

    def _no_longer_waits(self, name: str, task: asyncio.Task[None]) -> None:
        if (
            self._waiting.get(name, (None, None))[1] is task
        ):  # else another one has taken its place since it ended
            del self._waiting[name]

    async def _stop_waiting(self, entries: Mapping[str, IpcpEntry]) -> None:
        """End the work on IPCPs that the file now has otherwise."""
        await _end([task for name, (entry, task) in self._waiting.items() if entries.get(name) != entry])

    async def stop(self) -> None:
        """End all work in the background."""
        await _end([task for _, task in self._waiting.values()])

    async def _in_background(self, name: str, steps: list[Step]) -> None:
        """Steps of one IPCP that may take long; when they finally fail, it is destroyed, and the reason logged."""
        try:
            for step in steps:
                await self._carry_out(step)
        except Refusal as refused:
            log.error("configuration: IPCP %s: %s", name, refused.text)
            with contextlib.suppress(Refusal):
                ipcp = self._find(name)
                await self._ipcps.destroy(ipcp.pid, ipcp.instance)

    # ------------------------------------------------------------ steps

    def _find(self, name: str) -> Ipcp:
        for ipcp in self._ipcps.table:
            if ipcp.name == name and ipcp.state != "shutdown":
                return ipcp
        raise Refusal(ENOENT, f'there is no IPCP "{name}" any more; `irm ipcp list` shows those that run')

    async def _carry_out(self, step: Step) -> None:
        """Raises Refusal."""
        manager, ipcps = self._manager, self._ipcps
        match step:
            case CreateIpcp(name, kind):
                await ipcps.create(name, kind)
            case DestroyIpcp(name):
                ipcp = self._find(name)
                await ipcps.destroy(ipcp.pid, ipcp.instance)
            case Join(entry):
                await self._join(entry)
            case BindIpcp(name, bound_name, bound):
                ipcp = self._find(name)
                known = {one.name for process in self._registry.of_pid(ipcp.pid) for one in process.names}
                for one in (ipcp.name, ipcp.layer) if bound_name is None else (bound_name,):
                    if bound and one not in known:
                        manager.bind_process(ipcp.pid, one)
                    elif not bound and one in known:
                        manager.unbind_process(ipcp.pid, one)
            case Register(name, registered_name, registered):
                ipcp = self._find(name)
                if registered:
                    manager.create_name(NameInfo(name=registered_name, lb=SPILLOVER))
                    await ipcps.register(registered_name, ipcp.pid, ipcp.instance)
                else:
                    await ipcps.unregister(registered_name, ipcp.pid, ipcp.instance)
            case Connect():
                await self._connect(step)
            case DestroyName(name):
                await manager.destroy_name(name)
            case SetName(entry, new):
                self._set_name(entry, new=new)
            case BindProgram(name, program, bound):
                if bound:
                    self._bind_program(name, program)
                else:
                    manager.unbind_program(program.path, name)

    async def _join(self, entry: IpcpEntry) -> None:
        ipcp = self._find(entry.name)
        if entry.enroll:
            words = entry.options.get("require")
            await self._ipcps.enroll(
                IpcpEnroll(
                    pid=ipcp.pid,
                    instance=ipcp.instance,
                    dst=entry.enroll,
                    layer=entry.layer,
                    retry=_retry(entry.retry),
                    require=Requirement.from_words(words.split(",")) if words else 0,
                )
            )
            return
        config = IpcpConfig(layer=entry.bootstrap, type=ipcp.type, options=entry.options)
        request = IpcpBootstrap(pid=ipcp.pid, instance=ipcp.instance, config=config)
        await self._ipcps.bootstrap(Envelope(ipcp_bootstrap=request))

    async def _connect(self, step: Connect) -> None:
        ipcp, to = self._find(step.ipcp), step.to
        if not step.connected:
            await self._ipcps.connect(
                IpcpDisconnect(pid=ipcp.pid, instance=ipcp.instance, dst=to.dst, component=to.component)
            )
            return
        qos = cube(to.qos)
        if to.timeout_ms is not None:
            qos = qos.replace(timeout=to.timeout_ms)
        await self._ipcps.connect(
            IpcpConnect(
                pid=ipcp.pid,
                instance=ipcp.instance,
                dst=to.dst,
                component=to.component,
                qos=qos.to_proto(),
                retry=_retry(step.retry),
            )
        )

    def _set_name(self, entry: NameEntry, *, new: bool) -> None:
        if not new:
            self._manager.set_name(entry.name, lb=entry.lb, policy=entry.policy)
            return
        self._manager.create_name(
            NameInfo(
                name=entry.name,
                lb=entry.lb,  # type: ignore[arg-type]
                server=_paths(entry.policy.server),
                client=_paths(entry.policy.client),
                require=entry.policy.require,
            )
        )

    def _bind_program(self, name: str, program: Program) -> None:
        uid, gid = os.geteuid(), os.getegid()
        auto = program.args is not None
        if program.user:
            uid, gid = user_ids(program.user, uid, auto=auto)
        self._manager.bind_program(name, program.path, auto=auto, args=program.args or (), uid=uid, gid=gid)


def _may_wait(step: Step, entry: IpcpEntry) -> bool:
    """Whether a step needs another system, which may not be there yet."""
    if entry.retry is None:
        return False
    return (isinstance(step, Join) and bool(entry.enroll)) or (isinstance(step, Connect) and step.connected)


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)


def _retry(times: int | None) -> Retry | None:
    return None if times is None else Retry(times=times)


def _paths(paths: SecurityPaths) -> NameSecPaths:
    return NameSecPaths(enc=paths.enc, crt=paths.crt, key=paths.key)


# ------------------------------------------------------------ from records


def _name_entry(name: Name) -> NameEntry:
    return NameEntry(name.name, name.lb, name.policy, tuple(_program(one) for one in name.programs.values()))


def _program(binding: ProgramBinding) -> Program:
    user = ""
    if binding.uid != os.geteuid():
        try:
            user = pwd.getpwuid(binding.uid).pw_name
        except KeyError:
            user = str(
                binding.uid
            )  # the user has been removed: reading the file fails, and the error names the uid
    return Program(binding.path, binding.args if binding.auto else None, user)


def _adjacency(dst: str, component: str, requested: Any) -> Adjacency:
    qos = QoSSpec.from_proto(requested)
    timeout = None if qos.timeout == DEFAULT_PEER_TIMEOUT else qos.timeout
    if component == DT_COMP:
        plain = qos.replace(timeout=DEFAULT_PEER_TIMEOUT)
        for word in PRESETS:
            if cube(word) == plain:
                return Adjacency(dst, component, word, timeout)
    return Adjacency(dst, component, "raw" if qos.in_order == 0 else "best", timeout)


# ------------------------------------------------------------ as tables of TOML


def _changed(values: Settings | PoolConfig) -> dict[str, Any]:
    """The values that differ from their defaults, by key."""
    default = type(values)()
    table: dict[str, Any] = {}
    for one in fields(values):
        value = getattr(values, one.name)
        if value != getattr(default, one.name):
            table[one.name] = value.value if isinstance(value, Applications) else value
    return table


def _name_table(entry: NameEntry) -> dict[str, Any]:
    table: dict[str, Any] = {}
    if entry.lb != SPILLOVER:
        table["lb"] = LoadBalancePolicy(entry.lb).policy_name
    policy = entry.policy
    for side, paths in (("server", policy.server), ("client", policy.client)):
        table |= {
            f"{side}_{what}_file": path for what in ("enc", "crt", "key") if (path := getattr(paths, what))
        }
    if policy.require:
        table["require"] = policy.require.words
    if entry.programs:
        table["prog"] = [_program_value(program) for program in entry.programs]
    return table


def _program_value(program: Program) -> str | dict[str, Any]:
    if program.args is None and not program.user:
        return program.path
    value: dict[str, Any] = {"path": program.path}
    if program.args is not None:
        value["args"] = list(program.args)
    if program.user:
        value["user"] = program.user
    return value


def _ipcp_table(entry: IpcpEntry) -> dict[str, Any]:
    table: dict[str, Any] = {}
    if entry.bootstrap:
        table["bootstrap"] = entry.bootstrap
    if entry.enroll:
        table["enrol"] = entry.enroll
    if entry.layer:
        table["layer"] = entry.layer
    table |= entry.significant_options
    if entry.autobind:
        table["autobind"] = True
    for key, names in (("bind", entry.bind), ("reg", entry.register)):
        if names:
            table[key] = list(names)
    if entry.connect:
        table["conn"] = [
            _connection_value(entry, one, components) for one, components in grouped(entry.connect)
        ]
    return table


def _connection_value(entry: IpcpEntry, one: Adjacency, components: list[str]) -> str | dict[str, Any]:
    value: dict[str, Any] = {"dst": one.dst}
    if len(components) < len(entry.type.row.components):
        value["component"] = SHORT_NAMES[components[0]]
    if one.qos != "raw":
        value["qos"] = one.qos
    if one.timeout_ms is not None:
        value["timeout"] = one.timeout_ms
    return one.dst if len(value) == 1 else value
