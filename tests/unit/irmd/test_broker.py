"""Flows through a real IRMd, seen from the RPC socket: every way to get one, to lose one, to give up."""

from __future__ import annotations

import errno
import os
import select
import subprocess
from pathlib import Path

import pytest

from ouroboros.errors import EIPCP, ENAME
from ouroboros.ipcp_types import IpcpType
from ouroboros.rpc.messages_pb2 import (
    BindProcess,
    BindProgram,
    Cancel,
    Envelope,
    FlowAccept,
    FlowAlloc,
    FlowInfo,
    FlowJoin,
    FlowList,
    IpcpBootstrap,
    IpcpConfig,
    IpcpCreate,
    NameCreate,
    NameDestroy,
    NameInfo,
    NameList,
    NameRegister,
    PoolList,
    QosSpec,
    UnbindProcess,
)

from .daemon import Daemon, Peer

QOS = QosSpec(delay=50, bandwidth=7, in_order=1)
MS = 10**6


def bind(irmd: Daemon, name: str = "n") -> None:
    """Bind this process, which is all the peers of a test, to a name."""
    assert not irmd.tool().ask(bind_process=BindProcess(pid=os.getpid(), name=name)).error


def flows(irmd: Daemon) -> list[FlowInfo]:
    return list(irmd.tool().ask(flow_list=FlowList()).flow_table.flows)


def asks(irmd: Daemon, name: str) -> tuple[Peer, int]:
    """A client that waits for a flow, behind those that wait already."""
    client, before = irmd.application(), len(flows(irmd))
    number = client.send(Envelope(flow_alloc=FlowAlloc(dst=name)))
    _settled(irmd, before + 1)
    return client, number


def layer(irmd: Daemon, name: str = "n") -> int:
    """A local layer in which a name is registered; the pid of its IPCP."""
    tool = irmd.tool()
    pid = tool.ask(ipcp_create=IpcpCreate(name="loc", type=IpcpType.LOCAL)).ipcp_info.pid
    assert not tool.ask(ipcp_bootstrap=IpcpBootstrap(pid=pid, config=IpcpConfig(layer="layer"))).error
    tool.ask(name_create=NameCreate(info=NameInfo(name=name)))
    assert not tool.ask(name_register=NameRegister(name=name, pid=pid)).error
    return pid


def pair(irmd: Daemon, **alloc: object) -> tuple[Peer, Envelope, Peer, Envelope]:
    """A flow: requester and its reply, acceptor and its reply."""
    server, client = irmd.application(), irmd.application()
    waiting = server.send(Envelope(flow_accept=FlowAccept()))
    got = client.ask(flow_alloc=FlowAlloc(dst="n", qos=QOS, **alloc))  # type: ignore[arg-type]
    assert not got.error, got.text
    return client, got, server, server.reply(waiting)


# ---------------------------------------------------------------- direct flows


def test_a_direct_flow_is_one_flow_with_two_ends(irmd: Daemon) -> None:
    bind(irmd)
    _, ours, _, theirs = pair(irmd)
    a, b = ours.flow_endpoint, theirs.flow_endpoint
    assert (a.flow_id, a.segment, a.index, a.serial, a.pool) == (
        b.flow_id,
        b.segment,
        b.index,
        b.serial,
        b.pool,
    )
    assert (a.side, b.side) == (0, 1)
    assert (a.fd, b.fd) == (64, 64)
    assert (a.peer_events, a.peer_fd) == (b.events, b.fd) and (b.peer_events, b.peer_fd) == (a.events, a.fd)
    assert a.qos == QOS and b.qos == QOS
    assert a.mpl_ms == 1 and a.max_packet >= 65536


def test_resources_are_sent_once(irmd: Daemon) -> None:
    bind(irmd)
    client, first, server, _ = pair(irmd)
    assert len(first.flow_endpoint.resources) == 2  # the segment and the peer's events; our own came before
    server.send(Envelope(flow_accept=FlowAccept()))
    second = client.ask(flow_alloc=FlowAlloc(dst="n"))
    assert not second.flow_endpoint.resources and client.fds == 0


def test_descriptors_are_the_lowest_free(irmd: Daemon) -> None:
    bind(irmd)
    client, _, server, _ = pair(irmd)
    for _ in range(2):
        server.send(Envelope(flow_accept=FlowAccept()))
    assert client.ask(flow_alloc=FlowAlloc(dst="n")).flow_endpoint.fd == 65
    client.dealloc(64)
    assert client.ask(flow_alloc=FlowAlloc(dst="n")).flow_endpoint.fd == 64


def test_a_flow_lives_until_both_ends_have_gone(irmd: Daemon) -> None:
    bind(irmd)
    client, _, server, _ = pair(irmd)
    client.dealloc(64)
    client.ask(flow_alloc=FlowAlloc(dst="nobody"))  # it has got that far
    (flow,) = flows(irmd)
    assert flow.down and flow.state == "dealloc-pending"
    server.dealloc(64)
    server.ask(flow_alloc=FlowAlloc(dst="nobody"))
    assert not flows(irmd)


def test_the_death_of_a_process_takes_its_flows_down(irmd: Daemon) -> None:
    bind(irmd)
    client, _, server, _ = pair(irmd)
    server.close()
    irmd.tool()
    (flow,) = flows(irmd)
    assert flow.down
    client.close()
    irmd.tool()
    assert not flows(irmd)


def test_descriptors_run_out_with_a_text() -> None:
    with Daemon("[irmd]\ndescriptors = 1\n") as daemon:
        peer = daemon.application()
        peer.send(Envelope(flow_accept=FlowAccept()))
        reply = peer.reply(peer.send(Envelope(flow_accept=FlowAccept())))
        assert reply.error == errno.EBADF and "descriptors" in reply.text


def test_the_system_has_a_limit() -> None:
    with Daemon("[irmd]\nflows = 1\n") as daemon:
        daemon.application().send(Envelope(flow_accept=FlowAccept()))
        reply = daemon.application().ask(flow_accept=FlowAccept())
        assert reply.error == errno.ENOSPC


# ---------------------------------------------------------------- refusals and time


def test_a_name_that_leads_nowhere_is_refused_at_once(irmd: Daemon) -> None:
    reply = irmd.application().ask(flow_alloc=FlowAlloc(dst="nobody"))
    assert reply.error == ENAME and '"nobody"' in reply.text


@pytest.mark.parametrize(("name", "error"), [("", errno.EINVAL), ("x" * 256, errno.ENAMETOOLONG)])
def test_what_is_no_name_is_refused(irmd: Daemon, name: str, error: int) -> None:
    assert irmd.application().ask(flow_alloc=FlowAlloc(dst=name)).error == error


def test_a_process_between_two_accepts_is_waited_for(irmd: Daemon) -> None:
    bind(irmd)
    client, server = irmd.application(), irmd.application()
    number = client.send(Envelope(flow_alloc=FlowAlloc(dst="n")))
    assert not server.ask(flow_accept=FlowAccept()).error
    assert not client.reply(number).error


def test_one_that_does_not_accept_is_given_up(irmd: Daemon) -> None:
    bind(irmd)
    irmd.application()
    reply = irmd.application().ask(flow_alloc=FlowAlloc(dst="n"))
    assert reply.error == errno.ETIMEDOUT and "did not accept" in reply.text


def test_requests_wait_for_their_turn_as_long_as_a_process_accepts(irmd: Daemon) -> None:
    bind(irmd)
    server = irmd.application()
    # It is a server from now on.
    assert server.ask(flow_accept=FlowAccept(timeout_ns=MS)).error == errno.ETIMEDOUT
    asked = [asks(irmd, "n") for _ in range(6)]
    for client, number in asked:  # in the order in which they came
        # It is busy, for the third part of the time that a request waits for one accept.
        assert server.ask(flow_accept=FlowAccept(timeout_ns=1)).flow_endpoint.fd
        reply = client.reply(number)
        assert not reply.error, reply.text
        assert not select.select([server.sock], [], [], 0.3)[0]


def test_the_requests_of_all_names_of_a_process_are_one_queue(irmd: Daemon) -> None:
    bind(irmd, "n")
    bind(irmd, "m")
    server = irmd.application()
    assert server.ask(flow_accept=FlowAccept(timeout_ns=MS)).error == errno.ETIMEDOUT
    asked = [asks(irmd, name) for name in ("m", "n", "m", "n")]
    for client, number in asked:
        server.ask(flow_accept=FlowAccept())
        assert not client.reply(number).error


def test_a_client_of_its_own_program_does_not_wait_for_itself(irmd: Daemon) -> None:
    """Client and server of our tools are one program: the client is bound to the name, and will not accept."""
    path = program(irmd, "server", "#!/bin/sh\nexit 3\n")
    assert not irmd.tool().ask(bind_program=BindProgram(path=path, name="n", auto=True)).error
    irmd.application(path)  # nor for another client
    reply = irmd.application(path).ask(flow_alloc=FlowAlloc(dst="n", timeout_ns=800 * MS))
    assert reply.error == errno.ECONNREFUSED and "exited with status 3" in reply.text


def test_a_process_that_will_accept_may_ask_before(irmd: Daemon) -> None:
    """Client and server in one process, whose accept comes a moment later."""
    bind(irmd)
    peer = irmd.application()
    alloc = peer.send(Envelope(flow_alloc=FlowAlloc(dst="n")))
    accept = peer.send(Envelope(flow_accept=FlowAccept()))
    assert {peer.receive().id, peer.receive().id} == {alloc, accept}
    assert len(flows(irmd)) == 1


def test_a_client_that_alone_is_bound_is_told_so(irmd: Daemon) -> None:
    bind(irmd)
    reply = irmd.application().ask(flow_alloc=FlowAlloc(dst="n"))
    assert reply.error == ENAME and "only the process that asks is bound" in reply.text


def test_an_accept_whose_flow_ends_before_it_is_answered_keeps_its_deadline(irmd: Daemon) -> None:
    pid = layer(irmd)
    bind(irmd)
    client, server = irmd.application(), irmd.application()
    assert server.ask(flow_accept=FlowAccept(timeout_ns=MS)).error == errno.ETIMEDOUT
    number = client.send(Envelope(flow_alloc=FlowAlloc(dst="n", layer="layer")))
    while not any(flow.layer for flow in flows(irmd)):
        pass
    irmd.tool().ask(name_create=NameCreate(info=NameInfo(name="m")))
    # The IPCP has announced the flow before it does this.
    irmd.tool().ask(name_register=NameRegister(name="m", pid=pid))
    client.note(Envelope(cancel=Cancel(id=number)))
    assert client.reply(number).error == errno.EINTR
    assert server.ask(flow_accept=FlowAccept(timeout_ns=300 * MS)).error == errno.ETIMEDOUT


def test_one_that_is_bound_while_it_starts_is_waited_for(irmd: Daemon) -> None:
    """`python server.py & irm bind process $! name n; python client.py`: the server may still be importing."""
    with subprocess.Popen(["sleep", "100"]) as starting:
        try:
            assert not irmd.tool().ask(bind_process=BindProcess(pid=starting.pid, name="n")).error
            reply = irmd.application().ask(flow_alloc=FlowAlloc(dst="n"))
            assert reply.error == errno.ETIMEDOUT and "did not accept" in reply.text
        finally:
            starting.kill()


def test_the_callers_deadline(irmd: Daemon) -> None:
    bind(irmd)
    irmd.application()
    client = irmd.application()
    assert client.ask(flow_alloc=FlowAlloc(dst="n", timeout_ns=MS)).error == errno.ETIMEDOUT
    assert client.ask(flow_accept=FlowAccept(timeout_ns=MS)).error == errno.ETIMEDOUT
    assert not flows(irmd)


def test_those_who_wait_go_on_when_the_last_server_is_unbound(irmd: Daemon) -> None:
    bind(irmd)
    irmd.application()
    client = irmd.application()
    number = client.send(Envelope(flow_alloc=FlowAlloc(dst="n")))
    irmd.tool().ask(unbind_process=UnbindProcess(pid=os.getpid()))
    assert client.reply(number).error == ENAME


def test_those_who_wait_go_on_when_the_name_is_destroyed(irmd: Daemon) -> None:
    bind(irmd)
    irmd.application()
    client = irmd.application()
    number = client.send(Envelope(flow_alloc=FlowAlloc(dst="n")))
    irmd.tool().ask(name_destroy=NameDestroy(name="n"))
    assert client.reply(number).error == ENAME


def test_a_bound_process_that_waits_serves_those_who_waited_for_it(irmd: Daemon) -> None:
    server = irmd.application()
    waiting = server.send(Envelope(flow_accept=FlowAccept()))
    bind(irmd)
    assert not irmd.application().ask(flow_alloc=FlowAlloc(dst="n")).error
    assert not server.reply(waiting).error


def test_giving_up(irmd: Daemon) -> None:
    peer = irmd.application()
    number = peer.send(Envelope(flow_accept=FlowAccept()))
    peer.note(Envelope(cancel=Cancel(id=number)))
    assert peer.reply(number).error == errno.EINTR
    peer.note(Envelope(cancel=Cancel(id=number)))  # too late, and harmless
    peer.note(Envelope(cancel=Cancel(id=12345)))
    assert not flows(irmd)


# ---------------------------------------------------------------- asynchronous


def test_an_asynchronous_allocation(irmd: Daemon) -> None:
    bind(irmd)
    client, server = irmd.application(), irmd.application()
    pending = client.ask(flow_alloc=FlowAlloc(dst="n", asynchronous=True, timeout_ns=0))
    assert pending.flow_pending.fd == 64
    server.ask(flow_accept=FlowAccept())
    done = client.receive().flow_done
    assert (done.fd, done.error, done.endpoint.fd) == (64, 0, 64) and done.endpoint.serial


def test_an_asynchronous_accept(irmd: Daemon) -> None:
    bind(irmd)
    client, server = irmd.application(), irmd.application()
    assert server.ask(flow_accept=FlowAccept(asynchronous=True)).flow_pending.fd == 64
    assert not client.ask(flow_alloc=FlowAlloc(dst="n", qos=QOS)).error
    assert server.receive().flow_done.endpoint.qos == QOS


def test_an_asynchronous_failure_keeps_the_descriptor_until_it_is_given_back(irmd: Daemon) -> None:
    client = irmd.application()
    assert client.ask(flow_alloc=FlowAlloc(dst="nobody", asynchronous=True)).flow_pending.fd == 64
    assert client.receive().flow_done.error == ENAME
    assert client.ask(flow_accept=FlowAccept(asynchronous=True)).flow_pending.fd == 65
    for fd in (64, 65):
        client.dealloc(fd)
    assert client.ask(flow_accept=FlowAccept(asynchronous=True)).flow_pending.fd == 64
    assert len(flows(irmd)) == 1


# ---------------------------------------------------------------- over a layer


def test_a_flow_over_a_layer_is_two_flows(irmd: Daemon) -> None:
    pid = layer(irmd)
    bind(irmd)
    client, ours, server, theirs = pair(irmd, layer="layer")
    assert ours.flow_endpoint.mpl_ms == 100 and theirs.flow_endpoint.qos == QOS
    listed = flows(irmd)
    assert len(listed) == 2 and all(flow.layer == "layer" and flow.ends[1].pid == pid for flow in listed)
    client.dealloc(ours.flow_endpoint.fd)
    server.dealloc(theirs.flow_endpoint.fd)
    _settled(irmd, 0)


def test_a_layer_that_does_not_know_the_name(irmd: Daemon) -> None:
    layer(irmd)
    client = irmd.application()
    assert client.ask(flow_alloc=FlowAlloc(dst="other", layer="layer")).error == ENAME
    assert client.ask(flow_alloc=FlowAlloc(dst="n", layer="other")).error == EIPCP
    assert client.ask(flow_alloc=FlowAlloc(dst="other")).error == ENAME
    assert client.ask(flow_alloc=FlowAlloc(dst="n")).error == ENAME  # registered, but nobody is bound
    assert client.ask(flow_join=FlowJoin(layer="layer")).error == errno.ENOTSUP
    assert client.ask(flow_join=FlowJoin(layer="other")).error == EIPCP
    _settled(irmd, 0)


def test_giving_up_a_flow_over_a_layer(irmd: Daemon) -> None:
    layer(irmd)
    bind(irmd)
    client, server = irmd.application(), irmd.application()
    number = client.send(Envelope(flow_alloc=FlowAlloc(dst="n", layer="layer")))
    client.note(Envelope(cancel=Cancel(id=number)))
    assert client.reply(number).error == errno.EINTR
    waiting = server.send(Envelope(flow_accept=FlowAccept()))
    assert not client.ask(flow_alloc=FlowAlloc(dst="n", layer="layer")).error
    assert not server.reply(waiting).error  # not an error for the request that was given up


def test_the_death_of_an_ipcp(irmd: Daemon) -> None:
    pid = layer(irmd)
    bind(irmd)
    client, _, _, _ = pair(irmd, layer="layer")
    pending = client.send(Envelope(flow_alloc=FlowAlloc(dst="n", layer="layer")))
    irmd.kill(pid)
    assert client.reply(pending).error in (EIPCP, ENAME)  # while it was asked for the flow, or for the name
    tool = irmd.tool()
    while tool.ask(flow_list=FlowList()).flow_table.flows and not all(flow.down for flow in flows(irmd)):
        pass
    while tool.ask(name_list=NameList(name="n")).name_table.names[0].registrations:
        pass


def _settled(irmd: Daemon, number: int) -> None:
    """Ask until the layer has confirmed."""
    while len(flows(irmd)) != number:
        pass


# ---------------------------------------------------------------- started on demand


def program(irmd: Daemon, name: str, text: str) -> str:
    path = irmd.base / name
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


def test_a_program_that_ends_at_once_is_named_with_its_status(irmd: Daemon) -> None:
    path = program(irmd, "server", "#!/bin/sh\nexit 3\n")
    assert not irmd.tool().ask(bind_program=BindProgram(path=path, name="n", auto=True)).error
    reply = irmd.application().ask(flow_alloc=FlowAlloc(dst="n"))
    assert reply.error == errno.ECONNREFUSED and f"{path} exited with status 3" in reply.text
    assert "not started again" in irmd.application().ask(flow_alloc=FlowAlloc(dst="n")).text


def test_a_program_that_cannot_be_executed(irmd: Daemon) -> None:
    path = program(irmd, "server", "no interpreter")
    irmd.tool().ask(bind_program=BindProgram(path=path, name="n", auto=True))
    reply = irmd.application().ask(flow_alloc=FlowAlloc(dst="n"))
    assert reply.error == errno.ECONNREFUSED and f"cannot start {path}" in reply.text
    Path(path).chmod(0o644)
    refused = irmd.tool().ask(bind_program=BindProgram(path=path, name="m", auto=True))
    assert refused.error == errno.EACCES
    assert irmd.tool().ask(bind_program=BindProgram(path="/nowhere", name="m")).error == errno.ENOENT
    assert irmd.tool().ask(bind_program=BindProgram(path="server", name="m")).error == errno.EINVAL


def test_a_program_gets_its_arguments_and_a_small_environment(irmd: Daemon) -> None:
    out = irmd.base / "out"
    path = program(irmd, "server", f'#!/bin/sh\n(echo "$@"; env) > {out}\nexit 0\n')
    irmd.tool().ask(bind_program=BindProgram(path=path, name="n", auto=True, args=["-l", "a b"]))
    irmd.application().ask(flow_alloc=FlowAlloc(dst="n"))
    said, *environment = out.read_text().splitlines()
    assert said == "-l a b"
    names = {line.split("=")[0] for line in environment} - {"PWD", "SHLVL", "_", "OLDPWD"}
    assert names == {"PATH", "HOME", "LANG", "OUROBOROS_RUNDIR"}


def test_programs_end_with_the_irmd() -> None:
    with Daemon("[irmd]\ngrace = 0.2\n") as daemon:
        marker = daemon.base / "pid"
        path = program(
            daemon, "server", f"#!/bin/sh\ntrap '' TERM\necho $$ > {marker}\nsleep 1000 &\nwait\nwait\n"
        )
        daemon.tool().ask(bind_program=BindProgram(path=path, name="n", auto=True))
        client = daemon.application()
        client.ask(flow_alloc=FlowAlloc(dst="n", timeout_ns=500 * MS))
        pid = int(marker.read_text())
        daemon.killed.add(pid)  # by the IRMd, because it does not end
        assert daemon.stop() == 0
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


# ---------------------------------------------------------------- pools


def test_pools_are_listed_in_full_when_nobody_holds_anything(irmd: Daemon) -> None:
    irmd.application()
    (pool,) = irmd.tool().ask(pool_list=PoolList()).pool_table.pools
    assert pool.name == "system"
    assert [row.free for row in pool.classes] == [row.total for row in pool.classes]
