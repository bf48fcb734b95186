"""No identifier of the product is one of the private words that the standard terms have replaced (CONTRIBUTING, "Words").

A word counts when it is one of the parts of an identifier: `last_heard` and `LastHeard` contain `heard`. Some words are private in one
sense and a standard term in another; these are forbidden as whole identifiers only.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
FOLDERS = ("ouroboros", "irmd", "ipcpd", "tools")

PARTS = {
    **dict.fromkeys(("tell", "told"), "notify, report, advertise"),
    "came": "rx_pending, arrived",
    **dict.fromkeys(("visit", "visited"), "poll, on_timer"),
    **dict.fromkeys(("calm", "news"), "idle_polls, changed"),
    **dict.fromkeys(("bell", "hear", "heard", "rung"), "doorbell, last_rx_at, answered_at"),
    **dict.fromkeys(("said", "spoke"), "sent, last_tx_at"),
    "nonsense": "corrupt, invalid",
    "vain": "rto_count, backoff",
    **dict.fromkeys(("torn", "lately", "flying", "resting"), "what was lost, recent, in_flight, limited"),
    "hope": "the number of retries",
    **dict.fromkeys(("untake", "nap", "einhand"), "unget, coalesce_delay, EREADAHEAD"),
    **dict.fromkeys(("sparing", "complaints"), "LogLimiter"),
    **dict.fromkeys(("kick", "kicked", "pump"), "schedule, run_due"),
    **dict.fromkeys(("trouble", "troubles"), "last_error"),
    **dict.fromkeys(("patience", "impatient"), "a time-out, by what it bounds"),
    **dict.fromkeys(("grace", "doubts", "ghosts"), "what the time bounds, what is queried again"),
    **dict.fromkeys(("strange", "crowded"), "unexpected, overloaded"),
    "whom": "peer_text",
    "departed": "disconnected (the session), exited (the process)",
}
"""Word -> what it was replaced by."""

WHOLE = {
    "ask_room": "notify_writable",
    "has_room": "writable",
    **dict.fromkeys(("FEW", "STREAM", "ALONE", "SPAN", "FLOW_MANY"), "a name that says of what"),
    **dict.fromkeys(("comes", "Shown"), "check_incoming, check_outgoing, PeerIdentity"),
    **dict.fromkeys(("Wanted", "Joining", "Attempt"), "a class for each meaning"),
    **dict.fromkeys(("drop_process", "of_word"), "exited, from_name"),
}

ELSEWHERE = {
    "ask_room": "the deprecated alias of a public method",
    "grace": "an option of irmd's configuration file",
    "crowded": "a counter, by the name that `irm` prints",
    "strange": "a counter, by the name that `irm` prints",
    "trouble": "a column, by the name that `irm` prints",
    "heard": "a column, by the name that `irm` prints",
}
"""Identifiers that users know, and that stay."""


def parts(identifier: str) -> set[str]:
    """`last_heard`, `LastHeard` and `LAST_HEARD`: last, heard."""
    return {one.lower() for one in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", identifier)}


def in_python(text: str) -> Iterator[str]:
    """Identifiers, without those in comments and strings."""
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name):
                yield name
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.keyword(arg=str(name)):
                yield name


def in_c(text: str) -> Iterator[str]:
    """The same."""
    code = re.sub(
        r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'|^#include.*?$',
        " ",
        text,
        flags=re.S | re.M,
    )
    yield from re.findall(r"\b[A-Za-z_]\w*", code)


def identifiers() -> dict[str, set[str]]:
    """Identifier -> the files that have it."""
    found = defaultdict(set)
    for folder in FOLDERS:
        for path in (CHECKOUT / folder).rglob("*"):
            if path.suffix == ".py" and not path.stem.endswith("_pb2"):
                names = in_python(path.read_text())
            elif path.suffix in (".c", ".h") and "build" not in path.parts and not path.stem.startswith("_"):
                names = in_c(path.read_text())
            else:
                continue
            for name in names:
                found[name].add(str(path.relative_to(CHECKOUT)))
    return found


def test_no_identifier_is_a_private_word() -> None:
    wrong = [
        f"{name} in {', '.join(sorted(files))}: not {word}, but {instead}"
        for name, files in sorted(identifiers().items())
        if name not in ELSEWHERE
        for word, instead in [*((word, PARTS[word]) for word in parts(name) & PARTS.keys()), *_whole(name)]
    ]
    assert not wrong, "\n".join(wrong)


def _whole(name: str) -> list[tuple[str, str]]:
    return [(name, WHOLE[name])] if name in WHOLE else []


@pytest.mark.parametrize("name", ["Connection", "Member"])
def test_a_class_of_the_protocol_has_its_name_alone(name: str) -> None:
    """Connections and members of layers; other connections and members have longer names."""
    found = [
        path
        for folder in ("ouroboros", "irmd", "ipcpd")
        for path in (CHECKOUT / folder).rglob("*.py")
        if re.search(rf"^class {name}\b", path.read_text(), re.MULTILINE)
    ]
    assert len(found) == 1


def test_every_exception_is_needed() -> None:
    found = identifiers()
    assert [name for name in ELSEWHERE if name not in found] == []


@pytest.mark.parametrize("name", ["heard", "last_heard", "LastHeard", "LAST_HEARD", "_heard", "heard2"])
def test_a_word_is_found_in_an_identifier(name: str) -> None:
    assert "heard" in parts(name)
    assert name in set(in_python(f"class A:\n    def f(self, {name}): return self.{name}\n"))
    assert name in set(in_c(f"int {name};\n"))


def test_comments_and_strings_are_prose() -> None:
    assert set(in_python('x = "heard"  # heard\n')) == {"x"}
    assert set(in_c('/* heard */ char *x = "heard"; // heard\n')) == {"char", "x"}
