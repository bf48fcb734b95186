"""The protection of packets, with random octets: it opens the packets that it sealed, refuses all others, and writes nowhere else."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.dataplane.test_seal import Seal

SEALS = st.sampled_from([(0, True), (895, False), (901, True), (1018, False), (904, True)])


@given(SEALS, st.binary(max_size=300))
def test_any_octets(kind: tuple[int, bool], packet: bytes) -> None:
    """Refused and counted, unless they are empty or by chance good."""
    seal = Seal(*kind)
    opened = seal.open(packet)
    if packet and opened is None:
        assert sum(seal.refused) == 1


@given(SEALS, st.binary(max_size=20), st.binary(max_size=300), st.data())
def test_what_was_changed(kind: tuple[int, bool], header: bytes, data: bytes, draw: st.DataObject) -> None:
    """A good packet, a change of one octet or of its length, and the good one again."""
    peer, seal = Seal(*kind), Seal(*kind)
    packet = peer.close(data, header)
    if packet:
        at = draw.draw(st.integers(0, len(packet) - 1))
        change = draw.draw(st.integers(1, 255))
        spoilt = packet[:at] + bytes([packet[at] ^ change]) + packet[at + 1 :]
        assert seal.open(spoilt) is None
        assert seal.open(packet[:at]) != header + data
        if kind[0] != 904:  # the packets alone select the key of a stream cipher
            assert seal.open(packet + bytes([change])) is None
    assert seal.open(packet) == header + data
