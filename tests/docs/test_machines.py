"""The state machines in the documentation are drawn from the tables that the code runs by."""

from __future__ import annotations

from enum import Enum

import pytest

from tests.docs.machines import drawing, pages, redrawn

PAGES = dict(pages())


@pytest.mark.parametrize("page", PAGES)
def test_the_drawing_is_current(page: str) -> None:
    assert redrawn(PAGES[page]) == PAGES[page], "python -m tests.docs.machines"


def test_pages_are_found() -> None:
    assert "docs/design/overview.md" in PAGES


def test_states_with_the_same_move_share_a_row() -> None:
    state = Enum("state", {name: name for name in "abc"})
    step = Enum("step", {name: name for name in "xy"})
    table = {(one, step["x"]): state["c"] for one in state} | {(state["a"], step["y"]): state["b"]}
    assert drawing(table).splitlines()[2:] == ["| any | x | c |", "| a | y | b |"]
