"""Reliable flows as asyncio's streams and transports, over a real IRMd."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from tests.system.conftest import System
from tests.system.ends import (
    ENAME,
    QOS_DATA,
    QOS_VOICE,
    FlowDownException,
    FlowException,
    bind,
    flow_accept,
    os,
    raises,
    scenario,
    signal,
    start,
)


async def echo() -> None:
    """A line each way, many flows concurrently, half-closed by the requester."""
    from ouroboros import aio

    bind()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(line.upper())
            await writer.drain()
        writer.write(b"bye\n")
        writer.close()
        await writer.wait_closed()

    async def ask(number: int) -> None:
        reader, writer = await aio.open_flow_stream("end")
        assert writer.get_extra_info("flow").qos == QOS_DATA
        for i in range(10):
            writer.write(f"line {i} of {number}\n".encode())
            await writer.drain()
            assert await reader.readline() == f"LINE {i} OF {number}\n".encode()
        writer.write_eof()
        assert await reader.read() == b"bye\n" and reader.at_eof()
        writer.close()
        await writer.wait_closed()

    async with await aio.start_flow_server(serve) as server:
        assert server.is_serving()
        await asyncio.gather(*(ask(i) for i in range(20)))
    assert not server.is_serving()
    with raises(FlowException, ENAME):
        await aio.open_flow_stream("nobody")
    with raises(FlowException, 95):
        await aio.open_flow_stream("end", QOS_VOICE)


async def backpressure() -> None:
    """A reader that does not read stops the writer; everything arrives in the end."""
    from ouroboros import aio

    bind()
    data = os.urandom(30_000_000)
    go = asyncio.Event()
    got = bytearray()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await go.wait()
        while piece := await reader.read(100_000):
            got.extend(piece)
        writer.close()

    async with await aio.start_flow_server(serve):
        reader, writer = await aio.open_flow_stream("end")
        writer.write(data)
        assert writer.transport.get_write_buffer_size() > 1_000_000
        drained = asyncio.ensure_future(writer.drain())
        await asyncio.sleep(0)
        assert not drained.done()
        go.set()
        await drained
        assert writer.transport.get_write_buffer_size() <= 65536
        writer.close()
        await writer.wait_closed()
    assert got == data


async def closing_early() -> None:
    from ouroboros import aio

    bind()
    ended: list[object] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ended.append(await reader.read())
        writer.close()
        writer.close()
        await writer.wait_closed()
        writer.write(b"too late, and for nobody")

    async with await aio.start_flow_server(serve) as server:
        reader, writer = await aio.open_flow_stream("end")
        writer.write(b"x")
        reading = asyncio.ensure_future(reader.read())
        writer.close()
        await writer.wait_closed()
        assert await reading == b""
        reader, writer = await aio.open_flow_stream("end")
        writer.transport.abort()
        reader, writer = await aio.open_flow_stream("end")
        writer.write_eof()
        with raises(RuntimeError):
            writer.write(b"more")
        assert await reader.read() == b""
        writer.close()
        server.close()
        await server.wait_closed()
    assert ended == [b"x", b"", b""]


async def protocols() -> None:
    """Any asyncio protocol; reading that is paused shuts the window."""
    from ouroboros import aio
    from ouroboros.aio import FlowTransport

    bind()
    happened: list[object] = []
    over = asyncio.get_running_loop().create_future()

    class Told(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            happened.append("made")

        def data_received(self, data: bytes) -> None:
            happened.append(data)

        def eof_received(self) -> None:
            happened.append("eof")

        def connection_lost(self, exc: BaseException | None) -> None:
            happened.append(exc)
            over.set_result(None)

    accepted = asyncio.ensure_future(aio.flow_accept())
    client = await aio.flow_alloc("end", QOS_DATA)
    transport = FlowTransport(await accepted, Told())
    assert transport.is_reading() and transport.can_write_eof()
    transport.pause_reading()
    assert not transport.is_reading()
    transport.resume_reading()
    transport.write(b"hello")
    assert await client.recv() == b"hello"
    await client.write(b"one")
    await client.write(b"two")
    await client.dealloc()
    await over
    assert happened == ["made", b"one", b"two", "eof", None]
    transport.set_write_buffer_limits(1000)
    assert transport.get_write_buffer_limits() == (250, 1000)
    with raises(ValueError):
        transport.set_write_buffer_limits(1, 2)


async def a_protocol_that_fails() -> None:
    """It gets an error, and the flow is deallocated."""
    from ouroboros import aio
    from ouroboros.aio import FlowTransport

    bind()
    loop = asyncio.get_running_loop()
    complaints: list[object] = []
    loop.set_exception_handler(lambda loop, context: complaints.append(context["exception"]))
    lost = loop.create_future()

    class Failing(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            raise ZeroDivisionError(data)

        def connection_lost(self, exc: BaseException | None) -> None:
            lost.set_result(exc)

    accepted = asyncio.ensure_future(aio.flow_accept())
    client = await aio.flow_alloc("end", QOS_DATA)
    FlowTransport(await accepted, Failing())
    await client.write(b"1/0")
    assert isinstance(await lost, ZeroDivisionError) and len(complaints) == 1
    with raises(FlowDownException):
        await client.recv()
    await client.dealloc()


async def a_breakdown() -> None:
    from ouroboros import aio

    reader, writer = await aio.open_flow_stream("victim")
    assert await reader.readexactly(4) == b"some"
    print("read", flush=True)
    with raises(FlowDownException):
        await reader.read()
    writer.close()
    with raises(FlowDownException):
        await writer.wait_closed()


def victim() -> None:
    flow = flow_accept()
    flow.write(b"some")
    signal.pause()


def test_a_process_that_is_killed(shared: System) -> None:
    server = start(shared, victim)
    shared.irm(f"bind process {server.pid} name victim")
    client = start(shared, a_breakdown, preamble="import asyncio\n")
    client.expect("read")
    server.kill()
    assert client.wait() == 0, client.output


@pytest.mark.parametrize("function", [echo, backpressure, closing_early, protocols, a_protocol_that_fails])
def test_scenario(shared: System, function: Callable[[], Coroutine[Any, Any, None]]) -> None:
    scenario(shared, function, preamble="import asyncio\n")
