"""Client: leader and followers, loss of the IRMd, fork. The IRMd is the other end of a socketpair."""

from __future__ import annotations

import errno
import os
import socket
import threading
from typing import Any

import pytest

from ouroboros.errors import EFLOWDOWN, EIRMD, FlowDownException, FlowTimeout, IrmdError, IrmError
from ouroboros.rpc.client import Client
from ouroboros.rpc.codec import RPC_VERSION, DescriptorsLost, ProtocolError, decode, send
from ouroboros.rpc.locate import running_program
from ouroboros.rpc.messages_pb2 import (
    Envelope,
    FlowAccept,
    FlowDone,
    Hello,
    IpcpReg,
    SegmentGone,
    Welcome,
)
from tests.unit.rpc.irmd import Irmd, alloc, background, endpoint, make


def test_hello() -> None:
    client, irmd, hello = make(program="/bin/x")
    with client:
        assert hello.hello.kind == Hello.TOOL
        assert hello.hello.rpc_version == RPC_VERSION
        assert hello.hello.program == "/bin/x"
        assert client.welcome.process == 7
        assert client.welcome_fds == []
        assert not client.closed
    assert client.closed
    assert irmd.receive().WhichOneof("body") == "bye"
    assert irmd.at_end()


def test_refused_at_the_door() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    irmd = Irmd(theirs)

    def refuse() -> None:
        irmd.answer(irmd.receive(), Envelope(error=errno.EPROTONOSUPPORT, text="your library is older"))
        theirs.close()

    thread = background(refuse)
    with pytest.raises(IrmError, match="older") as caught:
        Client(ours, Hello.TOOL)
    assert caught.value.errno == errno.EPROTONOSUPPORT
    thread.join()


def test_call_and_descriptors(pair: tuple[Client, Irmd]) -> None:
    client, irmd = pair
    reading, writing = os.pipe()
    thread = background(lambda: irmd.answer(irmd.receive(), endpoint(64), (writing,)))
    reply, fds = client.call(alloc("oping"))
    thread.join()
    assert reply.flow_endpoint.fd == 64
    os.write(fds[0], b"x")
    assert os.read(reading, 1) == b"x"
    for fd in (*fds, reading, writing):
        os.close(fd)


def test_error_replies(pair: tuple[Client, Irmd]) -> None:
    client, irmd = pair
    for number, cls in (
        (EFLOWDOWN, FlowDownException),
        (errno.ETIMEDOUT, FlowTimeout),
        (errno.ENOENT, OSError),
    ):
        thread = background(lambda n=number: irmd.answer(irmd.receive(), Envelope(error=n, text="because")))  # type: ignore[misc]
        with pytest.raises(cls, match="because") as caught:
            client.call(alloc("x"))
        thread.join()
        assert caught.value.errno == number
    thread = background(lambda: irmd.answer(irmd.receive(), Envelope(error=errno.ENOENT, text="no")))
    with pytest.raises(IrmError):
        client.call(alloc("x"), default=IrmError)
    thread.join()


def test_many_threads_replies_in_any_order(pair: tuple[Client, Irmd]) -> None:
    client, irmd = pair
    threads, rounds = 8, 20

    def serve() -> None:
        for _ in range(rounds):
            requests = [irmd.receive() for _ in range(threads)]
            for request in reversed(requests):
                irmd.answer(request, endpoint(int(request.flow_alloc.dst)))

    server = background(serve)
    barrier = threading.Barrier(threads)
    wrong: list[object] = []

    def work(number: int) -> None:
        for round_ in range(rounds):
            barrier.wait()
            wanted = number * 1000 + round_
            reply, _ = client.call(alloc(str(wanted)))
            if reply.flow_endpoint.fd != wanted:
                wrong.append((wanted, reply))

    workers = [background(lambda n=n: work(n)) for n in range(threads)]  # type: ignore[misc]
    for worker in workers:
        worker.join()
    server.join()
    assert not wrong


def test_a_long_call_does_not_hold_up_a_short_one(pair: tuple[Client, Irmd]) -> None:
    client, irmd = pair
    results: list[int] = []
    first = background(
        lambda: results.append(client.call(Envelope(flow_accept=FlowAccept()))[0].flow_endpoint.fd)
    )
    accept = irmd.receive()
    second = background(lambda: results.append(client.call(alloc("x"))[0].flow_endpoint.fd))
    irmd.answer(irmd.receive(), endpoint(2))
    second.join()
    irmd.answer(accept, endpoint(1))
    first.join()
    assert results == [2, 1]


def test_the_leader_makes_way(pair: tuple[Client, Irmd]) -> None:
    """The first waiter, who leads, is answered first; the second must learn to lead."""
    client, irmd = pair
    results: list[int] = []
    first = background(lambda: results.append(client.call(alloc("a"))[0].flow_endpoint.fd))
    one = irmd.receive()
    second = background(lambda: results.append(client.call(alloc("b"))[0].flow_endpoint.fd))
    two = irmd.receive()
    irmd.answer(one, endpoint(1))
    first.join()
    irmd.answer(two, endpoint(2))
    second.join()
    assert results == [1, 2]


def test_notifications_requests_and_order(pair: tuple[Client, Irmd]) -> None:
    client, irmd = pair
    seen: list[str] = []
    client.on_message = lambda e, _: seen.append(f"first {e.WhichOneof('body')}")
    client.on_notification = lambda e, _: seen.append(f"then {e.WhichOneof('body')}")

    def on_request(envelope: Envelope, _: list[int]) -> None:
        seen.append("asked")
        client.reply(envelope, Envelope(segment_gone=SegmentGone()))

    client.on_request = on_request
    send(irmd.sock, Envelope(flow_done=FlowDone(fd=3)))
    send(irmd.sock, Envelope(id=99, ipcp_reg=IpcpReg(hash=b"x")))
    assert client.run_once()
    assert seen == ["first flow_done", "then flow_done", "first ipcp_reg", "asked"]
    reply = irmd.receive()
    assert (reply.id, reply.reply, reply.error) == (99, True, 0)
    client.on_request = None
    send(irmd.sock, Envelope(id=100, ipcp_reg=IpcpReg()))
    assert client.run_once()
    assert irmd.receive().error == errno.ENOTSUP


def test_reply_with_an_error(pair: tuple[Client, Irmd]) -> None:
    client, irmd = pair
    client.reply(Envelope(id=5), FlowTimeout("too late"))
    answer = irmd.receive()
    assert (answer.id, answer.reply, answer.error, answer.text) == (5, True, errno.ETIMEDOUT, "too late")
    client.reply(Envelope(id=6))
    answer = irmd.receive()
    assert (answer.id, answer.reply, answer.error) == (6, True, 0)


def test_submit_and_pump(pair: tuple[Client, Irmd]) -> None:
    client, irmd = pair
    results: list[tuple[object, object]] = []

    def completion(envelope: Envelope | None, fds: list[int], failure: OSError | None) -> None:
        results.append((envelope and envelope.flow_endpoint.fd, failure and failure.errno))

    number = client.submit(alloc("a"), completion)
    client.submit(alloc("b"), completion)
    assert client.run_once() and not results
    first, second = irmd.receive(), irmd.receive()
    assert first.id == number
    irmd.answer(second, Envelope(error=errno.EPERM, text="no"))
    irmd.answer(first, endpoint(9))
    assert client.run_once()
    assert results == [(None, errno.EPERM), (9, None)]
    client.cancel(number)
    assert irmd.receive().cancel.id == number


def test_callback_may_call(pair: tuple[Client, Irmd]) -> None:
    client, irmd = pair
    inner: list[int] = []
    client.on_notification = lambda *_: inner.append(client.call(alloc("inner"))[0].flow_endpoint.fd)

    def serve() -> None:
        outer = irmd.receive()
        send(irmd.sock, Envelope(flow_done=FlowDone()))
        nested = irmd.receive()
        irmd.answer(outer, endpoint(1))  # the outer reply comes first
        irmd.answer(nested, endpoint(2))

    thread = background(serve)
    reply, _ = client.call(alloc("outer"))
    thread.join()
    assert reply.flow_endpoint.fd == 1
    assert inner == [2]


def test_a_defect_in_a_handler_is_reported(
    pair: tuple[Client, Irmd], capsys: pytest.CaptureFixture[str]
) -> None:
    client, irmd = pair

    def broken(*_: object) -> None:
        raise RuntimeError("a bug")

    client.on_notification = broken
    send(irmd.sock, Envelope(flow_done=FlowDone()))
    assert client.run_once()
    assert "a bug" in capsys.readouterr().err


def test_irmd_goes(pair: tuple[Client, Irmd]) -> None:
    client, irmd = pair
    failures: list[OSError] = []

    def work() -> None:
        try:
            client.call(alloc("x"))
        except IrmdError as exc:
            failures.append(exc)

    completed: list[OSError | None] = []
    client.submit(alloc("s"), lambda e, f, exc: completed.append(exc))
    irmd.receive()
    threads = []
    for _ in range(3):
        threads.append(background(work))
        irmd.receive()
    irmd.sock.close()
    for thread in threads:
        thread.join()
    assert len(failures) == 3
    assert all(exc.errno == EIRMD and "/x/irm.sock" in str(exc) and "`irmd`" in str(exc) for exc in failures)
    assert [exc and exc.errno for exc in completed] == [EIRMD]
    assert client.closed
    assert not client.run_once()
    with pytest.raises(IrmdError):
        client.call(alloc("x"))
    with pytest.raises(IrmdError):
        client.notify(Envelope(segment_gone=SegmentGone()))


def test_garbage_from_the_irmd(pair: tuple[Client, Irmd]) -> None:
    client, irmd = pair
    irmd.sock.send(b"\xff\xff\xff")
    assert not client.run_once()
    with pytest.raises(IrmdError, match="understood"):
        client.call(alloc("x"))


class ThreadFirst:
    """A socket that goes on after `shutdown` when the thread which that woke has ended."""

    def __init__(self, sock: socket.socket, thread: threading.Thread) -> None:
        self.sock, self.thread = sock, thread

    def __getattr__(self, name: str) -> Any:
        return getattr(self.sock, name)

    def shutdown(self, how: int) -> None:
        self.sock.shutdown(how)
        self.thread.join()


def test_close_wakes_who_waits(pair: tuple[Client, Irmd]) -> None:
    client, irmd = pair
    failures: list[OSError] = []

    def work() -> None:
        try:
            client.call(alloc("x"))
        except IrmdError as exc:
            failures.append(exc)

    thread = background(work)
    irmd.receive()
    client._sock = ThreadFirst(client._sock, thread)  # type: ignore[assignment]
    client.close()
    thread.join()
    assert "closed" in str(failures[0])
    client.close()


def test_too_large(pair: tuple[Client, Irmd]) -> None:
    client, _ = pair
    with pytest.raises(OSError) as caught:
        client.call(alloc("x" * 70000))
    assert caught.value.errno == errno.EMSGSIZE


def test_abandoned_in_a_child(pair: tuple[Client, Irmd]) -> None:
    client, irmd = pair
    child = os.fork()
    if child == 0:
        client.abandon()
        try:
            client.call(alloc("child"))
        except IrmdError:
            os._exit(0 if client.fileno() == -1 else 2)
        os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    thread = background(lambda: irmd.answer(irmd.receive(), endpoint(1)))
    reply, _ = client.call(alloc("parent"))
    thread.join()
    assert reply.flow_endpoint.fd == 1


def listen(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    folder = os.open(os.path.dirname(path), os.O_PATH)
    sock.bind(f"/proc/self/fd/{folder}/{os.path.basename(path)}")
    os.close(folder)
    sock.listen()
    return sock


@pytest.mark.parametrize("deep", [False, True])
def test_connect(tmp_path: object, monkeypatch: pytest.MonkeyPatch, deep: bool) -> None:
    rundir = os.path.join(str(tmp_path), *(["d" * 60] * 3 if deep else []))
    os.makedirs(rundir, exist_ok=True)
    monkeypatch.setenv("OUROBOROS_RUNDIR", rundir)
    with pytest.raises(IrmdError, match="no IRMd answers on .*irm.sock; start one with `irmd`"):
        Client.connect(Hello.TOOL)
    listener = listen(os.path.join(rundir, "irm.sock"))

    def serve() -> None:
        sock, _ = listener.accept()
        irmd = Irmd(sock)
        irmd.answer(irmd.receive(), Envelope(welcome=Welcome(version="1")))
        irmd.receive()

    thread = background(serve)
    with Client.connect(Hello.TOOL) as client:
        assert client.welcome.version == "1"
        assert client.path == os.path.join(rundir, "irm.sock")
    thread.join()
    listener.close()
    with pytest.raises(IrmdError):  # a socket that nobody listens on
        Client.connect(Hello.TOOL)


def test_running_program_is_a_file() -> None:
    assert os.path.isfile(running_program())


def test_lost_descriptors_are_laid_at_the_limit_of_open_files() -> None:
    """The kernel drops descriptors that the receiver has no room for: neither garbage nor the peer's fault."""
    octets = Envelope().SerializeToString()
    with pytest.raises(DescriptorsLost, match=r"this process may have \d+ open files, .*ulimit -n"):
        decode(octets, [], socket.MSG_CTRUNC)
    with pytest.raises(ProtocolError, match="truncated message"):
        decode(octets, [], socket.MSG_TRUNC)
