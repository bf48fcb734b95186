"""Connecting to the IRMd, or attaching to a flow, fails half-way: the library returns all resources that it had acquired."""

from __future__ import annotations

import os
import socket
from typing import Any

import pytest

from irmd.memory import Memory
from ouroboros import library
from ouroboros.dataplane._dataplane import ffi, lib
from ouroboros.dataplane.resources import Resources
from ouroboros.errors import OuroborosError
from ouroboros.library import Library
from ouroboros.qos import QOS_DATA
from ouroboros.rpc.messages_pb2 import FlowEndpoint, Resource, Welcome
from tests.unit.dataplane.shm import SMALL, Process, close_all


class FakeClient:
    """A connection that has been welcomed."""

    def __init__(self, welcome: Welcome, fds: list[int]) -> None:
        self.welcome, self.welcome_fds = welcome, fds
        self.sock, self.other = socket.socketpair()
        self.closed = False

    def fileno(self) -> int:
        return self.sock.fileno()

    def close(self) -> None:
        self.closed = True
        self.sock.close()
        self.other.close()


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("step", ["process_create", "process_watch"])
def test_a_connection_that_cannot_be_used_is_closed(step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = Memory(SMALL)
    events = memory.events()
    before = descriptors()
    welcome = Welcome(process=memory.token(), pool=memory.system.id, events=events.id)
    welcome.resources.add(kind=Resource.POOL, id=memory.system.id)
    welcome.resources.add(kind=Resource.EVENTS, id=events.id)
    client = FakeClient(welcome, [os.dup(fd) for fd in (memory.system.fd, *events.fds)])
    monkeypatch.setattr(library.Client, "connect", lambda *args, **keywords: client)

    class Failing:
        """The data plane, in which one step fails."""

        def __getattr__(self, name: str) -> Any:
            if name != step:
                return getattr(lib, name)
            return (lambda *args: ffi.NULL) if name == "process_create" else (lambda *args: -11)

    monkeypatch.setattr(library, "lib", Failing())
    with pytest.raises(OuroborosError):
        Library()
    assert client.closed
    assert descriptors() - before <= (step == "process_watch") * 2  # its process stays: see process.h
    events.close()
    memory.close()


@pytest.mark.parametrize(
    "wrong",
    [{"mpl_ms": 2**63}, {"max_packet": 1}, {"cipher": 7, "key": bytes(32)}, {"cipher": 901, "key": b"short"}, {"side": 2},
     {"pool": 99}],
)  # fmt: skip
def test_an_end_that_cannot_be_used_is_released(wrong: dict[str, Any]) -> None:
    """Its descriptor goes back to the IRMd, and what it used is held by nobody."""
    memory, released = Memory(SMALL), []
    ours, theirs = Process(memory), Process(memory)
    flow = memory.flow(ours.token, theirs.token, memory.system)
    owner = Library.__new__(Library)
    owner.resources = Resources(ffi, lib)
    owner.resources.token = ours.token
    owner.process = ours.process
    owner.release = lambda fd, instance, quiet=0: released.append((fd, instance))  # type: ignore[method-assign]
    endpoint = FlowEndpoint(
        fd=64,
        instance=7,
        index=flow.index,
        serial=flow.serial,
        peer_fd=65,
        pool=memory.system.id,
        segment=flow.segment_id,
        peer_events=theirs.events.id,
        qos=QOS_DATA.to_proto(),
        mpl_ms=1,
        direct=True,
        max_packet=1400,
        check=True,
    )
    for kind, number in (
        (Resource.POOL, memory.system.id),
        (Resource.SEGMENT, flow.segment_id),
        (Resource.EVENTS, theirs.events.id),
    ):
        endpoint.resources.add(kind=kind, id=number)
    owner.resources.take(endpoint.resources, [memory.system.fd, flow.segment_fd, *theirs.events.doorbell_fds])
    strange = FlowEndpoint()
    strange.CopyFrom(endpoint)
    for name, value in wrong.items():
        setattr(strange, name, value)
    with pytest.raises(OuroborosError):
        owner.attach(strange)
    assert released == [(64, 7)]
    handle = owner.attach(endpoint)
    assert lib.flow_get_flags(handle) & 2
    owner.let_go(handle)
    owner.resources.close()
    flow.release()
    memory.close()
    close_all()
