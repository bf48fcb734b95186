"""The survey that results from the answers of systems, and the places of its parts in a picture."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from itertools import combinations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ouroboros_tools.olab.layout import BOX_HEIGHT, BOX_WIDTH, Layout, arrange
from ouroboros_tools.olab.picture import draw
from ouroboros_tools.olab.survey import (
    STATES,
    Adjacency,
    Answers,
    Cable,
    Ipcp,
    IpcpKey,
    Survey,
    assemble,
)

SVG = "{http://www.w3.org/2000/svg}"


def ipcp(pid: int, name: str, kind: str, layer: str | None) -> dict[str, Any]:
    return {"pid": pid, "name": name, "type": kind, "layer": layer}


def flow(*ends: tuple[int, int]) -> dict[str, Any]:
    return {"ends": [{"pid": pid, "fd": fd} for pid, fd in ends]}


def neighbour(fd: int | None, address: str | None = None, **more: Any) -> dict[str, Any]:
    return {"fd": fd, "address": address, "name": None, "component": "dt", "state": "up", **more}


def two_systems(**of_b: Any) -> dict[str, Answers]:
    """uni1 on a and uni2 on b, neighbours over an Ethernet layer."""
    return {
        "a": Answers(
            ipcps=[ipcp(5, "eth", "eth-dix", "ethernet"), ipcp(9, "uni1", "unicast", "top")],
            flows=[flow((9, 64), (5, 64)), flow((9, 65), (5, 65)), flow((9, 66))],
            neighbours={5: [], 9: [neighbour(64, "22"), neighbour(65, "22", component="mgmt")]},
            status={5: {"device": "eth1"}, 9: {"address": "11"}},
        ),
        "b": Answers(
            ipcps=[ipcp(5, "eth", "eth-dix", "ethernet"), ipcp(7, "uni2", "unicast", "top")],
            flows=[flow((5, 70), (7, 71))],
            neighbours={5: [], 7: [neighbour(71, "11", name="uni1", **of_b)]},
            status={5: {"device": "eth0"}, 7: {"address": "22"}},
        ),
    }


# ---------------------------------------------------------------- the survey


def test_two_ends_of_an_adjacency_are_one() -> None:
    found = assemble("lab", two_systems())
    assert found.adjacencies == [
        Adjacency(
            ends=(IpcpKey("a", 9), IpcpKey("b", 7)), over=(IpcpKey("a", 5), IpcpKey("b", 5)), state="up"
        )
    ]
    assert found.ipcps[IpcpKey("a", 9)].below == [IpcpKey("a", 5)]
    assert found.ipcps[IpcpKey("a", 5)].device == "eth1"
    assert found.ipcps[IpcpKey("b", 7)].member == "22"


@pytest.mark.parametrize("state", STATES)
def test_worse_of_two_opinions_counts(state: str) -> None:
    (adjacency,) = assemble("lab", two_systems(state=state)).adjacencies
    assert adjacency.state == state


def test_neighbours_that_nobody_knows_are_left_out() -> None:
    answers = two_systems()
    answers["a"].neighbours[9] = [
        neighbour(64, "99"),
        neighbour(None, None, name="nobody", state="connecting"),
    ]
    answers["b"].neighbours[7] = []
    assert assemble("lab", answers).adjacencies == []


def test_neighbour_that_is_being_connected_is_known_by_name() -> None:
    answers = two_systems()
    answers["a"].neighbours[9] = [neighbour(None, None, name="uni2", state="connecting")]
    answers["b"].neighbours[7] = []
    (adjacency,) = assemble("lab", answers).adjacencies
    assert (adjacency.state, adjacency.over) == ("connecting", (None, None))


def test_equal_addresses_in_two_layers_are_two_members() -> None:
    answers = two_systems()
    answers["b"].ipcps.append(ipcp(8, "other", "unicast", "elsewhere"))
    answers["b"].status[8] = {"address": "22"}
    (adjacency,) = assemble("lab", answers).adjacencies
    assert adjacency.ends[1] == IpcpKey("b", 7)


def test_names_of_another_party_are_escaped_in_the_picture() -> None:
    answers = two_systems()
    answers["a"].ipcps[1]["layer"] = answers["b"].ipcps[1]["layer"] = "t\x1b[2J<b>\u202e"
    text = draw(assemble("lab", answers), title="a\x07b")
    assert all(character.isprintable() or character == "\n" for character in text)
    ElementTree.fromstring(text)


def test_facts_are_json() -> None:
    facts = json.loads(json.dumps(assemble("lab", two_systems()).facts()))
    assert facts["adjacencies"][0]["ends"][1] == {"system": "b", "ipcp": "uni2", "pid": 7}
    assert facts["ipcps"][0]["device"] == "eth1"


# ---------------------------------------------------------------- the layout


def network() -> Survey:
    """The unicast network of paper 5.10, with a cable that is cut."""
    keys = {
        name: IpcpKey(system, pid)
        for pid, (system, name) in enumerate(
            ["a eth-a", "a uni1", "b eth-b", "b local", "b udp-b", "b uni2", "b uni3", "c udp-c", "c uni4"][
                n
            ].split()
            for n in range(9)
        )
    }
    kinds = {
        "eth": ("eth-dix", "ethernet"),
        "udp": ("udp4", "ipnet"),
        "loc": ("local", "local"),
        "uni": ("unicast", "top"),
    }
    devices = {"eth-a": "eth1", "eth-b": "eth0", "udp-b": "10.1.1.1", "udp-c": "10.1.1.2"}
    found = Survey(name="paper", systems=["a", "b", "c"])
    for name, key in keys.items():
        kind, layer = kinds[name[:3]]
        found.ipcps[key] = Ipcp(key=key, name=name, type=kind, layer=layer, device=devices.get(name, ""))
    for one, other, over in (
        ("uni1", "uni2", ("eth-a", "eth-b")),
        ("uni2", "uni3", ("local", "local")),
        ("uni2", "uni4", ("udp-b", "udp-c")),
    ):
        found.adjacencies.append(
            Adjacency(ends=(keys[one], keys[other]), over=(keys[over[0]], keys[over[1]]), state="up")
        )
        for end, below in zip((one, other), over, strict=True):
            found.ipcps[keys[end]].below.append(keys[below])
    found.cables = [
        Cable(name="wire", kind="veth", ends=(("a", "eth1"), ("b", "eth0"))),
        Cable(
            name="ip",
            kind="veth",
            ends=(("b", "eth1"), ("c", "eth0")),
            addresses=("10.1.1.1/24", "10.1.1.2/24"),
            cut="silent",
        ),
    ]
    return found


def box_of(layout: Layout, name: str) -> Any:
    return next(box for box in layout.boxes.values() if box.ipcp.name == name)


def assert_sound(layout: Layout) -> None:
    """Nothing lies on anything else, and everything is where it belongs."""
    for box in layout.boxes.values():
        column = layout.columns[box.column]
        assert column.x <= box.x and box.x + BOX_WIDTH <= column.x + column.width
        assert layout.system_top < box.y and box.y + BOX_HEIGHT < layout.system_bottom
        band = next(band for band in layout.bands if band.layer == box.layer)
        assert band.y <= box.y and box.y + BOX_HEIGHT <= band.y + band.height
        assert any(strip.left <= box.x and box.x + BOX_WIDTH <= strip.right for strip in band.strips)
    for one, other in combinations(layout.boxes.values(), 2):
        apart = abs(one.x - other.x) >= BOX_WIDTH or abs(one.y - other.y) >= BOX_HEIGHT
        assert apart, (one.ipcp, other.ipcp)
    for first, second in combinations(layout.bands, 2):
        if first.y == second.y:
            left, right = sorted((first, second), key=lambda band: band.strips[0].left)
            assert left.strips[-1].right <= right.strips[0].left
        else:
            above, below = sorted((first, second), key=lambda band: band.y)
            assert above.y + above.height <= below.y
    for one, other in combinations(layout.wires, 2):
        if one.y == other.y:
            spans = sorted(sorted(port.x for port in wire.ports) for wire in (one, other))
            assert spans[0][1] < spans[1][0]
    assert layout.columns[-1].x + layout.columns[-1].width <= layout.width
    assert all(wire.y < layout.height for wire in layout.wires)


def test_layers_are_stacked_by_what_they_use() -> None:
    layout = arrange(network())
    assert_sound(layout)
    assert {band.layer.name: band.rank for band in layout.bands} == {
        "top": 1,
        "ethernet": 0,
        "ipnet": 0,
        "local": 0,
    }
    assert box_of(layout, "uni2").y < box_of(layout, "eth-b").y
    # One lane has room for all three.
    assert box_of(layout, "eth-b").y == box_of(layout, "local").y == box_of(layout, "udp-b").y


def test_ipcps_stand_on_the_side_of_their_peers() -> None:
    layout = arrange(network())
    assert box_of(layout, "eth-b").x < box_of(layout, "local").x < box_of(layout, "udp-b").x


def test_straight_lines_between_boxes_side_by_side_and_arcs_over_others() -> None:
    layout = arrange(network())
    levels = {
        tuple(sorted(layout.boxes[end].ipcp.name for end in line.adjacency.ends)): line.level
        for line in layout.lines
    }
    assert sorted(levels.values()) == [0, 0, 1]
    assert levels["uni2", "uni3"] == 0


def test_cables_end_below_the_ipcp_that_uses_them() -> None:
    layout = arrange(network())
    ports = {wire.cable.name: wire.ports for wire in layout.wires}
    assert [port.x for port in ports["wire"]] == [
        box_of(layout, "eth-a").centre,
        box_of(layout, "eth-b").centre,
    ]
    assert [port.x for port in ports["ip"]] == [
        box_of(layout, "udp-b").centre,
        box_of(layout, "udp-c").centre,
    ]


def test_local_layers_of_one_name_are_as_many_layers_as_systems() -> None:
    found = Survey(name="x", systems=["a", "b"])
    for system in found.systems:
        key = IpcpKey(system, 1)
        found.ipcps[key] = Ipcp(key=key, name="loc", type="local", layer="local")
    layout = arrange(found)
    assert_sound(layout)
    assert [len(band.strips) for band in layout.bands] == [1, 1]


def test_layers_that_use_each_other_in_a_circle_are_drawn_all_the_same() -> None:
    found = Survey(name="x", systems=["a"])
    one, other = IpcpKey("a", 1), IpcpKey("a", 2)
    found.ipcps[one] = Ipcp(key=one, name="one", type="unicast", layer="l1", below=[other])
    found.ipcps[other] = Ipcp(key=other, name="other", type="unicast", layer="l2", below=[one])
    assert_sound(arrange(found))


# ---------------------------------------------------------------- the picture


def test_picture_is_xml_and_says_everything() -> None:
    root = ElementTree.fromstring(draw(network(), title="paper"))
    said = " ".join("".join(text.itertext()) for text in root.iter(f"{SVG}text"))
    for word in (
        "paper",
        "system a",
        "uni1",
        "uni4",
        "ethernet",
        "ipnet",
        "10.1.1.2",
        "eth1",
        "ip  ✕ cut (silent)",
    ):
        assert word in said, said


def test_what_is_emulated_is_said_at_the_link() -> None:
    def said(*words: str) -> tuple[str, list[str]]:
        found = network()
        found.cables[0].emulated = words
        root = ElementTree.fromstring(draw(found, title="x"))
        texts = " ".join("".join(text.itertext()) for text in root.iter(f"{SVG}text"))
        return texts, [title.text or "" for title in root.iter(f"{SVG}title")]

    assert "loss 5%" in said("loss 5%", "loss 5%")[0]
    (a, _), (b, _) = network().cables[0].ends
    assert f"from {a}: loss 5%; from {b}: nothing" in said("loss 5%", "")[1]
    for nothing in (said("", ""), said()):
        assert "nothing" not in nothing[0]
    long = "loss 5% delay 20ms 2ms duplicate 3% reorder 10% corrupt 0.1% rate 100mbit limit 1000 seed 7"
    texts, titles = said(long, "delay 1ms")
    assert any(long in title for title in titles)
    assert long not in texts and "…" in texts  # it would not fit


def test_cut_links_and_silent_neighbours_are_red_and_dashed() -> None:
    def red(found: Survey) -> int:
        root = ElementTree.fromstring(draw(found, title="x"))
        return sum(
            1
            for path in root.iter(f"{SVG}path")
            if path.get("stroke") == "#c8102e"
            and path.get("stroke-dasharray")
            and "h30" not in path.get("d", "")
        )

    found = network()
    assert red(found) == 1
    found.adjacencies[0].state = "silent"
    assert red(found) == 2
    found.cables[1].cut = ""
    found.adjacencies[0].state = "up"
    assert red(found) == 0


def test_names_cannot_break_the_picture() -> None:
    found = network()
    key = IpcpKey("a", 1)
    found.ipcps[key].name = '<script>"&'
    found.ipcps[key].layer = "a" * 255
    assert "<script>" not in draw(found, title="</title>&")
    ElementTree.fromstring(draw(found, title="</title>&"))


def test_system_without_an_irmd_is_drawn() -> None:
    found = Survey(name="x", systems=["a", "b"], silent_systems=["b"])
    said = "".join(ElementTree.fromstring(draw(found, title="x")).itertext())
    assert "system b (no IRMd)" in said


@st.composite
def surveys(source: st.DrawFn) -> Survey:
    systems = [f"s{number}" for number in range(source(st.integers(1, 5)))]
    found = Survey(name="any", systems=systems)
    for pid in range(source(st.integers(0, 12))):
        key = IpcpKey(source(st.sampled_from(systems)), pid)
        kind = source(st.sampled_from(["unicast", "broadcast", "local", "eth-dix", "udp4"]))
        layer = source(st.sampled_from(["", "one", "two", "three"]))
        mine = [other for other in found.ipcps if other.system == key.system]
        below = (
            source(st.lists(st.sampled_from(mine), unique=True))
            if mine and kind in ("unicast", "broadcast")
            else []
        )
        found.ipcps[key] = Ipcp(key=key, name=f"i{pid}", type=kind, layer=layer, below=below)
    members = list(found.ipcps.values())
    for one, other in combinations(members, 2):
        if (one.layer, one.type) == (other.layer, other.type) and source(st.booleans()):
            state = source(st.sampled_from(STATES))
            found.adjacencies.append(Adjacency(ends=(one.key, other.key), state=state))
    for number in range(source(st.integers(0, 6))):
        ends = tuple((source(st.sampled_from(systems)), f"eth{number}") for _ in range(2))
        found.cables.append(Cable(name=f"c{number}", kind="veth", ends=(ends[0], ends[1])))
    return found


@given(surveys())
def test_any_survey_has_a_sound_picture(found: Survey) -> None:
    assert_sound(arrange(found))
    ElementTree.fromstring(draw(found, title=found.name))
