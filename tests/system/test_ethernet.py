"""Ethernet layers of two systems, in network namespaces of their own with a link between them (paper 5.4, 5.7)."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator
from typing import Any

import pytest

from tests.system.conftest import MakeSystem, Program, System
from tests.system.ethernet import Cable, cable

TYPES = ("eth-dix", "eth-llc")

ECHO = """
    from ouroboros import FEventQueue, FEventType, FlowSet
    from ouroboros.dev import flow_accept
    import threading
    try:
        flow_accept(timeo=0.001)
    except OSError:
        pass
    print("ready", flush=True)  # the IRMd knows us now

    def until_up(flow):
        with FlowSet([flow]) as flows:
            queue = FEventQueue()
            while flow.down:
                flows.wait(queue)

    def serve(flow):
        while True:
            try:
                flow.write(flow.read())
            except OSError as error:
                print("ended", error.errno, flush=True)
                if error.errno != 1005:
                    return
                until_up(flow)

    while True:
        flow = flow_accept()
        print("accepted", flow.max_packet, flush=True)
        threading.Thread(target=serve, args=(flow,), daemon=True).start()
"""

READOUT = """
    import json, sys
    from ouroboros import cli
    print(json.dumps(cli.readout_ipcp(sys.argv[1], sys.argv[2])))
"""

# A stranger on the link: sends frames, and sees those with an ethertype.
STRANGER = """
    import random, socket, sys, time
    from ipcpd.wire import dix, llc, mac
    from ipcpd.wire.eth import NameQuery, NameReply
    from ipcpd.wire.link import FlowReply, FlowRequest
    from irmd.oap import header
    from irmd.oap.algorithms import request_hash
    from ouroboros.wire import MalformedPacket

    class Stranger:
        def __init__(self, device):
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0xA000))
            self.socket.bind((device, 0xA000))
            self.mac = self.socket.getsockname()[4]

        def send(self, to, eid, payload):
            self.socket.send(dix.encode(dix.Frame(to, self.mac, eid, payload)).ljust(60, bytes(1)))

        def say(self, to, message):
            self.send(to, 0, dix.encode_message(message))

        def frame(self, eid):
            while True:
                frame = dix.decode(self.socket.recv(65536))
                if frame.eid == eid:
                    return frame

        def hear(self, kind):
            while True:
                frame = self.frame(0)
                message = dix.decode_message(frame.payload, hash_length=32)
                if isinstance(message, kind):
                    return frame.source, message
"""


class Pair:
    """Two systems and the link between them."""

    def __init__(self, link: Cable, make_system: MakeSystem) -> None:
        self.link = link
        self.a = make_system(prefix=link.a.prefix)
        self.b = make_system(prefix=link.b.prefix)

    def layer(
        self, kind: str, *, name: str = "eth", options: str = "", dev: tuple[str, str] = ("va", "vb")
    ) -> None:
        for system, device in ((self.a, dev[0]), (self.b, dev[1])):
            system.irm(f"ipcp bootstrap type {kind} name {name} layer {name} dev {device} {options}")

    def server(self, name: str = "echo", ipcp: str = "eth") -> Program:
        """An echo server at b."""
        server = self.b.python(ECHO)
        server.expect("ready")
        self.b.irm(f"bind process {server.pid} name {name}")
        self.b.irm(f"name register {name} ipcp {ipcp}")
        return server


@pytest.fixture
def link() -> Iterator[Cable]:
    with cable() as made:
        yield made


@pytest.fixture
def pair(link: Cable, make_system: MakeSystem) -> Pair:
    return Pair(link, make_system)


def readout(system: System, name: str, what: str) -> list[dict[str, Any]]:
    program = system.python(READOUT, name, what)
    assert program.wait() == 0, program.output
    rows: list[dict[str, Any]] = json.loads(program.output)
    return rows


def counters(system: System, name: str = "eth") -> dict[str, int]:
    return {row["counter"]: row["value"] for row in readout(system, name, "counters")}


def client(system: System, source: str, *args: str) -> Program:
    """A program that has `flow` to `echo`."""
    begin = "import os, sys, time\nfrom ouroboros import *\nfrom ouroboros.dev import *\n"
    return system.python(begin + textwrap.dedent(source), *args)


# ---------------------------------------------------------------- it works


@pytest.mark.parametrize("kind", TYPES)
def test_ping(pair: Pair, kind: str) -> None:
    pair.layer(kind)
    pair.b.irm("bind program oping name oping auto -- --listen")
    pair.b.irm("name register oping layer eth")
    for qos in ("raw", "best", "voice", "data"):
        words = f"--server-name oping --count 3 --interval 5 --quiet --qos {qos}"
        assert "3 received" in pair.a.run("oping", *words.split()).stdout
    (status,) = readout(pair.a, "eth", "status")
    assert status["device"] == "va" and status["state"] == "up" and status["mtu"] == 1500
    assert status["max_packet"] == (1496 if kind == "eth-dix" else 1497)
    (neighbour,) = readout(pair.a, "eth", "neighbours")
    assert neighbour["machine"] == readout(pair.b, "eth", "status")[0]["mac"]
    assert [row["name"] for row in readout(pair.b, "eth", "directory")] == [neighbour["name"]]
    assert counters(pair.a)["sent"] > 0


MANY = """
    import asyncio
    from errno import ETIMEDOUT
    from ouroboros import aio
    from ouroboros.errors import ENAME

    async def allocate():
        # While the machine has much else to do, the time may pass in which a name must be found (half a second), or
        # a server accept (one).
        for _ in range(50):
            try:
                return await aio.flow_alloc("echo")
            except OSError as error:
                reason = error
                if error.errno not in (ENAME, ETIMEDOUT):
                    raise
        raise TimeoutError(f"no flow: {reason}")

    async def one(number, talk):
        flow = await allocate()
        if talk:
            await flow.write(b"%d" % number)
            assert await flow.read() == b"%d" % number
        return flow

    async def main(count, talk):
        flows = await asyncio.gather(*(one(n, talk) for n in range(count)))
        print("all", len(flows), flush=True)

    asyncio.run(main(int(sys.argv[1]), sys.argv[2] == "talk"))
"""


@pytest.mark.parametrize(("kind", "count"), [("eth-dix", 200), ("eth-llc", 50)])
def test_many_flows_at_once(pair: Pair, kind: str, count: int) -> None:
    pair.layer(kind)
    pair.server()
    ends = client(pair.a, MANY, str(count), "talk")
    ends.expect(f"all {count}")
    assert ends.wait() == 0, ends.output


def test_the_largest_packet_and_one_octet_more(pair: Pair) -> None:
    pair.link.a.ip("link set va mtu 1200")
    pair.layer("eth-dix")
    pair.server()
    ends = client(
        pair.a,
        """
        flow = flow_alloc("echo")
        print("largest", flow.max_packet, flush=True)
        flow.write(bytes(flow.max_packet))
        assert flow.read() == bytes(flow.max_packet)
        try:
            flow.write(bytes(flow.max_packet + 1))
        except OSError as error:
            print("refused", error.errno, flush=True)
        """,
    )
    ends.expect("largest 1196")
    ends.expect("refused")
    assert ends.wait() == 0, ends.output


def test_a_name_that_nobody_has_is_refused_and_one_that_moves_is_found(pair: Pair) -> None:
    pair.layer("eth-dix")
    assert "-1007" in pair.a.run("oping", "--server-name", "nobody", "--count", "1", check=False).stderr
    server = pair.server()
    ask = """
        flow = flow_alloc("echo", timeo=10)
        flow.write(b"x")
        print("answer", flow.read(), flush=True)
    """
    client(pair.a, ask).expect("answer")
    pair.b.irm("name unregister echo ipcp eth")
    server.kill()
    assert "-1007" in pair.a.run("oping", "--server-name", "echo", "--count", "1", check=False).stderr


def test_two_systems_on_one_loopback_device(link: Cable, make_system: MakeSystem) -> None:
    link.a.ip("link set lo up")
    for kind in TYPES:
        a, b = make_system(prefix=link.a.prefix), make_system(prefix=link.a.prefix)
        for system in (a, b):
            system.irm(f"ipcp bootstrap type {kind} name lo layer lo dev lo")
        b.irm("bind program oping name oping auto -- --listen")
        b.irm("name register oping layer lo")
        assert (
            "3 received"
            in a.run("oping", *"--server-name oping --count 3 --interval 5 --quiet".split()).stdout
        )
        assert readout(a, "lo", "status")[0]["mtu"] == 9000


# ---------------------------------------------------------------- several on one device


def test_several_ipcps_on_one_device_and_one_ethertype(pair: Pair) -> None:
    """Their flows, between the same two machines, never meet."""
    pair.layer("eth-dix", name="one")
    pair.layer("eth-dix", name="two")
    pair.layer("eth-dix", name="other", options="ethertype B000")
    for name in ("one", "two", "other"):
        pair.server(f"echo-{name}", ipcp=name)
    ends = client(
        pair.a,
        """
        names = ["one", "two", "other"] * 20
        flows = [(flow_alloc("echo-" + name, timeo=10, layer=name), name) for name in names]
        for n, (flow, name) in enumerate(flows):
            flow.write(f"{name} {n}".encode())
        for n, (flow, name) in enumerate(flows):
            assert flow.read() == f"{name} {n}".encode()
        print("none met", flush=True)
        """,
    )
    ends.expect("none met")
    assert ends.wait() == 0, ends.output


def test_vlans(pair: Pair) -> None:
    for side, device in ((pair.link.a, "va"), (pair.link.b, "vb")):
        made = side.ip(f"link add link {device} name {device}.7 type vlan id 7", check=False)
        if made.returncode:
            pytest.skip("no VLAN devices in this kernel (8021q)")
        side.ip(f"link set {device}.7 up")
    pair.layer("eth-dix", name="plain")
    pair.layer("eth-dix", name="tagged", dev=("va.7", "vb.7"))
    for name in ("plain", "tagged"):
        pair.server(f"echo-{name}", ipcp=name)
        ends = client(
            pair.a,
            'f = flow_alloc("echo-" + sys.argv[1]); f.write(b"x"); print("got", f.read(), flush=True)',
            name,
        )
        ends.expect("got b'x'")


# ---------------------------------------------------------------- what goes wrong


def test_the_end_of_an_ipcp(pair: Pair) -> None:
    pair.layer("eth-dix")
    server = pair.server()
    ends = client(
        pair.a,
        """
        flow = flow_alloc("echo")
        flow.write(b"x")
        print("up", flow.read(), flush=True)
        try:
            flow.read()
        except OSError as error:
            print("down", error.errno, flush=True)
        """,
    )
    ends.expect("up b'x'")
    (row,) = pair.a.json("ipcp list")["ipcps"]
    pair.a.kill(row["pid"])
    ends.expect("down 1005")
    pair.a.irmd.expect("IPCP eth .* killed|has ended")
    pair.a.irm("ipcp bootstrap type eth-dix name again layer eth dev va")
    client(pair.a, 'f = flow_alloc("echo"); f.write(b"y"); print("up", f.read(), flush=True)').expect(
        "up b'y'"
    )
    assert server.running


def test_a_cable_that_is_cut_and_mended(pair: Pair) -> None:
    pair.layer("eth-dix")
    server = pair.server()
    ends = pair.a.python(
        """
        from ouroboros import flow_alloc, FlowSet, FEventQueue, FEventType
        flow = flow_alloc("echo")
        flow.write(b"x")
        print("up", flow.read(), flush=True)
        with FlowSet([flow]) as flows:
            seen, queue = [], FEventQueue()
            while FEventType.FlowUp not in seen:
                flows.wait(queue)
                for fd, kind in queue:
                    seen.append(kind)
                    print("event", kind.name, flush=True)
        flow.write(b"y")
        print("again", flow.read(), flush=True)
        """
    )
    ends.expect("up b'x'")
    pair.link.b.ip("link set vb down")
    ends.expect("event FlowDown")
    refused = pair.a.run("oping", "--server-name", "echo", "--count", "1", check=False)
    assert refused.returncode
    assert readout(pair.a, "eth", "status")[0]["state"] == "down"
    pair.link.b.ip("link set vb up")
    ends.expect("event FlowUp")
    ends.expect("again b'y'")
    assert server.running


def test_the_device_is_taken_away_and_comes_back(pair: Pair) -> None:
    pair.layer("eth-dix")
    pair.server()
    ask = 'f = flow_alloc("echo", timeo=5); f.write(b"x"); print("got", f.read(), flush=True)'
    client(pair.a, ask).expect("got b'x'")
    pair.link.a.ip("link del va")
    pair.a.irmd.expect("va is down")
    pair.b.irmd.expect("vb is down")
    Cable(pair.link.a, pair.link.b)
    pair.a.irmd.expect("va is up")
    pair.b.irmd.expect("vb is up")  # earlier frames are lost, as on any wire
    client(pair.a, ask).expect("got b'x'")


@pytest.mark.parametrize("kind", TYPES)
def test_what_cannot_be_used_is_refused_before_anything_is_made(
    link: Cable, make_system: MakeSystem, kind: str
) -> None:
    link.a.ip("link set va down")
    link.a.ip("link set lo up")
    system = make_system(prefix=link.a.prefix)
    for device, reason in (
        ("nowhere", "no device"),
        ("va", "ip link set va up"),
        ("a-name-that-is-too-long", "no device"),
    ):
        refused = system.irm(f"ipcp bootstrap type {kind} name e layer e dev {device}", check=False)
        assert refused.returncode and reason in refused.stderr, refused.stderr
        assert device in refused.stderr
        assert system.json("ipcp list")["ipcps"] == []
    link.a.ip("link set va up mtu 100")
    refused = system.irm(f"ipcp bootstrap type {kind} name e layer e dev va", check=False)
    assert "MTU" in refused.stderr
    assert system.json("ipcp list")["ipcps"] == []


def test_without_the_capability_the_error_says_which(link: Cable, make_system: MakeSystem) -> None:
    system = make_system(prefix=[*link.a.prefix, "setpriv", "--bounding-set=-net_raw", "--"])
    refused = system.irm("ipcp bootstrap type eth-dix name e layer e dev va", check=False)
    assert (
        refused.returncode and "CAP_NET_RAW" in refused.stderr and "docs/howto/ethernet.md" in refused.stderr
    )
    assert system.json("ipcp list")["ipcps"] == []


# ---------------------------------------------------------------- strangers and prototypes


def stranger(pair: Pair, source: str, *args: str) -> Program:
    """An independent program on the link at b, without any of our daemons. Needs the checkout for the codecs."""
    program = textwrap.dedent(STRANGER) + textwrap.dedent(source)
    return pair.b.python(program, *args)


def test_a_prototype_asks_for_a_flow(pair: Pair) -> None:
    """The messages of a captured prototype as requester, with a present handshake: name query, request, data, keep-alive."""
    pair.a.irm("ipcp bootstrap type eth-dix name eth layer eth dev va")
    server = pair.a.python(ECHO)
    server.expect("ready")
    pair.a.irm(f"bind process {server.pid} name echo")
    pair.a.irm("name register echo layer eth")
    peer = stranger(
        pair,
        """
        import hashlib
        it = Stranger("vb")
        name = hashlib.sha3_256(b"echo").digest()
        it.say(mac.BROADCAST, NameQuery(hashlib.sha3_256(b"nobody").digest()))
        it.say(mac.BROADCAST, NameQuery(name))
        to, reply = it.hear(NameReply)
        assert reply.name_hash == name
        for eid in (64, 65):
            oap = header.Header(id=random.randbytes(16), timestamp=time.time_ns())
            request = FlowRequest(eid, name, data=header.encode(oap))
            it.say(to, request)
            it.say(to, request)  # the network made a copy
            source, reply = it.hear(FlowReply)
            assert (source, reply.to, reply.response) == (to, eid, 0), reply
            answer = header.decode_reply(reply.data, digest=oap.digest)
            assert answer.id == oap.id
            assert answer.request_hash == request_hash(request.data, oap.digest)
            for payload in (b"hello", b"", bytes(1496)):
                it.send(to, reply.endpoint, payload)
                if payload:
                    assert it.frame(eid).payload == payload
            print("flow", eid, reply.endpoint, flush=True)
        """,
    )
    peer.expect("flow 64")
    peer.expect("flow 65")
    assert peer.wait() == 0, peer.output
    assert counters(pair.a)["flow_repeated"] == 2


def test_a_prototype_accepts_flows_one_at_a_time(pair: Pair) -> None:
    """As a prototype does: one request is handled at a time, and never are there twenty."""
    pair.a.irm("ipcp bootstrap type eth-dix name eth layer eth dev va")
    peer = stranger(
        pair,
        """
        import hashlib
        it = Stranger("vb")
        name = hashlib.sha3_256(b"echo").digest()
        print("there", flush=True)
        waiting, most, flows = [], 0, 0
        it.socket.settimeout(0.2)
        while True:
            try:
                frame = dix.decode(it.socket.recv(65536))
            except TimeoutError:
                if not waiting:
                    continue
                # All that has come is answered, the last one first.
                if len(waiting) > most:
                    most = len(waiting)
                    print("most", most, flush=True)
                source, request = waiting.pop()
                flows += 1
                oap = header.decode_request(request.data)
                answer = header.Header(id=oap.id, timestamp=time.time_ns(), request_hash=request_hash(request.data, oap.digest))
                it.say(source, FlowReply(63 + flows, request.endpoint, 0, header.encode(answer)))
                continue
            if frame.eid != 0:
                continue
            message = dix.decode_message(frame.payload, hash_length=32)
            if isinstance(message, NameQuery) and message.name_hash == name:
                it.say(frame.source, NameReply(name))
            elif isinstance(message, FlowRequest):
                waiting.append((frame.source, message))
        """,
    )
    peer.expect("there")
    ends = client(pair.a, MANY, "24", "silent")
    ends.expect("all 24")
    assert 1 <= max(map(int, re.findall(r"most (\d+)", peer.output))) <= 12


def test_ten_thousand_bad_frames_on_the_link(pair: Pair) -> None:
    pair.layer("eth-dix")
    pair.server()
    ends = client(
        pair.a,
        """
        flow = flow_alloc("echo")
        print("up", flush=True)
        for line in range(300):
            flow.write(b"%d" % line)
            assert flow.read() == b"%d" % line
            if line == 10:
                print("running", flush=True)
            time.sleep(0.005)
        print("undisturbed", flush=True)
        """,
    )
    ends.expect("running")
    (status,) = readout(pair.a, "eth", "status")
    before = counters(pair.a)
    noise = stranger(
        pair,
        """
        it, rng = Stranger("vb"), random.Random(1)
        to = bytes.fromhex(sys.argv[1].replace(":", ""))
        request = dix.encode_message(FlowRequest(70, bytes(32), data=bytes(36)))
        for n in range(10_000):
            frame = bytearray(dix.encode(dix.Frame(to, it.mac, rng.choice((0, 0, 64, 4000)), request)))
            kind = n % 5
            if kind == 0:
                frame = bytearray(to + it.mac + bytes((0xA0, 0))) + rng.randbytes(rng.randrange(1, 1480))
            elif kind == 1:
                frame = frame[: rng.randrange(14, len(frame))]
            elif kind == 2:
                frame[16:18] = rng.randrange(len(request) + 1, 65536).to_bytes(2, "big")
            elif kind == 3:
                for _ in range(9):
                    frame[rng.randrange(6, len(frame))] ^= 1 << rng.randrange(8)
                frame[12:14] = bytes((0xA0, 0))
            else:
                # For a VLAN: not for us, whatever is in it.
                frame[12:12] = bytes((0x81, 0, 0, 7))
            it.socket.send(frame)
        print("sent", flush=True)
        """,
        status["mac"],
    )
    noise.expect("sent")
    assert noise.wait() == 0, noise.output
    ends.expect("undisturbed")
    assert ends.wait() == 0, ends.output
    after = counters(pair.a)
    bad = {key: after[key] - before[key] for key in after if key.startswith("dropped") or key == "malformed"}
    assert bad["dropped_length"] > 1500 and bad["dropped_endpoint"] > 500 and bad["malformed"] > 20, bad
    # One in five was for a VLAN. The others are dropped, but for few that change nothing.
    assert after["received"] - before["received"] < 8_000 + 1_000
    assert len(pair.a.json("ipcp list")["ipcps"]) == 1
    pair.a.run("oping", "--server-name", "nobody", "--count", "1", check=False)


def test_a_layer_is_used_before_the_kernel_says_that_there_is_a_carrier(make_system: MakeSystem) -> None:
    """It reports the carrier up to a second after the device was set up: a name is found meanwhile, and its flow stays up."""
    for _ in range(3):
        with cable() as link:
            link.a.ip("link set va down")
            pair = Pair(link, make_system)
            link.a.ip("link set va up")
            pair.layer("eth-dix")
            pair.b.irm("bind program oping name oping auto -- --listen")
            pair.b.irm("name register oping layer eth")
            done = pair.a.run("oping", *"--server-name oping --count 3 --interval 300 --quiet".split())
            assert "3 received" in done.stdout
