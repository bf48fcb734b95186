"""One flow_accept that waits (spec/rpc RPC-16)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .flow import Flow
    from .process import Process
    from .request import Request


@dataclass(slots=True, eq=False)
class Acceptor:
    """A process that waits in accept, and the flow that it will get."""

    process: Process
    flow: Flow
    request: Request
