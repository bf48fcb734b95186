"""Reliable flows with a prototype use only its packets, without extensions, over a layer with prototypes and Python members."""

from __future__ import annotations

import random
import struct

from .lower import Qos
from .member import Unicast
from .names import Flow, Process
from .world import Ours, World

HEAD = struct.Struct(">B3sII")
DATA, DRF, ACK, FC = 1, 2, 4, 8


class Reader:
    """The receiver of 0.23, as far as a sender sees it: in order, and acknowledged with a window of 256 (spec/frcp 6)."""

    def __init__(self, flow: Flow) -> None:
        self.flow = flow
        self.want: int | None = None
        self.packets: list[bytes] = []
        self.first = 1_000_000
        self.chance = random.Random(1)
        flow.use(self.take)

    def take(self, packet: bytes) -> None:
        assert len(packet) >= HEAD.size, packet.hex()
        flags, _, seq, _ = HEAD.unpack_from(packet)
        data = packet[HEAD.size :]
        assert not flags & 0xE0, f"bits that 0.23 never sets: {packet[:12].hex()}"
        assert bool(data) == bool(flags & DATA), (
            "data of no octets, or behind a control packet: a prototype has neither"
        )
        if not flags & DATA or self.chance.random() < 0.1:
            return
        if self.want is None and flags & DRF:
            self.want = seq
        if seq == self.want:
            self.packets.append(data)
            self.want += 1
        if self.want is not None:
            edge = ((self.want + 256) & 0xFFFFFF).to_bytes(3, "big")
            self.flow.write(HEAD.pack(ACK | FC, edge, 0, self.want))

    def write(self, data: bytes) -> None:
        self.flow.write(HEAD.pack(DATA | DRF, bytes(3), self.first, 0) + data)
        self.first += 1


def mixed(world: World) -> tuple[Ours, Unicast]:
    proto, ours = world.prototype("proto"), world.ours("ours")
    ours.bootstrap()
    world.call(proto.enroll("ours"))
    world.call(proto.connect("ours"))
    world.settled(proto, 1)
    return ours, proto


def test_a_prototype_serves(world: World) -> None:
    """It is asked with ber 1, which the judge insists on, grants nothing, and sees nothing but its own protocol."""
    ours, proto = mixed(world)
    process = Process()
    world.now(proto.names.bind, "server", process)
    world.now(proto.register, "server")
    program = ours.system.python("""
        from ouroboros import QOS_DATA, flow_alloc
        with flow_alloc("server", QOS_DATA) as flow:
            print("extensions", list(flow._info.extensions), "ber", flow.qos.ber, flush=True)
            for i in range(300):
                flow.write(b"%d" % i)
            try:
                flow.write(bytes(flow.max_packet + 1))
            except OSError as error:
                print("errno", error.errno, flush=True)
            try:
                flow.write_end()
            except OSError as error:
                print("no end", error.errno, flush=True)
            print("read", flow.read().decode(), flush=True)
        """)
    flow = world.call(process.accept())
    assert (flow.qos.in_order, flow.qos.loss, flow.qos.ber) == (1, 0, 1)
    reader = world.now(Reader, flow)
    world.until(lambda: len(reader.packets) == 300)
    assert reader.packets == [b"%d" % i for i in range(300)]
    world.now(reader.write, b"an answer")
    assert program.wait() == 0, program.output
    assert "extensions [] ber 1\nerrno 90\nno end 95\nread an answer" in program.output


def test_a_prototype_asks(world: World) -> None:
    """Its request offers nothing, so nothing is granted: our server sends it what it knows."""
    ours, proto = mixed(world)
    server = ours.system.python("""
        from ouroboros import flow_accept
        flow = flow_accept()
        print("extensions", list(flow._info.extensions), "ber", flow.qos.ber, flush=True)
        print("read", flow.read().decode(), flush=True)
        for i in range(100):
            flow.write(b"%d" % i)
        flow.dealloc()
        """)
    ours.system.irm(f"bind process {server.pid} name server")
    ours.system.irm(f"name register server ipcp {ours.name}")
    qos = Qos(loss=0, ber=1, in_order=1)
    flow = world.call(proto.fa.allocate("server", qos))
    reader = world.now(Reader, flow)
    world.now(reader.write, b"a question")
    world.until(lambda: len(reader.packets) == 100)
    assert server.wait() == 0, server.output
    assert "extensions [] ber 1\nread a question" in server.output
