"""CRC-32: as zlib has it, however long, wherever it lies (spec/protection 2)."""

from __future__ import annotations

from random import Random
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ouroboros.dataplane._dataplane import ffi, lib

BOTH = pytest.mark.parametrize("of", [lib.crc32_of, lib.crc32_tables], ids=["fast", "tables"])


@BOTH
def test_vectors(of: object) -> None:
    assert callable(of)
    assert of(0, b"123456789", 9) == 0xCBF43926
    assert of(0, b"hello", 5) == 0x3610A686
    assert of(0, b"", 0) == 0


@BOTH
def test_every_length_and_place(of: object) -> None:
    assert callable(of)
    data = Random(3).randbytes(1200)
    held = ffi.from_buffer(data)
    for length in range(1100):
        begin = length % 37
        assert of(0, held + begin, length) == crc32(data[begin : begin + length])


@given(st.binary(max_size=400), st.binary(max_size=400))
def test_in_parts(one: bytes, other: bytes) -> None:
    assert lib.crc32_of(lib.crc32_of(0, one, len(one)), other, len(other)) == crc32(one + other)
