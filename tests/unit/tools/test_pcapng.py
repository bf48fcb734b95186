"""Captures in pcapng: the same packets as in pcap, and a broken file is refused."""

from __future__ import annotations

import io
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ouroboros_tools.ocap import pcap
from ouroboros_tools.ocap.captured import Captured
from ouroboros_tools.program import ToolError

VECTORS = Path(__file__).resolve().parents[2] / "vectors"


def block(kind: int, body: bytes, order: str = "<") -> bytes:
    body += bytes(-len(body) % 4)
    length = struct.pack(order + "I", 12 + len(body))
    return struct.pack(order + "I", kind) + length + body + length


def section(order: str = "<") -> bytes:
    return block(0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1), order)


def interface(order: str = "<", *, link_type: int = 1, options: bytes = b"") -> bytes:
    return block(1, struct.pack(order + "HHI", link_type, 0, 0) + options, order)


def enhanced(octets: bytes, time: int, order: str = "<", *, of: int = 0, length: int | None = None) -> bytes:
    head = struct.pack(order + "IIIII", of, time >> 32, time & 0xFFFFFFFF, len(octets), length or len(octets))
    return block(6, head + octets, order)


def read(octets: bytes) -> list[Captured]:
    return list(pcap.read(io.BytesIO(octets), "f"))


@pytest.mark.parametrize("order", ["<", ">"])
def test_packets_of_both_byte_orders(order: str) -> None:
    nanoseconds = struct.pack(order + "HHB3xHH", 9, 1, 9, 0, 0)
    file = (
        section(order)
        + interface(order)
        + interface(order, options=nanoseconds)
        + block(5, b"statistics", order)
        + enhanced(b"abc", 7, order)
        + enhanced(b"defgh", 7 << 32, order, of=1, length=99)
        + block(3, struct.pack(order + "I", 2) + b"xy", order)
    )
    assert read(file) == [
        Captured(1, 7000, 3, b"abc"),
        Captured(2, 7 << 32, 99, b"defgh"),
        Captured(3, 0, 2, b"xy"),
    ]
    assert [one.octets for one in read(file + section() + interface() + enhanced(b"z", 1))][3:] == [b"z"]


@pytest.mark.parametrize(
    ("file", "text"),
    [
        (section()[:10], "byte order"),
        (section()[:-2], "ends in a block"),
        (section() + interface(link_type=113), "link type 113"),
        (section() + enhanced(b"x", 1), "no interface 0"),
        (section() + interface() + block(6, b"short"), "header of packet 1"),
        (section() + block(1, b"x"), "description of an interface"),
        (section() + struct.pack("<II", 6, 1 << 30), "1073741824 octets"),
        (section() + struct.pack("<II", 6, 13), "13 octets"),
        (section() + b"\6\0", "0 octets"),
    ],
)
def test_broken_files(file: bytes, text: str) -> None:
    with pytest.raises(ToolError, match=text):
        read(file)


@given(st.binary(max_size=200))
def test_no_octets_make_another_error(octets: bytes) -> None:
    for file in (b"\x0a\x0d\x0d\x0a" + octets, section() + interface() + octets):
        try:
            read(file)
        except ToolError:
            continue


def test_what_tshark_writes_is_what_it_read(tmp_path: Path) -> None:
    if shutil.which("tshark") is None:
        pytest.skip("tshark is not installed")
    for name in ("uni4-ab.pcap", "mixed-broadcast.pcap"):
        new = tmp_path / f"{name}ng"
        command = ["tshark", "-r", str(VECTORS / name), "-F", "pcapng", "-w", str(new)]
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
        with open(VECTORS / name, "rb") as old_file, open(new, "rb") as new_file:
            assert list(pcap.read(new_file, "n")) == list(pcap.read(old_file, "o"))
