"""The RPC socket: the cost of bad input and the party that bears it; versions, credentials, a second IRMd."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import socket
import subprocess
import sys

import pytest

from irmd.turned_away import MAX_PENDING, TurnedAway
from ouroboros.errors import ENAME
from ouroboros.rpc.codec import RPC_VERSION, receive, send
from ouroboros.rpc.messages_pb2 import (
    Envelope,
    FlowAccept,
    FlowAlloc,
    Hello,
    IpcpCreate,
    IpcpList,
    NameCreate,
    NameInfo,
    NameList,
    Welcome,
)

from .daemon import PATIENCE, Daemon

BAD = {
    "garbage": b"\xff" * 100,
    "cut": Envelope(id=1, hello=Hello(program="/bin/x" * 20)).SerializeToString()[:-7],
    "too large": b"\x00" * 65537,
    "nothing in it": Envelope(id=1).SerializeToString(),
    "not hello": Envelope(id=1, ipcp_list=IpcpList()).SerializeToString(),
    "hello that wants no answer": Envelope(hello=Hello(rpc_version=RPC_VERSION)).SerializeToString(),
}
LATER_BAD = {
    "garbage": b"\xff" * 100,
    "nothing in it": Envelope(id=9).SerializeToString(),
    "hello again": Envelope(id=9, hello=Hello()).SerializeToString(),
    "an answer as question": Envelope(id=9, welcome=Welcome()).SerializeToString(),
    "accept without id": Envelope(flow_accept=FlowAccept()).SerializeToString(),
    "list without id": Envelope(name_list=NameList()).SerializeToString(),
}


def test_bad_first_messages_cost_the_connection_and_no_other(irmd: Daemon) -> None:
    good = irmd.tool()
    for what, octets in BAD.items():
        peer = irmd.peer()
        peer.sock.send(octets)
        assert peer.closed(), what
        assert not good.ask(name_list=NameList()).error, what
    assert f"pid {os.getpid()} (uid {os.getuid()})" in irmd.log.read_text()


def test_bad_later_messages_cost_the_connection_and_no_other(irmd: Daemon) -> None:
    good = irmd.tool()
    for what, octets in LATER_BAD.items():
        peer = irmd.application()
        peer.sock.send(octets)
        assert peer.closed(), what
        assert not good.ask(name_list=NameList()).error, what


def test_a_reply_that_nobody_asked_for_is_ignored(irmd: Daemon) -> None:
    peer = irmd.tool()
    peer.note(Envelope(id=77, reply=True, error=5))
    assert not peer.ask(name_list=NameList()).error


def test_an_id_cannot_be_used_twice_at_once(irmd: Daemon) -> None:
    peer = irmd.application()
    number = peer.send(Envelope(flow_accept=FlowAccept()))
    peer.note(Envelope(id=number, flow_accept=FlowAccept()))
    assert peer.closed()


def test_a_client_that_does_not_read_is_closed(irmd: Daemon) -> None:
    peer, other = irmd.tool(), irmd.tool()
    for at in range(40):
        other.ask(name_create=NameCreate(info=NameInfo(name=f"{at:0200}")))
    peer.sock.setblocking(False)
    request = Envelope(id=1, name_list=NameList()).SerializeToString()
    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        while True:
            try:
                peer.sock.send(request)
            except BlockingIOError:
                other.ask(name_list=NameList(name=f"{0:0200}"))  # the IRMd gets on
    for _ in range(1000):  # the log follows the end of the connection, in the next turn of the IRMd's loop
        if "does not read its messages" in irmd.log.read_text():
            return
        other.ask(name_list=NameList(name=f"{0:0200}"))
    raise AssertionError(irmd.log.read_text())


def test_requests_outstanding_are_bounded() -> None:
    with Daemon("[irmd]\nrequests = 2\n") as daemon:
        peer = daemon.application()
        for _ in range(2):
            peer.send(Envelope(flow_accept=FlowAccept()))
        assert peer.reply(peer.send(Envelope(flow_accept=FlowAccept()))).error == errno.EAGAIN


@pytest.mark.parametrize("ours", [RPC_VERSION - 1, RPC_VERSION + 1])
def test_a_mismatch_of_versions_says_which_is_older(irmd: Daemon, ours: int) -> None:
    reply = irmd.peer().hello(rpc_version=ours)
    assert reply.error == errno.EPROTO
    assert ("the library is older" if ours < RPC_VERSION else "the IRMd is older") in reply.text
    assert "\n" not in reply.text


def test_a_mismatch_of_layouts_matters_to_applications_only(irmd: Daemon) -> None:
    assert "shared-memory layout" in irmd.peer().hello(layout_version=99).text
    assert not irmd.peer().hello(Hello.Kind.TOOL, layout_version=99).error


def test_nobody_becomes_an_ipcp_by_saying_so(irmd: Daemon) -> None:
    assert irmd.peer().hello(Hello.Kind.IPCP).error == errno.EPERM


def test_tools_have_no_flows(irmd: Daemon) -> None:
    assert irmd.tool().ask(flow_accept=FlowAccept()).error == errno.EPERM


def test_long_lists_come_in_pages(irmd: Daemon) -> None:
    tool = irmd.tool()
    names = [f"{at:04}" + "x" * 246 for at in range(500)]
    for name in names:
        assert not tool.ask(name_create=NameCreate(info=NameInfo(name=name))).error
    got: list[str] = []
    offset, pages = 0, 0
    while True:
        table = tool.ask(name_list=NameList(offset=offset)).name_table
        got += [info.name for info in table.names]
        offset, pages = table.next, pages + 1
        if not offset:
            break
    assert got == names and pages > 1


def test_a_second_irmd_is_refused_with_the_pid_of_the_first(irmd: Daemon) -> None:
    second = subprocess.run(
        [sys.executable, "-m", "irmd", "--stdout"],
        env={**os.environ, "OUROBOROS_RUNDIR": str(irmd.rundir)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert second.returncode == 1
    assert f"IRMd already running ({irmd.process.pid}), exiting." in second.stdout
    assert not irmd.tool().ask(name_list=NameList()).error


def test_what_a_killed_irmd_left_is_replaced() -> None:
    with Daemon() as daemon:
        daemon.stop(signal.SIGKILL)
        assert daemon.socket.exists()
        daemon.process = daemon.start()
        daemon.await_ready()
        assert not daemon.tool().ask(name_list=NameList()).error
        assert daemon.stop() == 0
        assert not daemon.socket.exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP])
def test_signals_end_it_in_good_order(number: int) -> None:
    """SIGHUP that of a system without a file: with one it is to be read again."""
    with Daemon("" if number == signal.SIGHUP else "[local.l]\nbootstrap = 'layer'\n") as daemon:
        peer = daemon.application()
        assert daemon.stop(number) == 0
        assert peer.closed()
        assert not daemon.rundir.exists()
        log = daemon.log.read_text()
    assert "IRMd shutting down..." in log and "daemon exited. Bye." in log


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")
def test_strangers_may_have_flows_but_not_manage() -> None:
    with Daemon(base="/var/tmp") as daemon:
        read, write = os.pipe()
        child = os.fork()
        if not child:
            try:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
                manage, alloc = _stranger(daemon)
                os.write(write, f"{manage.error} {alloc.error} {manage.text}".encode())
            finally:
                os._exit(0)
        os.close(write)
        said = os.read(read, 4096).decode()
        os.close(read)
        os.waitpid(child, 0)
        assert said.startswith(f"{errno.EACCES} {ENAME} ")
        assert "group ouroboros" in said


def _stranger(daemon: Daemon) -> tuple[Envelope, Envelope]:
    peer = daemon.application()
    return peer.ask(ipcp_create=IpcpCreate(name="x")), peer.ask(flow_alloc=FlowAlloc(dst="nobody"))


def test_connections_that_say_nothing_hurt_nobody(irmd: Daemon) -> None:
    for _ in range(200):
        irmd.peer()
    assert not irmd.tool().ask(name_list=NameList()).error


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: the IRMd's own user has no limit of connections")
def test_a_process_that_connects_again_and_again_takes_its_user_s_share_only() -> None:
    """The IRMd keeps memory and pidfd of a process that has closed its connection, until the process has ended."""
    limit = 8
    with Daemon(f"[irmd]\nconnections = {limit}\n", base="/var/tmp") as daemon:
        read, write = os.pipe()
        child = os.fork()
        if not child:
            try:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
                welcomes = 0
                while welcomes < 2 * limit and not (refusal := _welcome(daemon)):
                    welcomes += 1
                os.write(write, bytes([welcomes]) + refusal.encode())
                signal.pause()
            finally:
                os._exit(0)
        os.close(write)
        try:
            told = os.read(read, 4096)
            assert told[0] == limit and b"user 65534 has 8 connections already" in told
            assert not daemon.tool().ask(name_list=NameList()).error  # of another user
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            os.close(read)


def test_refused_connections_are_closed() -> None:
    """After the answer to the Hello, for a newer one, after a second, or with the IRMd."""
    loop = asyncio.new_event_loop()
    refusals = TurnedAway(loop)
    ends = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(MAX_PENDING + 1)]
    for _, theirs in ends:
        refusals.add(theirs, "there are too many")
    assert ends[0][0].recv(100) == b"" and ends[0][1].fileno() < 0
    send(ends[1][0], Envelope(id=7))
    ends[2][0].close()
    while ends[1][1].fileno() >= 0 or ends[2][1].fileno() >= 0:
        loop.run_until_complete(asyncio.sleep(0))
    answer = receive(ends[1][0])
    assert answer is not None and (answer[0].id, answer[0].text) == (7, "there are too many")
    refusals.close()
    assert all(theirs.fileno() < 0 for _, theirs in ends)
    loop.close()
    for mine, _ in ends:
        mine.close()


def _welcome(daemon: Daemon) -> str:
    """Be welcomed, and close the connection; otherwise the reason."""
    peer = daemon.peer()
    reason = peer.hello().text
    peer.close()
    return reason


def test_descriptors_that_come_along_are_closed(irmd: Daemon) -> None:
    peer = irmd.tool()
    before = len(os.listdir(f"/proc/{irmd.process.pid}/fd"))
    for number in range(20):
        octets = Envelope(id=100 + number, name_list=NameList()).SerializeToString()
        socket.send_fds(peer.sock, [octets], [0, 1, 2])
        peer.reply(100 + number)
    assert len(os.listdir(f"/proc/{irmd.process.pid}/fd")) == before
