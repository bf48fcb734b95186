"""The floor of an Ethernet layer: bare frames over a veth pair, by packet sockets (frame.c).

Needs CAP_NET_RAW in the network namespace of the device. Alone it measures and prints, on devices that are there:

    python -m tests.bench.subjects.frame NETNS-A DEVICE-A NETNS-B DEVICE-B [SIZE ...]

where a namespace is a path, such as /run/netns/a, or `-` for the one that it is in.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import multiprocessing
import os
import sys
import sysconfig
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

SOURCE = Path(__file__).with_name("frame.c")
CACHE = Path(__file__).resolve().parents[3] / ".build" / "bench"
INTERFACE = """
int frame_open(const char * device, uint8_t * mac);
void frame_address(const uint8_t * to, const uint8_t * from);
int64_t frame_flood(int fd, uint32_t size, int64_t count, int64_t * began);
int64_t frame_sink(int fd, int64_t count, int silence_ms, int64_t * ended);
int frame_ping(int fd, uint32_t size, int64_t count, int64_t * samples);
int frame_echo(int fd, uint32_t size, int64_t count);
"""
SILENCE_MS = 200
HEADER = 4
"""Octets of an eth-dix header beyond that of Ethernet: a frame of the floor has them too."""


def build() -> Any:
    """The compiled module; compiles it when there is none for this source and interpreter."""
    source = SOURCE.read_text(encoding="utf-8")
    suffix = str(sysconfig.get_config_var("EXT_SUFFIX"))
    digest = hashlib.sha256((source + INTERFACE + sys.version).encode()).hexdigest()[:12]
    name = f"frame_{digest}"
    target = CACHE / f"{name}{suffix}"
    if not target.exists():
        _compile(name, target)
    spec = importlib.util.spec_from_file_location(name, target)
    if spec is None or spec.loader is None:
        raise ImportError(f"{target} is not a Python extension: remove it, it is made again")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _compile(name: str, target: Path) -> None:
    from cffi import FFI

    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / "lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # both ends, or two runs, may come here at once
        if target.exists():
            return
        ffi = FFI()
        ffi.cdef(INTERFACE)
        prototypes = "#include <stdint.h>" + INTERFACE
        ffi.set_source(name, prototypes, sources=[str(SOURCE)], extra_compile_args=["-O2", "-std=gnu11"])
        ffi.compile(tmpdir=str(CACHE), target=target.name)


def enter(netns: str) -> None:
    """Enter a network namespace by its path; "-": stay. The process has one thread."""
    if netns == "-":
        return
    import ctypes

    fd = os.open(netns, os.O_RDONLY)
    try:
        if ctypes.CDLL(None, use_errno=True).setns(fd, 0x40000000):
            number = ctypes.get_errno()
            raise OSError(number, f"cannot enter {netns}: {os.strerror(number)}")
    finally:
        os.close(fd)


class Frames:
    """A packet socket on a device, and the loops that are measured."""

    def __init__(self, device: str) -> None:
        module = build()
        self._ffi, self._lib = module.ffi, module.lib
        mac = self._ffi.new("uint8_t[6]")
        self._fd = self._lib.frame_open(device.encode(), mac)
        if self._fd < 0:
            raise OSError(-self._fd, f"a packet socket on {device}: {os.strerror(-self._fd)}")
        self.mac = bytes(mac)

    def to(self, mac: bytes) -> None:
        """Send to that machine from now on."""
        self._lib.frame_address(mac, self.mac)

    def flood(self, size: int, count: int) -> int:
        """Send `count` frames; when the first left, ns of the monotonic clock."""
        began = self._ffi.new("int64_t *")
        if (sent := self._lib.frame_flood(self._fd, size, count, began)) < 0:
            raise OSError(-sent, os.strerror(-sent))
        return int(began[0])

    def sink(self, count: int) -> tuple[int, int]:
        """Receive up to `count` frames: how many came, and when the last did, ns."""
        ended = self._ffi.new("int64_t *")
        got = self._lib.frame_sink(self._fd, count, SILENCE_MS, ended)
        return int(got), int(ended[0])

    def ping(self, size: int, count: int) -> list[int]:
        """Round trips, ns each; the other side echoes."""
        samples = self._ffi.new("int64_t[]", count)
        if (failed := self._lib.frame_ping(self._fd, size, count, samples)) < 0:
            raise OSError(-failed, os.strerror(-failed))
        return list(samples)

    def echo(self, size: int, count: int) -> None:
        """Answer `count` frames."""
        if (failed := self._lib.frame_echo(self._fd, size, count)) < 0:
            raise OSError(-failed, os.strerror(-failed))

    def close(self) -> None:
        """Close the socket."""
        os.close(self._fd)


class Floor(NamedTuple):
    """What a pair of packet sockets does: frames received a second, and of those sent the part that arrived."""

    pps: float
    arrived: float


def _receive(netns: str, device: str, pipe: Connection) -> None:
    enter(netns)
    frames = Frames(device)
    pipe.send(frames.mac)
    while (count := pipe.recv()) is not None:
        pipe.send("armed")
        pipe.send(frames.sink(count))


def measure(a: tuple[str, str], b: tuple[str, str], size: int, count: int, rounds: int = 3) -> Floor:
    """The best of some rounds with `count` packets of `size` octets, from device `a` to `b`: (namespace, device)."""
    ours, theirs = multiprocessing.Pipe()
    receiver = multiprocessing.Process(target=_receive, args=(*b, theirs), daemon=True)
    receiver.start()
    sender, results = multiprocessing.Pipe()
    child = multiprocessing.Process(target=_send, args=(*a, ours, results, size, count, rounds), daemon=True)
    child.start()
    found: list[Floor] = [sender.recv() for _ in range(rounds)]
    child.join()
    receiver.join()
    return max(found)


def _send(
    netns: str, device: str, receiver: Connection, results: Connection, size: int, count: int, rounds: int
) -> None:
    enter(netns)
    frames = Frames(device)
    frames.to(receiver.recv())
    for _ in range(rounds):
        receiver.send(count)
        receiver.recv()  # armed
        began = frames.flood(size + HEADER, count)
        got, ended = receiver.recv()
        results.send(Floor(got / (ended - began) * 1e9, got / count))
    receiver.send(None)


def main(argv: list[str]) -> int:
    """Measure and print."""
    if len(argv) < 4:
        print(__doc__)
        return 2
    for size in [int(word) for word in argv[4:]] or [64, 1400]:
        floor = measure((argv[0], argv[1]), (argv[2], argv[3]), size, 400_000)
        print(f"{size:5} octets: {floor.pps / 1e3:7.0f} kpps, {floor.arrived:.1%} arrived")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
