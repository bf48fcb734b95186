"""Namespaces: the system calls by which a process gets, and joins, devices and mounts of its own (namespaces(7)).

Used by the holder of a lab, and by programs that enter a system of it. Python has these calls from 3.12 on, but not
`mount`.
"""

from __future__ import annotations

import contextlib
import ctypes
import os

NEWNS = 0x00020000
NEWUSER = 0x10000000
NEWPID = 0x20000000
NEWNET = 0x40000000

MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND, MS_REC, MS_PRIVATE = 2, 4, 8, 4096, 16384, 1 << 18
PR_SET_PDEATHSIG, PR_SET_NAME = 1, 15

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p)


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def unshare(flags: int) -> None:
    """Leave some of the namespaces of the parent for new ones."""
    _check(_libc.unshare(flags), "unshare")


def setns(fd: int, kind: int) -> None:
    """Join a namespace. The process must have one thread for a user or a mount namespace."""
    _check(_libc.setns(fd, kind), "setns")


def mount(source: str, target: str, kind: str | None, flags: int) -> None:
    """Mount a file system, or with MS_BIND a file or a folder."""
    filesystem = kind.encode() if kind is not None else None
    _check(_libc.mount(source.encode(), target.encode(), filesystem, flags, None), f"mount {target}")


def die_with_parent(number: int) -> None:
    """Get this signal when the parent has ended."""
    _check(_libc.prctl(PR_SET_PDEATHSIG, number, 0, 0, 0), "prctl")


def set_name(name: str) -> None:
    """The name of this process in `ps`; up to 15 octets."""
    with contextlib.suppress(OSError):
        _check(_libc.prctl(PR_SET_NAME, name.encode()[:15] + b"\0", 0, 0, 0), "prctl")


def map_to_root(uid: int, gid: int) -> None:
    """Map this user, with these ids outside, to root of the new user namespace (user_namespaces(7))."""
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)
