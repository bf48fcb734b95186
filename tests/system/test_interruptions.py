"""Threads and signals in calls on flows, over a real IRMd: a blocked call can be interrupted, and no packet is lost (docs/reference/api.md)."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.system.conftest import System
from tests.system.ends import (
    QOS_DATA,
    QOS_RAW,
    FEventQueue,
    Flow,
    FlowDownException,
    FlowException,
    FlowNotAllocatedException,
    FlowSet,
    FlowTimeout,
    allocated,
    bind,
    conserved,
    ends,
    flow_accept,
    flow_alloc,
    irm,
    raises,
    scenario,
    start,
)


def threads_share_a_flow() -> None:
    client, server = ends()
    got: list[list[bytes]] = [[] for _ in range(4)]

    def read(mine: list[bytes]) -> None:
        try:
            while True:
                mine.append(server.read())
        except FlowDownException:
            pass

    def write(k: int) -> None:
        for i in range(500):
            client.write(b"%d %d" % (k, i))

    threads = [threading.Thread(target=read, args=(mine,)) for mine in got]
    writers = [threading.Thread(target=write, args=(k,)) for k in range(3)]
    for thread in threads + writers:
        thread.start()
    for thread in writers:
        thread.join()
    client.dealloc()
    for thread in threads:
        thread.join()
    everything = [data for mine in got for data in mine]
    assert sorted(everything) == sorted(b"%d %d" % (k, i) for k in range(3) for i in range(500))
    server.dealloc()


def dealloc_under_a_reader() -> None:
    for turn in range(60):
        client, server = ends()
        failures: list[BaseException] = []
        blocked = threading.Event()

        def read(flow: Flow, failures: list[BaseException], blocked: threading.Event) -> None:
            blocked.set()
            with raises(FlowNotAllocatedException) as caught:
                flow.read()
            failures.extend(caught)

        threads = [threading.Thread(target=read, args=(server, failures, blocked)) for _ in range(2)]
        for thread in threads:
            thread.start()
        blocked.wait()
        if turn % 2:
            os.sched_yield()
        server.dealloc()
        for thread in threads:
            thread.join()
        assert len(failures) == 2, failures
        client.dealloc()


def event_loops_use_what_a_thread_closes() -> None:
    """Two event loops and a blocking thread share flows and a set; another thread closes all, at any moment."""
    import asyncio

    from ouroboros import aio

    wrong: list[BaseException] = []
    sets: list[aio.FlowSet] = []

    async def packets(flow: aio.Flow) -> None:
        while True:
            await flow.write(b"packet")
            await flow.read()

    async def events(flow: aio.Flow) -> None:
        sets.append(aio.FlowSet([flow]))
        while True:
            await sets[-1].events()
            await flow.recv()

    async def loop(uses: list[Callable[[aio.Flow], Any]], flow: Flow, ready: threading.Event) -> None:
        wrapped = aio.Flow(flow)
        tasks = [asyncio.ensure_future(use(wrapped)) for use in uses]
        await asyncio.sleep(0)
        ready.set()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if not isinstance(result, FlowException):
                wrong.append(result)

    def run(uses: list[Callable[[aio.Flow], Any]], flow: Flow, ready: threading.Event) -> None:
        try:
            asyncio.run(loop(uses, flow, ready))
        except BaseException as error:
            wrong.append(error)

    for turn in range(24):
        client, server = ends(qos=QOS_DATA if turn % 2 else QOS_RAW)
        ready = [threading.Event() for _ in range(2)]
        threads = [
            threading.Thread(target=run, args=([packets, packets], server, ready[0])),
            threading.Thread(target=run, args=([packets, events], server, ready[1])),
        ]
        for thread in threads:
            thread.start()
        for one in ready:
            one.wait()
        client.rcv_timeout = client.snd_timeout = 0.001
        for _ in range(turn):
            try:
                client.write(b"packet")
                client.readv()
            except FlowTimeout:
                pass  # the reader of events does not answer
        server.dealloc()
        sets[-1].destroy()  # without a member, nothing would ever happen there
        for thread in threads:
            thread.join()
        client.dealloc()
        assert not wrong, wrong


def threads_read_as_the_process_ends() -> None:
    """Daemon threads are in calls of C, and in none, when the library closes its connection."""
    for qos in (QOS_RAW, QOS_DATA):
        client, server = ends(qos=qos)

        def talk(flow: Flow) -> None:
            while True:
                try:
                    flow.write(b"packet")
                    flow.read()
                except FlowException:
                    pass

        def look(flow: Flow) -> None:
            while True:
                try:
                    (
                        repr(flow),
                        flow.flags,
                        flow.rx_queue_len,
                        flow.frcp,
                        flow.fileno(),
                        flow.notify_writable(),
                    )
                except FlowException:
                    pass

        for use in (talk, talk, look):
            for flow in (client, server):
                threading.Thread(target=use, args=(flow,), daemon=True).start()
    client.write(b"last")


def a_storm_of_signals() -> None:
    client, server = ends()
    rung = 0

    def ring(number: int, frame: object) -> None:
        nonlocal rung
        rung += 1

    signal.signal(signal.SIGALRM, ring)
    server.rcv_timeout = 0.3
    for call in (server.read, server.recv, server.readv):
        signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
        before = time.monotonic()
        with raises(FlowTimeout):
            call()
        assert time.monotonic() - before >= 0.3
        signal.setitimer(signal.ITIMER_REAL, 0)
    with FlowSet([server]) as flows:
        signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
        before = time.monotonic()
        with raises(TimeoutError):
            flows.wait(FEventQueue(), 0.3)
        assert time.monotonic() - before >= 0.3
        with raises(FlowTimeout):
            flow_accept(0.3)
        signal.setitimer(signal.ITIMER_REAL, 0)
    assert rung > 10
    client.dealloc()
    server.dealloc()


def a_handler_that_raises() -> None:
    class Enough(Exception):
        pass

    def ring(number: int, frame: object) -> None:
        raise Enough

    signal.signal(signal.SIGALRM, ring)
    client, server = ends()
    with FlowSet([client]) as flows:
        for call in (server.read, flow_accept, lambda: flows.wait(FEventQueue())):
            signal.setitimer(signal.ITIMER_REAL, 0.03)
            with raises(Enough):
                call()
    client.write(b"still works")
    assert server.read() == b"still works"
    client.dealloc()
    server.dealloc()


SCENARIOS = [
    threads_share_a_flow,
    dealloc_under_a_reader,
    event_loops_use_what_a_thread_closes,
    threads_read_as_the_process_ends,
    a_storm_of_signals,
    a_handler_that_raises,
]


@pytest.mark.parametrize("function", SCENARIOS, ids=lambda function: function.__name__)
def test(shared: System, function: Callable[[], None]) -> None:
    scenario(shared, function)


def blocked_in_read() -> None:
    client, server = ends()
    print("blocked", flush=True)
    server.read()


def blocked_in_write() -> None:
    client, server = ends()
    print("blocked", flush=True)
    while True:
        client.write(b"x")


def blocked_in_accept() -> None:
    bind()
    with Flow() as first:
        first.accept(0)
    print("blocked", flush=True)
    flow_accept()


def blocked_in_wait() -> None:
    client, server = ends()
    with FlowSet([server]) as flows:
        print("blocked", flush=True)
        flows.wait(FEventQueue())


BLOCKED = [blocked_in_read, blocked_in_write, blocked_in_accept, blocked_in_wait]


@pytest.mark.parametrize("function", BLOCKED, ids=lambda function: function.__name__)
def test_ctrl_c_ends_a_blocked_call(shared: System, function: Callable[[], None]) -> None:
    program = start(shared, function)
    program.expect("blocked")
    assert program.stop(signal.SIGINT) == -signal.SIGINT, program.output
    assert "KeyboardInterrupt" in program.output
    assert program.output.endswith("\nKeyboardInterrupt"), program.output
    assert program.output.count("Traceback") == 1 and "ignored" not in program.output, program.output
    conserved(shared)


def accept_and_say_nothing() -> None:
    """Its end exists, and its process does not run it: it has stopped."""
    import signal

    flow = Flow()
    bind("deaf")
    flow.accept(0)
    print("accepting", flush=True)
    allocated(flow)
    signal.pause()


def linger_for_nobody(pid: str) -> None:
    """The peer will never acknowledge. Ctrl-C ends the wait; other threads and flows go on, the end lingers without its caller, and
    the layer gets the quiet time when the end is returned, here because the peer has died."""
    import signal

    from ouroboros.library import library

    notify, quiet, given_back = library().client.notify, list[int](), threading.Event()

    def listen(envelope: Any) -> None:
        notify(envelope)
        if envelope.WhichOneof("body") == "flow_dealloc" and envelope.flow_dealloc.fd == fd:
            quiet.append(envelope.flow_dealloc.quiet_s)
            given_back.set()

    library().client.notify = listen  # type: ignore[method-assign]
    ipcp = next(one.pid for one in irm.list_ipcps() if one.layer == "local")
    irm.reg_name("deaf", ipcp)
    flow = flow_alloc("deaf", QOS_DATA, layer="local")
    fd = flow.fd
    os.kill(int(pid), signal.SIGSTOP)
    flow.write(b"nobody will acknowledge this")
    mine, other = ends(qos=QOS_DATA)
    count = 0
    done = threading.Event()

    def use() -> None:
        nonlocal count
        while not done.is_set():
            mine.write(b"x")
            assert other.read() == b"x"
            count += flow.fd < 0  # it is lingering
            if count == 300:
                os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=use)
    thread.start()
    with raises(KeyboardInterrupt):
        flow.dealloc()
    done.set()
    thread.join()
    assert count >= 300
    assert not quiet, quiet
    with raises(FlowNotAllocatedException):
        flow.read()
    irm.unreg_name("deaf", ipcp)
    mine.dealloc()
    other.dealloc()
    os.kill(int(pid), signal.SIGKILL)
    given_back.wait()
    assert len(quiet) == 1 and 100 < quiet[0] <= 131, quiet


def test_ctrl_c_ends_lingering(shared: System) -> None:
    victim = start(shared, accept_and_say_nothing)
    victim.expect("accepting")
    victim.may_die_of(signal.SIGKILL)
    program = start(shared, linger_for_nobody, str(victim.pid))
    assert program.wait() == 0, program.output
    assert victim.wait() == -9
