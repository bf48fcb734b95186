"""Flow states are a table, and numbers are handed out lowest first."""

from __future__ import annotations

import errno
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from irmd.descriptors import FIRST_FD, Numbers
from irmd.flow import TRANSITIONS, IllegalTransition, State, Step, advance
from irmd.flow_table import FlowTable
from irmd.incoming import notify_user
from irmd.records import Flow
from ouroboros.extension import Extension
from ouroboros.flow_event import FlowEvent
from ouroboros.ipcp_types import IpcpType
from ouroboros.rpc.messages_pb2 import QosSpec
from ouroboros.rpc.service import Refusal

LIVES = """
    init  alloc   alloc-pending   grant   allocated    dealloc  dealloc-pending  release  deallocated
    init  accept  accept-pending  grant   allocated
    init  alloc   alloc-pending   refuse  deallocated
    init  accept  accept-pending  refuse  deallocated
"""
"""Every life that a flow can have (docs/spec/rpc.md): states, and between them the steps. What is in none of them is refused."""


def moves() -> dict[tuple[str, str], str]:
    found = {}
    for line in LIVES.strip().splitlines():
        words = line.split()
        for before, step, after in zip(words[::2], words[1::2], words[2::2], strict=False):
            found[before, step] = after
    return found


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("step", Step)
def test_every_move_is_legal_or_refused(state: State, step: Step) -> None:
    after = moves().get((state.value, step.value))
    if after is not None:
        assert advance(state, step) is State(after)
    else:
        with pytest.raises(
            IllegalTransition, match=f"^{step.value} is not legal for a flow that is {state.value}$"
        ) as illegal:
            advance(state, step)
        assert (illegal.value.state, illegal.value.step) == (state, step)


def test_every_state_and_every_step_is_in_a_life() -> None:
    words = set(LIVES.split())
    assert words == {one.value for one in (*State, *Step)}
    assert len(TRANSITIONS) == len(moves())


@given(st.lists(st.integers(min_value=-1, max_value=8), max_size=60))
def test_numbers_are_the_lowest_free(moves: list[int]) -> None:
    """-1 takes one; n gives the n-th taken back."""
    numbers = Numbers(FIRST_FD, 6)
    taken: list[int] = []
    for move in moves:
        if move < 0:
            free = [number for number in range(FIRST_FD, FIRST_FD + 6) if number not in taken]
            got = numbers.take()
            assert got == (free[0] if free else None)
            if got is not None:
                taken.append(got)
        elif move < len(taken):
            numbers.give_back(taken.pop(move))
        assert numbers.used == len(taken)


def test_the_first_descriptor_of_a_flow_is_64() -> None:
    """Lower numbers are for the components of an IPCP (paper 5.3)."""
    assert FIRST_FD == 64


def test_one_user_gets_half() -> None:
    """Those who manage are counted with nobody, and what is given back counts no more."""
    table = FlowTable(4)
    first = table.create(Step.ALLOC, user=7)
    table.create(Step.ACCEPT, user=7)
    with pytest.raises(Refusal, match="user 7 has 2 flows already") as refused:
        table.create(Step.ALLOC, user=7)
    assert refused.value.errno == errno.ENOSPC
    table.create(Step.ALLOC, user=8)
    table.create(Step.ALLOC)
    first.step(Step.REFUSE)
    table.remove(first)
    table.create(Step.ALLOC, user=7)


def test_the_limit_of_the_system_is_an_error_that_names_it() -> None:
    table = FlowTable(2)
    first = table.create(Step.ALLOC)
    table.create(Step.ACCEPT)
    with pytest.raises(Refusal, match="2 flows already") as refused:
        table.create(Step.ALLOC)
    assert refused.value.errno == errno.ENOSPC
    first.step(Step.REFUSE)
    table.remove(first)
    assert table.create(Step.ALLOC).id == first.id


def test_the_id_of_a_flow_that_lives_is_not_given_back() -> None:
    table = FlowTable(2)
    flow = table.create(Step.ALLOC)
    with pytest.raises(IllegalTransition):
        table.remove(flow)


def carried(
    ipcp_type: int, *, inside: bool = False, qos: QosSpec | None, extensions: frozenset[int] = frozenset()
) -> Flow:
    flow = Flow(1, qos=qos, extensions=extensions)
    flow.ipcp = SimpleNamespace(type=ipcp_type, inside=inside)  # type: ignore[assignment]
    return flow


FRCP = QosSpec(in_order=1, ber=1)
CHECKED = frozenset({int(Extension.FRCP_CHECK)})


def test_nothing_is_known_of_ends_after_delta_t() -> None:
    """Three times the packet lifetime, 10 s until an acknowledgement, 120 s of sending again, and the second that was begun."""
    assert Flow(1, qos=FRCP, mpl_ms=5000).quiet_s == 15 + 10 + 120 + 1
    assert Flow(1, qos=FRCP, mpl_ms=1).quiet_s == 131
    assert Flow(1, qos=FRCP, mpl_ms=333).quiet_s == 131  # the last millisecond of a second
    assert Flow(1, qos=QosSpec(), mpl_ms=5000).quiet_s == 0
    assert Flow(1, mpl_ms=5000).quiet_s == 0


def test_where_packets_carry_a_check() -> None:
    clean, any_ = QosSpec(ber=0), QosSpec(ber=1)
    assert carried(IpcpType.ETH_DIX, qos=clean).is_checked is True
    assert carried(IpcpType.ETH_DIX, qos=any_).is_checked is False
    assert carried(IpcpType.ETH_DIX, qos=None).is_checked is False
    assert carried(IpcpType.ETH_DIX, qos=clean, inside=True).is_checked is False
    assert carried(IpcpType.BROADCAST, qos=clean).is_checked is False
    assert carried(IpcpType.ETH_DIX, qos=FRCP).is_checked is False
    assert carried(IpcpType.ETH_DIX, qos=FRCP, extensions=CHECKED).is_checked is True
    assert Flow(1, qos=clean).is_checked is False  # direct: no IPCP


class Memory:
    """The memory of a flow, as far as `tell` uses it."""

    def __init__(self) -> None:
        self.raised: list[tuple[int, int]] = []

    def raise_event(self, side: int, event: FlowEvent, *, link: bool = False) -> None:
        self.raised.append((side, int(event)))


@pytest.mark.parametrize(
    ("event", "down"),
    [
        (FlowEvent.DOWN, True),
        (FlowEvent.PEER, True),
        (FlowEvent.DOWN | FlowEvent.PEER, True),
        (FlowEvent.UP, False),
    ],
)
def test_what_its_layer_says_reaches_the_application(event: FlowEvent, down: bool) -> None:
    flow = Flow(1, memory=Memory(), down=not down)  # type: ignore[arg-type]
    notify_user(flow, int(event))
    assert flow.down is down
    assert flow.memory.raised == [(0, int(event))]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "event", [0, FlowEvent.UP | FlowEvent.DOWN, FlowEvent.UP | FlowEvent.PEER, 1 << 20, 1]
)
def test_what_a_layer_cannot_say(event: int) -> None:
    flow = Flow(1, memory=Memory())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="is not DOWN, UP, or PEER of a flow"):
        notify_user(flow, int(event))
    assert flow.memory.raised == [] and not flow.down  # type: ignore[union-attr]


def test_ids_begin_with_one_and_a_flow_that_lives_keeps_its() -> None:
    table = FlowTable(3)
    first = table.create(Step.ALLOC, user=5)
    assert first.id == 1 and table.flows == {1: first}
    with pytest.raises(IllegalTransition, match="release is not legal"):
        table.remove(first)
    assert table.flows == {1: first}
    first.step(Step.REFUSE)
    table.remove(first)
    assert table.flows == {} and table._of == {}
