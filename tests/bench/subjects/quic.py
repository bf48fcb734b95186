"""aioquic: one stream of a QUIC connection over loopback, with a certificate that is made in the run.

Tuned as a user would: windows of 16 MiB instead of 1, datagrams of 1452 octets (the limit of Ethernet) instead of 1200, large
buffers of the UDP sockets; a burst is joined to one write. Its loops are coroutines of the transport's own, on an event loop in
a thread that runs between measures too, so that the connection never sees a pause. Writing has no back-pressure in aioquic:
the receiver acknowledges each MEBIBYTE, and two may be in flight.
"""

from __future__ import annotations

import asyncio
import importlib.util
import threading
from collections.abc import Callable, Coroutine, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from ssl import CERT_REQUIRED
from time import monotonic_ns, process_time
from typing import Any

from tests.bench.quantile import percentile
from tests.bench.subjects.subject import Calls, Endpoint, Subject, Wiring, burst_of, scratch
from tests.bench.subjects.udp import enlarge

HOST, NAME = "127.0.0.1", "localhost"
MEBIBYTE = 1 << 20
WINDOW = 16 * MEBIBYTE
DATAGRAM = 1452
IDLE = 3600.0  # seconds: other subjects have their turn meanwhile
PATIENCE = 10.0


def certificate(folder: Path) -> None:
    """A self-signed certificate and its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, NAME)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )


class Loop:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """The result of a coroutine."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


class QuicEnd(Endpoint):
    """The reader and the writer of a stream."""

    def __init__(self, loop: Loop, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._loop, self._reader, self._writer = loop, reader, writer

    def calls(self, size: int) -> Calls:
        """None: see `does`."""
        raise NotImplementedError("an event loop has loops of its own")

    def does(self, command: Mapping[str, Any], armed: Callable[[], None]) -> dict[str, Any]:
        """The measures of `measure`, by coroutines."""
        size, count = command["size"], command["count"]
        match command["do"]:
            case "echo":
                work = self._echo(size, count, armed)
            case "ping":
                work = self._ping(size, count, command["warm"])
            case "sink":
                work = self._sink(size, count, armed)
            case "flood":
                work = self._flood(size, count)
            case other:
                raise ValueError(f"aioquic has no measure {other!r}")
        found: dict[str, Any] = self._loop.run(work)
        return found

    async def _echo(self, size: int, count: int, armed: Callable[[], None]) -> dict[str, Any]:
        armed()
        for _ in range(count):
            self._writer.write(await self._reader.readexactly(size))
        return {}

    async def _ping(self, size: int, count: int, warm: int) -> dict[str, Any]:
        payload = bytes(size)
        samples: list[int] = []
        for _ in range(warm + count):
            began = monotonic_ns()
            self._writer.write(payload)
            await self._reader.readexactly(size)
            samples.append(monotonic_ns() - began)
        samples = sorted(samples[warm:])
        return {"p50": percentile(samples, 50) / 1e3, "p99": percentile(samples, 99) / 1e3, "left": 0}

    async def _sink(self, size: int, count: int, armed: Callable[[], None]) -> dict[str, Any]:
        spent = process_time()
        armed()
        octets, got, told = size * count, 0, 0
        while got < octets:
            piece = await self._reader.read(MEBIBYTE)
            if not piece:
                raise ConnectionError("the other end has closed the stream")
            got += len(piece)
            while got - told >= MEBIBYTE or got == octets != told:
                told = min(told + MEBIBYTE, octets)
                self._writer.write(b"+")
        return {"got": count, "ended": monotonic_ns(), "cpu": process_time() - spent}

    async def _flood(self, size: int, count: int) -> dict[str, Any]:
        spent, began = process_time(), monotonic_ns()
        batch = [bytes(size)] * burst_of(size)
        sent = heard = 0
        for done in range(0, count, len(batch)):
            while sent - heard >= 2 * MEBIBYTE:
                heard += MEBIBYTE * len(await self._reader.read(64))
            joined = b"".join(batch[: count - done])
            self._writer.write(joined)
            sent += len(joined)
            await asyncio.sleep(0)
        while heard < sent:
            heard += MEBIBYTE * len(await self._reader.read(64))
        return {"began": began, "cpu": process_time() - spent}

    def close(self) -> None:
        """The thread of the event loop goes with the process."""


class Quic(Subject):
    """A QUIC connection over the loopback device, with one stream."""

    name = "quic"
    burst = True

    def __init__(self) -> None:
        self._loop = Loop()
        self._ends: asyncio.Queue[QuicEnd] = asyncio.Queue()
        self._keep: Any = None

    @classmethod
    def missing(cls) -> str | None:
        """aioquic is an optional dependency."""
        return (
            None if importlib.util.find_spec("aioquic") else "aioquic is not installed (pip install aioquic)"
        )

    @classmethod
    def provide(cls, stack: ExitStack) -> Wiring:
        """A certificate that both know."""
        folder = Path(scratch(stack))
        certificate(folder)
        known = {"cert": str(folder / "cert.pem"), "key": str(folder / "key.pem")}
        return Wiring(known, {"cert": known["cert"]})

    def _configuration(self, client: bool) -> Any:
        from aioquic.quic.configuration import QuicConfiguration

        return QuicConfiguration(
            is_client=client,
            alpn_protocols=["bench"],
            max_data=WINDOW,
            max_stream_data=WINDOW,
            max_datagram_size=DATAGRAM,
            idle_timeout=IDLE,
            server_name=NAME,
            verify_mode=CERT_REQUIRED,
        )

    def listen(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """Serve on a free port."""
        configuration = self._configuration(False)
        configuration.load_cert_chain(args["cert"], args["key"])
        return {"port": self._loop.run(self._serve(configuration))}

    async def _serve(self, configuration: Any) -> int:
        from aioquic.asyncio.server import serve

        def opened(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self._ends.put_nowait(QuicEnd(self._loop, reader, writer))

        self._keep = await serve(HOST, 0, configuration=configuration, stream_handler=opened)
        sock = self._keep._transport.get_extra_info("socket")
        enlarge(sock)
        port: int = sock.getsockname()[1]
        return port

    def accept(self) -> Endpoint:
        """The stream that the client opens, after the octet that opens it."""
        end: QuicEnd = self._loop.run(self._ends.get())
        self._loop.run(end._reader.readexactly(1))
        return end

    def connect(self, args: Mapping[str, Any], hello: Mapping[str, Any]) -> Endpoint:
        """Connect, and open the stream with one octet."""
        configuration = self._configuration(True)
        configuration.load_verify_locations(cafile=args["cert"])
        end: QuicEnd = self._loop.run(asyncio.wait_for(self._connect(configuration, hello["port"]), PATIENCE))
        return end

    async def _connect(self, configuration: Any, port: int) -> QuicEnd:
        from aioquic.asyncio.client import connect

        # Left by the end of the process: its loops go on meanwhile.
        self._keep = connect(HOST, port, configuration=configuration)
        protocol = await self._keep.__aenter__()
        enlarge(protocol._transport.get_extra_info("socket"))
        reader, writer = await protocol.create_stream()
        writer.write(b"+")
        return QuicEnd(self._loop, reader, writer)
