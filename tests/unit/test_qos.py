"""QoS specifications: fields, limits, presets (docs/reference/api.md)."""

from __future__ import annotations

import copy
import pickle

import pytest

from ipcpd.dataplane._ipcp import lib
from ouroboros import cubes
from ouroboros.qos import (
    QOS_BEST_EFFORT,
    QOS_DATA,
    QOS_RAW,
    QOS_RAW_NO_ERRORS,
    QOS_VIDEO,
    QOS_VOICE,
    UINT32_MAX,
    UINT64_MAX,
    QoSSpec,
    cube,
)

PRESETS = (QOS_RAW, QOS_RAW_NO_ERRORS, QOS_BEST_EFFORT, QOS_VIDEO, QOS_VOICE, QOS_DATA)


def test_presets() -> None:
    m, big = UINT32_MAX, UINT64_MAX
    assert [tuple(preset) for preset in PRESETS] == [
        (m, 0, 0, 1, 1, 0, m, 120000),
        (m, 0, 0, 1, 0, 0, m, 120000),
        (m, 0, 0, 1, 0, 1, m, 120000),
        (100, big, 3, 1, 0, 1, 100, 120000),
        (50, 100000, 5, 1, 0, 1, 50, 120000),
        (1000, 0, 0, 0, 0, 1, 2000, 120000),
    ]
    assert QoSSpec() == QOS_RAW
    assert len(set(PRESETS)) == 6


def test_a_preset_cannot_be_changed_but_copied() -> None:
    with pytest.raises(AttributeError, match=r"\.replace\(loss=3\)"):
        QOS_DATA.loss = 3
    changed = QOS_DATA.replace(loss=3)
    changed.delay = 7
    assert (changed.loss, changed.delay, changed.max_gap, QOS_DATA.loss) == (3, 7, 2000, 0)
    copied = copy.copy(QOS_DATA)
    copied.loss = 9
    assert QOS_DATA.loss == 0


def test_equality_repr_pickle() -> None:
    spec = QoSSpec(1, 2, 3, 4, 5, 6, 7, 8)
    assert spec == QoSSpec(
        delay=1, bandwidth=2, availability=3, loss=4, ber=5, in_order=6, max_gap=7, timeout=8
    )
    assert spec != QOS_RAW and spec != 3
    assert hash(QoSSpec()) == hash(QOS_RAW)
    assert repr(spec) == (
        "QoSSpec(delay=1, bandwidth=2, availability=3, loss=4, ber=5, in_order=6, max_gap=7, timeout=8)"
    )
    assert pickle.loads(pickle.dumps(QOS_VOICE)) == QOS_VOICE


@pytest.mark.parametrize("field", ["delay", "availability", "in_order", "bandwidth"])
def test_limits(field: str) -> None:
    for value in (-1, 1 << 64, 0.5):
        with pytest.raises(ValueError, match=f"QoSSpec.{field} takes an integer from 0 to"):
            setattr(QoSSpec(), field, value)
    with pytest.raises(AttributeError, match="it has delay, bandwidth"):
        QoSSpec().speed = 3  # type: ignore[attr-defined]


def test_proto() -> None:
    for preset in PRESETS:
        assert QoSSpec.from_proto(preset.to_proto()) == preset


def test_cubes() -> None:
    assert {word: tuple(cube(word))[:7] for word in cubes.PRESETS} == cubes.PRESETS
    assert cube("best") is QOS_BEST_EFFORT
    with pytest.raises(
        ValueError, match="'gold' is unknown; it must be one of raw, best, voice, video, data"
    ):
        cube("gold")


def test_the_table_of_cubes() -> None:
    """Its rows are in the order of the numbers on the wire, in Python and in C, and each has a cost for each."""
    assert [one.name for one in cubes.CUBES] == ["best effort", "video", "voice"]
    assert len(cubes.CUBES) == lib.CUBES
    assert all(len(one.costs) == len(cubes.CUBES) for one in cubes.CUBES)
    assert "#define CUBES 3u" in cubes.header()


@pytest.mark.parametrize(
    ("wanted", "number"),
    [
        ({}, 0),
        ({"delay": 100, "availability": 3, "max_gap": 100}, 1),
        ({"delay": 100, "availability": 3, "max_gap": 101}, 0),
        ({"delay": 101, "availability": 3, "max_gap": 100}, 0),
        ({"delay": 50, "availability": 5, "max_gap": 50, "bandwidth": 100_000}, 2),
        ({"delay": 50, "availability": 5, "max_gap": 50, "bandwidth": 100_001}, 1),
        ({"delay": 50, "availability": 4, "max_gap": 50}, 1),
        ({"delay": 51, "availability": 5, "max_gap": 50}, 1),
        ({"delay": 0, "availability": 2, "max_gap": 0}, 0),
    ],
)
def test_a_flow_belongs_to_the_last_cube_that_it_satisfies(wanted: dict[str, int], number: int) -> None:
    assert QoSSpec(**wanted).cube == number
