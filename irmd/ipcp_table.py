"""The table of the IPCPs of this system (paper 5.2)."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Iterator

from ouroboros.errors import EIPCP
from ouroboros.rpc.service import Refusal

from .descriptors import Late
from .records import Ipcp
from .registry import Registry

log = logging.getLogger("irmd/ipcp")


MAX_ENDED = 32
"""IPCPs that failed and are kept for the lists; a new one replaces the oldest."""


class IpcpTable:
    """The IPCPs by pid."""

    def __init__(self, registry: Registry, late: Late) -> None:
        self._registry = registry
        self._late = late
        self._by_pid: dict[int, Ipcp] = {}
        self.ended: OrderedDict[str, tuple[int, str]] = OrderedDict()
        """Pid of each IPCP that failed, and how it ended, by name, until an IPCP with its name is created."""
        self.stopping = False
        """The IRMd is stopping: no IPCP is created, and each is expected to exit."""

    def __iter__(self) -> Iterator[Ipcp]:
        return iter(self._by_pid.values())

    def __contains__(self, ipcp: Ipcp) -> bool:
        """Whether this IPCP runs: another one may have its pid already."""
        return self._by_pid.get(ipcp.pid) is ipcp

    def add(self, ipcp: Ipcp) -> None:
        """A process was forked."""
        self._by_pid[ipcp.pid] = ipcp
        self.ended.pop(ipcp.name, None)

    def failed(self, name: str, pid: int, how: str) -> None:
        """The parent of IPCPs has reported that a process of this name, not in the table any more, did not exit with status 0."""
        log.error("IPCP %s (pid %d) %s", name, pid, how)
        if all(ipcp.name != name or ipcp.pid == pid for ipcp in self):
            self.ended[name] = (pid, how)
            while len(self.ended) > MAX_ENDED:
                self.ended.popitem(last=False)

    def listed(self) -> list[Ipcp]:
        """Every IPCP, by type and then by pid."""
        return sorted(self, key=lambda ipcp: (ipcp.type, ipcp.pid))

    def find(self, pid: int, instance: int = 0) -> Ipcp:
        """The IPCP with this pid, and this instance unless that is 0; Refusal(EIPCP) when there is none."""
        ipcp = self._by_pid.get(pid)
        if ipcp is None:
            raise Refusal(EIPCP, f"there is no IPCP with pid {pid}; `irm ipcp list` shows those that run")
        if instance not in (0, ipcp.instance):
            self._late["ipcp"] += 1
            raise Refusal(
                EIPCP,
                f'the requested IPCP with pid {pid} has ended, and the pid is that of IPCP "{ipcp.name}" now; '
                "`irm ipcp list` shows those that run",
            )
        return ipcp

    def state_changed(self, ipcp: Ipcp, state: str) -> None:
        """The IPCP has reported its state."""
        ipcp.state = state
        if state == "boot" and not ipcp.up.done():
            ipcp.up.set_result(None)

    def exited(self, ipcp: Ipcp) -> None:
        """Its process has exited: remove it and its registrations."""
        if ipcp in self:
            del self._by_pid[ipcp.pid]
        for entry in self._registry:
            entry.registrations.pop(ipcp, None)
        if not ipcp.up.done():
            ipcp.up.set_exception(Refusal(EIPCP, f'IPCP "{ipcp.name}" ended while it was starting'))
            ipcp.up.exception()  # no task may be waiting for it any more
        if not ipcp.exited.done():
            ipcp.exited.set_result(None)
        expected = ipcp.state == "shutdown" or self.stopping
        log.log(
            logging.INFO if expected else logging.ERROR, "IPCP %s (pid %d) has ended", ipcp.name, ipcp.pid
        )
