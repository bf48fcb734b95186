"""Routing with outdated information: numbers at their end, neighbours that returned, addresses of two members."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipcpd.unicast.contention import CONTRADICTIONS, MAX_DRAWS, MAX_LINKS, Contention
from ipcpd.unicast.contention import Verdict as Contradiction
from ipcpd.unicast.link_state import AddressContested, LinkState
from ipcpd.unicast.lsdb import RESTART, Lsdb, Verdict
from ipcpd.unicast.phantom import AFTER_ADJACENCY, GRAIN, MAX_DUE, Phantoms
from ipcpd.wire import link_state as wire
from ipcpd.wire.lsm import MAX_SEQUENCE, SEQUENCES, Lsm, after, ahead
from ouroboros.ipcp_config import LinkStateConfig
from ouroboros.qos import QOS_RAW
from tests.sim.prototype import Prototype

ME, B, C, D = 0xA, 0xB, 0xC, 0xD
RAW = (1, 4, 4)

sequences = st.one_of(
    st.integers(0, MAX_SEQUENCE),
    st.sampled_from([0, 1, SEQUENCES // 2 - 1, SEQUENCES // 2, SEQUENCES // 2 + 1, MAX_SEQUENCE]),
)


def machine(now: float = 0.0) -> LinkState:
    return LinkState(address=ME, config=LinkStateConfig(), now=now, random=Random(1))


def run(link_state: LinkState, until: float) -> list[tuple[float, int, Lsm]]:
    """Let time pass; what was sent, with the time."""
    sent = [(0.0, fd, message) for fd, message in link_state.take_packets()]
    while link_state.deadline <= until:
        now = link_state.deadline
        link_state.timer(now)
        sent += [(now, fd, message) for fd, message in link_state.take_packets()]
    return sent


# ---------------------------------------------------------------- sequence numbers


@given(sequences, sequences)
def test_of_two_numbers_exactly_one_is_newer(one: int, other: int) -> None:
    assert (ahead(one, other) > 0) is (one != other and ahead(other, one) < 0)
    assert (ahead(one, other) == 0) is (one == other)
    assert 0 <= after(one) <= MAX_SEQUENCE and ahead(after(one), one) == 1


@given(st.lists(sequences, min_size=1, max_size=8), st.randoms())
def test_whatever_numbers_others_make_up_what_we_answer_can_be_sent_and_is_newer(
    numbers: list[int], random: Random
) -> None:
    """A member, and one that hears everything that it says and everything that the forger says."""
    link_state, observer = machine(), Lsdb(60.0)
    link_state.mgmt_added(B, 65, 0)
    link_state.dt_added(B, 64, QOS_RAW, 0)
    for _, _, message in run(link_state, 9):
        observer.accept(message, 9)
    for step, number in enumerate(numbers, 1):
        forged = Lsm(ME, B, number, withdrawn=random.random() < 0.5)
        observer.accept(forged, 10.0 * step)
        link_state.receive(65, forged, 10.0 * step + 2)
        for _, _, message in run(link_state, 10.0 * step + 8):
            assert wire.decode(wire.encode(message)) == message
            observer.accept(message, 10.0 * step + 8)
    entry, own = observer.get(ME, B), link_state.lsdb.get(ME, B)
    assert entry is not None and own is not None
    assert ahead(own.sequence, entry.sequence) >= 0


@pytest.mark.parametrize("number", [(1 << 63) - 1, (1 << 63) - 1, MAX_SEQUENCE])
def test_the_greatest_number_is_followed_by_another(number: int) -> None:
    link_state = machine()
    link_state.mgmt_added(B, 65, 0)
    link_state.dt_added(B, 64, QOS_RAW, 0)
    link_state.take_packets()
    for now in (5.0, 6.0):
        link_state.receive(65, Lsm(ME, B, number), now)
        link_state.receive(65, Lsm(ME, B, number), now)
    said = run(link_state, 8)
    assert said and all(wire.encode(message) for _, _, message in said)
    assert said[-1][2].target == B and not said[-1][2].withdrawn


def test_a_tombstone_knows_the_numbers_before_its_own_round_the_corner() -> None:
    lsdb = Lsdb(60.0)
    lsdb.accept(Lsm(B, C, 2), 0.0)
    lsdb.expire(60.0)
    assert lsdb.accept(Lsm(B, C, MAX_SEQUENCE), 61.0) is Verdict.STALE
    assert lsdb.accept(Lsm(B, C, MAX_SEQUENCE - RESTART), 61.0) is Verdict.NEWER


# ---------------------------------------------------------------- prototypes that go on with the old flow


def talk(ours: LinkState, theirs: Prototype, now: float) -> None:
    """Carry what the two have to say over the management flow 65 of both."""
    for _ in range(8):
        for _, message in ours.take_packets():
            theirs.receive(65, message, now)
        for _, message in theirs.take_packets():
            ours.receive(65, message, now)


class Keeping(Prototype):
    """One that computes for links that it does not know, and for nothing else, as the live one."""

    def dt_added(self, address: int, fd: int, qos: object, now: float) -> None:
        known = (address, self.address) in self._entries
        before = self.tables, list(self._events)
        super().dt_added(address, fd, QOS_RAW, now)
        if known:
            self.tables, self._events = before


def test_a_prototype_uses_the_new_flow_to_a_neighbour_that_it_knows() -> None:
    ours, theirs = machine(), Keeping(address=B, config=LinkStateConfig())
    for member, address in ((ours, B), (theirs, ME)):
        member.mgmt_added(address, 65, 0)
        member.dt_added(address, 64, QOS_RAW, 0)
    talk(ours, theirs, 0)
    assert theirs.tables[0].entries[ME] == (64,)
    ours.dt_removed(64, 20)
    ours.timer(20)
    talk(ours, theirs, 20)
    theirs.dt_added(ME, 70, QOS_RAW, 30)
    ours.dt_added(B, 72, QOS_RAW, 30)
    talk(ours, theirs, 30)
    assert theirs.tables[0].entries[ME] == (64,)
    while (now := ours.deadline) < 30 + AFTER_ADJACENCY + GRAIN + 0.1:
        ours.timer(now)
        talk(ours, theirs, now)
    assert theirs.tables[0].entries[ME] == (70,)
    assert ours.counters.phantoms == 1
    assert ours.tables[0].entries == {B: (72,)}


def test_a_phantom_is_a_plain_link_to_an_address_that_no_member_has() -> None:
    link_state = machine()
    for fd, address in ((65, B), (67, C)):
        link_state.mgmt_added(address, fd, 0)
    link_state.receive(65, Lsm(B, ME, 3), 0)
    link_state.dt_added(B, 64, QOS_RAW, 0)
    said = run(link_state, 3)
    phantoms = [(fd, message) for _, fd, message in said if message.target not in (ME, B, C)]
    assert [fd for fd, _ in phantoms] == [65, 67]
    message = phantoms[0][1]
    assert (message.source, message.sequence, message.extended) == (ME, 0, False)
    # It comes back by another way, and is not denied; a member of ours passes it on.
    link_state.receive(67, message, 4)
    assert not [one for _, one in link_state.take_packets() if one.target == message.target]
    other = LinkState(address=D, config=LinkStateConfig())
    other.mgmt_added(ME, 65, 0)
    other.mgmt_added(B, 67, 0)
    other.receive(65, message, 1)
    assert (67, message) in other.take_packets()
    assert not other.tables[0].entries


def test_among_members_of_ours_there_are_no_phantoms() -> None:
    link_state = machine()
    link_state.mgmt_added(B, 65, 0)
    link_state.receive(65, Lsm(B, ME, 0, RAW), 0)
    link_state.dt_added(B, 64, QOS_RAW, 0)
    run(link_state, 10)
    link_state.dt_removed(64, 10)
    link_state.dt_added(B, 66, QOS_RAW, 11)
    assert all(message.target == B for _, _, message in run(link_state, 300))
    assert link_state.counters.phantoms == 0


def test_a_ring_that_was_cut_is_healed_when_the_link_has_aged_out_everywhere() -> None:
    """A link between members of ours goes, and a prototype elsewhere keeps it until that ages."""
    link_state = machine()
    link_state.mgmt_added(B, 65, 0)
    link_state.receive(65, Lsm(B, ME, 0, RAW), 0)
    link_state.dt_added(B, 64, QOS_RAW, 0)
    link_state.mgmt_added(C, 67, 0)  # a prototype
    run(link_state, 50)
    link_state.dt_down(64, 50)
    config = link_state.config
    times = [now for now, _, message in run(link_state, 250) if message.target not in (B, C)]
    assert min(times) > 50 + config.t_timeo + config.t_update
    assert max(times) <= 50 + config.t_timeo + config.t_update + AFTER_ADJACENCY + GRAIN


def test_a_prototype_next_to_us_hears_when_the_links_of_a_dead_member_have_aged() -> None:
    link_state = machine()
    link_state.mgmt_added(C, 67, 0)
    for source, target in ((C, D), (D, C)):
        link_state.receive(67, Lsm(source, target, 0), 0)
    said = run(link_state, 300)
    assert len(said) == 1 and said[0][2].source == ME  # and phantoms do not cause phantoms
    assert said[0][0] > 60 + link_state.config.t_update


@given(st.lists(st.floats(0, 1000), max_size=400))
def test_phantoms_are_bounded(times: list[float]) -> None:
    phantoms = Phantoms(75.0, Random(1))
    for now in sorted(times):
        phantoms.follow_adjacency(now)
        phantoms.follow_loss(now)
    assert len(phantoms._due) <= MAX_DUE
    if times:
        assert phantoms._due[-1] >= max(times) + 75


# ---------------------------------------------------------------- an address of two members


def test_two_members_of_one_address_notice_and_one_leaves() -> None:
    """Each has a link of its own; all that one says the other hears."""
    one, two = LinkState(address=ME, random=Random(1)), LinkState(address=ME, random=Random(2))
    one.mgmt_added(B, 65, 0)
    two.mgmt_added(B, 65, 0)
    one.dt_added(B, 64, QOS_RAW, 0)
    two.dt_added(C, 64, QOS_RAW, 0)
    events: list[tuple[int, AddressContested]] = []
    now, members = 0.0, {0: one, 1: two}
    while len(members) == 2 and now < 60:
        for number, member in list(members.items()):
            if member.deadline <= now:
                member.timer(now)
            for _, message in member.take_packets():
                members.get(1 - number, member).receive(65, message, now) if len(members) == 2 else None
            for event in member.take_events():
                if isinstance(event, AddressContested):
                    events.append((number, event))
                    if event.leave:
                        members.pop(number, None)
        now += 0.05
    assert {number for number, event in events if not event.leave} == {0, 1}
    assert len(members) == 1 and sum(event.leave for _, event in events) == 1
    (stays,) = members.values()
    assert stays.counters.contradicted >= CONTRADICTIONS
    run(stays, now + 60)
    assert not stays.contention.contested
    assert not any(isinstance(event, AddressContested) for event in stays.take_events())


def test_an_earlier_life_is_no_other_member() -> None:
    link_state = machine()
    for fd in range(65, 73):
        link_state.mgmt_added(fd, fd, 0)
    link_state.dt_added(B, 64, QOS_RAW, 0)
    for fd in range(65, 73):  # each neighbour says what it remembers of us
        for target in (B, C, D):
            link_state.receive(fd, Lsm(ME, target, 40), 1)
    run(link_state, 100)
    assert not link_state.contention.contested
    assert not [event for event in link_state.take_events() if isinstance(event, AddressContested)]


def test_forged_contradictions_drive_no_member_from_address_to_address() -> None:
    contention, left = Contention(0.0, Random(1)), 0
    for step in range(3600 * 3):
        now = step / 3
        if contention.contradicted(step % 3, now) is Contradiction.LEAVE:
            left += 1
            contention = Contention(now, Random(step), contention.left)
    assert left <= MAX_DRAWS
    assert contention.contested


def test_a_flow_that_is_newer_is_used_before_one_that_is_like_it() -> None:
    """The old one may be left from before the neighbour came back."""
    link_state = machine()
    link_state.mgmt_added(B, 65, 0)
    link_state.receive(65, Lsm(B, ME, 0, RAW), 0)
    link_state.dt_added(B, 64, QOS_RAW, 0)
    link_state.dt_added(B, 66, QOS_RAW, 1)
    run(link_state, 3)
    assert link_state.tables[0].entries == {B: (66,)}


def test_links_of_contradictions_are_bounded() -> None:
    contention = Contention(0.0, Random(1))
    for target in range(1, 10 * MAX_LINKS):
        contention.contradicted(target, 1.0)
    assert len(contention._seen) == MAX_LINKS
