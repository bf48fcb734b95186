"""Messages about an object that has ended and whose number was reused: they change nothing, and are counted."""

from __future__ import annotations

import json

from irmd.descriptors import Descriptors
from ouroboros.errors import EIPCP, ENOTALLOC
from ouroboros.flow_event import FlowEvent
from ouroboros.ipcp_types import IpcpType
from ouroboros.rpc.messages_pb2 import (
    Envelope,
    FlowAlloc,
    FlowDealloc,
    FlowList,
    IpcpBootstrap,
    IpcpConfig,
    IpcpConnect,
    IpcpDestroy,
    IpcpDisconnect,
    IpcpEnroll,
    IpcpList,
    NameRegister,
    NameUnregister,
    Readout,
)
from tests.unit.irmd.inside import Inside, Party, run, settle


async def late(tool: Party, component: str = "late messages") -> dict[str, int]:
    """What the IRMd has counted."""
    rows = map(json.loads, (await tool.call(readout=Readout(what="counters"))).readout_table.rows)
    return {row["counter"]: row["value"] for row in rows if row["component"] == component}


def test_messages_beyond_a_limit_are_counted() -> None:
    async def test() -> None:
        async with Inside() as irmd:
            client, tool = await irmd.application(), await irmd.tool()
            for _ in range(3):
                client.session.send(Envelope(flow_dealloc=FlowDealloc(fd=1 << 16)))
            await settle(client)
            assert await late(tool, "refused messages") == {"flow_dealloc": 3} and not await late(tool)

    run(test)


def test_a_use_of_a_descriptor_never_comes_back() -> None:
    numbers = iter(range(1, 100))
    mine, theirs = Descriptors(4, numbers), Descriptors(4, numbers)
    seen = set()
    for _ in range(10):
        for descriptors in (mine, theirs):
            descriptor = descriptors.take()
            assert descriptor is not None and descriptor.fd == 64
            seen.add(descriptor.instance)
            descriptors.give_back(descriptor)
    assert len(seen) == 20 and mine.used == 0


def test_a_deallocation_by_an_ipcp_that_crosses_that_of_the_irmd_spares_the_next_flow() -> None:
    async def test() -> None:
        async with Inside() as irmd:
            ipcp, client, tool = (
                await irmd.ipcp("u", IpcpType.UNICAST, "l"),
                await irmd.application(),
                await irmd.tool(),
            )
            ipcp.knows.add("n")

            async def flow() -> tuple[int, int]:
                pending = client.begin(flow_alloc=FlowAlloc(dst="n", asynchronous=True))
                endpoint = (await ipcp.next("ipcp_flow_alloc")).ipcp_flow_alloc.endpoint
                await pending
                return endpoint.fd, endpoint.instance

            fd, old = await flow()
            client.dealloc(await flow_descriptor(client))
            await ipcp.next("ipcp_flow_dealloc")
            await settle(ipcp)
            again, new = await flow()
            assert again == fd and new != old
            for envelope in (
                Envelope(flow_dealloc=FlowDealloc(fd=fd, instance=old)),
                _reply(fd, old),
                _event(fd, old),
            ):
                ipcp.session.send(envelope)
            await settle(ipcp)
            (still,) = (await tool.call(flow_list=FlowList())).flow_table.flows
            assert still.state == "alloc-pending"
            assert await late(tool) == {"flow_dealloc": 1, "ipcp_flow_alloc_reply": 1, "ipcp_flow_event": 1}
            client.dealloc(await flow_descriptor(client))
            await settle(client, ipcp)

    run(test)


async def flow_descriptor(client: Party) -> int:
    """The one descriptor of a process."""
    (fd,) = client.instances
    return fd


def _reply(fd: int, instance: int) -> Envelope:
    envelope = Envelope()
    body = envelope.ipcp_flow_alloc_reply
    body.fd, body.instance, body.response = fd, instance, ENOTALLOC
    return envelope


def _event(fd: int, instance: int) -> Envelope:
    envelope = Envelope()
    body = envelope.ipcp_flow_event
    body.fd, body.instance, body.events = fd, instance, FlowEvent.DOWN
    return envelope


def test_a_process_that_gives_a_descriptor_back_twice_keeps_its_next_flow() -> None:
    async def test() -> None:
        async with Inside() as irmd:
            client, tool = await irmd.application(), await irmd.tool()
            first = (await client.call(flow_accept={"asynchronous": True})).flow_pending
            client.dealloc(first.fd)
            second = (await client.call(flow_accept={"asynchronous": True})).flow_pending
            assert second.fd == first.fd and second.instance != first.instance
            client.note(flow_dealloc=FlowDealloc(fd=first.fd, instance=first.instance))
            await settle(client)
            assert len((await tool.call(flow_list=FlowList())).flow_table.flows) == 1
            assert await late(tool) == {"flow_dealloc": 1}
            client.dealloc(second.fd)
            await settle(client)

    run(test)


def test_a_request_that_means_an_ipcp_whose_pid_is_that_of_another_is_refused() -> None:
    async def test() -> None:
        async with Inside() as irmd:
            ipcp, tool = await irmd.ipcp("e", IpcpType.ETH_DIX), await irmd.tool()
            await irmd.create_name("n")
            (info,) = (await tool.call(ipcp_list=IpcpList())).ipcp_table.ipcps
            assert info.pid == ipcp.pid and info.instance
            gone = {"pid": ipcp.pid, "instance": info.instance + 1}
            config = IpcpConfig(layer="l", type=IpcpType.ETH_DIX)
            for body in (
                {"ipcp_destroy": IpcpDestroy(**gone)},
                {"ipcp_bootstrap": IpcpBootstrap(config=config, **gone)},
                {"ipcp_enroll": IpcpEnroll(dst="d", **gone)},
                {"ipcp_connect": IpcpConnect(dst="d", **gone)},
                {"ipcp_disconnect": IpcpDisconnect(dst="d", **gone)},
                {"name_register": NameRegister(name="n", **gone)},
                {"name_unregister": NameUnregister(name="n", **gone)},
                {"readout": Readout(what="status", **gone)},
            ):
                reply = await tool.call(**body)
                assert reply.error == EIPCP and 'is that of IPCP "e" now' in reply.text, body
            assert await late(tool) == {"ipcp": 8}
            meant = {"pid": ipcp.pid, "instance": info.instance}
            assert not (await tool.call(ipcp_bootstrap=IpcpBootstrap(config=config, **meant))).error

    run(test)
