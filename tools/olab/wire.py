"""Wire: makes the links of a lab, and cuts and heals them. The only module that needs pyroute2.

Run by the holder of the lab, which is in the right user namespace and has a descriptor of each network namespace. A
cut is done at both ends and is of one of two kinds:

carrier   the device of the first end is set down: that end sees its device go, the other one loses its carrier.
silent    packets are dropped, and neither end can detect it. A queue that drops all packets (`blackhole`, or `netem` where
          there is none) drops those that leave a device, because some kernels have no filter; a filter that needs no
          privileges outside of the lab (classic BPF) drops those that arrive, because a sender may bypass the queue. One of
          the two is enough, and on a loopback link, where packets of other links pass too, only the filter can do it.

An emulated link is two cables, from either system to the network namespace of the holder, and a process that stands between
their ends there (see `emulator`). When that process ends, the holder takes the carrier of both: the link is `dead`.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import socket
import struct
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from . import namespaces
from .description import Description, End, LinkKind, LinkSpec
from .emulator.impairment import Impairment
from .emulator.process import offloads_off
from .emulator.started import Emulator, EmulatorError

CARRIER_TIME = 3.0
"""Seconds that a new device may take until it has its carrier, and the polling interval."""
CARRIER_LOOK = 0.02

_ROOT = 0xFFFFFFFF
_INGRESS, _EGRESS = 0xFFFFFFF2, 0xFFFFFFF3
_PREFERENCE = 100  # of the first loopback link's filter


_Answer = TypeVar("_Answer")


class WireError(OSError):
    """A link could not be made, cut or healed; the text names the link, the reason and what is missing."""


class Wires:
    """The links of one lab. `network` has a descriptor of a network namespace for each system."""

    def __init__(
        self, description: Description, network: Mapping[str, int], home: int, env: Mapping[str, str]
    ) -> None:
        self.links = {link.name: link for link in description.links}
        self.network = network
        self.home = home
        self.env = env
        self.emulators: dict[str, Emulator] = {}
        self.impairments = {
            link.name: list(link.emulate) for link in description.links if link.emulate is not None
        }
        """Impairments of frames from either end of each emulated link."""
        self.cuts: dict[str, str] = {}
        """The cut links, and the kind of each cut: "carrier", "silent" or "dead"."""

    @contextlib.contextmanager
    def inside(self, system: str) -> Iterator[Any]:
        """Netlink in the network namespace of a system."""
        namespaces.setns(self.network[system], namespaces.NEWNET)
        try:
            with IPRoute() as netlink:
                yield netlink
        finally:
            namespaces.setns(self.home, namespaces.NEWNET)

    # ---------------------------------------------------------------- making

    def start_loopback(self, system: str) -> None:
        """Bring up the loopback device of a system."""
        with self.inside(system) as netlink:
            netlink.link("set", index=_index(netlink, "lo"), state="up")

    def make(self, name: str) -> None:
        """Make one link, up and with its addresses. Raises WireError."""
        link = self.links[name]
        try:
            if link.kind is LinkKind.VETH:
                self._make_veth(link)
            for end in (0, 1):
                self._set_up(link, end)
        except NetlinkError as error:
            raise WireError(error.code, f"link {name}: {_reason(error)}") from None

    def _make_veth(self, link: LinkSpec) -> None:
        one, other = link.ends
        if link.emulate is None:
            self._make_cable(link, one, other.device, self.network[other.system])
        else:
            _be_silent()
            for end, middle in zip(link.ends, self._middle(link), strict=True):
                self._make_cable(link, end, middle, self.home)
                offloads_off(middle)
                with self.inside(end.system):
                    offloads_off(end.device)
            self._set_middle(link, "up")
        if link.vlan is not None:
            for index, end in enumerate(link.ends):
                with self.inside(end.system) as netlink:
                    self._make_vlan(netlink, link, link.vlan, end.device, link.interface(index))

    def _make_cable(self, link: LinkSpec, end: End, device: str, network: int) -> None:
        mtu = {} if link.mtu is None else {"mtu": link.mtu}
        peer = {"ifname": device, "net_ns_fd": network, **mtu}
        with self.inside(end.system) as netlink:
            try:
                netlink.link("add", ifname=end.device, kind="veth", peer=peer, **mtu)
            except NetlinkError as error:
                if error.code == errno.EOPNOTSUPP:
                    raise WireError(
                        error.code,
                        f"link {link.name}: this kernel has no veth devices (`modprobe veth`, CONFIG_VETH)",
                    ) from None
                raise

    def _middle(self, link: LinkSpec) -> tuple[str, str]:
        """The devices that an emulator stands between, in the network namespace of the holder."""
        number = list(self.links).index(link.name)
        return f"{number}a", f"{number}b"

    def _set_middle(self, link: LinkSpec, state: str, ends: tuple[int, ...] = (0, 1)) -> None:
        with IPRoute() as netlink:
            for end in ends:
                netlink.link("set", index=_index(netlink, self._middle(link)[end]), state=state)

    def _make_vlan(self, netlink: Any, link: LinkSpec, vlan: int, device: str, interface: str) -> None:
        try:
            netlink.link("add", ifname=interface, kind="vlan", link=_index(netlink, device), vlan_id=vlan)
        except NetlinkError as error:
            if error.code != errno.EOPNOTSUPP:
                raise
            raise WireError(
                error.code,
                f"link {link.name}: this kernel has no VLAN devices (`modprobe 8021q`, CONFIG_VLAN_8021Q)",
            ) from None

    def _set_up(self, link: LinkSpec, end: int) -> None:
        """Bring up the devices of one end, and give them the addresses that they lack."""
        with self.inside(link.ends[end].system) as netlink:
            for device in dict.fromkeys((link.ends[end].device, link.interface(end))):
                netlink.link("set", index=_index(netlink, device), state="up")
            if link.addresses and not _is_loopback(link, end):
                address = link.addresses[end]
                prefix = address.network.prefixlen
                if link.kind is LinkKind.LOOPBACK:
                    prefix = address.max_prefixlen
                # Without nodad an IPv6 address would be unusable for a second.
                flags = {"flags": 0x02} if address.version == 6 else {}
                netlink.addr(
                    "replace",
                    index=_index(netlink, link.interface(end)),
                    address=str(address.ip),
                    prefixlen=prefix,
                    **flags,
                )

    def await_carriers(self) -> None:
        """Wait a moment until the kernel reports the devices' carrier: its report may be a second late."""
        deadline = time.monotonic() + CARRIER_TIME
        ends = [end for link in self.links.values() if link.kind is LinkKind.VETH for end in link.ends]
        while ends and time.monotonic() < deadline:
            ends = [end for end in ends if not self._has_carrier(end)]
            if ends:
                time.sleep(CARRIER_LOOK)

    def _has_carrier(self, end: End) -> bool:
        with self.inside(end.system) as netlink:
            (device,) = netlink.link("get", index=_index(netlink, end.device))
            return bool(device.get_attr("IFLA_OPERSTATE") == "UP")

    # ---------------------------------------------------------------- emulating

    def start_emulators(self) -> None:
        """Start the emulators of all links that have one, and wait until they forward frames. Raises WireError."""
        started = [self._start_emulator(self.links[name]) for name in self.impairments]
        for name in started:
            self._await_emulator(name)

    def _start_emulator(self, link: LinkSpec) -> str:
        self.emulators[link.name] = Emulator(self._middle(link), env=self.env)
        return link.name

    def _await_emulator(self, name: str) -> None:
        try:
            self.emulators[name].await_ready()
            self.emulators[name].set(self.impairments[name])
        except EmulatorError as error:
            self.emulators.pop(name).close()
            raise WireError(
                error.errno or 0, f"link {name}: its emulator does not start: {error.strerror}"
            ) from None

    def emulator(self, name: str) -> Emulator:
        """The emulator in a link. Raises WireError."""
        if name not in self.impairments:
            kind = self.links[name].kind
            raise WireError(
                errno.EOPNOTSUPP,
                f"link {name} is the loopback device, in which no emulator can stand; use a link of type veth"
                if kind is LinkKind.LOOPBACK
                else f'link {name} is a plain cable; write `emulate = ""` below [link.{name}], or make the lab with '
                "`olab up --emulate`",
            )
        if name not in self.emulators:
            raise WireError(
                errno.EPIPE, f"the emulator of link {name} has ended; `olab heal {name}` starts it again"
            )
        return self.emulators[name]

    def emulate(self, name: str, impairments: tuple[Impairment | None, Impairment | None]) -> None:
        """Set the impairments of frames from either end from now on; None: as before. Raises WireError."""
        self._ask(name, lambda emulator: emulator.set(impairments))
        self.impairments[name] = [
            before if fresh is None else fresh
            for before, fresh in zip(self.impairments[name], impairments, strict=True)
        ]

    def emulation(self, name: str) -> dict[str, Any]:
        """Settings and counters of an emulated link: `words`, `counters`, and `pid`. Raises WireError."""
        return self._ask(name, lambda emulator: {**emulator.show(), "pid": emulator.pid})

    def _ask(self, name: str, question: Callable[[Emulator], _Answer]) -> _Answer:
        try:
            return question(self.emulator(name))
        except EmulatorError as error:
            raise WireError(
                error.errno or 0, f"link {name}: {error.strerror}; `olab heal {name}` starts it again"
            ) from None

    def exited(self, pid: int, code: int) -> None:
        """A process has exited: if it was an emulator, its link is dead from now on."""
        for name, emulator in list(self.emulators.items()):
            if emulator.pid == pid:
                del self.emulators[name]
                emulator.exited(code)
                self.cuts[name] = "dead"
                with contextlib.suppress(NetlinkError, WireError):
                    self._set_middle(self.links[name], "down")

    # ---------------------------------------------------------------- cutting

    def cut(self, name: str, *, silent: bool) -> str:
        """Cut a link, in the other way if it is cut already; returns the means. Raises WireError."""
        link = self.links[name]
        self.heal(name)
        try:
            means = self._cut_silently(link) if silent else self._take_carrier(link)
        except BaseException:
            self._mend(link)
            raise
        self.cuts[name] = "silent" if silent else "carrier"
        return means

    def heal(self, name: str) -> None:
        """Undo a cut; nothing happens to a link that is whole."""
        if name not in self.cuts:
            return
        if name in self.impairments and name not in self.emulators:
            self._await_emulator(self._start_emulator(self.links[name]))
        del self.cuts[name]
        self._mend(self.links[name])

    def _take_carrier(self, link: LinkSpec) -> str:
        if link.kind is LinkKind.LOOPBACK:
            raise WireError(
                errno.EOPNOTSUPP,
                f"link {link.name} is the loopback device, which has no carrier; cut it with --silent",
            )
        with self.inside(link.ends[0].system) as netlink:
            netlink.link("set", index=_index(netlink, link.ends[0].device), state="down")
        if link.emulate is not None:
            self._set_middle(link, "down", (1,))
        return f"{link.ends[0]} is down, {link.ends[1]} has no carrier"

    def _cut_silently(self, link: LinkSpec) -> str:
        if link.kind is LinkKind.LOOPBACK:
            return self._filter_loopback(link)
        means: list[set[str]] = []
        for end in link.ends:
            with self.inside(end.system) as netlink:
                index = _index(netlink, end.device)
                means.append({*_drop_leaving(netlink, index), *_drop_arriving(netlink, index)})
        both = means[0] & means[1]
        if not both:
            raise WireError(
                errno.EOPNOTSUPP,
                f"link {link.name}: this kernel has no means to drop packets: neither the queues blackhole and netem "
                "(CONFIG_NET_SCHED, CONFIG_NET_SCH_NETEM) nor the filter (CONFIG_NET_SCH_INGRESS and CONFIG_NET_CLS_BPF); "
                "it can be cut by its carrier only",
            )
        return f"packets are dropped by {' and '.join(sorted(both))}"

    def _filter_loopback(self, link: LinkSpec) -> str:
        with self.inside(link.ends[0].system) as netlink:
            index = _index(netlink, "lo")
            try:
                with _ignoring(errno.EEXIST):
                    netlink.tc("add", "clsact", index=index)
                add_filter(
                    index, _EGRESS, self._preference(link), between(*(str(one.ip) for one in link.addresses))
                )
            except OSError as error:
                raise _no_filter(link, error) from None
            except NetlinkError as error:
                raise _no_filter(link, error) from None
        return "packets between the two addresses are dropped by a filter"

    def _preference(self, link: LinkSpec) -> int:
        return _PREFERENCE + list(self.links).index(link.name)

    def _mend(self, link: LinkSpec) -> None:
        ends = link.ends if link.kind is LinkKind.VETH else link.ends[:1]
        for end in ends:
            with self.inside(end.system) as netlink:
                index = _index(netlink, end.device)
                if link.kind is LinkKind.LOOPBACK:
                    with _ignoring(errno.ENOENT, errno.EINVAL):
                        netlink.tc(
                            "del-filter", "bpf", index=index, parent=_EGRESS, prio=self._preference(link)
                        )
                    continue
                with _ignoring(errno.ENOENT, errno.EINVAL):
                    netlink.tc("del", index=index, parent=_ROOT)
                with _ignoring(errno.ENOENT, errno.EINVAL):
                    netlink.tc("del", "clsact", index=index)
        if link.kind is LinkKind.VETH:
            if link.emulate is not None:
                self._set_middle(link, "up")
            for number in (0, 1):
                self._set_up(link, number)


def _drop_leaving(netlink: Any, index: int) -> Iterator[str]:
    """A queue that accepts packets and drops them; the sender sees only success."""
    for kind, options in (("blackhole", {}), ("netem", {"loss": 100})):
        try:
            netlink.tc("add", kind, index=index, parent=_ROOT, **options)
        except NetlinkError:
            continue
        yield f"a queue ({kind})"
        return


def _drop_arriving(netlink: Any, index: int) -> Iterator[str]:
    with contextlib.suppress(NetlinkError, OSError):
        netlink.tc("add", "clsact", index=index)
        add_filter(index, _INGRESS, _PREFERENCE, everything())
        yield "a filter"


def _be_silent() -> None:
    """Devices that are made here from now on send no packets of their own (IPv6 would)."""
    with contextlib.suppress(OSError):  # a kernel without IPv6
        Path("/proc/sys/net/ipv6/conf/default/disable_ipv6").write_text("1")


def _is_loopback(link: LinkSpec, end: int) -> bool:
    """Whether the loopback device has this address by itself."""
    address = link.addresses[end].ip
    return link.kind is LinkKind.LOOPBACK and address.is_loopback


def _index(netlink: Any, device: str) -> int:
    found = netlink.link_lookup(ifname=device)
    if not found:
        raise WireError(errno.ENODEV, f"the device {device} has been removed")
    return int(found[0])


@contextlib.contextmanager
def _ignoring(*numbers: int) -> Iterator[None]:
    try:
        yield
    except NetlinkError as error:
        if error.code not in numbers:
            raise


def _reason(error: NetlinkError) -> str:
    return os.strerror(error.code) if error.code else str(error)


def _no_filter(link: LinkSpec, error: OSError | NetlinkError) -> WireError:
    return WireError(
        errno.EOPNOTSUPP,
        f"link {link.name}: this kernel cannot filter packets on the loopback device "
        f"(CONFIG_NET_SCH_INGRESS and CONFIG_NET_CLS_BPF): {error}",
    )


# ---------------------------------------------------------------- the filter
#
# A program of classic BPF that decides by itself ("direct action"): 2 drops, -1 leaves it to the next. pyroute2 knows
# only filters by descriptor, which need privileges outside of a user namespace: so the message is made here.

Program = list[tuple[int, int, int, int]]
_LOAD_WORD, _LOAD_HALF, _JUMP_EQUAL, _RETURN = 0x20, 0x28, 0x15, 0x06
_DROP, _NEXT = 2, 0xFFFFFFFF


def everything() -> Program:
    """Drops all packets."""
    return [(_RETURN, 0, 0, _DROP)]


def between(one: str, other: str) -> Program:
    """Drops IP packets from one of two addresses to the other, in both directions."""
    addresses = [ipaddress.ip_address(text) for text in (one, other)]
    version6 = addresses[0].version == 6
    ethertype, source = (0x86DD, 14 + 8) if version6 else (0x0800, 14 + 12)
    words = [struct.unpack(f">{len(address.packed) // 4}I", address.packed) for address in addresses]
    program: Program = [(_LOAD_HALF, 0, 0, 12), (_JUMP_EQUAL, 0, 1, ethertype)]
    # Each direction is a chain of comparisons; one that fails jumps behind the chain, two at a time at most 8 words.
    tests: list[Program] = []
    for first, second in ((words[0], words[1]), (words[1], words[0])):
        compared = [*first, *second]
        chain: Program = []
        for number, word in enumerate(compared):
            left = 2 * (len(compared) - number - 1) + 1  # to behind the chain, over its return
            chain += [(_LOAD_WORD, 0, 0, source + 4 * number), (_JUMP_EQUAL, 0, left, word)]
        tests.append([*chain, (_RETURN, 0, 0, _DROP)])
    size = sum(len(chain) for chain in tests)
    program[1] = (_JUMP_EQUAL, 0, size, ethertype)
    return [*program, *tests[0], *tests[1], (_RETURN, 0, 0, _NEXT)]


def add_filter(index: int, parent: int, preference: int, program: Program) -> None:
    """Attach a program to the ingress or egress side of a device in this network namespace. Raises OSError."""
    operations = b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
    options = b"".join(
        (
            _attribute(4, struct.pack("=H", len(program))),  # TCA_BPF_OPS_LEN
            _attribute(5, operations),  # TCA_BPF_OPS
            _attribute(8, struct.pack("=I", 1)),  # TCA_BPF_FLAGS: direct action
        )
    )
    info = preference << 16 | socket.htons(0x0003)  # ETH_P_ALL
    body = struct.pack("=BxxxiIII", socket.AF_UNSPEC, index, 0, parent, info)
    body += _attribute(1, b"bpf\0") + _attribute(2, options)  # TCA_KIND, TCA_OPTIONS
    # RTM_NEWTFILTER; request, acknowledge, create, exclusive
    request = struct.pack("=IHHII", 16 + len(body), 44, 0x01 | 0x04 | 0x400 | 0x200, 1, 0) + body
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as netlink:
        netlink.bind((0, 0))
        netlink.send(request)
        reply = netlink.recv(65536)
    (number,) = struct.unpack_from("=i", reply, 16)
    if number != 0:
        raise OSError(-number, os.strerror(-number))


def _attribute(kind: int, value: bytes) -> bytes:
    padding = -len(value) % 4
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(padding)
