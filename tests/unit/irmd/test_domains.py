"""Users of one system: a pool and a trust domain for each, given back with the user's last process."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from itertools import count
from typing import Any, cast

import pytest

from irmd import memory as memory_module
from irmd.descriptors import Descriptors
from irmd.endpoints import Endpoints
from irmd.flow import Step
from irmd.flow_table import FlowTable
from irmd.memory import RESERVE, Memory, PoolConfig, for_users
from irmd.peer import Peer
from irmd.records import Flow, Process
from irmd.server import DESCRIPTORS_OF_CONNECTION, SHARE, connections_of_one
from irmd.settings import Settings
from ouroboros.rpc.messages_pb2 import Envelope, SegmentGone
from ouroboros.rpc.service import Refusal
from tests.unit.dataplane.shm import SMALL


@pytest.fixture
def memory() -> Iterator[Memory]:
    made = Memory(PoolConfig(SMALL.classes))
    yield made
    made.close()


class Users:
    """An IPCP, and processes of users that have flows over it."""

    def __init__(self, memory: Memory) -> None:
        self.memory = memory
        self.flows = FlowTable(64)
        self.gone: list[SegmentGone] = []
        self.endpoints = Endpoints(memory, self.flows, announce=self.gone.append)
        self.ipcp = self.process(0, ipcp=True)

    def process(self, uid: int, *, ipcp: bool = False) -> Process:
        process = Process(
            token=self.memory.token(),
            peer=Peer(1, uid, uid, frozenset(), 0),
            program="/bin/test",
            session=cast(Any, None),
            pool=self.memory.pool(uid, trusted=uid == 0),
            fds=Descriptors(64, count(1)),
            ipcp=cast(Any, object()) if ipcp else None,
        )
        self.endpoints.add_process(process, Envelope())
        return process

    def flow(self, user: Process) -> Flow:
        """A flow of a user's process over the IPCP."""
        flow = self.flows.create(Step.ALLOC)
        mine, theirs = user.fds.take(), self.ipcp.fds.take()
        assert mine is not None and theirs is not None
        self.endpoints.open(flow, user, mine, self.ipcp, theirs, user.pool)
        flow.step(Step.GRANT)
        return flow

    def leave(self, user: Process, flow: Flow) -> None:
        """The process ends; the IPCP has been told, and has forgotten its end."""
        user.disconnected = True
        self.endpoints.close(flow, 0, orderly=False)
        self.endpoints.disconnected(user)
        self.endpoints.exited(user)
        self.endpoints.close(flow, 1, orderly=True)


def test_an_ipcp_no_longer_serves_a_user_whose_last_process_has_ended(memory: Memory) -> None:
    """One user who comes and goes uses up no trust domain of an IPCP, and none of the IRMd's descriptors."""
    users = Users(memory)
    for uid in (65534, 65533, 65534, 65534):
        one = users.process(uid)
        flow = users.flow(one)
        pool, region = one.pool.id, users.ipcp.events[one.pool.id].id
        users.gone.clear()
        users.leave(one, flow)
        assert list(users.ipcp.events) == [memory.system.id]
        assert list(memory.pools) == [memory.system.id]
        assert [list(message.pools) for message in users.gone] == [[pool]]
        assert region in users.gone[0].events


def test_another_process_of_the_user_keeps_the_domain(memory: Memory) -> None:
    users = Users(memory)
    one, other = users.process(65534), users.process(65534)
    flow = users.flow(one)
    region = users.ipcp.events[one.pool.id]
    users.leave(one, flow)
    assert users.ipcp.events[other.pool.id] is region
    assert region.id not in users.gone[-1].events


def test_users_beyond_the_limit_are_refused_by_name(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_module, "USERS", 2)
    one = memory.pool(65534, trusted=False)
    memory.pool(65533, trusted=False)
    with pytest.raises(OSError, match=r"2 users .* user 65531 ") as refused:
        memory.pool(65531, trusted=False)
    assert refused.value.errno == errno.EUSERS
    assert memory.pool(65534, trusted=False) is one, "whoever is served stays so"
    assert memory.pool(0, trusted=True) is memory.system
    memory.release_pool(one)
    assert memory.pool(65531, trusted=False).uid == 65531


def test_a_dead_process_is_looked_for_in_its_own_pool_only(memory: Memory) -> None:
    """The time that the end of a process takes does not grow with the number of users."""
    users = Users(memory)
    for uid in range(60000, 60010):
        users.process(uid)
    seen: list[object] = []
    reclaim = memory.reclaim
    memory.reclaim = lambda token, pools=None: seen.append(pools) or reclaim(token, pools)  # type: ignore[method-assign]
    one = users.process(65534)
    users.leave(one, users.flow(one))
    assert seen == [[one.pool]]


def test_segments_of_pairs_without_flows_are_given_up(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user that has had a flow between each two of many processes does not hold a descriptor for each pair for ever."""
    monkeypatch.setattr(memory_module, "IDLE_PAIRS", 3)
    users = Users(memory)
    processes = [users.process(65534) for _ in range(6)]
    for process in processes:
        flow = users.flow(process)
        users.endpoints.close(flow, 0, orderly=True)
        users.endpoints.close(flow, 1, orderly=True)
    assert len(memory._pairs) == 3
    assert sum(len(message.segments) for message in users.gone) == 3
    kept = users.flow(processes[-1])
    assert kept.memory is not None and kept.memory.segment_id not in [
        number for message in users.gone for number in message.segments
    ]
    for process in processes[:-1]:
        process.disconnected = True
        users.endpoints.disconnected(process)
        users.endpoints.exited(process)
    users.leave(processes[-1], kept)
    assert not memory._pairs and not memory._idle and not memory._flows_in


def test_the_connections_of_one_user_leave_descriptors_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda _which: (4096, 4096))
    assert connections_of_one(Settings()) == 4096 // SHARE // DESCRIPTORS_OF_CONNECTION
    monkeypatch.setattr("resource.getrlimit", lambda _which: (1 << 20, 1 << 20))
    assert connections_of_one(Settings(connections=7)) == 7


def test_users_together_leave_descriptors_for_root_and_ipcps(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each user within its own bound, they could fill all of the IRMd's."""
    users = Users(memory)
    user, root = users.process(65534), users.process(0)
    regions = set(memory._events)
    monkeypatch.setattr("irmd.memory.for_users", lambda fd: False)
    for refused in (lambda: users.flow(user), lambda: memory.events(user.pool)):
        with pytest.raises((Refusal, OSError), match="users' processes have all file descriptors"):
            refused()
        assert set(memory._events) == regions and not any(memory._pairs.values())
    users.flow(root)
    memory.events()
    assert not user.flows and users.ipcp.fds.used == 1 + user.fds.used


def test_the_last_quarter_is_the_reserve(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda _which: (4096, 4096))
    assert for_users(4096 - 4096 // RESERVE - 1) and not for_users(4096 - 4096 // RESERVE)
