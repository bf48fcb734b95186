"""Every codec: an encoded message decodes to the same message; random octets give the typed error or a message.

`make fuzz` is a longer run.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ouroboros.wire import MalformedPacket, UnsendablePacket
from tests.unit.wire.strategies import CODECS, Codec

ALL = pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS.keys())


@ALL
@given(st.data())
def test_decode_undoes_encode(codec: Codec, data: st.DataObject) -> None:
    message = data.draw(codec.values)
    assert codec.decode(codec.encode(message)) == message


@ALL
@given(octets=st.binary(max_size=200))
def test_random_octets(codec: Codec, octets: bytes) -> None:
    take(codec, octets)


@ALL
@given(st.data())
def test_cut(codec: Codec, data: st.DataObject) -> None:
    octets = codec.encode(data.draw(codec.values))
    take(codec, octets[: data.draw(st.integers(0, len(octets)))])


@ALL
@given(st.data())
def test_flipped_bits(codec: Codec, data: st.DataObject) -> None:
    octets = bytearray(codec.encode(data.draw(codec.values)))
    if octets:
        for _ in range(data.draw(st.integers(1, 4))):
            octets[data.draw(st.integers(0, len(octets) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    take(codec, bytes(octets))


@ALL
@given(st.data())
def test_more_behind(codec: Codec, data: st.DataObject) -> None:
    octets = codec.encode(data.draw(codec.values))
    take(codec, octets + data.draw(st.binary(min_size=1, max_size=40)))


@ALL
def test_far_too_long(codec: Codec) -> None:
    for filling in (b"\x00", b"\x01", b"\xff", b"\x0a"):
        take(codec, filling * 70_000)


def take(codec: Codec, octets: bytes) -> None:
    """Decode; what comes out can be compared, shown and sent, or is refused with the other typed error."""
    try:
        message = codec.decode(octets)
    except MalformedPacket as error:
        assert error.reason and error.what and str(error)
        return
    repr(message)
    if message is None:
        return
    try:
        again = codec.encode(message)
    except UnsendablePacket as error:
        assert error.reason and str(error)
        return
    assert codec.decode(again) == message
