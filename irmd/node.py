"""A node: the IPCPs, names and bindings that a file describes or that a system has, and the steps from one to the other (docs/reference/config.md).

Pure: no I/O, no clock. `plan(current, desired)` is empty when nothing is to be done, and a plan that was carried out in part leaves a node from which a
new plan arrives: every step is complete in itself.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from ouroboros import ipcp_options as options
from ouroboros.ipcp_types import COMPONENT_WORDS, IpcpType
from ouroboros.rpc.messages_pb2 import SPILLOVER

from .oap.credentials import Policy

SHORT_NAMES = {component: text for text, component in COMPONENT_WORDS.items()}
"""The short name of each component, as the command line and a file have it."""

Item = TypeVar("Item", bound=Hashable)


@dataclass(slots=True, frozen=True)
class Program:
    """A program bound to a name, for `user` (empty: the IRMd's); args None: not started on demand."""

    path: str
    args: tuple[str, ...] | None = None
    user: str = ""


@dataclass(slots=True, frozen=True)
class NameEntry:
    """A `[name.N]` table."""

    name: str
    lb: int = SPILLOVER
    policy: Policy = Policy()
    programs: tuple[Program, ...] = ()


@dataclass(slots=True, frozen=True)
class Adjacency:
    """A connection of one component to a neighbour. `timeout_ms`: when a silent neighbour counts as disconnected; None: the default."""

    dst: str
    component: str
    qos: str = "raw"
    timeout_ms: int | None = None


@dataclass(slots=True, frozen=True)
class IpcpEntry:
    """A `[TYPE.I]` table.

    layer    with `enroll`: the layer, or empty for any
    options  of `bootstrap`, or (`require`) of `enroll`, as they are sent
    retry    how many times a failed enrolment or connection is tried again; 0: without limit, None: not at all
    """

    name: str
    type: IpcpType
    bootstrap: str = ""
    enroll: str = ""
    layer: str = ""
    options: dict[str, str] = field(default_factory=dict)
    autobind: bool = False
    bind: tuple[str, ...] = ()
    register: tuple[str, ...] = ()
    connect: tuple[Adjacency, ...] = ()
    retry: int | None = None

    @property
    def joins(self) -> bool:
        """Whether it is to be a member of a layer."""
        return bool(self.bootstrap or self.enroll)

    def is_same_member(self, desired: IpcpEntry) -> bool:
        """Whether an IPCP of this entry need not be made anew for `desired`: it is a member in the same way, or not yet."""
        if self.type != desired.type:
            return False
        if not self.joins:
            return True
        if self.enroll or desired.enroll:
            same_layer = not desired.layer or self.layer == desired.layer
            same_rule = self.options.get("require") == desired.options.get("require")
            return self.enroll == desired.enroll and same_layer and same_rule
        return self.bootstrap == desired.bootstrap and self.significant_options == desired.significant_options

    @property
    def significant_options(self) -> dict[str, str]:
        """The options that have another value than their default."""
        return {key: value for key, value in self.options.items() if value != options.OPTIONS[key].default}


@dataclass(slots=True)
class Node:
    """Names and IPCPs in their order.

    bound  of a running system: by name, the IPCPs that are bound to it; "" stands for any other process
    """

    names: dict[str, NameEntry] = field(default_factory=dict)
    ipcps: dict[str, IpcpEntry] = field(default_factory=dict)
    bound: dict[str, set[str]] = field(default_factory=dict)


# ---------------------------------------------------------------- steps


@dataclass(slots=True, frozen=True)
class Step:
    """One change. `text` is a line for people."""

    @property
    def text(self) -> str:
        raise NotImplementedError


@dataclass(slots=True, frozen=True)
class DestroyIpcp(Step):
    ipcp: str

    @property
    def text(self) -> str:
        return f"destroy IPCP {self.ipcp}"


@dataclass(slots=True, frozen=True)
class CreateIpcp(Step):
    ipcp: str
    type: IpcpType

    @property
    def text(self) -> str:
        return f"create IPCP {self.ipcp} ({self.type.type_name})"


@dataclass(slots=True, frozen=True)
class Join(Step):
    """Bootstrap it, or enrol it."""

    entry: IpcpEntry

    @property
    def ipcp(self) -> str:
        return self.entry.name

    @property
    def text(self) -> str:
        if self.entry.enroll:
            return f"enroll IPCP {self.ipcp} with {self.entry.enroll}"
        return f"bootstrap IPCP {self.ipcp} in layer {self.entry.bootstrap}"


@dataclass(slots=True, frozen=True)
class BindIpcp(Step):
    """`name` None: to its own name and that of its layer."""

    ipcp: str
    name: str | None
    bound: bool = True

    @property
    def text(self) -> str:
        what = "its own name and that of its layer" if self.name is None else self.name
        return f"bind IPCP {self.ipcp} to {what}" if self.bound else f"unbind IPCP {self.ipcp} from {what}"


@dataclass(slots=True, frozen=True)
class Register(Step):
    ipcp: str
    name: str
    registered: bool = True

    @property
    def text(self) -> str:
        return (
            f"register {self.name} with IPCP {self.ipcp}"
            if self.registered
            else f"unregister {self.name} from IPCP {self.ipcp}"
        )


@dataclass(slots=True, frozen=True)
class Connect(Step):
    ipcp: str
    to: Adjacency
    retry: int | None = None
    connected: bool = True

    @property
    def text(self) -> str:
        verb = f"connect IPCP {self.ipcp} to" if self.connected else f"disconnect IPCP {self.ipcp} from"
        return f"{verb} {self.to.dst} ({SHORT_NAMES[self.to.component]})"


@dataclass(slots=True, frozen=True)
class DestroyName(Step):
    name: str

    @property
    def text(self) -> str:
        return f"destroy name {self.name}"


@dataclass(slots=True, frozen=True)
class SetName(Step):
    """Create it, or change its policies."""

    entry: NameEntry
    new: bool

    @property
    def text(self) -> str:
        return f"{'create' if self.new else 'change the policies of'} name {self.entry.name}"


@dataclass(slots=True, frozen=True)
class BindProgram(Step):
    name: str
    program: Program
    bound: bool = True

    @property
    def text(self) -> str:
        return (
            f"bind program {self.program.path} to {self.name}"
            if self.bound
            else f"unbind program {self.program.path} from {self.name}"
        )


# ---------------------------------------------------------------- the plan


def plan(current: Node, desired: Node) -> list[Step]:
    """The steps from a running node to the desired one. Names that only running processes are bound to stay."""
    removed = [
        name
        for name, entry in current.ipcps.items()
        if name not in desired.ipcps or not entry.is_same_member(desired.ipcps[name])
    ]
    staying = {name: entry for name, entry in current.ipcps.items() if name not in removed}
    steps: list[Step] = [DestroyIpcp(name) for name in reversed(removed)]
    for name, entry in staying.items():
        steps += _undo(entry, desired.ipcps[name])
    steps += _names(current, desired, set(removed))
    for name, ipcp in desired.ipcps.items():
        steps += _ipcp(staying.get(name), ipcp)
    return steps


def _implied(desired: Node) -> Iterator[str]:
    """Names that exist because an IPCP registers them or is bound to them."""
    for entry in desired.ipcps.values():
        yield from entry.register
        yield from entry.bind
        if entry.autobind:
            yield entry.name
            yield entry.bootstrap or entry.layer


def _names(current: Node, desired: Node, removed: set[str]) -> Iterator[Step]:
    names = dict(desired.names)
    for name in _implied(desired):
        if name and name not in names and name in current.names:
            names[name] = NameEntry(name)
    for name, entry in current.names.items():
        if name in names:
            continue
        bound = current.bound.get(name, set())
        if "" in bound and not entry.programs:
            names[name] = entry
        elif any(_is_own(name, current.ipcps[ipcp], desired.ipcps[ipcp]) for ipcp in bound - removed - {""}):
            names[name] = NameEntry(name)
        else:
            yield DestroyName(name)
    for name, entry in names.items():
        old = current.names.get(name)
        if old is None or (old.lb, old.policy) != (entry.lb, entry.policy):
            yield SetName(entry, new=old is None)
        programs = () if old is None else old.programs
        yield from (BindProgram(name, one, bound=False) for one in _without(programs, entry.programs))
        yield from (BindProgram(name, one) for one in _without(entry.programs, programs))


def _without(items: Sequence[Item], others: Iterable[Item]) -> list[Item]:
    """The items that are not among the others, in their order."""
    excluded = set(others)
    return [one for one in items if one not in excluded]


def _is_own(name: str, current: IpcpEntry, desired: IpcpEntry) -> bool:
    """Whether an IPCP that stays is bound to the name because it is its own, or that of the layer, which it has learned."""
    return desired.autobind and name in (current.name, current.layer)


def _undo(current: IpcpEntry, desired: IpcpEntry) -> Iterator[Step]:
    """The steps that remove connections, registrations and bindings of an IPCP that stays."""
    name = current.name
    for adjacency in reversed(_without(current.connect, desired.connect)):
        yield Connect(name, adjacency, connected=False)
    yield from (Register(name, one, registered=False) for one in _without(current.register, desired.register))
    yield from (BindIpcp(name, one, bound=False) for one in _without(current.bind, desired.bind))
    if current.autobind and not desired.autobind:
        yield BindIpcp(name, None, bound=False)


def _ipcp(current: IpcpEntry | None, desired: IpcpEntry) -> Iterator[Step]:
    if current is None:
        yield CreateIpcp(desired.name, desired.type)
        current = IpcpEntry(desired.name, desired.type)
    if desired.joins and not current.joins:
        yield Join(desired)
    if desired.autobind and not current.autobind:
        yield BindIpcp(desired.name, None)
    own = (current.name, current.layer) if current.autobind and desired.autobind else ()
    yield from (BindIpcp(desired.name, one) for one in _without(desired.bind, (*current.bind, *own)))
    yield from (Register(desired.name, one) for one in _without(desired.register, current.register))
    yield from (
        Connect(desired.name, one, desired.retry) for one in _without(desired.connect, current.connect)
    )


def grouped(adjacencies: Iterable[Adjacency]) -> Iterator[tuple[Adjacency, list[str]]]:
    """Adjacencies that differ in their component only, with their components, as a file writes them."""
    groups: dict[tuple[str, str, int | None], list[str]] = {}
    for one in adjacencies:
        groups.setdefault((one.dst, one.qos, one.timeout_ms), []).append(one.component)
    for (dst, qos, timeout), components in groups.items():
        yield Adjacency(dst, components[0], qos, timeout), components
