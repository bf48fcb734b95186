"""The specification is complete: each rule names its tests, each named test exists, and each citation in code and docs exists."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from tests.system.conftest import CHECKOUT

SPEC = CHECKOUT / "docs" / "spec"
CHAPTERS = sorted(page for page in SPEC.glob("*.md") if page.name not in ("README.md", "lessons.md"))
RULE = re.compile(r"\b[A-Z]{2,4}-\d+\b")
DEFINED = re.compile(r"^- \*\*([A-Z]{2,4}-\d+)\.\*\*", re.MULTILINE)
SECTION = re.compile(r"^## (\d+) ", re.MULTILINE)
LESSON = re.compile(r"^(\d+)\. ", re.MULTILINE)
CITED = re.compile(r"\bspec/([a-z-]+)((?:(?:, | and | )(?:[A-Z]{2,4}-\d+|\d+))*)")
SUFFIXES = {".py", ".c", ".h", ".proto", ".md", ".script", ".toml", ".pyi"}
FOLDERS = ("ouroboros", "irmd", "ipcpd", "tools", "tests", "docs", "examples", "demo")


def defined(page: Path) -> list[str]:
    return DEFINED.findall(page.read_text())


def files_of(page: Path) -> dict[str, list[str]]:
    """Rule -> files that test it, by the table at the end of its chapter."""
    table = page.read_text().split("## Tests", 1)[1]
    found: dict[str, list[str]] = {}
    for rules, tests in re.findall(r"^\| (.+) \| (.+) \|$", table, re.MULTILINE):
        for rule in RULE.findall(rules):
            found.setdefault(rule, []).extend(re.findall(r"`([^`]+)`", tests))
    return found


def sources() -> list[Path]:
    pages = [page for folder in FOLDERS for page in sorted((CHECKOUT / folder).rglob("*"))]
    return [page for page in (*pages, *CHECKOUT.glob("*.md")) if page.suffix in SUFFIXES]


def citations(text: str) -> list[tuple[str, str]]:
    """(chapter, rule or section) of each citation; a chapter as a whole has an empty one."""
    found = []
    for chapter, places in CITED.findall(text):
        for place in re.findall(r"[A-Z]{2,4}-\d+|\d+", places) or [""]:
            found.append((chapter, place))
    return found


@pytest.mark.parametrize("page", CHAPTERS, ids=lambda page: page.stem)
def test_every_rule_has_a_test(page: Path) -> None:
    assert set(defined(page)) == set(files_of(page))
    for rule, tests in files_of(page).items():
        assert tests, rule
        assert not [test for test in tests if not (CHECKOUT / test).is_file()], rule


def test_no_rule_is_there_twice() -> None:
    rules = Counter(rule for page in CHAPTERS for rule in defined(page))
    assert not [rule for rule, times in rules.items() if times > 1]


def test_every_chapter_is_listed() -> None:
    listed = set(re.findall(r"\]\(([a-z-]+\.md)\)", (SPEC / "README.md").read_text()))
    assert {page.name for page in SPEC.glob("*.md")} - {"README.md"} == listed


def test_everything_that_is_cited_exists() -> None:
    places = {page.stem: {"", *SECTION.findall(page.read_text()), *defined(page)} for page in CHAPTERS}
    places["lessons"] = {"", *LESSON.findall((SPEC / "lessons.md").read_text())}
    missing = [
        f"{page.relative_to(CHECKOUT)}: spec/{chapter} {place}"
        for page in sources()
        for chapter, place in citations(page.read_text())
        if place not in places.get(chapter, set())
    ]
    assert not missing


def test_no_citation_leads_out_of_the_repository() -> None:
    former = re.compile(r"\b(?:wire-(?:unicast|lower|flow)|cli-api|irm-rpc|design section)\b")
    citing = [page for page in sources() if page != Path(__file__) and former.search(page.read_text())]
    assert not citing


def test_rules_cited_by_number_alone_exist() -> None:
    rules = {rule for page in CHAPTERS for rule in defined(page)}
    families = {rule.partition("-")[0] for rule in rules}
    for page in SPEC.glob("*.md"):
        used = {rule for rule in RULE.findall(page.read_text()) if rule.partition("-")[0] in families}
        assert used <= rules, page.name


def test_a_citation_is_recognised() -> None:
    assert citations("(paper 5.3; spec/ethernet ETH-4, ETH-5 and 2; spec/dt)") == [
        ("ethernet", "ETH-4"),
        ("ethernet", "ETH-5"),
        ("ethernet", "2"),
        ("dt", ""),
    ]


def test_every_rule_of_frcp_is_cited_where_it_is_implemented() -> None:
    """The machine cites rules without the name of their chapter."""
    machine = [page for page in sources() if page.parts[len(CHECKOUT.parts)] == "ouroboros"]
    cited = {rule for page in machine for rule in RULE.findall(page.read_text()) if rule.startswith("FRCP-")}
    assert cited == set(defined(SPEC / "frcp.md"))
