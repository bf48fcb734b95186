"""FRCP against scripts (`*.script`, language in `script.py`): the packets that it sends and their times, packet by packet."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.frcp.script import Player, Script, load

SCRIPTS = [script for path in sorted(Path(__file__).parent.glob("*.script")) for script in load(path)]


@pytest.mark.parametrize("script", SCRIPTS, ids=[f"{s.place}: {s.title}" for s in SCRIPTS])
def test_script(script: Script) -> None:
    Player().play(script)


def test_titles_are_unique() -> None:
    titles = [script.title for script in SCRIPTS]
    assert len(titles) == len(set(titles))


BROKEN = {
    "nothing goes out": "> DATA|DRF seq 0 len 1",
    "unexpected": "write 1",
    "too early": "write 1\n> DATA|DRF seq 0 len 1\n+1.5 > DATA|DRF seq 0 len 1",
    "not DATA": "write 2\n> DATA|DRF seq 0 len 1",
    "the write gives": "write 1 EAGAIN\n> DATA|DRF seq 0 len 1",
    "can be read": "< DATA|DRF seq 0 len 1\nread nothing",
    "lim is": "state lim 63",
    "no statement": "perhaps",
}


@pytest.mark.parametrize("complaint", BROKEN)
def test_a_script_that_is_wrong_fails(complaint: str) -> None:
    lines = tuple(enumerate(BROKEN[complaint].splitlines(), 1))
    with pytest.raises(AssertionError, match=complaint):
        Player().play(Script("here", "wrong on purpose", lines))
