"""The allocation machine: every way through it, with a clock that the test moves."""

from __future__ import annotations

import errno
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from irmd.allocation import Allocation, Ask, AskForFlow, Fail, Phase, StartProgram, Times
from ouroboros.errors import ENAME

TIMES = Times()
UNKNOWN = Fail(ENAME, "nobody knows it")


def make(
    *, bound: bool = False, startable: bool = False, layers: Sequence[str] = (), deadline: float | None = None
) -> Allocation[str]:
    return Allocation(
        "name",
        bound=bound,
        startable=startable,
        layers=layers,
        patience=lambda layer: 3.5 if layer == "slow" else 2.5,
        deadline=deadline,
        unknown=UNKNOWN,
        times=TIMES,
    )


def failure(actions: list[object]) -> Fail:
    (fail,) = actions
    assert isinstance(fail, Fail)
    return fail


def test_nobody_and_no_layer_is_refused_at_once() -> None:
    machine = make()
    assert machine.begin(0.0) == [UNKNOWN]
    assert machine.due is None


def test_a_bound_process_between_two_accepts_gets_one_second() -> None:
    machine = make(bound=True)
    assert machine.begin(10.0) == []
    assert machine.waits_locally and machine.due == 11.0
    fail = failure(machine.expired(11.0))
    assert fail.errno == errno.ETIMEDOUT and "did not accept within 1 s" in fail.text


def test_a_program_is_started_at_once_when_nobody_is_bound() -> None:
    machine = make(startable=True)
    assert machine.begin(0.0) == [StartProgram()]
    assert machine.waits_locally and machine.due == 5.0
    assert "did not accept within 5 s" in failure(machine.expired(5.0)).text


def test_a_program_is_started_when_the_bound_process_does_not_accept() -> None:
    machine = make(bound=True, startable=True)
    assert machine.begin(0.0) == []
    assert machine.expired(1.0) == [StartProgram()]
    assert machine.due == 6.0


def test_a_program_is_started_when_the_bound_process_ends() -> None:
    machine = make(bound=True, startable=True)
    machine.begin(0.0)
    assert machine.bound_gone(0.5) == [StartProgram()]
    assert machine.bound_gone(0.6) == []


def test_layers_are_asked_after_local_ways_have_failed() -> None:
    machine = make(startable=True, layers=["a"])
    machine.begin(0.0)
    assert machine.start_failed(0.1, errno.ECONNREFUSED, "it exited") == [Ask(("a",))]
    fail = failure(machine.answered("a", False, 0.2))
    assert fail == Fail(errno.ECONNREFUSED, "it exited")


def test_a_layer_that_cannot_say_is_named_when_nobody_knows() -> None:
    machine = make(layers=["a", "b"])
    machine.begin(0.0)
    assert machine.answered("a", False, 0.1, 'device "eth0" is gone') == []
    fail = failure(machine.answered("b", False, 0.2))
    assert fail.errno == ENAME and fail.text.endswith('; device "eth0" is gone')


def test_the_first_layer_in_order_wins_however_late_it_answers() -> None:
    machine = make(layers=["a", "b", "c"])
    assert machine.begin(0.0) == [Ask(("a", "b", "c"))]
    assert machine.answered("c", True, 0.01) == []
    assert machine.answered("b", True, 0.02) == []
    assert machine.answered("a", False, 0.03) == [AskForFlow("b")]
    assert machine.phase is Phase.REQUESTED


def test_a_layer_that_does_not_answer_holds_up_one_that_knows_for_a_grace_only() -> None:
    machine = make(layers=["a", "b"])
    machine.begin(0.0)
    machine.answered("b", True, 0.01)
    assert machine.due == pytest.approx(0.2)
    assert machine.expired(0.2) == [AskForFlow("b")]


def test_after_the_grace_the_first_that_knows_wins_at_once() -> None:
    machine = make(layers=["slow", "b", "c"])
    machine.begin(1.0)
    assert machine.answered("c", False, 1.1) == []
    assert machine.answered("b", True, 1.3) == [AskForFlow("b")]


def test_a_slow_layer_that_comes_later_delays_nobody() -> None:
    machine = make(layers=["a", "slow"])
    machine.begin(0.0)
    assert machine.answered("a", True, 0.01) == [AskForFlow("a")]


def test_while_nobody_knows_each_layer_has_its_own_time() -> None:
    machine = make(layers=["slow", "b"])
    machine.begin(10.0)
    assert machine.due == pytest.approx(13.5)
    assert machine.answered("b", False, 10.1) == []
    assert machine.due == pytest.approx(13.5)
    assert machine.answered("slow", True, 13.0) == [AskForFlow("slow")]


def test_layers_that_say_nothing_do_not_know() -> None:
    machine = make(layers=["b", "slow"])
    machine.begin(0.0)
    assert machine.due == pytest.approx(2.5)
    assert machine.expired(2.5) == []
    assert machine.due == pytest.approx(3.5)
    assert machine.expired(3.5) == [UNKNOWN]


def test_a_layer_gives_up_after_twenty_seconds() -> None:
    machine = make(layers=["a"])
    machine.begin(0.0)
    machine.answered("a", True, 0.1)
    assert machine.due == pytest.approx(20.1)
    assert failure(machine.expired(20.1)).errno == errno.ETIMEDOUT


def test_the_deadline_of_the_caller_comes_first() -> None:
    machine = make(bound=True, deadline=0.3)
    machine.begin(0.0)
    assert machine.due == 0.3
    assert failure(machine.expired(0.3)).errno == errno.ETIMEDOUT


def test_an_error_of_the_layer_is_passed_on() -> None:
    machine = make(layers=["a"])
    machine.begin_requested(0.0)
    assert machine.refused(errno.EACCES, "not you") == [Fail(errno.EACCES, "not you")]


INPUTS = st.lists(
    st.tuples(
        st.sampled_from(
            [
                "served",
                "gone",
                "failed",
                "yes a",
                "yes b",
                "no a",
                "no b",
                "refused",
                "cancel",
                "tick",
                "jump",
            ]
        ),
        st.floats(0.0, 2.0),
    ),
    max_size=20,
)


@given(st.booleans(), st.booleans(), st.integers(0, 2), st.booleans(), INPUTS)
def test_inputs_in_any_order_end_at_most_once(
    bound: bool, startable: bool, layers: int, timed: bool, inputs: list[tuple[str, float]]
) -> None:
    """Whatever comes in whatever order: one outcome at most, nothing after it, and always a next deadline."""
    machine = make(bound=bound, startable=startable, layers="ab"[:layers], deadline=3.0 if timed else None)
    now, ended = 0.0, False
    actions = machine.begin(now)
    for what, later in [("", 0.0), *inputs]:
        now += later
        if what in ("served", "cancel"):
            getattr(machine, what)()
            actions, ended = [], True
        elif what == "gone":
            actions = machine.bound_gone(now)
        elif what == "failed":
            actions = machine.start_failed(now, errno.ECONNREFUSED, "it exited")
        elif what.startswith(("yes", "no")):
            actions = machine.answered(what[-1], what.startswith("yes"), now)
        elif what == "refused":
            actions = machine.refused(errno.EACCES, "no")
        elif what:
            now = now if what == "tick" or machine.due is None else max(now, machine.due)
            actions = machine.expired(now)
        assert not (ended and actions)
        fails = [action for action in actions if isinstance(action, Fail)]
        assert len(fails) <= 1 and (not fails or actions[-1] is fails[0])
        ended = ended or bool(fails)
        assert (machine.due is None) == ended == (machine.phase is Phase.DONE)


@given(st.booleans(), st.booleans(), st.integers(0, 3))
def test_time_alone_ends_every_allocation(bound: bool, startable: bool, layers: int) -> None:
    machine = make(bound=bound, startable=startable, layers="abc"[:layers])
    machine.begin(0.0)
    for _ in range(10):
        if machine.due is None:
            break
        machine.expired(machine.due)
    assert machine.phase is Phase.DONE
