"""Flows over UDP in C: real sockets on loopback, a relay that the test steps, and a fake clock."""

from __future__ import annotations

import ctypes
import random
import select
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from errno import EADDRINUSE, EAGAIN, EBADF, EHOSTUNREACH, EINTR, EINVAL, EIO, EMSGSIZE, ENOBUFS, EPERM
from types import SimpleNamespace
from typing import Any

import pytest

from ipcpd.dataplane.punt import Punt
from ipcpd.dataplane.udp import Peer, Udp
from ipcpd.udp.address import Address
from irmd.memory import Memory
from tests.unit.dataplane.shm import End, Process, is_error, lengths, packet
from tests.unit.ipcpd.relays import Relay, ffi, lib

MAX_PACKET = 8976
LOOPBACK = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}
FAMILIES = [socket.AF_INET, socket.AF_INET6]


def bound(family: socket.AddressFamily = socket.AF_INET) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    sock.bind((LOOPBACK[family], 0))
    return sock


def peer(sock: socket.socket) -> Peer:
    host, port = sock.getsockname()[:2]
    return tuple(Address.of(host, port))


class Member:
    """A UDP IPCP's data plane: relay, socket, punt."""

    def __init__(self, memory: Memory, family: socket.AddressFamily, *, offload: bool = True) -> None:
        self.relay = Relay(memory)
        self.socket = bound(family)
        self.punt = Punt(1 << 16)
        self.heard: list[tuple[Peer, bytes]] = []
        self.now = 1
        self.udp = Udp(
            SimpleNamespace(handle=nullcontext(self.relay.relay)),  # type: ignore[arg-type]
            self.punt,
            component=0,
            quota=1 << 16,
            socket=self.socket.fileno(),
            max_packet=MAX_PACKET,
            on_management=lambda peer, datagram: self.heard.append((peer, datagram)),
            offload=offload,
        )

    @property
    def address(self) -> Peer:
        return peer(self.socket)

    def flow(self, process: Process, eid: int, other: Peer) -> tuple[int, End]:
        fd, end = self.relay.flow(process)
        self.udp.open(eid, fd, other)
        return fd, end

    def step(self) -> int:
        self.now += 1
        return int(lib.relay_step(self.relay.relay, self.now))

    def count(self, **wanted: int) -> None:
        """Step until the counters are these (what was sent on loopback may take the kernel a moment)."""
        while any(self.udp.counters()[name] < number for name, number in wanted.items()):
            if self.step() == 0:
                select.select([self.socket], [], [], 0.01)
        found = self.udp.counters()
        assert {name: found[name] for name in wanted} == wanted

    def close(self) -> None:
        self.udp.close()
        self.socket.close()
        self.relay.close()
        self.punt.close()


MakeMember = Callable[..., Member]


@pytest.fixture
def make_member(memory: Memory) -> Iterator[MakeMember]:
    members: list[Member] = []

    def make(family: socket.AddressFamily = socket.AF_INET, *, offload: bool = True) -> Member:
        members.append(Member(memory, family, offload=offload))
        return members[-1]

    yield make
    for member in members:
        member.close()


def joined(memory: Memory, a: Member, b: Member) -> tuple[End, End]:
    """A flow between two members: endpoint 100 of a, 200 of b."""
    _, here = a.flow(Process(memory), 100, b.address)
    _, there = b.flow(Process(memory), 200, a.address)
    a.udp.connect(100, 200)
    b.udp.connect(200, 100)
    return here, there


@pytest.mark.parametrize("offload", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_packets_pass_both_ways(
    memory: Memory, make_member: MakeMember, family: socket.AddressFamily, offload: bool
) -> None:
    """Of every size, many at a time, in order; none is lost while there is room."""
    a, b = make_member(family, offload=offload), make_member(family, offload=offload)
    here, there = joined(memory, a, b)
    sizes = (n for n in lengths() if n <= MAX_PACKET)
    sent = 0
    for turn in range(60):
        burst = [packet(turn * 10 + i, 0 if i == 3 else next(sizes)) for i in range(10)]
        for one, other, reader in ((here, a, (there, b)), (there, b, (here, a))):
            assert one.writev(burst) == 10
            other.step()
            end, member = reader
            got: list[bytes] = []
            while len(got) < 10:
                member.step()
                got += end.drain()
            assert got == burst
        sent += 10
    assert a.udp.counters()["sent"] == b.udp.counters()["received"] == sent
    assert a.udp.flow_counters(100)["sent"] == sent
    assert a.udp.flow_counters(100)["received_octets"] == a.udp.flow_counters(100)["sent_octets"]


def test_bytes_on_the_wire(memory: Memory, make_member: MakeMember) -> None:
    """The receiver's endpoint id in network order, then the packet; an empty packet is the id alone."""
    member = make_member()
    with closing(bound()) as other:
        _, end = member.flow(Process(memory), 64, peer(other))
        member.udp.connect(64, 0x0ABC)
        for data in (b"hello", b"hello", b"hello", b"", b"x" * MAX_PACKET):
            assert end.write(data) == len(data)
        member.step()
        for data in (b"hello", b"hello", b"hello", b"", b"x" * MAX_PACKET):
            assert select.select([other], [], [], 10)[0]
            assert other.recv(65536) == b"\0\0\x0a\xbc" + data


def test_runs_that_the_path_does_not_take_go_one_by_one(memory: Memory, make_member: MakeMember) -> None:
    """A path of 1500 octets: runs of larger datagrams are refused by the kernel, and sent as single ones."""
    member = make_member()
    with closing(bound()) as other:
        member.socket.setsockopt(socket.IPPROTO_IP, 10, 0)  # IP_MTU_DISCOVER: never
        _, end = member.flow(Process(memory), 64, peer(other))
        member.udp.connect(64, 70)
        for size in (8976, 3000, 8976):
            assert end.writev([bytes(size)] * 6) == 6
            member.step()
        sizes = []
        while len(sizes) < 18:
            assert select.select([other], [], [], 10)[0]
            sizes.append(len(other.recv(65536)) - 4)
    assert sizes == [8976] * 6 + [3000] * 6 + [8976] * 6
    assert member.udp.counters()["sent"] == 18


def test_nothing_is_sent_before_the_reply(memory: Memory, make_member: MakeMember) -> None:
    """Data that overtakes the reply is there when the reply is; what is written early waits."""
    member = make_member()
    with closing(bound()) as other:
        _, end = member.flow(Process(memory), 64, peer(other))
        other.sendto(b"\0\0\0\x40early", member.socket.getsockname())
        assert end.write(b"too soon") == 8
        member.count(received=1)
        assert end.drain() == [b"early"]
        assert member.udp.counters()["sent"] == 0
        member.udp.connect(64, 70)
        member.step()
        assert select.select([other], [], [], 10)[0]
        assert other.recv(100) == b"\0\0\0\x46too soon"


def test_management_goes_to_the_control_plane(make_member: MakeMember) -> None:
    for family in FAMILIES:
        member = make_member(family)
        with closing(bound(family)) as other:
            for message in (bytes(4), bytes(47) + b"x", bytes(2048), bytes(2049)):
                other.sendto(message, member.socket.getsockname())
            member.count(management=3, management_long=1)
            member.punt.dispatch()
            assert member.heard == [(peer(other), m) for m in (bytes(4), bytes(47) + b"x", bytes(2048))]


def test_a_flood_of_management_is_dropped_and_counted(memory: Memory, make_member: MakeMember) -> None:
    member = make_member()
    with closing(bound()) as other:
        _, end = member.flow(Process(memory), 64, peer(other))
        for n in range(100):
            other.sendto(bytes(1500), member.socket.getsockname())
            member.count(**{"management": min(n + 1, 42), "management_lost": max(0, n - 41)})
        other.sendto(b"\0\0\0\x40data", member.socket.getsockname())
        member.count(received=1)
        assert end.drain() == [b"data"]


def test_what_is_wrong_is_dropped_by_reason(memory: Memory, make_member: MakeMember) -> None:
    member = make_member()
    with closing(bound()) as other, closing(bound()) as stranger:
        _, end = member.flow(Process(memory), 64, peer(other))
        to = member.socket.getsockname()
        for runt in (b"", b"\0", b"\0\0\0"):
            other.sendto(runt, to)
        for eid in (1, 63, 65, 4095, 4096, 2**31, 2**32 - 1):
            other.sendto(struct.pack(">I", eid) + b"data", to)
        stranger.sendto(b"\0\0\0\x40injected", to)
        other.sendto(b"\0\0\0\x40" + bytes(MAX_PACKET + 1), to)
        other.sendto(b"\0\0\0\x40" + bytes(60000), to)
        other.sendto(b"\0\0\0\x40fine", to)
        member.count(short_header=3, unknown=7, stranger=1, too_long=2, received=1)
        assert end.drain() == [b"fine"]


def test_a_packet_that_is_too_large_is_not_sent(memory: Memory, make_member: MakeMember) -> None:
    member = make_member()
    with closing(bound()) as other:
        _, end = member.flow(Process(memory), 64, peer(other))
        member.udp.connect(64, 70)
        assert end.writev([b"one", bytes(MAX_PACKET + 1), b"two"]) == 3
        member.step()
        assert [other.recv(100), other.recv(100)] == [b"\0\0\0\x46one", b"\0\0\0\x46two"]
    counters = member.udp.counters()
    assert counters["send_too_long"] == 1 and counters["sent"] == 2
    assert member.udp.flow_counters(64)["dropped"] == 1


def test_errors_of_the_socket_end_nothing(memory: Memory, make_member: MakeMember) -> None:
    """No route, a closed port, a firewall: counted, and other flows go on."""
    member = make_member()
    with closing(bound()) as other, closing(bound()) as gone:
        closed = peer(gone)
        gone.close()
        ends = []
        # A socket bound to the loopback cannot send to another network.
        for eid, address in ((64, (bytes([203, 0, 113, 1]), 3435, 0)), (65, closed), (66, peer(other))):
            _, end = member.flow(Process(memory), eid, address)
            member.udp.connect(eid, 70)
            ends.append(end)
        for _ in range(3):
            for end in ends:
                assert end.writev([b"a", b"b", b"longer", b"c"]) == 4
            member.step()
        got = [other.recv(100)[4:] for _ in range(12)]
        assert got == [b"a", b"b", b"longer", b"c"] * 3
        assert member.udp.flow_counters(64)["dropped"] == 12
        assert sum(member.udp.counters()[name] for name in ("unreachable", "refused", "failed")) > 0


class Kernel:
    """Stands in the way of sendmmsg: each call gets the next of `answers`, a count of messages to let through or an errno
    (negative), and then all is let through."""

    def __init__(self, member: Member, *answers: int) -> None:
        self.answers = list(answers)
        self.asked: list[int] = []
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._callback = ffi.callback("udp_sender", self._send)
        with member.udp.handle as udp:
            lib.udp_send_with(udp, self._callback)

    def _send(self, fd: int, messages: Any, count: int, flags: int) -> int:
        self.asked.append(count)
        answer = self.answers.pop(0) if self.answers else count
        if answer < 0:
            ffi.errno = -answer
            return -1
        where = ctypes.c_void_p(int(ffi.cast("uintptr_t", messages)))
        return int(self._libc.sendmmsg(fd, where, min(count, answer), flags))


@pytest.mark.parametrize("offload", [True, False])
def test_a_full_socket_makes_the_port_wait(memory: Memory, make_member: MakeMember, offload: bool) -> None:
    """Nothing is lost or reordered, wherever the kernel stops; the port is tried again 0.1 ms later."""
    member = make_member(offload=offload)
    chance = random.Random(3)
    with closing(bound()) as other:
        _, end = member.flow(Process(memory), 64, peer(other))
        member.udp.connect(64, 70)
        kernel = Kernel(member, *(chance.choice((-EAGAIN, 1, 2, 3, -ENOBUFS, -EINTR)) for _ in range(40)))
        wrote = [packet(i, 20 + chance.randrange(3)) for i in range(200)]
        assert end.writev(wrote) == 200
        got: list[bytes] = []
        while len(got) < 200:
            full = member.udp.counters()["full"]
            member.step()
            if member.udp.counters()["full"] > full:
                asked = len(kernel.asked)
                member.step()
                assert len(kernel.asked) == asked, "the port waits"
                member.now += 100_000
            while select.select([other], [], [], 0)[0]:
                got.append(other.recv(65536)[4:])
        assert got == wrote
        counters = member.udp.counters()
        assert counters["full"] > 0 and counters["sent"] == 200
        assert not kernel.answers


def test_a_full_socket_is_tried_once_for_all_flows(memory: Memory, make_member: MakeMember) -> None:
    member = make_member()
    with closing(bound()) as other:
        ends = [member.flow(Process(memory), 64 + n, peer(other))[1] for n in range(20)]
        for n, end in enumerate(ends):
            member.udp.connect(64 + n, 90 + n)
            assert end.write(b"x") == 1
        kernel = Kernel(member, -EAGAIN, -EAGAIN)
        for _ in range(2):
            before = len(kernel.asked)
            for _ in range(5):
                member.step()
            assert len(kernel.asked) == before + 1, "the other nineteen wait for the same moment"
            member.now += 100_000
        for _ in range(5):
            member.step()
        got = [other.recv(100) for _ in ends]
        assert len({one[:4] for one in got}) == 20
        assert member.udp.counters()["full"] == 2


@pytest.mark.parametrize("number", [EMSGSIZE, EINVAL, EIO])
def test_a_device_that_takes_no_runs(memory: Memory, make_member: MakeMember, number: int) -> None:
    """Single datagrams at once; longer runs again after a minute, when the route may be another."""
    member = make_member()
    with closing(bound()) as other:
        _, end = member.flow(Process(memory), 64, peer(other))
        member.udp.connect(64, 70)
        kernel = Kernel(member, -number)
        for runs in ([1, 8], [8], [1]):
            kernel.asked.clear()
            assert end.writev([b"12345678"] * 8) == 8
            member.step()
            assert kernel.asked == runs
            assert [other.recv(100)[4:] for _ in range(8)] == [b"12345678"] * 8
            member.now += 31_000_000_000
        assert member.udp.counters()["sent"] == 24
        assert all(member.udp.counters()[name] == 0 for name in ("message_size", "failed", "full"))


@pytest.mark.parametrize(
    ("number", "name"),
    [(EMSGSIZE, "message_size"), (EHOSTUNREACH, "unreachable"), (EPERM, "refused"), (EINVAL, "failed")],
)
def test_errors_are_counted_by_reason(
    memory: Memory, make_member: MakeMember, number: int, name: str
) -> None:
    member = make_member(offload=False)
    with closing(bound()) as other:
        _, end = member.flow(Process(memory), 64, peer(other))
        member.udp.connect(64, 70)
        Kernel(member, 1, -number)
        assert end.writev([b"a", b"lost", b"b"]) == 3
        member.step()
        assert [other.recv(100)[4:] for _ in range(2)] == [b"a", b"b"]
        assert member.udp.counters()[name] == 1
        assert member.udp.counters()["sent"] == 2
        assert member.udp.flow_counters(64)["dropped"] == 1


def test_a_reader_that_does_not_read_costs_itself_only(memory: Memory, make_member: MakeMember) -> None:
    member = make_member()
    with closing(bound()) as other:
        member.flow(Process(memory), 64, peer(other))
        _, quick = member.flow(Process(memory), 65, peer(other))
        to = member.socket.getsockname()
        for n in range(1100):
            other.sendto(b"\0\0\0\x40slow", to)
            if n % 50 == 0:
                other.sendto(b"\0\0\0\x41quick", to)
                member.count(**{"received": min(n + 1, 1024) + n // 50 + 1, "no_room": max(0, n + 1 - 1024)})
                assert quick.drain() == [b"quick"]


def test_voice_goes_first(memory: Memory, make_member: MakeMember) -> None:
    member = make_member()
    with closing(bound()) as other:
        ends = []
        for eid, cube in ((64, 0), (65, 2), (66, 1)):
            fd, end = member.flow(Process(memory), eid, peer(other))
            assert lib.relay_cube(member.relay.relay, fd, cube) == 0
            member.udp.connect(eid, 70 + cube)
            ends.append(end)
        for end in ends:
            end.writev([b"x"] * 2)
        member.step()
        assert [other.recv(10)[3] for _ in range(6)] == [72, 72, 71, 71, 70, 70]


def test_ends_of_flows(memory: Memory, make_member: MakeMember) -> None:
    """A flow ends with its port; its counters stay in those of the layer; its endpoint id can be used again."""
    member = make_member()
    with closing(bound()) as other:
        for turn in range(3):
            fd, end = member.flow(Process(memory), 64, peer(other))
            member.udp.connect(64, 70)
            other.sendto(b"\0\0\0\x40in", member.socket.getsockname())
            member.count(received=turn + 1)
            assert end.drain() == [b"in"]
            end.write(b"last words")
            member.relay.remove(fd)
            assert other.recv(100) == b"\0\0\0\x46last words"
            assert member.udp.counters()["sent"] == turn + 1
        other.sendto(b"\0\0\0\x40in", member.socket.getsockname())
        member.count(unknown=1)


def test_wrong_requests(memory: Memory, make_member: MakeMember) -> None:
    member = make_member()
    there: Peer = (bytes([127, 0, 0, 1]), 1, 0)
    fd, _ = member.flow(Process(memory), 64, there)
    second, _ = member.relay.flow(Process(memory))

    def refused(number: int, do: Any, *args: Any) -> None:
        with pytest.raises(OSError) as caught:
            do(*args)
        assert caught.value.errno == number

    refused(EADDRINUSE, member.udp.open, 64, second, there)
    refused(EADDRINUSE, member.udp.open, 65, fd, there)
    refused(EBADF, member.udp.open, 65, 4000, there)
    for eid in (0, 4096, 2**32 - 1):
        refused(EINVAL, member.udp.open, eid, second, there)
        refused(EINVAL, member.udp.connect, 64, eid)
    refused(EBADF, member.udp.connect, 65, 70)
    refused(EBADF, member.udp.flow_counters, 65)
    member.udp.open(65, second, there)


def test_garbage_does_not_disturb_a_flow(memory: Memory, make_member: MakeMember) -> None:
    """Ten thousand random, truncated and bit-flipped datagrams; the flow loses nothing and gets nothing else."""
    chance = random.Random(7)
    a, b = make_member(), make_member()
    here, there = joined(memory, a, b)
    valid = struct.pack(">I", 200) + b"a packet of somebody"
    with closing(bound()) as hostile:
        for n in range(10_000):
            match n % 4:
                case 0:
                    data = chance.randbytes(chance.randrange(120))
                case 1:
                    data = bytes(4) + chance.randbytes(chance.randrange(120))
                case 2:
                    data = valid[: chance.randrange(len(valid))]
                case _:
                    flipped = bytearray(valid)
                    flipped[chance.randrange(len(valid))] ^= 1 << chance.randrange(8)
                    data = bytes(flipped)
            hostile.sendto(data, b.socket.getsockname())
            if n % 100 == 99:
                assert here.write(packet(n, 64)) == 64
                a.step()
                got: list[bytes] = []
                while not got:
                    b.step()
                    got = there.drain()
                assert got == [packet(n, 64)]
                b.punt.dispatch()
    while b.step():
        pass
    counters = b.udp.counters()
    assert counters["received"] == 100
    dropped = ("short_header", "unknown", "stranger", "management", "management_lost")
    assert all(counters[name] > 0 for name in dropped[:4])
    assert sum(counters[name] for name in dropped) == 10_000
    assert is_error(there.read(), EAGAIN)


def test_an_endpoint_that_is_not_connected_can_be_left_for_another(
    memory: Memory, make_member: MakeMember
) -> None:
    member = make_member()
    there: Peer = (bytes([127, 0, 0, 1]), 1, 0)
    fd, _ = member.flow(Process(memory), 64, there)
    member.udp.leave(64)
    member.udp.open(65, fd, there)
    member.udp.connect(65, 70)
    for eid in (64, 65, 4096):  # not there; connected; impossible
        with pytest.raises(OSError) as caught:
            member.udp.leave(eid)
        assert caught.value.errno == EBADF
