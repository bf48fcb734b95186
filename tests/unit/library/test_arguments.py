"""Every argument of the public API with values that it does not take: a TypeError or a ValueError that names it, and nothing done.

Nothing here needs an IRMd: an argument is refused before one is looked for.
"""

from __future__ import annotations

import array
import asyncio
import copy
import inspect
import pickle
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from ipcpd.dataplane.handle import Handle
from ouroboros import aio, cli, dev, event, irm, qos, testing
from ouroboros.aio.streams import FlowTransport, streams
from ouroboros.dataplane._dataplane import ffi, lib
from ouroboros.dataplane.resources import Resources
from ouroboros.dev import Fccntl, Flow, FlowProperties
from ouroboros.errors import IrmError
from ouroboros.event import FEventQueue, FEventType, FlowSet
from ouroboros.ipcp_config import IpcpConfig, UnicastConfig
from ouroboros.ipcp_types import IpcpType
from ouroboros.name_info import NameInfo, NameSecPaths
from ouroboros.qos import QOS_DATA, QoSSpec
from ouroboros.stream import FlowFile
from ouroboros.testing import FakeClock, FakeFlow, FakeNetwork, Impairment, flow_pair
from tests.unit.library.test_races import World

NAN, INF = float("nan"), float("inf")


def generator() -> Iterator[Any]:
    yield 1


class Opaque:
    """A type that nothing takes."""


NO_STR: list[Any] = [3, b"octets", ["a"], Opaque(), True, "\udcff"]
NO_INTEGER: list[Any] = [None, "3", 1.5, NAN, INF, True, b"1", [1], Opaque()]
NO_COUNT = [*NO_INTEGER, -1]
NO_SECONDS: list[Any] = ["1", b"1", True, NAN, INF, -INF, 1e300, 10**400, [1], Opaque()]
NO_TIME = [*NO_SECONDS, -1, -0.5]
NO_NUMBER = [*NO_SECONDS[:-4], [1], Opaque(), None]
NO_OCTETS: list[Any] = [
    None,
    3,
    "text",
    ["a"],
    {1: 2},
    generator(),
    Opaque(),
    True,
]
NO_ROOM = [*NO_OCTETS, b"octets", memoryview(b"octets"), memoryview(bytearray(b"abcdef"))[::2]]
NO_QOS: list[Any] = ["data", 3, (1, 2), Opaque(), True, QoSSpec]
NO_FLOW: list[Any] = [None, 3, "flow", Opaque(), True]
NO_FLAGS: list[Any] = [*NO_INTEGER, -1, 1 << 20, 1 << 40]
NO_TEXTS: list[Any] = ["name", b"name", 3, [3], [None], Opaque(), ["\udcff"]]
NO_ENUM: list[Any] = [None, "unicast", 99, -1, 1.5, NAN, Opaque(), True]
NO_BOOL: list[Any] = [None, "yes", 1.5, [1], Opaque()]
NO_FUNCTION: list[Any] = [None, 3, "call", Opaque()]
NO_PACKETS: list[Any] = [
    None,
    3,
    "text",
    b"octets",
    generator(),
    {b"a"},
    {0: b"a"},
    [b"a", "b"],
    ["b"],
    [b"a", 3],
    [None],
    [memoryview(b"abcdef")[::2], 3],
]
NO_IPCP_CONFIG: list[Any] = [None, 3, "unicast", Opaque(), UnicastConfig()]

BY_ANNOTATION: dict[str, list[Any]] = {
    "Ipcp": NO_COUNT,
    "str": NO_STR,
    "int": NO_COUNT,
    "bool": NO_BOOL,
    "float": NO_SECONDS,
    "QoSSpec": NO_QOS,
    "IpcpType": NO_ENUM,
    "LoadBalancePolicy": NO_ENUM,
    "Requirement": NO_ENUM,
    "IpcpConfig": NO_IPCP_CONFIG,
    "IpcpConfig | Callable[[IpcpType], IpcpConfig]": NO_IPCP_CONFIG,
    "NameInfo": [None, "name", 3, Opaque()],
    "NameSecPaths": ["path", 3, Opaque(), ("a", "b", "c")],
    "Sequence[str]": NO_TEXTS,
    "Iterable[str]": NO_TEXTS,
    "Callable[[IpcpInfo], object]": NO_FUNCTION,
}
RIGHT: dict[str, Any] = {
    "Ipcp": 1,
    "str": "name",
    "int": 1,
    "bool": False,
    "QoSSpec": QOS_DATA,
    "IpcpType": IpcpType.UNICAST,
    "LoadBalancePolicy": 0,
    "IpcpConfig": IpcpConfig(IpcpType.LOCAL, "layer"),
    "IpcpConfig | Callable[[IpcpType], IpcpConfig]": IpcpConfig(IpcpType.LOCAL, "layer"),
    "NameInfo": NameInfo("name"),
}


def refuses(call: Callable[[Any], Any], name: str, value: Any) -> None:
    """The call raises what it should for this value."""
    try:
        result = call(value)
    except (TypeError, ValueError) as error:
        assert name in str(error), f"{name} = {value!r}: {error!r} does not name it"
        return
    except Exception as error:
        raise AssertionError(f"{name} = {value!r}: {error!r}") from error
    raise AssertionError(f"{name} = {value!r} was taken: {result!r}")


# ---------------------------------------------------------------- irm and cli, by their signatures


def _managing() -> Iterator[tuple[str, str]]:
    for module in (irm, cli):
        for name in module.__all__:
            if inspect.isfunction(getattr(module, name)):
                yield module.__name__, name


@pytest.mark.parametrize("module,name", list(_managing()))
def test_management(module: str, name: str) -> None:
    function = getattr({"ouroboros.irm": irm, "ouroboros.cli": cli}[module], name)
    parameters = inspect.signature(function).parameters.values()
    right = {}
    for one in parameters:
        kind = one.annotation.removesuffix(" | None")
        if one.default is inspect.Parameter.empty:
            right[one.name] = RIGHT[kind]
    for one in parameters:
        optional = one.annotation.endswith(" | None")
        for value in BY_ANNOTATION[one.annotation.removesuffix(" | None")]:
            if optional and value is None:
                continue
            refuses(lambda wrong, one=one: function(**right | {one.name: wrong}), one.name, value)


@pytest.mark.parametrize("field", ["name", "pol_lb", "server_sec", "client_sec", "require"])
def test_a_name_that_is_filled_in_wrongly(field: str) -> None:
    wrong: Any = Opaque()
    refuses(lambda value: irm.create_name(NameInfo(**{"name": "n", field: value})), f"info.{field}", wrong)
    refuses(lambda value: cli.create_name("n", info=NameInfo(**{"name": "n", field: value})), "info", wrong)


@pytest.mark.parametrize("part", ["enc", "key", "crt"])
def test_paths_that_are_none(part: str) -> None:
    refuses(
        lambda value: irm.create_name(NameInfo("n", server_sec=NameSecPaths(**{part: value}))),
        f"server_sec.{part}",
        3,
    )


def test_management_errors_are_management_errors() -> None:
    with pytest.raises(IrmError):
        irm.destroy_ipcp(-1)


# ---------------------------------------------------------------- flows and sets, over the data plane


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.close()


@pytest.fixture
def flow(world: World) -> Flow:
    """A reliable flow, whose peer has written packets: what is refused takes none of them."""
    flow = Flow()
    world.attach(flow, reliable=True)
    for _ in range(3):
        world._pairs[-1].b.write(b"packet")
    return flow


def setter(name: str) -> Callable[[Flow, Any], None]:
    return lambda flow, value: setattr(flow, name, value)


FLOW: list[tuple[str, list[Any], Callable[[Flow, Any], Any]]] = [
    ("dst", [None, *NO_STR], lambda flow, v: Flow().alloc(v)),
    ("qos", NO_QOS, lambda flow, v: Flow().alloc("name", v)),
    ("timeo", NO_SECONDS, lambda flow, v: Flow().alloc("name", None, v)),
    ("layer", NO_STR, lambda flow, v: Flow().alloc("name", layer=v)),
    ("timeo", NO_SECONDS, lambda flow, v: Flow().accept(v)),
    ("dst", [None, *NO_STR], lambda flow, v: Flow().join(v)),
    ("qos", NO_QOS, lambda flow, v: Flow().join("name", qos=v)),
    ("timeo", NO_SECONDS, lambda flow, v: Flow().join("name", v)),
    ("buf", NO_OCTETS, Flow.write),
    ("buf", NO_OCTETS, lambda flow, v: flow.write(v, 1)),
    ("count", [*NO_COUNT[1:], 4, 2**70], lambda flow, v: flow.write(b"abc", v)),
    ("packets", NO_PACKETS, Flow.writev),
    ("line", [None, *NO_STR], Flow.writeline),
    ("count", NO_COUNT, Flow.read),
    ("buffer", NO_ROOM, Flow.read_into),
    ("max_packets", [*NO_COUNT, 0], Flow.readv),
    ("rcv_timeout", NO_TIME, setter("rcv_timeout")),
    ("snd_timeout", NO_TIME, setter("snd_timeout")),
    ("rcv_timeout", NO_TIME, Flow.set_rcv_timeout),
    ("snd_timeout", NO_TIME, Flow.set_snd_timeout),
    ("flags", [*NO_FLAGS, 3], setter("flags")),
    ("flags", [*NO_FLAGS, 3], Flow.set_flags),
    ("flags", [*NO_INTEGER, -1, 1 << 40], Flow.set_frct_flags),
    ("mode", [None, 3, b"rb", "x", "", "rbb"], Flow.makefile),
    ("buffering", NO_INTEGER, lambda flow, v: flow.makefile("rb", v)),
    ("encoding", NO_STR[:4], lambda flow, v: flow.makefile("r", encoding=v)),
    ("errors", NO_STR[:4], lambda flow, v: flow.makefile("r", errors=v)),
    ("newline", NO_STR[:4], lambda flow, v: flow.makefile("r", newline=v)),
    ("buffer", NO_OCTETS, lambda flow, v: FlowFile(flow, "rw").write(v)),
    ("buffer", NO_ROOM, lambda flow, v: FlowFile(flow, "rw").readinto(v)),
    ("dst", [None, *NO_STR], lambda flow, v: dev.flow_alloc(v)),
    ("qos", NO_QOS, lambda flow, v: dev.flow_alloc("name", v)),
    ("timeo", NO_SECONDS, lambda flow, v: dev.flow_accept(v)),
    ("dst", [None, *NO_STR], lambda flow, v: dev.flow_join(v)),
    ("qos", NO_QOS, lambda flow, v: dev.flow_join("name", v)),
    ("timeo", NO_SECONDS, lambda flow, v: dev.flow_join("name", None, v)),
    ("flow", NO_FLOW, lambda flow, v: dev.flow_dealloc(v)),
    ("flow", NO_FLOW, lambda flow, v: dev.flow_write(v, b"x")),
    ("buf", NO_OCTETS, dev.flow_write),
    ("count", NO_COUNT[1:], lambda flow, v: dev.flow_write(flow, b"abc", v)),
    ("flow", NO_FLOW, lambda flow, v: dev.flow_read(v)),
    ("count", NO_COUNT, dev.flow_read),
    ("flow", NO_FLOW, lambda flow, v: dev.fccntl(v, Fccntl.FLOWGFLAGS)),
    ("cmd", NO_INTEGER, dev.fccntl),
    ("arg", NO_TIME, lambda flow, v: dev.fccntl(flow, Fccntl.FLOWSRCVTIMEO, v)),
    ("arg", NO_TIME, lambda flow, v: dev.fccntl(flow, Fccntl.FLOWSSNDTIMEO, v)),
    ("arg", NO_FLAGS, lambda flow, v: dev.fccntl(flow, Fccntl.FLOWSFLAGS, v)),
    ("arg", [*NO_INTEGER, -1, 1 << 40], lambda flow, v: dev.fccntl(flow, Fccntl.FRCTSFLAGS, v)),
    ("flows", [3, "flows", b"flows", Opaque()], lambda flow, v: FlowSet(v)),
    ("flow", [*NO_FLOW, [3]], lambda flow, v: FlowSet([flow, v])),
    ("flow", NO_FLOW, lambda flow, v: FlowSet().add(v)),
    ("flow", NO_FLOW, lambda flow, v: FlowSet().remove(v)),
    ("flow", NO_FLOW, lambda flow, v: FlowSet().has(v)),
    ("fq", [None, 3, [], Opaque(), FEventQueue], lambda flow, v: FlowSet().wait(v)),
    ("timeo", NO_TIME, lambda flow, v: FlowSet().wait(FEventQueue(), v)),
    ("flow", NO_FLOW[1:], lambda flow, v: aio.Flow(v)),
]


@pytest.mark.parametrize("name,wrong,call", FLOW, ids=[f"{at}-{one[0]}" for at, one in enumerate(FLOW)])
def test_flows(flow: Flow, name: str, wrong: list[Any], call: Callable[[Flow, Any], Any]) -> None:
    for value in wrong:
        refuses(partial(call, flow), name, value)
    assert flow.flags == FlowProperties.ReadWrite | FlowProperties.NoPartialWrite
    assert (flow.rcv_timeout, flow.snd_timeout) == (None, None)
    assert [flow.read(), flow.readv(), flow.rx_queue_len] == [b"packet", [b"packet"] * 2, 0]


def test_what_is_taken(flow: Flow) -> None:
    """Whatever has octets one behind the other, and whatever is an integer, or a number of seconds."""
    for buf in (
        b"abc",
        bytearray(b"abc"),
        memoryview(b"abc"),
        array.array("h", [1, 2]),
        memoryview(b"abcd").cast("B", (2, 2)),
        memoryview(b"abcdef")[::2],
        memoryview(array.array("d", [1, 2, 3, 4]))[::-1],
    ):
        assert flow.write(buf) == memoryview(buf).nbytes
        assert flow.write(buf, 2) == 2
    assert flow.write(b"abc", 0) == 0
    assert flow.writev([b"abc", bytearray(2), memoryview(b"x")]) == 3
    assert flow.writev([b"abc", memoryview(b"abcdef")[::2]]) == 2
    flow.settimeout(0.5)
    assert (flow.rcv_timeout, flow.snd_timeout, flow.gettimeout()) == (0.5, 0.5, 0.5)
    flow.settimeout(0)
    assert (flow.blocking, flow.gettimeout()) == (False, 0)
    flow.settimeout(None)
    assert (flow.blocking, flow.rcv_timeout, flow.gettimeout()) == (True, None, None)
    flow.rcv_timeout = 1
    flow.rcv_timeout = 0.5
    flow.rcv_timeout = None
    assert dev.fccntl(flow, Fccntl.FLOWSRCVTIMEO, None) is None


def test_arrays_of_numpy(flow: Flow) -> None:
    numpy = pytest.importorskip("numpy")
    assert flow.write(numpy.zeros((2, 3), "int32")) == 24
    assert flow.write(numpy.arange(12, dtype="float64").reshape(3, 4)[:, ::2]) == 48
    assert flow.write(numpy.float32(1.5)) == 4
    assert flow.write(numpy.zeros((0, 3))) == 0
    assert flow.writev([numpy.arange(4, dtype="int16")[::2], numpy.arange(3)]) == 2
    assert flow.read(numpy.int64(100)) == b"packet"
    flow.rcv_timeout = numpy.float32(0.5)
    refuses(flow.write, "buf", numpy.zeros((4, 4))[:, ::2])
    refuses(flow.read_into, "buffer", numpy.zeros((4, 4))[:, ::2])
    refuses(flow.read, "count", numpy.zeros(3))


class NumberOfArrays:
    """What numpy's arrays do: they have the method, and refuse."""

    def __index__(self) -> int:
        raise TypeError("only integer scalar arrays can be converted to a scalar index")

    def __float__(self) -> float:
        raise TypeError("only length-1 arrays can be converted")


def test_what_looks_like_a_number(flow: Flow) -> None:
    refuses(flow.read, "count", NumberOfArrays())
    refuses(setter("rcv_timeout").__get__(flow), "rcv_timeout", NumberOfArrays())


# ---------------------------------------------------------------- asyncio


AIO: list[tuple[str, list[Any], Callable[[aio.Flow, Any], Any]]] = [
    ("dst", [None, *NO_STR], lambda flow, v: aio.Flow().alloc(v)),
    ("qos", NO_QOS, lambda flow, v: aio.Flow().alloc("name", v)),
    ("timeo", NO_TIME, lambda flow, v: aio.Flow().alloc("name", None, v)),
    ("layer", NO_STR, lambda flow, v: aio.Flow().alloc("name", layer=v)),
    ("timeo", NO_TIME, lambda flow, v: aio.Flow().accept(v)),
    ("dst", [None, *NO_STR], lambda flow, v: aio.Flow().join(v)),
    ("timeo", NO_TIME, lambda flow, v: aio.Flow().join("name", v)),
    ("qos", NO_QOS, lambda flow, v: aio.Flow().join("name", qos=v)),
    ("buf", NO_OCTETS, lambda flow, v: flow.write(v)),
    ("count", NO_COUNT[1:], lambda flow, v: flow.write(b"abc", v)),
    ("packets", NO_PACKETS, lambda flow, v: flow.writev(v)),
    ("line", [None, *NO_STR], lambda flow, v: flow.writeline(v)),
    ("count", NO_COUNT, lambda flow, v: flow.read(v)),
    ("buffer", NO_ROOM, lambda flow, v: flow.read_into(v)),
    ("max_packets", [*NO_COUNT, 0], lambda flow, v: flow.readv(v)),
    ("dst", [None, *NO_STR], lambda flow, v: aio.flow_alloc(v)),
    ("timeo", NO_TIME, lambda flow, v: aio.flow_accept(v)),
    ("dst", [None, *NO_STR], lambda flow, v: aio.flow_join(v)),
    ("timeo", NO_TIME, lambda flow, v: aio.FlowSet().events(v)),
    ("name", [None, *NO_STR], lambda flow, v: aio.open_flow_stream(v)),
    ("qos", [None, *NO_QOS], lambda flow, v: aio.open_flow_stream("name", v)),
    ("timeo", NO_TIME, lambda flow, v: aio.open_flow_stream("name", QOS_DATA, v)),
    ("layer", NO_STR, lambda flow, v: aio.open_flow_stream("name", layer=v)),
    ("limit", [*NO_COUNT, 0], lambda flow, v: aio.open_flow_stream("name", limit=v)),
    ("connected", NO_FUNCTION, lambda flow, v: aio.start_flow_server(v)),
    ("limit", [*NO_COUNT, 0], lambda flow, v: aio.start_flow_server(print, limit=v)),
]

AIO_NOW: list[tuple[str, list[Any], Callable[[aio.Flow, Any], Any]]] = [
    ("flags", NO_FLAGS, lambda flow, v: setattr(flow, "flags", v)),
    ("flow", NO_FLOW, lambda flow, v: aio.FlowSet([v])),
    ("flow", NO_FLOW, lambda flow, v: aio.FlowSet().remove(v)),
    ("flow", NO_FLOW, lambda flow, v: FlowTransport(v, asyncio.Protocol())),
    ("protocol", [None, 3, Opaque()], lambda flow, v: FlowTransport(flow, v)),
    ("flow", NO_FLOW, lambda flow, v: streams(v)),
    ("limit", [*NO_COUNT, 0], lambda flow, v: streams(flow, limit=v)),
]


def test_asyncio(flow: Flow) -> None:
    async def run() -> None:
        async def refused(call: Callable[[aio.Flow, Any], Any], name: str, value: Any) -> None:
            try:
                await call(one, value)
            except (TypeError, ValueError) as error:
                assert name in str(error), f"{name} = {value!r}: {error!r}"
            else:
                raise AssertionError(f"{name} = {value!r} was taken")

        one = aio.Flow(flow)
        for name, wrong, call in AIO:
            for value in wrong:
                await refused(call, name, value)
        for name, wrong, call in AIO_NOW:
            for value in wrong:
                refuses(partial(call, one), name, value)
        assert await one.recv() == b"packet"
        kept = FlowProperties.NonBlocking | FlowProperties.NoPartialWrite
        assert flow.flags == FlowProperties.ReadWrite | kept

    asyncio.run(run())


# ---------------------------------------------------------------- specifications and fakes


def test_specifications() -> None:
    for field in inspect.signature(QoSSpec).parameters:
        for value in [None, "1", 1.5, NAN, INF, -1, 2**70, [1], Opaque()]:
            refuses(lambda wrong, field=field: QoSSpec(**{field: wrong}), field, value)
            refuses(lambda wrong, field=field: QOS_DATA.replace(**{field: wrong}), field, value)
    for value in [None, 3, [1], {}, Opaque(), "gold", b"raw"]:
        refuses(qos.cube, "", value)
    assert QoSSpec(in_order=True).in_order == 1
    with pytest.raises(ValueError):
        FEventType("FlowPkt")


FAKES: list[tuple[str, list[Any], Callable[[Any], Any]]] = [
    ("start", NO_NUMBER, FakeClock),
    ("when", [None, "1", [1], Opaque()], lambda v: FakeClock().call_at(v, print)),
    ("call", NO_FUNCTION, lambda v: FakeClock().call_at(1, v)),
    ("delay", [None, "1", [1], Opaque()], lambda v: FakeClock().call_later(v, print)),
    ("call", NO_FUNCTION, lambda v: FakeClock().call_later(1, v)),
    ("seconds", NO_NUMBER, lambda v: FakeClock().advance(v)),
    ("when", NO_NUMBER, lambda v: FakeClock().advance_to(v)),
    ("until", NO_FUNCTION, lambda v: FakeClock().run(v, limit=1)),
    ("limit", NO_NUMBER, lambda v: FakeClock().run(lambda: True, limit=v)),
    *(
        (name, [*NO_NUMBER, -1], lambda v, name=name: Impairment(**{name: v}))
        for name in ("loss", "delay", "jitter", "duplicate", "reorder", "reorder_delay")
    ),
    ("clock", [None, 3, Opaque()], FakeNetwork),
    ("seed", NO_INTEGER, lambda v: FakeNetwork(FakeClock(), seed=v)),
    ("impairment", [None, 3, Opaque()], lambda v: FakeNetwork(FakeClock(), impairment=v)),
    ("name", [None, *NO_STR], lambda v: FakeNetwork(FakeClock()).link(v)),
    ("impairment", [3, Opaque()], lambda v: FakeNetwork(FakeClock()).link("a", v)),
    ("name", [None, *NO_STR], lambda v: FakeNetwork(FakeClock()).remove(v)),
    ("clock", [None, 3, Opaque()], flow_pair),
    ("seed", NO_INTEGER, lambda v: flow_pair(FakeClock(), seed=v)),
    ("qos", [None, *NO_QOS], lambda v: flow_pair(FakeClock(), qos=v)),
    ("buf", NO_OCTETS, lambda v: flow_pair(FakeClock())[0].write(v)),
    ("count", [*NO_COUNT[1:], 4], lambda v: flow_pair(FakeClock())[0].write(b"abc", v)),
    ("count", NO_COUNT, lambda v: flow_pair(FakeClock())[0].read(v)),
]


@pytest.mark.parametrize("name,wrong,call", FAKES, ids=[f"{at}-{one[0]}" for at, one in enumerate(FAKES)])
def test_fakes(name: str, wrong: list[Any], call: Callable[[Any], Any]) -> None:
    for value in wrong:
        refuses(call, name, value)


def test_all_functions_are_here() -> None:
    """A function that is added to a module is added to a table above."""
    source = inspect.getsource(inspect.getmodule(generator) or pytest)
    for module in (dev, event, aio, testing):
        for name in module.__all__:
            if inspect.isfunction(getattr(module, name)):
                assert f"{name}(" in source or f"{name})" in source or f".{name}," in source, (
                    f"{module.__name__}.{name}"
                )


# ---------------------------------------------------------------- copies


def owners(flow: Flow) -> Iterator[object]:
    yield flow
    yield Flow()
    yield FlowSet([flow])
    yield aio.Flow(flow)
    yield aio.FlowSet()
    yield FlowFile(flow, "r")
    yield flow_pair(FakeClock())[0]
    yield Resources(ffi, lib)
    yield Handle(1, print, "a thing")


def test_an_owner_is_not_copied(flow: Flow) -> None:
    kinds = set()
    for one in owners(flow):
        kinds.add(type(one))
        name = type(one).__name__
        for attempt in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError, match=f"a {name} cannot be copied or pickled"):
                attempt(one)  # type: ignore[operator]
    assert kinds == {Flow, FlowSet, aio.Flow, aio.FlowSet, FlowFile, FakeFlow, Resources, Handle}
    assert flow.fd >= 0 and flow.write(b"x") == 1
    assert copy.copy(QOS_DATA) == pickle.loads(pickle.dumps(QOS_DATA)) == QOS_DATA
