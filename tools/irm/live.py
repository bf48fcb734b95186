"""irm monitor, irm top: a system while it runs (docs/howto/observe.md)."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from ouroboros.printable import printable

from .intervals import INTERVAL, interval
from .words import Arguments, Command

if TYPE_CHECKING:
    from ..observe.events import Event


def _monitor(arguments: Arguments) -> int:
    from ..observe.events import changes, look, started
    from ..observe.reader import Reader

    pause = interval(arguments)
    reader = Reader(kept=0)
    before = look(reader)
    _print([started(before)], arguments.json)
    while True:
        time.sleep(pause)
        after = look(reader)
        _print(changes(before, after), arguments.json)
        before = after


def _print(events: Iterable[Event], as_json: bool) -> None:
    import json

    now = time.time()
    for event in events:
        if as_json:
            print(json.dumps({"time": round(now, 3), **event.record()}), flush=True)
        else:
            print(f"{time.strftime('%H:%M:%S', time.localtime(now))} {printable(event.line())}", flush=True)


def _top(arguments: Arguments) -> int:
    try:
        from ..observe.top import run
    except ImportError as error:
        raise OSError(
            f'irm top needs the extra "top" of this package ({error}); "irm flow list" shows the flows without it'
        ) from None
    return run(interval(arguments))


MONITOR = Command(
    "monitor",
    "print events as lines, or with --json as JSON lines, until Ctrl-C",
    _monitor,
    keys=(INTERVAL,),
    json=True,
    details=lambda: (
        "Events: IPCPs, neighbours, routes, flows, names and registrations that appear, change, or end."
    ),
)
TOP = Command(
    "top",
    "show flows, neighbours and routes with their rates, live",
    _top,
    keys=(INTERVAL,),
    details=lambda: "Keys: 1-4 lists, s sort, r reverse, / filter, space pause, q quit.",
)
