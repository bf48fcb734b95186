"""Read-outs of a system: IPCPs, flows, packet pools (docs/reference/api.md).

A library module of tools and applications. Each record is the IRMd's state at one moment, so it cannot be changed;
a named tuple is also the cheapest kind of class to import, and `irm ipcp list` is run a lot.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from .ipcp_types import DirectoryHashAlgo, IpcpType
from .qos import QOS_RAW, QoSSpec


class IpcpInfo(NamedTuple):
    """An IPCP. `layer` is empty before it has been bootstrapped or enrolled.

    `require` and `admit` are the requirements of its layer on flows between members ("encryption", "authentication"), and patterns of
    the common names of admitted members. `progress` is a line for people about an operation that is being retried, with the cause of
    its last failure; empty when there is none. `instance` is never used again, unlike the pid: functions of `irm` that take this
    record mean this very IPCP. 0: not known.
    """

    pid: int
    name: str
    type: IpcpType
    layer: str = ""
    hash: DirectoryHashAlgo = DirectoryHashAlgo.SHA3_256
    state: str = ""
    progress: str = ""
    require: Sequence[str] = ()
    admit: Sequence[str] = ()
    instance: int = 0


class FlowEnd(NamedTuple):
    """One end of a flow, in packets: `queued` wait for it to read, `packets` it has written.

    `dropped`: packets that the IPCP at this end could not put into the flow; `refused`: packets from the flow that were invalid or could not
    be opened.
    """

    pid: int
    fd: int
    program: str = ""
    queued: int = 0
    packets: int = 0
    dropped: int = 0
    refused: int = 0


class FlowInfo(NamedTuple):
    """A flow; `layer` is empty for one directly between two processes of the system, `cipher` for one in the clear.

    `qos` is None until it is decided, which an accept that waits leaves to the requester.
    """

    flow_id: int
    state: str
    name: str = ""
    layer: str = ""
    ends: Sequence[FlowEnd] = ()
    qos: QoSSpec | None = QOS_RAW
    down: bool = False
    cipher: str = ""


class PoolHolder(NamedTuple):
    """A holder of blocks: a process, or (pid 0) a flow on which they travel."""

    pid: int
    flow_id: int = 0
    program: str = ""
    blocks: int = 0


class PoolClass(NamedTuple):
    """Blocks of one size, in octets."""

    size: int
    total: int
    free: int
    holders: Sequence[PoolHolder] = ()


class PoolInfo(NamedTuple):
    """A packet pool; `failures` counts allocations refused because it was exhausted, `taken` is the memory that it occupies."""

    name: str
    uid: int
    octets: int
    failures: int = 0
    classes: Sequence[PoolClass] = ()
    taken: int = 0
