"""Flows at the limits of packet buffers, of descriptors, and of the IRMd (docs/reference/api.md)."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.system.conftest import MakeSystem, System
from tests.system.ends import (
    EBADF,
    EFLOWDOWN,
    EIRMD,
    ENOMEM,
    QOS_DATA,
    QOS_RAW,
    FEventQueue,
    Flow,
    FlowDownException,
    FlowException,
    FlowSet,
    FlowWouldBlock,
    IrmdError,
    bind,
    conserved,
    ends,
    flow_alloc,
    raises,
    scenario,
    start,
)


def exhausting_the_pool() -> None:
    client, server = ends()
    flows = [(client, server)]
    client.blocking = False
    with raises(FlowException, ENOMEM) as caught:
        while True:
            try:
                flows[-1][0].write(bytes(60000))
            except FlowWouldBlock:
                flows.append(ends())
                flows[-1][0].blocking = False
    assert isinstance(caught[0], MemoryError)
    full = flows[-1][0]
    with raises(MemoryError):
        full.writev([bytes(60000)])
    for _, reader in flows:
        reader.blocking = False
        with raises(FlowWouldBlock):
            while True:
                reader.recv()
    assert full.write(bytes(60000)) == 60000
    for pair in flows:
        for flow in pair:
            flow.dealloc()


def too_many_flows(most: str) -> None:
    flows: list[Flow] = []
    with raises(FlowException, EBADF) as caught:
        while True:
            flow = Flow()
            flow.accept(0)
            flows.append(flow)
    assert len(flows) == int(most)
    assert len(str(caught[0])) > 20
    print(f"refused: {caught[0]}")
    for flow in flows:
        flow.dealloc()
    assert ends()


@pytest.fixture
def small(make_system: MakeSystem, tmp_path: Path) -> System:
    """A system with little of everything."""
    config = tmp_path / "irmd.toml"
    config.write_text(CONFIG)
    return make_system("--config", str(config))


CONFIG = """
[irmd]
descriptors = 20

[pool]
classes = [[512, 256, 64], [2048, 128, 64], [10240, 128, 64], [67584, 128, 64]]
"""


def test_a_pool_that_is_exhausted(small: System) -> None:
    scenario(small, exhausting_the_pool)
    assert small.json("pool show")["pools"][0]["failures"] >= 2


def test_too_many_flows(small: System) -> None:
    output = scenario(small, too_many_flows, "20")
    assert "refused: " in output


def losing_the_irmd(qos: str) -> None:
    bind()
    blocked = [Flow(), Flow()]
    errors: dict[str, BaseException] = {}
    clients = []
    flows = []
    for _ in range(2):
        client, server = ends(qos={"raw": QOS_RAW, "data": QOS_DATA}[qos])
        clients.append(client)
        flows.append(server)
    waiting = FlowSet([flows[1]])

    def attempt(name: str, call: Callable[[], object]) -> threading.Thread:
        def run() -> None:
            try:
                call()
            except BaseException as exc:
                errors[name] = exc

        thread = threading.Thread(target=run)
        thread.start()
        return thread

    def wait() -> None:
        queue = FEventQueue()
        kinds = []
        while True:
            waiting.wait(queue)
            kinds += [kind for _, kind in queue]
            print(kinds, flush=True)

    threads = [
        attempt("read", flows[0].read),
        attempt("wait", wait),
        attempt("accept", blocked[0].accept),
    ]
    print("ready", flush=True)
    for thread in threads:
        thread.join()
    assert isinstance(errors["read"], FlowDownException) and "IRMd" in str(errors["read"]), errors
    assert isinstance(errors["wait"], IrmdError), errors
    assert isinstance(errors["accept"], IrmdError) and errors["accept"].errno == EIRMD, errors
    for flow in clients + flows:
        with raises(FlowDownException, EFLOWDOWN, "start it with `irmd`"):
            flow.write(b"x")
    with raises(IrmdError, EIRMD):
        flow_alloc("end")
    print("lost", flush=True)
    assert sys.stdin.readline() == "again\n"
    from tests.system import ends as module

    module._bound.clear()
    client, server = ends()
    client.write(b"again")
    assert server.read() == b"again"
    waiting.destroy()
    for flow in clients + flows:
        flow.dealloc()
    used = os.times()
    print(f"cpu {used.user + used.system}", flush=True)
    client.dealloc()
    server.dealloc()


@pytest.mark.parametrize("qos", ["raw", "data"])
def test_the_irmd_is_killed_and_another_one_started(make_system: MakeSystem, qos: str) -> None:
    system = make_system()
    program = start(system, losing_the_irmd, qos, stdin=subprocess.PIPE)
    program.expect("ready")
    system.irmd.kill()
    program.expect("lost")
    assert "FlowDown" in program.output, "the set reports its flows' end first"
    system.start()
    program.send("again\n")
    assert program.wait() == 0, program.output
    conserved(system)
