"""The life cycle of an IPCP is a table."""

from __future__ import annotations

import pytest

from ipcpd.common.life import LEGAL, TRANSITIONS, State, StateError, Step, advance, check
from ouroboros.errors import EIPCPSTATE
from ouroboros.rpc.messages_pb2 import Envelope


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("step", Step)
def test_every_pair_is_a_legal_state_or_a_typed_error(state: State, step: Step) -> None:
    if (state, step) in TRANSITIONS:
        assert advance(state, step) is TRANSITIONS[state, step]
    else:
        with pytest.raises(StateError) as error:
            advance(state, step)
        assert error.value.errno == EIPCPSTATE


@pytest.mark.parametrize("request_", LEGAL)
@pytest.mark.parametrize("state", State)
def test_every_request_is_legal_or_refused_with_a_reason(request_: str, state: State) -> None:
    if state in LEGAL[request_]:
        check(state, request_)
    else:
        with pytest.raises(StateError, match=f"in state {state.value}"):
            check(state, request_)


def test_the_table_speaks_of_messages_that_exist() -> None:
    assert set(LEGAL) <= set(Envelope.DESCRIPTOR.fields_by_name)
