"""Events over a real IRMd: sets, asynchronous allocation, down and up, descriptors for event loops (docs/reference/api.md)."""

from __future__ import annotations

import os
import select
import selectors
import signal
import threading
from collections.abc import Callable

import pytest

from tests.system.conftest import System
from tests.system.ends import (
    ENAME,
    EPERM,
    QOS_DATA,
    QOS_RAW,
    FEventQueue,
    FEventType,
    Flow,
    FlowDownException,
    FlowEventError,
    FlowEventTimeout,
    FlowException,
    FlowNotAllocatedException,
    FlowProperties,
    FlowSet,
    FlowTimeout,
    FlowWouldBlock,
    allocated,
    bind,
    ends,
    flow_alloc,
    irm,
    raises,
    readable,
    scenario,
    start,
)

# ---------------------------------------------------------------- asynchronous allocation


def asynchronous_alloc_and_accept() -> None:
    bind()
    server, client = Flow(), Flow()
    assert server.accept(0) is None
    assert server.pending and not server.allocated
    assert client.alloc("end", timeo=0) is None
    fds = {server.fd, client.fd}
    assert len(fds) == 2 and min(fds) >= 64
    queue = FEventQueue()
    seen: dict[Flow, FEventType] = {}
    with FlowSet([server, client]) as flows:
        while len(seen) < 2:
            for flow, kind in flows.wait(queue):
                seen[flow] = kind
        assert set(seen.values()) == {FEventType.FlowAlloc}
        assert set(seen) == {server, client}
        assert {server.fd, client.fd} == fds, "the descriptor stays"
        with raises(FlowEventTimeout):
            flows.wait(queue, 0)
        client.write(b"x")
        assert list(flows.wait(queue)) == [(server, FEventType.FlowPkt)]
        assert server.read() == b"x"
    client.dealloc()
    server.dealloc()


def asynchronous_failure() -> None:
    client = Flow()
    client.alloc("nobody", timeo=0)
    queue = FEventQueue()
    with FlowSet([client]) as flows:
        assert list(flows.wait(queue)) == [(client, FEventType.FlowAlloc)]
        assert not client.allocated and not client.pending
        assert isinstance(client.error, FlowException) and client.error.errno == ENAME
        assert "nobody" in str(client.error)
        with raises(FlowException, ENAME):
            client.write(b"x")
        with raises(FlowException, ENAME):
            client.read()
    client.dealloc()
    assert client.error is None
    client, server = ends()
    client.dealloc()
    server.dealloc()


def asynchronous_cancel() -> None:
    bind()
    for _ in range(20):
        server = Flow()
        server.accept(0)
        with raises(FlowNotAllocatedException):
            server.read()
        server.dealloc()
    flows = [Flow() for _ in range(20)]
    for flow in flows:
        flow.accept(0)
    client = flow_alloc("end")
    done = [flow for flow in flows if flow.allocated]
    assert len(done) <= 1
    for flow in flows:
        flow.dealloc()
    with raises(FlowDownException):
        client.read()
    client.dealloc()
    for _ in range(20):
        client, server = Flow(), Flow()
        server.accept(0)
        client.alloc("end", timeo=0)
        client.dealloc()
        server.dealloc()


def asynchronous_without_a_set() -> None:
    """A program may as well ask the flow, or just use it."""
    bind()
    server, client = Flow(), Flow()
    server.accept(0)
    client.alloc("end", timeo=0)
    while not client.allocated:
        os.sched_yield()
    while not server.allocated:
        os.sched_yield()
    client.write(b"x")
    assert server.read() == b"x"
    client.dealloc()
    server.dealloc()


# ---------------------------------------------------------------- sets


def packets_and_the_end() -> None:
    client, server = ends()
    queue = FEventQueue()
    with FlowSet([server]) as flows:
        assert server in flows and len(flows) == 1 and list(flows) == [server]
        client.writev([b"one", b"two"])
        assert list(flows.wait(queue)) == [(server, FEventType.FlowPkt)]
        assert queue.type == FEventType.FlowPkt
        assert server.read() == b"one"
        assert list(flows.wait(queue)) == [(server, FEventType.FlowPkt)], "a level, though it was read ahead"
        assert server.read() == b"two"
        with raises(TimeoutError):
            flows.wait(queue, 0)
        with raises(FlowEventError, EPERM):
            queue.next()
        client.write(b"last")
        client.dealloc()
        seen: list[FEventType] = []
        while FEventType.FlowDown not in seen or FEventType.FlowDealloc not in seen:
            flows.wait(queue)
            flow, kind = queue.next()
            assert flow is server
            seen.append(kind)
        assert FEventType.FlowPkt in seen
        assert server.read() == b"last"
        with raises(FlowDownException):
            server.read()
        queue = FEventQueue()
        with raises(FlowEventTimeout):
            flows.wait(queue, 0)
    server.dealloc()
    assert list(queue) == []


def events_of_a_deallocated_flow_are_dropped() -> None:
    client, server = ends()
    other_client, other = ends()
    queue = FEventQueue()
    with FlowSet([server, other]) as flows:
        client.write(b"x")
        other_client.write(b"y")
        flows.wait(queue)
        while len(queue) < 2:
            more = FEventQueue()
            flows.wait(more)
            queue = more
        server.dealloc()
        assert list(queue) == [(other, FEventType.FlowPkt)]
        assert len(flows) == 1
    for flow in (client, other_client, other):
        flow.dealloc()


def a_flow_is_in_one_set() -> None:
    client, server = ends()
    first, second = FlowSet([server]), FlowSet()
    first.add(server)
    with raises(FlowEventError, EPERM):
        second.add(server)
    with raises(FlowEventError, EPERM):
        second.add(Flow())
    first.remove(server)
    first.remove(server)
    second.add(server)
    client.write(b"x")
    with raises(FlowEventTimeout):
        first.wait(FEventQueue(), 0)
    assert list(second.wait(FEventQueue())) == [(server, FEventType.FlowPkt)]
    second.zero()
    assert len(second) == 0 and not second.has(server)
    first.add(server)
    first.destroy()
    first.destroy()
    second.add(server)
    second.destroy()
    client.dealloc()
    server.dealloc()


def declared_down_and_up() -> None:
    client, server = ends()
    queue = FEventQueue()
    with FlowSet([server]) as flows:
        client.flags = client.flags | FlowProperties.Down
        assert list(flows.wait(queue)) == [(server, FEventType.FlowDown)]
        client.flags = FlowProperties.ReadWrite
        assert list(flows.wait(queue)) == [(server, FEventType.FlowUp)]
        for _ in range(5):
            client.flags = FlowProperties.ReadWrite | FlowProperties.Down
            client.flags = FlowProperties.ReadWrite
        assert list(flows.wait(queue)) == [(server, FEventType.FlowUp)], "the state as it is now"
    client.dealloc()
    server.dealloc()


def a_set_destroyed_under_its_waiter() -> None:
    client, server = ends()
    for _ in range(50):
        flows = FlowSet([server])
        result: list[BaseException] = []

        def wait(flows: FlowSet, result: list[BaseException]) -> None:
            try:
                flows.wait(FEventQueue())
            except BaseException as failure:
                result.append(failure)

        thread = threading.Thread(target=wait, args=(flows, result))
        thread.start()
        flows.destroy()
        while thread.is_alive():
            thread.join(0.05)
            flows.destroy()  # a waiter that came late opened it anew
        assert len(result) == 1 and isinstance(result[0], FlowEventError), result
    client.dealloc()
    server.dealloc()


def threads_share_a_set() -> None:
    pairs = [ends() for _ in range(8)]
    for _, server in pairs:
        server.blocking = False
    seen: set[int] = set()
    done = threading.Event()
    with FlowSet([server for _, server in pairs]) as flows:

        def work() -> None:
            queue = FEventQueue()
            while not done.is_set():
                try:
                    flows.wait(queue, 0.2)
                except FlowEventTimeout:
                    continue
                for flow, _ in queue:
                    try:
                        seen.add(int.from_bytes(flow.read(), "little"))
                    except FlowWouldBlock:
                        pass
                    if len(seen) == 800:
                        done.set()

        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        for i in range(800):
            pairs[i % 8][0].write(i.to_bytes(4, "little"))
        done.wait()
        for thread in threads:
            thread.join()
    assert seen == set(range(800))
    for pair in pairs:
        for flow in pair:
            flow.dealloc()


# ---------------------------------------------------------------- descriptors


def select_poll_and_selectors() -> None:
    client, server = ends()
    server.blocking = False
    assert server.fileno() == server.fileno()

    def drain() -> list[bytes]:
        got = []
        while True:
            try:
                got.append(server.read())
            except FlowWouldBlock:
                return got

    with selectors.DefaultSelector() as selector:
        selector.register(server, selectors.EVENT_READ)
        for waiting in (
            lambda timeout: bool(select.select([server], [], [], timeout)[0]),
            lambda timeout: readable(server.fileno(), timeout),
            lambda timeout: bool(selector.select(timeout)),
        ):
            drain()
            assert not waiting(0)
            for i in range(100):
                client.write(b"%d" % i)
                assert waiting(None)
                assert drain() == [b"%d" % i]
                assert not waiting(0)
            client.writev([b"x"] * 100)
            assert waiting(None)
            assert server.read() == b"x"
            assert waiting(0), "99 are left"
            assert len(drain()) == 99
        client.dealloc()
        assert selector.select(None)
        with raises(FlowDownException):
            server.read()
        assert selector.select(0), "down stays readable"
        selector.unregister(server)
    server.dealloc()


def a_set_has_a_descriptor() -> None:
    client, server = ends()
    accepting = Flow()
    accepting.accept(0)
    queue = FEventQueue()
    flows = FlowSet([server, accepting])

    def events() -> list[tuple[Flow, FEventType]]:
        try:
            return list(flows.wait(queue, 0))
        except FlowEventTimeout:
            return []

    events()
    assert not readable(flows.fileno(), 0) or not events()
    events()
    assert not readable(flows.fileno(), 0)
    for _ in range(100):
        client.write(b"x")
        assert readable(flows.fileno())
        assert events() == [(server, FEventType.FlowPkt)]
        assert server.readv() == [b"x"]
        assert events() == []
        assert not readable(flows.fileno(), 0)
    other = flow_alloc("end")
    assert readable(flows.fileno())
    seen = events()
    while not seen:
        readable(flows.fileno())
        seen = events()
    assert seen == [(accepting, FEventType.FlowAlloc)]
    flows.destroy()
    for flow in (client, server, other, accepting):
        flow.dealloc()


def room_to_write() -> None:
    client, server = ends()
    client.blocking = False
    server.blocking = False
    sent = got = 0
    while sent < 20000:
        try:
            sent += client.write(b"x")
        except FlowWouldBlock:
            fd = client.notify_writable()
            if fd >= 0:
                got += len(server.readv(10))
                assert readable(fd), "there may be room"
    while got < sent:
        got += len(server.readv(1000))
    assert got == sent
    client.dealloc()
    server.dealloc()


def over_a_layer() -> None:
    """DOWN comes through an IPCP as well."""
    from ouroboros import irm

    ipcp = next(one.pid for one in irm.list_ipcps() if one.layer == "local")
    bind()
    irm.reg_name("end", ipcp)
    client, server = ends(layer="local")
    queue = FEventQueue()
    with FlowSet([server, client]) as flows:
        client.write(b"x")
        assert list(flows.wait(queue)) == [(server, FEventType.FlowPkt)]
        assert server.read() == b"x"
        client.dealloc()
        kinds = []
        while FEventType.FlowDown not in kinds:
            kinds += [kind for flow, kind in flows.wait(queue) if flow is server]
    server.dealloc()
    irm.unreg_name("end", ipcp)


SCENARIOS: list[Callable[[], None]] = [
    asynchronous_alloc_and_accept,
    asynchronous_failure,
    asynchronous_cancel,
    asynchronous_without_a_set,
    packets_and_the_end,
    events_of_a_deallocated_flow_are_dropped,
    a_flow_is_in_one_set,
    declared_down_and_up,
    a_set_destroyed_under_its_waiter,
    threads_share_a_set,
    select_poll_and_selectors,
    a_set_has_a_descriptor,
    room_to_write,
    over_a_layer,
]


@pytest.mark.parametrize("function", SCENARIOS, ids=lambda function: function.__name__)
def test(shared: System, function: Callable[[], None]) -> None:
    scenario(shared, function)


def hold_a_flow() -> None:
    client, server = ends("held")
    theirs = Flow()
    theirs.accept(0)
    print("accepting", flush=True)
    allocated(theirs)
    theirs.write(b"hello")
    print("holding", flush=True)
    theirs.read()


def meet_a_death(pid: str) -> None:
    import signal

    flow = flow_alloc("held")
    mine, other = ends()
    assert flow.read() == b"hello"
    queue = FEventQueue()
    with FlowSet([flow]) as flows:
        os.kill(int(pid), signal.SIGKILL)
        kinds = []
        while FEventType.FlowDown not in kinds:
            kinds += [kind for _, kind in flows.wait(queue)]
    with raises(FlowDownException):
        flow.read()
    with raises(FlowDownException):
        flow.write(b"x")
    mine.write(b"other flows do not notice")
    assert other.read() == b"other flows do not notice"
    for one in (flow, mine, other):
        one.dealloc()


def test_the_death_of_a_peer_is_an_event(shared: System) -> None:
    victim = start(shared, hold_a_flow)
    victim.expect("accepting")
    victim.may_die_of(signal.SIGKILL)
    scenario(shared, meet_a_death, str(victim.pid))
    assert victim.wait() == -9


def keep_quiet() -> None:
    """Accepts a flow, and sends nothing on it."""
    import signal

    flow = Flow()
    bind("quiet")
    flow.accept(0)
    print("accepting", flush=True)
    allocated(flow)
    print("has a flow", flush=True)
    signal.pause()


def notice_a_stop(pid: str, which: str) -> None:
    """Keep-alives are enough, for longer than the time-out; a peer that has stopped sends none."""
    import signal

    from ouroboros.errors import FlowPeerException

    ipcp = next(one.pid for one in irm.list_ipcps() if one.layer == "local")
    irm.reg_name("quiet", ipcp)
    qos = (QOS_DATA if which == "data" else QOS_RAW).replace(timeout=400)
    flow = flow_alloc("quiet", qos, layer="local")
    mine, other = ends()
    flow.rcv_timeout = 1.5
    with raises(FlowTimeout):
        flow.read()
    assert not flow.down
    flow.rcv_timeout = None
    queue = FEventQueue()
    os.kill(int(pid), signal.SIGSTOP)
    with FlowSet([flow]) as flows:
        kinds = [kind for _, kind in flows.wait(queue)]
        assert kinds == [FEventType.FlowPeer]
        with raises(FlowEventTimeout):
            flows.wait(queue, 0)
    with raises(FlowPeerException):
        flow.read()
    with raises(FlowPeerException):
        flow.write(b"x")
    mine.write(b"other flows do not notice")
    assert other.read() == b"other flows do not notice"
    irm.unreg_name("quiet", ipcp)
    for one in (flow, mine, other):
        one.dealloc()
    os.kill(int(pid), signal.SIGKILL)


@pytest.mark.parametrize("which", ["data", "raw"])
def test_a_peer_that_stops_is_given_up(shared: System, which: str) -> None:
    victim = start(shared, keep_quiet)
    victim.expect("accepting")
    victim.may_die_of(signal.SIGKILL)
    program = start(shared, notice_a_stop, str(victim.pid), which)
    assert program.wait() == 0, program.output
    assert victim.wait() == -9
