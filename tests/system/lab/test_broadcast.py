"""A broadcast layer over several systems: the paper's network, and neighbours that are lost without a link-down event."""

from __future__ import annotations

from typing import Any

from tests.system.conftest import CHECKOUT
from tests.system.lab.conftest import MakeLab, SystemOfTest

TWO = """
    [system.a]
    irm = [
        "ipcp bootstrap name eth layer ethernet type eth-dix dev eth0",
        "ipcp bootstrap name bc1 layer bcast type broadcast autobind",
        "name register bc1 layer ethernet",
    ]
    [system.b]
    irm = [
        "ipcp bootstrap name eth layer ethernet type eth-dix dev eth0",
        "ipcp enroll name bc2 layer bcast type broadcast dst bc1",
        "ipcp connect name bc2 dst bc1 timeout 400",
    ]
    [link.ab]
    between = ["a:eth0", "b:eth0"]
"""


def neighbours(system: SystemOfTest, name: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = system.json(f"ipcp neighbours name {name}")["neighbours"]
    return rows


def until(system: SystemOfTest, name: str, *states: str) -> None:
    """Look until the states of the neighbours are these."""
    while sorted(row["state"] for row in neighbours(system, name)) != sorted(states):
        pass


def test_the_network_of_the_paper(make_lab: MakeLab) -> None:
    """Listings 15 to 17: readers in a and b get the message of a writer in c."""
    lab = make_lab((CHECKOUT / "examples" / "olab" / "paper-broadcast.toml").read_text())
    readers = [lab.system(name).start("obc", "-l", "-n", "broadcast", "-c", "3") for name in "ab"]
    for reader in readers:
        reader.expect("New flow.")
    result = lab.system("c").run(
        "obc", "-n", "broadcast", "-m", "Hello multiple worlds", "-c", "3", "-i", "10"
    )
    assert result.stdout == ""
    for reader in readers:
        assert reader.wait() == 0
        assert reader.output.splitlines() == [
            "Starting a reader.",
            "New flow.",
            *["Message is Hello multiple worlds."] * 3,
        ]


def test_a_neighbour_over_ethernet_dies_and_starts_again(make_lab: MakeLab) -> None:
    """Ethernet does not signal the death of a process: its silence does, and an unknown flow is replaced."""
    lab = make_lab(TWO)
    a, b = lab.system("a"), lab.system("b")
    until(a, "bc1", "up")
    a.kill(a.ipcp_pid("bc1"))
    until(b, "bc2", "connecting", "silent")
    a.irm("ipcp bootstrap name bc1 layer bcast type broadcast autobind")
    a.irm("name register bc1 layer ethernet", check=False)  # if the IRMd has forgotten the last one's
    until(b, "bc2", "up")
    until(a, "bc1", "up")
    with a.start("obc", "-l", "-n", "bcast", "-c", "1") as reader:
        reader.expect("New flow.")
        b.run("obc", "-n", "bcast", "-m", "back")
        assert reader.wait() == 0


def test_the_layer_below_a_neighbour_dies_and_starts_again(make_lab: MakeLab) -> None:
    """The neighbour knows it and connects anew, which replaces an adjacency whose silence would be detected ten minutes later."""
    lab = make_lab(TWO.replace("timeout 400", "timeout 600000"))
    a, b = lab.system("a"), lab.system("b")
    until(a, "bc1", "up")
    (before,) = neighbours(a, "bc1")
    b.kill(b.ipcp_pid("eth"))
    until(b, "bc2", "connecting")
    b.irm("ipcp bootstrap name eth layer ethernet type eth-dix dev eth0")
    until(b, "bc2", "up")
    (after,) = neighbours(a, "bc1")
    assert (after["member"], after["state"]) == (before["member"], "up")
    with a.start("obc", "-l", "-n", "bcast", "-c", "1") as reader:
        reader.expect("New flow.")
        b.run("obc", "-n", "bcast", "-m", "back")
        assert reader.wait() == 0


def test_links_that_are_cut(make_lab: MakeLab) -> None:
    """With a carrier that is gone, and without a word; the adjacency is the same before and after."""
    lab = make_lab(TWO)
    a, b = lab.system("a"), lab.system("b")
    (before,) = neighbours(b, "bc2")
    for silent in (False, True):
        lab.cut("ab", silent=silent)
        while neighbours(b, "bc2")[0]["state"] == "up" or neighbours(a, "bc1")[0]["state"] == "up":
            pass
        lab.heal("ab")
        until(b, "bc2", "up")
        until(a, "bc1", "up")
    assert neighbours(b, "bc2")[0]["member"] == before["member"]
    assert len(neighbours(a, "bc1")) == 1
