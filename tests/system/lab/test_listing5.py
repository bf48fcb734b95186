"""The three behaviours of paper Listing 5: raw, voice and data flows over a link that loses, doubles and reorders frames."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ouroboros_tools.olab.description import Description, SystemSpec, veth

from .conftest import LabOfTest, MakeLab

COUNT = 3000
SEED = 11


def ping(lab: LabOfTest, qos: str, words: str) -> dict[str, Any]:
    """Ping over the link with these words, which spare the thirty frames before the pings, by which the flow is allocated."""
    lab.emulate("a-b", f"{words} seed {SEED}")
    options = f"-i 0 -c {COUNT} --json -q {qos}"
    done = lab.system("a").run("oping", "-n", "oping", *options.split())
    statistics: dict[str, Any] = json.loads(done.stdout)
    assert statistics["transmitted"] == COUNT and "Invalid" not in done.stderr
    return statistics


@pytest.fixture
def lab(make_lab: MakeLab) -> LabOfTest:
    """Two systems, with a server on the second one."""
    pair = Description(
        name="pair",
        systems=(SystemSpec(name="a"), SystemSpec(name="b")),
        links=(veth("a", "b", emulate=""),),
    )
    lab = make_lab(pair)
    a, b = lab.system("a"), lab.system("b")
    a.irm("ipcp bootstrap name eth layer ethernet type eth-dix dev to-b")
    b.irm("ipcp bootstrap name eth layer ethernet type eth-dix dev to-a")
    b.irm("bind program oping name oping auto -- --listen --quiet")
    b.irm("name register oping layer ethernet")
    return lab


def test_what_each_promises(lab: LabOfTest) -> None:
    words = "loss 1% delay 500us reorder 1% duplicate 3%"
    raw = ping(lab, "raw", words)
    assert raw["received"] < COUNT, "what is lost is lost"
    assert raw["out_of_order"] > 0, "what was overtaken comes late"
    assert raw["duplicates"] > 0, "what was doubled comes twice"
    voice = ping(lab, "voice", words)
    assert voice["received"] < COUNT and not voice["out_of_order"] and not voice["duplicates"]
    data = ping(lab, "data", words)
    assert data["received"] == COUNT and not data["out_of_order"] and not data["duplicates"]
    assert data["resent"] > 0 and raw["resent"] is None
    counted = lab.emulation("a-b")["counters"]
    assert all(one["lost"] and one["duplicated"] and one["reordered"] for one in counted)


def test_what_is_spoiled_is_as_good_as_lost(lab: LabOfTest) -> None:
    """Bits are flipped, in the checks of flows too; whoever asked for no bit error gets none."""
    data = ping(lab, "data", "corrupt 2% delay 200us")
    assert data["received"] == COUNT and not data["out_of_order"] and not data["duplicates"]
    assert data["resent"] > 0
    assert all(one["corrupted"] for one in lab.emulation("a-b")["counters"])
