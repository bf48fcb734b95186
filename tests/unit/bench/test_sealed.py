"""Encrypted flows: parsing of `openssl speed`, and the throughput of one core."""

from __future__ import annotations

import pytest

from tests.bench import sealed
from tests.bench.goal import Goal, Sense, judge, table_of
from tests.bench.main import Bench
from tests.bench.pair import OneWay
from tests.bench.process import PeerError
from tests.bench.row import Mode, What, row

SAID = """\
+DT:AES-256-GCM:1:1400
+R:579601:AES-256-GCM:0.350000
+H:1400
+F:25:AES-256-GCM:2318404000.00
"""


def test_speed_is_in_bits() -> None:
    assert sealed.speed_of(SAID) == pytest.approx(18.547232)


@pytest.mark.parametrize("said", ["", "speed: Unknown algorithm aes-512"])
def test_no_speed_is_an_error(said: str) -> None:
    with pytest.raises(PeerError, match="no figure"):
        sealed.speed_of(said)


def test_openssl_has_the_ciphers() -> None:
    if reason := sealed.missing():
        pytest.skip(reason)
    assert sealed.openssl(sealed.CIPHERS[0], 1400) > 0


@pytest.mark.parametrize(("sender", "receiver"), [(0.5, 0.1), (0.1, 0.5)])
def test_the_end_that_has_more_to_do_counts(sender: float, receiver: float) -> None:
    way = OneWay(1e6, 1.0, 1_000_000, sender, receiver)
    assert sealed.core_gbps(way, 1000) == pytest.approx(16)


@pytest.mark.parametrize(
    ("ours", "theirs", "reached"), [(2.0, 40.0, True), (1.0, 1.9, True), (1.9, 4.0, False), (9.0, 40.0, True)]
)
def test_half_of_openssl_or_two_gigabits_are_enough(ours: float, theirs: float, reached: bool) -> None:
    rows = [
        row("sealed/x", What.CORE_GBPS, 1400, Mode.BURST, subject, value)
        for subject, value in (("ouroboros", ours), ("openssl", theirs))
    ]
    goal = Goal("sealed/x", What.CORE_GBPS, 1400, Mode.BURST, Sense.AT_LEAST, 0.5, "openssl", enough=2)
    ((verdict,),) = judge(table_of(rows), [goal]).values()
    assert verdict.reached is reached
    assert goal.text == ">= 0.5x openssl or 2"


def test_others_subjects_need_no_encrypted_flows() -> None:
    assert Bench(list(sealed.PATHS), [], ["seqpacket"], True, pytest.fail)._sealed() == []
