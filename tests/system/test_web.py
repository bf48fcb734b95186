"""irm web in a real browser: the page shows what irm shows, follows a name through the layers, and executes nothing of a name."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from html import unescape
from pathlib import Path

import pytest

from .conftest import System

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
HOSTILE = "<script>document.title='pwned'</script><img src=x onerror=\"document.title='pwned'\">"

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")


@pytest.fixture
def address(system: System) -> Iterator[str]:
    """A system of two layers, and the address of its page."""
    for words in (
        "ipcp bootstrap type local name loc.0 layer wire",
        "ipcp bootstrap type unicast name uni1 layer net autobind",
        "name register uni1 layer wire",
        "ipcp enroll name uni2 layer net dst uni1 autobind",
        "ipcp connect name uni2 dst uni1",
        "name register pong ipcp uni2",
    ):
        system.irm(words)
    system.run("irm", "name", "create", HOSTILE)
    with system.spawn("irm", "web", "0") as server:
        yield server.expect(r"^The system is at (http\S+)/\.$")[1]


def page(url: str, folder: Path) -> str:
    """The page as the browser has it after some seconds."""
    command = [
        str(BROWSER),
        "--headless",
        "--disable-gpu",
        f"--user-data-dir={folder}",
        "--virtual-time-budget=3000",
    ]
    command += ["--no-sandbox"] if os.geteuid() == 0 else []
    result = subprocess.run([*command, "--dump-dom", url], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_the_page_shows_the_system(system: System, address: str, tmp_path: Path) -> None:
    dom = page(f"{address}/#name=pong", tmp_path / "profile")
    assert "<title>Ouroboros</title>" in dom
    names = [unescape(name) for name in re.findall(r"<button[^>]*>([^<]*)</button>", dom)]
    expected = [name["name"] for name in system.json("name list")["names"]]
    assert [name.rstrip("\N{HORIZONTAL ELLIPSIS}") for name in names] == [
        name if len(name) <= 40 else name[:39] for name in expected
    ]
    assert len([name for name in expected if "<" in name]) == 1
    assert re.findall(r'data-ipcp="([^"]*)"', dom) == ["uni1", "uni2", "loc.0"]
    layers = re.findall(r'<text [^>]*class="layer">([^<]*)</text>', dom)
    assert layers == ["net", "wire"], "each above those that carry its flows"
    flows = system.json("flow list")["flows"]
    assert dom.count("<tr>") == 1 + len(flows)
    assert (
        "net: uni2 (unicast) has the name" in dom and "wire: loc.0 (local) carries the flows of uni2" in dom
    )
    assert "monitor started" in dom
    assert not re.search(r"<img|<script>", dom), "and nothing of a name is markup"
