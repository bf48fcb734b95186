"""FRCP on a flow end whose peer is broken or hostile: bounded memory, a bounded wait, and undisturbed other flows.

The peer has no FRCP: it writes any octets into the ring. The fixtures check at their end that no block was lost.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from errno import EAGAIN
from threading import Event, Thread
from typing import Any

import pytest

from ouroboros.dataplane._dataplane import ffi, lib
from ouroboros.errors import EFLOWDOWN
from tests.unit.dataplane.shm import EMUSTSLEEP, RDWR, SLOTS, Pair, Raw, packet

DATA, DRF, ACK, FC, RDV, FIRST, MORE = 1, 2, 4, 8, 16, 32, 64
OURS = 1000
"""Our first sequence number."""

MOST = 8 << 20
"""Octets that one end keeps at most, of what it sends and of what it receives."""

OPTIONS = {"mpl_ms": 100, "retransmit": True, "fragments": True, "selective": True, "first": OURS}


def pci(flags: int, *, window: int = 0, seq: int = 0, ackno: int = 0, data: bytes = b"") -> bytes:
    """A packet as it is on the wire."""
    return bytes([flags]) + (window & 0xFFFFFF).to_bytes(3) + struct.pack(">II", seq, ackno) + data


class Victim:
    """Our end, `b` of the pair, and what it keeps."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self.peer, self.end = pair.a, pair.b
        self.now = int(lib.wait_now())
        assert lib.frcp_io_begin(self.end.handle, ffi.new("struct frcp_config *", OPTIONS)) == 0

    def look(self) -> Any:
        machine = ffi.new("struct frcp *")
        assert lib.frcp_io_look(self.end.handle, machine) == 0
        return machine

    def visit(self, later: int = 0) -> None:
        """What the thread does, twice: what came meanwhile nobody reads. `later`: in ns."""
        woken = ffi.new("bool *")
        self.now = max(self.now, int(lib.wait_now())) + later
        for _ in range(2):
            lib.frcp_io_poll(self.end.handle, self.now, woken)
        self.bounded()

    def bounded(self) -> None:
        machine = self.look()
        assert machine.tx.sendq.octets <= machine.tx.sendq.size <= MOST
        assert machine.rx.recvq.octets <= MOST

    def say(self, *packets: bytes) -> None:
        """The peer says this, and our end hears it; what it answers is thrown away."""
        for one in packets:
            while self.peer.write(one) == -EAGAIN:
                self.visit()
                self.peer.drain()
        self.visit()
        self.peer.drain()

    def fill(self, size: int = 1000) -> int:
        """Write until there is no room. Returns how many packets were taken."""
        n = 0
        while (result := self.end.write(packet(n, size))) > 0:
            n += 1
            self.peer.drain()
            assert n < 1 << 16
        assert result == -EAGAIN
        self.bounded()
        return n

    def still_works(self) -> None:
        """A run that begins anew, where nothing was before."""
        machine = self.look()
        seq = int(machine.rx.want) if machine.rx.run else 77
        self.say(pci(DATA | DRF | FIRST, seq=seq, data=b"good"))
        got = self.end.drain()
        assert b"good" in got, got


@pytest.fixture
def victim(pair: Pair) -> Iterator[Victim]:
    yield Victim(pair)


def test_a_peer_that_never_acknowledges(victim: Victim) -> None:
    """What is kept is bounded, and so is the time: R."""
    assert victim.fill() == 64
    for _ in range(500):
        victim.visit(200_000_000)
        victim.peer.drain()
        assert victim.look().tx.sendq.count == 64
    assert victim.end.write(b"x") == -EAGAIN
    victim.visit(25_000_000_000)
    assert victim.end.write(b"x") == -EFLOWDOWN
    assert victim.end.read() == -EFLOWDOWN
    assert lib.flow_down_cause(victim.end.handle) & lib.DOWN_UNACKNOWLEDGED
    assert victim.look().tx.sendq.size == 0, "nothing is kept any more"


@pytest.mark.parametrize("ahead", [0, 0x10000, 0x7FFFFF, 0x800000, 0xFFFFFF])
def test_a_window_that_cannot_be_meant(victim: Victim, ahead: int) -> None:
    victim.say(pci(FC, window=OURS + ahead))
    assert victim.fill() == 64


def test_the_largest_window_there_is(victim: Victim) -> None:
    """It may be meant; our queue has a bound of its own."""
    victim.say(pci(FC, window=OURS + 0xFFFF))
    assert victim.fill() > 64
    assert victim.look().tx.sendq.octets <= 4 << 20


def test_a_window_that_goes_back(victim: Victim) -> None:
    victim.say(pci(FC, window=OURS + 200), pci(FC, window=OURS + 1))
    assert victim.fill() == 200


@pytest.mark.parametrize("ackno", [OURS + 11, OURS + 0x7FFFFFFF, OURS - 1, 0, 0xFFFFFFFF])
def test_an_acknowledgement_of_what_was_never_sent(victim: Victim, ackno: int) -> None:
    for i in range(10):
        assert victim.end.write(packet(i, 100)) == 100
    victim.say(pci(ACK, ackno=ackno, data=b"\xff" * 200))
    assert victim.look().tx.sendq.count == 10
    victim.say(pci(ACK, ackno=OURS + 10))
    assert victim.look().tx.sendq.count == 0


def test_a_map_that_says_it_has_everything_but_the_first(victim: Victim) -> None:
    """And never says that it has that."""
    victim.fill()
    for _ in range(200):
        victim.say(pci(ACK, ackno=OURS, data=b"\xff" * 256))
        victim.visit(1_000_000_000)
    assert victim.look().down == -EFLOWDOWN


def test_headers_that_are_garbage(victim: Victim) -> None:
    chance = random.Random(8)
    for _ in range(3000):
        victim.say(chance.randbytes(chance.choice([1, 3, 11, 12, 12, 13, 40, 300])))
    victim.end.drain()
    victim.bounded()


def test_garbage_behind_headers_that_are_right(victim: Victim) -> None:
    """Any flags, numbers near those that count."""
    chance = random.Random(9)
    victim.say(pci(DATA | DRF | FIRST, seq=500, data=b"begin"))
    for _ in range(5000):
        machine = victim.look()
        near = chance.choice([-300, -1, 0, 1, 2, 100, 255, 256, 2048])
        victim.say(
            pci(
                chance.randrange(256),
                window=int(machine.tx.una) + near,
                seq=(int(machine.rx.want) + near) & 0xFFFFFFFF,
                ackno=(int(machine.tx.una) + near) & 0xFFFFFFFF,
                data=bytes(chance.choice([0, 1, 100, 4000])),
            )
        )
        if chance.random() < 0.1:
            victim.end.drain()
        if chance.random() < 0.1:
            victim.end.write(b"y" * 50)


def test_fragments_without_an_end(victim: Victim) -> None:
    """A packet that grows and grows is given up; the next is read."""
    size = 4000
    n = (4 << 20) // size
    victim.say(pci(DATA | DRF | FIRST | MORE, seq=0, data=bytes(size)))
    for seq in range(1, n):
        victim.say(pci(DATA | MORE, seq=seq, data=bytes(size)))
    assert victim.look().rx.recvq.spoilt > 0
    victim.still_works()


def test_early_packets_for_ever(victim: Victim) -> None:
    """All but the one whose turn it is."""
    victim.say(pci(DATA | DRF | FIRST, seq=0, data=b"begin"))
    for turn in range(4):
        for seq in range(2, 3000):
            victim.say(pci(DATA | FIRST, seq=seq, data=bytes(1000 + turn)))
    assert victim.look().rx.recvq.early < 3000
    victim.still_works()


def test_a_flood_of_duplicates(victim: Victim) -> None:
    """Read once; and answered, but not each with more than one packet."""
    victim.say(pci(DATA | DRF | FIRST, seq=5, data=b"once"))
    before = int(victim.look().counters.control)
    for _ in range(5000):
        victim.peer.write(pci(DATA | DRF | FIRST, seq=5, data=b"once"))
        victim.visit()
    assert int(victim.look().counters.control) - before <= 5000
    victim.peer.drain()
    assert victim.end.drain() == [b"once"]
    victim.still_works()


def test_a_flood_of_rendez_vous(victim: Victim) -> None:
    victim.say(pci(DATA | DRF | FIRST, seq=5, data=b"x"))
    before = int(victim.look().counters.control)
    for _ in range(500):
        victim.say(*[pci(RDV)] * 8)
    assert int(victim.look().counters.control) - before <= 4000 + 10
    victim.still_works()


def test_a_peer_that_does_not_take_what_we_answer(victim: Victim) -> None:
    """Our acknowledgements find no room in its ring: they are not piled up, and what comes is still taken."""
    for seq in range(2000):
        flags = DATA | FIRST | (DRF if seq == 0 else 0)
        if victim.peer.write(pci(flags, seq=seq, data=b"z" * 10)) < 0:
            break  # the pool is exhausted, at its expense
        victim.visit(11_000_000)
        got = victim.end.drain()
        assert got == [b"z" * 10] or not got
    victim.peer.drain()


def test_an_application_that_does_not_read_disturbs_no_other_flow(victim: Victim) -> None:
    """It keeps what it may, tells its peer, and sends on."""
    sent = 0
    victim.say(pci(FC, window=OURS + 64))
    for seq in range(5000):
        victim.say(pci(DATA | FIRST | (DRF if seq == 0 else 0), seq=seq, data=bytes(500)))
    machine = victim.look()
    assert machine.rx.recvq.messages <= 512 and machine.rx.recvq.octets <= MOST
    while victim.end.write(b"still says something") > 0:
        sent += 1
        victim.peer.drain()
    assert sent == 64
    victim.say(pci(ACK | FC, ackno=OURS + 64, window=OURS + 65))
    assert victim.end.write(b"and hears") == 9


def test_the_peer_dies_in_the_middle(victim: Victim) -> None:
    """Fragments of a packet, and packets of a window, never come: what had come whole is read, then the end."""
    victim.say(
        pci(DATA | DRF | FIRST, seq=0, data=b"whole"),
        pci(DATA | FIRST | MORE, seq=1, data=b"beginning"),
        pci(DATA | FIRST, seq=3, data=b"early"),
    )
    assert victim.end.write(b"x") == 1
    victim.pair.flow.close_side(0)
    assert victim.end.read() == b"whole"
    assert victim.end.read() == -EFLOWDOWN
    assert victim.end.write(b"x") == -EFLOWDOWN
    assert lib.frcp_io_close(victim.end.handle) >= 0, "nobody lingers for it"


# ---- a peer that writes nonsense into the memory that the two ends share ----


@contextmanager
def storm(raw: Raw) -> Iterator[Event]:
    """The peer fills its ring again and again; the event is set when it has given up."""
    over = Event()

    def blow() -> None:
        for _ in range(50_000_000):
            raw.head(0, raw.tail(0) + SLOTS)
            if over.is_set():
                return
        over.set()

    for index in range(SLOTS):
        raw.slot(0, index, 0xFFFFFF << 40)
    thread = Thread(target=blow)
    thread.start()
    try:
        yield over
    finally:
        over.set()
        thread.join()
        raw.head(0, raw.tail(0))


@pytest.mark.parametrize("flags", [RDWR, RDWR | 0o1000], ids=["waiting", "not waiting"])
def test_a_peer_that_is_never_silent_holds_no_reader(victim: Victim, flags: int) -> None:
    """He comes back, and can look at his signals and his deadline, while the peer goes on."""
    victim.end.flags(flags)
    with storm(Raw(victim.pair.flow)) as over:
        for _ in range(20):
            assert victim.end.read() in (-EMUSTSLEEP, -EAGAIN)
            assert not over.is_set(), "it came back when the peer had given up"


@pytest.mark.parametrize("what", ["packets that cannot be", "room that cannot be"])
def test_an_index_that_cannot_be(victim: Victim, what: str) -> None:
    """Both directions are down, those who wait for events are told, and nobody lingers."""
    raw = Raw(victim.pair.flow)
    woken = ffi.new("bool *")
    victim.say(pci(DATA | DRF | FIRST, seq=0, data=b"begin"))
    assert victim.end.read() == b"begin"
    assert victim.end.write(b"not acknowledged") == 16
    if what.startswith("packets"):
        raw.head(0, raw.tail(0) + SLOTS + 1)
    else:
        raw.tail(1, raw.head(1) - SLOTS - 1)
    told = False
    for _ in range(SLOTS):  # some of what it answers takes the last of the room that it has seen
        if what.startswith("room"):
            victim.peer.write(pci(RDV))
        for _ in range(2):
            lib.frcp_io_poll(victim.end.handle, victim.now, woken)
            told = told or bool(woken[0] and lib.flow_down_cause(victim.end.handle))
    assert lib.flow_down_cause(victim.end.handle) & lib.DOWN_PEER_CORRUPT
    assert told
    assert victim.end.write(b"x") == -EFLOWDOWN
    assert victim.end.read() == -EFLOWDOWN
    assert lib.frcp_io_close(victim.end.handle) >= 0
    raw.tail(1, raw.head(1))
    raw.head(0, raw.tail(0))


def test_a_flow_that_went_down_rests_like_any_other(victim: Victim) -> None:
    """What it has sent may still be on its way (spec/frcp 10)."""
    assert victim.end.write(b"nobody acknowledges this") > 0
    victim.pair.flow.close_side(0)
    assert victim.end.write(b"x") == -EFLOWDOWN
    assert 129 <= lib.frcp_io_close(victim.end.handle) <= 131
