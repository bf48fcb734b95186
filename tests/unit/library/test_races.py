"""Threads that use a flow or a set in every possible way, while another thread closes it: no call reaches C without a handle.

A call on a closed flow raises FlowNotAllocatedException, on a closed set FlowEventError; no AttributeError, no AssertionError, and
no crash. The same tests run over a data plane that was built with sanitizers.
"""

from __future__ import annotations

import gc
import random
import threading
from collections.abc import Callable, Iterator
from itertools import count
from types import SimpleNamespace
from typing import Any, cast

import pytest

from irmd.memory import Memory
from ouroboros import end as flow_end
from ouroboros import event
from ouroboros.dataplane._dataplane import ffi, lib
from ouroboros.errors import (
    FlowDeallocWarning,
    FlowEventError,
    FlowException,
    FlowNotAllocatedException,
)
from ouroboros.event import FEventQueue, FlowSet
from ouroboros.fccntl import FlowProperties
from ouroboros.flow import Flow, _Facts
from ouroboros.library import Library
from ouroboros.linger import Leaving, Lingering
from ouroboros.qos import QOS_DATA, QOS_RAW
from ouroboros.rpc.messages_pb2 import FlowEndpoint
from tests.unit.dataplane.shm import SMALL, End, Pair, Process, close_all, connect

ROUNDS = 30
THREADS = 6

FRCP = {"mpl_ms": 100, "window": 64, "retransmit": True, "fin": True}


class World:
    """As much of a library as flows need, and the process at the other end."""

    def __init__(self) -> None:
        self.memory = Memory(SMALL)
        self.near, self.far = Process(self.memory), Process(self.memory)
        self.process = self.near.process
        self.events = self.near.region
        self.flows: dict[int, Flow] = {}
        self.alive = False
        self.client = SimpleNamespace(pump=lambda: True)
        self.released: list[int] = []
        self.lingering = Lingering()
        self._pairs: list[Pair] = []
        assert lib.process_watch(self.process, -1) == 0

    def attach(self, flow: Flow, *, reliable: bool) -> End:
        """Give the object a flow; returns the other end of it."""
        pair = connect(self.memory, self.near, self.far)
        if reliable:
            for end in (pair.a, pair.b):
                assert lib.frcp_io_begin(end.handle, ffi.new("struct frcp_config *", FRCP)) == 0
        self.near._handles.remove(pair.a.handle)  # the object's, which drops it
        lib.process_add(self.process, pair.a.handle)
        lib.flow_set_flags(pair.a.handle, FlowProperties.ReadWrite)
        with flow_end.switching:
            flow._library = self  # type: ignore[assignment]
            flow._fd, flow._info = pair.a.fd, _Facts(FlowEndpoint(fd=pair.a.fd))
            flow._qos = QOS_DATA if reliable else QOS_RAW
            flow._handle = ffi.gc(pair.a.handle, lib.flow_destroy)
            self.flows[flow._fd] = flow
        self._pairs.append(pair)
        return pair.b

    def leave(
        self, handle: Any, fd: int, instance: int, *, stall_timeout: float, timeo: float | None = None
    ) -> Leaving:
        lib.process_unpoll(self.process, handle)
        lib.frcp_io_set_flags(handle, 0)  # it does not linger: the other end may not read
        return Leaving(cast(Library, self), handle, fd, instance, stall_timeout=stall_timeout, timeo=timeo)

    def let_go(self, handle: Any) -> None:
        lib.process_remove(self.process, handle)
        lib.flow_detach(handle)

    def release(self, fd: int, instance: int, quiet: int = 0) -> None:
        self.released.append(fd)

    def explain(self, number: int, fd: int, handle: Any) -> str:
        return f"flow {fd}: {number}, {lib.flow_down_cause(handle)}"

    def close(self) -> None:
        for flow in list(self.flows.values()):
            flow.dealloc()
        self.lingering.wait_all([])
        for pair in self._pairs:
            pair.b.detach()
            pair.flow.release()
        gc.collect()
        close_all()
        self.memory.close()


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.close()


def _set(name: str, value: Any) -> Callable[[Flow], object]:
    return lambda one: setattr(one, name, value)


def _get(name: str) -> Callable[[Flow], object]:
    return lambda one: getattr(one, name)


def _once(one: Flow) -> object:
    return next(iter(one), None)


USES: dict[str, Callable[[Flow], object]] = {
    "write": lambda one: one.write(b"abc"),
    "writev": lambda one: one.writev([b"abc", b"defg"]),
    "writev, large": lambda one: one.writev([bytes(9000), b"x"]),
    "writeline": lambda one: one.writeline("line"),
    "write_end": Flow.write_end,
    "read": Flow.read,
    "read, in part": lambda one: one.read(1),
    "read_into": lambda one: one.read_into(bytearray(8)),
    "readv": Flow.readv,
    "recv": Flow.recv,
    "readline": Flow.readline,
    "__iter__": _once,
    "allocated": _get("allocated"),
    "pending": _get("pending"),
    "error": _get("error"),
    "fd": _get("fd"),
    "flow_id": _get("flow_id"),
    "qos": _get("qos"),
    "max_packet": _get("max_packet"),
    "mpl": _get("mpl"),
    "data": _get("data"),
    "cipher": _get("cipher"),
    "peer_certificate": _get("peer_certificate"),
    "peer": _get("peer"),
    "settimeout": lambda one: one.settimeout(0.001),
    "gettimeout": Flow.gettimeout,
    "frcp": _get("frcp"),
    "down": _get("down"),
    "peer_ended": _get("peer_ended"),
    "link_down": _get("link_down"),
    "__repr__": repr,
    "flags": _get("flags"),
    "flags, set": _set("flags", FlowProperties.ReadWrite),
    "blocking": _get("blocking"),
    "blocking, set": _set("blocking", False),
    "rcv_timeout": _set("rcv_timeout", 0.001),
    "snd_timeout": _set("snd_timeout", 0.001),
    "linger_timeout": _set("linger_timeout", 0.001),
    "rx_queue_len": _get("rx_queue_len"),
    "tx_queue_len": _get("tx_queue_len"),
    "fileno": Flow.fileno,
    "ask_room": Flow.ask_room,
    "notify_writable": Flow.notify_writable,
    "makefile": lambda one: one.makefile("rb", 0).read(1),
    "set_snd_timeout": lambda one: one.set_snd_timeout(0.001),
    "get_snd_timeout": Flow.get_snd_timeout,
    "set_rcv_timeout": lambda one: one.set_rcv_timeout(0.001),
    "get_rcv_timeout": Flow.get_rcv_timeout,
    "get_qos": Flow.get_qos,
    "get_rx_queue_len": Flow.get_rx_queue_len,
    "get_tx_queue_len": Flow.get_tx_queue_len,
    "set_flags": lambda one: one.set_flags(FlowProperties.ReadWrite),
    "get_flags": Flow.get_flags,
    "set_frct_flags": lambda one: one.set_frct_flags(7),
    "get_frct_flags": Flow.get_frct_flags,
}

WITHOUT_A_FLOW = {"allocated", "pending", "error", "fd", "down", "link_down", "peer_ended", "__repr__"}
WITHOUT_A_FLOW |= {name for name in USES if "timeout" in name} - {"settimeout", "gettimeout"}
"""What a closed flow answers."""

ENDS = {"alloc", "accept", "join", "dealloc", "close"}


def test_every_method_is_used() -> None:
    public = {name for name in dir(Flow) if not name.startswith("_")}
    assert public - ENDS == {name.partition(",")[0] for name in USES} - {"__iter__", "__repr__"}


@pytest.mark.parametrize("name", USES)
@pytest.mark.parametrize("reliable", [False, True], ids=["raw", "reliable"])
def test_a_closed_flow(world: World, name: str, reliable: bool) -> None:
    """Never allocated, or deallocated: the same answer."""
    never, closed = Flow(), Flow()
    world.attach(closed, reliable=reliable)
    closed.fileno()
    closed.dealloc()
    for one in (never, closed):
        if name in WITHOUT_A_FLOW:
            USES[name](one)
        else:
            with pytest.raises(FlowNotAllocatedException):
                USES[name](one)
        with pytest.raises(FlowDeallocWarning):
            one.dealloc()


def run(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.mark.parametrize("reliable", [False, True], ids=["raw", "reliable"])
def test_threads_use_a_flow_that_another_closes(world: World, reliable: bool) -> None:
    """Two threads close it, at any instruction of the others; the object has its next flow immediately."""
    wrong: list[BaseException] = []
    uses = list(USES.values())
    one = Flow()
    far: list[End] = [world.attach(one, reliable=reliable)]
    over = threading.Event()
    calls = count()

    def use(seed: int) -> None:
        choice = random.Random(seed).choice
        try:
            while not over.is_set():
                try:
                    choice(uses)(one)
                except FlowException:
                    pass
                next(calls)
        except BaseException as error:
            wrong.append(error)

    def answer() -> None:
        while not over.is_set():
            end = far[-1]
            end.write(b"packet")
            end.readv()

    def close() -> None:
        rng = random.Random(7)
        try:
            for _ in range(ROUNDS):
                until = next(calls) + rng.randrange(200)
                while next(calls) < until and not wrong:
                    pass
                closers = [threading.Thread(target=leave) for _ in range(2)]
                run(closers)
                assert one.fd < 0
                far.append(world.attach(one, reliable=reliable))
        except BaseException as error:
            wrong.append(error)
        finally:
            over.set()

    def leave() -> None:
        try:
            one.dealloc()
        except FlowDeallocWarning:
            pass
        except BaseException as error:
            wrong.append(error)

    run(
        [threading.Thread(target=use, args=(seed,)) for seed in range(THREADS)]
        + [threading.Thread(target=answer), threading.Thread(target=close)]
    )
    assert not wrong, wrong
    assert len(world.released) == len({*world.released}) == ROUNDS, "each descriptor is given back once"


SET_USES: dict[str, Callable[[FlowSet, Flow], object]] = {
    "add": FlowSet.add,
    "remove": FlowSet.remove,
    "zero": lambda flows, one: flows.zero(),
    "has": FlowSet.has,
    "__contains__": lambda flows, one: one in flows,
    "__len__": lambda flows, one: len(flows),
    "__iter__": lambda flows, one: list(flows),
    "__repr__": lambda flows, one: repr(flows),
    "wait": lambda flows, one: list(flows.wait(FEventQueue(), 0.001)),
    "wait, look": lambda flows, one: list(flows.wait(FEventQueue(), 0)),
    "fileno": lambda flows, one: flows.fileno(),
}


def test_every_method_of_a_set_is_used() -> None:
    public = {name for name in dir(FlowSet) if not name.startswith("_")}
    assert public - {"destroy"} <= {name.partition(",")[0] for name in SET_USES}


@pytest.mark.parametrize("name", SET_USES)
def test_a_destroyed_set(world: World, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event, "library", lambda: world)
    one, flows = Flow(), FlowSet()
    world.attach(one, reliable=False)
    flows.add(one)
    flows.destroy()
    flows.destroy()
    if name.partition(",")[0] in ("add", "wait", "fileno"):
        with pytest.raises(ValueError, match="destroyed") as caught:
            SET_USES[name](flows, one)
        assert isinstance(caught.value, FlowEventError)
    else:
        SET_USES[name](flows, one)
    with FlowSet([one]) as another:
        assert one in another


def test_threads_use_a_set_that_another_destroys(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its members are closed as well. Nothing of a closed set stays: the descriptors can be in another set."""
    monkeypatch.setattr(event, "library", lambda: world)
    wrong: list[BaseException] = []
    uses = list(SET_USES.values())
    members = [Flow() for _ in range(3)]
    far = [[world.attach(one, reliable=False)] for one in members]
    current = [FlowSet(members)]
    over = threading.Event()
    calls = count()

    def use(seed: int) -> None:
        choice = random.Random(seed).choice
        try:
            while not over.is_set():
                try:
                    choice(uses)(current[-1], choice(members))
                except FlowException:
                    pass
                next(calls)
        except BaseException as error:
            wrong.append(error)

    def destroy() -> None:
        rng = random.Random(3)
        try:
            for turn in range(ROUNDS):
                until = next(calls) + rng.randrange(100)
                while next(calls) < until and not wrong:
                    far[turn % 3][-1].write(b"packet")
                if turn % 2:
                    members[turn % 3].dealloc()
                    far[turn % 3].append(world.attach(members[turn % 3], reliable=False))
                old = current[-1]
                current.append(FlowSet())
                old.destroy()
        except BaseException as error:
            wrong.append(error)
        finally:
            over.set()

    run(
        [threading.Thread(target=use, args=(seed,)) for seed in range(THREADS)]
        + [threading.Thread(target=destroy)]
    )
    assert not wrong, wrong
    current[-1].destroy()
    with FlowSet(members) as last:
        assert len(last) == 3
