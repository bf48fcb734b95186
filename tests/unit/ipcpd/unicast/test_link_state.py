"""The link state machine, with numbers for a clock."""

from __future__ import annotations

from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipcpd.unicast.link_state import (
    FIRST_HOLD,
    REPEATS,
    SPACING,
    SYNC_BURST,
    SYNC_INTERVAL,
    LinkState,
    TablesChanged,
    _Hold,
)
from ipcpd.wire.lsm import Lsm
from ouroboros.ipcp_config import LinkStateConfig
from ouroboros.policies import LinkStatePolicy
from ouroboros.qos import QOS_RAW, QOS_VIDEO, QOS_VOICE

ME, B, C, D = 0xA, 0xB, 0xC, 0xD
RAW, VIDEO, VOICE = (1, 4, 4), (1, 1, 2), (4, 16, 1)


def machine(policy: LinkStatePolicy = LinkStatePolicy.SIMPLE, now: float = 0.0) -> LinkState:
    return LinkState(address=ME, config=LinkStateConfig(pol=policy), now=now)


def neighbour(link_state: LinkState, address: int, fd: int, now: float = 0.0) -> None:
    """A neighbour of ours with a management flow fd + 1 and a data transfer flow fd."""
    link_state.mgmt_added(address, fd + 1, now)
    link_state.dt_added(address, fd, QOS_RAW, now)
    link_state.receive(fd + 1, Lsm(address, ME, 0, RAW), now)


def run(link_state: LinkState, until: float) -> list[tuple[float, int, Lsm]]:
    """Let time pass; what was sent, with the time."""
    sent = []
    while link_state.deadline <= until:
        now = link_state.deadline
        link_state.timer(now)
        sent += [(now, fd, message) for fd, message in link_state.take_packets()]
    return sent


def entries(link_state: LinkState, cube: int = 0) -> dict[int, tuple[int, ...]]:
    return link_state.tables[cube].entries


# ---------------------------------------------------------------- own links


def test_a_link_is_announced_with_number_0_on_every_management_flow() -> None:
    link_state = machine()
    link_state.mgmt_added(B, 65, 0)
    link_state.mgmt_added(C, 67, 0)
    link_state.dt_added(B, 64, QOS_RAW, 0)
    # A peer that may be a prototype gets the form that it knows, and the one that it ignores.
    plain, full = Lsm(ME, B, 0), Lsm(ME, B, 0, RAW)
    assert link_state.take_packets() == [(65, plain), (65, full), (67, plain), (67, full)]


def test_a_peer_of_ours_gets_one_form() -> None:
    link_state = machine()
    link_state.mgmt_added(B, 65, 0)
    link_state.receive(65, Lsm(B, ME, 0, RAW), 0)
    link_state.dt_added(B, 64, QOS_RAW, 0)
    assert link_state.take_packets() == [(65, Lsm(ME, B, 0, RAW))]


def test_it_is_said_again_soon_and_then_every_t_update() -> None:
    link_state = machine()
    neighbour(link_state, B, 64)
    link_state.take_packets()
    said = [(now, message.sequence) for now, _, message in run(link_state, 46)]
    assert said == [(REPEATS[0], 1), (REPEATS[1], 2), (15, 3), (30, 4), (45, 5)]


def test_a_link_that_goes_is_withdrawn_at_once_and_the_route_with_it() -> None:
    link_state = machine()
    neighbour(link_state, B, 64)
    neighbour(link_state, C, 66)
    link_state.timer(0)
    assert entries(link_state) == {B: (64,), C: (66,)}
    link_state.take_packets()
    link_state.dt_removed(64, 20)
    assert link_state.deadline <= 20
    assert (67, Lsm(ME, B, 1, withdrawn=True)) in link_state.take_packets()
    link_state.timer(20)
    assert entries(link_state) == {C: (66,)}
    link_state.dt_removed(64, 20)
    assert all(message.target == C for _, message in link_state.take_packets())


def test_a_link_that_comes_back_counts_on() -> None:
    link_state = machine()
    neighbour(link_state, B, 64)
    link_state.dt_down(64, 2)
    run(link_state, 10)
    link_state.dt_up(64, 10)
    last = [message for _, message in link_state.take_packets()][-1]
    assert last == Lsm(ME, B, 4, RAW)  # 0 up; 1 down, and down again at 3 and 6
    link_state.timer(10)
    assert entries(link_state) == {B: (64,)}


def test_a_link_that_flaps_goes_down_at_once_and_up_once_in_a_while() -> None:
    link_state = machine()
    neighbour(link_state, B, 64)
    link_state.take_packets()
    said: list[tuple[float, bool]] = []
    for step in range(20):
        now = 2 + step / 10
        (link_state.dt_up if step % 2 else link_state.dt_down)(64, now)
        link_state.timer(now)
        said += [(now, message.withdrawn) for fd, message in link_state.take_packets()]
    ups = [now for now, withdrawn in said if not withdrawn]
    assert all(later - sooner >= SPACING for sooner, later in zip(ups, ups[1:], strict=False))
    run(link_state, 30)
    entry = link_state.lsdb.get(ME, B)
    assert entry is not None
    assert (ME, B) in {(source, target) for target, source in link_state.lsdb.live()}


def test_flows_in_parallel_are_one_link_and_the_best_for_each_cube_is_used() -> None:
    link_state = machine()
    neighbour(link_state, B, 64)
    link_state.dt_added(B, 70, QOS_VOICE, 5)
    link_state.dt_added(B, 72, QOS_VIDEO, 5)
    run(link_state, 10)
    entry = link_state.lsdb.get(ME, B)
    assert entry is not None
    assert entry.weights == (1, 1, 1)
    link_state.receive(65, Lsm(B, ME, 9, (1, 1, 1)), 10)
    run(link_state, 14)
    assert [entries(link_state, cube) for cube in range(3)] == [{B: (64,)}, {B: (72,)}, {B: (70,)}]
    link_state.dt_removed(64, 14)
    link_state.timer(14)
    assert entries(link_state) == {B: (72,)}
    link_state.take_packets()
    link_state.dt_removed(72, 15)
    link_state.dt_removed(70, 15)
    assert link_state.take_packets()[-1][1].withdrawn


def test_the_address_of_a_neighbour_must_be_possible() -> None:
    for address in (0, ME, 1 << 32):
        with pytest.raises(ValueError, match="cannot be the address of a neighbour"):
            machine().dt_added(address, 64, QOS_RAW, 0)


# ---------------------------------------------------------------- flooding


def test_news_are_passed_on_to_all_but_the_one_who_told_and_only_once() -> None:
    link_state = machine()
    for fd, address in ((65, B), (67, C), (69, D)):
        link_state.mgmt_added(address, fd, 0)
    news = Lsm(B, 99, 7)
    link_state.receive(65, news, 0)
    assert link_state.take_packets() == [(67, news), (69, news)]
    link_state.receive(67, news, 0)
    link_state.receive(65, news, 0)
    assert link_state.take_packets() == []
    assert (link_state.counters.forwarded, link_state.counters.stale) == (1, 2)


def test_a_new_management_flow_gets_the_database_in_order_of_target_and_source() -> None:
    link_state = machine()
    link_state.mgmt_added(B, 65, 0)
    for source, target in ((9, 3), (7, 3), (8, 2)):
        link_state.receive(65, Lsm(source, target, 4), 0)
    link_state.receive(65, Lsm(9, 4, 4, withdrawn=True), 0)
    link_state.mgmt_added(C, 67, 1)
    assert link_state.take_packets() == [
        (67, Lsm(8, 2, 4)),
        (67, Lsm(7, 3, 4)),
        (67, Lsm(9, 3, 4)),
        (67, Lsm(9, 4, 4, withdrawn=True)),
    ]


def test_a_prototype_never_hears_of_its_own_links_because_it_would_adopt_them() -> None:
    link_state = machine()
    link_state.mgmt_added(B, 65, 0)
    link_state.receive(65, Lsm(C, 1, 5), 0)
    link_state.receive(65, Lsm(C, 2, 5, RAW), 0)
    link_state.mgmt_added(C, 67, 0)
    # One of ours that comes back learns its old number all the same, in the form that a prototype ignores.
    assert link_state.take_packets() == [(67, Lsm(C, 2, 5, RAW))]
    link_state.receive(65, Lsm(C, 3, 5), 0)
    assert link_state.take_packets() == []
    link_state.receive(67, Lsm(C, 4, 6, RAW), 0)
    link_state.take_packets()
    link_state.receive(65, Lsm(C, 3, 6), 0)
    assert link_state.take_packets() == [(67, Lsm(C, 3, 6))]


def test_a_large_database_is_sent_in_bursts() -> None:
    link_state = machine()
    link_state.mgmt_added(B, 65, 0)
    for target in range(100, 100 + 2 * SYNC_BURST + 1):
        link_state.receive(65, Lsm(9, target, 0), 0)
    link_state.timer(0)
    link_state.mgmt_added(C, 67, 1)
    assert len(link_state.take_packets()) == SYNC_BURST
    assert link_state.deadline == pytest.approx(1 + SYNC_INTERVAL)
    times = [now for now, fd, _ in run(link_state, 2) if fd == 67]
    assert len(times) == SYNC_BURST + 1
    assert sorted(set(times)) == pytest.approx([1 + SYNC_INTERVAL, 1 + 2 * SYNC_INTERVAL])


def test_a_management_flow_that_goes_takes_its_packets_along() -> None:
    link_state = machine()
    link_state.mgmt_added(B, 65, 0)
    link_state.dt_added(B, 64, QOS_RAW, 0)
    link_state.mgmt_removed(65)
    link_state.mgmt_removed(65)
    assert link_state.take_packets() == []


def test_nonsense_is_counted_and_dropped() -> None:
    link_state = machine()
    link_state.mgmt_added(B, 65, 0)
    link_state.receive(65, Lsm(0, 1, 1), 0)
    link_state.receive(65, Lsm(4, 4, 1), 0)
    link_state.receive(99, Lsm(4, 5, 1), 0)
    link_state.malformed()
    assert (link_state.counters.malformed, link_state.counters.received) == (4, 4)
    assert len(link_state.lsdb) == 0


# ---------------------------------------------------------------- a member that comes back


def test_a_member_that_was_here_before_goes_on_above_its_old_number() -> None:
    link_state = machine()
    link_state.mgmt_added(B, 65, 0)
    link_state.dt_added(B, 64, QOS_RAW, 0)
    link_state.take_packets()
    link_state.receive(65, Lsm(ME, B, 41), 0.5)
    said = run(link_state, 1)
    assert [message for _, _, message in said][-1] == Lsm(ME, B, 42, RAW)


def test_a_link_of_ours_that_is_not_there_is_denied_and_not_adopted() -> None:
    link_state = machine()
    link_state.mgmt_added(B, 65, 0)
    link_state.receive(65, Lsm(ME, C, 41), 0)
    assert link_state.take_packets() == [(65, Lsm(ME, C, 42, withdrawn=True))]
    assert run(link_state, 200) == []
    assert link_state.lsdb.live() == {}


def test_two_members_with_the_same_address_do_not_shout_at_each_other() -> None:
    link_state = machine()
    link_state.mgmt_added(B, 65, 0)
    link_state.dt_added(B, 64, QOS_RAW, 0)
    link_state.take_packets()
    said = 0
    for step in range(1000):
        now = 5 + step / 100
        link_state.receive(65, Lsm(ME, B, 10 + 2 * step, withdrawn=True), now)
        link_state.timer(now)
        said += len({message.sequence for _, message in link_state.take_packets()})
    assert said <= 12


def test_our_own_words_coming_back_change_nothing() -> None:
    link_state = machine()
    neighbour(link_state, B, 64)
    neighbour(link_state, C, 66)
    link_state.take_packets()
    link_state.receive(65, Lsm(ME, C, 0, RAW), 0)
    link_state.receive(65, Lsm(ME, C, 0), 0)
    assert link_state.take_packets() == []


# ---------------------------------------------------------------- ageing and tables


def test_a_member_that_is_gone_ages_out_and_the_route_goes_with_it() -> None:
    link_state = machine()
    neighbour(link_state, B, 64)
    for message in (Lsm(B, C, 0, RAW), Lsm(C, B, 0, RAW)):
        link_state.receive(65, message, 1)
    run(link_state, 5)
    assert entries(link_state) == {B: (64,), C: (64,)}
    for now in (15, 30, 45, 60):
        run(link_state, now)
        link_state.receive(65, Lsm(B, ME, now, RAW), now)
        link_state.receive(65, Lsm(B, C, now, RAW), now)
    run(link_state, 70)
    assert entries(link_state) == {B: (64,)}


def test_the_last_neighbour_lost_leaves_an_empty_table() -> None:
    link_state = machine()
    neighbour(link_state, B, 64)
    link_state.timer(0)
    link_state.take_events()
    link_state.dt_removed(64, 1)
    link_state.timer(1)
    events = link_state.take_events()
    assert events == [TablesChanged(link_state.tables)]
    assert all(not table.entries for table in link_state.tables)


def test_computations_are_spaced_out_while_changes_go_on() -> None:
    link_state = machine()
    neighbour(link_state, B, 64)
    link_state.timer(0)
    computed = []
    for step in range(1, 2000):
        now = 100 + step / 100
        link_state.receive(65, Lsm(B, 1000 + step, 0), now)
        link_state.receive(65, Lsm(1000 + step, B, 0), now)
        before = link_state.counters.computations
        link_state.timer(now)
        if link_state.counters.computations > before:
            computed.append(now)
    gaps = [later - sooner for sooner, later in zip(computed, computed[1:], strict=False)]
    assert gaps[0] == pytest.approx(FIRST_HOLD, abs=0.011)
    assert max(gaps) <= link_state.config.t_recalc + 0.011
    assert len(computed) < 30  # of a database that grows from nothing; then one every t_recalc
    assert gaps[-1] > 1


def test_a_first_way_to_a_neighbour_does_not_wait() -> None:
    """A prototype asks its first neighbour for the directory at once, and has no patience; one that flaps is put off."""
    link_state = machine()
    link_state.mgmt_added(B, 65, 0)
    link_state.dt_added(B, 64, QOS_RAW, 0)
    link_state.timer(0)
    assert not entries(link_state)
    link_state.receive(65, Lsm(B, ME, 0), 0.001)
    assert link_state.deadline <= 0.001
    link_state.timer(0.001)
    assert entries(link_state) == {B: (64,)}
    link_state.receive(65, Lsm(B, ME, 1, withdrawn=True), 0.002)
    link_state.receive(65, Lsm(B, ME, 2), 0.003)
    assert link_state.deadline > 0.003
    link_state.receive(65, Lsm(C, ME, 0), 0.004)  # not a neighbour
    assert link_state.deadline > 0.004


def test_a_small_layer_does_not_wait_for_its_routes() -> None:
    link_state = machine()
    neighbour(link_state, B, 64)
    link_state.timer(0)
    for step in range(1, 100):  # a link far away comes and goes
        now = step / 10
        link_state.receive(65, Lsm(B, 1000, step, withdrawn=step % 2 == 0), now)
        link_state.receive(65, Lsm(1000, B, step), now)
        link_state.timer(now + FIRST_HOLD)
        assert (1000 in link_state.tables[0].entries) is (step % 2 == 1)


def test_a_prototype_anywhere_makes_hop_counts_of_all_weights() -> None:
    """A voice link of one hop against two video links: which way do pictures go?"""
    link_state = machine()
    for fd, address, qos, weights in ((64, B, QOS_VOICE, VOICE), (66, C, QOS_VIDEO, VIDEO)):
        link_state.mgmt_added(address, fd + 1, 0)
        link_state.dt_added(address, fd, qos, 0)
        link_state.receive(fd + 1, Lsm(address, ME, 0, weights), 0)
    link_state.receive(65, Lsm(B, C, 0, VIDEO), 0)
    link_state.receive(65, Lsm(C, B, 0, VIDEO), 0)
    run(link_state, 1)
    assert [entries(link_state, cube)[B] for cube in range(3)] == [(66,), (66,), (64,)]
    link_state.receive(65, Lsm(D, B, 0), 2)
    link_state.receive(65, Lsm(B, D, 0, RAW), 2)
    run(link_state, 10)
    assert [entries(link_state, cube)[B] for cube in range(3)] == [(64,)] * 3


def test_with_alternates_the_loss_of_a_link_is_survived_before_anything_is_computed() -> None:
    link_state = machine(LinkStatePolicy.LFA)
    neighbour(link_state, B, 64)
    neighbour(link_state, C, 66)
    link_state.receive(65, Lsm(B, C, 0, RAW), 0)
    link_state.receive(67, Lsm(C, B, 0, RAW), 0)
    run(link_state, 1)
    table = link_state.tables[0]
    assert table.entries == {B: (64, 66), C: (66, 64)}
    assert table.next_hop(B, down={64}) == 66


steps = st.lists(
    st.one_of(
        st.tuples(st.just("dt_added"), st.integers(1, 4), st.integers(64, 67)),
        st.tuples(st.sampled_from(["dt_removed", "dt_down", "dt_up", "mgmt_removed"]), st.integers(64, 71)),
        st.tuples(st.just("mgmt_added"), st.integers(1, 4), st.integers(68, 71)),
        st.tuples(
            st.just("receive"),
            st.integers(68, 71),
            st.builds(
                Lsm,
                st.sampled_from([1, 2, 3, 4, ME]),
                st.sampled_from([1, 2, 3, 4, ME]),
                st.integers(0, 20),
                st.none() | st.just(RAW),
                st.booleans(),
            ),
        ),
        st.tuples(st.just("wait"), st.floats(0.01, 50)),
    ),
    max_size=60,
)


@given(steps, st.sampled_from(LinkStatePolicy))
def test_whatever_happens_packets_go_to_flows_that_are_there_and_time_goes_on(
    steps: list[tuple[object, ...]], policy: LinkStatePolicy
) -> None:
    link_state, now = machine(policy), 0.0
    for what, *args in steps:
        match what:
            case "wait":
                end = now + float(args[0])  # type: ignore[arg-type]
                turns = 0
                while link_state.deadline <= end:
                    now = max(now, link_state.deadline)
                    link_state.timer(now)
                    turns += 1
                    assert turns < 500
                now = end
            case "dt_added":
                link_state.dt_added(args[0], args[1], QOS_RAW, now)  # type: ignore[arg-type]
            case "mgmt_removed":
                link_state.mgmt_removed(args[0])  # type: ignore[arg-type]
            case _:
                getattr(link_state, str(what))(*args, now)
        for fd, message in link_state.take_packets():
            assert fd in link_state._mgmt
            assert message.valid
    link_state.timer(now)
    up = {fd for fd, flow in link_state.dt_flows.items() if flow.up}
    run(link_state, now + 1)
    for table in link_state.tables:
        assert {fd for fds in table.entries.values() for fd in fds} <= up


def test_a_flow_that_leads_to_another_neighbour_withdraws_the_link_to_the_first() -> None:
    link_state = machine()
    neighbour(link_state, B, 64)
    link_state.mgmt_added(C, 67, 0)
    link_state.timer(0)
    link_state.take_packets()
    link_state.dt_added(C, 64, QOS_RAW, 20)
    sent = {(message.target, message.withdrawn) for fd, message in link_state.take_packets() if fd == 67}
    assert sent == {(B, True), (C, False)}
    link_state.receive(67, Lsm(C, ME, 0, RAW), 20)
    link_state.timer(20)
    assert entries(link_state) == {C: (64,)}


def test_the_pause_between_computations() -> None:
    hold = _Hold(longest=0.5)
    hold.want(100.0)
    assert hold.due == 100.0
    hold.done(100.0)
    hold.want(100.0)
    assert hold.due == 100.0 + FIRST_HOLD
    hold.want(100.0 + 3 * FIRST_HOLD)
    assert hold.due == 100.0 + FIRST_HOLD, "a later wish puts nothing off"
    hold.want(100.01, urgent=True)
    assert hold.due == 100.01
    for pause in (FIRST_HOLD, 2 * FIRST_HOLD, 4 * FIRST_HOLD, 8 * FIRST_HOLD, 0.5, 0.5):
        hold.done(256.0)
        assert hold.pause == pause
    hold.done(257.0)
    assert hold.pause == 0.5, "that was not quiet for long enough"
    hold.done(258.25)
    assert hold.pause == FIRST_HOLD


def test_the_routes_follow_an_own_link_without_a_pause() -> None:
    link_state = machine()
    neighbour(link_state, B, 64)
    neighbour(link_state, C, 66)
    link_state.timer(0)
    link_state.dt_down(64, 0.001)
    assert link_state.deadline <= 0.001
    link_state.timer(0.001)
    assert entries(link_state) == {C: (66,)}


def test_all_counters_begin_at_0() -> None:
    assert set(asdict(machine().counters).values()) == {0}
