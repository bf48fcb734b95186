"""Flows for asyncio: the calls of `ouroboros.dev` and `ouroboros.event` as coroutines, and flows as asyncio's streams.

    async with await flow_alloc("oecho") as flow:
        await flow.write(b"Client says hi!")
        print(await flow.read())

Every call may be cancelled at any await: a packet is either returned or still in the flow, and a cancelled
allocation leaves nothing behind. Flows of several event loops may live in one process.
"""

from ..event import FEventQueue, FEventType
from .flow import Flow, FlowSet, flow_accept, flow_alloc, flow_join
from .streams import FlowServer, FlowTransport, open_flow_stream, start_flow_server

__all__ = [
    "FEventQueue",
    "FEventType",
    "Flow",
    "FlowServer",
    "FlowSet",
    "FlowTransport",
    "flow_accept",
    "flow_alloc",
    "flow_join",
    "open_flow_stream",
    "start_flow_server",
]
