"""A mapping is checked first: size, seal, magic, version and geometry; otherwise it is refused (docs/design/shared-memory.md)."""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ouroboros.dataplane._dataplane import ffi, lib
from tests.unit.dataplane.shm import PAGE, SMALL

SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


def classes() -> object:
    made = ffi.new("struct pool_class[POOL_CLASSES]")
    for at, (stride, blocks, reserve) in enumerate(SMALL.classes):
        made[at].stride, made[at].blocks, made[at].reserve = stride, blocks, reserve
    return made


Create = Callable[[], int]
Map = Callable[[int], object]

KINDS: dict[str, tuple[Create, Map]] = {
    "pool": (
        lambda: int(lib.pool_create(b"test", classes(), True)),
        lambda fd: lib.pool_map(fd, 1, False),
    ),
    "segment": (lambda: int(lib.segment_create(b"test", 4)), lambda fd: lib.segment_map(fd)),
    "events": (lambda: int(lib.events_create(b"test")), lambda fd: lib.events_map(fd, -1)),
}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> tuple[Create, Map]:
    return KINDS[request.param]


@pytest.fixture
def shared(kind: tuple[Create, Map]) -> Iterator[int]:
    fd = kind[0]()
    assert fd >= 0
    yield fd
    os.close(fd)


def image(fd: int, size: int | None = None, seals: int = SEALS) -> int:
    """A copy of a memfd, of another size, or with other seals."""
    octets = os.pread(fd, os.fstat(fd).st_size, 0)
    copy = os.memfd_create("copy", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(copy, len(octets) if size is None else size)
    os.pwrite(copy, octets if size is None else octets[:size], 0)
    if seals:
        fcntl.fcntl(copy, fcntl.F_ADD_SEALS, seals)
    return copy


def test_what_we_make_is_sealed_and_can_be_mapped(kind: tuple[Create, Map], shared: int) -> None:
    assert fcntl.fcntl(shared, fcntl.F_GET_SEALS) & SEALS == SEALS
    with pytest.raises(OSError):
        os.ftruncate(shared, PAGE)
    with pytest.raises(OSError):
        os.ftruncate(shared, 1 << 30)
    assert not os.get_inheritable(shared)
    assert kind[1](shared) != ffi.NULL


def test_a_true_copy_can_be_mapped(kind: tuple[Create, Map], shared: int) -> None:
    copy = image(shared)
    assert kind[1](copy) != ffi.NULL
    os.close(copy)


def test_what_could_shrink_under_us_is_refused(kind: tuple[Create, Map], shared: int) -> None:
    copy = image(shared, seals=0)
    assert kind[1](copy) == ffi.NULL
    os.close(copy)


def test_what_is_no_memfd_is_refused(kind: tuple[Create, Map], shared: int, tmp_path: Path) -> None:
    octets = os.pread(shared, os.fstat(shared).st_size, 0)
    path = tmp_path / "file"
    path.write_bytes(octets)
    with path.open("r+b") as file:
        assert kind[1](file.fileno()) == ffi.NULL
    read, write = os.pipe()
    assert kind[1](read) == ffi.NULL
    os.close(read)
    os.close(write)
    assert kind[1](-1) == ffi.NULL


@pytest.mark.parametrize("size", [0, 8, 4095, 4096])
def test_what_is_too_short_is_refused(kind: tuple[Create, Map], shared: int, size: int) -> None:
    if size >= os.fstat(shared).st_size:
        pytest.skip("not shorter than the real one")
    copy = image(shared, size)
    result = kind[1](copy)
    assert result == ffi.NULL
    os.close(copy)


@pytest.mark.parametrize("offset,what", [(0, "magic"), (8, "version")])
def test_another_kind_or_version_is_refused(
    kind: tuple[Create, Map], shared: int, offset: int, what: str
) -> None:
    for change in (1, 0xFF):
        copy = image(shared)
        with mmap.mmap(copy, 0) as memory:
            memory[offset] ^= change
        assert kind[1](copy) == ffi.NULL, what
        os.close(copy)


def test_every_word_of_the_header_of_a_pool_is_checked() -> None:
    """Whatever a hostile process writes there, mapping says no, or maps what is safe: it never crashes."""
    fd = KINDS["pool"][0]()
    refused = 0
    for at in range(0, 24 + 8 + 4 * 32, 4):
        for value in (0, 1, 63, 64, 0x7FFFFFFF, 0xFFFFFFFF):
            copy = image(fd)
            with mmap.mmap(copy, 0) as memory:
                same = struct.unpack_from("<I", memory, at)[0] == value
                struct.pack_into("<I", memory, at, value)
            pool = lib.pool_map(copy, 1, False)
            if pool == ffi.NULL:
                refused += 1
            else:
                # Only what nobody looks at (sizes that follow from the rest) may differ, or a smaller reserve.
                assert same or at in (12, 16, 20, 24, 28) or (at - 32) % 32 == 12, (
                    f"word at {at} = {value:#x}"
                )
                block = lib.pool_alloc(pool, 100)
                assert 0 <= block < pool.blocks
                lib.pool_unmap(pool)
            os.close(copy)
    assert refused > 100
    os.close(fd)


def test_the_number_of_flows_of_a_segment_is_checked() -> None:
    fd = KINDS["segment"][0]()
    for flows in (0, 3, 5, 0x40000000, 0xFFFFFFFF):
        copy = image(fd)
        with mmap.mmap(copy, 0) as memory:
            struct.pack_into("<I", memory, 12, flows)
        assert lib.segment_map(copy) == ffi.NULL
        os.close(copy)
    os.close(fd)


def test_the_geometry_is_looked_at_once() -> None:
    """What somebody writes into a header later changes nothing for those who have mapped it."""
    fd = KINDS["pool"][0]()
    pool = lib.pool_map(fd, 1, True)
    with mmap.mmap(fd, PAGE) as memory:
        memory[0:256] = b"\xff" * 256
    block = lib.pool_alloc(pool, 100)
    assert 0 <= block < 256
    assert lib.pool_free(pool, block, lib.owner_process(1))
    lib.pool_unmap(pool)
    os.close(fd)

    fd = KINDS["segment"][0]()
    segment = lib.segment_map(fd)
    with mmap.mmap(fd, PAGE) as memory:
        memory[0:64] = b"\xff" * 64
    assert segment.flows == 4
    lib.segment_unmap(segment)
    os.close(fd)


@pytest.mark.parametrize(
    "wrong", [{"index": 4}, {"side": 2}, {"fd": 63}, {"fd": 64 + 16384}, {"index": 2**32 - 1}]
)
def test_an_end_out_of_range_is_refused(wrong: dict[str, int]) -> None:
    pool_fd, segment_fd = KINDS["pool"][0](), KINDS["segment"][0]()
    pool, segment = lib.pool_map(pool_fd, 1, False), lib.segment_map(segment_fd)
    right = {"fd": 64, "index": 3, "side": 1, "peer_fd": 64, "serial": 1}
    flow = lib.flow_attach(pool, segment, ffi.NULL, ffi.new("struct flow_spec *", right))
    assert flow != ffi.NULL
    lib.flow_destroy(flow)
    spec = ffi.new("struct flow_spec *", {**right, **wrong})
    assert lib.flow_attach(pool, segment, ffi.NULL, spec) == ffi.NULL
    lib.segment_unmap(segment)
    lib.pool_unmap(pool)
    os.close(pool_fd)
    os.close(segment_fd)
