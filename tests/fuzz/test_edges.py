"""Well-formed messages, at and beyond every limit: from an application, from an IPCP, and from the IRMd to an IPCP.

The IRMd is a real one in this process, its IPCPs are played (`tests.unit.irmd.inside`). Whatever an IPCP sends, other processes
continue to get flows, and at the end none of its descriptors, requests, flows or segments is left.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ipcpd.dataplane import Relay
from irmd.memory import Memory
from irmd.records import ProgramBinding
from ouroboros.errors import OuroborosError
from ouroboros.ipcp_types import IpcpType
from ouroboros.qos import QOS_DATA, QOS_RAW, QOS_VOICE
from ouroboros.rpc.messages_pb2 import (
    BindProgram,
    Cancel,
    Envelope,
    FlowAccept,
    FlowAlloc,
    FlowDealloc,
    FlowEndpoint,
    FlowJoin,
    IpcpFlowAllocReply,
    IpcpFlowEvent,
    IpcpFlowReq,
    IpcpLayer,
    IpcpState,
    Resource,
)
from tests.unit.dataplane.shm import Process, close_all
from tests.unit.ipcpd.relays import CONFIG
from tests.unit.irmd.inside import FakeIpcp, Inside, Party, accept, alloc, given_back, run, settle

from .edges import strained

SAFE = settings(suppress_health_check=list(HealthCheck), deadline=None)
HOSTILE = "/bin/hostile"
"""The program of the hostile process, bound to a name of its own: its requests to it wait, and take no accept of others."""

QOS = st.sampled_from([QOS_RAW, QOS_VOICE, QOS_DATA]).map(lambda qos: qos.to_proto())


class Bystanders:
    """Two processes that allocate a flow to each other after any other messages."""

    def __init__(self, system: Inside, server: Party, client: Party) -> None:
        self.system, self.server, self.client = system, server, client

    @classmethod
    async def of(cls, system: Inside) -> Bystanders:
        path = os.path.realpath(
            "/bin/true"
        )  # the program that the server claims to be; no other process here does
        tool = await system.tool()
        bound = await tool.call(bind_program=BindProgram(path=path, name="bystander"))
        assert not bound.error, bound.text
        hostile = ProgramBinding(HOSTILE, False, (), os.getuid(), os.getgid())
        system.irmd.registry.bind_program("strange", hostile)
        tool.close()
        server = await system.application(path)
        return cls(system, server, await system.application())

    async def check(self) -> None:
        accepted = self.server.begin(flow_accept=accept())
        await settle(self.server)
        reply = await self.client.call(flow_alloc=alloc("bystander", qos=QOS_RAW.to_proto()))
        assert not reply.error, reply.text
        other = await accepted
        assert not other.error, other.text
        self.client.note(flow_dealloc=given_back(reply.flow_endpoint))
        self.server.note(flow_dealloc=given_back(other.flow_endpoint))
        await settle(self.client, self.server)


def used(system: Inside) -> dict[str, int]:
    """The resources that the IRMd has issued."""
    return {
        "flows": len(system.irmd.flows.flows),
        "requested": len(system.irmd.broker.outgoing.requested),
        "descriptors": sum(
            connection.process.fds.used
            for connection in system.irmd.server._connections.values()
            if connection.process is not None
        ),
        "requests": sum(len(one.requests) for one in system.irmd.server._connections.values()),
    }


# ---------------------------------------------------------------- an application


def of_application() -> st.SearchStrategy[Envelope]:
    """A process's messages about flows."""

    def make(name: str, base: Any) -> st.SearchStrategy[Envelope]:
        return strained(base).map(lambda body: Envelope(**{name: body}))

    return st.one_of(
        QOS.flatmap(lambda qos: make("flow_alloc", FlowAlloc(dst="away", qos=qos))),
        QOS.flatmap(
            lambda qos: make("flow_alloc", FlowAlloc(dst="away", layer="layer", qos=qos, asynchronous=True))
        ),
        QOS.flatmap(lambda qos: make("flow_alloc", FlowAlloc(dst="strange", qos=qos, timeout_ns=1000))),
        make("flow_accept", FlowAccept(timeout_ns=1000)),
        make("flow_accept", FlowAccept(timeout_ns=0, asynchronous=True)),
        make("flow_join", FlowJoin(layer="layer", qos=QOS_RAW.to_proto())),
        make("flow_dealloc", FlowDealloc(fd=64)),
        make("cancel", Cancel(id=1)),
    )


@settings(SAFE, max_examples=60)
@given(said=st.lists(of_application(), min_size=1, max_size=12))
def test_no_application_takes_what_is_of_others(said: list[Envelope]) -> None:
    async def test() -> None:
        async with Inside() as system:
            ipcp = await system.ipcp("layer", IpcpType.LOCAL, "layer")
            ipcp.knows.add("away")
            bystanders = await Bystanders.of(system)
            before = used(system)
            hostile = await system.application(HOSTILE)
            asked = []
            for envelope in said:
                if envelope.WhichOneof("body") in ("cancel", "flow_dealloc"):
                    hostile.session.send(envelope)
                else:
                    asked.append(hostile.begin(envelope=envelope))
                await asyncio.sleep(0)
            await settle(hostile)
            await bystanders.check()
            hostile.close()
            await asyncio.gather(*asked, return_exceptions=True)
            await bystanders.check()
            await settle(bystanders.client)
            assert used(system) == before

    quietly(test)


# ---------------------------------------------------------------- an IPCP


def of_ipcp() -> st.SearchStrategy[tuple[str, Any]]:
    """An IPCP's own messages, and its replies; the descriptor is inserted if there is one."""
    return st.one_of(
        strained(IpcpFlowAllocReply(mpl_ms=100, max_packet=1400)).map(
            lambda body: ("ipcp_flow_alloc_reply", body)
        ),
        strained(IpcpFlowEvent(events=2)).map(lambda body: ("ipcp_flow_event", body)),
        strained(IpcpState(state="operational")).map(lambda body: ("ipcp_state", body)),
        strained(FlowDealloc()).map(lambda body: ("flow_dealloc", body)),
        QOS.flatmap(lambda qos: strained(IpcpFlowReq(hash=bytes(32), qos=qos, mpl_ms=100))).map(
            lambda body: ("ipcp_flow_req", body)
        ),
    )


@settings(SAFE, max_examples=60)
@given(
    said=st.lists(of_ipcp(), min_size=1, max_size=8),
    refusal=st.sampled_from([0, 0, 5, -5, 65536, 2**31 - 1, -(2**31)]),
    layer=st.one_of(st.none(), strained(IpcpLayer(layer="layer", hash=1))),  # type: ignore[arg-type]
)
def test_no_ipcp_takes_what_is_of_others(said: list[tuple[str, Any]], refusal: int, layer: Any) -> None:
    async def test() -> None:
        async with Inside() as system:
            ipcp = await system.ipcp("layer", IpcpType.LOCAL, "layer")
            other = await system.ipcp("other", IpcpType.LOCAL)
            bystanders = await Bystanders.of(system)
            ipcp.knows.add("away")
            if refusal:
                ipcp.answers["ipcp_flow_alloc"] = lambda envelope: (refusal, "x" * 5000)
            if layer is not None:
                other.answers["ipcp_bootstrap"] = lambda envelope: Envelope(ipcp_layer=layer)
                tool = await system.tool()
                bootstrap = Envelope()
                bootstrap.ipcp_bootstrap.pid = other.pid
                bootstrap.ipcp_bootstrap.config.layer = "other"
                await tool.call(bootstrap)
                tool.close()
            client = await system.application()
            asked = [client.begin(flow_alloc=alloc("away", qos=QOS_DATA.to_proto())) for _ in said]
            await settle(client)
            await speak(ipcp, said)
            await settle(client)
            await bystanders.check()
            client.close()
            await asyncio.gather(*asked, return_exceptions=True)
            ipcp.close()
            await bystanders.check()

    quietly(test)


async def speak(ipcp: FakeIpcp, said: list[tuple[str, Any]]) -> None:
    fds = [
        one.ipcp_flow_alloc.endpoint.fd
        for one in ipcp.received
        if one.WhichOneof("body") == "ipcp_flow_alloc"
    ]
    for number, (name, body) in enumerate(said):
        envelope = Envelope(**{name: body})
        if name in ("ipcp_flow_alloc_reply", "ipcp_flow_event", "flow_dealloc") and not body.fd and fds:
            getattr(envelope, name).fd = fd = fds[number % len(fds)]
            getattr(envelope, name).instance = ipcp.instances.get(fd, 0)
        if name == "ipcp_flow_req":
            envelope.id = 1000 + number
        ipcp.session.send(envelope)
    await asyncio.sleep(0)


# ---------------------------------------------------------------- the IRMd to the packet thread


@settings(SAFE, max_examples=100)
@given(data=st.data())
def test_an_end_that_a_relay_refuses_leaves_nothing(data: st.DataObject) -> None:
    """For any content of the endpoint there is a port with its number, or an error, and then the next flow gets the number."""
    memory = Memory(CONFIG)
    relay, process, own = Relay(), Process(memory), memory.events()
    try:
        relay.resources.token = memory.token()
        flow = memory.flow(relay.resources.token, process.token, memory.system)
        flow.open(own, 64, process.events, 65)
        right = FlowEndpoint(
            fd=64,
            index=flow.index,
            serial=flow.serial,
            peer_fd=65,
            pool=memory.system.id,
            segment=flow.segment_id,
            events=own.id,
            peer_events=process.events.id,
            qos=QOS_VOICE.to_proto(),
        )
        for kind, number in (
            (Resource.POOL, right.pool),
            (Resource.SEGMENT, right.segment),
            (Resource.EVENTS, right.events),
            (Resource.EVENTS, right.peer_events),
        ):
            right.resources.add(kind=kind, id=number)
        fds = [memory.system.fd, flow.segment_fd, *own.fds, *process.events.doorbell_fds]
        strange = data.draw(strained(right))
        assert isinstance(strange, FlowEndpoint)
        try:
            relay.add(strange, fds)
        except OuroborosError:
            with pytest.raises(OuroborosError):
                relay.stats(strange.fd)
        else:
            relay.remove(strange.fd)
        relay.add(right, fds)
        assert relay.stats(64).packets == 0
        relay.remove(64)
        flow.release()
    finally:
        relay.close()
        own.close()
        process.close()
        memory.close()
        close_all()


def quietly(test: Callable[[], Any]) -> None:
    """No message of a stranger is a defect that has to be logged."""
    failures: list[logging.LogRecord] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: failures.append(record) if record.exc_info else None  # type: ignore[method-assign]
    logging.getLogger().addHandler(handler)
    try:
        run(test)
    finally:
        logging.getLogger().removeHandler(handler)
    assert not failures, [(record.getMessage(), record.exc_info) for record in failures]
