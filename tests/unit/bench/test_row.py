"""The JSON form of a run."""

from __future__ import annotations

import json

from tests.bench.machine import Others, describe
from tests.bench.row import UNITS, Mode, What, row, significant, to_json


def test_every_figure_has_a_unit() -> None:
    assert set(UNITS) == set(What)


def test_json_is_one_object_of_machine_and_rows() -> None:
    rows = [row("direct", What.RTT_P50, 64, Mode.SINGLE, "ouroboros", 0.61234567)]
    parsed = json.loads(to_json({"cores": 2}, rows))
    assert parsed == {
        "machine": {"cores": 2},
        "rows": [
            {
                "path": "direct",
                "what": "rtt_p50",
                "size": 64,
                "mode": "single",
                "subject": "ouroboros",
                "value": 0.61235,
                "unit": "us",
            }
        ],
    }


def test_json_without_rows() -> None:
    assert json.loads(to_json({}, [])) == {"machine": {}, "rows": []}


def test_machine_can_be_written() -> None:
    facts = json.loads(to_json(describe(), []))["machine"]
    assert facts["cores"] >= 1
    assert facts["kernel"] and facts["python"]


def test_others_never_take_less_than_nothing() -> None:
    assert Others().cores() >= 0


def test_five_significant_digits() -> None:
    assert [significant(v) for v in (0.0, 1234567.8, 0.000123456)] == [0.0, 1234600.0, 0.00012346]
