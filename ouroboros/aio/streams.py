"""Reliable flows as asyncio's streams and transports (`ouroboros.stream` defines the stream and its end).

`open_flow_stream` and `start_flow_server` of `ouroboros.aio` give `asyncio.StreamReader` and `asyncio.StreamWriter`, so what is
written for TCP runs over flows. Below them is `FlowTransport`, an asyncio transport for any protocol. On the event loop's thread.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from .. import arguments
from ..end import view_of
from ..errors import FlowDownException, FlowLingerTimeout, FlowPeerException, FlowWouldBlock
from ..owner import Owner
from ..qos import QOS_DATA, QoSSpec
from ..stream import CHUNK, check_reliable
from .flow import Flow, flow_accept, flow_alloc

log = logging.getLogger(__name__)

LIMIT = 65536
"""Octets that a reader buffers before it stops reading (twice that), as asyncio has it."""

Connected = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None] | None]


class FlowTransport(Owner, asyncio.Transport):
    """An asyncio transport over a reliable flow, which is its own from then on: closing it deallocates the flow.

    `get_extra_info` knows "flow", the `ouroboros.aio.Flow`, and "peer_certificate".
    """

    def __init__(self, flow: Flow, protocol: asyncio.BaseProtocol) -> None:
        """Raises FlowException with ENOTSUP for a flow that may lose something."""
        arguments.instance("flow", flow, Flow)
        arguments.instance("protocol", protocol, asyncio.BaseProtocol)
        check_reliable(flow.qos, f"flow {flow.fd}")
        super().__init__({"flow": flow, "peer_certificate": flow.peer_certificate})
        self._flow = flow
        self._protocol = protocol
        self._loop = asyncio.get_running_loop()
        self._reading = asyncio.Event()
        self._reading.set()
        self._buffer = bytearray()
        self._low, self._high = CHUNK, 4 * CHUNK
        self._paused = False  # the protocol writes no more for now
        self._closing = self._lost = self._ending = False
        protocol.connection_made(self)
        self._reader: asyncio.Task[None] | None = self._loop.create_task(self._read())
        self._writer: asyncio.Task[None] | None = None
        self._closer: asyncio.Task[None] | None = None

    # ------------------------------------------------------------ reading

    async def _read(self) -> None:
        try:
            while True:
                await self._reading.wait()
                for packet in await self._flow.readv():
                    await self._reading.wait()
                    self._protocol.data_received(packet)  # type: ignore[attr-defined]
        except FlowDownException as down:
            if isinstance(down, FlowPeerException) or not self._flow.flow.peer_ended:
                self._end(down)
            elif not self._protocol.eof_received():  # type: ignore[attr-defined]
                self.close()
        except OSError as error:
            self._end(error)
        except Exception as error:
            context = {"message": "the protocol failed", "exception": error, "protocol": self._protocol}
            self._loop.call_exception_handler(context)
            self._end(error)

    def pause_reading(self) -> None:
        """Read no more for now: the peer's window shuts."""
        self._reading.clear()

    def resume_reading(self) -> None:
        """Read again."""
        self._reading.set()

    def is_reading(self) -> bool:
        """Whether the transport delivers received octets to the protocol."""
        return self._reading.is_set() and not self._closing

    # ------------------------------------------------------------ writing

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        """Write, and buffer the octets that do not fit into the window now."""
        if self._ending:
            raise RuntimeError("cannot write after write_eof()")
        view = view_of("data", data)
        if self._closing or not view:
            return
        if not self._buffer:
            view = self._write_now(view)
        if view and not self._closing:
            self._buffer += view
            self._start_writer()

    def _write_now(self, view: memoryview) -> memoryview:
        """Write as much as the flow accepts; returns the remainder."""
        flow = self._flow.flow
        piece = min(CHUNK, flow.max_packet)
        try:
            while view:
                view = view[flow.write(view[:piece]) :]
        except FlowWouldBlock:
            pass
        except OSError as error:
            self._end(error)
        return view

    def _start_writer(self) -> None:
        if self._writer is None or self._writer.done():
            self._writer = self._loop.create_task(self._write())
        if len(self._buffer) > self._high and not self._paused:
            self._paused = True
            self._protocol.pause_writing()

    async def _write(self) -> None:
        flow = self._flow
        try:
            while self._buffer:
                piece = bytes(self._buffer[: min(CHUNK, flow.max_packet)])
                del self._buffer[: await flow.write(piece)]
                if self._paused and len(self._buffer) <= self._low:
                    self._paused = False
                    self._protocol.resume_writing()
            if self._ending:
                await flow.write_end()
        except OSError as error:
            self._end(error)

    def can_write_eof(self) -> bool:
        """Whether both ends implement FIN: flows between two Python members do."""
        return True

    def write_eof(self) -> None:
        """Send FIN; the peer reads all octets before it."""
        if not self._ending and not self._closing:
            self._ending = True
            self._start_writer()

    def get_write_buffer_size(self) -> int:
        """Octets buffered until the flow is writable."""
        return len(self._buffer)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """The numbers of buffered octets at which the protocol is resumed and paused."""
        return self._low, self._high

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set them; as asyncio does."""
        for name, value in (("high", high), ("low", low)):
            if value is not None:
                arguments.integer(name, value)
        if high is None:
            high = 4 * CHUNK if low is None else 4 * low
        if low is None:
            low = high // 4
        if not high >= low >= 0:
            raise ValueError(f"the upper limit {high} is below the lower one {low}, or that below 0")
        self._low, self._high = low, high

    # ------------------------------------------------------------ the end

    def get_protocol(self) -> asyncio.BaseProtocol:
        """The protocol that receives the events."""
        return self._protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Tell another one."""
        arguments.instance("protocol", protocol, asyncio.BaseProtocol)
        self._protocol = protocol

    def is_closing(self) -> bool:
        """Whether it is closed, or will be once all is written."""
        return self._closing

    def close(self) -> None:
        """Write the buffered octets, and deallocate the flow; for as long as the peer makes progress (`Flow.linger_timeout`). The
        protocol gets FlowLingerTimeout if octets remain unacknowledged."""
        self._end(None)

    def abort(self) -> None:
        """Deallocate the flow; drops buffered octets."""
        self._end(None, in_order=False)

    def _end(self, error: BaseException | None, *, in_order: bool = True) -> None:
        if self._closing:
            return
        self._closing = True
        in_order = in_order and error is None
        if not in_order:
            self._buffer.clear()
        self._closer = self._loop.create_task(self._close(error, in_order=in_order))

    async def _close(self, error: BaseException | None, *, in_order: bool) -> None:
        if self._reader is not None and self._reader is not asyncio.current_task():
            self._reader.cancel()
        try:
            if in_order and not await self._flush():
                in_order, error = False, self._stuck()
            if self._writer is not None:
                self._writer.cancel()
            if not in_order:
                self._flow.flow.linger_timeout = 0
            await self._flow.dealloc()
        except OSError as failure:
            if in_order:
                error = failure
        finally:
            self._reader = self._writer = None
            self._protocol.connection_lost(error)  # type: ignore[arg-type]

    async def _flush(self) -> bool:
        """Wait until the buffered octets are written. False: the peer does not read."""
        while self._writer is not None and not self._writer.done():
            before = len(self._buffer)
            await asyncio.wait([self._writer], timeout=self._flow.flow.linger_timeout)
            if len(self._buffer) == before and not self._writer.done():
                return False
        return True

    def _stuck(self) -> FlowLingerTimeout:
        octets = len(self._buffer)
        return FlowLingerTimeout(
            f"the stream over flow {self._flow.fd} is closed, but its peer takes nothing: {octets} octets are lost",
            octets=octets,
        )


async def open_flow_stream(
    name: str,
    qos: QoSSpec = QOS_DATA,
    timeo: float | None = None,
    *,
    layer: str | None = None,
    require: str | Iterable[str] = (),
    limit: int = LIMIT,
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Allocate a reliable flow, as a stream: `asyncio.open_connection` for flows.

    Times and errors as for `Flow.alloc`; raises FlowException with ENOTSUP when `qos` may lose packets. `limit` is that of
    the reader. The reader is at its end when the peer has sent FIN or has deallocated the flow; it raises when the flow
    went down otherwise. `writer.drain()` waits for a peer that reads slowly, `writer.close()` deallocates the flow.
    """
    check_reliable(arguments.instance("qos", qos, QoSSpec), f'a flow to "{arguments.text("name", name)}"')
    arguments.integer("limit", limit, 1)
    flow = await flow_alloc(name, qos, timeo, layer=layer, require=require)
    try:
        return streams(flow, limit=limit)
    except BaseException:
        await flow.dealloc()
        raise


def streams(flow: Flow, *, limit: int = LIMIT) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Reader and writer of a flow, which they own from then on."""
    arguments.instance("flow", flow, Flow)
    arguments.integer("limit", limit, 1)
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=limit, loop=loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    transport = FlowTransport(flow, protocol)
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


async def start_flow_server(connected: Connected, *, limit: int = LIMIT) -> FlowServer:
    """Accept flows to the names of this process (`irm bind`), each as a stream: `asyncio.start_server` for flows.

    `connected(reader, writer)` is called, and awaited in a task of its own, for each of them. A flow that may lose packets is
    refused, with a line in the log.
    """
    return FlowServer(connected, limit=limit)


class FlowServer(Owner):
    """Accepts flows and serves each as a stream, from `start_flow_server`. An async context manager: closes at its end."""

    def __init__(self, connected: Connected, *, limit: int = LIMIT) -> None:
        self._connected: Connected = arguments.function("connected", connected)
        self._limit = arguments.integer("limit", limit, 1)
        self._tasks: set[asyncio.Task[None]] = set()
        self._accepting = asyncio.get_running_loop().create_task(self._accept())

    async def _accept(self) -> None:
        while True:
            flow = await flow_accept()
            try:
                reader, writer = streams(flow, limit=self._limit)
            except OSError as error:
                log.warning("refused a flow: %s", error)
                await flow.dealloc()
                continue
            task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            served = self._connected(reader, writer)
            if served is not None:
                await served
        except Exception:
            log.exception("serving a flow failed")
            writer.transport.abort()

    def is_serving(self) -> bool:
        """Whether flows are accepted."""
        return not self._accepting.done()

    async def serve_forever(self) -> None:
        """Until it is cancelled or closed. Raises the error that ended it, such as IrmdError when the IRMd has exited."""
        try:
            await asyncio.shield(self._accepting)
        except asyncio.CancelledError:
            if not self._accepting.cancelled():
                self.close()
                raise

    def close(self) -> None:
        """Accept no more flows. The server goes on with those accepted."""
        self._accepting.cancel()

    async def wait_closed(self) -> None:
        """Wait until the server is closed, and all its flows are served."""
        await asyncio.wait([self._accepting, *self._tasks])

    async def __aenter__(self) -> FlowServer:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()
        await self.wait_closed()
