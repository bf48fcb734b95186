"""The life cycle of an IPCP: the legal transitions are stated here a second time, from the specification and not from the table."""

from __future__ import annotations

import pytest

from ipcpd.common.life import LEGAL, TRANSITIONS, State, StateError, Step, advance, check
from ouroboros.errors import EIPCPSTATE
from ouroboros.rpc.messages_pb2 import Envelope

MOVES = """
    null         start                    init
    init         connect to the IRMd      boot
    boot         bootstrap or enroll      operational
    init         stop                     shutdown
    boot         stop                     shutdown
    operational  stop                     shutdown
"""
"""Every legal move; all others are refused. An IPCP that ends stays ended, and one that is a member stays a member of its layer."""

REQUESTS = """
    bootstrap enroll                                            boot
    connect disconnect reg unreg query                          operational
    flow_alloc flow_join flow_alloc_resp flow_again             operational
    flow_dealloc                                                boot operational shutdown
"""
"""In which states a request is legal, by the name of its message without `ipcp_`."""


def moves() -> dict[tuple[str, str], str]:
    rows = [line.split() for line in MOVES.strip().splitlines()]
    return {(row[0], " ".join(row[1:-1])): row[-1] for row in rows}


def requests() -> dict[str, set[str]]:
    states = {state.value for state in State}
    found = {"readout": {"operational"}}
    for line in REQUESTS.strip().splitlines():
        words = line.split()
        for name in words:
            if name not in states:
                found[f"ipcp_{name}"] = states & set(words)
    return found


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("step", Step)
def test_every_move_is_legal_or_refused(state: State, step: Step) -> None:
    after = moves().get((state.value, step.value))
    if after is not None:
        assert advance(state, step) is State(after)
    else:
        with pytest.raises(StateError) as error:
            advance(state, step)
        assert str(error.value) == f"cannot {step.value} an IPCP that is in state {state.value}"
        assert error.value.errno == EIPCPSTATE


def test_what_the_states_are_called() -> None:
    """As `irm ipcp list` shows them, in the order of a life."""
    assert [state.value for state in State] == ["null", "init", "boot", "operational", "shutdown"]
    assert len(TRANSITIONS) == len(moves())


@pytest.mark.parametrize("request_", sorted(requests()))
@pytest.mark.parametrize("state", State)
def test_every_request_is_legal_or_refused_with_a_reason(request_: str, state: State) -> None:
    if state.value in requests()[request_]:
        check(state, request_)
    else:
        what = request_.removeprefix("ipcp_").replace("_", " ")
        with pytest.raises(StateError, match=f"in state {state.value}, which does not allow {what}: "):
            check(state, request_)


def test_the_reason_says_what_can_be_done() -> None:
    with pytest.raises(StateError, match="it is a member of a layer already"):
        check(State.OPERATIONAL, "ipcp_enroll")
    with pytest.raises(StateError, match="bootstrap or enroll it first"):
        check(State.BOOT, "ipcp_connect")


def test_the_tables_speak_of_the_same_requests_and_of_messages_that_exist() -> None:
    assert set(LEGAL) == set(requests()) <= set(Envelope.DESCRIPTOR.fields_by_name)
    with pytest.raises(StateError, match="it is ending"):
        check(State.SHUTDOWN, "readout")
