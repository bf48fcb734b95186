"""Processes and accepts without sockets or memory, for the pure parts."""

from __future__ import annotations

from itertools import count
from typing import cast

from irmd.descriptors import Descriptors
from irmd.memory import Pool
from irmd.peer import Peer
from irmd.records import Flow, PendingAccept, PendingRequest, Process
from ouroboros.rpc.aio_session import Session

_tokens = count(1)
_instances = count(1)


def process(pid: int = 1000, program: str = "/bin/server", *, uid: int = 0, pool: object = None) -> Process:
    """A process whose Hello has arrived."""
    return Process(
        token=next(_tokens),
        peer=Peer(pid, uid, uid, frozenset(), started=pid),
        program=program,
        session=cast(Session, None),
        pool=cast(Pool, pool),
        fds=Descriptors(16, _instances),
    )


def accept(owner: Process) -> PendingAccept:
    """An accept of that process."""
    return PendingAccept(owner, Flow(0), cast(PendingRequest, None))
