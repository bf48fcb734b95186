"""Forks and execs: a child has none of its parent's flows, harms none, and can have its own (docs/design/shared-memory.md)."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

import pytest

from tests.system.conftest import System
from tests.system.ends import (
    EBADF,
    QOS_DATA,
    FEventQueue,
    FlowEventError,
    FlowNotAllocatedException,
    FlowSet,
    QoSSpec,
    bind,
    ends,
    flow_alloc,
    irm,
    raises,
    readable,
    scenario,
)


def fork_with_flows(qos: QoSSpec | None = None) -> None:
    client, server = ends(qos=qos)
    flows = FlowSet([server])
    descriptor = server.fileno()
    client.writev([b"one", b"two", b"three"])
    assert server.read() == b"one", "and has read others ahead"
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            for flow in (client, server):
                with raises(FlowNotAllocatedException, EBADF, "parent"):
                    flow.read()
                with raises(FlowNotAllocatedException, EBADF, "parent"):
                    flow.readv()
                with raises(FlowNotAllocatedException, EBADF, "parent"):
                    flow.write(b"from the child")
                with raises(FlowNotAllocatedException, EBADF, "parent"):
                    flow.writev([b"from", b"the child"])
                assert repr(flow).startswith("<Flow")
                assert flow.rx_queue_len == 0
                assert not flow.down
                with raises(FlowNotAllocatedException, EBADF, "parent"):
                    flow.blocking = False
            with raises(FlowEventError):
                flows.wait(FEventQueue(), 0)
            flows.destroy()
            client.dealloc()
            del server
            code = 0
        finally:
            sys.stdout.flush()
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0
    assert not client.down and not server.down, "the child's dealloc is not ours"
    assert readable(descriptor)
    assert [server.read(), server.read()] == [b"two", b"three"]
    client.write(b"four")
    assert [flow for flow, _ in flows.wait(FEventQueue())] == [server]
    assert server.read() == b"four"
    flows.destroy()
    client.dealloc()
    server.dealloc()


def fork_with_reliable_flows() -> None:
    fork_with_flows(QOS_DATA)


def a_child_has_its_own() -> None:
    client, server = ends()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            mine, other = ends("child")
            mine.write(b"in the child")
            assert other.read() == b"in the child"
            with FlowSet([mine]) as flows:
                other.write(b"event")
                flows.wait(FEventQueue())
            to_parent = flow_alloc("end")
            to_parent.write(b"from the child")
            assert to_parent.read() == b"from the parent"
            to_parent.dealloc()
            mine.dealloc()
            other.dealloc()
            code = 0
        finally:
            if code:
                sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
            os._exit(code)
    from ouroboros.dev import flow_accept

    accepted = flow_accept()
    assert accepted.read() == b"from the child"
    accepted.write(b"from the parent")
    assert os.waitpid(pid, 0)[1] == 0
    accepted.dealloc()
    client.write(b"ours")
    assert server.read() == b"ours"
    client.dealloc()
    server.dealloc()


def a_child_that_exits_normally() -> None:
    client, server = ends()
    for _ in range(5):
        pid = os.fork()
        if pid == 0:
            sys.exit(0)  # atexit handlers, finalisers: all of the parent's objects are torn down
        assert os.waitpid(pid, 0)[1] == 0
    client.write(b"x")
    assert server.read() == b"x"
    client.dealloc()
    server.dealloc()


def a_fork_while_threads_are_busy() -> None:
    import threading

    client, server = ends()
    total = 3000

    def write() -> None:
        for i in range(total):
            client.write(i.to_bytes(4, "little"))

    got: list[bytes] = []

    def read() -> None:
        while len(got) < total:
            got.append(server.read())

    threads = [threading.Thread(target=write), threading.Thread(target=read)]
    for thread in threads:
        thread.start()
    for _ in range(15):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                with raises(FlowNotAllocatedException, EBADF):
                    client.write(b"x")
                with raises(FlowNotAllocatedException, EBADF):
                    server.readv()
                code = 0
            finally:
                os._exit(code)
        assert os.waitpid(pid, 0)[1] == 0
    for thread in threads:
        thread.join()
    assert got == [i.to_bytes(4, "little") for i in range(total)]
    client.dealloc()
    server.dealloc()


def an_exec_leaves_nothing() -> None:
    import subprocess

    client, server = ends()
    server.fileno()
    output = subprocess.run(
        ["ls", "-l", "/proc/self/fd"], stdout=subprocess.PIPE, close_fds=False, check=True
    )
    assert b"memfd" not in output.stdout, "no memory is inherited"
    assert output.stdout.count(b"socket:") <= 1
    client.write(b"x")
    assert server.read() == b"x"
    pid = os.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-c", "import ouroboros; ouroboros.Flow()"])
    assert os.waitpid(pid, 0)[1] == 0
    client.dealloc()
    server.dealloc()


def multiprocessing_works() -> None:
    import multiprocessing

    bind()
    client, server = ends()
    context = multiprocessing.get_context("fork")
    process = context.Process(target=lambda: (f := flow_alloc("end"), f.write(b"from a worker"), f.dealloc()))
    process.start()
    from ouroboros.dev import flow_accept

    flow = flow_accept()
    assert flow.read() == b"from a worker"
    process.join()
    assert process.exitcode == 0
    for one in (flow, client, server):
        one.dealloc()
    assert [one.layer for one in irm.list_ipcps()] == ["local"]


SCENARIOS: list[Callable[[], None]] = [
    fork_with_flows,
    fork_with_reliable_flows,
    a_child_has_its_own,
    a_child_that_exits_normally,
    a_fork_while_threads_are_busy,
    an_exec_leaves_nothing,
    multiprocessing_works,
]


@pytest.mark.parametrize("function", SCENARIOS, ids=lambda function: function.__name__)
def test(shared: System, function: Callable[[], None]) -> None:
    scenario(shared, function, also=(fork_with_flows,) if function is fork_with_reliable_flows else ())
