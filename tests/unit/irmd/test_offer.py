"""Which extensions make sense for a flow."""

from __future__ import annotations

import pytest

from irmd.oap import offer
from irmd.oap.extension import Extensions, Item
from ouroboros.extension import Extension
from ouroboros.qos import QOS_BEST_EFFORT, QOS_DATA, QOS_RAW, QOS_RAW_NO_ERRORS, QOS_VOICE, QoSSpec

FRAGMENTATION, CHECK, SELECTIVE, END, PATH = Extension


@pytest.mark.parametrize(
    ("qos", "inside", "wanted", "applicable"),
    [
        (QOS_RAW, False, set(), set()),
        (QOS_RAW_NO_ERRORS, False, set(), set()),
        (QOS_RAW_NO_ERRORS, True, set(), set()),
        (QOS_DATA, False, {FRAGMENTATION, CHECK, SELECTIVE, END}, {FRAGMENTATION, CHECK, SELECTIVE, END}),
        (QOS_DATA, True, {FRAGMENTATION, SELECTIVE, END}, {FRAGMENTATION, SELECTIVE, END}),
        (QOS_DATA.replace(ber=1), False, {FRAGMENTATION, SELECTIVE, END}, set(Extension) - {PATH}),
        (QOS_VOICE, False, {FRAGMENTATION, CHECK}, {FRAGMENTATION, CHECK}),
        (QOS_VOICE, True, {FRAGMENTATION}, {FRAGMENTATION}),
        (QOS_BEST_EFFORT.replace(ber=5), False, {FRAGMENTATION}, {FRAGMENTATION, CHECK}),
    ],
)
def test_what_is_wanted(qos: QoSSpec, inside: bool, wanted: set[int], applicable: set[int]) -> None:
    proto = qos.to_proto()
    assert offer.offered(proto, inside=inside) == wanted
    assert offer.applicable(proto, inside=inside) == applicable


def test_an_offer() -> None:
    assert offer.make(frozenset({2, 1}), {1, 2}) == Extensions((Item(1), Item(2)))
    assert offer.make(frozenset({2, 1}), {1}) == Extensions((Item(1),))
    assert offer.make(frozenset({2}), {1}) is None and offer.make(frozenset(), {1}) is None


@pytest.mark.parametrize(
    ("qos", "granted", "carried", "at_us", "at_them"),
    [
        (QOS_DATA, {CHECK}, 1, 0, 0),
        (QOS_DATA, set(), 1, 1, 1),  # a prototype: nobody checks
        (QOS_DATA.replace(ber=7), set(), 7, 7, 7),
        (QOS_RAW_NO_ERRORS, set(), 0, 0, 0),
        (QOS_RAW, set(), 1, 1, 1),
    ],
)
def test_bit_errors_over_a_layer(
    qos: QoSSpec, granted: set[int], carried: int, at_us: int, at_them: int
) -> None:
    asked = qos.to_proto()
    wire = offer.carried(asked, inside=False)
    assert wire.ber == carried
    assert offer.obtained(asked, frozenset(granted), inside=False).ber == at_us
    assert offer.obtained(wire, frozenset(granted), inside=False).ber == at_them
    assert QoSSpec.from_proto(asked) == qos  # what was asked for is not changed


def test_within_a_system_nothing_is_spoiled() -> None:
    asked = QOS_DATA.to_proto()
    wire = offer.carried(asked, inside=True)
    assert wire.ber == 0 and offer.obtained(wire, frozenset(), inside=True).ber == 0


@pytest.mark.parametrize("in_order", [0, 1])
def test_paths_are_measured_over_link_layers_only(in_order: int) -> None:
    qos = QoSSpec(in_order=in_order).to_proto()
    assert PATH in offer.offered(qos, inside=False, link=True)
    assert PATH in offer.applicable(qos, inside=False, link=True)
    assert PATH not in offer.offered(qos, inside=False)
