"""Emulated link: two network namespaces as in `link`, with the lab's link emulator between them.

    with ExitStack() as stack:
        link = EmulatedLink(stack, "loss 1% delay 20ms seed 7")
        subprocess.Popen(..., preexec_fn=link.ends[0].enter)      # has the device DEVICE, with ADDRESSES[0]
        link.counters()

The link carries real frames, segmented and with their checksums, as a cable would.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from tests.bench.link import ADDRESSES, DEVICE, Link, Namespace
from tools.olab.description import both
from tools.olab.emulator.started import Emulator

MIDDLE = ("middle0", "middle1")

# Runs in the namespace between the two, with the pids of those who hold them.
CABLES = f"""
import sys
from pathlib import Path
from pyroute2 import IPRoute
from tests.bench.link import join
from tools.olab.emulator.process import offloads_off
Path("/proc/sys/net/ipv6/conf/default/disable_ipv6").write_text("1")
pids = [int(word) for word in sys.argv[1:]]
with IPRoute() as netlink:
    for pid, name in zip(pids, {MIDDLE!r}, strict=True):
        netlink.link("add", ifname=name, kind="veth", peer={{"ifname": "{DEVICE}", "net_ns_pid": pid}})
        netlink.link("set", index=netlink.link_lookup(ifname=name)[0], state="up")
        offloads_off(name)
for pid, address in zip(pids, {ADDRESSES!r}, strict=True):
    join(pid, False)
    offloads_off("{DEVICE}")
    with IPRoute() as netlink:
        for name in ("lo", "{DEVICE}"):
            netlink.link("set", index=netlink.link_lookup(ifname=name)[0], state="up")
        netlink.addr("add", index=netlink.link_lookup(ifname="{DEVICE}")[0], address=address, prefixlen=24)
"""


class EmulatedLink(Link):
    """A link whose frames an emulator passes on. Words are those of `olab link`; two texts are for the two directions."""

    def __init__(self, stack: ExitStack, words: str | tuple[str, str] = "") -> None:
        first = Namespace(stack)
        self.ends = (first, Namespace(stack, first))
        self._middle = Namespace(stack, first)
        self._run_in(self._middle, CABLES, *(str(end.pid) for end in self.ends))
        self._emulator = Emulator(MIDDLE, enter=self._middle.enter)
        stack.callback(self._emulator.close)
        self._emulator.await_ready()
        self.set(words)

    def set(self, words: str | tuple[str, str]) -> None:
        """From now on this happens to frames; they are counted from 0 again."""
        self._emulator.set(both(words))

    def counters(self) -> list[dict[str, Any]]:
        """The counters for frames from the first end, and from the second; `src/line.h` explains them."""
        found: list[dict[str, Any]] = self._emulator.show()["counters"]
        return found
