"""The process at the other end of a socket: its credentials and identity (docs/design/shared-memory.md).

A pid alone identifies no process, because the kernel uses it again. A process is its pid *and* its start time; the IRMd
holds a pidfd of every process it knows, which becomes readable when that process, and no other, has ended.
"""

from __future__ import annotations

import contextlib
import grp
import os
import socket
import struct
from dataclasses import dataclass

GROUP = "ouroboros"
"""Members of this group may manage the system and share its pool."""

_SO_PEERGROUPS = 59
_SO_PEERPIDFD = 77  # Linux 6.5
_UCRED = struct.Struct("iII")


@dataclass(slots=True, frozen=True)
class Peer:
    """Credentials of a process, as the kernel recorded them when it connected."""

    pid: int
    uid: int
    gid: int
    groups: frozenset[int]
    started: int
    """Start time of the process in clock ticks since boot; 0 when it has ended already."""


def start_time(pid: int) -> int:
    """Start time of process `pid` in clock ticks since boot, or 0 when there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            stat = file.read()
    except OSError:
        return 0
    # The name of the program, field 2, may hold blanks and brackets: count from the last bracket.
    return int(stat[stat.rindex(b")") + 2 :].split()[19])


def peer_of(sock: socket.socket) -> Peer:
    """Credentials of the process that connected `sock`. Raises OSError when the kernel has none."""
    pid, uid, gid = _UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return Peer(pid, uid, gid, _groups(sock, gid), start_time(pid))


def _groups(sock: socket.socket, gid: int) -> frozenset[int]:
    size = 64
    while size <= 65536:
        try:
            raw = sock.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, size * 4)
        except OSError:  # ERANGE: more groups than the buffer holds
            size *= 4
            continue
        return frozenset(struct.unpack(f"{len(raw) // 4}I", raw)) | {gid}
    return frozenset({gid})


def peer_pidfd(sock: socket.socket, peer: Peer) -> int:
    """A pidfd of the process at the other end of `sock`. Raises ProcessLookupError when it has ended."""
    with contextlib.suppress(OSError):
        return int(sock.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD))
    # Linux before 6.5: the pid may have been used again since; its start time distinguishes the two.
    fd = os.pidfd_open(peer.pid)
    if not peer.started or start_time(peer.pid) != peer.started:
        os.close(fd)
        raise ProcessLookupError(f"process {peer.pid} has ended")
    return fd


def managers_gid() -> int | None:
    """The id of the group `ouroboros`, or None when the system has no such group."""
    try:
        return grp.getgrnam(GROUP).gr_gid
    except KeyError:
        return None


def trusted(peer: Peer, *, uid: int, gid: int | None) -> bool:
    """Whether `peer` may manage the IRMd of user `uid`: that user, root, and members of group `gid`."""
    return peer.uid in (0, uid) or (gid is not None and gid in peer.groups)
