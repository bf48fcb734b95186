"""The RPC server: connections, their processes, and the dispatch of requests (paper 5.1, 5.2).

A sender whose message is no RPC message, or whose first message is not Hello, loses its connection, without an effect on
others. The IRMd watches processes through a pidfd as well as through their socket: a child that inherited the socket must
not keep the session of its exited parent alive.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import resource
import socket
from collections import Counter
from collections.abc import Mapping
from functools import partial
from itertools import count
from typing import TYPE_CHECKING

from ouroboros.ipcp_types import IpcpType
from ouroboros.log import LogLimiter
from ouroboros.rpc.aio_session import CHANNEL_QUEUE, SEND_QUEUE, Session
from ouroboros.rpc.codec import RPC_VERSION, close_fds
from ouroboros.rpc.messages_pb2 import Envelope, Hello
from ouroboros.rpc.service import Refusal, refused, result_of
from ouroboros.version import __version__

from .broker import Broker
from .descriptors import Descriptors
from .facilities import Facilities
from .ipcp_table import IpcpTable
from .manager import CANCELLABLE, ManagementHandler
from .memory import for_users
from .pace import Pace
from .peer import GROUP, Peer, peer_of, peer_pidfd, start_time, trusted
from .records import Ipcp, Process, RpcConnection
from .settings import MAX_DESCRIPTORS, Applications, Settings
from .turned_away import TurnedAway

if TYPE_CHECKING:
    from .memory import Memory

log = logging.getLogger("irmd/rpc")

_APPLICATION = Hello.Kind.APPLICATION
_TOOL = Hello.Kind.TOOL
_IPCP = Hello.Kind.IPCP
_WAITING = frozenset({"flow_alloc", "flow_accept", "flow_join", "ipcp_flow_req"})
"""Requests that may be answered later."""
PATH_MAX = 4096  # octets of a path, as for the kernel
DESCRIPTORS_OF_CONNECTION = 5
"""File descriptors of the IRMd that a connection takes: socket, pidfd, event region."""

SHARE = 4
"""One user's connections take at most this part of the IRMd's descriptors, which leaves some for other users."""

_SERVICE = "the IRMd"
_ACCEPT_BURST = 16
_ACCEPT_PAUSE = 0.2  # s without accepting when descriptors have run out


def culprit(peer: Peer) -> str:
    """The key by which log lines about a process of this peer are limited."""
    return f"processes of uid {peer.uid}"


def connections_of_one(settings: Settings) -> int:
    """How many connections one user may have."""
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return min(settings.connections, descriptors // (SHARE * DESCRIPTORS_OF_CONNECTION))


class Server:
    """All connections to the IRMd. `management` has the handler of each management request."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        settings: Settings,
        memory: Memory,
        facilities: Facilities,
        broker: Broker,
        ipcps: IpcpTable,
        management: Mapping[str, ManagementHandler],
        *,
        managers: int | None,
        layout_version: int,
    ) -> None:
        self._loop = loop
        self._settings = settings
        self._memory = memory
        self._use = facilities
        self._broker = broker
        self._ipcps = ipcps
        self._management = management
        self._managers = managers
        self._layout_version = layout_version
        self._limiter = LogLimiter(log, loop.time)
        self._uid = os.geteuid()
        self._listener: socket.socket | None = None
        self._turned_away = TurnedAway(loop)
        self._connections: dict[Session, RpcConnection] = {}
        self._per_uid: dict[int, int] = {}
        """Connections of each user. A connection counts until its process exits, also a closed one, because the IRMd keeps the
        memory and the pidfd of the process until then."""
        self._exiting: dict[int, Process | None] = {}
        """By pidfd: processes whose session is over and that still run."""
        self._tasks: set[asyncio.Task[Envelope]] = set()
        self.refused: Counter[str] = Counter()
        """Messages with a value beyond its limit, by the name of the message."""
        self._flow_handlers = {
            **broker.handlers(),
            "cancel": self._cancel,
            "bye": lambda connection, envelope: None,  # the end of the connection follows
            "ipcp_state": self._ipcp_state,
        }
        self._instances = count(1)

    # ------------------------------------------------------------ connections

    def listen(self, listener: socket.socket) -> None:
        """Accept connections on `listener`."""
        listener.setblocking(False)
        self._listener = listener
        self._loop.add_reader(listener.fileno(), self._accept)

    def _accept(self) -> None:
        for _ in range(_ACCEPT_BURST):
            listener = self._listener
            if listener is None:
                return
            try:
                sock, _ = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                # Out of descriptors: the connection stays in the queue; trying again immediately would spin.
                log.error("cannot accept a connection: %s", error.strerror)
                self._loop.remove_reader(listener.fileno())
                self._loop.call_later(_ACCEPT_PAUSE, self._resume)
                return
            self._admit(sock)

    def _resume(self) -> None:
        if self._listener is not None:
            self._loop.add_reader(self._listener.fileno(), self._accept)

    def _admit(self, sock: socket.socket) -> None:
        try:
            peer = peer_of(sock)
            full = self._full(peer.uid, sock)
            if full:
                self._limiter.warning(culprit(peer), "refused pid %d: %s", peer.pid, full)
                self._turned_away.add(sock, full)
                return
            pidfd = peer_pidfd(sock, peer)
        except (OSError, ProcessLookupError) as error:
            log.debug("a process ended while it was connecting: %s", error)
            sock.close()
            return
        may = trusted(peer, uid=self._uid, gid=self._managers)
        self._add(sock, peer, pidfd, may=may)

    def _full(self, uid: int, sock: socket.socket) -> str:
        """Why a user gets no further connection; "" when it does."""
        if uid in (0, self._uid):
            return ""
        if not for_users(sock.fileno()):
            return "users' processes have all file descriptors that the IRMd has for them; raise its limit (`ulimit -n`)"
        if self._per_uid.get(uid, 0) < connections_of_one(self._settings):
            return ""
        return (
            f"user {uid} has {self._per_uid[uid]} connections already (one that a process has closed counts until the process "
            "ends); see connections in table [irmd] of the configuration"
        )

    def _add(
        self, sock: socket.socket, peer: Peer, pidfd: int, *, may: bool, limit: int = SEND_QUEUE
    ) -> RpcConnection:
        session = Session(
            self._loop,
            sock,
            on_message=self._on_message,
            on_close=self._on_close,
            limit=limit,
            refused=self.refused,
        )
        connection = RpcConnection(session, peer, pidfd, may)
        self._connections[session] = connection
        self._per_uid[peer.uid] = self._per_uid.get(peer.uid, 0) + 1
        self._loop.add_reader(pidfd, self._process_exited, connection)
        return connection

    def adopt(self, name: str, kind: IpcpType, pid: int, pidfd: int, sock: socket.socket) -> Ipcp:
        """The connection of an IPCP that was forked with the other end of `sock`."""
        peer = Peer(pid, self._uid, os.getegid(), frozenset(), start_time(pid))
        connection = self._add(sock, peer, pidfd, may=True, limit=CHANNEL_QUEUE)
        ipcp = Ipcp(
            name,
            kind,
            pid,
            next(self._instances),
            pidfd,
            connection.session,
            self._loop.create_future(),
            self._loop.create_future(),
        )
        connection.ipcp = ipcp
        return ipcp

    def _on_close(self, session: Session, reason: str) -> None:
        connection = self._connections.pop(session, None)
        if connection is None:
            return
        peer = connection.peer
        if reason:
            self._limiter.warning(culprit(peer), "closed the %s: %s", connection, reason)
        for request in list(connection.requests.values()):
            if isinstance(request, asyncio.Task):
                request.cancel()
        if connection.process is not None:
            self._broker.process_disconnected(connection)
        if connection.pidfd >= 0:
            if connection.process is None and connection.ipcp is None:
                self._close_pidfd(connection)
            else:
                # Its blocks return once the process itself has exited, and cannot write to them any more.
                self._exiting[connection.pidfd] = connection.process

    def _process_exited(self, connection: RpcConnection) -> None:
        session = connection.session
        session.drain()  # messages that it sent before it exited, a deallocation for example, still count
        session.close()
        self._on_close(session, "")
        self._exiting.pop(connection.pidfd, None)
        self._close_pidfd(connection)
        if connection.process is not None:
            self._use.endpoints.exited(connection.process)
        if connection.ipcp is not None:
            self._ipcps.exited(connection.ipcp)

    def _close_pidfd(self, connection: RpcConnection) -> None:
        if connection.pidfd < 0:
            return  # closing the session of an exited tool has closed it already
        self._loop.remove_reader(connection.pidfd)
        os.close(connection.pidfd)
        connection.pidfd = -1
        uid = connection.peer.uid
        self._per_uid[uid] -= 1
        if not self._per_uid[uid]:
            del self._per_uid[uid]

    # ------------------------------------------------------------ messages

    def _on_message(self, session: Session, envelope: Envelope, fds: list[int]) -> None:
        if fds:
            close_fds(fds)  # no message to the IRMd carries descriptors
        connection = self._connections.get(session)
        if connection is None:
            return
        body = envelope.WhichOneof("body")
        try:
            if connection.kind is None:
                self._first(connection, envelope, body)
                return
            handler = self._flow_handlers.get(body or "")
            if handler is None:
                self._manage(connection, envelope, body)
            elif body in _WAITING and not self._may_wait(connection, envelope):
                return
            else:
                handler(connection, envelope)
        except Exception as error:  # a defect of the IRMd must not end the system
            number, text = refused(error, _SERVICE, partial(self._defect, connection, envelope))
            if isinstance(error, Refusal) or not self._use.requests.failed(
                connection, envelope.id, number, text
            ):
                session.refuse(envelope, number, text)

    def _defect(self, connection: RpcConnection, envelope: Envelope) -> None:
        about = culprit(connection.peer)
        self._limiter.exception(about, "cannot handle %s of the %s", envelope.WhichOneof("body"), connection)

    def _may_wait(self, connection: RpcConnection, envelope: Envelope) -> bool:
        """Whether a request with this id may be kept; the connection is closed when the id is 0 or in use."""
        if not envelope.id or envelope.id in connection.requests:
            connection.session.close(f"request id {envelope.id} is {'in use' if envelope.id else 'reserved'}")
            return False
        if len(connection.requests) >= self._settings.requests:
            raise Refusal(errno.EAGAIN, f"{len(connection.requests)} requests are outstanding already")
        return True

    def _cancel(self, connection: RpcConnection, envelope: Envelope) -> None:
        number = envelope.cancel.id
        found = connection.requests.get(number, self)
        if isinstance(found, asyncio.Task):
            found.cancel()  # the cancelled task sends the answer
        elif found is None:  # management: the work goes on without an answer
            del connection.requests[number]
            connection.session.refuse(Envelope(id=number), errno.EINTR, "given up")
        else:
            self._use.requests.cancel(connection, number)

    def _ipcp_state(self, connection: RpcConnection, envelope: Envelope) -> None:
        if connection.ipcp is None:
            raise Refusal(errno.EPERM, "only an IPCP has a state")
        self._ipcps.state_changed(connection.ipcp, envelope.ipcp_state.state)

    # ------------------------------------------------------------ Hello

    def _first(self, connection: RpcConnection, envelope: Envelope, body: str | None) -> None:
        session = connection.session
        if body != "hello" or not envelope.id:
            session.close(f"the first message was {body or 'empty'}, not hello")
            return
        hello = envelope.hello
        self._check_versions(hello)
        if (hello.kind == _IPCP) != (connection.ipcp is not None):
            raise Refusal(errno.EPERM, "IPCPs are started by the IRMd: `irm ipcp create`")
        answer = Envelope()
        answer.welcome.version = __version__
        fds: tuple[int, ...] = ()
        if hello.kind != _TOOL:
            try:
                fds = self._register_process(connection, hello, answer)
            except BaseException:
                if connection.process is not None:  # half registered: closing the session undoes that
                    session.close("it could not be registered")
                raise
        connection.kind = hello.kind
        session.reply(envelope, answer, fds)
        if connection.process is not None and connection.ipcp is None:
            log.debug("%s is known", connection.process)

    def _check_versions(self, hello: Hello) -> None:
        pairs = [("RPC", hello.rpc_version, RPC_VERSION)]
        if hello.kind != _TOOL:
            pairs.append(("shared-memory layout", hello.layout_version, self._layout_version))
        for what, theirs, ours in pairs:
            if theirs != ours:
                older = "the library" if theirs < ours else "the IRMd"
                raise Refusal(
                    errno.EPROTO,
                    f"{what} version {theirs} of the library ({hello.version or '?'}) and {ours} of the IRMd "
                    f"({__version__}) do not match: {older} is older, update it",
                )

    def _register_process(self, connection: RpcConnection, hello: Hello, answer: Envelope) -> tuple[int, ...]:
        """Make the record of a process. It gets a pool, an event region and an owner token."""
        ipcp, peer = connection.ipcp, connection.peer
        if self._settings.applications is Applications.MANAGERS and not connection.trusted:
            raise Refusal(
                errno.EACCES,
                f"this IRMd serves applications of its own user, of root and of the group {GROUP} only: "
                f"`usermod -aG {GROUP} USER`, then log in again",
            )
        # An IPCP has an end of every flow over its layer: as many as its event region has bits.
        limit = MAX_DESCRIPTORS if ipcp is not None else self._settings.descriptors
        try:
            process = Process(
                token=self._memory.token(),
                peer=peer,
                program=f"ipcpd-{ipcp.type.type_name}" if ipcp is not None else hello.program[:PATH_MAX],
                session=connection.session,
                pool=self._memory.pool(peer.uid, trusted=connection.trusted),
                fds=Descriptors(limit, self._instances),
                user=None if connection.trusted else peer.uid,
                ipcp=ipcp,
                pace=Pace(since=self._loop.time()),
            )
            fds = self._use.endpoints.add_process(process, answer)
        except (OSError, MemoryError) as error:
            number = error.errno if isinstance(error, OSError) and error.errno else errno.ENOMEM
            text = getattr(error, "strerror", None) or str(error)
            raise Refusal(number, f"no shared memory for another process: {text}") from None
        answer.welcome.max_flows = limit
        connection.process = process
        if ipcp is not None:
            ipcp.process = process
        for entry in self._use.registry.announce(process, manages=connection.trusted):
            self._limiter.warning(
                culprit(peer),
                "%s of uid %d is not bound to %s, which uid %d has bound that program to: `irm bind process %d name %s`, or "
                "bind the program with `user`",
                process,
                peer.uid,
                entry.name,
                entry.programs[process.program].uid,
                peer.pid,
                entry.name,
            )
        name = self._use.superserver.name_of(peer.pid)
        if name is not None:
            # Started for this name: bound to it, whatever path it reports (a wrapper, an interpreter).
            self._use.registry.bind_record(process, name)
        return fds

    # ------------------------------------------------------------ management

    def _manage(self, connection: RpcConnection, envelope: Envelope, body: str | None) -> None:
        handler = self._management.get(body or "")
        if handler is None or not envelope.id:
            connection.session.close(f"unexpected message: {body or 'empty'}")
            return
        if not connection.trusted:
            raise Refusal(
                errno.EACCES,
                f"managing this IRMd needs its own user, root, or the group {GROUP}: "
                f"`usermod -aG {GROUP} USER`, then log in again",
            )
        if not self._may_wait(connection, envelope):
            return
        answer = handler(envelope, connection.peer)
        if isinstance(answer, Envelope):
            connection.session.reply(envelope, answer)
            return
        task = self._loop.create_task(answer)
        connection.requests[envelope.id] = task if body in CANCELLABLE else None
        self._tasks.add(task)
        task.add_done_callback(partial(self._reply_with_result, connection, envelope))

    def _reply_with_result(
        self, connection: RpcConnection, envelope: Envelope, task: asyncio.Task[Envelope | None]
    ) -> None:
        self._tasks.discard(task)
        reply = result_of(task, _SERVICE, partial(self._defect, connection, envelope))
        if connection.requests.pop(envelope.id, connection) is not connection:
            connection.session.reply(envelope, reply)

    # ------------------------------------------------------------ stop

    def stop_listening(self) -> None:
        """No new connection is accepted."""
        if self._listener is not None:
            self._loop.remove_reader(self._listener.fileno())
            self._listener.close()
            self._listener = None
        self._turned_away.close()

    def close(self) -> None:
        """Close every connection: each flow goes down, so that no process waits for a stopped system."""
        for task in self._tasks:
            task.cancel()
        for session, connection in list(self._connections.items()):
            session.close()
            self._on_close(session, "")
            if connection.pidfd >= 0:
                self._exiting.pop(connection.pidfd, None)
                self._close_pidfd(connection)
        for pidfd in list(self._exiting):
            self._loop.remove_reader(pidfd)
            os.close(pidfd)
        self._exiting.clear()
