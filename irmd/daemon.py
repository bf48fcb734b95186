"""One IRMd: its parts are made, started, run until a signal stops them, and closed again."""

from __future__ import annotations

import asyncio
import logging
import os
import pwd
import signal
from functools import partial
from typing import TYPE_CHECKING, Any

from ouroboros.dataplane._dataplane import lib
from ouroboros.facts import LATE, REFUSED
from ouroboros.log import LogLimiter
from ouroboros.rpc.service import Refusal
from ouroboros.rundir import security_directory

from .accepting import Accepting
from .allocation import Times
from .broker import Broker
from .config import Config, ConfigError, read
from .configure import Configurer
from .descriptors import Late
from .direct import DirectAllocation
from .endpoints import Endpoints, announce
from .facilities import Facilities
from .flow_table import FlowTable
from .incoming import IncomingAllocations
from .ipcp_table import IpcpTable
from .ipcps import Ipcps
from .manager import ManagementHandler, Manager
from .memory import Memory
from .notify import notify
from .oap.oap import Oap
from .outgoing import OutgoingAllocations
from .peer import managers_gid
from .pending_requests import PendingRequests
from .readout import Readout
from .registry import Registry
from .server import Server
from .spawn import Spawner
from .superserver import SuperServer
from .waiting import Waiting

if TYPE_CHECKING:
    from .background import Background
    from .rundir import RunDir

log = logging.getLogger("irmd")

SIGNALS = (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP)


class Irmd:
    """The daemon on one run directory. `stop` releases all its resources."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        rundir: RunDir,
        config: Config,
        *,
        stdout: bool,
        background: Background | None = None,
    ) -> None:
        self._loop = loop
        self._rundir = rundir
        self._config = config
        self._background = background
        self._reloading: asyncio.Task[None] | None = None
        settings = config.settings
        self._managers = managers_gid()
        lib.map_survive()
        self.memory = Memory(config.pool)
        self.registry = Registry()
        self.late = Late()
        table = IpcpTable(self.registry, self.late)
        self._spawner = Spawner(loop, stdout=stdout, on_failed=table.failed)
        security = settings.security or security_directory()
        self.oap = Oap(LogLimiter(logging.getLogger("irmd/oap"), loop.time), directory=security)
        waiting = Waiting(loop, self.registry, Times())
        self.superserver = SuperServer(
            loop,
            rundir=rundir.path,
            stdout=stdout,
            instances=settings.instances,
            on_failed=waiting.start_failed,
        )
        self.flows = FlowTable(settings.flows)
        endpoints = Endpoints(self.memory, self.flows, announce=partial(announce, self.registry.processes))
        self.facilities = use = Facilities(
            loop,
            self.registry,
            self.flows,
            endpoints,
            PendingRequests(endpoints, self.late),
            waiting,
            self.superserver,
            self.oap,
            self.late,
        )
        accepting = Accepting(use)
        direct = DirectAllocation(use, accepting)
        outgoing = OutgoingAllocations(use, ipcps=table, direct=direct, trusts=self._trusts)
        self.broker = Broker(use, accepting, outgoing, IncomingAllocations(use, accepting))
        management: dict[str, ManagementHandler] = {}
        self.server = Server(
            loop,
            settings,
            self.memory,
            use,
            self.broker,
            table,
            management,
            managers=self._managers,
            layout_version=layout_version(),
        )
        self.ipcps = Ipcps(
            table,
            self.registry,
            self._spawner,
            adopt=self.server.adopt,
            exit_timeout=settings.grace,
            security=security,
        )
        counters = ((LATE, self.late), (REFUSED, self.server.refused))
        readout = Readout(self.registry, table, self.flows, self.memory, counters)
        self.manager = Manager(loop, self.registry, self.ipcps, waiting, accepting, self.oap, readout)
        self.configurer = Configurer(config, self.registry, self.ipcps, self.manager)
        management.update(self.manager.handlers | self.configurer.handlers)

    async def run(self) -> int:
        """Start, configure, serve until a signal arrives, stop. Returns the exit code."""
        stop: asyncio.Future[int] = self._loop.create_future()
        for number in SIGNALS:
            self._loop.add_signal_handler(number, self._signalled, stop, number)
        if self._config.path is not None:
            self._loop.add_signal_handler(signal.SIGHUP, self._reload)
        self.oap.trust.check()
        self._spawner.start()
        self.server.listen(self._rundir.listen())
        log.info("Ouroboros IPC Resource Manager daemon started...")
        self.oap.prepare()  # after the spawner has been forked: a process that forks has one thread
        status = 0
        configuring = self._loop.create_task(self._configure())
        waiting: list[asyncio.Future[Any]] = [configuring, stop]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if not configuring.done():
            configuring.cancel()
            await asyncio.wait([configuring])
        elif configuring.result():
            notify("READY=1")
            if self._background is not None:
                self._background.ready()
            await stop
        else:
            status = 1
        await self.stop()
        return status

    async def _configure(self) -> bool:
        try:
            await self.configurer.apply(self._config)
        except Refusal as refused:
            log.error("configuration: %s", refused.text)
            if self._background is not None:
                self._background.failed(f"irmd: configuration: {refused.text}")
            return False
        return True

    def _reload(self) -> None:
        """SIGHUP: apply the file again, as it is now. A mistake in it changes nothing."""
        assert self._config.path is not None
        log.info("reading %s again", self._config.path)
        try:
            config = read(self._config.path)
        except ConfigError as error:
            log.error("configuration: %s", error)
            return
        if self._reloading is not None:
            self._reloading.cancel()
        notify("RELOADING=1")
        self._reloading = self._loop.create_task(self._apply_again(config))

    async def _apply_again(self, config: Config) -> None:
        try:
            for change in await self.configurer.apply(config):
                log.info("configuration: %s", change)
        except Refusal as refused:
            log.error("configuration: %s", refused.text)
        notify("READY=1")

    def _signalled(self, stop: asyncio.Future[int], number: int) -> None:
        log.info("IRMd shutting down...")
        if not stop.done():
            stop.set_result(number)

    async def stop(self) -> None:
        """Stop the processes that the IRMd started, take every flow down, remove all files.

        Only programs and IPCPs that the IRMd started are ended. The prototype sends SIGTERM to every process
        that it knows; processes of this IRMd notice its exit from their connection, and may outlive it.
        """
        notify("STOPPING=1")
        if self._reloading is not None:
            self._reloading.cancel()
        await self.configurer.stop()
        self.facilities.requests.stopping = True
        self.ipcps.table.stopping = True
        self.server.stop_listening()
        timeout = self._config.settings.grace
        await self.superserver.stop(timeout)
        await self.ipcps.stop()
        await self._spawner.stop()
        self.server.close()
        self.manager.close()
        self.memory.close()
        self._rundir.close()

    def _trusts(self, uid: int) -> bool:
        """Whether a program that runs as `uid` shares the system pool."""
        if uid in (0, os.geteuid()):
            return True
        if self._managers is None:
            return False
        try:
            entry = pwd.getpwuid(uid)
        except KeyError:
            return False
        return self._managers in os.getgrouplist(entry.pw_name, entry.pw_gid)


def layout_version() -> int:
    """Version of the layout of shared memory of this IRMd."""
    from ouroboros.dataplane._dataplane import lib

    return int(lib.LAYOUT_VERSION)
