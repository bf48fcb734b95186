"""Every file that the documentation names exists: modules move and are renamed, and the pages have to follow."""

from __future__ import annotations

import re

from tests.system.conftest import CHECKOUT

FOLDERS = (
    "ouroboros",
    "irmd",
    "ipcpd",
    "tools",
    "tests",
    "docs",
    "examples",
    "demo",
    "packaging",
    "scripts",
)
NAMED = re.compile(r"`([\w./-]+\.(?:py|c|h|proto|pyi|toml|script|example|service))(?:::?\w+)?`")
"""A name of a file, perhaps with the folders it is in, and perhaps with a name in it."""


def test_every_file_that_is_named_exists() -> None:
    paths = [
        f"/{path.relative_to(CHECKOUT)}" for folder in FOLDERS for path in (CHECKOUT / folder).rglob("*")
    ]
    paths += [f"/{path.name}" for path in CHECKOUT.iterdir()]
    missing = []
    for page in (*(CHECKOUT / "docs").rglob("*.md"), CHECKOUT / "README.md", CHECKOUT / "CONTRIBUTING.md"):
        text = page.read_text()
        made = set(re.findall(r"^ *```\w+ file=(\S+)", text, re.MULTILINE))
        prose = re.sub(r"^ *```.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL)
        for name in NAMED.findall(prose):
            tail = "/" + name.removeprefix(".../")
            if name not in made and not any(path.endswith(tail) for path in paths):
                missing.append(f"{page.relative_to(CHECKOUT)}: {name}")
    assert not missing
