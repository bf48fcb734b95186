"""The allocation machine: every way through it, with a clock that the test moves."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from irmd.allocation import (
    MOVES,
    Allocation,
    Bound,
    Event,
    Fail,
    Phase,
    QueryLayers,
    RequestFlow,
    StartProgram,
    Times,
    ipcp_exited,
)
from irmd.pace import NEVER
from ouroboros.errors import ENAME

TIMES = Times()
UNKNOWN = Fail(ENAME, "nobody knows it")


@dataclass
class Others:
    """What is bound to the name: until when accepts are expected."""

    servers: float = NEVER
    newcomers: float = NEVER


def make(
    *,
    bound: bool | Others = False,
    startable: bool = False,
    layers: Sequence[str] = (),
    deadline: float | None = None,
) -> Allocation[str]:
    others = bound if isinstance(bound, Others) else Others(servers=0.0 if bound else NEVER)
    return Allocation(
        "name",
        bound=Bound(lambda: others.servers, lambda: others.newcomers),
        startable=startable,
        layers=layers,
        query_timeout=lambda layer: 3.5 if layer == "slow" else 2.5,
        deadline=deadline,
        unknown=UNKNOWN,
        times=TIMES,
    )


def failure(actions: list[object]) -> Fail:
    (fail,) = actions
    assert isinstance(fail, Fail)
    return fail


LEGAL = """
    NEW             BEGIN         LOCAL_BOUND LOCAL_STARTING QUERY LOCAL_NEW DONE
    NEW             JOIN          REQUESTED
    LOCAL_BOUND     UNBOUND       LOCAL_BOUND LOCAL_STARTING QUERY LOCAL_NEW DONE
    LOCAL_BOUND     EXPIRED       LOCAL_BOUND LOCAL_STARTING QUERY LOCAL_NEW DONE
    LOCAL_STARTING  START_FAILED  QUERY LOCAL_NEW DONE
    LOCAL_STARTING  EXPIRED       LOCAL_STARTING QUERY LOCAL_NEW DONE
    QUERY           ANSWERED      REQUESTED QUERY LOCAL_NEW DONE
    QUERY           EXPIRED       REQUESTED QUERY LOCAL_NEW DONE
    LOCAL_NEW       UNBOUND       LOCAL_NEW DONE
    LOCAL_NEW       EXPIRED       LOCAL_NEW DONE
    REQUESTED       REFUSED       DONE
    REQUESTED       EXPIRED       DONE
"""
"""The phases to which each event may lead (docs/spec/rpc.md, RPC-12 to RPC-15), the preferred one first. Any allocation ends when it is
served or cancelled, and any that has not ended at its deadline."""


def test_the_table_has_the_legal_moves() -> None:
    legal = {(phase, event): after for phase, event, *after in map(str.split, LEGAL.strip().splitlines())}
    for phase in Phase:
        legal[phase.name, "CLOSED"] = ["DONE"]
        if phase is not Phase.DONE:
            legal[phase.name, "DEADLINE"] = ["DONE"]
    moves = {
        (phase.name, event.name): [move.after.name for move in found]
        for (phase, event), found in MOVES.items()
    }
    assert moves == legal


@pytest.mark.parametrize("end", [Allocation.served, Allocation.cancel])
def test_it_ends_when_it_is_served_or_cancelled(end: Callable[[Allocation[str]], None]) -> None:
    for bound, startable, layers in ((True, False, ()), (False, True, ()), (False, False, ("a",))):
        machine = make(bound=bound, startable=startable, layers=layers)
        machine.begin(0.0)
        assert machine.due is not None
        end(machine)
        assert machine.due is None and machine.expired(99.0) == []


def test_an_event_of_another_phase_is_no_reason() -> None:
    others = Others(newcomers=0.5)
    machine = make(bound=others, layers=("a",))
    machine.begin(0.0)
    assert machine.start_failed(0.1, errno.ENOENT, "no program") == machine.bound_changed(0.2) == []
    assert machine.answered("a", False, 0.3) == []
    assert machine.phase is Phase.LOCAL_NEW and failure(machine.expired(0.5)) == UNKNOWN


def test_an_ipcp_that_has_exited_is_named() -> None:
    assert '"unicast.a"' in ipcp_exited("unicast.a").text


@pytest.mark.parametrize("event", Event)
@pytest.mark.parametrize("phase", Phase)
def test_the_last_move_needs_no_condition(phase: Phase, event: Event) -> None:
    conditions = [move.condition for move in MOVES.get((phase, event), ())]
    assert not conditions or conditions[-1] is None and None not in conditions[:-1]


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
    others = Others(servers=0.0)
    machine = make(bound=others, startable=True)
    machine.begin(0.0)
    assert machine.bound_changed(0.4) == []  # another one
    others.servers = NEVER
    assert machine.bound_changed(0.5) == [StartProgram()]
    assert machine.bound_changed(0.6) == []


def test_a_request_waits_as_long_as_bound_processes_go_on_accepting() -> None:
    others = Others(servers=0.0)
    machine = make(bound=others, deadline=60.0)
    machine.begin(0.0)
    for second in range(1, 60):
        others.servers = second + 0.9  # one was served just now
        assert machine.expired(float(second)) == []
        assert machine.waits_locally and machine.due == pytest.approx(min(second + 0.9, 60.0))
    assert failure(machine.expired(60.0)).errno == errno.ETIMEDOUT


def test_so_does_one_for_which_the_program_was_started() -> None:
    others = Others()
    machine = make(bound=others, startable=True)
    machine.begin(0.0)
    others.servers = 5.5
    assert machine.expired(5.0) == [] and machine.due == 5.5
    assert "did not accept within 5 s" in failure(machine.expired(5.5)).text


def test_a_server_that_is_known_to_be_slow_is_waited_for_longer() -> None:
    machine = make(bound=Others(servers=12.0))
    machine.begin(10.0)
    assert machine.due == 12.0


@pytest.mark.parametrize(("startable", "layers"), [(True, ()), (False, ("a",)), (True, ("a",))])
def test_a_process_that_has_never_accepted_delays_nothing(startable: bool, layers: Sequence[str]) -> None:
    machine = make(bound=Others(newcomers=1.0), startable=startable, layers=layers)
    assert machine.begin(0.0) == [StartProgram() if startable else QueryLayers(("a",))]


def test_but_a_refusal() -> None:
    others = Others(newcomers=1.0)
    machine = make(bound=others, layers=["a"])
    machine.begin(0.0)
    assert machine.answered("a", False, 0.2) == []
    assert machine.waits_locally and machine.due == 1.0
    assert machine.expired(1.0) == [UNKNOWN]
    machine = make(bound=others)
    assert machine.begin(0.2) == [] and machine.phase is Phase.LOCAL_NEW
    others.newcomers = NEVER
    assert failure(machine.bound_changed(0.3)).errno == ENAME
    machine = make(bound=others, layers=["a"])
    machine.begin(0.2)
    others.servers = 1.4  # it accepts while the layer is asked
    assert machine.answered("a", False, 0.5) == [] and machine.waits_locally
    others.newcomers, others.servers = 1.0, NEVER
    assert make(bound=others).begin(1.0) == [UNKNOWN]  # it has been there for long


def test_layers_are_asked_after_local_ways_have_failed() -> None:
    machine = make(startable=True, layers=["a"])
    machine.begin(0.0)
    assert machine.start_failed(0.1, errno.ECONNREFUSED, "it exited") == [QueryLayers(("a",))]
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
    assert machine.begin(0.0) == [QueryLayers(("a", "b", "c"))]
    assert machine.answered("c", True, 0.01) == []
    assert machine.answered("b", True, 0.02) == []
    assert machine.answered("a", False, 0.03) == [RequestFlow("b")]
    assert machine.phase is Phase.REQUESTED


def test_a_layer_that_does_not_answer_holds_up_one_that_knows_for_a_grace_only() -> None:
    machine = make(layers=["a", "b"])
    machine.begin(0.0)
    machine.answered("b", True, 0.01)
    assert machine.due == pytest.approx(0.2)
    assert machine.expired(0.2) == [RequestFlow("b")]


def test_after_the_grace_the_first_that_knows_wins_at_once() -> None:
    machine = make(layers=["slow", "b", "c"])
    machine.begin(1.0)
    assert machine.answered("c", False, 1.1) == []
    assert machine.answered("b", True, 1.3) == [RequestFlow("b")]


def test_a_slow_layer_that_comes_later_delays_nobody() -> None:
    machine = make(layers=["a", "slow"])
    machine.begin(0.0)
    assert machine.answered("a", True, 0.01) == [RequestFlow("a")]


def test_while_nobody_knows_each_layer_has_its_own_time() -> None:
    machine = make(layers=["slow", "b"])
    machine.begin(10.0)
    assert machine.due == pytest.approx(13.5)
    assert machine.answered("b", False, 10.1) == []
    assert machine.due == pytest.approx(13.5)
    assert machine.answered("slow", True, 13.0) == [RequestFlow("slow")]


def test_layers_that_say_nothing_are_not_said_to_know_nothing() -> None:
    machine = make(layers=["b", "slow"])
    machine.begin(0.0)
    assert machine.due == pytest.approx(2.5)
    assert machine.expired(2.5) == []
    assert machine.due == pytest.approx(3.5)
    fail = failure(machine.expired(3.5))
    assert fail.errno == errno.ETIMEDOUT and "b and slow did not answer within 3.5 s" in fail.text


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
                "accepts",
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
    others = Others(servers=0.0) if bound else Others(newcomers=1.0)
    machine = make(bound=others, startable=startable, layers="ab"[:layers], deadline=3.0 if timed else None)
    now, ended = 0.0, False
    actions = machine.begin(now)
    for what, later in [("", 0.0), *inputs]:
        now += later
        if what in ("served", "cancel"):
            getattr(machine, what)()
            actions, ended = [], True
        elif what == "accepts":
            others.servers, actions = now + 1.0, []
        elif what == "gone":
            others.servers = others.newcomers = NEVER
            actions = machine.bound_changed(now)
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


def test_what_changes_nothing_is_no_reason_of_a_later_refusal() -> None:
    """One of two processes that may accept for the first time ends; the other does not accept in time."""
    others = Others(newcomers=5.0)
    it = make(bound=others)
    assert it.due == 0.0
    assert it.begin(0.0) == [] and it.phase is Phase.LOCAL_NEW and it.due == 5.0
    assert it.bound_changed(1.0) == [] and it.phase is Phase.LOCAL_NEW and it.due == 5.0
    assert it.expired(5.0) == [UNKNOWN]
