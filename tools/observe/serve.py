"""The pages that the programs serve: the metrics, and the page with its state (docs/howto/observe.md). Each runs until Ctrl-C.

The text of a page is made in one thread, once a moment, for all that ask meanwhile.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files

from ouroboros.facts import METRICS_SERVER

from .metrics import CONTENT_TYPE, collect, text
from .reader import Reader
from .state import State
from .web import MakePage, Page, Server, Where

_FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
}


def serve_metrics(where: Where) -> None:
    """Serve `/metrics`. Raises OSError; also when no IRMd answers at the start."""
    reader = Reader()
    reader.ipcps()

    def make(server: Server) -> Page:
        own = METRICS_SERVER.rows({"served": server.served, "refused": server.refused})
        return Page(text(collect(reader, own)).encode(), CONTENT_TYPE)

    asyncio.run(_run(where, "/metrics", make, {}, "Metrics are"))


def serve_page(where: Where) -> None:
    """Serve the page and its state. Raises OSError; also when no IRMd answers at the start."""
    reader = Reader()
    reader.ipcps()
    state = State(reader)

    def make(_: Server) -> Page:
        return Page(json.dumps(state.look(), separators=(",", ":")).encode(), "application/json")

    folder = files(__package__) / "page"
    fixed = {path: Page((folder / name).read_bytes(), kind) for path, (name, kind) in _FILES.items()}
    asyncio.run(_run(where, "/state", make, fixed, "The system is"))


async def _run(
    where: Where, path: str, make: Callable[[Server], Page], fixed: dict[str, Page], title: str
) -> None:
    loop = asyncio.get_running_loop()
    pool = ThreadPoolExecutor(1)
    made: asyncio.Future[Page] | None = None

    async def current() -> Page:
        nonlocal made
        if made is None or made.done():
            made = loop.run_in_executor(pool, make, pages)
        return await asyncio.shield(made)

    def constant(page: Page) -> MakePage:
        async def always() -> Page:
            return page

        return always

    served: dict[str, Callable[[], Awaitable[Page]]] = {
        **{name: constant(page) for name, page in fixed.items()},
        path: current,
    }
    pages = Server(served)
    server, address = await pages.start(where)
    at = "" if where.path else "/" if fixed else path
    print(f"{title} at {address}{at}.", flush=True)
    async with server:
        await server.serve_forever()
