"""One end of an RPC connection on an asyncio loop (docs/design/shared-memory.md; paper 5.1).

Used by the IRMd for every connection, and by an IPCP for its channel to the IRMd. asyncio's streams do not
take `SOCK_SEQPACKET`, so this is `add_reader` and `recvmsg`: messages are handled and answered inside the
reader callback, without a task or a future in between. Garbage, a truncated message or a peer that does not
read closes this connection and no other. A message with a value beyond its limit (`limits`) is refused before it reaches
a handler: a request with an error, a reply as if it were an error, and a notification is dropped. Each is counted.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections import Counter, deque
from collections.abc import Callable

from . import limits
from .codec import ProtocolError, close_fds, receive
from .codec import send as send_message
from .messages_pb2 import Envelope

log = logging.getLogger("rpc")

CHANNEL_QUEUE = 65536
"""The same for the channel of an IPCP, at both ends: the end of one process may be the end of all flows it can have."""

SEND_QUEUE = 1024
"""Messages that may wait for a peer that does not read before its connection is closed."""

_BURST = 32  # messages handled in one go, so that one busy peer cannot starve the others

Reply = Callable[[Envelope | None, list[int]], None]
"""Called once with the reply to a request, or with None when the peer has disconnected or its time is up."""


class Session:
    """A connection that carries requests in both directions.

    `on_message(session, envelope, fds)` gets requests and notifications (it owns the descriptors);
    `on_close(session, reason)` is called once, from the loop, never from within `send` or `close`.
    `refused` counts the messages with a value beyond its limit, by the name of the message.
    """

    __slots__ = (
        "_loop",
        "_sock",
        "_fd",
        "_limit",
        "_on_message",
        "_on_close",
        "_queue",
        "_refused",
        "_replies",
        "_next_id",
        "closed",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        *,
        on_message: Callable[[Session, Envelope, list[int]], None],
        on_close: Callable[[Session, str], None],
        limit: int = SEND_QUEUE,
        refused: Counter[str] | None = None,
    ) -> None:
        sock.setblocking(False)
        self._limit = limit
        self._refused: Counter[str] = Counter() if refused is None else refused
        self._loop = loop
        self._sock = sock
        self._fd = sock.fileno()
        self._on_message = on_message
        self._on_close = on_close
        self._queue: deque[tuple[Envelope, tuple[int, ...]]] = deque()
        self._replies: dict[int, tuple[Reply, asyncio.TimerHandle | None]] = {}
        self._next_id = 1
        self.closed = False
        loop.add_reader(self._fd, self._readable)

    @property
    def sock(self) -> socket.socket:
        """The socket, for its credentials."""
        return self._sock

    @property
    def outstanding(self) -> int:
        """Requests that were sent and not answered yet."""
        return len(self._replies)

    # ------------------------------------------------------------ sending

    def send(self, envelope: Envelope, fds: tuple[int, ...] = ()) -> None:
        """Send a message, or queue it; the caller keeps its descriptors. A closed session swallows it."""
        if self.closed:
            return
        if self._queue:
            self._enqueue(envelope, fds)
            return
        try:
            send_message(self._sock, envelope, fds)
        except (BlockingIOError, InterruptedError):
            self._enqueue(envelope, fds)
        except (OSError, ProtocolError) as error:
            self.close(f"cannot send: {error}")

    def reply(self, request: Envelope, envelope: Envelope, fds: tuple[int, ...] = ()) -> None:
        """Answer `request` with `envelope`."""
        envelope.id = request.id
        envelope.reply = True
        self.send(envelope, fds)

    def refuse(self, request: Envelope, errno: int, text: str) -> None:
        """Answer `request` with an error; a notification gets no answer."""
        if request.id:
            self.send(Envelope(id=request.id, reply=True, error=errno, text=text))

    def request(
        self, envelope: Envelope, on_reply: Reply, *, timeout: float | None, fds: tuple[int, ...] = ()
    ) -> int:
        """Send a request; `on_reply` is called once, at the latest after `timeout` seconds. Returns its id."""
        number = self._next_id
        self._next_id += 1
        envelope.id = number
        if self.closed:
            self._loop.call_soon(on_reply, None, [])
            return number
        timer = None if timeout is None else self._loop.call_later(timeout, self._expire, number)
        self._replies[number] = (on_reply, timer)
        self.send(envelope, fds)
        return number

    async def call(
        self, envelope: Envelope, *, timeout: float | None, fds: tuple[int, ...] = ()
    ) -> Envelope | None:
        """Send a request and wait for its reply; None when the peer has disconnected or its time is up.

        Descriptors that come with the reply are closed: use `request` where some are expected.
        """
        future: asyncio.Future[Envelope | None] = self._loop.create_future()

        def done(reply: Envelope | None, got: list[int]) -> None:
            close_fds(got)
            if not future.done():
                future.set_result(reply)

        self.request(envelope, done, timeout=timeout, fds=fds)
        return await future

    def _enqueue(self, envelope: Envelope, fds: tuple[int, ...]) -> None:
        if len(self._queue) >= self._limit:
            self.close(f"does not read its messages ({self._limit} waiting)")
            return
        copies: list[int] = []
        try:  # callers change and reuse neither, but the descriptors may be closed before they are sent
            for fd in fds:
                copies.append(os.dup(fd))
        except OSError as error:
            close_fds(copies)
            self.close(f"cannot queue descriptors: {error.strerror}")
            return
        if not self._queue:
            self._loop.add_writer(self._fd, self._writable)
        self._queue.append((envelope, tuple(copies)))

    def _writable(self) -> None:
        while self._queue:
            envelope, fds = self._queue[0]
            try:
                send_message(self._sock, envelope, fds)
            except (BlockingIOError, InterruptedError):
                return
            except (OSError, ProtocolError) as error:
                self.close(f"cannot send: {error}")
                return
            self._queue.popleft()
            close_fds(list(fds))
        self._loop.remove_writer(self._fd)

    # ------------------------------------------------------------ receiving

    def drain(self) -> None:
        """Handle the messages that a disconnected peer left behind, up to the end of the connection."""
        while not self.closed and self._receive_one():
            pass

    def _readable(self) -> None:
        for _ in range(_BURST):
            if self.closed or not self._receive_one():
                return

    def _receive_one(self) -> bool:
        """Handle one message; False when there is none now, or never again."""
        try:
            message = receive(self._sock)
        except (BlockingIOError, InterruptedError):
            return False
        except ProtocolError as error:
            self.close(f"protocol error: {error}")
            return False
        except OSError as error:
            self.close(error.strerror or str(error))
            return False
        if message is None:
            self.close("")
            return False
        envelope, fds = message
        wrong = limits.violation(envelope)
        if wrong is not None:
            self._refuse_whole(envelope, fds, wrong)
        elif envelope.reply:
            self._answered(envelope, fds)
        else:
            self._guarded(self._on_message, self, envelope, fds)
        return True

    def _guarded(self, callback: Callable[..., None], *arguments: object) -> None:
        """Call back. An exception is reported as the loop reports those of its callbacks; it costs no later message."""
        try:
            callback(*arguments)
        except Exception as error:
            context = {"message": f"Exception in {callback}", "exception": error}
            self._loop.call_exception_handler(context)

    def _refuse_whole(self, envelope: Envelope, fds: list[int], wrong: limits.Violation) -> None:
        """A message is beyond a limit: nothing of it is used."""
        close_fds(fds)
        name = envelope.WhichOneof("body") or "reply"
        self._refused[name] += 1
        log.debug("refused %s: %s", name, wrong.text)
        if envelope.reply:
            self._answered(Envelope(id=envelope.id, reply=True, error=wrong.errno, text=wrong.text), [])
        else:
            self.refuse(envelope, wrong.errno, wrong.text)

    def _answered(self, envelope: Envelope, fds: list[int]) -> None:
        entry = self._replies.pop(envelope.id, None)
        if entry is None:  # its time was up
            close_fds(fds)
            return
        on_reply, timer = entry
        if timer is not None:
            timer.cancel()
        self._guarded(on_reply, envelope, fds)

    def _expire(self, number: int) -> None:
        on_reply, _ = self._replies.pop(number)
        on_reply(None, [])

    # ------------------------------------------------------------ end

    def close(self, reason: str = "") -> None:
        """Close the connection. Every outstanding request is answered with None, then `on_close` is called."""
        if self.closed:
            return
        self.closed = True
        self._loop.remove_reader(self._fd)
        self._loop.remove_writer(self._fd)
        self._sock.close()
        for _, fds in self._queue:
            close_fds(list(fds))
        self._queue.clear()
        if self._loop.is_closed():
            return
        self._loop.call_soon(self._disconnected, reason)

    def _disconnected(self, reason: str) -> None:
        replies, self._replies = self._replies, {}
        for on_reply, timer in replies.values():
            if timer is not None:
                timer.cancel()
            self._guarded(on_reply, None, [])
        self._on_close(self, reason)
