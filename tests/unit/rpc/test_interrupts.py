"""A Client whose calls are interrupted, by Ctrl-C and other signals: they are cancelled, and no received flow is lost."""

from __future__ import annotations

import errno
import os
import signal
import threading
from collections.abc import Callable, Iterator

import pytest

from ouroboros.rpc.client import Client
from ouroboros.rpc.codec import receive
from ouroboros.rpc.messages_pb2 import (
    Envelope,
    FlowAccept,
    SegmentGone,
)
from tests.unit.rpc.irmd import Irmd, alloc, background, endpoint


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
        assert client.run_once()
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
    assert client.run_once()
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
    assert client.run_once()
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
