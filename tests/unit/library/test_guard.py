"""The failure for one packet does not stop the packets behind it, and is counted and logged within limits."""

from __future__ import annotations

import pytest

from ouroboros.guard import Guard
from ouroboros.log import BURST


def test_a_defect_is_counted_and_those_behind_have_their_turn(caplog: pytest.LogCaptureFixture) -> None:
    guard, done = Guard(lambda: 0.0), []
    for number in range(100):
        with guard("a packet"):
            if number % 2:
                raise ValueError(number)
            done.append(number)
    assert len(done) == 50 and guard.defects == 50
    assert 0 < len(caplog.records) <= BURST
    assert "cannot handle a packet" in caplog.text and "ValueError" in caplog.text


def test_guards_inside_guards(caplog: pytest.LogCaptureFixture) -> None:
    guard = Guard(lambda: 0.0)
    with guard("the outer"):
        with guard("the inner"):
            raise KeyError
        raise ValueError
    assert guard.defects == 2
    assert [record.args for record in caplog.records] == [("the inner",), ("the outer",)]


@pytest.mark.parametrize("end", [KeyboardInterrupt, SystemExit])
def test_the_end_of_the_process_is_no_defect(end: type[BaseException]) -> None:
    guard = Guard(lambda: 0.0)
    with pytest.raises(end), guard("a packet"):
        raise end
    assert guard.defects == 0
