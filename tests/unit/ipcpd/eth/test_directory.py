"""The directory of the ethernet IPCPs, with a fake clock: questions, repeats, anycast, names that move."""

from __future__ import annotations

import pytest

from ipcpd.eth import directory
from ipcpd.eth.directory import AGAIN, FRESH, QUERY_TIMEOUT, STALE, Answer, Directory, TooManyQuestions
from ipcpd.wire import mac
from ipcpd.wire.eth import NameQuery, NameReply

NAME, OTHER = b"n" * 32, b"o" * 32
A, B, C = (bytes([2, 0, 0, 0, 0, i]) for i in range(3))


def run(it: Directory, until: float) -> list[float]:
    """Let its deadlines pass; when questions were broadcast."""
    asked = []
    while (due := it.deadline) is not None and due <= until:
        it.expired(due)
        asked += [due for to, message in it.take_messages() if message == NameQuery(NAME)]
    return asked


def known(it: Directory, *holders: bytes, now: float = 0.0) -> None:
    """The name is asked for, and these answer."""
    it.query(NAME, now)
    for holder in holders:
        it.received(NameReply(NAME), holder, now)
    it.take_messages(), it.take_answers()


def test_a_name_is_asked_for_by_broadcast_and_the_answer_is_used() -> None:
    it = Directory()
    ticket = it.query(NAME, 5.0)
    assert ticket is not True
    assert it.take_messages() == [(mac.BROADCAST, NameQuery(NAME))]
    it.received(NameReply(NAME), A, 5.001)
    assert it.take_answers() == [Answer(ticket, True)]
    assert it.holders(NAME, 5.001) == (A,)
    assert it.deadline is None


def test_a_lost_frame_is_asked_for_again_and_silence_is_an_answer() -> None:
    it = Directory()
    ticket = it.query(NAME, 0.0)
    it.take_messages()
    assert run(it, 10.0) == list(AGAIN)
    assert it.take_answers() == [Answer(int(ticket), False)]
    assert QUERY_TIMEOUT < 2.5, "for so long the IRMd waits for an answer"
    assert it.deadline is None


def test_who_asks_while_it_is_asked_waits_for_the_same_answer() -> None:
    it = Directory()
    tickets = [it.query(NAME, 0.0), it.query(NAME, 0.01)]
    assert len(it.take_messages()) == 1
    it.received(NameReply(NAME), A, 0.02)
    assert it.take_answers() == [Answer(int(ticket), True) for ticket in tickets]


def test_what_was_just_heard_is_not_asked_for() -> None:
    it = Directory()
    known(it, A)
    assert it.query(NAME, FRESH / 2) is True
    assert it.take_messages() == []
    assert it.query(NAME, FRESH * 2) is not True
    assert it.take_messages() == [(mac.BROADCAST, NameQuery(NAME))]


def test_a_name_that_moved_is_found_where_it_is_now() -> None:
    it = Directory()
    known(it, A)
    ticket = it.query(NAME, 3.0)
    it.received(NameReply(NAME), B, 3.001)
    assert it.take_answers() == [Answer(int(ticket), True)]
    assert it.holders(NAME, 3.001)[0] == B


def test_a_holder_that_is_too_busy_to_answer_is_still_used() -> None:
    # A prototype answers nothing while it waits for a process to accept.
    it = Directory()
    known(it, A)
    ticket = it.query(NAME, 3.0)
    run(it, 4.0)
    assert it.take_answers() == [Answer(int(ticket), True)]
    assert it.holders(NAME, 4.0) == (A,)


def test_but_not_for_ever() -> None:
    it = Directory()
    known(it, A)
    it.query(NAME, STALE + 1)
    run(it, STALE + 2)
    assert it.take_answers()[0].known is False
    assert it.holders(NAME, STALE + 2) == ()


def test_the_first_to_answer_is_chosen_and_the_others_come_after_it() -> None:
    it = Directory()
    known(it, B, A, C)
    assert it.holders(NAME, 0.0) == (B, A, C)
    it.query(NAME, 2.0)
    it.received(NameReply(NAME), C, 2.001)
    it.received(NameReply(NAME), B, 2.002)
    assert it.holders(NAME, 2.01) == (C, B, A)


def test_a_holder_in_doubt_comes_last_and_one_that_is_alone_is_forgotten() -> None:
    it = Directory()
    known(it, A, B)
    it.forget(NAME, A)
    assert it.holders(NAME, 0.0) == (B, A)
    it.forget(OTHER, A)
    known(it := Directory(), A)
    it.forget(NAME, A)
    assert it.holders(NAME, 0.0) == ()
    assert it.query(NAME, 0.1) is not True


def test_a_late_answer_is_remembered() -> None:
    it = Directory()
    it.query(NAME, 0.0)
    run(it, 1.0)
    it.received(NameReply(NAME), A, 1.5)
    assert it.query(NAME, 1.6) is True


def test_answers_that_nobody_asked_for_fill_nothing() -> None:
    it = Directory()
    it.received(NameReply(NAME), A, 0.0)
    known(it, mac.BROADCAST)
    assert it.unasked == 2
    assert it.holders(NAME, 0.0) == ()


def test_registered_names_are_answered_to_who_asks_and_others_are_not() -> None:
    it = Directory()
    it.registered.add(NAME)
    it.received(NameQuery(NAME), A, 0.0)
    it.received(NameQuery(OTHER), A, 0.0)
    assert it.take_messages() == [(A, NameReply(NAME))]
    it.registered.remove(NAME)
    it.received(NameQuery(NAME), A, 0.0)
    assert it.take_messages() == []


def test_it_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory, "MAX_NAMES", 10)
    monkeypatch.setattr(directory, "MAX_WAITING", 20)
    it = Directory()
    for number in range(20):
        it.query(number.to_bytes(32, "big"), 0.0)
    with pytest.raises(TooManyQuestions):
        it.query(NAME, 0.0)
    assert len(it._asked) == 10
    for number in range(20):
        it.received(NameReply(number.to_bytes(32, "big")), A, 0.1)
    assert len(it.entries(0.1)) == 10
    for number in range(100):
        it.received(NameReply((19).to_bytes(32, "big")), bytes([2, 0, 0, 0, 1, number]), 0.2)
    assert len(it.holders((19).to_bytes(32, "big"), 0.2)) == directory.MAX_HOLDERS


def test_what_was_asked_long_ago_is_forgotten() -> None:
    it = Directory()
    for number in range(50):
        it.query(number.to_bytes(32, "big"), float(number))
        run(it, number + 0.9)
    assert len(it._asked) <= STALE + 1


def test_a_link_that_was_cut_may_lead_elsewhere() -> None:
    it = Directory()
    known(it, A, B)
    it.forget_all()
    assert it.query(NAME, 0.1) is not True
    assert it.entries(0.1) == []
