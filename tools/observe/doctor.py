"""Doctor: is this machine fit for a system, and is the system well? And if not, what to do (docs/howto/observe.md).

Each check is a function that yields findings; the table at the end has them in their order. Those of the machine need no IRMd.
"""

from __future__ import annotations

import os
import resource
import struct
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from ouroboros.facts import Row

from .reader import Reader, peer_of

if TYPE_CHECKING:
    from ouroboros.readout import IpcpInfo

KERNEL = (5, 10)
OPEN_FILES = 4096
"""Descriptors that the hard limit should allow: a flow takes one or two."""
RECEIVE_BUFFER = 1 << 20
"""Octets of a socket's buffer that UDP layers ask for."""
LOW_SHARE = 0.1
"""Share of free blocks below which a pool counts as nearly exhausted."""
_STA_UNSYNC = 0x40


class Grade(Enum):
    """How serious a finding is."""

    GOOD = "good"
    NOTE = "note"
    """Something is missing that only some need."""
    BAD = "bad"


class Finding(NamedTuple):
    """The result of a check, and advice."""

    grade: Grade
    subject: str
    text: str
    advice: str = ""


Findings = Iterator[Finding]


def _good(subject: str, text: str) -> Finding:
    return Finding(Grade.GOOD, subject, text)


def _note(subject: str, text: str, advice: str) -> Finding:
    return Finding(Grade.NOTE, subject, text, advice)


def _bad(subject: str, text: str, advice: str) -> Finding:
    return Finding(Grade.BAD, subject, text, advice)


# ---------------------------------------------------------------- the machine


def kernel() -> Findings:
    """Linux, new enough, on a machine with the octet order and word size of the shared memory."""
    release = os.uname().release
    numbers = [int(part) for part in release.replace("-", ".").split(".")[:2] if part.isdigit()]
    if sys.platform != "linux" or tuple(numbers) < KERNEL:
        yield _bad("kernel", f"{os.uname().sysname} {release}", "Linux 5.10 or newer is needed")
    else:
        yield _good("kernel", f"Linux {release}")
    if sys.byteorder != "little" or struct.calcsize("P") != 8:
        yield _bad("machine", os.uname().machine, "a little-endian machine with 64 bits is needed")
    for name in ("memfd_create", "pidfd_open"):
        if not hasattr(os, name):
            yield _bad("kernel", f"Python has no {name}", "use a Python that is built for this kernel")


def limits() -> Findings:
    """Open files, and buffers of sockets."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < OPEN_FILES:
        yield _bad(
            "open files",
            f"at most {hard}",
            f"raise the hard limit (`ulimit -Hn {OPEN_FILES * 4}`, LimitNOFILE=)",
        )
    else:
        yield _good("open files", f"{soft}, up to {hard if hard != resource.RLIM_INFINITY else 'any number'}")
    try:
        with open("/proc/sys/net/core/rmem_max") as file:
            most = int(file.read())
    except (OSError, ValueError):
        return  # a container may hide it
    if most < RECEIVE_BUFFER:
        yield _note(
            "socket buffers",
            f"net.core.rmem_max is {most} octets",
            f"fast UDP layers lose fewer packets with more: sysctl -w net.core.rmem_max={RECEIVE_BUFFER * 4}",
        )


def clock() -> Findings:
    """Whether the kernel knows the time: certificates and handshakes carry it."""
    import ctypes

    class Timex(ctypes.Structure):
        _fields_ = [
            ("modes", ctypes.c_uint),
            ("pad", ctypes.c_int),
            ("words", ctypes.c_long * 3),
            ("status", ctypes.c_int),
            ("rest", ctypes.c_char * 256),
        ]

    timex = Timex()
    if ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(timex)) < 0:
        return  # not permitted here
    if timex.status & _STA_UNSYNC:
        yield _note(
            "clock",
            "the kernel does not know whether the clock is right",
            "flows to other systems fail when clocks differ by much; run chrony or systemd-timesyncd",
        )
    else:
        yield _good("clock", "synchronised")


def rights() -> Findings:
    """The rights of this user."""
    import shutil

    if os.geteuid() != 0:
        yield _note(
            "rights", "not root", "layers on Ethernet devices need CAP_NET_RAW; everything else does not"
        )
    try:
        import mfusepy  # noqa: F401

        fuse = os.access("/dev/fuse", os.R_OK | os.W_OK)
    except (ImportError, OSError):
        fuse = False
    if not fuse or not (os.geteuid() == 0 or shutil.which("fusermount3") or shutil.which("fusermount")):
        yield _note(
            "FUSE",
            "not available",
            '"irm rib ls" works without; "irm rib mount" needs the extra "fuse" and fuse3',
        )


# ---------------------------------------------------------------- the system


def daemon(reader: Reader) -> Findings:
    """IPCPs that failed, and lists of the IRMd."""
    ipcps = reader.ipcps()
    yield _good("IRMd", f"answers; it has {len(ipcps)} IPCPs")
    for row in reader.irmd("ended"):
        yield _bad(
            f"IPCP {row['name']}",
            f"the process {row['pid']} {row['how']}",
            'the log has the reason; create it again, or "irm apply" the configuration',
        )
    for ipcp in ipcps:
        if not ipcp.layer:
            yield _note(
                f"IPCP {ipcp.name}",
                f"is in no layer{f': {ipcp.progress}' if ipcp.progress else ''}",
                f'"irm ipcp bootstrap name {ipcp.name} ..." or "irm ipcp enroll name {ipcp.name} ..."',
            )


def members(reader: Reader) -> Findings:
    """The read-outs of every IPCP: devices, neighbours, addresses, sizes of packets."""
    largest: dict[str, int] = {}
    for ipcp in reader.ipcps():
        if not ipcp.layer:
            continue
        subject = f"IPCP {ipcp.name}"
        try:
            for what in ("status", "neighbours"):
                if what in reader.words(ipcp):
                    rows = reader.rows(ipcp, what)
                    yield from (
                        _status(subject, rows) if what == "status" else _neighbours(subject, ipcp.name, rows)
                    )
                    if what == "status" and rows and rows[0].get("max_packet"):
                        largest.setdefault(ipcp.layer, int(str(rows[0]["max_packet"])))
            counters = reader.rows(ipcp, "counters")
        except OSError as error:
            yield _bad(
                subject, f"does not answer: {error.strerror}", "the log of its process may have the reason"
            )
            continue
        defects = sum(int(str(row["value"])) for row in counters if row["counter"] in ("defects", "failures"))
        if defects:
            yield _bad(
                subject,
                f"{defects} defects of the program",
                "the log has their tracebacks; please report them",
            )
    for ipcp in reader.ipcps():
        if "neighbours" not in reader.words(ipcp) or ipcp.layer not in largest:
            continue
        yield from _sizes(reader, f"IPCP {ipcp.name}", ipcp, largest[ipcp.layer])


def _sizes(reader: Reader, subject: str, ipcp: IpcpInfo, most: int) -> Findings:
    try:
        rows = reader.rows(ipcp, "neighbours")
    except OSError:
        return  # `members` has reported it
    for row in rows:
        takes = row.get("max_packet")
        if row.get("component") == "dt" and isinstance(takes, int) and takes < most:
            yield _bad(
                subject,
                f"the flow to {peer_of(row)} takes packets of {takes} octets, the layer's have up to {most}",
                "larger packets are lost there: bootstrap the layer with a smaller max_packet, or raise the MTU below",
            )


def _status(subject: str, rows: Sequence[Row]) -> Findings:
    for row in rows:
        if row.get("state") == "down":
            yield _bad(
                subject, f"its device {row.get('device')} is down", f"ip link set {row.get('device')} up"
            )
        if row.get("contested"):
            yield _bad(
                subject,
                f"another member claims the address {row.get('address')}",
                "enrol one of the two again",
            )
        if row.get("unreachable"):
            yield _note(
                subject, f"{row['unreachable']} members or neighbours do not answer", "see its neighbours"
            )


def _neighbours(subject: str, name: str, rows: Sequence[Row]) -> Findings:
    for row in rows:
        state = row.get("state")
        if state is not None and state != "up":
            peer = peer_of(row)
            trouble = f": {row['trouble']}" if row.get("trouble") else ""
            yield _bad(
                subject,
                f"the connection with {peer} ({row['component']}) is {state}{trouble}",
                f'check that system and the layer below; "irm ipcp disconnect name {name} dst {peer}" gives it up',
            )


def names(reader: Reader) -> Findings:
    """Names that cannot be reached, and why."""
    for info in reader.names():
        subject = f"name {info.name}"
        if not info.programs and not info.processes:
            where = " and ".join(registration.layer for registration in info.registrations)
            yield _bad(
                subject,
                f"nothing is bound to it{f', although {where} has it' if where else ''}: every flow to it is refused",
                f'"irm bind program PROG {info.name}", or "irm name destroy {info.name}"',
            )
        elif not info.registrations:
            yield _note(
                subject,
                "is in no layer: only this system reaches it",
                f'"irm name register {info.name} layer LAYER" for others',
            )


def pools(reader: Reader) -> Findings:
    """Packet pools that are, or were, exhausted."""
    rows, classes = reader.pools()
    for row in rows:
        if row["failures"]:
            yield _bad(
                f"pool {row['name']}",
                f"was exhausted {row['failures']} times; packets were dropped",
                '"irm pool show" names the processes that hold blocks; [pools] of the configuration makes it larger',
            )
    for one in classes:
        free, total = int(str(one["free"])), int(str(one["total"]))
        if free < total * LOW_SHARE:
            yield _note(
                f"pool {one['name']}",
                f"{free} of {total} blocks of {one['size']} octets are free",
                '"irm flow list" shows queues that nobody reads',
            )


def flows(reader: Reader) -> Findings:
    """Flows that are down, or lose packets."""
    lost = [end for end in reader.flow_ends() if end["refused"]]
    for end in lost:
        yield _note(
            f"flow {end['flow_id']}",
            f"process {end['pid']} refused {end['refused']} packets that were damaged, or not from its peer",
            "a faulty link, or an attack",
        )
    down = sorted({str(end["flow_id"]) for end in reader.flow_ends() if end["state"] == "down"})
    if down:
        yield _note("flows", f"{', '.join(down)}: down", "their processes still have to deallocate them")


MACHINE: tuple[Callable[[], Findings], ...] = (kernel, limits, clock, rights)
SYSTEM: tuple[Callable[[Reader], Findings], ...] = (daemon, members, names, pools, flows)


def examine(reader: Reader | None = None) -> Iterable[Finding]:
    """All findings. Without an IRMd, those of the machine and that."""
    for check in MACHINE:
        yield from check()
    reader = reader or Reader()
    try:
        for look in SYSTEM:
            yield from look(reader)
    except OSError as error:
        yield _bad("IRMd", error.strerror or str(error), '"irm start" starts one')
