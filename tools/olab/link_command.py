"""Link command: `olab link`: sets or shows the impairments of an emulated link, and shows its counters.

olab link LINK | A B [from SYSTEM] [WORDS... | clear] [--json]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..text import rows_table
from .emulator.impairment import WORDS, Impairment, ImpairmentError, parse
from .lab import Lab

CLEAR, FROM = "clear", "from"


class LinkUsageError(ValueError):
    """The words of `olab link` cannot be parsed; the text has the reason."""


@dataclass(frozen=True, slots=True)
class Order:
    """A parsed command line: the link, the direction (None: both), and the impairment to set (None: only show)."""

    link: str | list[str]
    source: str | None
    impairment: Impairment | None


def split_pair(words: Sequence[str]) -> list[str]:
    """A:B is the same as A B."""
    return words[0].split(":") if len(words) == 1 and words[0].count(":") == 1 else list(words)


def read(lab: Lab, words: Sequence[str]) -> Order:
    """Parse the words against the links and systems of this lab. Raises LinkUsageError."""
    names = {link.name for link in lab.description.links}
    systems = {system.name for system in lab.description.systems}
    # A link and a system may have the name of a keyword; the first word is always the link.
    if words[0] in names or ":" in words[0] or words[1:2] == [] or words[1] not in systems:
        where, rest = split_pair(words[:1]), list(words[1:])
    else:
        where, rest = list(words[:2]), list(words[2:])
    source = None
    if rest[:1] == [FROM]:
        if len(rest) < 2:
            raise LinkUsageError(
                f"{FROM} needs a system, as in `olab link {' '.join(where)} {FROM} a loss 5%`"
            )
        source, rest = rest[1], rest[2:]
    link: str | list[str] = where[0] if len(where) == 1 else where
    if rest == [CLEAR]:
        return Order(link, source, Impairment())
    if not rest:
        return Order(link, source, None)
    if rest[0] not in WORDS:
        known = ", ".join((FROM, CLEAR, *WORDS))
        raise LinkUsageError(f'"{rest[0]}" is unknown behind a link; it must be one of: {known}')
    try:
        return Order(link, source, parse(rest))
    except ImpairmentError as error:
        raise LinkUsageError(str(error)) from None


def run(lab: Lab, words: Sequence[str]) -> tuple[dict[str, Any], bool]:
    """Run the command; returns the link's impairments and counters, and whether they were set. Raises LinkUsageError, LabError, HolderError."""
    order = read(lab, words)
    if order.impairment is None and order.source is not None:
        raise LinkUsageError(f"{FROM} {order.source}: give the impairments of its frames, or `{CLEAR}`")
    if order.impairment is None:
        found = lab.emulation(order.link)
    else:
        found = lab.emulate(order.link, str(order.impairment), source=order.source)
    return facts(lab, order.link, found), order.impairment is not None


def facts(lab: Lab, link: str | Sequence[str], found: dict[str, Any]) -> dict[str, Any]:
    """The facts of the link, for programs."""
    spec = lab.link(link)
    return {
        "link": spec.name,
        "cut": lab.status()["cuts"].get(spec.name),
        "emulator": found["pid"],
        "directions": [
            {"from": str(end), "to": str(other), "words": words, **counters}
            for end, other, words, counters in zip(
                spec.ends, reversed(spec.ends), found["words"], found["counters"], strict=True
            )
        ],
    }


def show(found: dict[str, Any], *, counters: bool) -> str:
    """The same for people: each direction, and below it its counters."""
    both = found["directions"]
    state = f", cut ({found['cut']})" if found["cut"] else ""
    lines = [f"link {found['link']}{state}"]
    lines += [f"{one['from']} to {one['to']}: {one['words'] or 'frames pass as they are'}" for one in both]
    if counters:
        names = [key for key in both[0] if key not in ("from", "to", "words")]
        rows = [
            {"frames": name.replace("_", " "), **{f"{one['from']} to {one['to']}": one[name] for one in both}}
            for name in names
        ]
        lines.append(rows_table(rows))
    return "\n".join(lines)
