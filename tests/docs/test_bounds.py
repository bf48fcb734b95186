"""docs/design/security.md, "Bounds": every bound is there with the value that it has in the code, and with a test that exists."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from irmd.settings import Settings

CHECKOUT = Path(__file__).resolve().parents[2]
PAGE = CHECKOUT / "docs/design/security.md"
BOUND = re.compile(r"`([\w/.]+\.(?:py|h|c)):(\w+)`(?: = ([\d.]+))?")
TEST = re.compile(r"`([\w/]+\.py)::(\w+)`")
COUNTER = re.compile(r"`(\w+)`")
NAMES = re.compile(r"(?!_)(?:(?:MAX|MOST)_\w+|MOST|CAPACITY|USERS|\w*QUOTAS?|\w+_QUEUE|\w*BURST)")

ELSEWHERE = {
    "irmd/oap/replay.py:MAX_AHEAD_MS": "a rule of the handshake",
    "irmd/retry.py:MAX_PAUSE": "a pause between attempts of our own",
    "irmd/broker.py:MAX_QUIET_S": "what an IPCP may ask for",
    "ipcpd/common/handshake.py:MAX_ERRNO": "a rule of the wire",
    "ipcpd/link/fa.py:MOST": "",
    "ipcpd/wire/lsm.py:MAX_WEIGHT": "a rule of the wire",
    "ipcpd/wire/lsm.py:MAX_SEQUENCE": "a rule of the wire",
    "ipcpd/unicast/dht/node.py:MAX_EXPIRES": "a rule of the wire",
    "ipcpd/dataplane/broadcast.py:MOST": "octets of a packet",
    "ipcpd/wire/udp.py:MAX_MESSAGE": "a rule of the wire",
    "ipcpd/wire/udp.py:MAX_SDU_4": "a rule of the wire",
    "ipcpd/wire/udp.py:MAX_SDU_6": "a rule of the wire",
    "irmd/settings.py:MAX_DESCRIPTORS": "",
}
"""Constants that are called as bounds are, and bound nothing that another party can cause any number of; "" is in the table."""


class Row(NamedTuple):
    what: str
    bound: str
    counter: str
    test: str


def rows() -> Iterator[Row]:
    section = PAGE.read_text().split("\n## Bounds\n")[1].split("\n## ")[0]
    for line in section.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and len(cells) == 6 and cells[0] != "what" and not cells[0].startswith("---"):
            yield Row(cells[0], cells[2], cells[4], cells[5])


ROWS = list(rows())


def c_constant(path: str, name: str) -> float:
    """The value of a #define that is a number, or a shifted one."""
    found = re.search(rf"^#define {name} (.+?)(?:/\*.*)?$", (CHECKOUT / path).read_text(), re.MULTILINE)
    assert found, f"{path} has no {name}"
    text = re.sub(r"(?<=\d)(?:u|l)+", "", found[1].strip())
    return float(eval(text, {}))


def value(path: str, name: str) -> Any:
    """The value of a constant in a file."""
    if not path.endswith(".py"):
        return c_constant(path, name)
    if path == "irmd/settings.py" and name.islower():
        return getattr(Settings(), name)
    module = path.removesuffix(".py").replace("/", ".").replace("tools.", "ouroboros_tools.", 1)
    return getattr(importlib.import_module(module), name)


def test_the_table_is_read() -> None:
    assert len(ROWS) > 45


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.what)
def test_a_bound_is_what_the_code_has(row: Row) -> None:
    for path, name, number in BOUND.findall(row.bound):
        there = value(path, name)
        if number:
            assert float(there) == float(number), f"{path}: {name}"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.what)
def test_a_bound_has_a_test_and_a_counter(row: Row) -> None:
    tests = TEST.findall(row.test)
    assert tests, "no test is named"
    for path, name in tests:
        files = [
            file for file in (CHECKOUT / "tests").rglob(Path(path).name) if str(file).endswith("/" + path)
        ]
        assert any(
            re.search(rf"^(?:async )?def {name}\(", file.read_text(), re.MULTILINE) for file in files
        ), f"{path} has no {name}"
    sources = [
        *(file for package in ("irmd", "ipcpd", "ouroboros") for file in (CHECKOUT / package).rglob("*.py")),
        *(CHECKOUT / "ouroboros/dataplane/src").glob("*.h"),
        *(CHECKOUT / "ipcpd/dataplane/src").glob("*.h"),
    ]
    for counter in COUNTER.findall(row.counter):
        assert any(re.search(rf"\b{counter}\b", file.read_text()) for file in sources), counter


def constants(path: Path) -> Iterator[str]:
    """Names of the bounds at the top level of a module."""
    for node in ast.parse(path.read_text()).body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        for target in targets:
            if isinstance(target, ast.Name) and NAMES.fullmatch(target.id):
                yield target.id


def test_every_bound_is_in_the_table() -> None:
    """A new table, queue or retry with a bound has a row here; limits of message fields are in the specification of the wire."""
    listed = {f"{path}:{name}" for row in ROWS for path, name, _ in BOUND.findall(row.bound)}
    missing = [
        key
        for package in ("irmd", "ipcpd")
        for path in sorted((CHECKOUT / package).rglob("*.py"))
        if "wire" not in path.parts
        for name in constants(path)
        if (key := f"{path.relative_to(CHECKOUT)}:{name}") not in listed and not ELSEWHERE.get(key)
    ]
    assert not missing, 'each needs a row in docs/design/security.md, "Bounds", or a place in ELSEWHERE'


def test_the_oldest_entry_of_a_table_is_found_in_one_step() -> None:
    """`next(iter(d))` of a dict passes all entries that were deleted: tables that drop the oldest are OrderedDicts."""
    wrong = re.compile(r"del (self\.\w+)\[next\(iter\(\1\)\)\]")
    for package in ("irmd", "ipcpd", "ouroboros", "tools"):
        for path in (CHECKOUT / package).rglob("*.py"):
            assert not wrong.search(path.read_text()), path
