"""A session of a daemon: a callback that fails costs no other message and no other request."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from ouroboros.rpc.aio_session import Session
from ouroboros.rpc.codec import MAX_MESSAGE, send
from ouroboros.rpc.messages_pb2 import Envelope, NameList


def run(test: Any) -> list[str]:
    """Run a test with a session and the socket of its peer; returns the exceptions that its loop was told of."""
    told: list[str] = []

    async def bounded() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _loop, context: told.append(str(context["exception"])))
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        theirs.setblocking(False)
        with theirs:
            async with asyncio.timeout(30):
                await test(ours, theirs)

    asyncio.run(bounded())
    return told


def failing(text: str) -> Any:
    def callback(*_: object) -> None:
        raise RuntimeError(text)

    return callback


@pytest.mark.parametrize("drained", [False, True])
def test_a_failing_reply_callback_costs_no_later_message(drained: bool) -> None:
    """Neither while the peer lives, nor when what it left behind is handled."""

    async def test(ours: socket.socket, theirs: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        got: list[int] = []
        closed = loop.create_future()
        session = Session(
            loop,
            ours,
            on_message=lambda _session, envelope, _fds: got.append(envelope.id),
            on_close=lambda _session, reason: closed.set_result(reason),
        )
        number = session.request(Envelope(name_list=NameList()), failing("reply"), timeout=None)
        await loop.sock_recv(theirs, MAX_MESSAGE)
        send(theirs, Envelope(id=number, reply=True))
        send(theirs, Envelope(id=7, name_list=NameList()))
        theirs.close()
        if drained:
            session.drain()
        await closed
        assert got == [7]

    assert run(test) == ["reply"]


def test_a_failing_callback_costs_no_other_request_at_the_end() -> None:
    async def test(ours: socket.socket, theirs: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        closed = loop.create_future()
        session = Session(
            loop,
            ours,
            on_message=failing("message"),
            on_close=lambda _session, reason: closed.set_result(reason),
        )
        answers: list[object] = []
        session.request(Envelope(name_list=NameList()), failing("first"), timeout=None)
        session.request(
            Envelope(name_list=NameList()), lambda reply, _fds: answers.append(reply), timeout=None
        )
        for _ in range(2):
            await loop.sock_recv(theirs, MAX_MESSAGE)
        send(theirs, Envelope(id=7, name_list=NameList()))
        theirs.close()
        await closed
        assert answers == [None]

    assert run(test) == ["message", "first"]
