"""The round trip estimate: the arithmetic of the spec, in fixed point (spec/frcp 8)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ouroboros.dataplane._dataplane import ffi, lib

SAMPLES = st.lists(st.integers(0, 200_000_000_000), min_size=1, max_size=40)


def expected(samples: list[int]) -> tuple[int, int, int]:
    """srtt, dev and RTO, straight from the spec; Python's >> rounds down, as the spec's does."""
    srtt = dev = rto = 0
    for r in samples:
        if srtt == 0:
            srtt, dev = r, r // 2
        else:
            d = r - srtt
            srtt += d >> 3
            e = (abs(d) - dev) >> 2
            dev += e >> 3 if e < 0 else e
        srtt, dev = max(srtt, 1000), max(dev, 100)
        rto = min(max(250_000, srtt + 4 * dev), 5_000_000_000)
    return srtt, dev, rto


@given(SAMPLES)
def test_estimate(samples: list[int]) -> None:
    rtt = ffi.new("struct rtt *")
    lib.rtt_init(rtt)
    assert rtt.rto == 1_000_000_000 and rtt.dev == 10_000_000
    for sample in samples:
        lib.rtt_sample(rtt, sample)
    assert (rtt.srtt, rtt.dev, rtt.rto) == expected(samples)
