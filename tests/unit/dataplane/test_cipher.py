"""The cipher of packets: vectors of spec/protection 3 and published ones; rotation of the key against a model of the spec."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable
from heapq import heappop, heappush
from itertools import cycle, islice
from queue import SimpleQueue
from threading import Thread

import pytest

from ouroboros.dataplane._dataplane import ffi, lib

from .rotation import IV, Model, hkdf

KEY = bytes.fromhex("6615f6b2cdab49dc428820e2c4bcb42e9237efc9bd842a7f73f93eceaa014f61")
SEALED = [895, 898, 901, 1018]
STREAM = [904, 905, 906]


class End:
    """A cipher in C."""

    def __init__(self, cipher: int, key: bytes = KEY, period: int = lib.CIPHER_PERIOD) -> None:
        handle = lib.cipher_create(cipher, key, period)
        assert handle != ffi.NULL
        self.handle = ffi.gc(handle, lib.cipher_destroy)

    def close(self, data: bytes, header: bytes = b"", iv: bytes | None = None) -> bytes:
        out = ffi.new("uint8_t[]", len(header) + len(data) + 64)
        if iv is None:
            n = lib.cipher_seal(self.handle, header, len(header), data, len(data), out)
        else:
            n = lib.cipher_seal_with(self.handle, iv, header, len(header), data, len(data), out)
        assert n == len(header) + len(data) + lib.cipher_overhead(self.handle)
        return bytes(ffi.buffer(out, n))

    def open(self, packet: bytes) -> bytes | None:
        """Not in place."""
        out = ffi.new("uint8_t[]", b"\xee" * (len(packet) + 1))
        n = lib.cipher_open(self.handle, packet, len(packet), out)
        assert bytes(ffi.buffer(out))[max(0, len(packet) - lib.cipher_overhead(self.handle)) :].strip(
            b"\xee"
        ) in (b"", b"\0"), "wrote behind what the packet holds"
        return None if n == -errno.EBADMSG else bytes(ffi.buffer(out, n))

    def open_in_place(self, packet: bytes) -> bytes | None:
        block = ffi.new("uint8_t[]", packet)
        n = lib.cipher_open(self.handle, block, len(packet), block + lib.cipher_front(self.handle))
        return None if n == -errno.EBADMSG else bytes(ffi.buffer(block + lib.cipher_front(self.handle), n))

    @property
    def epoch(self) -> int:
        return int(lib.cipher_epoch(self.handle))


SPEC = """
895   101112131415161718191a1b 1b64066fc1 9d0d8e929818844632a5c43aebdb6d65
898   101112131415161718191a1b 896926e577 68e987c0af2aa3ff2babb8f29e18dcfd
901   101112131415161718191a1b 0c10910b27 a3296195ae4b39faa95048f5f1242374
1018  101112131415161718191a1b 0981461475 2ae53d6a6122f8b7a0ba7cdecf9c9ce5
904   101112131415161718191a1b1c1d1e1f 771820aa5e
905   101112131415161718191a1b1c1d1e1f 592234f050
906   101112131415161718191a1b1c1d1e1f a5899925bf
"""


@pytest.mark.parametrize("line", SPEC.split("\n")[1:-1])
def test_vectors_of_the_specification(line: str) -> None:
    """Both ways, with the data in one piece and in two, in place and not."""
    number, *parts = line.split()
    packet = bytes.fromhex("".join(parts))
    iv = packet[: IV[int(number)]]
    assert End(int(number)).close(b"hello", iv=iv) == packet
    assert End(int(number)).close(b"llo", header=b"he", iv=iv) == packet
    assert End(int(number)).open(packet) == b"hello"
    assert End(int(number)).open_in_place(packet) == b"hello"


ZERO = "00" * 16
LADIES = b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen would be it."
PUBLISHED = [
    # The GCM specification (McGrew, Viega), test cases 2, 8, 14: key, IV and data all zero; and 3.
    (895, ZERO, "00" * 12, ZERO, "0388dace60b6a392f328c2b971b2fe78ab6e47d42cec13bdf53a67b21257bddf"),
    (898, ZERO, "00" * 12, ZERO, "98e7247c07f0fe411c267e4384b0f6002ff58d80033927ab8ef4d4587514f0fb"),
    (901, ZERO, "00" * 12, ZERO, "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919"),
    (
        895,
        "feffe9928665731c6d6a8f9467308308",
        "cafebabefacedbaddecaf888",
        "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
        "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b391aafd255",
        "42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e"
        "21d514b25466931c7d8f6a5aac84aa051ba30b396a0aac973d58e091473f5985"
        "4d5c2af327cd64a62cf35abd2ba6fab4",
    ),
    # NIST SP 800-38A, F.5.1, F.5.3, F.5.5, the first block.
    (
        904,
        "2b7e151628aed2a6abf7158809cf4f3c",
        "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff",
        "6bc1bee22e409f96e93d7e117393172a",
        "874d6191b620e3261bef6864990db6ce",
    ),
    (
        905,
        "8e73b0f7da0e6452c810f32b809079e562f8ead2522c6b7b",
        "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff",
        "6bc1bee22e409f96e93d7e117393172a",
        "1abc932417521ca24f2b0459fe7e6e0b",
    ),
    (
        906,
        "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4",
        "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff",
        "6bc1bee22e409f96e93d7e117393172a",
        "601ec313775789a5b7a7f504bbf3d228",
    ),
]


@pytest.mark.parametrize(("cipher", "key", "iv", "plain", "sealed"), PUBLISHED)
def test_published_vectors(cipher: int, key: str, iv: str, plain: str, sealed: str) -> None:
    """Where the IV has the phase bit set, the packet is opened only: with a fresh key ours would not have it."""
    octets = bytes.fromhex(key).ljust(32, b"\0")
    packet, data = bytes.fromhex(iv + sealed), bytes.fromhex(plain)
    assert End(cipher, octets).open(packet) == data
    if packet[0] < 0x80:
        assert End(cipher, octets).close(data, iv=packet[: IV[cipher]]) == packet


def test_rfc_8439() -> None:
    """2.8.2: its ciphertext; its tag is over associated data too, of which packets have none."""
    key = bytes(range(0x80, 0xA0))
    packet = End(1018, key).close(LADIES, iv=bytes.fromhex("070000004041424344454647"))
    assert packet[12:-16] == bytes.fromhex(
        "d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d63dbea45e8ca9671282fafb69da92728b"
        "1a71de0a9e060b2905d6a5b67ecd3b3692ddbd7f2d778b8c9803aee328091b58fab324e4fad675945585808b4831d7bc"
        "3ff4def08e4b7a9de576d26586cec64b6116"
    )
    assert Model(1018, key, 1 << 20).open(packet) == LADIES


def derive(key: bytes, salt: bytes, info: bytes, length: int) -> str:
    out = ffi.new("uint8_t[]", length)
    assert lib.hkdf_sha256(key, len(key), salt, len(salt), info, len(info), out, length) == 0
    return bytes(ffi.buffer(out)).hex()


def test_rfc_5869() -> None:
    """Test cases 1 to 3."""
    assert (
        derive(b"\x0b" * 22, bytes(range(13)), bytes(range(0xF0, 0xFA)), 42)
        == "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"
    )
    assert (
        derive(bytes(range(0x50)), bytes(range(0x60, 0xB0)), bytes(range(0xB0, 0x100)), 82)
        == "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e09"
        "da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87"
    )
    assert (
        derive(b"\x0b" * 22, b"", b"", 42)
        == "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8"
    )


def test_keys_of_the_specification() -> None:
    """Its rotated keys come out of our model, and our C follows the model (below)."""
    first = hkdf(KEY, bytes.fromhex("f1cf611aebe5c8890414366cbcffb04ee3cb682b1095b422ae5ecda682451d59"))
    assert first.hex() == "046ada72b0297f9c52517e465551b2f5e145462bfb6ad96ea4efec90be798ca6"
    model = Model(901, KEY, 4)
    for _ in range(8):
        model.close(b"x")
    assert model.current.hex() == "62ec26dce793d0da01104da799783dfa7b09253d3022d41ff4a6000126f02b13"


# ---------------------------------------------------------------- what there is to refuse


def test_only_ciphers_that_there_are() -> None:
    for cipher, period in ((0, 1024), (903, 1024), (901, 1000), (901, 2)):
        assert lib.cipher_create(cipher, KEY, period) == ffi.NULL
        assert ffi.errno == errno.EINVAL


@pytest.mark.parametrize("cipher", SEALED)
def test_spoilt_at_any_bit_and_cut_at_any_octet(cipher: int) -> None:
    """Refused; and what was not spoilt is opened as if nothing had been."""
    ours, peer = End(cipher), End(cipher)
    packet = peer.close(b"a packet of some length", header=b"header")
    for bit in range(8 * len(packet)):
        spoilt = bytearray(packet)
        spoilt[bit // 8] ^= 1 << bit % 8
        assert ours.open(bytes(spoilt)) is None
        assert ours.open_in_place(bytes(spoilt)) is None
    for length in range(len(packet)):
        assert ours.open(packet[:length]) is None
    assert ours.open(packet) == b"headera packet of some length"
    assert ours.epoch == 0


@pytest.mark.parametrize("cipher", STREAM)
def test_cut_streams(cipher: int) -> None:
    packet = End(cipher).close(b"data")
    for length in range(16):
        assert End(cipher).open(packet[:length]) is None
    assert End(cipher).open(packet[:18]) == b"da"


def test_sent_again_by_a_prototype() -> None:
    """Its retransmissions are pieces of ciphertext with a clear number in octets 8 to 11: dropped (6.3)."""
    ours, peer = End(901), End(901)
    before = peer.close(bytes(12) + b"lost")
    again = before[12:28][:8] + b"\0\0\0\x07" + before[12:28][12:]
    assert len(again) == 16
    assert ours.open(again) is None
    assert ours.open(again.ljust(48, b"\x55")) is None
    assert ours.open(peer.close(bytes(12) + b"next")) == bytes(12) + b"next"


def test_a_forger_cannot_move_the_key() -> None:
    """A hundred thousand forged packets, of both phases: our key stays where the peer's is."""
    ours, peer = End(901, period=64), End(901, period=64)
    shuffled = random.Random(4)
    for _ in range(100):
        for _ in range(1000):
            assert ours.open(shuffled.randbytes(40)) is None
        assert ours.open(peer.close(b"genuine")) == b"genuine"
        assert peer.open(ours.close(b"answer")) == b"answer"
    assert ours.epoch == 200 // 64 == peer.epoch


# ---------------------------------------------------------------- IVs


def test_no_iv_comes_twice() -> None:
    """Of two ciphers, in two processes after a fork."""
    one, other = End(901), End(1018)
    seen = {end.close(b"")[:12] for _ in range(5000) for end in (one, other)}
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        for _ in range(500):
            os.write(writer, one.close(b"")[:12])
        os._exit(0)
    os.close(writer)
    with open(reader, "rb") as pipe:
        octets = pipe.read()
    os.waitpid(child, 0)
    seen |= {octets[i : i + 12] for i in range(0, len(octets), 12)}
    seen |= {one.close(b"")[:12] for _ in range(500)}
    assert len(seen) == 11000
    ones = sum(int.from_bytes(iv, "big").bit_count() for iv in seen)
    assert abs(ones / len(seen) - 95 / 2) < 0.5  # all bits but the phase are random
    assert all(iv[0] < 0x80 for iv in seen)


# ---------------------------------------------------------------- rotation

PATTERNS = [
    *[(cipher, pattern) for cipher in SEALED for pattern in ("a", "b", "ab", "ba", "aaaaabbb")],
    # Without a tag, who sends to and fro with the key of the specification loses packets whenever it changes.
    *[(cipher, pattern) for cipher in STREAM for pattern in ("a", "b")],
]


@pytest.mark.parametrize(("cipher", "pattern"), PATTERNS)
def test_rotates_as_the_specification_says(cipher: int, pattern: str) -> None:
    """Ours at one end, the model at the other, nothing lost: phase bits and keys are the same all the way."""
    ours, model = End(cipher, period=32), Model(cipher, KEY, 32)
    twin = Model(cipher, KEY, 32)  # what the specification would do in our place
    for i, who in enumerate(islice(cycle(pattern), 1000)):
        data = b"%d" % i
        if who == "a":
            packet, expected = ours.close(data), twin.close(data)
            assert packet[0] >> 7 == expected[0] >> 7
            assert model.open(packet) == data
        else:
            packet = model.close(data)
            assert twin.open(packet) == data
            assert (ours.open if i % 2 else ours.open_in_place)(packet) == data
        assert ours.epoch == twin.epoch
    assert ours.epoch >= 30


class Link:
    """Loses, and delays each packet by less than `late` ticks, so that some overtake others; by a seed."""

    def __init__(self, seed: int, loss: float, late: int) -> None:
        self.random, self.loss, self.late = random.Random(seed), loss, late
        self.on_its_way: list[tuple[int, bytes, bytes]] = []

    def send(self, now: int, packet: bytes, data: bytes) -> None:
        if self.random.random() >= self.loss:
            heappush(self.on_its_way, (now + self.random.randrange(self.late), packet, data))

    def deliver(self, now: int, opened: Callable[[bytes], bytes | None]) -> None:
        while self.on_its_way and self.on_its_way[0][0] <= now:
            _, packet, data = heappop(self.on_its_way)
            assert opened(packet) == data


@pytest.mark.parametrize("loss", [0, 0.1, 0.5])
@pytest.mark.parametrize("back", [0, 0.05, 0.5, 1])
@pytest.mark.parametrize("seed", range(3))
def test_rotates_over_a_bad_link(seed: int, loss: float, back: float) -> None:
    """Ours at both ends; loss, reordering, packets on their way while keys change: whatever arrives is opened."""
    a, b = End(901, period=128), End(901, period=128)
    there, here = Link(seed, loss, 8), Link(seed + 100, loss, 8)
    chance = random.Random(seed)
    for i in range(5000):
        data = b"%d" % i
        there.send(i, a.close(data), data)
        there.deliver(i, b.open if i % 2 else b.open_in_place)
        if chance.random() < back:
            here.send(i, b.close(data), data)
        here.deliver(i, a.open)
    assert a.epoch >= 5000 // 128 and abs(a.epoch - b.epoch) <= 1


def test_after_a_long_silence() -> None:
    """What was sent while the link was cut has changed the key ten times. The reader finds it, at the price of some packets."""
    a, b = End(901, period=64), End(901, period=64)
    assert b.open(a.close(b"before")) == b"before"
    for _ in range(640):
        a.close(b"lost")
    after = [b.open(a.close(b"after")) for _ in range(80)]
    assert after[-16:] == [b"after"] * 16
    assert a.open(b.close(b"answer")) == b"answer"


def test_old_packets_are_not_opened_for_ever() -> None:
    """The key before is forgotten once half a period has been sent with the next."""
    a, b = End(901, period=64), End(901, period=64)
    old = a.close(b"old")
    for _ in range(70):
        assert b.open(a.close(b"new")) == b"new"
    assert b.epoch == 1
    assert b.open(old) == b"old"
    for _ in range(40):
        b.close(b"answer")
    assert b.open(old) is None


def test_a_writer_who_does_not_read() -> None:
    """What the peer sent waits while the writer's key changes five times; then it is read."""
    a, b = End(901, period=64), End(901, period=64)
    waiting = [a.close(b"%d" % i) for i in range(10)]
    for _ in range(5 * 64):
        b.close(b"busy")
    assert b.epoch == 5
    assert [b.open(packet) for packet in waiting] == [b"%d" % i for i in range(10)]


def test_four_threads() -> None:
    """Each end is written and read at once, while its key changes some dozens of times: everything is opened."""
    a, b = End(901, period=512), End(901, period=512)
    done = {a: 0, b: 0}
    bad: list[bytes] = []

    def write(end: End, to: SimpleQueue[bytes]) -> None:
        for i in range(8000):
            while (
                i > done[end] + 1000 or to.qsize() > 100
            ):  # who reads too late does not find the key any more
                os.sched_yield()
            to.put(end.close(b"%d" % i))

    def read(end: End, source: SimpleQueue[bytes]) -> None:
        for i in range(8000):
            if end.open(packet := source.get()) != b"%d" % i:
                bad.append(packet)
            done[end] += 1

    there: SimpleQueue[bytes] = SimpleQueue()
    back: SimpleQueue[bytes] = SimpleQueue()
    calls = [(write, a, there), (read, b, there), (write, b, back), (read, a, back)]
    threads = [Thread(target=call, args=(end, queue)) for call, end, queue in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not bad
    assert a.epoch >= 20 and abs(a.epoch - b.epoch) <= 1
