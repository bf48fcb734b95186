"""Frames in C, over socket pairs in place of a device: frames sent, received, dropped and counted."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator
from contextlib import nullcontext
from errno import EADDRINUSE, EAGAIN, EBADF, EINVAL
from typing import Any

import pytest

from ipcpd.dataplane.eth import DROPS, Eth, Framing, PacketNic
from ipcpd.dataplane.punt import Punt
from ipcpd.wire import dix, llc, mac
from ipcpd.wire.dix import Frame
from irmd.memory import Memory
from ouroboros.qos import QOS_BEST_EFFORT, QOS_VOICE
from tests.unit.dataplane.shm import SLOTS, End, Process, is_error, packet
from tests.unit.ipcpd.relays import Relay, lib
from tests.unit.wire.captures import dissected

ME, PEER, STRANGER = b"\2\0\0\0\0\1", b"\2\0\0\0\0\2", b"\2\0\0\0\0\3"
ETHERTYPE = 0xA000
MTU = 1500
QUOTA = 1 << 16


class Handle:
    """What `Eth` wants of a relay."""

    def __init__(self, relay: Relay) -> None:
        self.handle = nullcontext(relay.relay)


class Link:
    """An ethernet IPCP's data plane, stepped by hand. `wire` puts frames into it, `sent` gets what it sends."""

    def __init__(self, memory: Memory, framing: Framing = Framing.DIX, *, mtu: int = MTU) -> None:
        self.memory = memory
        self.relay = Relay(memory)
        self.punt = Punt()
        self.managed: list[bytes] = []
        self.punt.component(0, QUOTA, lambda _fd, frame: self.managed.append(frame))
        self.wire, self._receiver = self._pair()
        pairs = [self._pair() for _ in range(3)]
        self.out = [pair[0] for pair in pairs]
        self._senders = [pair[1] for pair in pairs]
        self.eth = Eth(
            Handle(self.relay),  # type: ignore[arg-type]
            self.punt,
            component=0,
            framing=framing,
            ethertype=ETHERTYPE,
            nic=PacketNic(self._receiver.fileno(), tuple(one.fileno() for one in self._senders)),
        )
        self.framing = framing
        self.eth.device(ME, mtu - (4 if framing is Framing.DIX else 3))
        self.now = 1_000_000_000

    @staticmethod
    def _pair() -> tuple[socket.socket, socket.socket]:
        one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        one.setblocking(False)
        return one, other

    def flow(
        self, endpoint: int, peer_endpoint: int = 0, *, cube: int = 0, user: Process | None = None
    ) -> tuple[int, End]:
        """A flow with that endpoint; connected when the peer's is given."""
        fd, end = self.relay.flow(user or Process(self.memory))
        lib.relay_cube(self.relay.relay, fd, cube)
        self.eth.open(fd, endpoint, PEER)
        if peer_endpoint:
            self.eth.connect(fd, peer_endpoint, PEER)
        return fd, end

    def step(self, *frames: bytes, times: int = 1) -> None:
        """Let frames come in, and the packet thread do its work."""
        for frame in frames:
            self.wire.send(frame)
            lib.relay_step(self.relay.relay, self.now)
        for _ in range(times):
            lib.relay_step(self.relay.relay, self.now)
        self.punt.dispatch()

    def sent(self, cube: int = 0) -> list[bytes]:
        """Frames that went out."""
        frames = []
        try:
            while True:
                frames.append(self.out[cube].recv(1 << 17))
        except BlockingIOError:
            return frames

    @property
    def dropped(self) -> dict[str, int]:
        """What was dropped, by reason, where it is not 0."""
        return {reason: count for reason, count in self.eth.counters().dropped.items() if count}

    def close(self) -> None:
        self.eth.close()
        self.relay.close()
        self.punt.close()
        for one in (self.wire, self._receiver, *self.out, *self._senders):
            one.close()


@pytest.fixture
def link(memory: Memory) -> Iterator[Link]:
    link = Link(memory)
    yield link
    link.close()


@pytest.fixture
def llc_link(memory: Memory) -> Iterator[Link]:
    link = Link(memory, Framing.LLC)
    yield link
    link.close()


def to_us(eid: int, payload: bytes, source: bytes = PEER) -> bytes:
    return dix.encode(Frame(ME, source, eid, payload))


def sap_to_us(dsap: int, ssap: int, payload: bytes, source: bytes = PEER) -> bytes:
    return llc.encode(llc.Frame(ME, source, dsap, ssap, payload))


# ---------------------------------------------------------------- sending


@pytest.mark.parametrize("payload", [b"", b"x", b"hello", bytes(range(256)) * 5, bytes(MTU - 4)])
def test_what_a_process_writes_is_the_payload_of_a_frame(link: Link, payload: bytes) -> None:
    _, end = link.flow(70, 99)
    assert end.write(payload) == len(payload)
    link.step()
    assert link.sent() == [dix.encode(Frame(PEER, ME, 99, payload))]


@pytest.mark.parametrize("payload", [b"", b"x", bytes(range(256)) * 5, bytes(MTU - 3)])
def test_and_of_a_frame_with_llc(llc_link: Link, payload: bytes) -> None:
    _, end = llc_link.flow(63, 2)
    end.write(payload)
    llc_link.step()
    assert llc_link.sent() == [llc.encode(llc.Frame(PEER, ME, 2, 63, payload))]


def test_packets_keep_their_order_through_many_batches(link: Link) -> None:
    _, end = link.flow(70, 99)
    packets = [packet(n, 8 + n % 1400) for n in range(300)]
    frames = []
    for one in packets:
        assert end.write(one) == len(one)
    for _ in range(200):
        link.now += 10_000_000
        link.step()
        frames += link.sent()
    assert frames == [dix.encode(Frame(PEER, ME, 99, one)) for one in packets]


def test_nothing_leaves_before_the_other_end_is_known(link: Link) -> None:
    fd, end = link.flow(70)
    end.write(b"early")
    link.step(times=3)
    assert link.sent() == []
    link.eth.connect(fd, 99, PEER)
    link.step()
    assert link.sent() == [dix.encode(Frame(PEER, ME, 99, b"early"))]


def test_a_packet_that_no_frame_carries_is_dropped_and_the_others_are_not(link: Link) -> None:
    fd, end = link.flow(70, 99)
    for payload in (b"1", bytes(MTU - 3), b"2", bytes(5000), bytes(60000), b"3"):
        end.write(payload)
    link.step(times=3)
    assert [dix.decode(frame).payload for frame in link.sent()] == [b"1", b"2", b"3"]
    assert link.dropped == {"oversize": 3}
    assert link.relay.stats(fd)["dropped"] == 3


def test_a_device_with_another_mtu_and_address(link: Link) -> None:
    _, end = link.flow(70, 99)
    link.eth.device(STRANGER, 100)
    end.write(bytes(101))
    end.write(bytes(100))
    link.step(dix.encode(Frame(STRANGER, PEER, 70, b"in")), times=2)
    assert link.sent() == [dix.encode(Frame(PEER, STRANGER, 99, bytes(100)))]
    assert end.read() == b"in"


def test_a_full_device_makes_packets_wait_and_none_is_lost(link: Link) -> None:
    _, end = link.flow(70, 99)
    written = 0
    while end.write(packet(written, 1000)) > 0:
        written += 1
    assert written > 100
    frames: list[bytes] = []
    for _ in range(10 * written):
        link.step()
        if link.eth.counters().full % 3 == 2:
            frames += link.sent()
        link.now += 100_000
    frames += link.sent()
    assert [dix.decode(frame).payload for frame in frames] == [packet(n, 1000) for n in range(written)]
    assert link.eth.counters().full > 0
    assert link.dropped == {}


def test_voice_does_not_wait_for_room_behind_data(link: Link) -> None:
    _, data = link.flow(70, 99, cube=QOS_BEST_EFFORT.cube)
    _, voice = link.flow(71, 98, cube=QOS_VOICE.cube)
    while data.write(bytes(1000)) > 0:
        pass
    link.step(times=5)
    assert link.eth.counters().full > 0
    voice.write(b"voice")
    link.step()
    assert link.sent(2) == [dix.encode(Frame(PEER, ME, 98, b"voice"))]


def test_a_device_that_is_gone_loses_packets_and_counts_them(link: Link) -> None:
    _, end = link.flow(70, 99)
    for one in link.out:
        one.close()
    end.write(b"1")
    end.write(b"2")
    link.step(times=2)
    assert link.dropped == {"device": 2}


# ---------------------------------------------------------------- receiving


@pytest.mark.parametrize("padding", [0, 1, 46, 500])
def test_the_length_says_what_is_payload(link: Link, padding: int) -> None:
    _, end = link.flow(70, 99)
    link.step(to_us(70, b"payload") + bytes(padding), to_us(70, b"") + bytes(padding))
    assert end.drain() == [b"payload"], "the empty packet is a keep-alive, which a reader does not see"
    assert link.eth.counters().delivered == 2


@pytest.mark.parametrize("padding", [0, 46])
def test_and_so_it_does_with_llc(llc_link: Link, padding: int) -> None:
    _, end = llc_link.flow(2, 63)
    llc_link.step(sap_to_us(2, 63, b"payload") + bytes(padding), sap_to_us(2, 63, b"") + bytes(padding))
    assert end.drain() == [b"payload"]
    assert llc_link.eth.counters().delivered == 2


def test_data_that_overtakes_the_reply_is_not_lost(link: Link, llc_link: Link) -> None:
    _, end = link.flow(70)
    link.step(to_us(70, b"early"))
    assert end.read() == b"early"
    _, end = llc_link.flow(5)
    llc_link.step(sap_to_us(5, 33, b"early"))
    assert end.read() == b"early"


def test_the_largest_frame(memory: Memory) -> None:
    link = Link(memory, mtu=9000)
    _, end = link.flow(70, 99)
    for _ in range(3):
        link.step(to_us(70, bytes(8996)))
        assert end.read() == bytes(8996)
    end.write(bytes(8996))
    link.step()
    assert link.sent() == [dix.encode(Frame(PEER, ME, 99, bytes(8996)))]
    link.step(to_us(70, bytes(9100)))
    assert link.dropped == {"length": 1}
    link.close()


def _bad() -> Iterator[tuple[str, bytes]]:
    good = to_us(70, b"x" * 50)
    yield "short", b""[:0] or b"\0"
    yield "short", good[:17]
    yield "short", good[:12] + b"\x08\x00" + good[14:]
    yield "length", good[:60]
    yield "length", good[:16] + b"\xff\xff" + good[18:]
    yield "length", good + bytes(2000)
    yield "foreign", STRANGER + good[6:]
    yield "foreign", mac.BROADCAST + good[6:]
    yield "source", good[:6] + STRANGER + good[12:]
    yield "source", good[:6] + mac.BROADCAST + good[12:]
    yield "endpoint", to_us(71, b"x")
    yield "endpoint", good[:14] + b"\xff\xff" + good[16:]
    yield "endpoint", good[:14] + b"\x10\x00" + good[16:]


@pytest.mark.parametrize(("reason", "frame"), list(_bad()))
def test_a_frame_that_is_not_what_it_should_be(link: Link, reason: str, frame: bytes) -> None:
    _, end = link.flow(70, 99)
    link.step(frame)
    assert link.dropped == {reason: 1}
    assert end.drain() == [] and link.managed == []
    assert link.eth.counters().received == 1


def _bad_llc() -> Iterator[tuple[str, bytes]]:
    good = sap_to_us(2, 63, b"x" * 50)
    yield "short", good[:16]
    yield "short", good[:16] + b"\x02" + good[17:]  # not unnumbered information
    yield "short", good[:12] + b"\x08\x00" + good[14:]  # an ethertype
    yield "length", good[:12] + b"\0\x02" + good[14:]
    yield "length", good[:40]
    yield "foreign", STRANGER + good[6:]
    yield "foreign", mac.BROADCAST + good[6:]
    yield "source", good[:6] + STRANGER + good[12:]
    yield "source", sap_to_us(2, 62, b"x")
    yield "source", good[:15] + b"\x80" + good[16:]  # from management
    yield "endpoint", sap_to_us(3, 63, b"x")
    yield "endpoint", good[:14] + b"\xff" + good[15:]


@pytest.mark.parametrize(("reason", "frame"), list(_bad_llc()))
def test_an_llc_frame_that_is_not_what_it_should_be(llc_link: Link, reason: str, frame: bytes) -> None:
    _, end = llc_link.flow(2, 63)
    llc_link.step(frame)
    assert llc_link.dropped == {reason: 1}
    assert end.drain() == [] and llc_link.managed == []


def test_management_goes_to_the_control_plane_without_its_padding(link: Link, llc_link: Link) -> None:
    query = dix.encode(Frame(mac.BROADCAST, PEER, 0, b"query"))
    link.step(query + bytes(40), to_us(0, b"reply"))
    assert link.managed == [query, to_us(0, b"reply")]
    query = llc.encode(llc.Frame(mac.BROADCAST, PEER, 1, 1, b"query"))
    llc_link.step(query + bytes(40))
    assert llc_link.managed == [query]


def test_a_flood_of_management_is_dropped_and_no_flow_notices(link: Link) -> None:
    _, end = link.flow(70, 99)
    link.punt.dispatch = lambda: 0  # type: ignore[method-assign]  # the control plane has no time
    for n in range(200):
        link.step(to_us(0, bytes(1000)))
        link.step(to_us(70, packet(n, 100)))
    assert end.drain() == [packet(n, 100) for n in range(200)]
    counters = link.eth.counters()
    assert counters.management + link.dropped["management"] == 200
    assert counters.management * 1000 < QUOTA


def test_a_process_that_does_not_read_loses_its_own_packets_only(link: Link) -> None:
    slow_fd, slow = link.flow(70, 99)
    _, quick = link.flow(71, 98)
    for n in range(SLOTS + 100):
        link.step(to_us(70, packet(n, 100)), to_us(71, packet(n, 100)))
        assert quick.read() == packet(n, 100)
    assert link.dropped["full"] > 0
    assert link.relay.stats(slow_fd)["dropped"] == link.dropped["full"]
    got = slow.drain()
    assert got == [packet(n, 100) for n in range(len(got))]
    link.step(to_us(70, b"again"))
    assert slow.read() == b"again"


def test_flows_of_another_user(link: Link, memory: Memory) -> None:
    user = Process(memory, memory.pool(65534, trusted=False))
    _, end = link.flow(70, 99, user=user)
    end.write(b"out")
    link.step(to_us(70, b"in"))
    assert end.read() == b"in"
    assert link.sent() == [dix.encode(Frame(PEER, ME, 99, b"out"))]


# ---------------------------------------------------------------- control


def test_an_endpoint_belongs_to_one_flow(link: Link) -> None:
    fd, _ = link.flow(70)
    other, _ = link.relay.flow(Process(link.memory))
    for attempt, number in (
        (lambda: link.eth.open(other, 70, PEER), EADDRINUSE),
        (lambda: link.eth.open(fd, 71, PEER), EADDRINUSE),
        (lambda: link.eth.open(other, 0, PEER), EINVAL),
        (lambda: link.eth.open(other, 4096, PEER), EINVAL),
        (lambda: link.eth.open(9999, 80, PEER), EBADF),
        (lambda: link.eth.connect(other, 80, PEER), EBADF),
        (lambda: link.eth.connect(fd, 4096, PEER), EINVAL),
    ):
        with pytest.raises(OSError) as failure:
            attempt()
        assert failure.value.errno == number
    link.eth.open(fd, 70, STRANGER)  # another machine is asked
    link.step(to_us(70, b"x"), to_us(70, b"y", STRANGER))
    assert link.dropped == {"source": 1}


def test_an_endpoint_that_is_not_connected_can_be_left_for_another(link: Link) -> None:
    fd, _ = link.flow(70)
    link.eth.leave(fd)
    link.eth.open(fd, 71, PEER)
    link.eth.connect(fd, 80, PEER)
    link.step(to_us(70, b"x"))
    assert sum(link.dropped.values()) == 1
    for other in (fd, 9999):
        with pytest.raises(OSError) as failure:
            link.eth.leave(other)
        assert failure.value.errno == EBADF


@pytest.mark.parametrize("endpoint", [0, 1, 64, 4095])
def test_saps_that_do_not_exist(llc_link: Link, endpoint: int) -> None:
    fd, _ = llc_link.relay.flow(Process(llc_link.memory))
    with pytest.raises(OSError):
        llc_link.eth.open(fd, endpoint, PEER)


def test_what_was_written_before_the_end_still_leaves_and_the_endpoint_is_free(link: Link) -> None:
    fd, end = link.flow(70, 99)
    end.write(b"last words")
    link.relay.remove(fd)
    assert [dix.decode(frame).payload for frame in link.sent()] == [b"last words"]
    link.step(to_us(70, b"x"))
    assert link.dropped == {"endpoint": 1}
    _, end = link.flow(70, 99)
    link.step(to_us(70, b"y"))
    assert end.read() == b"y"


def test_captures_of_a_prototype_are_received_and_sent_again_the_same(link: Link, llc_link: Link) -> None:
    seen = 0
    for name, where, kind in (
        ("oping-eth.pcap", link, Frame),
        ("uni4-ab.pcap", link, Frame),
        ("eth-llc.pcap", llc_link, llc.Frame),
    ):
        for one in dissected(name):
            frame: Any = next((layer.value for layer in one.layers if isinstance(layer.value, kind)), None)
            if frame is None:
                continue
            where.eth.device(frame.destination if frame.destination != mac.BROADCAST else ME, 1496)
            endpoint = frame.eid if kind is Frame else frame.dsap
            if endpoint in (0, 1) and kind is not Frame or endpoint == 0:
                where.step(one.captured.octets)
                assert one.captured.octets.startswith(where.managed.pop())
                continue
            fd, end = where.relay.flow(Process(where.memory))
            where.eth.open(fd, endpoint, frame.source)
            where.step(one.captured.octets)
            assert end.read() == frame.payload
            # The same flow, seen from its other end.
            where.eth.device(frame.source, 1496)
            where.relay.remove(fd)
            fd, end = where.relay.flow(Process(where.memory))
            where.eth.open(fd, 70 if kind is Frame else frame.ssap, frame.destination)
            where.eth.connect(fd, endpoint, frame.destination)
            end.write(frame.payload)
            where.step()
            (again,) = where.sent()
            assert one.captured.octets.startswith(again)
            where.relay.remove(fd)
            seen += 1
    assert seen > 40
    assert link.dropped == llc_link.dropped == {}


# ---------------------------------------------------------------- anything at all


@pytest.mark.parametrize("framing", list(Framing))
def test_ten_thousand_bad_frames_do_not_disturb_a_flow(memory: Memory, framing: Framing) -> None:
    rng = random.Random(1)
    link = Link(memory, framing)
    make = to_us if framing is Framing.DIX else (lambda e, data, source=PEER: sap_to_us(e, 33, data, source))
    _, end = link.flow(60, 33)
    good = [make(60, rng.randbytes(50)), make(0, b"m") if framing is Framing.DIX else make(60, b"x")]
    expected = 0
    for n in range(10_000):
        frame = bytearray(rng.choice(good))
        match rng.randrange(4):
            case 0:
                frame = bytearray(rng.randbytes(rng.randrange(1, 1600)))
            case 1:
                frame = frame[: rng.randrange(1, len(frame))]
            case 2:
                frame += rng.randbytes(rng.randrange(1500, 3000))
            case 3:
                for _ in range(rng.randrange(1, 9)):
                    frame[rng.randrange(18)] ^= 1 << rng.randrange(8)
        link.step(bytes(frame))
        if n % 100 == 0:
            end.drain()
            link.step(make(60, b"valid" + bytes([n // 100])))
            assert end.drain()[-1] == b"valid" + bytes([n // 100])
            expected += 1
    counters = link.eth.counters()
    assert counters.received == 10_000 + expected
    assert counters.received == counters.delivered + counters.management + sum(counters.dropped.values())
    assert set(counters.dropped) == set(DROPS)
    assert sum(counters.dropped.values()) > 5_000
    end.drain()
    assert is_error(end.read(), EAGAIN)
    link.close()
