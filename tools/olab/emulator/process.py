"""Process: stands in a link, between two devices of the network namespace that it is started in.

    python -m ouroboros_tools.olab.emulator.process DEVICE DEVICE

One thread: C forwards frames until a request arrives on standard input (one JSON object a line, as the reply on standard
output), and Python answers it; frames that arrive meanwhile wait in the rings. It ends when its standard input does.

  (at the start)                {"ready": true}, or {"error": TEXT} and the end
  {"do": "set", "words": [WORDS or null, WORDS or null]}
                                impairments of frames that arrive at either device; null leaves one as it is
  {"do": "show"}                {"words": [...], "counters": [{...}, {...}]}, by the device where frames arrive
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import socket
import struct
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ._emulator import ffi, lib
from .impairment import Impairment, parse
from .line import check, read_counters, set_line

PORT_COUNTERS = ("overrun", "oversize", "unfinished")
"""Counters of a port beside its line; `src/port.h` explains each."""
_ETH_P_ALL = 0x0003
_SIOCGIFMTU, _SIOCETHTOOL = 0x8921, 0x8946
_OFFLOADS = {"tx checksums": 0x17, "scatter/gather": 0x19, "TSO": 0x1F, "GSO": 0x24, "GRO": 0x2C}
"""Work that a device may leave to the next one, and the request of ethtool that reads the setting."""


def main(argv: Sequence[str]) -> int:
    """Run until standard input ends."""
    try:
        process = Process((argv[0], argv[1]))
    except OSError as error:
        _reply({"error": error.strerror or str(error), "errno": error.errno or 0})
        return 1
    _reply({"ready": True})
    process.run()
    return 0


class Process:
    """An emulator at work between two devices."""

    def __init__(self, devices: tuple[str, str]) -> None:
        """Raises OSError, which names the device."""
        self.devices = devices
        self.impairments = [Impairment(), Impairment()]
        self._sockets = [_open(device) for device in devices]
        mtu = max(_mtu(device) for device in devices)
        made = lib.emulator_create(self._sockets[0].fileno(), self._sockets[1].fileno(), mtu)
        if not made:
            number = ffi.errno
            raise OSError(number, f"cannot make the rings of {' and '.join(devices)}: {os.strerror(number)}")
        self._emulator = ffi.gc(made, lib.emulator_destroy)
        for device, sock in zip(devices, self._sockets, strict=True):
            sock.bind((device, _ETH_P_ALL))
        self._before = [self._beside(0), self._beside(1)]

    def run(self) -> None:
        """Forward frames, and answer requests."""
        buffer = b""
        while True:
            check(lib.emulator_run(self._emulator, sys.stdin.fileno()))
            octets = os.read(sys.stdin.fileno(), 65536)
            if not octets:
                return
            *lines, buffer = (buffer + octets).split(b"\n")
            for line in lines:
                try:
                    _reply(self._answer(json.loads(line)))
                except (ValueError, LookupError, TypeError, OSError) as error:
                    _reply({"error": str(error) or repr(error)})

    def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        if request["do"] == "set":
            one, other = (None if words is None else parse(words) for words in request["words"])
            for number, impairment in enumerate((one, other)):
                if impairment is not None:
                    self.impairments[number] = impairment
                    set_line(lib.emulator_line(self._emulator, number), impairment, number)
                    self._before[number] = self._beside(number)
            return {}
        if request["do"] == "show":
            counters = [self._counters(0), self._counters(1)]
            return {"words": [str(one) for one in self.impairments], "counters": counters}
        raise ValueError(f"there is no request {request['do']!r}")

    def _counters(self, number: int) -> dict[str, int]:
        """Counters of the frames that arrive at a device, since their impairment was last set."""
        before = self._before[number]
        beside = {name: count - before[name] for name, count in self._beside(number).items()}
        return {**read_counters(lib.emulator_line(self._emulator, number)), **beside}

    def _beside(self, number: int) -> dict[str, int]:
        """The counters beside its line, since the start."""
        port = ffi.new("struct port_counters *")
        lib.emulator_count(self._emulator, number, port)
        return {
            **{name: int(getattr(port, name)) for name in PORT_COUNTERS},
            "dropped": _dropped(self.devices[1 - number]),
        }


def _dropped(device: str) -> int:
    """Frames that the device accepted from the emulator, and the system behind it dropped because its queue was full."""
    for row in Path("/proc/self/net/dev").read_text().splitlines():
        name, _, numbers = row.partition(":")
        if name.strip() == device:
            return int(numbers.split()[11])
    return 0


def _open(device: str) -> socket.socket:
    try:
        socket.if_nametoindex(device)
    except OSError:
        raise OSError(19, f"there is no device {device}") from None
    try:
        return socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
    except PermissionError as error:
        raise OSError(
            error.errno, f"cannot read the frames of {device}: {error.strerror}; it takes CAP_NET_RAW"
        ) from None


def _mtu(device: str) -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        answer = fcntl.ioctl(sock, _SIOCGIFMTU, struct.pack("16si20x", device.encode(), 0))
    return int(struct.unpack_from("i", answer, 16)[0])


def offloads_off(device: str) -> None:
    """Let a device of this network namespace send real frames: no longer than its MTU, and with their checksums.

    A virtual cable may carry unfinished frames when no one reads them on the way; here the emulator reads them.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for request in _OFFLOADS.values():
            value = ctypes.create_string_buffer(struct.pack("=II", request, 0))
            message = struct.pack("16sP16x", device.encode(), ctypes.addressof(value))
            # A device without the offload needs no change.
            with contextlib.suppress(OSError):
                fcntl.ioctl(sock, _SIOCETHTOOL, message)


def _reply(facts: dict[str, Any]) -> None:
    os.write(1, json.dumps(facts).encode() + b"\n")


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
