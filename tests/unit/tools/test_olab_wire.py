"""The filter of a silent cut: the packets that it drops, found by running its program."""

from __future__ import annotations

import ipaddress
import struct

import pytest

pytest.importorskip("pyroute2")

from ouroboros_tools.olab.wire import Program, between, everything

DROP, NEXT = 2, 0xFFFFFFFF


def execute(program: Program, packet: bytes) -> int:
    """What the kernel does with such a program (classic BPF): the instructions that ours use."""
    accumulator, counter = 0, 0
    while True:
        code, true, false, operand = program[counter]
        counter += 1
        if code == 0x06:
            return operand
        if code in (0x20, 0x28):
            size = 4 if code == 0x20 else 2
            if operand + size > len(packet):
                return 0  # the kernel ends the program
            accumulator = int.from_bytes(packet[operand : operand + size], "big")
        elif code == 0x15:
            counter += true if accumulator == operand else false
        else:
            raise AssertionError(f"instruction {code:#x}")


def packet(source: str, destination: str) -> bytes:
    one, other = ipaddress.ip_address(source), ipaddress.ip_address(destination)
    if one.version == 4:
        header = struct.pack(">BBHHHBBH", 0x45, 0, 28, 0, 0, 64, 17, 0) + one.packed + other.packed
        return bytes(12) + b"\x08\x00" + header + bytes(8)
    return (
        bytes(12)
        + b"\x86\xdd"
        + struct.pack(">IHBB", 6 << 28, 8, 17, 64)
        + one.packed
        + other.packed
        + bytes(8)
    )


@pytest.mark.parametrize(
    ("one", "two", "three"),
    [("127.0.0.1", "127.0.0.2", "127.0.0.3"), ("fd00::1", "fd00::2", "fd00:0:0:1::2")],
)
def test_drops_what_goes_between_two_addresses(one: str, two: str, three: str) -> None:
    program = between(one, two)
    assert execute(program, packet(one, two)) == DROP
    assert execute(program, packet(two, one)) == DROP
    for source, destination in (
        (one, three),
        (three, one),
        (two, three),
        (three, two),
        (one, one),
        (two, two),
    ):
        assert execute(program, packet(source, destination)) == NEXT


def test_leaves_other_protocols_alone() -> None:
    program = between("127.0.0.1", "127.0.0.2")
    assert execute(program, packet("::1", "::1")) == NEXT
    assert execute(program, bytes(12) + b"\xa0\x00" + packet("127.0.0.1", "127.0.0.2")[14:]) == NEXT


def test_drops_everything() -> None:
    assert execute(everything(), b"") == DROP
