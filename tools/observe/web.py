"""A small HTTP server for pages that only read: on loopback, or on a UNIX socket (docs/howto/observe.md).

Runs in `irm metrics serve` and `irm web`, as one asyncio loop; the page of a path is made in one thread, once a moment for all who ask. A request has one
line and some headers, and is answered once. A browser sends the name under which it found the server: a page from elsewhere that had
its own name point here (DNS rebinding) is refused, as one that another page asks for.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

MAX_CONNECTIONS = 256
"""Connections together; one more is closed immediately."""
MAX_HEAD = 8192
"""Octets of a request; a longer one is refused."""
LEAST_COMPRESSED = 1024
"""Octets of a page from which on compressing is worth it."""
TIME = 5.0
"""Seconds in which a client must have sent its request, and read its answer."""

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""A browser executes the script of the page, and nothing that is in a name."""

LOOPBACK = ("127.0.0.1", "::1", "localhost")


class Page(NamedTuple):
    """An answer."""

    text: bytes
    content_type: str


MakePage = Callable[[], Awaitable[Page]]


class Where(NamedTuple):
    """An address to listen on: a host and a port, or the path of a UNIX socket."""

    host: str = ""
    port: int = 0
    path: str = ""

    @classmethod
    def parse(cls, word: str) -> Where:
        """`HOST:PORT` on loopback, `PORT`, or `unix:PATH`. Raises ValueError."""
        if word.startswith("unix:"):
            if len(word) == len("unix:"):
                raise ValueError(f'"{word}" names no path: unix:PATH')
            return cls(path=os.path.abspath(word.removeprefix("unix:")))
        host, _, port = word.rpartition(":")
        host = host.strip("[]") or LOOPBACK[0]
        if host not in LOOPBACK:
            raise ValueError(
                f'"{word}" is not on this machine: only {" ".join(LOOPBACK)} and unix:PATH are served; for other machines put a proxy with access control before it'
            )
        if not (port.isascii() and port.isdigit() and len(port) <= 5 and int(port) <= 65535):
            raise ValueError(f'"{word}" must be HOST:PORT, PORT or unix:PATH')
        return cls(host, int(port))


class Server:
    """Pages by path. `served` and `refused` count requests."""

    def __init__(self, pages: Mapping[str, MakePage]) -> None:
        self._pages = pages
        self._connections = 0
        self.served = 0
        self.refused = 0

    async def start(self, where: Where) -> tuple[asyncio.Server, str]:
        """Listen; returns the server and its address as text. Raises OSError."""
        if where.path:
            with contextlib.suppress(FileNotFoundError):
                if stat.S_ISSOCK(os.lstat(where.path).st_mode):
                    os.unlink(where.path)  # a socket that an earlier server left
            return await asyncio.start_unix_server(
                self._serve, where.path, limit=MAX_HEAD
            ), f"unix:{where.path}"
        server = await asyncio.start_server(self._serve, where.host, where.port, limit=MAX_HEAD, backlog=1024)
        host, port = server.sockets[0].getsockname()[:2]
        return server, f"http://{f'[{host}]' if ':' in host else host}:{port}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        try:
            if self._connections > MAX_CONNECTIONS:
                self.refused += 1
                return
            local = writer.get_extra_info("socket").family.name != "AF_UNIX"
            async with asyncio.timeout(TIME):
                head = await reader.readuntil(b"\r\n\r\n")
            text = head.decode("latin-1")
            status, page = await self._answer(text, check_host=local)
            if status != "200 OK":
                self.refused += 1
            async with asyncio.timeout(TIME):
                writer.write(_response(status, page, compress=_takes_gzip(text)))
                await writer.drain()
                self.served += 1
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError):
            self.refused += 1
        finally:
            self._connections -= 1
            writer.close()

    async def _answer(self, head: str, *, check_host: bool) -> tuple[str, Page]:
        request, *lines = head.split("\r\n")
        headers = {
            name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)
        }
        words = request.split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            return "400 Bad Request", _plain("This is not a request of HTTP/1.1.")
        if check_host and not (
            _is_ours(headers.get("host", "")) and _is_ours(headers.get("origin", "localhost"))
        ):
            return "403 Forbidden", _plain("This server answers only to names of this machine.")
        if words[0] not in ("GET", "HEAD"):
            return "405 Method Not Allowed", _plain("Only GET: nothing can be changed here.")
        make = self._pages.get(words[1].partition("?")[0])
        if make is None:
            return "404 Not Found", _plain(f"There are only {' '.join(self._pages)}.")
        try:
            page = await make()
        except OSError as error:
            return "503 Service Unavailable", _plain(str(error.strerror or error))
        return "200 OK", Page(b"", page.content_type) if words[0] == "HEAD" else page


def _is_ours(name: str) -> bool:
    """Whether a Host or an Origin is this machine, by whatever port."""
    host = name.removeprefix("http://")
    host = host[1 : host.find("]")] if host.startswith("[") else host.partition(":")[0]
    return host in LOOPBACK


def _plain(text: str) -> Page:
    return Page(f"{text}\n".encode(), "text/plain; charset=utf-8")


def _takes_gzip(head: str) -> bool:
    """Whether the client asks for compression: a browser does."""
    lines = (line.lower() for line in head.split("\r\n"))
    return any(line.startswith("accept-encoding:") and "gzip" in line for line in lines)


def _response(status: str, page: Page, *, compress: bool) -> bytes:
    text, encoding = page.text, ""
    if compress and len(text) > LEAST_COMPRESSED:
        import gzip

        text, encoding = gzip.compress(text, 1), "Content-Encoding: gzip\r\n"
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: {page.content_type}\r\nContent-Length: {len(text)}\r\n{encoding}"
        "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\n"
        f"Content-Security-Policy: {_POLICY}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + text
