"""Link: two network namespaces with a virtual cable between them, for systems that talk Ethernet.

A namespace lives as long as the process that holds it; both end with the benchmark, however that ends. An ordinary user gets
them within a user namespace.
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import ExitStack
from functools import cache

from tests.bench.process import ROOT, PeerError, die_with_parent
from tools.olab import namespaces

DEVICE = "wire"
ADDRESSES = ("10.11.12.1", "10.11.12.2")

# Runs in the first namespace, with the pid of the process that holds the other.
CABLE = f"""
import sys
from pyroute2 import IPRoute
from tests.bench.link import join
other = int(sys.argv[1])
def up(netlink, address):
    for name in ("lo", "{DEVICE}"):
        netlink.link("set", index=netlink.link_lookup(ifname=name)[0], state="up")
    netlink.addr("add", index=netlink.link_lookup(ifname="{DEVICE}")[0], address=address, prefixlen=24)
with IPRoute() as netlink:
    netlink.link("add", ifname="{DEVICE}", kind="veth", peer={{"ifname": "{DEVICE}", "net_ns_pid": other}})
    up(netlink, "{ADDRESSES[0]}")
join(other, False)
with IPRoute() as netlink:
    up(netlink, "{ADDRESSES[1]}")
"""


def privileged() -> bool:
    """Whether we may make network namespaces as we are; else it takes a user namespace, where that is allowed."""
    return _can(namespaces.NEWNET)


@cache
def _can(flags: int) -> bool:
    try:
        subprocess.run(["true"], preexec_fn=lambda: namespaces.unshare(flags))
    except subprocess.SubprocessError:
        return False
    return True


def join(pid: int, user: bool) -> None:
    """Live in the network namespace of a process from now on, and in its user namespace if it has one."""
    for kind, flag in (("user", namespaces.NEWUSER), ("net", namespaces.NEWNET)):
        if user or kind == "net":
            with open(f"/proc/{pid}/ns/{kind}", "rb") as file:
                namespaces.setns(file.fileno(), flag)


# Runs in a namespace: what leaves its device does so at a rate, and waits in the bands of priority that a device has.
SLOW = f"""
import sys
from pyroute2 import IPRoute
with IPRoute() as netlink:
    index = netlink.link_lookup(ifname="{DEVICE}")[0]
    netlink.tc("add", "tbf", index=index, handle=0x10000, rate=sys.argv[1], burst=8192, limit=65536)
    netlink.tc("add", "pfifo_fast", index=index, handle=0x20000, parent=0x10001)
"""


class Namespace:
    """A network namespace. `enter` is for a child process, between fork and exec."""

    def __init__(self, stack: ExitStack, beside: Namespace | None = None) -> None:
        self._user = not privileged()
        uid, gid = os.geteuid(), os.getegid()

        def hold() -> None:
            die_with_parent()
            if self._user and beside:
                join(beside.pid, True)
                namespaces.unshare(namespaces.NEWNET)
            elif self._user:
                namespaces.unshare(namespaces.NEWUSER | namespaces.NEWNET)
                namespaces.map_to_root(uid, gid)
            else:
                namespaces.unshare(namespaces.NEWNET)

        self._holder = subprocess.Popen(
            [sys.executable, "-c", "print('ready', flush=True); input()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            preexec_fn=hold,
        )
        stack.callback(self._end)
        assert self._holder.stdout is not None
        self._holder.stdout.readline()
        self.pid = self._holder.pid

    def enter(self) -> None:
        """Let the calling process live here."""
        join(self.pid, self._user)

    def _end(self) -> None:
        self._holder.kill()
        self._holder.communicate()


class Link:
    """Two namespaces, each with a device `DEVICE`, and addresses of IPv4 for those that want them."""

    def __init__(self, stack: ExitStack) -> None:
        first = Namespace(stack)
        self.ends = (first, Namespace(stack, first))
        self._run(0, CABLE, str(self.ends[1].pid))

    def slow_down(self, rate: str) -> None:
        """Limit packets from the second end to this rate, in the words of tc(8), from now on."""
        self._run(1, SLOW, rate)

    def _run(self, end: int, script: str, *words: str) -> None:
        self._run_in(self.ends[end], script, *words)

    def _run_in(self, place: Namespace, script: str, *words: str) -> None:
        done = subprocess.run(
            [sys.executable, "-c", script, *words],
            cwd=ROOT,
            preexec_fn=place.enter,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise PeerError(f"a virtual cable cannot be made so: {done.stderr.strip().splitlines()[-1]}")


def missing() -> str | None:
    """Why there can be no link here, or None."""
    if privileged() or _can(namespaces.NEWUSER | namespaces.NEWNET):
        return None
    return "a network namespace needs CAP_SYS_ADMIN, or user namespaces (run it as root)"
