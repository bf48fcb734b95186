"""The soak for some seconds: a check that the long run works."""

from __future__ import annotations

import pytest

from tests.soak.main import main


def test_a_short_soak(capsys: pytest.CaptureFixture[str]) -> None:
    words = "--minutes 0.2 --rounds 2 --places local,here,udp --clients 1 --allocations 0 --seed 7".split()
    assert main(words) == 0, capsys.readouterr().out
