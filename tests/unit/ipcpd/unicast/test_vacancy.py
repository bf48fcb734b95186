"""Whether a member lives at an address: newcomers can make a member ask so many members, and no more."""

from __future__ import annotations

from ipcpd.unicast.vacancy import KNOWN, MAX_ASKED, Answered, Vacancy


def test_addresses_that_are_asked_are_bounded() -> None:
    asked: dict[int, Answered] = {}
    vacancy = Vacancy(asked.__setitem__)
    for address in range(1, 10 * MAX_ASKED):
        assert not vacancy.vacant(address, 1.0)
    assert list(asked) == list(range(1, MAX_ASKED + 1))
    asked[1](False)
    asked[2](True)
    assert vacancy.vacant(1, 2.0) and not vacancy.vacant(2, 2.0)
    assert not vacancy.vacant(5000, 1.0 + KNOWN) and 5000 in asked, "what is known is forgotten"
