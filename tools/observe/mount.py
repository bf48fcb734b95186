"""The statistics tree as a file system (FUSE; paper 5.3): `python -m ouroboros_tools.observe.mount PATH`, started by `irm rib mount`.

A process of its own, of the user that mounts. It reads through the IRMd as every tool does, so no IPCP notices it, and ends with the IRMd,
however that ends: it waits for the end of that process in a thread, and unmounts. If this process is killed, the next `irm rib mount`, and an IRMd that
stops, remove the dead mount. The text of a file is made when it is opened, and kept until it is closed.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import select
import signal
import stat
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, NoReturn

from ouroboros import rib

from .reader import Reader
from .tree import File, find, root

MAX_OPEN = 1024
"""Files that are open together; one more is refused with EMFILE: a reader may never close one."""


class Tree:
    """The operations of the file system. All are read-only."""

    use_ns = True

    def __init__(self, ready: Callable[[], None]) -> None:
        self._root = root(Reader())
        self._ready = ready
        self._numbers = itertools.count(1)
        self._open: dict[int, bytes] = {}
        self._since = time.time_ns()

    def init(self, _path: str) -> None:
        """The kernel has the file system."""
        self._ready()

    def getattr(self, path: str, _handle: int | None = None) -> dict[str, int]:
        """Kind and mode; a file has no size before it is read."""
        node = self._found(path)
        mode = stat.S_IFREG | 0o444 if isinstance(node, File) else stat.S_IFDIR | 0o555
        times = dict.fromkeys(("st_atime", "st_mtime", "st_ctime"), self._since)
        links = 1 if isinstance(node, File) else 2
        return {"st_mode": mode, "st_nlink": links, "st_uid": os.getuid(), "st_gid": os.getgid(), **times}

    def readdir(self, path: str, _handle: int) -> list[str]:
        """The names of a folder."""
        node = self._found(path)
        if isinstance(node, File):
            self._refuse(errno.ENOTDIR)
        try:
            return [".", "..", *node.entries()]
        except OSError as error:
            self._refuse(_number(error))

    def open(self, path: str, info: Any) -> int:
        """Make the text of a file. Reads of it do not pass through the kernel's cache, which would go by its size."""
        node = self._found(path)
        if not isinstance(node, File):
            self._refuse(errno.EISDIR)
        if len(self._open) >= MAX_OPEN:
            self._refuse(errno.EMFILE)
        try:
            text = node.text().encode(errors="replace")
        except OSError as error:
            self._refuse(_number(error))
        info.direct_io = True
        info.fh = number = next(self._numbers)
        self._open[number] = text
        return 0

    def read(self, _path: str, size: int, offset: int, info: Any) -> bytes:
        """Part of an open file."""
        return self._open[info.fh][offset : offset + size]

    def release(self, _path: str, info: Any) -> int:
        """A file was closed."""
        self._open.pop(info.fh, None)
        return 0

    def _found(self, path: str) -> Any:
        try:
            return find(self._root, path)
        except OSError as error:
            self._refuse(_number(error))

    @staticmethod
    def _refuse(number: int) -> NoReturn:
        from mfusepy import FuseOSError

        raise FuseOSError(number)


def _number(error: OSError) -> int:
    """The error as the kernel knows it: errors of Ouroboros have larger numbers."""
    return error.errno if error.errno and 0 < error.errno < 256 else errno.EIO


def serve(path: str, pid: int, ready: Callable[[], None]) -> None:
    """Show the tree at a path until it is unmounted, this process is terminated, or the process `pid` has ended."""
    from mfusepy import FUSE

    ending = os.pidfd_open(pid)
    main = threading.main_thread().ident
    assert main is not None

    def end_with_irmd() -> None:
        poll = select.poll()
        poll.register(ending, select.POLLIN)
        poll.poll()
        rib.unmount(path)
        signal.pthread_kill(main, signal.SIGTERM)

    threading.Thread(target=end_with_irmd, daemon=True).start()
    try:
        FUSE(
            Tree(ready),
            path,
            raw_fi=True,
            foreground=True,
            nothreads=True,
            fsname="rib",
            ro=True,
            default_permissions=True,
            # Others may read what they may ask the IRMd; only root lets them into a mount by default.
            allow_other=os.geteuid() == 0,
        )
    finally:
        rib.unmount(path)


def main() -> int:
    """PATH PID: mount there, print a line when the tree is there, serve until the process ends."""
    path, pid = sys.argv[1], int(sys.argv[2])

    def ready() -> None:
        print("ready", flush=True)
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)

    os.chdir("/")
    with contextlib.suppress(OSError):
        os.setsid()
    try:
        serve(path, pid, ready)
    except (OSError, RuntimeError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
