"""irm metrics, irm web: the counters of a system, for programs that collect them and for browsers (docs/howto/observe.md)."""

from __future__ import annotations

from ..text import end_by_interrupt, print_json
from .words import Arguments, Command, Key

_PORT = "8537"


def _metrics(arguments: Arguments) -> int:
    where = arguments.one("serve")
    if arguments.flag("board"):
        from ..observe.board import board

        print_json(board())
        return 0
    if where is not None:
        from ..observe.serve import serve_metrics
        from ..observe.web import Where

        place = Where.parse(where)
        end_by_interrupt()
        serve_metrics(place)
        return 0
    from ..observe.metrics import collect, text
    from ..observe.reader import Reader

    print(text(collect(Reader())), end="")
    return 0


def _web(arguments: Arguments) -> int:
    from ..observe.serve import serve_page
    from ..observe.web import Where

    place = Where.parse(arguments.operand() or _PORT)
    end_by_interrupt()
    serve_page(place)
    return 0


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
WEB = Command(
    "web",
    f"serve a page on loopback that draws the system, live (default: port {_PORT})",
    _web,
    operands=("host:port",),
    optional=1,
)
