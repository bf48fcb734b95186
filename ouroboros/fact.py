"""Fact: the meaning of a value of a read-out, and how declarations of values make its rows (paper 5.3).

A library module of every process; pure. The declarations are in `facts`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import NamedTuple

Row = dict[str, object]
"""One line of a read-out: values that json can write, with the same keys in every row of a table."""


class Kind(Enum):
    """The kind of a value."""

    COUNTER = "counter"
    """It only grows, while its process lives."""
    GAUGE = "gauge"
    STATE = "state"
    """One of a few words, or yes and no."""
    TEXT = "text"
    """A name or a list, which identifies or describes."""


class Fact(NamedTuple):
    """One value. `states`: all words that a state can have, where these are few."""

    name: str
    help: str
    kind: Kind = Kind.COUNTER
    unit: str = ""
    states: tuple[str, ...] = ()


class Group(NamedTuple):
    """The counters of one component of a process.

    scope  label of the objects that have these counters each, or empty: the component has them once
    open   any name may be counted, and `facts` has one entry that describes all
    """

    component: str
    types: tuple[str, ...]
    help: str
    facts: tuple[Fact, ...]
    scope: str = ""
    open: bool = False

    def rows(self, values: Mapping[str, object], of: str = "") -> list[Row]:
        """The rows of the read-out "counters". Raises KeyError for a counter that is not declared, or lacks."""
        names = list(values) if self.open else [fact.name for fact in self.facts]
        if len(names) != len(values):
            raise KeyError(f"{self.component}: {sorted(set(values) ^ set(names))}")
        return [
            {"component": self.component, "of": of, "counter": name, "value": values[name]} for name in names
        ]


class Table(NamedTuple):
    """A list. `key`: the columns that identify a row; empty: there is one row."""

    what: str
    types: tuple[str, ...]
    help: str
    facts: tuple[Fact, ...]
    key: tuple[str, ...] = ()

    def row(self, **known: object) -> Row:
        """A row with all columns, in their order; None where no value is known. Raises KeyError for one that is not declared."""
        row: Row = dict.fromkeys(fact.name for fact in self.facts)
        row |= known
        if len(row) != len(self.facts):
            raise KeyError(f"{self.what}: {sorted(set(row) - {fact.name for fact in self.facts})}")
        return row
