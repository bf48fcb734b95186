"""State machines as tables: from (phase, event) to moves, of which the first whose condition holds is made.

A machine of the daemons looks its move up, sets its phase and calls the action; `tests.docs.machines` draws the table into the
documentation. An event that the table does not have for a phase has no effect.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar, TypeVarTuple

Args = TypeVarTuple("Args")
Phase = TypeVar("Phase")
Event = TypeVar("Event")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Condition(Generic[*Args]):
    """A condition of a move, with its text for the documentation."""

    text: str
    holds: Callable[[*Args], bool]


@dataclass(frozen=True)
class Move(Generic[Phase, Result, *Args]):
    """The phase that follows, and the action (its docstring is drawn). `condition`: None, it always holds."""

    after: Phase
    action: Callable[[*Args], Result]
    condition: Condition[*Args] | None = None


Table = Mapping[tuple[Phase, Event], tuple[Move[Phase, Result, *Args], ...]]


def find_move(
    table: Table[Phase, Event, Result, *Args], phase: Phase, event: Event, *args: *Args
) -> Move[Phase, Result, *Args] | None:
    """The move to make, `args` being those of conditions and actions; None when the event has no effect."""
    for move in table.get((phase, event), ()):
        if move.condition is None or move.condition.holds(*args):
            return move
    return None
