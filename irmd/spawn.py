"""Creating the processes of IPCPs: asks the pre-loaded parent (`ipcpd.common.parent`) to fork.

The parent is started with the IRMd and started again when it dies; IPCPs do not depend on it once forked.
The IRMd watches each IPCP through a pidfd that the parent opened before it could have reaped it.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable

from ouroboros.rpc.aio_session import Session
from ouroboros.rpc.codec import close_fds
from ouroboros.rpc.messages_pb2 import Envelope
from ouroboros.rpc.service import Refusal

from .exit_status import status_text

log = logging.getLogger("irmd/spawn")

FORK_TIME = 10.0  # s; the first one waits until the parent has loaded everything
_PAUSE = 0.2  # s between two starts of a parent that exits immediately
_ATTEMPTS = 5
_EXIT_TIMEOUT = 2.0  # s that the parent may take to exit


class Spawner:
    """The parent process of IPCPs, which also reaps them: it reports the exit status of each IPCP.
    `on_failed(name, pid, how)`: one has not exited with status 0."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, *, stdout: bool, on_failed: Callable[[str, int, str], None]
    ) -> None:
        self._loop = loop
        self._stdout = stdout
        self._on_failed = on_failed
        self._process: subprocess.Popen[bytes] | None = None
        self._pidfd = -1
        self._session: Session | None = None
        self._exited: asyncio.Future[None] | None = None
        self._names: dict[int, str] = {}
        """IPCPs whose exit status the parent has not reported yet: name by pid."""
        self._all_reported = asyncio.Event()
        self._failures = 0
        self._stopping = False

    def start(self) -> None:
        """Start the parent. Raises OSError."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            os.set_inheritable(theirs.fileno(), True)
            # -P: Python imports no module from the directory that the IRMd was started in.
            command = [sys.executable, "-P", "-m", "ipcpd.common.parent", str(theirs.fileno())]
            if self._stdout:
                command.append("--stdout")
            try:
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    pass_fds=(theirs.fileno(),),
                    start_new_session=True,  # Ctrl-C at the terminal is for the IRMd
                )
            except BaseException:
                ours.close()
                raise
        try:
            self._pidfd = os.pidfd_open(self._process.pid)
        except BaseException:
            ours.close()
            self._process.kill()
            self._process.wait()
            raise
        self._exited = self._loop.create_future()
        self._loop.add_reader(self._pidfd, self._parent_exited)
        self._session = Session(
            self._loop, ours, on_message=self._on_message, on_close=lambda _session, _reason: None
        )

    async def fork(self, name: str, kind: int, channel: socket.socket) -> tuple[int, int]:
        """Fork an IPCP whose channel is `channel`; returns its pid and pidfd. Raises Refusal."""
        session = self._session
        if session is None:
            raise Refusal(errno.EAGAIN, "the parent process of IPCPs is being started again; try again")
        envelope = Envelope()
        envelope.ipcp_create.name = name
        envelope.ipcp_create.type = kind
        future: asyncio.Future[tuple[int, int]] = self._loop.create_future()

        def forked(reply: Envelope | None, fds: list[int]) -> None:
            if reply is not None and not reply.error:
                self._names[reply.ipcp_info.pid] = name
            if future.done():
                close_fds(fds)
            elif reply is None:
                future.set_exception(Refusal(errno.EAGAIN, "the parent process of IPCPs does not answer"))
            elif reply.error:
                future.set_exception(Refusal(reply.error, reply.text))
            else:
                self._failures = 0
                future.set_result((reply.ipcp_info.pid, fds[0]))

        session.request(envelope, forked, timeout=FORK_TIME, fds=(channel.fileno(),))
        return await future

    def _on_message(self, _session: Session, envelope: Envelope, fds: list[int]) -> None:
        close_fds(fds)
        if envelope.WhichOneof("body") == "ipcp_info":
            self._reaped(envelope.ipcp_info.pid, int(envelope.ipcp_info.state))

    def _reaped(self, pid: int, status: int) -> None:
        name = self._names.pop(pid, "")
        if status != 0:
            self._on_failed(name, pid, status_text(status))
        if not self._names:
            self._all_reported.set()

    def _parent_exited(self) -> None:
        process = self._process
        if process is None or process.poll() is None:
            return
        self._clear()
        if self._exited is not None and not self._exited.done():
            self._exited.set_result(None)
        if self._stopping:
            return
        self._failures += 1
        log.error("the parent process of IPCPs (pid %d) %s", process.pid, status_text(process.returncode))
        if self._failures > _ATTEMPTS:
            log.error("it is not started again: no IPCP can be created until the IRMd is restarted")
            return
        self._loop.call_later(_PAUSE * self._failures, self._restart)

    def _restart(self) -> None:
        if self._stopping:
            return
        try:
            self.start()
        except OSError as error:
            log.error("cannot start the parent process of IPCPs: %s", error)

    def _clear(self) -> None:
        if self._pidfd >= 0:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1
        if self._session is not None:
            self._session.close()
            self._session = None
        self._process = None
        self._names.clear()  # init reaps the IPCPs of this parent
        self._all_reported.set()

    async def stop(self) -> None:
        """Stop the parent, once its IPCPs have exited and it has reported their status."""
        self._stopping = True
        process = self._process
        if process is None:
            return
        if self._names:
            self._all_reported.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._all_reported.wait(), _EXIT_TIMEOUT)
        if self._session is not None:
            self._session.close()
            self._session = None
        exited = self._exited
        assert exited is not None
        await asyncio.wait([exited], timeout=_EXIT_TIMEOUT)
        if not exited.done():
            process.send_signal(signal.SIGKILL)
            await exited
