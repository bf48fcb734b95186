"""Names, and the programs and processes bound to them (paper 2.9 and 5.2, spec/rpc 2).

Pure state: no I/O, no clock. Names are bound to programs and to processes and registered with IPCPs, in any
order; a binding to an unknown name makes the name. Each name keeps the accepts that wait for a flow to it in
the order in which its load-balancing policy serves them.
"""

from __future__ import annotations

import errno
import hashlib
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from ouroboros.errors import ENAME
from ouroboros.ipcp_options import is_pattern
from ouroboros.ipcp_types import LoadBalancePolicy
from ouroboros.rpc.messages_pb2 import (
    CRC32,
    MD5,
    ROUND_ROBIN,
    SHA3_224,
    SHA3_256,
    SHA3_384,
    SHA3_512,
    SPILLOVER,
)
from ouroboros.rpc.service import Refusal

from .oap.credentials import Policy
from .records import Name, PendingAccept, Process, ProgramBinding

NAME_MAX = 255
"""Longest name, in octets."""

_HASHES: dict[int, Callable[[bytes], bytes]] = {
    SHA3_224: lambda data: hashlib.sha3_224(data).digest(),
    SHA3_256: lambda data: hashlib.sha3_256(data).digest(),
    SHA3_384: lambda data: hashlib.sha3_384(data).digest(),
    SHA3_512: lambda data: hashlib.sha3_512(data).digest(),
    CRC32: lambda data: zlib.crc32(data).to_bytes(4, "big"),
    MD5: lambda data: hashlib.md5(data, usedforsecurity=False).digest(),
}


def name_hash(algorithm: int, name: str) -> bytes:
    """The hash of a name as layers know it; its length is that of the layer's algorithm (spec/lessons 19)."""
    return _HASHES[algorithm](name.encode())


def _exists(name: str, how: str, cure: str) -> Refusal:
    return Refusal(errno.EEXIST, f'name "{name}" exists and {how}; `irm name set {name} {cure}` changes it')


def check_name(name: str) -> None:
    """Raise Refusal(EINVAL) when `name` cannot be a name."""
    if not name:
        raise Refusal(errno.EINVAL, "a name must not be empty")
    if len(name.encode(errors="replace")) > NAME_MAX:
        raise Refusal(errno.ENAMETOOLONG, f"the name is longer than {NAME_MAX} octets")
    if not name.isprintable():
        raise Refusal(errno.EINVAL, f"the name {name!r} has characters that cannot be printed")


def check_new_name(name: str) -> None:
    """Raise Refusal(EINVAL) when `name` cannot be created here. Another system may have created a name that looks like a pattern."""
    check_name(name)
    if is_pattern(name):
        raise Refusal(
            errno.EINVAL, f'the name "{name}" is not usable: * ? and [ are for patterns that select names'
        )


@dataclass(slots=True)
class _Expected:
    """Names that a running process will be bound to once it connects to the IRMd."""

    started: int
    names: dict[str, None] = field(default_factory=dict)


class Registry:
    """The tables of names and processes and the bindings between them."""

    def __init__(self) -> None:
        self.names: dict[str, Name] = {}
        self.processes: dict[int, Process] = {}
        """Processes by token."""
        self._by_pid: dict[int, dict[Process, None]] = {}
        self._by_path: dict[str, dict[Name, None]] = {}
        self._by_hash: dict[int, dict[bytes, Name]] = {}
        self._expected: dict[int, _Expected] = {}

    # ------------------------------------------------------------ names

    def create_name(
        self,
        name: str,
        *,
        lb: int = SPILLOVER,
        policy: Policy = Policy(),  # noqa: B008  # immutable
        given: Iterable[str] = (),
    ) -> tuple[Name, bool]:
        """The name, and whether it is new; an existing one is not changed, and refused when it lacks a requirement of `policy`, or differs
        in a field that is `given`: "lb", "server", "client", "require"."""
        found = self.names.get(name)
        if found is not None:
            if policy.require & ~found.policy.require:
                missing = " and ".join(policy.require.words)
                raise _exists(
                    name, f"does not require {missing}", f"require {' require '.join(policy.require.words)}"
                )
            if "lb" in given and lb != found.lb:
                has, wanted = (LoadBalancePolicy(each).policy_name for each in (found.lb, lb))
                raise _exists(name, f"has the policy {has}", f"lb {wanted}")
            if any(
                side in given and getattr(policy, side) != getattr(found.policy, side)
                for side in ("server", "client")
            ):
                raise _exists(name, "has other security files", "...")
            return found, False
        check_new_name(name)
        if lb not in (ROUND_ROBIN, SPILLOVER):
            raise Refusal(errno.EINVAL, f"load-balance policy {lb} is unknown: round-robin or spillover")
        entry = Name(name, lb, policy)
        self.names[name] = entry
        for algorithm, table in self._by_hash.items():
            table[name_hash(algorithm, name)] = entry
        return entry, True

    def name(self, name: str) -> Name:
        """The name; Refusal(ENAME) when it is unknown."""
        entry = self.names.get(name)
        if entry is None:
            raise Refusal(
                ENAME, f'name "{name}" is unknown on this system; `irm name list` shows those that are'
            )
        return entry

    def destroy_name(self, name: str) -> Name:
        """Remove a name and its bindings. Registrations stay in the returned record for the caller to undo."""
        entry = self.name(name)
        for path in list(entry.programs):
            self._unbind_program(entry, path)
        for process in list(entry.processes):
            self._unbind_process(entry, process)
        for pid, expected in list(self._expected.items()):
            expected.names.pop(name, None)
            if not expected.names:
                del self._expected[pid]
        del self.names[name]
        for algorithm, table in self._by_hash.items():
            table.pop(name_hash(algorithm, name), None)
        entry.alive = False
        return entry

    def by_hash(self, algorithm: int, digest: bytes) -> Name | None:
        """The name that a layer knows by this hash."""
        table = self._by_hash.get(algorithm)
        if table is None:
            table = {name_hash(algorithm, name): entry for name, entry in self.names.items()}
            self._by_hash[algorithm] = table
        return table.get(digest)

    # ------------------------------------------------------------ programs

    def bind_program(self, name: str, binding: ProgramBinding) -> Name:
        """Bind a program: processes that announce it from now on are bound to the name."""
        entry, _ = self.create_name(name)
        if binding.path in entry.programs:
            raise Refusal(
                errno.EEXIST,
                f'program {binding.path} is bound to "{name}" already; to change how, first '
                f"`irm unbind program {binding.path} name {name}`",
            )
        entry.programs[binding.path] = binding
        self._by_path.setdefault(binding.path, {})[entry] = None
        return entry

    def unbind_program(self, path: str, name: str = "") -> None:
        """Undo a binding, or all of that program when no name is given."""
        if name:
            entry = self.name(name)
            if path not in entry.programs:
                raise Refusal(errno.ENOENT, f'program {path} is not bound to "{name}"')
            self._unbind_program(entry, path)
            return
        entries = self._by_path.get(path)
        if not entries:
            raise Refusal(errno.ENOENT, f"program {path} is not bound to any name")
        for entry in list(entries):
            self._unbind_program(entry, path)

    def _unbind_program(self, entry: Name, path: str) -> None:
        del entry.programs[path]
        entries = self._by_path[path]
        del entries[entry]
        if not entries:
            del self._by_path[path]

    # ------------------------------------------------------------ processes

    def announce(self, process: Process, *, manages: bool) -> list[Name]:
        """Add a process after its Hello: bind it to the names of its program, and to those that its pid was bound to before.
        Returns names of its program that it is not bound to, because they are another user's."""
        self.processes[process.token] = process
        self._by_pid.setdefault(process.peer.pid, {})[process] = None
        others: list[Name] = []
        for entry in self._by_path.get(process.program, ()):
            if manages or entry.programs[process.program].uid == process.peer.uid:
                self._add_process(entry, process)
            else:
                others.append(entry)
        expected = self._expected.get(process.peer.pid)
        if expected is not None and expected.started == process.peer.started:
            for name in expected.names:
                self._add_process(self.create_name(name)[0], process)
        return [entry for entry in others if process not in entry.processes]

    def remove_process(self, process: Process) -> None:
        """Remove a process from every table: its session is over."""
        for entry in list(process.names):
            self._unbind_process(entry, process)
        del self.processes[process.token]
        same = self._by_pid[process.peer.pid]
        del same[process]
        if not same:
            del self._by_pid[process.peer.pid]

    def of_pid(self, pid: int) -> list[Process]:
        """The records of process `pid`: one for each of its connections."""
        return list(self._by_pid.get(pid, ()))

    def bind_process(self, pid: int, name: str, *, started: int) -> Name:
        """Bind a running process with the start time `started`. A process that has not connected to the IRMd yet is bound when it
        connects."""
        entry, _ = self.create_name(name)
        processes = self.of_pid(pid)
        expected = self._expected.get(pid)
        if expected is None or expected.started != started:
            expected = _Expected(started)
        if name in expected.names or any(process in entry.processes for process in processes):
            raise Refusal(errno.EEXIST, f'process {pid} is bound to "{name}" already')
        expected.names[name] = None
        self._expected[pid] = expected
        for process in processes:
            self._add_process(entry, process)
        return entry

    def bind_record(self, process: Process, name: str) -> None:
        """Bind a process that is known to a name; no error when it is bound already."""
        self._add_process(self.create_name(name)[0], process)

    def unbind_process(self, pid: int, name: str = "") -> None:
        """Undo a binding, or all of that process when no name is given."""
        processes = self.of_pid(pid)
        expected = self._expected.get(pid)
        entries = [self.name(name)] if name else list(self.names.values())
        found = False
        for entry in entries:
            if expected is not None and expected.names.pop(entry.name, 0) is None:
                found = True
            for process in processes:
                if process in entry.processes:
                    self._unbind_process(entry, process)
                    found = True
        if expected is not None and not expected.names:
            del self._expected[pid]
        if not found:
            raise Refusal(
                errno.ENOENT,
                f"process {pid} is not bound to {f'{chr(34)}{name}{chr(34)}' if name else 'any name'}",
            )

    def pid_exited(self, pid: int) -> None:
        """Process `pid` has exited: its bindings must not pass to the next process with that pid."""
        self._expected.pop(pid, None)

    def expects(self, entry: Name) -> bool:
        """Whether a running process is bound to the name that has not connected to the IRMd yet, and may be about to."""
        return any(
            entry.name in expected.names and pid not in self._by_pid
            for pid, expected in self._expected.items()
        )

    @property
    def expected(self) -> frozenset[int]:
        """Pids with bindings of their own."""
        return frozenset(self._expected)

    def _add_process(self, entry: Name, process: Process) -> None:
        if process in entry.processes:
            return
        entry.processes[process] = None
        process.names[entry] = None
        if process.pace.accepts:
            entry.servers[process] = None
        for accept in process.accepts:
            entry.enter(accept)

    def _unbind_process(self, entry: Name, process: Process) -> None:
        del entry.processes[process]
        del process.names[entry]
        entry.servers.pop(process, None)
        for accept in process.accepts:
            entry.accepting.pop(accept, None)

    # ------------------------------------------------------------ accepts

    def begin_accept(self, accept: PendingAccept) -> None:
        """A process waits in accept: it may be chosen for every name it is bound to."""
        process = accept.process
        process.accepts[accept] = None
        for entry in process.names:
            entry.servers[process] = None
            entry.enter(accept)

    def end_accept(self, accept: PendingAccept) -> None:
        """An accept was served, has timed out or was cancelled."""
        process = accept.process
        del process.accepts[accept]
        for entry in process.names:
            del entry.accepting[accept]

    def __iter__(self) -> Iterator[Name]:
        return iter(self.names.values())
