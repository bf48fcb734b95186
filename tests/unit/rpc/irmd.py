"""The other end of a Client's connection: an IRMd that a test answers for by hand."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable

from ouroboros.rpc.client import Client
from ouroboros.rpc.codec import receive, send
from ouroboros.rpc.messages_pb2 import (
    Envelope,
    FlowAlloc,
    FlowEndpoint,
    Hello,
    Welcome,
)


class Irmd:
    """The other end: what it receives, and a way to answer by hand."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock

    def receive(self) -> Envelope:
        message = receive(self.sock)
        assert message is not None
        return message[0]

    def answer(self, request: Envelope, body: Envelope | None = None, fds: tuple[int, ...] = ()) -> None:
        body = body or Envelope()
        body.id = request.id
        body.reply = True
        send(self.sock, body, fds)

    def at_end(self) -> bool:
        return receive(self.sock) is None


def background(work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def make(program: str = "") -> tuple[Client, Irmd, Envelope]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    irmd = Irmd(theirs)
    hello: list[Envelope] = []

    def greet() -> None:
        hello.append(irmd.receive())
        irmd.answer(hello[0], Envelope(welcome=Welcome(version="0.1.0", process=7)))

    thread = background(greet)
    client = Client(ours, Hello.TOOL, path="/x/irm.sock", program=program)
    thread.join()
    return client, irmd, hello[0]


def alloc(name: str) -> Envelope:
    return Envelope(flow_alloc=FlowAlloc(dst=name))


def endpoint(number: int) -> Envelope:
    return Envelope(flow_endpoint=FlowEndpoint(fd=number))
