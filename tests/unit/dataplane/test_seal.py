"""The protection of a packet: cipher and check, in the order of spec/protection 1."""

from __future__ import annotations

import errno
import zlib
from typing import Any

import pytest

from ouroboros.dataplane._dataplane import ffi, lib

KEY = bytes.fromhex("6615f6b2cdab49dc428820e2c4bcb42e9237efc9bd842a7f73f93eceaa014f61")


class Seal:
    """A seal in C."""

    def __init__(self, cipher: int = 0, check: bool = False) -> None:
        self.handle: Any = ffi.gc(ffi.new("struct seal *"), lib.seal_fini)
        assert lib.seal_init(self.handle, cipher, KEY if cipher else ffi.NULL, check) == 0

    def close(self, data: bytes, header: bytes = b"") -> bytes:
        out = ffi.new("uint8_t[]", len(header) + len(data) + self.handle.overhead)
        n = lib.seal_packet(self.handle, header, len(header), data, len(data), out)
        assert n == (len(out) if header or data else 0)
        return bytes(ffi.buffer(out, n))

    def open(self, packet: bytes) -> bytes | None:
        block = ffi.new("uint8_t[]", packet + b"\0")
        away = ffi.new("uint8_t[]", len(packet) + 1)
        at = block + self.handle.front
        m = lib.seal_open(self.handle, bytes(packet), len(packet), away)
        n = lib.seal_open(self.handle, block, len(packet), at)
        assert n == m
        if n < 0:
            assert n == -errno.EBADMSG
            return None
        assert bytes(ffi.buffer(at, n)) == bytes(ffi.buffer(away, n))
        return bytes(ffi.buffer(at, n))

    @property
    def refused(self) -> tuple[int, int, int]:
        """Forged, spoilt, too short; each was opened twice."""
        h = self.handle
        return h.forged // 2, h.spoilt // 2, h.runt // 2


@pytest.mark.parametrize(
    ("cipher", "check"), [(0, False), (0, True), (901, False), (1018, True), (904, True)]
)
def test_round_trip(cipher: int, check: bool) -> None:
    ours, peer = Seal(cipher, check), Seal(cipher, check)
    assert ours.handle.overhead == {0: 0, 901: 28, 1018: 28, 904: 16}[cipher] + 4 * check
    for length in (*range(1, 40), 1400, 65000):
        data = bytes(i % 251 for i in range(length))
        packet = peer.close(data, header=b"header of 12")
        assert len(packet) == 12 + length + ours.handle.overhead
        assert ours.open(packet) == b"header of 12" + data
        assert (b"header of 12" in packet) == (cipher == 0)
    assert ours.refused == (0, 0, 0)


def test_vectors_of_the_specification() -> None:
    assert Seal(check=True).close(b"hello").hex() == "68656c6c6f3610a686"
    packet = bytes.fromhex("101112131415161718191a1b0c10910b27a3296195ae4b39faa95048f5f124237458511869")
    assert Seal(901, True).open(packet) == b"hello"
    assert Seal(901, False).open(packet[:-4]) == b"hello"


def test_check_is_outside() -> None:
    """Over the encrypted packet, most significant octet first."""
    packet = Seal(901, True).close(b"data")
    assert packet[-4:] == zlib.crc32(packet[:-4]).to_bytes(4, "big")


@pytest.mark.parametrize(("cipher", "check"), [(0, True), (901, False), (901, True), (904, True)])
def test_empty_packets_go_as_they_are(cipher: int, check: bool) -> None:
    ours = Seal(cipher, check)
    assert ours.close(b"") == b""
    assert ours.open(b"") == b""
    assert ours.refused == (0, 0, 0)


@pytest.mark.parametrize(("cipher", "check"), [(0, True), (901, False), (901, True)])
def test_what_is_spoilt_is_refused_and_counted(cipher: int, check: bool) -> None:
    ours, peer = Seal(cipher, check), Seal(cipher, check)
    packet = peer.close(b"some data", header=b"header")
    for bit in range(8 * len(packet)):
        spoilt = bytearray(packet)
        spoilt[bit // 8] ^= 1 << bit % 8
        assert ours.open(bytes(spoilt)) is None
    assert ours.refused == ((0, 8 * len(packet), 0) if check else (8 * len(packet), 0, 0))
    for length in range(1, len(packet)):
        assert ours.open(packet[:length]) is None
    assert ours.refused[2] == ours.handle.overhead - 1
    assert ours.open(packet) == b"headersome data"


def test_good_check_on_a_forged_packet() -> None:
    """Who can compute a check cannot encrypt."""
    ours = Seal(901, True)
    packet = b"x" * 60
    assert ours.open(packet + zlib.crc32(packet).to_bytes(4, "big")) is None
    assert ours.refused == (1, 0, 0)


def test_no_such_cipher() -> None:
    assert lib.seal_init(ffi.new("struct seal *"), 7, KEY, False) == -errno.EINVAL
