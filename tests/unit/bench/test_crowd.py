"""The crowd of flows: the attribution of memory, and the figures of two ends."""

from __future__ import annotations

from typing import Any

import pytest

from tests.bench import crowded
from tests.bench.crowd import Crowd
from tests.bench.process import PeerError

SMAPS = """\
5594e0a00000-5594e0c00000 rw-p 00000000 00:00 0                          [heap]
Size:               2048 kB
Rss:                1000 kB
Private_Clean:         4 kB
Private_Dirty:       900 kB
VmFlags: rd wr mr mw me ac sd
7f1be0a00000-7f1be0f01000 rw-s 00000000 00:01 2060                       /memfd:ouroboros-flows (deleted)
Size:               5124 kB
Rss:                  64 kB
Private_Dirty:        32 kB
7f1be1a00000-7f1be1b00000 r--p 00000000 fe:00 12                         /usr/lib/libcrypto.so.3
Rss:                 500 kB
Private_Clean:        96 kB
Private_Dirty:         0 kB
"""


def test_shared_memory_is_nobodys_own() -> None:
    assert crowded.resident(SMAPS) == (1000, 64)


def test_this_process_has_memory() -> None:
    with open("/proc/self/smaps", encoding="utf-8") as file:
        own, _ = crowded.resident(file.read())
    assert own > 1024


def test_the_active_ones_are_spread_over_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crowded, "_flows", list(range(1000)))
    assert crowded.some(1000) == list(range(0, 1000, 100))
    assert crowded.some(10) == list(range(10))


class FakeCrowd(Crowd):
    """Two processes that answer what we choose."""

    def __init__(self, *answers: tuple[dict[str, Any], dict[str, Any]]) -> None:
        self._name = "fake"
        self.answers = list(answers)

    def both(self, first: dict[str, Any], then: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        return self.answers.pop(0)


def test_the_end_that_takes_more_counts() -> None:
    crowd = FakeCrowd(
        ({"own": 100, "shared": 0}, {"own": 50, "shared": 0}),
        ({"own": 400, "shared": 80}, {"own": 450, "shared": 40}),
    )
    assert crowd.grow(100, "own", "shared") == [4.0, 0.8]


def test_unread_packets_must_all_have_come() -> None:
    assert FakeCrowd(({"thread_ns": 5_000_000, "unread": 100}, {})).unread(100) == 50
    with pytest.raises(PeerError, match="99 came"):
        FakeCrowd(({"thread_ns": 5_000_000, "unread": 99}, {})).unread(100)
