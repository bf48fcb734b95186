"""The IPCPs of this system: creation, requests to them, destruction (paper 5.2, spec/rpc 3, RPC-8).

Every operation looks up its IPCP, and its name, again after it has waited: the IPCP may have exited meanwhile, the name
may have been destroyed (spec/lessons 18).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import signal
import socket
from collections.abc import Awaitable, Callable

from ouroboros.errors import EAUTH, EIPCP, EIPCPSTATE, EIPCPTYPE
from ouroboros.identity import IdentityFile
from ouroboros.ipcp_types import IpcpType, type_name
from ouroboros.name_info import Requirement
from ouroboros.rpc.messages_pb2 import (
    Envelope,
    IpcpConnect,
    IpcpDisconnect,
    IpcpEnroll,
    Retry,
)
from ouroboros.rpc.messages_pb2 import Readout as ReadoutRequest
from ouroboros.rpc.service import Refusal
from ouroboros.statedir import default_statedir

from .allocation import ipcp_exited
from .ask import (
    BOOT_TIME,
    BOOTSTRAP_TIME,
    CONNECT_TIME,
    DISCONNECT_TIME,
    ENROLL_TIME,
    READOUT_TIME,
    REGISTER_TIME,
    UNREGISTER_TIME,
    ask,
)
from .ipcp_table import IpcpTable
from .oap.credentials import certificate_hint
from .records import Ipcp, Name
from .registry import Registry, check_name, check_new_name, name_hash
from .retry import Failure, retry_with_backoff
from .spawn import Spawner

log = logging.getLogger("irmd/ipcp")


class Ipcps:
    """The operations on the IPCPs of a table.

    `adopt(name, type, pid, pidfd, socket)` makes the record of a new IPCP and its connection; `exit_timeout` is
    the time that one may take to exit, in seconds; `security` is the directory of the credentials of this system.
    """

    def __init__(
        self,
        table: IpcpTable,
        registry: Registry,
        spawner: Spawner,
        *,
        adopt: Callable[[str, IpcpType, int, int, socket.socket], Ipcp],
        exit_timeout: float,
        security: str = "",
    ) -> None:
        self.table = table
        self._registry = registry
        self._spawner = spawner
        self._adopt = adopt
        self._exit_timeout = exit_timeout
        self._security = security
        self._creating: set[str] = set()

    # ------------------------------------------------------------ life

    async def create(self, name: str, kind: int) -> Ipcp:
        """Fork an IPCP and wait until it is in state boot. Raises Refusal, and leaves no process."""
        check_new_name(name)
        try:
            ipcp_type = IpcpType(kind)
        except ValueError:
            raise Refusal(EIPCPTYPE, f"IPCP type {kind} is unknown") from None
        if self.table.stopping:
            raise Refusal(errno.ESHUTDOWN, "the IRMd is stopping")
        if name in self._creating or any(ipcp.name == name for ipcp in self.table):
            raise Refusal(errno.EEXIST, f'there is an IPCP "{name}" already; `irm ipcp list` shows it')
        self._creating.add(name)
        try:
            ipcp = await self._fork(name, ipcp_type)
        finally:
            self._creating.discard(name)
        try:
            await asyncio.wait_for(asyncio.shield(ipcp.up), BOOT_TIME)
        except TimeoutError:
            await self._end(ipcp)
            raise Refusal(EIPCP, f'IPCP "{name}" did not come up within {BOOT_TIME:g} s') from None
        log.info("created IPCP %s (%s, pid %d)", name, ipcp_type.type_name, ipcp.pid)
        return ipcp

    async def _fork(self, name: str, kind: IpcpType) -> Ipcp:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                pid, pidfd = await self._spawner.fork(name, kind, theirs)
            except BaseException:
                ours.close()
                raise
        ipcp = self._adopt(name, kind, pid, pidfd, ours)
        self.table.add(ipcp)
        return ipcp

    async def destroy(self, pid: int, instance: int = 0) -> None:
        """End an IPCP: SIGTERM, and SIGKILL when it takes too long."""
        ipcp = self.table.find(pid, instance)
        await self._end(ipcp)
        IdentityFile(ipcp.name, default_statedir()).delete(ipcp.layer or "")
        log.info("destroyed IPCP %s", ipcp.name)

    async def _end(self, ipcp: Ipcp) -> None:
        ipcp.state = "shutdown"
        for number in (signal.SIGTERM, signal.SIGKILL):
            if ipcp.exited.done():
                return
            if number == signal.SIGKILL:
                log.error(
                    "IPCP %s (pid %d) still runs %g s after SIGTERM, killing it",
                    ipcp.name,
                    ipcp.pid,
                    self._exit_timeout,
                )
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(ipcp.pidfd, number)
            await asyncio.wait(
                [ipcp.exited], timeout=self._exit_timeout if number == signal.SIGTERM else None
            )

    async def stop(self) -> None:
        """End every IPCP."""
        self.table.stopping = True
        await asyncio.gather(*(self._end(ipcp) for ipcp in list(self.table)))

    # ------------------------------------------------------------ membership

    async def bootstrap(self, envelope: Envelope) -> Ipcp:
        """Make an IPCP the first member of a new layer."""
        body = envelope.ipcp_bootstrap
        ipcp = self.table.find(body.pid, body.instance)
        check_new_name(body.config.layer)
        if body.config.type != ipcp.type:
            raise Refusal(
                EIPCPTYPE,
                f'IPCP "{ipcp.name}" is of type {ipcp.type.type_name}, not {type_name(body.config.type)}',
            )
        reply = await ask(
            ipcp, Envelope(ipcp_bootstrap=body), f"bootstrap layer {body.config.layer}", BOOTSTRAP_TIME
        )
        self._joined(ipcp, reply)
        ipcp.options = dict(body.config.options)
        return ipcp

    async def enroll(self, body: IpcpEnroll) -> Ipcp:
        """Make an IPCP a member of the layer of `dst`; with `retry` in the request, try again after failures."""
        ipcp = self.table.find(body.pid, body.instance)
        check_name(body.dst)
        if body.layer:
            check_name(body.layer)
        if body.require & ~sum(Requirement):
            raise Refusal(errno.EINVAL, f"requirement {body.require:#x} is unknown")
        if ipcp.enrolling_in is not None:
            raise Refusal(EIPCPSTATE, f'IPCP "{ipcp.name}" is enrolling already; see `irm ipcp list`')
        request = IpcpEnroll(pid=body.pid, dst=body.dst, layer=body.layer, require=body.require)
        what = f"enroll with {body.dst}"
        ipcp.enrolling_in = body.layer
        try:
            reply = await self._retry(
                ipcp,
                what,
                lambda: self._ask(ipcp, Envelope(ipcp_enroll=request), what, ENROLL_TIME),
                body.retry if body.HasField("retry") else None,
            )
        finally:
            ipcp.enrolling_in = None
        self._joined(ipcp, reply)
        ipcp.enrolled = request
        return ipcp

    async def _retry(
        self, ipcp: Ipcp, what: str, operation: Callable[[], Awaitable[Envelope]], retry: Retry | None
    ) -> Envelope:
        """Try again by the rule of `retry`, while the IPCP runs, and show the progress in lists."""

        def failed(failure: Failure) -> None:
            ipcp.progress = (
                f"attempt {failure.attempt} to {what} failed, the next is in {failure.pause:.1f} s: "
                f"{failure.refused.text}"
            )
            log.warning("IPCP %s: %s", ipcp.name, ipcp.progress)

        async def sleep(seconds: float) -> None:
            await asyncio.wait([ipcp.exited], timeout=seconds)
            if ipcp.exited.done():
                fail = ipcp_exited(ipcp.name)
                raise Refusal(fail.errno, fail.text)

        try:
            return await retry_with_backoff(
                operation, None if retry is None else retry.times, sleep=sleep, failed=failed
            )
        finally:
            ipcp.progress = ""

    async def _ask(self, ipcp: Ipcp, envelope: Envelope, what: str, seconds: float) -> Envelope:
        """Request an operation that involves another member; the error of a failed authentication gets a remedy."""
        try:
            return await ask(ipcp, envelope, what, seconds)
        except Refusal as refused:
            if refused.errno != EAUTH:
                raise
            body = envelope.ipcp_enroll if envelope.HasField("ipcp_enroll") else envelope.ipcp_connect
            names = dict.fromkeys(name for name in (body.dst, ipcp.layer or ipcp.enrolling_in) if name)
            raise Refusal(EAUTH, f"{refused.text}. {certificate_hint(self._security, names)}") from None

    @staticmethod
    def _joined(ipcp: Ipcp, reply: Envelope) -> None:
        ipcp.layer = reply.ipcp_layer.layer
        ipcp.hash = reply.ipcp_layer.hash
        ipcp.access.CopyFrom(reply.ipcp_layer.access)
        ipcp.state = "operational"
        log.info("IPCP %s is a member of layer %s", ipcp.name, ipcp.layer)

    async def connect(self, body: IpcpConnect | IpcpDisconnect) -> None:
        """Connect or disconnect a component of an IPCP."""
        ipcp = self.table.find(body.pid, body.instance)
        check_name(body.dst)
        if not ipcp.type.enrols:
            raise Refusal(
                EIPCPTYPE, f'IPCP "{ipcp.name}" is of type {ipcp.type.type_name}, which has no connections'
            )
        if isinstance(body, IpcpConnect):
            request = IpcpConnect(pid=body.pid, dst=body.dst, component=body.component, qos=body.qos)
            what = f"connect {body.component} to {body.dst}"
            await self._retry(
                ipcp,
                what,
                lambda: self._ask(ipcp, Envelope(ipcp_connect=request), what, CONNECT_TIME),
                body.retry if body.HasField("retry") else None,
            )
            ipcp.connections[body.dst, body.component] = request.qos
        else:
            ipcp.connections.pop((body.dst, body.component), None)  # also if it has been lost meanwhile
            await ask(ipcp, Envelope(ipcp_disconnect=body), f"disconnect from {body.dst}", DISCONNECT_TIME)

    async def readout(self, body: ReadoutRequest) -> Envelope:
        """One page of a readout of an IPCP."""
        ipcp = self.table.find(body.pid, body.instance)
        reply = await ask(ipcp, Envelope(readout=body), f"show its {body.what}", READOUT_TIME)
        return Envelope(readout_table=reply.readout_table)

    # ------------------------------------------------------------ directory

    async def register(self, name: str, pid: int, instance: int = 0) -> None:
        """Make a name reachable over the layer of an IPCP."""
        entry = self._registry.name(name)
        ipcp = self.table.find(pid, instance)
        if ipcp in entry.registrations:
            raise Refusal(
                errno.EEXIST,
                f'"{name}" is registered with IPCP "{ipcp.name}" already; see `irm name show {name}`',
            )
        digest = name_hash(ipcp.hash, name)
        envelope = Envelope()
        envelope.ipcp_reg.hash = digest
        await ask(ipcp, envelope, f"register {name}", REGISTER_TIME)
        if not entry.alive:
            await self._unregister(ipcp, name, digest)
            raise Refusal(errno.ECANCELED, f'name "{name}" was destroyed while it was being registered')
        if ipcp in self.table:
            entry.registrations[ipcp] = digest
            log.info("registered %s with IPCP %s as %s", name, ipcp.name, digest.hex()[:8])

    async def unregister(self, name: str, pid: int, instance: int = 0) -> None:
        """Undo `register`."""
        entry = self._registry.name(name)
        ipcp = self.table.find(pid, instance)
        digest = entry.registrations.get(ipcp)
        if digest is None:
            raise Refusal(
                errno.ENOENT,
                f'"{name}" is not registered with IPCP "{ipcp.name}"; see `irm name show {name}`',
            )
        await self._unregister(ipcp, name, digest)
        entry.registrations.pop(ipcp, None)
        log.info("unregistered %s from IPCP %s", name, ipcp.name)

    async def _unregister(self, ipcp: Ipcp, name: str, digest: bytes) -> None:
        envelope = Envelope()
        envelope.ipcp_unreg.hash = digest
        await ask(ipcp, envelope, f"unregister {name}", UNREGISTER_TIME)

    async def withdraw(self, entry: Name) -> None:
        """Undo every registration of a destroyed name; a failure is logged."""
        for ipcp, digest in list(entry.registrations.items()):
            if ipcp not in self.table:
                continue
            try:
                await self._unregister(ipcp, entry.name, digest)
            except Refusal as refused:
                log.warning("%s stays registered with IPCP %s: %s", entry.name, ipcp.name, refused.text)
        entry.registrations.clear()
