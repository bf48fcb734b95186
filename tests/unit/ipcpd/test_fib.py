"""The forwarding table in C: look-ups are short whatever addresses members announce."""

from __future__ import annotations

import pytest

from tests.unit.ipcpd.relays import ffi, lib

COUNT = 1 << 14


def longest(addresses: list[int]) -> int:
    """Slots that the longest look-up passes in a table with these addresses."""
    count = len(addresses)
    fds = ffi.new("uint32_t[]", [64] + [0] * 7)
    fib = lib.fib_create(lib.FIB_SIMPLE, count, addresses, [0] * count, 1, [1], fds)
    assert fib != ffi.NULL
    try:
        return int(fib.longest)
    finally:
        lib.fib_destroy(fib)


GOLDEN = pow(0x9E3779B1, -1, 1 << 32)


@pytest.mark.parametrize(
    "addresses",
    [
        [number * GOLDEN % (1 << 32) for number in range(1, COUNT + 1)],
        list(range(1, COUNT + 1)),
        [number << 16 for number in range(1, COUNT + 1)],
        [(number * 0x01000193) % (1 << 32) | 1 for number in range(COUNT)],
    ],
    ids=["of a multiplier that is known", "a range", "low octets zero", "a stride"],
)
def test_addresses_that_were_chosen_to_collide_do_not(addresses: list[int]) -> None:
    """Made up by a member that wants packets of others to pass thousands of slots."""
    assert min(longest(list(dict.fromkeys(addresses))) for _ in range(3)) < 200
