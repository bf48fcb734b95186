"""ouroboros.aio over a real IRMd: packets, sets, and cancellation at every await, after which nothing may be left."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from tests.system.conftest import System
from tests.system.ends import (
    ENAME,
    FEventType,
    FlowDownException,
    FlowEventTimeout,
    FlowException,
    FlowNotAllocatedException,
    FlowTimeout,
    bind,
    conserved,
    raises,
    start,
)

Scenario = Callable[[], Coroutine[Any, Any, None]]

PREAMBLE = """
import asyncio
from ouroboros import aio

async def ends():
    bind()
    server, client = await asyncio.gather(aio.flow_accept(), aio.flow_alloc("end"))
    return client, server
"""


async def ends() -> tuple[Any, Any]:
    """See PREAMBLE."""
    raise NotImplementedError


async def packets() -> None:
    client, server = await ends()
    assert await client.write(b"hello") == 5
    assert await server.read() == b"hello"
    reading = asyncio.create_task(server.read())
    await asyncio.sleep(0)
    await client.write(b"wakes")
    assert await reading == b"wakes"
    burst = [bytes([i % 256]) * (1 + i % 50) for i in range(5000)]

    async def read_all() -> list[bytes]:
        got: list[bytes] = []
        while len(got) < len(burst):
            got += await server.readv()
        return got

    wrote, got = await asyncio.gather(client.writev(burst), read_all())
    assert wrote == 5000 and got == burst
    await client.writeline("grüße")
    assert await server.readline() == "grüße"
    buffer = bytearray(3)
    await client.write(b"abcdef")
    assert await server.read_into(buffer) == 3
    assert await server.recv() == b"def"
    await client.write(b"last")
    await client.dealloc()
    assert [packet async for packet in server] == [b"last"]
    with raises(FlowDownException):
        await server.read()
    await server.dealloc()


async def timeouts() -> None:
    client, server = await ends()
    server.flow.rcv_timeout = 0.02
    with raises(FlowTimeout):
        await server.read()
    async with asyncio.timeout(10):
        with raises(TimeoutError):
            async with asyncio.timeout(0.02):
                server.flow.rcv_timeout = None
                await server.read()
    with raises(FlowTimeout):
        await asyncio.wait_for(aio_accept(0.02), 10)
    with raises(FlowException, ENAME):
        await aio_alloc("nobody")
    await client.dealloc()
    await server.dealloc()


async def cancelled_reads_lose_nothing() -> None:
    client, server = await ends()
    seen = 0
    for i in range(300):
        reading = asyncio.create_task(server.read())
        for _ in range(i % 4):
            await asyncio.sleep(0)
        await client.write(i.to_bytes(4, "little"))
        for _ in range(i % 3):
            await asyncio.sleep(0)
        reading.cancel()
        try:
            data = await reading
        except asyncio.CancelledError:
            data = await server.read()
        assert int.from_bytes(data, "little") == seen
        seen += 1
    await client.dealloc()
    await server.dealloc()


async def cancelled_writes() -> None:
    client, server = await ends()
    for turn in range(30):
        written = 0

        async def fill() -> None:
            nonlocal written
            while True:
                await client.write(b"x")
                written += 1

        task = asyncio.create_task(fill())
        while client.flow.tx_queue_len < 1024:
            await asyncio.sleep(0)
        for _ in range(turn % 4):
            await asyncio.sleep(0)
        task.cancel()
        with raises(asyncio.CancelledError):
            await task
        got = 0
        server.flow.blocking = False
        while got < written:
            got += len(await server.readv(1024))
        assert got == written
        assert client.flow.tx_queue_len == 0
    await client.dealloc()
    await server.dealloc()


async def cancelled_allocations() -> None:
    """At each of the first steps of the loop: the flow is there, or nothing is."""
    bind()
    for turn in range(60):
        accepting = asyncio.create_task(aio_accept())
        asking = asyncio.create_task(aio_alloc("end"))
        for _ in range(turn // 2):
            await asyncio.sleep(0)
        first, second = (accepting, asking) if turn % 2 else (asking, accepting)
        first.cancel()
        results = await asyncio.gather(first, return_exceptions=True)
        if isinstance(results[0], asyncio.CancelledError):
            second.cancel()
        results += await asyncio.gather(second, return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                assert isinstance(result, (asyncio.CancelledError, FlowException)), repr(result)
            else:
                await result.dealloc()


async def two_tasks_on_one_flow() -> None:
    client, server = await ends()
    got: list[list[bytes]] = [[], []]

    async def read(mine: list[bytes]) -> None:
        try:
            while True:
                mine.append(await server.read())
        except FlowDownException:
            pass

    async def write(k: int) -> None:
        for i in range(1500):
            await client.write(b"%d %d" % (k, i))

    readers = [asyncio.create_task(read(mine)) for mine in got]
    await asyncio.gather(write(0), write(1))
    await client.dealloc()
    await asyncio.gather(*readers)
    assert sorted(got[0] + got[1]) == sorted(b"%d %d" % (k, i) for k in (0, 1) for i in range(1500))
    await server.dealloc()


async def one_reader_of_two_is_cancelled() -> None:
    client, server = await ends()
    for i in range(100):
        readers = [asyncio.create_task(server.read()) for _ in range(2)]
        for _ in range(i % 4):
            await asyncio.sleep(0)
        await client.write(b"for whoever is left")
        for _ in range(i % 3):
            await asyncio.sleep(0)
        readers[0].cancel()
        done = await asyncio.gather(readers[0], return_exceptions=True)
        if isinstance(done[0], bytes):
            await client.write(b"one more")
        assert isinstance(await readers[1], bytes)
    await client.dealloc()
    await server.dealloc()


async def dealloc_under_a_reader() -> None:
    """A task that waits on a deallocated flow gets an error; and the next flow may have the same descriptors."""
    for _ in range(20):
        client, server = await ends()
        readers = [asyncio.create_task(server.read()) for _ in range(3)]
        for _ in range(3):
            await asyncio.sleep(0)
        await server.dealloc()
        for reader in readers:
            with raises(FlowNotAllocatedException):
                await reader
        await client.dealloc()
        client, server = await ends()
        reading = asyncio.create_task(server.read())
        await asyncio.sleep(0)
        await client.write(b"x")
        assert await reading == b"x"
        await client.dealloc()
        await server.dealloc()


async def sets() -> None:
    from ouroboros import aio

    pairs = [await ends() for _ in range(5)]
    with aio.FlowSet([server for _, server in pairs]) as flows:
        with raises(FlowEventTimeout):
            await flows.events(0.01)
        waiting = asyncio.create_task(flows.events())
        await asyncio.sleep(0)
        await pairs[3][0].write(b"x")
        assert await waiting == [(pairs[3][1], FEventType.FlowPkt)]
        assert await pairs[3][1].read() == b"x"
        seen = set()
        for client, _ in pairs:
            await client.write(b"y")
        async for flow, kind in flows:
            assert kind == FEventType.FlowPkt
            if flow.flow.rx_queue_len:
                await flow.read()
                seen.add(flow)
            if len(seen) == 5:
                break
        waiting = asyncio.create_task(flows.events())
        await asyncio.sleep(0)
        waiting.cancel()
        with raises(asyncio.CancelledError):
            await waiting
    for pair in pairs:
        for flow in pair:
            await flow.dealloc()


async def many_flows_at_once() -> None:
    bind()

    async def serve() -> None:
        flow = await aio_accept()
        async for data in flow:
            await flow.write(data)
        await flow.dealloc()

    async def ask(i: int) -> None:
        flow = await aio_alloc("end")
        async with flow:
            for k in range(5):
                await flow.write(b"%d %d" % (i, k))
                assert await flow.read() == b"%d %d" % (i, k)

    async with asyncio.TaskGroup() as group:
        for i in range(60):
            group.create_task(serve())
            group.create_task(ask(i))


async def aio_accept(timeo: float | None = None) -> Any:
    """See the program."""
    from ouroboros import aio

    return await aio.flow_accept(timeo)


async def aio_alloc(name: str) -> Any:
    """See the program."""
    from ouroboros import aio

    return await aio.flow_alloc(name)


SCENARIOS: list[Scenario] = [
    packets,
    timeouts,
    cancelled_reads_lose_nothing,
    cancelled_writes,
    cancelled_allocations,
    two_tasks_on_one_flow,
    one_reader_of_two_is_cancelled,
    dealloc_under_a_reader,
    sets,
    many_flows_at_once,
]


@pytest.mark.parametrize("function", SCENARIOS, ids=lambda function: function.__name__)
def test(shared: System, function: Scenario) -> None:
    program = start(shared, function, preamble=PREAMBLE, also=(aio_accept, aio_alloc))
    try:
        code = program.wait()
    except AssertionError:
        code = program.stop(6)
    assert code == 0, f"{program.output}\nirmd:\n{shared.irmd.output}"
    assert "the scenario is over" in program.output
    assert "exception was never retrieved" not in program.output
    conserved(shared)


async def cancelled_loops() -> None:
    """asyncio.run cancels what is left when its main task ends: nothing stays behind."""
    bind()
    tasks = [asyncio.create_task(aio_accept()) for _ in range(5)]
    client = await aio_alloc("end")
    tasks.append(asyncio.create_task(client.read()))
    await asyncio.sleep(0)


def test_a_loop_that_ends_under_its_tasks(shared: System) -> None:
    program = start(shared, cancelled_loops, preamble=PREAMBLE, also=(aio_accept, aio_alloc))
    assert program.wait() == 0, program.output
    conserved(shared)
