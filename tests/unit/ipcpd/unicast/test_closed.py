"""Whole unicast IPCPs in a layer that admits only members with a certificate: the rule goes from member to member, and stays."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ouroboros.access import Access
from ouroboros.errors import EAUTH
from ouroboros.name_info import Requirement
from ouroboros.qos import QOS_RAW
from tests.unit.ipcpd.unicast.network import DT, MGMT, Network, Node, make_network

RULE = Access(Requirement.AUTHENTICATION, ("?", "gate*"))


@pytest.fixture
def network() -> Iterator[Network]:
    with make_network() as made:
        yield made


def newcomer(network: Network, name: str, certificate: str | None) -> Node:
    node = network.node(name)
    node.certificate = certificate
    return node


def closed(network: Network) -> tuple[Node, Node]:
    """Two members; the second was enrolled by the first."""
    first = newcomer(network, "a", "a")
    options = {"require": "authentication", "admit": "?,gate*"}
    first.ok(ipcp_bootstrap={"config": {"layer": "unicast", "options": options}})
    second = newcomer(network, "b", "b")
    second.ok(ipcp_enroll={"dst": "a"})
    return first, second


def test_the_rule_is_handed_on(network: Network) -> None:
    first, second = closed(network)
    third = newcomer(network, "c", "gate of c")
    answer = third.ok(ipcp_enroll={"dst": "b"}).ipcp_layer.access
    assert (answer.require, answer.admit) == (2, "?,gate*")
    for node in (first, second, third):
        assert node.ipcp.access == node.connections.access == RULE
        (status,) = node.ipcp.readout("status")
        assert (status["require"], status["admit"]) == (["authentication"], ["?", "gate*"])


@pytest.mark.parametrize("certificate", [None, "", "mallory", "a.b"])
@pytest.mark.parametrize("member", ["a", "b"])
def test_whoever_is_asked_refuses(network: Network, certificate: str | None, member: str) -> None:
    nodes = dict(zip("ab", closed(network), strict=True))
    stranger = newcomer(network, "s", certificate)
    answer = stranger.ask(ipcp_enroll={"dst": member})
    assert answer.error == EAUTH and f'"{member}" refuses: it admits' in answer.text
    network.settle()
    assert not nodes[member].relay.ends and not stranger.relay.ends
    assert nodes[member].connections.counters.unauthenticated == 1
    assert stranger.ipcp.state.value == "boot", "it may try again"


@pytest.mark.parametrize("component", [MGMT, DT])
def test_no_component_is_connected_without(network: Network, component: str) -> None:
    """In either direction: who has lost his certificate neither connects, nor is connected."""
    first, second = closed(network)
    second.certificate = None
    connect = {"component": component, "qos": QOS_RAW.to_proto()}
    there = second.ask(ipcp_connect={"dst": "a", **connect})
    assert there.error == EAUTH and "it admits only members with a certificate" in there.text
    back = first.ask(ipcp_connect={"dst": "b", **connect})
    assert back.error == EAUTH and '"b" is not to be trusted' in back.text
    network.settle()
    for node in (first, second):
        assert not node.relay.ends and not node.ipcp.readout("neighbours")
        (status,) = node.ipcp.readout("status")
        assert (status["members"], status["links"], status["contacts"]) == (1, 0, 0)


def test_who_is_in_is_heard(network: Network) -> None:
    """The counterpart: with certificates everything is as in an open layer."""
    first, second = closed(network)
    network.connect(second, "a")
    network.settle()
    for node in (first, second):
        (status,) = node.ipcp.readout("status")
        assert (status["members"], status["neighbours"]) == (2, 1)
        assert {row["certificate"] for row in node.ipcp.readout("neighbours")} == {
            "b" if node is first else "a"
        }
