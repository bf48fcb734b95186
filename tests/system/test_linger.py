"""Deallocating a reliable flow whose peer lives and does not read (ouroboros/linger.py), over a real IRMd: each wait ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.system.conftest import System
from tests.system.ends import (
    QOS_DATA,
    Flow,
    FlowException,
    FlowLingerTimeout,
    FlowTimeout,
    bind,
    ends,
    flow_accept,
    flow_alloc,
    layers,
    os,
    raises,
    scenario,
    start,
)


def fill(flow: Flow) -> int:
    """Write until the peer takes no more, not even one packet in a whole time-out; how many octets."""
    flow.snd_timeout = 0.2
    octets, before = 0, -1
    while octets != before:
        before = octets
        with raises(FlowTimeout):
            while True:
                octets += flow.write(bytes(60000))
    flow.snd_timeout = None
    flow.linger_timeout = 0.1
    return octets


def read_all(server: Flow, octets: int) -> None:
    """Data for which the caller has not waited arrive nevertheless."""
    assert sum(map(len, server)) == octets
    server.dealloc()


# ---------------------------------------------------------------- the ways to leave


def by_dealloc(client: Flow) -> None:
    with raises(FlowLingerTimeout) as caught:
        client.dealloc()
    assert caught[0].octets > 0 and f"{caught[0].octets} octets" in str(caught[0])


def without_waiting(client: Flow) -> None:
    client.linger_timeout = None
    assert client.linger_timeout == 5
    with raises(FlowLingerTimeout):
        client.dealloc(0)


def by_time(client: Flow) -> None:
    client.linger_timeout = 1000
    with raises(FlowLingerTimeout):
        client.dealloc(timeo=0.1)


def by_with(client: Flow) -> None:
    with raises(FlowLingerTimeout):
        with client:
            pass


def by_exception(client: Flow) -> None:
    """It is not replaced by that of the flow."""
    with raises(KeyError):
        with client:
            raise KeyError("mine")


def by_asyncio(client: Flow) -> None:
    import asyncio

    from ouroboros import aio

    async def leave() -> None:
        flow = aio.Flow(client)
        with raises(FlowLingerTimeout):
            await flow.dealloc()

    asyncio.run(leave())


def by_asyncio_with(client: Flow) -> None:
    """Cancelled, it waits no longer."""
    import asyncio

    from ouroboros import aio

    client.linger_timeout = 1000

    async def leave() -> None:
        async with asyncio.timeout(0.1), aio.Flow(client):
            await asyncio.Event().wait()

    with raises(TimeoutError):
        asyncio.run(leave())


WAYS = (by_dealloc, without_waiting, by_time, by_with, by_exception, by_asyncio, by_asyncio_with)


def leaving(way: str) -> None:
    for layer in layers():
        client, server = ends(qos=QOS_DATA, layer=layer)
        octets = fill(client)
        globals()[way](client)
        assert client.fd < 0
        read_all(server, octets)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_leaving(shared: System, way: Callable[[Flow], None]) -> None:
    scenario(shared, leaving, way.__name__, also=[layers, fill, read_all, way])


def streams() -> None:
    """A stream is closed like a flow; data in its buffer are lost, and this is an error."""
    import asyncio

    from ouroboros import aio
    from ouroboros.aio.streams import streams as streams_of

    for layer in layers():
        client, server = ends(qos=QOS_DATA, layer=layer)
        fill(client)
        file: Any = client.makefile("w")
        file.write("buffered")
        with raises(FlowTimeout):
            file.close()
        client.linger_timeout = 0.1

        async def close(flow: Flow) -> None:
            _, writer = streams_of(aio.Flow(flow))
            writer.write(bytes(1_000_000))
            writer.close()
            with raises(FlowLingerTimeout, text="1000000 octets are lost"):
                await writer.wait_closed()

        asyncio.run(close(client))
        server.dealloc()


def test_streams(shared: System) -> None:
    scenario(shared, streams, also=[layers, fill])


def exits() -> None:
    """It leaves no flow, and ends nevertheless."""
    flow = flow_alloc("end", QOS_DATA)
    print("allocated", flush=True)
    fill(flow)


def accepts() -> None:
    bind()
    print("bound", flush=True)
    flow = flow_accept()
    os.read(0, 1)
    flow.linger_timeout = 0
    flow.dealloc()


def test_the_end_of_a_process(system: System) -> None:
    server = start(system, accepts, stdin=-1)
    server.expect("bound")
    client = start(system, exits, also=[fill])
    assert client.wait() == 0, client.output
    server.stop()


def a_thread_that_reads() -> None:
    """It learns immediately that the flow was left, though that lingers."""
    import threading

    for layer in layers():
        client, server = ends(qos=QOS_DATA, layer=layer)
        fill(client)
        client.linger_timeout = 1000
        over = threading.Event()

        def read(flow: Flow, over: threading.Event) -> None:
            with raises(FlowException):
                flow.read()
            over.set()

        reader = threading.Thread(target=read, args=(client, over))
        reader.start()
        while client.rx_queue_len:
            pass
        leaver = threading.Thread(target=lambda flow: flow.dealloc(), args=(client,))
        leaver.start()
        over.wait()
        assert leaver.is_alive()
        for _ in server:
            pass
        leaver.join()
        reader.join()
        server.dealloc()


def test_a_thread_that_reads(shared: System) -> None:
    scenario(shared, a_thread_that_reads, also=[layers, fill])
