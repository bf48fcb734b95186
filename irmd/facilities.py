"""The parts of the IRMd that all its services of flows use: a service gets them with its constructor."""

from __future__ import annotations

from asyncio import AbstractEventLoop
from dataclasses import dataclass

from .descriptors import Late
from .endpoints import Endpoints
from .flow_table import FlowTable
from .oap.oap import Oap
from .pending_requests import PendingRequests
from .registry import Registry
from .superserver import SuperServer
from .waiting import Waiting


@dataclass(slots=True, frozen=True, eq=False)
class Facilities:
    """Tables, queues, and the interfaces to shared memory, programs and handshakes."""

    loop: AbstractEventLoop
    registry: Registry
    flows: FlowTable
    endpoints: Endpoints
    requests: PendingRequests
    waiting: Waiting
    superserver: SuperServer
    oap: Oap
    late: Late
