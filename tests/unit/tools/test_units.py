"""tools/units.py: the values that a user types."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ouroboros_tools import units


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("500", 0.5), ("500ms", 0.5), ("2s", 2), ("1.5m", 90), ("1h", 3600), ("2d", 172800), ("0", 0)],
)
def test_duration(text: str, seconds: float) -> None:
    assert units.duration(text) == seconds


def test_bare_duration_counts_in_the_unit_of_the_tool() -> None:
    assert units.duration("60", unit="s") == 60


@pytest.mark.parametrize(
    ("text", "bits"), [("1000", 1e3), ("500k", 5e5), ("10M", 1e7), ("1G", 1e9), ("1.5m", 1.5e6)]
)
def test_rate(text: str, bits: float) -> None:
    assert units.rate(text) == bits


@pytest.mark.parametrize(("text", "octets"), [("64", 64), ("64k", 65536), ("1M", 1 << 20), ("0.5k", 512)])
def test_size(text: str, octets: int) -> None:
    assert units.size(text) == octets


@pytest.mark.parametrize(
    "text", ["", "abc", "-1", "1e3", "1 s", "1x", "1.2.3", "\u0661", "nan", "inf", "0x10"]
)
@pytest.mark.parametrize("parse", [units.duration, units.rate, units.size, units.count])
def test_what_is_wrong_is_named(parse: object, text: str) -> None:
    assert callable(parse)
    with pytest.raises(units.UnitError) as caught:
        parse(text)
    assert f'"{text}"' in str(caught.value)


@pytest.mark.parametrize("text", ["0", "1.5", "k"])
def test_count_is_a_whole_number_above_0(text: str) -> None:
    with pytest.raises(units.UnitError):
        units.count(text)


@given(st.text())
def test_any_text_gives_a_number_or_a_unit_error(text: str) -> None:
    for parse in (units.duration, units.rate, units.size, units.count):
        try:
            assert parse(text) >= 0
        except units.UnitError:
            pass
