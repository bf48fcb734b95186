"""Management requests to the IRMd: IPCPs, names, bindings, lists (spec/rpc 3).

One method for each request. The configuration file uses the same methods.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import pwd
import stat
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import replace
from typing import Any

from ouroboros.name_info import Requirement
from ouroboros.rpc.messages_pb2 import Envelope, NameInfo, NameSecPaths
from ouroboros.rpc.service import Refusal

from .accepting import Accepting
from .ipcps import Ipcps
from .oap.credentials import Policy, SecurityPaths
from .oap.oap import Oap
from .peer import Peer, start_time
from .readout import Readout
from .records import Ipcp, ProgramBinding
from .registry import Registry, check_new_name
from .waiting import Waiting

log = logging.getLogger("irmd/manage")

ARGS_MAX = 16 * 1024
"""Octets of arguments of a bound program."""

_ALL_REQUIREMENTS = sum(Requirement)
CANCELLABLE = frozenset({"ipcp_enroll", "ipcp_connect", "readout"})
"""Requests that are cancelled when their requester cancels or disconnects; others are carried out to their end."""

Answer = Envelope | Coroutine[Any, Any, Envelope]
ManagementHandler = Callable[[Envelope, Peer], Answer]


class Manager:
    """Carries out management requests; each raises Refusal."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        registry: Registry,
        ipcps: Ipcps,
        waiting: Waiting,
        accepting: Accepting,
        oap: Oap,
        readout: Readout,
    ) -> None:
        self._loop = loop
        self._registry = registry
        self._ipcps = ipcps
        self._waiting = waiting
        self._accepting = accepting
        self._oap = oap
        self._show = readout
        self._watched: dict[int, int] = {}  # pidfd by pid of processes that were bound by pid
        self.handlers: dict[str, ManagementHandler] = {
            "ipcp_create": lambda envelope, peer: self._ipcp_create(envelope),
            "ipcp_destroy": lambda envelope, peer: self._ipcp_destroy(envelope),
            "ipcp_bootstrap": lambda envelope, peer: self._ipcp_bootstrap(envelope),
            "ipcp_enroll": lambda envelope, peer: self._ipcp_enroll(envelope),
            "ipcp_connect": lambda envelope, peer: self._ipcp_connect(envelope),
            "ipcp_disconnect": lambda envelope, peer: self._ipcp_connect(envelope),
            "ipcp_list": lambda envelope, peer: readout.ipcps(envelope),
            "bind_program": self._bind_program,
            "unbind_program": lambda envelope, peer: self._unbind_program(envelope),
            "bind_process": lambda envelope, peer: self._bind_process(envelope),
            "unbind_process": lambda envelope, peer: self._unbind_process(envelope),
            "name_create": lambda envelope, peer: self._name_create(envelope),
            "name_set": lambda envelope, peer: self._name_set(envelope),
            "name_destroy": lambda envelope, peer: self._name_destroy(envelope),
            "name_register": lambda envelope, peer: self._name_register(envelope),
            "name_unregister": lambda envelope, peer: self._name_unregister(envelope),
            "name_list": lambda envelope, peer: readout.names(envelope),
            "flow_list": lambda envelope, peer: readout.flows(envelope),
            "pool_list": lambda envelope, peer: readout.pools(envelope),
            "readout": self._readout,
        }

    # ------------------------------------------------------------ IPCPs

    async def _ipcp_create(self, envelope: Envelope) -> Envelope:
        body = envelope.ipcp_create
        return _info(await self._ipcps.create(body.name, body.type))

    async def _ipcp_destroy(self, envelope: Envelope) -> Envelope:
        body = envelope.ipcp_destroy
        await self._ipcps.destroy(body.pid, body.instance)
        return Envelope()

    async def _ipcp_bootstrap(self, envelope: Envelope) -> Envelope:
        return _info(await self._ipcps.bootstrap(envelope))

    async def _ipcp_enroll(self, envelope: Envelope) -> Envelope:
        return _info(await self._ipcps.enroll(envelope.ipcp_enroll))

    async def _ipcp_connect(self, envelope: Envelope) -> Envelope:
        if envelope.WhichOneof("body") == "ipcp_connect":
            await self._ipcps.connect(envelope.ipcp_connect)
        else:
            await self._ipcps.connect(envelope.ipcp_disconnect)
        return Envelope()

    def _readout(self, envelope: Envelope, _peer: Peer) -> Answer:
        body = envelope.readout
        return self._ipcps.readout(body) if body.pid else self._show.own(body)

    # ------------------------------------------------------------ bindings

    def _bind_program(self, envelope: Envelope, peer: Peer) -> Envelope:
        body = envelope.bind_program
        uid, gid = (peer.uid, peer.gid) if not body.user else user_ids(body.user, peer.uid, auto=body.auto)
        self.bind_program(body.name, body.path, auto=body.auto, args=tuple(body.args), uid=uid, gid=gid)
        return Envelope()

    def bind_program(
        self, name: str, path: str, *, auto: bool, args: tuple[str, ...], uid: int, gid: int
    ) -> None:
        """Bind a program to a name; it is started with `uid` and `gid`."""
        check_new_name(name)
        real = check_program(path, auto=auto)
        if sum(len(arg.encode()) + 1 for arg in args) > ARGS_MAX:
            raise Refusal(errno.E2BIG, f"the arguments of {path} are longer than {ARGS_MAX} octets")
        if any("\0" in arg for arg in args):
            raise Refusal(errno.EINVAL, f"an argument of {path} has a NUL character")
        self._registry.bind_program(name, ProgramBinding(real, auto, args, uid, gid))
        log.info("bound program %s to %s%s", real, name, " (started on demand)" if auto else "")

    def _unbind_program(self, envelope: Envelope) -> Envelope:
        body = envelope.unbind_program
        # The program may have been removed from the disk since: then take the path as given.
        path = os.path.realpath(body.path) if os.path.isabs(body.path) else body.path
        self.unbind_program(path, body.name)
        return Envelope()

    def unbind_program(self, path: str, name: str) -> None:
        """Unbind a program, by its real path, from a name, or (empty) from all."""
        self._registry.unbind_program(path, name)
        log.info("unbound program %s from %s", path, name or "all names")

    def _bind_process(self, envelope: Envelope) -> Envelope:
        body = envelope.bind_process
        self.bind_process(body.pid, body.name)
        return Envelope()

    def bind_process(self, pid: int, name: str) -> None:
        """Bind a running process to a name, whether it uses Ouroboros yet or not."""
        check_new_name(name)
        self._watch(pid)  # first: the start time read afterwards is that of the watched process
        started = start_time(pid)
        try:
            if not started:
                raise Refusal(errno.ESRCH, f"there is no process {pid}")
            self._registry.bind_process(pid, name, started=started)
        finally:
            self._unwatch()
        for process in self._registry.of_pid(pid):
            self._accepting.binding_added(process)
        log.info("bound process %d to %s", pid, name)

    def _unbind_process(self, envelope: Envelope) -> Envelope:
        body = envelope.unbind_process
        self.unbind_process(body.pid, body.name)
        return Envelope()

    def unbind_process(self, pid: int, name: str) -> None:
        """Unbind a process from a name, or (empty) from all."""
        names = [entry for process in self._registry.of_pid(pid) for entry in process.names]
        self._registry.unbind_process(pid, name)
        self._unwatch()
        for entry in names:
            self._waiting.recheck(entry)
        log.info("unbound process %d from %s", pid, name or "all names")

    def _watch(self, pid: int) -> None:
        """Watch for the exit of a process that was bound by its pid, before the pid is used again."""
        if pid in self._watched:
            return
        try:
            pidfd = os.pidfd_open(pid)
        except (OSError, OverflowError):
            raise Refusal(errno.ESRCH, f"there is no process {pid}") from None
        self._watched[pid] = pidfd
        self._loop.add_reader(pidfd, self._exited, pid)

    def _exited(self, pid: int) -> None:
        self._registry.pid_exited(pid)
        self._unwatch()

    def _unwatch(self) -> None:
        """Close the pidfds of processes without a binding of their own."""
        for pid in self._watched.keys() - self._registry.expected:
            pidfd = self._watched.pop(pid)
            self._loop.remove_reader(pidfd)
            os.close(pidfd)

    # ------------------------------------------------------------ names

    def _name_create(self, envelope: Envelope) -> Envelope:
        body = envelope.name_create
        self.create_name(body.info, given=body.given)
        return Envelope()

    def create_name(self, info: NameInfo, *, given: Iterable[str] = ()) -> None:
        """Create a name; one that exists stays as it is, and is refused if it differs in a field that is `given`."""
        policy = Policy(_paths(info.server), _paths(info.client), _requirement(info.require))
        _, made = self._registry.create_name(info.name, lb=info.lb, policy=policy, given=given)
        if made:
            log.info("created name %s", info.name)
            self._prepare(policy)

    def _name_set(self, envelope: Envelope) -> Envelope:
        body = envelope.name_set
        entry = self._registry.name(body.name)
        policy = entry.policy
        if body.HasField("require"):
            policy = replace(policy, require=_requirement(body.require))
        if body.HasField("server"):
            policy = replace(policy, server=_paths(body.server))
        if body.HasField("client"):
            policy = replace(policy, client=_paths(body.client))
        self.set_name(body.name, lb=body.lb if body.HasField("lb") else entry.lb, policy=policy)
        return Envelope()

    def set_name(self, name: str, *, lb: int, policy: Policy) -> None:
        """Change the policies of a name. Flows that exist keep what they have."""
        entry = self._registry.name(name)
        if (lb, policy) == (entry.lb, entry.policy):
            return
        entry.lb, entry.policy = lb, policy
        self._prepare(policy)
        log.info("changed the policies of name %s", name)

    def _prepare(self, policy: Policy) -> None:
        if (policy.server, policy.client) != (SecurityPaths(), SecurityPaths()):
            self._oap.prepare(needed=True)

    async def _name_destroy(self, envelope: Envelope) -> Envelope:
        await self.destroy_name(envelope.name_destroy.name)
        return Envelope()

    async def destroy_name(self, name: str) -> None:
        """Destroy a name, with its bindings and registrations."""
        entry = self._registry.destroy_name(name)
        self._unwatch()
        self._waiting.recheck(entry)
        await self._ipcps.withdraw(entry)
        log.info("destroyed name %s", entry.name)

    async def _name_register(self, envelope: Envelope) -> Envelope:
        body = envelope.name_register
        await self._ipcps.register(body.name, body.pid, body.instance)
        return Envelope()

    async def _name_unregister(self, envelope: Envelope) -> Envelope:
        body = envelope.name_unregister
        await self._ipcps.unregister(body.name, body.pid, body.instance)
        return Envelope()

    def close(self) -> None:
        """Close the pidfds."""
        for pid in list(self._watched):
            self._exited(pid)


def _info(ipcp: Ipcp) -> Envelope:
    return Envelope(ipcp_info=ipcp.info())


def _requirement(number: int) -> Requirement:
    if number & ~_ALL_REQUIREMENTS:
        raise Refusal(errno.EINVAL, f"requirement {number:#x} of a name is unknown")
    return Requirement(number)


def _paths(paths: NameSecPaths) -> SecurityPaths:
    for path in (paths.enc, paths.crt, paths.key):
        if path and not os.path.isfile(path):
            raise Refusal(errno.ENOENT, f"{path} does not exist or is not a file")
    return SecurityPaths(paths.enc, paths.crt, paths.key)


def check_program(path: str, *, auto: bool) -> str:
    """The real path of a program that can be bound. Raises Refusal(ENOENT, EACCES, EINVAL)."""
    if not os.path.isabs(path) or "\0" in path:
        raise Refusal(errno.EINVAL, f'"{path}" is not an absolute path of a program')
    real = os.path.realpath(path)
    try:
        mode = os.stat(real).st_mode
    except OSError:
        raise Refusal(errno.ENOENT, f"{path} does not exist.") from None
    if not stat.S_ISREG(mode) or (auto and not mode & 0o111):
        raise Refusal(errno.EACCES, f"Cannot execute {path}, please check permissions.")
    return real


def user_ids(user: str, requester: int, *, auto: bool) -> tuple[int, int]:
    """The uid and gid of `user`, for which the user with the uid `requester` binds a program. Raises Refusal."""
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        raise Refusal(errno.ENOENT, f'there is no user "{user}"') from None
    if requester not in (0, entry.pw_uid):
        raise Refusal(errno.EPERM, f'only root binds programs for user "{user}"')
    if auto and os.geteuid() not in (0, entry.pw_uid):
        raise Refusal(errno.EPERM, f'an IRMd of uid {os.geteuid()} cannot start programs as "{user}"')
    return entry.pw_uid, entry.pw_gid
