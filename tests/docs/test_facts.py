"""The page of facts is the declarations'."""

from __future__ import annotations

from tests.docs.facts import PAGE, page


def test_the_page_is_as_the_declarations_are_now() -> None:
    assert PAGE.read_text() == page(), "python -m tests.docs.facts writes it"
