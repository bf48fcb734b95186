"""The item of the handshake by which two link IPCPs agree to measure their path: read from the header that they carry (spec/path PATH-1)."""

from __future__ import annotations

import os

from ipcpd.wire.link import has_path_item
from irmd.oap.extension import Extensions, Item
from irmd.oap.extension import encode as items
from irmd.oap.header import Header, encode
from ouroboros.extension import Extension


def header(*kinds: int, **fields: bytes) -> bytes:
    data = items(Extensions(tuple(Item(kind, b"?" * (kind % 3)) for kind in kinds))) if kinds else b""
    return encode(Header(bytes(16), 1, data=data, **fields))


def test_the_item_is_found_behind_certificate_and_key() -> None:
    assert has_path_item(header(Extension.PATH))
    assert has_path_item(header(1, 2, 0x100, Extension.PATH, request_hash=bytes(48)))
    assert has_path_item(
        header(1, Extension.PATH, kex=bytes(91), certificate=bytes(700), signature=bytes(64))
    )


def test_there_is_none_in_the_header_of_a_prototype() -> None:
    assert not has_path_item(header())
    assert not has_path_item(header(1, 2, 3))
    assert not has_path_item(header(request_hash=bytes(48)))


def test_octets_that_are_no_header_have_none() -> None:
    sound = header(1, Extension.PATH)
    for end in range(len(sound)):
        assert not has_path_item(sound[:end])
    for _ in range(1000):
        has_path_item(os.urandom(60))
