"""Client: a process's end of its RPC connection with the IRMd (docs/design/overview.md; paper 5.1).

Used by the library, by the tools and by IPCPs; synchronous, without an event loop and without a thread of its own.

Any number of threads may have calls outstanding. One of the waiting threads is the *leader*: it blocks in recvmsg and
delivers every message to its receiver. The others are *followers*, asleep on a gate of their own. A leader whose
reply has arrived makes way and wakes one follower, which leads next. So a process with one thread pays for one sendmsg
and one recvmsg per call, and no thread is woken for another's reply. `run_once()` leads without blocking: for event
loops, with `fileno()`.

Signals: Python runs handlers between bytecodes, so Ctrl-C could strike between the return of recvmsg and the use of
its result, and a reply with descriptors would be lost. recvmsg is therefore called from C (map) and its result stored
from C (deque.extend): received messages are in the inbox, and the next leader delivers them.

Callbacks run in the thread that happens to lead, outside of all locks; they may call the client, but while a callback
waits, all waiting threads wait.
"""

from __future__ import annotations

import socket
import sys
from collections import deque
from collections.abc import Callable, Sequence
from errno import EMSGSIZE, ENOTSUP
from itertools import count
from threading import Lock, RLock, get_ident

from ..errors import EIRMD, FlowException, IrmdError, IrmError, OuroborosError, error
from ..owner import Owner
from ..version import __version__
from .codec import FD_SPACE, MAX_MESSAGE, RPC_VERSION, DescriptorsLost, ProtocolError, close_fds, decode, send
from .locate import await_socket, open_socket, running_program
from .messages_pb2 import Bye, Cancel, Envelope, Hello, Welcome

__all__ = ["Client", "Completion", "Handler", "Hello"]

Handler = Callable[[Envelope, list[int]], None]
Completion = Callable[[Envelope | None, list[int], OuroborosError | None], None]

_RECEIVE = (socket.MSG_CMSG_CLOEXEC,)
_RECEIVE_NOW = (socket.MSG_CMSG_CLOEXEC | socket.MSG_DONTWAIT,)


class _Pending:
    """A request without its reply."""

    __slots__ = ("callback", "default", "envelope", "failed", "fds", "gate", "id", "leads", "sent")

    def __init__(self, number: int, callback: Completion | None, default: type[OuroborosError]) -> None:
        self.id = number
        self.callback = callback
        self.default = default
        self.envelope: Envelope | None = None
        self.fds: list[int] = []
        self.failed = False  # the connection has ended: no reply will arrive
        self.sent = False
        self.leads = False
        self.gate: Lock | None = None

    @property
    def done(self) -> bool:
        return self.envelope is not None or self.failed

    def wake(self) -> None:
        gate = self.gate
        if gate is not None:
            try:
                gate.release()
            except RuntimeError:
                pass  # awake already


class Client(Owner):
    """One RPC connection. A context manager: leaves by `close()`.

    Attributes that may be set at any time; each is called with (envelope, descriptors):
      on_message       every message, in the order of arrival and before anything else is done with it, in the receiving
                       thread: the place to learn of new resources. It must not call the client.
      on_notification  messages with id 0
      on_request       requests of the IRMd; answer with `reply()`. None: they are refused with ENOTSUP.
      on_orphan        successful replies to calls that were given up: it releases their resources
    A callback owns the descriptors of its message; those of a message without a callback are closed.
    """

    def __init__(
        self,
        sock: socket.socket,
        kind: Hello.Kind.ValueType,
        *,
        path: str = "",
        program: str = "",
        layout_version: int = 0,
    ) -> None:
        """Greet the IRMd at the other end of `sock`, which then belongs to the client.

        `path` is the address of the socket, for messages; `program` the executable or script by its real path
        (default: those of this process); `layout_version` that of the shared memory which this process can map.
        Raises IrmError with the IRMd's text when it refuses, IrmdError when it disconnects.
        """
        self.path = path
        self.on_message: Handler | None = None
        self.on_notification: Handler | None = None
        self.on_request: Handler | None = None
        self.on_orphan: Handler | None = None
        self._sock = sock
        self._lock = RLock()  # guards the next five; a signal handler may call
        self._waiting: dict[int, _Pending] = {}
        self._followers: dict[int, _Pending] = {}
        self._leader: int | None = None  # ident of the thread that may receive
        self._depth = 0  # how often it is inside of itself: a callback may call
        self._lost = ""  # why nothing can be sent any more
        self._inbox: deque[tuple[bytes, list[tuple[int, int, bytes]], int, object]] = deque()
        self._ids = count(1)
        sock.setblocking(True)
        hello = Hello(
            kind=kind,
            rpc_version=RPC_VERSION,
            layout_version=layout_version,
            program=program or running_program(),
            version=__version__,
        )
        try:
            reply, fds = self.call(Envelope(hello=hello), cancellable=False, default=IrmError)
        except BaseException:
            sock.close()
            raise
        self.welcome: Welcome = reply.welcome
        self.welcome_fds: list[int] = fds

    @classmethod
    def connect(cls, kind: Hello.Kind.ValueType, *, program: str = "", layout_version: int = 0) -> Client:
        """Find the IRMd (`locate`) and greet it; a tool waits for one that is starting. Raises IrmdError with the
        places where it was looked for."""
        sock, path = await_socket() if kind == Hello.TOOL else open_socket()
        return cls(sock, kind, path=path, program=program, layout_version=layout_version)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Client {self.path or 'IRMd'}{' closed' if self.closed else ''}>"

    # ------------------------------------------------------------ requests

    def call(
        self,
        envelope: Envelope,
        fds: Sequence[int] = (),
        *,
        cancellable: bool = True,
        default: type[OuroborosError] = FlowException,
    ) -> tuple[Envelope, list[int]]:
        """Send a request and wait for its reply: (reply, descriptors), which the caller then owns.

        An error reply is raised as `errors.error(number, text, default=default)`, a lost IRMd as IrmdError. When
        the wait is interrupted (KeyboardInterrupt) the request is cancelled and its final reply awaited, so that
        nothing which it made is left behind; a second interruption does not wait. `cancellable=False` leaves the
        request running instead.
        """
        pending = _Pending(next(self._ids), None, default)
        try:
            self._post(pending, envelope, fds)
            self._wait(pending)
            failure = self._failure(pending)
            if failure is None:
                assert pending.envelope is not None
                return pending.envelope, pending.fds
        except OuroborosError:
            raise
        except BaseException:
            self._give_up(pending, cancellable)
            raise
        raise failure

    def submit(
        self,
        envelope: Envelope,
        callback: Completion,
        fds: Sequence[int] = (),
        *,
        default: type[OuroborosError] = FlowException,
    ) -> int:
        """Send a request whose reply goes to `callback(reply, descriptors, None)`, or `callback(None, [], error)`.

        The callback runs in the receiving thread (in `run_once`, or in a waiting `call`). Returns the id, for
        `cancel`. Raises IrmdError when the connection has ended; then the callback is never called.
        """
        pending = _Pending(next(self._ids), callback, default)
        self._post(pending, envelope, fds)
        return pending.id

    def cancel(self, number: int) -> None:
        """Ask the IRMd to give up a request. Its final reply, an error or a success that was faster, still arrives."""
        try:
            self.notify(Envelope(cancel=Cancel(id=number)))
        except IrmdError:
            pass  # the loss of the IRMd is its final reply

    def notify(self, envelope: Envelope, fds: Sequence[int] = ()) -> None:
        """Send a message that is not answered. Takes no lock: a finaliser may call it. Raises IrmdError."""
        envelope.id = 0
        self._send(envelope, fds)

    def reply(
        self, request: Envelope, answer: Envelope | OSError | None = None, fds: Sequence[int] = ()
    ) -> None:
        """Answer a request of the IRMd: with a body, with an error, or with plain success (None)."""
        if isinstance(answer, OSError):
            failure = answer
            answer = Envelope(error=failure.errno or EIRMD, text=failure.strerror or str(failure))
        elif answer is None:
            answer = Envelope()
        answer.id = request.id
        answer.reply = True
        self._send(answer, fds)

    # ------------------------------------------------------------ receiving

    def run_once(self) -> bool:
        """Receive and deliver all pending messages, without blocking; False when the connection has ended.

        Does nothing while another thread leads, because the leader delivers.
        """
        turn = _Pending(0, None, OuroborosError)
        try:
            if not self._take_lead(turn):
                return not self._lost
            while True:
                self._deliver_inbox()
                if self._lost:
                    return False
                self._receive(_RECEIVE_NOW)
        except BlockingIOError:
            return True
        finally:
            self._make_way(turn)

    def fileno(self) -> int:
        """Readable when `run_once()` has something to do; -1 when closed."""
        return self._sock.fileno()

    @property
    def closed(self) -> bool:
        """Whether the connection has been closed, or lost."""
        return bool(self._lost)

    def close(self) -> None:
        """Say good-bye and end the connection; calls that are outstanding raise IrmdError. May be repeated."""
        if self._sock.fileno() < 0:
            return
        try:
            self._sock.send(Envelope(bye=Bye()).SerializeToString(), socket.MSG_DONTWAIT)
        except OSError:
            pass  # it has exited already, or does not listen
        # Before a leader in another thread wakes, which would take the shutdown for the IRMd's end.
        self._lose("the connection with the IRMd has been closed")
        try:
            self._sock.shutdown(socket.SHUT_RDWR)  # wakes the leader
        except OSError:
            pass  # disconnected already
        self._sock.close()

    def abandon(self) -> None:
        """In a forked child: drop the connection, which is the parent's, without sending anything."""
        self._lock = RLock()  # the old one may be held by a thread that does not exist here
        self._leader = None
        self._depth = 0
        self._waiting.clear()
        self._followers.clear()
        self._inbox.clear()
        self._lost = "this connection with the IRMd belongs to the parent process"
        self._sock.close()

    # ------------------------------------------------------------ inside

    def _post(self, pending: _Pending, envelope: Envelope, fds: Sequence[int]) -> None:
        """Send a request. The reply may be faster than the return of send, so it is expected first (spec/lessons 27)."""
        envelope.id = pending.id
        with self._lock:
            self._waiting[pending.id] = pending
        try:
            self._send(envelope, fds)
            pending.sent = True
        except OuroborosError:
            with self._lock:
                self._waiting.pop(pending.id, None)
            raise
        if self._lost:
            # Lost between the two: _lose() may have missed this one.
            with self._lock:
                if self._waiting.pop(pending.id, None) is not None:
                    raise self._disconnected()

    def _send(self, envelope: Envelope, fds: Sequence[int]) -> None:
        if self._lost:
            raise self._disconnected()
        try:
            send(self._sock, envelope, tuple(fds))
        except OSError:
            raise self._disconnected() from None
        except ProtocolError as exc:
            raise error(EMSGSIZE, str(exc)) from None

    def _wait(self, pending: _Pending) -> None:
        """Return when `pending` is done: as leader, as follower, or as one after the other."""
        try:
            while not pending.done:
                if self._take_lead(pending):
                    self._deliver_inbox()
                    while not pending.done:
                        self._receive(_RECEIVE)
                        self._deliver_inbox()
                elif pending.gate is not None:
                    pending.gate.acquire()
        finally:
            self._make_way(pending)

    def _take_lead(self, pending: _Pending) -> bool:
        """Lead if no other thread leads; else have `pending` wait at its gate.

        The same thread leads already: this call of a callback, or of a signal handler, leads inside it.
        """
        with self._lock:
            me = get_ident()
            if self._leader is None or self._leader == me:
                self._followers.pop(pending.id, None)
                # No call between these: no signal handler can run between them.
                self._depth += 1
                pending.leads = True
                self._leader = me
                return True
            if pending.id and not pending.done:
                if pending.gate is None:
                    pending.gate = Lock()
                    pending.gate.acquire()
                self._followers[pending.id] = pending
            return False

    def _make_way(self, pending: _Pending) -> None:
        """Stop leading or following, and let another thread lead if one waits."""
        with self._lock:
            self._followers.pop(pending.id, None)
            if pending.leads:
                pending.leads = False
                self._depth -= 1
                if self._depth:
                    return
                self._leader = None
            elif self._leader is not None:
                return
            heir = None
            for follower in self._followers.values():
                if follower.done:
                    follower.wake()
                elif heir is None:
                    heir = follower
            if heir is not None:
                heir.wake()

    def _receive(self, flags: tuple[int]) -> None:
        """One recvmsg into the inbox, out of the reach of signal handlers. Raises BlockingIOError."""
        try:
            self._inbox.extend(map(self._sock.recvmsg, (MAX_MESSAGE,), (FD_SPACE,), flags))
        except BlockingIOError:
            raise
        except OSError:
            self._inbox.append((b"", [], 0, None))

    def _deliver_inbox(self) -> None:
        """Deliver received messages. Only the leader does this."""
        inbox = self._inbox
        while inbox:
            data, ancillary, flags, _ = inbox[0]
            try:
                message = decode(data, ancillary, flags)
            except ProtocolError as exc:
                inbox.popleft()
                ours = isinstance(exc, DescriptorsLost)
                self._lose(
                    str(exc) if ours else f"{self._name()} sent a message that cannot be understood ({exc})"
                )
                self._sock.shutdown(socket.SHUT_RDWR)
                return
            if message is None:
                inbox.clear()
                self._lose(f"{self._name()} has disconnected; start it with `irmd`")
                return
            self._deliver(*message)

    def _deliver(self, envelope: Envelope, fds: list[int]) -> None:
        """Hand out the first message of the inbox, and take it out of there when nothing can be lost any more."""
        if self.on_message is not None:
            self._run(self.on_message, envelope, fds)
        if not envelope.reply:
            self._inbox.popleft()
            if envelope.id == 0:
                self._run(self.on_notification, envelope, fds)
            elif self.on_request is not None:
                self._run(self.on_request, envelope, fds)
            else:
                close_fds(fds)
                self.reply(envelope, OSError(ENOTSUP, "this process takes no requests"))
            return
        with self._lock:
            pending = self._waiting.get(envelope.id)
            if pending is not None and pending.callback is None:
                pending.fds = fds
                pending.envelope = envelope
            self._inbox.popleft()
            self._waiting.pop(envelope.id, None)
        if pending is None:
            close_fds(fds)  # a reply without a request
        elif pending.callback is not None:
            self._complete(pending, envelope, fds)
        else:
            pending.wake()

    def _complete(self, pending: _Pending, envelope: Envelope | None, fds: list[int]) -> None:
        assert pending.callback is not None
        if envelope is not None and not envelope.error:
            failure = None
        else:
            close_fds(fds)
            fds = []
            failure = (
                error(envelope.error, envelope.text, default=pending.default)
                if envelope
                else self._disconnected()
            )
            envelope = None
        try:
            pending.callback(envelope, fds, failure)
        except Exception:
            sys.excepthook(*sys.exc_info())

    def _run(self, handler: Handler | None, envelope: Envelope, fds: list[int]) -> None:
        """Call a handler. A defect in it is reported, and does not take down the call that happens to lead."""
        if handler is None:
            close_fds(fds)
            return
        try:
            handler(envelope, fds)
        except Exception:
            sys.excepthook(*sys.exc_info())

    def _failure(self, pending: _Pending) -> OuroborosError | None:
        if pending.envelope is None:
            return self._disconnected()
        if pending.envelope.error:
            unwanted, pending.fds = pending.fds, []
            close_fds(unwanted)
            return error(pending.envelope.error, pending.envelope.text, default=pending.default)
        return None

    def _give_up(self, pending: _Pending, cancellable: bool) -> None:
        """The caller does not wait any more: end the request, or drop its reply."""
        try:
            if cancellable and not pending.done:
                self.cancel(pending.id)
                if pending.sent:
                    self._wait(pending)
        finally:
            with self._lock:
                late = pending.envelope
                # For a later reply, or one whose delivery was interrupted half-way and will be repeated.
                pending.callback = self._orphaned if late is None else _ignore
            if late is not None:
                self._orphaned(late, pending.fds, None)

    def _orphaned(self, envelope: Envelope | None, fds: list[int], failure: OuroborosError | None) -> None:
        if envelope is None or envelope.error or failure is not None:
            close_fds(fds)
        else:
            self._run(self.on_orphan, envelope, fds)

    def _lose(self, why: str) -> None:
        """The connection has ended: every waiting call fails."""
        with self._lock:
            if self._lost:
                return
            self._lost = why
            waiting = list(self._waiting.values())
            self._waiting.clear()
            for pending in waiting:
                if pending.callback is None:
                    pending.failed = True
                    pending.wake()
        for pending in waiting:
            if pending.callback is not None and not pending.failed:
                self._complete(pending, None, [])

    def _disconnected(self) -> IrmdError:
        return IrmdError(EIRMD, self._lost or f"{self._name()} has disconnected; start it with `irmd`")

    def _name(self) -> str:
        return f"the IRMd on {self.path}" if self.path else "the IRMd"


def _ignore(envelope: Envelope | None, fds: list[int], failure: OuroborosError | None) -> None:
    """Completion of a call whose reply has been dealt with."""
