"""irm metrics: all counters, gauges and states for programs that collect them (docs/howto/observe.md)."""

from __future__ import annotations

from ..text import end_by_interrupt, print_json
from .words import Arguments, Command, Key, UsageError


def _metrics(arguments: Arguments) -> int:
    where = arguments.one("serve")
    if arguments.flag("board"):
        from ..observe.board import board

        print_json(board())
        return 0
    if where is not None:
        return _serve(where)
    from ..observe.metrics import collect, text
    from ..observe.reader import Reader

    print(text(collect(Reader())), end="")
    return 0


def _serve(word: str) -> int:
    import asyncio

    from ..observe.web import Where

    try:
        where = Where.parse(word)
    except ValueError as error:
        raise UsageError(str(error)) from None
    end_by_interrupt()
    asyncio.run(_run(where))
    return 0


async def _run(where: object) -> None:
    import asyncio
    from concurrent.futures import ThreadPoolExecutor

    from ouroboros.facts import METRICS_SERVER

    from ..observe.metrics import CONTENT_TYPE, collect, text
    from ..observe.reader import Reader
    from ..observe.web import Page, Server, Where

    assert isinstance(where, Where)
    reader = Reader()
    loop = asyncio.get_running_loop()
    pool = ThreadPoolExecutor(1)
    made: asyncio.Future[Page] | None = None

    def make() -> Page:
        own = METRICS_SERVER.rows({"served": pages.served, "refused": pages.refused})
        return Page(text(collect(reader, own)).encode(), CONTENT_TYPE)

    async def metrics() -> Page:
        """One text for all that ask while it is made."""
        nonlocal made
        if made is None or made.done():
            made = loop.run_in_executor(pool, make)
        return await asyncio.shield(made)

    pages = Server({"/metrics": metrics})
    server, address = await pages.start(where)
    print(f"Metrics are at {address}{'' if where.path else '/metrics'}.", flush=True)
    async with server:
        await server.serve_forever()


METRICS = Command(
    "metrics",
    "print all counters, gauges and states in the OpenMetrics text format, or serve them",
    _metrics,
    keys=(Key("serve", "host:port|unix:path"), Key("board")),
    details=lambda: (
        "serve answers GET /metrics on loopback or a UNIX socket until Ctrl-C.\n"
        "board prints a Grafana dashboard of all metrics instead."
    ),
)
