"""One flow_accept that waits (spec/rpc RPC-16)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .flow import Flow
    from .pending_request import PendingRequest
    from .process import Process


@dataclass(slots=True, eq=False)
class PendingAccept:
    """The accept of a process, and the flow that it will get."""

    process: Process
    flow: Flow
    request: PendingRequest
