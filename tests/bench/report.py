"""Report: the rows of a run as a table for people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tests.bench.goal import OURS, PEER, Verdict, judge, ratio, table_of
from tests.bench.paths import find
from tests.bench.row import TRANSFER, UNITS, Key, Mode, Row

SUBJECTS = (
    OURS,
    "seqpacket",
    "udp",
    "pipe",
    "zmq",
    "floor",
    "veth",
    "ping",
    "udp_floor",
    "udp_gso",
    "chain",
    "raw",
    "tcp",
    "quic",
    "plain",
    "openssl",
)
RATIOS = (PEER, "floor", "plain", "openssl")  # of paths without others


def figure(value: float) -> str:
    """A value in at most seven characters, with three significant digits or more."""
    if value >= 1_000_000:
        return f"{value / 1e6:.2f}M"
    if value >= 10_000:
        return f"{value / 1e3:.0f}k"
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}"


def align(lines: Sequence[Sequence[str]], left: int) -> list[str]:
    """Lines of cells padded to columns; the first `left` columns are aligned to the left."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return [
        "  ".join(c.ljust(w) if i < left else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True)))
        .rstrip()
        for line in lines
    ]  # fmt: skip


def mark(verdicts: Sequence[Verdict]) -> str:
    """The goals of a row and whether they are reached."""
    return ", ".join(f"{v.goal.text} {'reached' if v.reached else 'MISSED'}" for v in verdicts)


def _times(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}x"


def _path_table(path: str, rows: Mapping[Key, Row], verdicts: Mapping[Key, Sequence[Verdict]]) -> list[str]:
    """One line per measure, one column per subject, and our ratios to those that the path is compared with."""
    mine = [r for r in rows.values() if r.path == path]
    subjects = [s for s in SUBJECTS if any(r.subject == s for r in mine)]
    known = find(path)
    ratios = [other for other in (known.ratios if known else RATIOS) if other in subjects]
    lines: list[list[str]] = [
        ["what", "unit", "size", "mode", *subjects, *(f"/{other}" for other in ratios), "goal"]
    ]
    for what in TRANSFER:
        for size in sorted({r.size for r in mine}):
            for mode in Mode:
                cells = [rows.get((path, what, size, mode, s)) for s in subjects]
                if not any(cells):
                    continue
                key = (path, what, size, mode, OURS)
                lines.append(
                    [what, UNITS[what], str(size), mode]
                    + ["-" if c is None else figure(c.value) for c in cells]
                    + [_times(ratio(rows, key, other)) for other in ratios]
                    + [mark(verdicts.get(key, ()))]
                )
    return align(lines, 2)


def _plain_table(rows: Iterable[Row], verdicts: Mapping[Key, Sequence[Verdict]]) -> list[str]:
    lines = [["what", "unit", "value", "goal"]]
    for r in rows:
        name = r.what if r.subject in (OURS, "floor") else f"{r.what} ({r.subject})"
        lines.append([name, r.unit, figure(r.value), mark(verdicts.get(r.key, ()))])
    return align(lines, 2)


def table(machine: Mapping[str, Any], rows: Sequence[Row], notes: Sequence[str] = ()) -> str:
    """The whole report: machine, a table per path, the system's figures, notes, and the score of the goals."""
    found = table_of(rows)
    verdicts = judge(found)
    out = ["  ".join(f"{k}: {v}" for k, v in machine.items()), ""]
    transfer = [r for r in rows if r.what in TRANSFER]
    for path in dict.fromkeys(r.path for r in transfer):
        # A line that only has a path's name could be mistaken for the end of the table before it.
        out += [
            f"== {path}: medians over rounds; a burst is compared with single calls of what has no bursts"
        ]
        out += _path_table(path, {r.key: r for r in transfer}, verdicts) + [""]
    rest = [r for r in rows if r.what not in TRANSFER]
    for path in dict.fromkeys(r.path for r in rest):
        out += [f"== {path}"] + _plain_table([r for r in rest if r.path == path], verdicts) + [""]
    out += [f"note: {n}" for n in notes]
    if verdicts:
        judged = [verdict for of_row in verdicts.values() for verdict in of_row]
        out.append(f"goals reached: {sum(v.reached for v in judged)} of {len(judged)} measured")
    return "\n".join(out)
