"""The run directory of an IRMd: made, locked, and left without a trace (docs/design/overview.md).

The lock is a `flock` on `irmd.lock`, which the kernel releases when its holder exits in whatever way; the
pid inside is for people. Files that an exited IRMd has left are therefore known to be stale, and replaced.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import stat

from ouroboros.rib import tree_path, unmount
from ouroboros.rpc.codec import SOCKET_NAME
from ouroboros.rundir import LOCK_NAME

BACKLOG = 512


class RunDirError(Exception):
    """The run directory cannot be used; the text has the reason."""


class AlreadyRunning(RunDirError):
    """Another IRMd lives on this run directory."""

    def __init__(self, pid: str) -> None:
        super().__init__(f"IRMd already running ({pid}), exiting.")


class RunDir:
    """A run directory that is locked by this process. A context manager."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._lock = -1
        self._made = False
        self._listening = False
        self._make()
        try:
            self._take_lock()
        except BaseException:
            self._remove_directory()
            raise

    def __enter__(self) -> RunDir:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def socket_path(self) -> str:
        """Where clients connect."""
        return os.path.join(self.path, SOCKET_NAME)

    def _make(self) -> None:
        private = self.path.startswith("/tmp/")
        mode = 0o700 if private else 0o755
        try:
            parent = os.path.dirname(self.path)
            if not os.path.isdir(parent):
                os.makedirs(parent, 0o755)
            with contextlib.suppress(FileExistsError):
                os.mkdir(self.path, mode)
                os.chmod(self.path, mode)  # whatever the umask
                self._made = True
            status = os.lstat(self.path)
        except OSError as error:
            raise RunDirError(
                f"cannot make the run directory {self.path}: {error.strerror}; OUROBOROS_RUNDIR names another"
            ) from None
        if not stat.S_ISDIR(status.st_mode):
            raise RunDirError(f"{self.path} is not a directory; OUROBOROS_RUNDIR names another")
        if status.st_uid != os.geteuid():
            raise RunDirError(
                f"the run directory {self.path} belongs to uid {status.st_uid}; OUROBOROS_RUNDIR names another"
            )

    def _take_lock(self) -> None:
        path = os.path.join(self.path, LOCK_NAME)
        while True:
            try:
                fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
            except OSError as error:
                raise RunDirError(f"cannot open {path}: {error.strerror}") from None
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                holder = os.pread(fd, 32, 0).decode(errors="replace").strip()
                os.close(fd)
                if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                    raise AlreadyRunning(holder or "?") from None
                raise RunDirError(f"cannot lock {path}: {error.strerror}") from None
            # A stopping IRMd may have removed the locked file: then the lock has no effect.
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(fd), os.stat(path)):
                    break
            os.close(fd)
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        self._lock = fd

    def listen(self) -> socket.socket:
        """The socket that clients connect to; one that an exited IRMd has left is replaced. Raises RunDirError."""
        sock = socket.socket(
            socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        )
        unborn = self.socket_path + "."
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(unborn)
            sock.bind(unborn)
            os.chmod(unborn, 0o666)  # the peer's credentials decide which requests it may make
            sock.listen(BACKLOG)
            # It gets its name last: a client that sees it can connect.
            os.rename(unborn, self.socket_path)
            self._listening = True
        except OSError as error:
            sock.close()
            with contextlib.suppress(OSError):
                os.unlink(unborn)
            raise RunDirError(f"cannot listen on {self.socket_path}: {error.strerror or error}") from None
        return sock

    def close(self) -> None:
        """Remove all files, the lock last."""
        if self._lock < 0:
            return
        for name, mine in ((SOCKET_NAME, self._listening), (LOCK_NAME, True)):
            if mine:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(os.path.join(self.path, name))
        unmount(tree_path(self.path))
        self._remove_directory()
        os.close(self._lock)
        self._lock = -1

    def _remove_directory(self) -> None:
        """Remove the directory if this process made it and it has no other files."""
        if self._made:
            with contextlib.suppress(OSError):
                os.rmdir(self.path)
