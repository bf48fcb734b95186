"""The place of the statistics tree of a system in the file system, and its unmounting (paper 5.3; docs/howto/observe.md).

The tree of the system on /run/ouroboros is at /tmp/ouroboros, those of others are in their run directories. Used by the IRMd, which
removes the mount when it stops, and by `irm rib`.
"""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
from errno import EEXIST, ENOTEMPTY, EPERM

from .rundir import SYSTEM_RUNDIR

SYSTEM_TREE = "/tmp/ouroboros"
_MNT_DETACH, _UMOUNT_NOFOLLOW = 2, 8


def tree_path(rundir: str) -> str:
    """Where the tree of the system on this run directory is mounted."""
    return SYSTEM_TREE if rundir == SYSTEM_RUNDIR else os.path.join(rundir, "rib")


def mounted(path: str) -> bool:
    """Whether a file system is mounted there, be it one that nothing serves any more."""
    try:
        os.lstat(path)
    except FileNotFoundError:
        return False
    except OSError:
        return True  # ENOTCONN: its process was killed
    return os.path.ismount(path)


def prepare(path: str) -> None:
    """Make the folder to mount on. Raises OSError: it is taken, or belongs to another user."""
    if mounted(path):
        try:
            os.listdir(path)
        except OSError:
            unmount(path)  # nothing serves it any more
        else:
            raise FileExistsError(EEXIST, f'{path} is mounted already; "irm rib unmount" removes it')
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, 0o755)
    status = os.lstat(path)
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        raise PermissionError(EPERM, f"{path} is not a folder of this user; remove it, or mount elsewhere")
    if os.listdir(path):
        raise OSError(ENOTEMPTY, f"{path} has files in it; remove them, or mount elsewhere")


def unmount(path: str) -> bool:
    """Remove the mount, if there is one, and its folder; False: there was none. Readers that are in it keep it until they leave."""
    there = mounted(path)
    if there:
        _detach(path)
    with contextlib.suppress(OSError):
        os.rmdir(path)
    return there


def _detach(path: str) -> None:
    if os.geteuid() == 0:
        import ctypes

        libc = ctypes.CDLL(None, use_errno=True)
        libc.umount2(os.fsencode(path), _MNT_DETACH | _UMOUNT_NOFOLLOW)
        return
    for program in ("fusermount3", "fusermount"):
        with contextlib.suppress(FileNotFoundError):
            subprocess.run([program, "-u", "-z", path], stderr=subprocess.DEVNULL, check=False)
            return
