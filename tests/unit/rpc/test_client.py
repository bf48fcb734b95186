"""Client: leader and followers, cancellation, loss of the IRMd, fork. The IRMd is the other end of a socketpair."""

from __future__ import annotations

import errno
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from ouroboros.errors import EFLOWDOWN, EIRMD, FlowDownException, FlowTimeout, IrmdError, IrmError
from ouroboros.rpc.client import Client
from ouroboros.rpc.codec import RPC_VERSION, receive, send
from ouroboros.rpc.locate import running_program
from ouroboros.rpc.messages_pb2 import (
    Envelope,
    FlowAccept,
    FlowAlloc,
    FlowDone,
    FlowEndpoint,
    Hello,
    IpcpReg,
    SegmentGone,
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


@pytest.fixture
def pair() -> Iterator[tuple[Client, Irmd]]:
    client, irmd, _ = make()
    yield client, irmd
    client.close()
    irmd.sock.close()


ALLOC = Envelope(flow_alloc=FlowAlloc(dst="x"))


def alloc(name: str) -> Envelope:
    return Envelope(flow_alloc=FlowAlloc(dst=name))


def endpoint(number: int) -> Envelope:
    return Envelope(flow_endpoint=FlowEndpoint(fd=number))


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
    assert client.pump()
    assert seen == ["first flow_done", "then flow_done", "first ipcp_reg", "asked"]
    reply = irmd.receive()
    assert (reply.id, reply.reply, reply.error) == (99, True, 0)
    client.on_request = None
    send(irmd.sock, Envelope(id=100, ipcp_reg=IpcpReg()))
    assert client.pump()
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
    assert client.pump() and not results
    first, second = irmd.receive(), irmd.receive()
    assert first.id == number
    irmd.answer(second, Envelope(error=errno.EPERM, text="no"))
    irmd.answer(first, endpoint(9))
    assert client.pump()
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
    assert client.pump()
    assert "a bug" in capsys.readouterr().err


class Impatient(BaseException):
    pass


@pytest.fixture
def interrupted() -> Iterator[Callable[[], None]]:
    """Interrupts the main thread as Ctrl-C does."""

    def raise_(*_: object) -> None:
        raise Impatient

    before = signal.signal(signal.SIGUSR1, raise_)
    main = threading.main_thread().ident
    assert main is not None
    yield lambda: signal.pthread_kill(main, signal.SIGUSR1)
    signal.signal(signal.SIGUSR1, before)


def test_interrupted_call_is_cancelled(pair: tuple[Client, Irmd], interrupted: Callable[[], None]) -> None:
    client, irmd = pair
    cancelled: list[int] = []

    def serve() -> None:
        request = irmd.receive()
        interrupted()
        cancelled.append(irmd.receive().cancel.id - request.id)
        irmd.answer(request, Envelope(error=errno.ECANCELED, text="cancelled"))

    thread = background(serve)
    with pytest.raises(Impatient):
        client.call(Envelope(flow_accept=FlowAccept()))
    thread.join()
    assert cancelled == [0]


def test_interrupted_call_that_succeeds_all_the_same(
    pair: tuple[Client, Irmd], interrupted: Callable[[], None]
) -> None:
    client, irmd = pair
    orphans: list[int] = []
    client.on_orphan = lambda e, _: orphans.append(e.flow_endpoint.fd)

    def serve() -> None:
        request = irmd.receive()
        interrupted()
        irmd.receive()
        irmd.answer(request, endpoint(77))

    thread = background(serve)
    with pytest.raises(Impatient):
        client.call(Envelope(flow_accept=FlowAccept()))
    thread.join()
    while not orphans:  # struck before the call had begun to wait
        assert client.pump()
    assert orphans == [77]


def test_interrupted_twice_does_not_wait(pair: tuple[Client, Irmd], interrupted: Callable[[], None]) -> None:
    client, irmd = pair
    orphans: list[int] = []
    client.on_orphan = lambda e, _: orphans.append(e.flow_endpoint.fd)
    requests: list[Envelope] = []

    def serve() -> None:
        requests.append(irmd.receive())
        interrupted()
        irmd.receive()
        interrupted()

    thread = background(serve)
    with pytest.raises(Impatient):
        client.call(Envelope(flow_accept=FlowAccept()))
    thread.join()
    irmd.answer(requests[0], endpoint(78))
    assert client.pump()
    assert orphans == [78]


def test_not_cancellable(pair: tuple[Client, Irmd], interrupted: Callable[[], None]) -> None:
    client, irmd = pair
    requests: list[Envelope] = []

    def serve() -> None:
        requests.append(irmd.receive())
        interrupted()

    thread = background(serve)
    with pytest.raises(Impatient):
        client.call(alloc("x"), cancellable=False)
    thread.join()
    client.notify(Envelope(segment_gone=SegmentGone()))
    assert irmd.receive().WhichOneof("body") == "segment_gone"  # and nothing before it


def test_interrupted_follower_leaves_the_others_alone(
    pair: tuple[Client, Irmd], interrupted: Callable[[], None]
) -> None:
    client, irmd = pair
    results: list[int] = []
    other = background(lambda: results.append(client.call(alloc("a"))[0].flow_endpoint.fd))
    first = irmd.receive()

    def serve() -> None:
        request = irmd.receive()
        interrupted()
        irmd.receive()
        irmd.answer(request, Envelope(error=errno.ECANCELED))
        irmd.answer(first, endpoint(5))

    thread = background(serve)
    with pytest.raises(Impatient):
        client.call(alloc("b"))
    thread.join()
    other.join()
    assert results == [5]


def test_interrupted_at_any_moment(pair: tuple[Client, Irmd], interrupted: Callable[[], None]) -> None:
    """Wherever Ctrl-C strikes, among other threads that call: each flow is either returned or an orphan, once."""
    client, irmd = pair
    made: list[int] = []
    got: list[int] = []
    mine: list[int] = []
    orphans: list[int] = []
    client.on_orphan = lambda e, _: orphans.append(e.flow_endpoint.fd)
    strikes, limit = 0, 300
    struck = threading.Event()  # the last strike has been felt
    ended = threading.Event()

    def serve() -> None:
        waiting: list[Envelope] = []
        while (message := receive(irmd.sock)) is not None:
            request = message[0]
            if request.WhichOneof("body") == "flow_alloc":
                waiting.append(request)
            for one in list(waiting):
                # Some of the main thread's are answered late, so that Cancel still finds them.
                if one.flow_alloc.dst != "main" or len(made) % 3:
                    waiting.remove(one)
                    made.append(one.id)
                    irmd.answer(one, endpoint(one.id))
            if request.WhichOneof("body") == "cancel":
                for one in [one for one in waiting if one.id == request.cancel.id]:
                    waiting.remove(one)
                    irmd.answer(one, Envelope(error=errno.ECANCELED))

    def strike() -> None:
        while not ended.is_set():
            struck.wait()
            struck.clear()
            if not ended.is_set():
                interrupted()

    def work() -> None:
        while not ended.is_set():
            got.append(client.call(alloc("x"))[0].flow_endpoint.fd)

    threads = [background(serve), background(strike), background(work), background(work)]
    while strikes < limit:
        try:
            struck.set()
            while True:
                mine.append(client.call(alloc("main"))[0].flow_endpoint.fd)
        except Impatient:
            strikes += 1
    ended.set()
    struck.set()
    for thread in threads[1:]:
        thread.join()
    assert client.pump()
    assert sorted(got + mine + orphans) == sorted(made)
    client.close()
    threads[0].join()


def test_signals_that_do_not_raise_do_not_disturb(pair: tuple[Client, Irmd]) -> None:
    client, irmd = pair
    count: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda *_: count.append(1))
    main = threading.main_thread().ident
    assert main is not None

    def serve() -> None:
        request = irmd.receive()
        signal.pthread_kill(main, signal.SIGUSR1)
        while not count:
            os.sched_yield()
        irmd.answer(request, endpoint(1))

    thread = background(serve)
    try:
        assert client.call(alloc("x"))[0].flow_endpoint.fd == 1
    finally:
        thread.join()
        signal.signal(signal.SIGUSR1, before)


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
    assert not client.pump()
    with pytest.raises(IrmdError):
        client.call(alloc("x"))
    with pytest.raises(IrmdError):
        client.notify(Envelope(segment_gone=SegmentGone()))


def test_garbage_from_the_irmd(pair: tuple[Client, Irmd]) -> None:
    client, irmd = pair
    irmd.sock.send(b"\xff\xff\xff")
    assert not client.pump()
    with pytest.raises(IrmdError, match="understood"):
        client.call(alloc("x"))


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
