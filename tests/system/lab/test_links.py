"""Two links between two members over two layers: each lives, dies and is made anew without the other."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.system.lab.conftest import LabOfTest, MakeLab, SystemOfTest

ETH = "ipcp bootstrap name eth layer ethernet type eth-dix dev eth0"
UDP = "ipcp bootstrap name udp layer internet type udp4 ip {}"
TWO = f"""
    [system.a]
    names = {{ "m1.udp" = "10.7.0.1" }}
    irm = [
        "{ETH}",
        "{UDP.format("10.7.0.1")}",
        "ipcp bootstrap name m1 layer net type unicast autobind",
        "bind ipcp m1 name m1.eth",
        "bind ipcp m1 name m1.udp",
        "name register m1.eth layer ethernet",
        "name register m1.udp layer internet",
        "bind program oping name ping auto -- --listen --quiet",
        "name register ping layer net",
    ]
    [system.b]
    names = {{ "m1.udp" = "10.7.0.1" }}
    irm = [
        "{ETH}",
        "{UDP.format("10.7.0.2")}",
        "ipcp enroll name m2 layer net type unicast dst m1.eth",
        "ipcp connect name m2 dst m1.eth timeout 1000",
        "ipcp connect name m2 dst m1.udp timeout 1000",
    ]
    [link.eth]
    between = ["a:eth0", "b:eth0"]
    [link.udp]
    between = ["a:eth1", "b:eth1"]
    addresses = ["10.7.0.1/24", "10.7.0.2/24"]
"""


def links(system: SystemOfTest, name: str) -> dict[int, dict[str, Any]]:
    """The data transfer flows, by descriptor."""
    rows = system.json(f"ipcp neighbours name {name}")["neighbours"]
    return {row["fd"]: row for row in rows if row["component"] == "dt" and row["fd"] is not None}


def until(system: SystemOfTest, name: str, *states: str) -> dict[int, dict[str, Any]]:
    """Look until the states of the links are these."""
    while True:
        found = links(system, name)
        if sorted(row["state"] for row in found.values()) == sorted(states):
            return found


def pings(system: SystemOfTest) -> None:
    output = system.run("oping", "-n", "ping", "-c", "3", "-i", "10").stdout
    assert re.search(r"3 packets transmitted, 3 received", output), output


@pytest.fixture
def two(make_lab: MakeLab) -> LabOfTest:
    lab = make_lab(TWO)
    until(lab.system("a"), "m1", "up", "up")
    until(lab.system("b"), "m2", "up", "up")
    return lab


def test_traffic_goes_on_over_the_other_link(two: LabOfTest) -> None:
    a, b = two.system("a"), two.system("b")
    pings(b)
    two.cut("eth", silent=True)
    until(a, "m1", "up", "silent")
    until(b, "m2", "up", "silent")
    pings(b)
    two.heal("eth")
    until(b, "m2", "up", "up")
    until(a, "m1", "up", "up")
    pings(b)


@pytest.mark.parametrize(
    ("layer", "again"), [("eth", ETH), ("udp", UDP.format("10.7.0.2"))], ids=["eth", "udp"]
)
def test_only_the_link_whose_layer_was_killed_is_made_anew(two: LabOfTest, layer: str, again: str) -> None:
    """At the neighbour's: it knows it, and we learn of it when the neighbour is back."""
    a, b = two.system("a"), two.system("b")
    before = links(a, "m1")
    b.kill(b.ipcp_pid(layer))
    until(b, "m2", "up")
    pings(b)
    b.irm(again)
    until(b, "m2", "up", "up")
    after = until(a, "m1", "up", "up")
    assert len(before.keys() & after.keys()) == 1, "the other link stays as it was"
    kept = (before.keys() & after.keys()).pop()
    assert after[kept]["since"] >= before[kept]["since"]
    pings(b)


def test_a_link_that_the_acceptor_has_lost_is_made_anew(two: LabOfTest) -> None:
    """Its initiator is not notified: it detects the silence, and connects again."""
    a, b = two.system("a"), two.system("b")
    a.kill(a.ipcp_pid("eth"))
    until(a, "m1", "up")
    until(b, "m2", "up", "silent")
    pings(b)
    a.irm(ETH)
    a.irm("name register m1.eth layer ethernet")
    until(b, "m2", "up", "up")
    until(a, "m1", "up", "up")
    pings(b)
