"""The process of one IPCP, from the fork to its end.

The process gets its channel to the IRMd as a descriptor, sends Hello on it, and ends when it closes: no IPCP outlives its IRMd.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket

from ouroboros import log as daemon_log
from ouroboros.identity import IdentityFile
from ouroboros.ipcp_types import IpcpType, type_name
from ouroboros.rpc.aio_session import CHANNEL_QUEUE, Session
from ouroboros.rpc.codec import RPC_VERSION, close_fds
from ouroboros.rpc.messages_pb2 import Envelope, Hello
from ouroboros.statedir import default_statedir
from ouroboros.version import __version__

from . import types
from .ipcp import Ipcp

log = logging.getLogger("ipcpd")

HELLO_TIME = 5.0  # s


def preload() -> None:
    """Load the modules that every IPCP needs, in the parent that forks the IPCPs."""
    import ipcpd.dataplane

    _ = ipcpd.dataplane
    for ipcp_type in IpcpType:
        types.load(ipcp_type)


def main(name: str, number: int, fd: int, *, stdout: bool) -> int:
    """Be the IPCP `name` of type `number`, with descriptor `fd` as channel to the IRMd. Returns the status."""
    gc.enable()
    signal.set_wakeup_fd(-1)
    os.umask(0o077)
    program = f"ipcpd-{type_name(number)}"
    daemon_log.set_comm(program)
    daemon_log.start(program, stdout=stdout)
    kind = types.load(number)
    if kind is None:
        log.error("there is no IPCP of type %s", type_name(number))
        return 1
    survive()
    sock = socket.socket(fileno=fd)
    try:
        asyncio.run(_live(kind, name, sock))
    except Exception:
        log.exception("ended by a defect")
        return 1
    return 0


async def _live(kind: type[Ipcp], name: str, sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ipcp = kind(name, loop)
    ipcp.identity = IdentityFile(name, default_statedir())
    session = Session(
        loop,
        sock,
        on_message=ipcp.handle,
        on_close=lambda _session, _reason: ipcp.stop(),
        limit=CHANNEL_QUEUE,
        refused=ipcp.refused,
    )
    loop.add_signal_handler(signal.SIGTERM, ipcp.stop)
    welcomed: asyncio.Future[None] = loop.create_future()

    def on_welcome(reply: Envelope | None, fds: list[int]) -> None:
        try:
            if reply is None or reply.error:
                raise ConnectionError("the IRMd did not welcome this IPCP" if reply is None else reply.text)
            ipcp.attach(reply, fds)
            ipcp.start(session)
            welcomed.set_result(None)
        except Exception as error:
            welcomed.set_exception(error)
        finally:
            close_fds(fds)

    session.request(hello(), on_welcome, timeout=HELLO_TIME)
    try:
        await welcomed
        log.info("IPCP %s is up", name)
        await ipcp.stopped
    finally:
        with contextlib.suppress(Exception):
            ipcp.stop()
        session.close()


def hello() -> Envelope:
    """The first message of an IPCP to the IRMd."""
    envelope = Envelope()
    envelope.hello.kind = Hello.Kind.IPCP
    envelope.hello.rpc_version = RPC_VERSION
    envelope.hello.layout_version = layout_version()
    envelope.hello.version = __version__
    return envelope


def survive() -> None:
    """Make the IPCP survive any change by a user to the memory of that user's flows: the IPCP serves other users too."""
    from ipcpd.dataplane._ipcp import lib

    lib.map_survive()


def layout_version() -> int:
    """Version of the layout of shared memory that the data plane of this IPCP uses."""
    from ipcpd.dataplane._ipcp import lib

    return int(lib.LAYOUT_VERSION)
