"""An exception in the middle of an allocation: all resources that it had acquired are returned, at whichever step it occurs."""

from __future__ import annotations

import errno
import os
import resource
import time
from collections.abc import Callable
from typing import Any

import pytest

from irmd.endpoints import Endpoints
from irmd.memory import Events, Memory, Pool
from irmd.records import ProgramBinding
from ouroboros.ipcp_types import IpcpType
from ouroboros.rpc.messages_pb2 import BindProcess, Envelope, NameDestroy, QosSpec, UnbindProcess
from ouroboros.rpc.service import Refusal
from tests import handshake

from .fakes import process
from .inside import Inside, Party, accept, alloc, given_back, run, settle
from .test_layers import reply_to, requested


class Defect:
    """The `nth` call of a function raises; the others do what it does."""

    def __init__(self, function: Callable[..., Any], nth: int) -> None:
        self._function = function
        self._left = nth

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        self._left -= 1
        if self._left == 0:
            raise RuntimeError("a defect")
        return self._function(*arguments, **keywords)


def install(monkeypatch: pytest.MonkeyPatch, of: object, name: str, nth: int) -> None:
    monkeypatch.setattr(of, name, Defect(getattr(of, name), nth))


async def both_work(server: Party, client: Party, dst: str, accepted: Any = None) -> None:
    """A flow can be had after all; `accepted` is an accept that waits already."""
    waiting = accepted or server.begin(flow_accept=accept())
    await settle(server)
    reply = await client.call(flow_alloc=alloc(dst))
    assert not reply.error, reply.text
    other = await waiting
    assert not other.error, other.text
    client.note(flow_dealloc=given_back(reply.flow_endpoint))
    server.note(flow_dealloc=given_back(other.flow_endpoint))
    await settle(client, server)


def used(system: Inside) -> list[int]:
    connections = system.irmd.server._connections.values()
    return [one.process.fds.used for one in connections if one.process is not None and one.ipcp is None]


@pytest.mark.parametrize("nth", [1, 2])
def test_a_direct_flow(nth: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first is described to the server, the second to the client."""

    async def test() -> None:
        async with Inside() as system:
            server, client = await system.application("/bin/true"), await system.application()
            await system.bind(os.getpid(), "name")
            accepted = server.begin(flow_accept=accept())
            await settle(server)
            install(monkeypatch, system.irmd.facilities.endpoints, "describe", nth)
            reply = await client.call(flow_alloc=alloc("name"))
            assert reply.error == errno.EIO and "RuntimeError" in reply.text
            if nth == 2:
                other = await accepted
                assert not other.error
                server.note(flow_dealloc=given_back(other.flow_endpoint))
                await settle(server)
            await both_work(server, client, "name", accepted if nth == 1 else None)
            assert used(system) == [0, 0]

    run(test)


@pytest.mark.parametrize("nth", [1, 2])
def test_a_flow_over_a_layer(nth: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first is described to the IPCP, the second to the client."""

    async def test() -> None:
        async with Inside() as system:
            ipcp = await system.ipcp("layer", IpcpType.LOCAL, "layer")
            ipcp.knows.add("far")
            client = await system.application()
            install(monkeypatch, system.irmd.facilities.endpoints, "describe", nth)
            asked = client.begin(flow_alloc=alloc("far"))
            if nth == 2:
                body = (await requested(ipcp)).ipcp_flow_alloc
                ipcp.allocated(body.endpoint.fd, data=reply_to(body.data))
            assert (await asked).error == errno.EIO
            await settle(client)
            assert used(system) == [0] and not system.irmd.broker.outgoing.requested
            asked = client.begin(flow_alloc=alloc("far"))
            body = (await requested(ipcp)).ipcp_flow_alloc
            ipcp.allocated(body.endpoint.fd, data=reply_to(body.data))
            assert not (await asked).error

    run(test)


def test_a_flow_that_a_layer_announces(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with Inside() as system:
            ipcp = await system.ipcp("layer", IpcpType.LOCAL, "layer")
            server, client = await system.application(), await system.application()
            await system.bind(os.getpid(), "name")
            accepted = server.begin(flow_accept=accept())
            await settle(server)
            install(monkeypatch, system.irmd.facilities.endpoints, "describe", 1)
            ipcp.knows.add("far")
            reply = await ipcp.announce(
                "name", handshake.make_request(identity=b"i" * 16, now=time.time_ns())
            )
            assert reply.error == errno.EIO
            await both_work(server, client, "name", accepted)
            assert system.irmd.facilities.flows.flows == {}

    run(test)


def test_what_an_ipcp_could_not_map_is_sent_once_more() -> None:
    """Memory comes along with the first flow that needs it: when that fails, with the next."""

    async def test() -> None:
        async with Inside() as system:
            ipcp = await system.ipcp("layer", IpcpType.LOCAL, "layer")
            ipcp.knows.add("far")
            client = await system.application()
            ipcp.answers["ipcp_flow_alloc"] = lambda envelope: (errno.EMFILE, "cannot map")
            asked = client.begin(flow_alloc=alloc("far"))
            first = (await requested(ipcp)).ipcp_flow_alloc.endpoint
            assert (await asked).error == errno.EMFILE
            del ipcp.answers["ipcp_flow_alloc"]
            asked = client.begin(flow_alloc=alloc("far"))
            body = (await requested(ipcp)).ipcp_flow_alloc
            again = [(one.kind, one.id) for one in body.endpoint.resources]
            assert len(again) == 4 and {(one.kind, one.id) for one in first.resources} < set(again)
            ipcp.allocated(body.endpoint.fd, data=reply_to(body.data))
            assert not (await asked).error

    run(test)


def test_a_qos_that_none_can_have_ends_nothing() -> None:
    """What one user asks for with a value beyond its limit is refused before a layer hears of it."""

    async def test() -> None:
        async with Inside() as system:
            ipcp = await system.ipcp("layer", IpcpType.LOCAL, "layer")
            ipcp.knows.add("far")
            client = await system.application()
            for qos in (QosSpec(availability=256), QosSpec(in_order=256)):
                reply = await client.call(flow_alloc=alloc("far", qos=qos))
                assert reply.error == errno.EINVAL and "255 is the most" in reply.text
            assert used(system) == [0]
            assert not [one for one in ipcp.received if one.WhichOneof("body") == "ipcp_flow_alloc"]

    run(test)


# ---------------------------------------------------------------- memory


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("spare", [0, 1, 2])
def test_an_event_region_without_descriptors(spare: int) -> None:
    """It needs four, one of them to itself: with fewer it has none."""
    before = descriptors()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(map(int, os.listdir("/proc/self/fd")))
    fillers = []
    while (filler := os.open("/dev/null", os.O_RDONLY)) < highest:
        fillers.append(filler)
    resource.setrlimit(resource.RLIMIT_NOFILE, (filler + 1 + spare, hard))
    try:
        with pytest.raises(OSError):
            Events(1, {})
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for one in (*fillers, filler):
            os.close(one)
    assert descriptors() == before


def test_a_user_whose_first_process_gets_no_region_keeps_no_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its pool would stay for ever: only the end of a process takes it."""
    memory = Memory()
    endpoints = Endpoints(memory, None, announce=lambda gone: None)  # type: ignore[arg-type]
    pool = memory.pool(61003, trusted=False)
    stranger = process(uid=61003, pool=pool)

    def fails(_pool: Pool) -> Events:
        raise OSError(errno.EMFILE, "too many open files")

    monkeypatch.setattr(memory, "events", fails)
    with pytest.raises(OSError):
        endpoints.add_process(stranger, Envelope())
    assert list(memory.pools.values()) == [memory.system]
    memory.close()


def test_a_program_that_cannot_be_watched_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no descriptor for it: nobody would notice its end."""

    async def test() -> None:
        async with Inside() as system:
            started: list[int] = []

            def fails(pid: int) -> int:
                started.append(pid)
                raise OSError(errno.EMFILE, "too many open files")

            binding = ProgramBinding("/bin/sleep", True, ("1000",), os.getuid(), os.getgid())
            monkeypatch.setattr(os, "pidfd_open", fails)
            with pytest.raises(Refusal, match="cannot start /bin/sleep: too many open files"):
                system.irmd.facilities.superserver.start("name", binding)
            monkeypatch.undo()
            (pid,) = started
            with pytest.raises(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)

    run(test)


def test_a_process_is_watched_while_it_has_a_binding_of_its_own() -> None:
    """A pidfd for each refused binding would stay until the process ends."""

    async def test() -> None:
        async with Inside() as system:
            pid, tool, watched = os.getpid(), await system.tool(), system.irmd.manager._watched
            system.irmd.registry.bind_program(
                "m", ProgramBinding("/bin/m", False, (), os.getuid(), os.getgid())
            )
            await system.application("/bin/m")
            for refused in ("m", "a*b"):
                assert (await tool.call(bind_process=BindProcess(pid=pid, name=refused))).error
                assert not watched
            for name in ("n", "o"):
                assert not (await tool.call(bind_process=BindProcess(pid=pid, name=name))).error
            assert (await tool.call(bind_process=BindProcess(pid=pid, name="n"))).error
            assert not (await tool.call(unbind_process=UnbindProcess(pid=pid, name="n"))).error
            (pidfd,) = watched.values()
            assert not (await tool.call(name_destroy=NameDestroy(name="o"))).error
            assert not watched
            with pytest.raises(OSError):
                os.fstat(pidfd)

    run(test)
