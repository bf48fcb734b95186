"""Draws state machines into the documentation, from their tables: `python -m tests.docs.machines` after a change of a table.

A page has a drawing between `<!-- machine MODULE NAME -->` and `<!-- end of machine -->`. NAME is a dict in MODULE, from (phase, event),
both enums, to the phase that follows, or to moves: named tuples with `after`, `action` (its docstring is drawn) and `condition`
(its `text` is; None: it always holds), of which the first whose condition holds is made.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any

from tests.system.conftest import CHECKOUT

DRAWING = re.compile(r"(<!-- machine (\S+) (\S+) -->\n).*?(<!-- end of machine -->)", re.DOTALL)


def pages() -> Iterator[tuple[str, str]]:
    """(path, text) of each page with a drawing."""
    for path in sorted((CHECKOUT / "docs").rglob("*.md")):
        text = path.read_text()
        if DRAWING.search(text):
            yield str(path.relative_to(CHECKOUT)), text


def redrawn(text: str) -> str:
    """A page with its drawings as the tables are now."""

    def draw(found: re.Match[str]) -> str:
        return found[1] + drawing(getattr(importlib.import_module(found[2]), found[3])) + found[4]

    return DRAWING.sub(draw, text)


def drawing(table: Mapping[tuple[Any, Any], Any]) -> str:
    """The table in Markdown: one row for a move; phases with the same moves share their rows."""
    moves = any(isinstance(entry, tuple) for entry in table.values())
    head = ["phase", "event", "condition", "action", "next"] if moves else ["state", "step", "next"]
    shared: dict[tuple[Any, Any], list[Any]] = {}
    for (phase, event), entry in table.items():
        shared.setdefault((event, entry), []).append(phase)
    rows = [head, ["---"] * len(head)]
    for (event, entry), phases in shared.items():
        first = [_names(phases), event.value]
        if not moves:
            rows.append([*first, entry.value])
            continue
        for move in entry:
            condition = "" if len(entry) == 1 else move.condition.text if move.condition else "otherwise"
            rows.append([*first, condition, str(move.action.__doc__), move.after.value])
            first = ["", ""]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _names(phases: list[Any]) -> str:
    kind: type[Enum] = type(phases[0])
    others = [one for one in kind if one not in phases]
    if len(phases) > 2 and len(others) < 2:
        return f"any but {others[0].value}" if others else "any"
    return ", ".join(one.value for one in phases)


if __name__ == "__main__":
    for page, before in pages():
        (CHECKOUT / page).write_text(redrawn(before))
