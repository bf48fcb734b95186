"""A server for many clients with asyncio: it returns each packet in upper case. Bind it to a name; `oecho -n NAME` is a client."""

import asyncio
from contextlib import suppress

from ouroboros import aio
from ouroboros.errors import FlowException


async def serve(flow):
    async with flow:
        with suppress(FlowException):
            while True:
                await flow.write((await flow.recv()).upper())


async def main():
    async with asyncio.TaskGroup() as clients:
        while True:
            clients.create_task(serve(await aio.flow_accept()))


asyncio.run(main())
