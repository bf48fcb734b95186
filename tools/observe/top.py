"""Top: flows, neighbours, routes and counters of a system with their rates, in a terminal (docs/howto/observe.md).

Needs textual (the extra `top`). One thread reads every interval; the screen shows the difference between the last two looks as rates.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import ClassVar, NamedTuple

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import DataTable, Footer, Input, Static

from ouroboros.errors import strerror
from ouroboros.facts import Kind, Row, fact_of, group_of
from ouroboros.printable import printable

from .events import connects
from .reader import Reader, peer_of

Cell = str | float


class List(NamedTuple):
    """A list on the screen: its columns, and those of them that hold numbers."""

    title: str
    columns: tuple[str, ...]
    numbers: frozenset[str]


LISTS = (
    List(
        "Flows",
        ("flow", "name", "layer", "pid/fd", "queued", "pkt/s", "drop/s"),
        frozenset(("flow", "queued", "pkt/s", "drop/s")),
    ),
    List(
        "Neighbours",
        ("ipcp", "neighbour", "part", "state", "since"),
        frozenset(("since",)),
    ),
    List("Routes", ("ipcp", "address", "cube", "distance", "next"), frozenset(("distance",))),
    List("Counters", ("ipcp", "component", "counter", "value", "per s"), frozenset(("value", "per s"))),
)


class Look(NamedTuple):
    """The result of one look: rows of each list, and growing numbers by the things that they count."""

    at: float
    rows: Sequence[Sequence[Row]]
    totals: Mapping[tuple[object, ...], float]


def look(reader: Reader, at: float) -> Look:
    """Read a system. Raises IrmError."""
    totals: dict[tuple[object, ...], float] = {}
    flows, neighbours, routes, counters = [], list[Row](), list[Row](), list[Row]()
    for end in reader.flow_ends():
        key = (end["flow_id"], end["pid"], end["fd"])
        totals["packets", *key] = float(str(end["packets"]))
        totals["drops", *key] = float(str(end["dropped"])) + float(str(end["refused"]))
        flows.append(end)
    for ipcp in reader.ipcps():
        words = reader.words(ipcp)
        try:
            if connects(ipcp):
                neighbours += [{"ipcp": ipcp.name, **row} for row in reader.rows(ipcp, "neighbours")]
            if "routes" in words:
                routes += [{"ipcp": ipcp.name, **row} for row in reader.rows(ipcp, "routes")]
            for row in reader.rows(ipcp, "counters") if "counters" in words else ():
                names = str(row["component"]), str(row["of"]), str(row["counter"])
                group = group_of(ipcp.type.type_name, *names)
                fact = fact_of(group.facts, names[2]) if group else None
                if row["value"] and (fact is None or fact.kind is Kind.COUNTER):
                    totals["counter", ipcp.pid, *names] = float(str(row["value"]))
                    counters.append({"ipcp": ipcp.name, "pid": ipcp.pid, **row})
        except OSError:
            continue  # it does not answer, or has ended: its rows are missing
    return Look(at, (flows, neighbours, routes, counters), totals)


def rates(before: Look | None, after: Look) -> dict[tuple[object, ...], float]:
    """How much each number has grown, per second; nothing for those that are new, and for those of a process that began anew."""
    if before is None or after.at <= before.at:
        return {}
    took = after.at - before.at
    return {
        key: max(0.0, value - before.totals[key]) / took
        for key, value in after.totals.items()
        if key in before.totals
    }


def cells(number: int, row: Row, rate: Mapping[tuple[object, ...], float]) -> list[Cell]:
    """A row as the list of that number shows it."""
    if number == 0:
        key = (row["flow_id"], row["pid"], row["fd"])
        layer = str(row["layer"] or "(direct)")
        place = f"{row['pid']}/{row['fd']}"
        packets, drops = rate.get(("packets", *key), 0.0), rate.get(("drops", *key), 0.0)
        return [
            float(str(row["flow_id"])),
            str(row["name"]),
            layer,
            place,
            float(str(row["queued"])),
            packets,
            drops,
        ]
    if number == 1:
        since = float(str(row["since"] or 0))
        return [str(row["ipcp"]), str(peer_of(row) or ""), str(row["component"]), str(row["state"]), since]
    if number == 2:
        hops = row["next"]
        shown = " ".join(map(str, hops)) if isinstance(hops, list) else str(hops)
        distance = float(str(row["distance"] or 0))
        return [str(row["ipcp"]), str(row["address"]), str(row["cube"]), distance, shown]
    names = str(row["component"]), str(row["of"]), str(row["counter"])
    component = f"{names[0]} {names[1]}".strip()
    return [
        str(row["ipcp"]),
        component,
        names[2],
        float(str(row["value"])),
        rate.get(("counter", row["pid"], *names), 0.0),
    ]


def chosen(rows: Sequence[Sequence[Cell]], *, by: int, reverse: bool, word: str) -> list[Sequence[Cell]]:
    """Rows that contain a word, sorted by a column."""
    fitting = [row for row in rows if word.lower() in " ".join(map(str, row)).lower()]
    return sorted(fitting, key=lambda row: row[by], reverse=reverse)


def _text(value: Cell) -> str:
    if isinstance(value, float):
        return f"{value:.0f}" if value >= 100 or value == int(value) else f"{value:.1f}"
    return printable(value)


class Top(App[int]):
    """The screen."""

    TITLE = "irm top"
    CSS = "#head { height: 1; } #filter { height: 3; display: none; } #filter.shown { display: block; }"
    BINDINGS: ClassVar[list[BindingType]] = [
        *(Binding(str(number + 1), f"list({number})", one.title) for number, one in enumerate(LISTS)),
        Binding("s", "sort", "Sort"),
        Binding("r", "reverse", "Rev"),
        Binding("slash", "filter", "Filter", key_display="/"),
        Binding("space", "pause", "Pause"),
        Binding("q", "quit", "Quit"),
    ]

    def __init__(self, reader: Reader, interval: float) -> None:
        super().__init__()
        self._source = reader
        self._interval = interval
        self._shown = 0
        self._by = [5, 0, 1, 4]
        self._reversed = [True, False, False, True]
        self._word = ""
        self._paused = False
        self._before: Look | None = None
        self._now: Look | None = None
        self._problem = ""

    def compose(self) -> ComposeResult:
        """Head, list, filter and keys."""
        yield Static(id="head", markup=False)
        yield DataTable(id="rows", cursor_type="row", zebra_stripes=True)
        yield Input(id="filter", placeholder="text in the rows; Enter: done")
        yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        """Look now, and every interval."""
        self.query_one(DataTable).focus()
        self._look()
        self.set_interval(self._interval, self._look)

    def _look(self) -> None:
        if not self._paused:
            self.run_worker(self._read, thread=True, exclusive=True, group="read", exit_on_error=False)

    def _read(self) -> None:
        try:
            now = look(self._source, time.monotonic())
        except OSError as error:
            self.call_from_thread(self._failed, error.strerror or strerror(error.errno or 0))
            return
        self.call_from_thread(self._take, now)

    def _failed(self, why: str) -> None:
        self._problem = why
        self._draw()

    def _take(self, now: Look) -> None:
        self._before, self._now, self._problem = self._now, now, ""
        self._draw()

    def _draw(self) -> None:
        shown = LISTS[self._shown]
        column = shown.columns[self._by[self._shown]]
        arrow = "v" if self._reversed[self._shown] else "^"
        parts = [shown.title, f"sorted by {column} {arrow}"]
        parts += [f"filter: {self._word}"] if self._word else []
        parts += ["paused"] if self._paused else []
        parts += [self._problem] if self._problem else []
        self.query_one("#head", Static).update(printable(" | ".join(parts)))
        table = self.query_one(DataTable)
        place = table.cursor_row, table.scroll_y
        table.clear(columns=True)
        for title in shown.columns:
            table.add_column(title)
        if self._now is not None:
            rate = rates(self._before, self._now)
            rows = [cells(self._shown, row, rate) for row in self._now.rows[self._shown]]
            for row in chosen(
                rows, by=self._by[self._shown], reverse=self._reversed[self._shown], word=self._word
            ):
                table.add_row(*(Text(_text(value)) for value in row))
        table.move_cursor(row=place[0])
        table.scroll_y = place[1]

    def action_list(self, number: int) -> None:
        """Show another list."""
        self._shown = number
        self._draw()

    def action_sort(self) -> None:
        """Sort by the next column; numbers begin with the largest."""
        shown = LISTS[self._shown]
        self._by[self._shown] = at = (self._by[self._shown] + 1) % len(shown.columns)
        self._reversed[self._shown] = shown.columns[at] in shown.numbers
        self._draw()

    def action_reverse(self) -> None:
        """Sort the other way."""
        self._reversed[self._shown] = not self._reversed[self._shown]
        self._draw()

    def action_pause(self) -> None:
        """Stop looking, or go on."""
        self._paused = not self._paused
        self._draw()

    def action_filter(self) -> None:
        """Type a text that rows must contain."""
        field = self.query_one(Input)
        field.add_class("shown")
        field.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        """The text changed."""
        self._word = event.value
        self._draw()

    def on_input_submitted(self, _: Input.Submitted) -> None:
        """The text is complete."""
        self.query_one(Input).remove_class("shown")
        self.query_one(DataTable).focus()


def run(interval: float) -> int:
    """Show the screen until q; returns the exit code. Raises IrmError when there is no IRMd."""
    reader = Reader(kept=0)
    reader.ipcps()
    return Top(reader, interval).run() or 0
