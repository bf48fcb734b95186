"""Writes docs/reference/facts.md from the declarations in `ouroboros.facts`: `python -m tests.docs.facts` after a change of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ouroboros.facts import GROUPS, TABLES, Fact, Kind
from tests.system.conftest import CHECKOUT

PAGE = CHECKOUT / "docs" / "reference" / "facts.md"
HEAD = """# Facts

Every counter, gauge and state that a system shows. Each is declared once, in `ouroboros/facts.py`; this page is written from the declarations
(`python -m tests.docs.facts`), and so are the tables and the JSON of [`irm`](irm.md), where a value without a declaration is an error.

A counter only grows, while its process lives. A state is one of a few words, or yes and no.

## Counters

`irm ipcp counters name N` shows those of an IPCP, `irm flow counters` those of the IRMd (`irmd` below). Each row has the component, the object that it
is `of` where the component counts for several, the counter, and the value.
"""
LISTS = """
## Lists

`irm ipcp neighbours name N`, `irm ipcp status name N` and so on; lists of `irmd` are parts of `irm ipcp list`, `irm flow list` and `irm pool show`.
"""


def page() -> str:
    """The page as the declarations are now."""
    lines = [HEAD]
    for group in GROUPS:
        of = f", of each {group.scope}" if group.scope else ""
        lines += [f"### {group.component}{of} ({', '.join(group.types)})", "", f"{group.help}.", ""]
        lines += [*_rows(group.facts), ""]
    lines.append(LISTS)
    for table in TABLES:
        lines += [f"### {table.what} ({', '.join(table.types)})", "", f"{table.help}.", ""]
        lines += [*_rows(table.facts), ""]
    return "\n".join(lines).rstrip() + "\n"


def _rows(facts: Iterable[Fact]) -> Iterator[str]:
    yield "| name | kind | unit | meaning |"
    yield "|---|---|---|---|"
    for fact in facts:
        states = f": {' '.join(fact.states)}" if fact.states and fact.kind is Kind.STATE else ""
        yield f"| `{fact.name}` | {fact.kind.value} | {fact.unit} | {fact.help}{states} |"


if __name__ == "__main__":
    PAGE.write_text(page())
