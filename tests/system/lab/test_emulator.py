"""Emulated links with real frames: the settings apply to exactly the frames that the seed selects, and to no others."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from contextlib import ExitStack

import pytest
from ouroboros_tools.olab.control import HolderError
from ouroboros_tools.olab.description import Description, SystemSpec, veth
from ouroboros_tools.olab.emulator.impairment import parse
from ouroboros_tools.olab.emulator.line import fate
from ouroboros_tools.olab.emulator.started import Emulator, EmulatorError

from tests.bench.emulated import EmulatedLink
from tests.bench.link import ADDRESSES
from tests.system.conftest import PATIENCE, Program
from tests.system.lab.conftest import LabOfTest, MakeLab, SystemOfTest
from tests.system.lab.test_lab import LISTEN, devices, send

# Keeps all frames of our own that arrive in a ring that cannot overflow, until one says that it is the last; prints
# number, time of arrival (ns) and the frame of each.
COLLECT = """
    import mmap, select, socket, struct, sys
    device = sys.argv[1]
    SIZE, FRAMES = 512, 16384
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sock:
        sock.setsockopt(263, 23, 1)  # PACKET_IGNORE_OUTGOING
        sock.setsockopt(263, 5, struct.pack("IIII", 65536, SIZE * FRAMES // 65536, SIZE, FRAMES))  # PACKET_RX_RING
        ring = mmap.mmap(sock.fileno(), SIZE * FRAMES)
        sock.bind((device, 0x0003))
        print("listening", flush=True)
        poll = select.poll()
        poll.register(sock, select.POLLIN)
        lines, at = [], 0
        while True:
            status, length, kept, mac, _, second, micro = struct.unpack_from("=QIIHHII", ring, at * SIZE)
            if not status & 1:
                poll.poll()
                continue
            frame = ring[at * SIZE + mac : at * SIZE + mac + kept]
            at += 1
            if frame[18:22] == b"last":
                break
            if b"ours" in frame or b"ouroboros" in frame:
                lines.append(f"{second * 10**6 + micro} {frame.hex()}")
        print(len(lines))
        print("\\n".join(lines))
        print("done", flush=True)
"""

# Sends a number of numbered frames of one size.
FLOOD = """
import socket, sys
device, first, count, size, word = sys.argv[1], *map(int, sys.argv[2:5]), sys.argv[5]
with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sock:
    sock.bind((device, 0))
    for n in range(first, first + count):
        frame = b"\\xff" * 6 + b"\\x02ours!" + b"\\xa0\\x00" + n.to_bytes(4, "big") + word.encode()
        sock.send(frame.ljust(size, b"."))
"""


def frame(n: int, size: int = 100) -> bytes:
    """The frames of FLOOD."""
    start = b"\xff" * 6 + b"\x02ours!" + b"\xa0\x00" + n.to_bytes(4, "big") + b"ouroboros"
    return start.ljust(size, b".")


def pair(emulate: str | tuple[str, str] = "") -> Description:
    """Systems a and b, and between a's eth1 and b's eth0 an emulated link, on which nothing talks by itself."""
    link = veth(
        "a",
        "b",
        name="ab",
        devices=("eth1", "eth0"),
        addresses=("10.0.0.1/24", "10.0.0.2/24"),
        emulate=emulate,
    )
    return Description(name="lab", systems=(SystemSpec(name="a"), SystemSpec(name="b")), links=(link,))


def be_quiet(*systems: SystemOfTest) -> None:
    """IPv6 sends frames at moments of its own, and each of them has a number."""
    for system in systems:
        system.run("sh", "-c", "for all in /proc/sys/net/ipv6/conf/*/disable_ipv6; do echo 1 > $all; done")


def flood(
    system: SystemOfTest, device: str, count: int, *, first: int = 0, size: int = 100, word: str = "ouroboros"
) -> None:
    system.run(sys.executable, "-c", FLOOD, device, str(first), str(count), str(size), word)


def await_that(condition: Callable[[], bool]) -> None:
    """Wait for a condition without an event."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        os.sched_yield()


def passed(
    lab: LabOfTest, words: str, count: int, *, source: str = "a", size: int = 100
) -> list[tuple[int, bytes]]:
    """Send frames through a link that does this; when, and what, came out, in this order."""
    a, b = (lab.system(name) for name in ("a", "b"))
    (sender, out), (receiver, into) = ((a, "eth1"), (b, "eth0"))
    side = 0
    if source == "b":
        (sender, out), (receiver, into), side = (b, "eth0"), (a, "eth1"), 1
    with receiver.python(COLLECT, into) as collector:
        collector.expect("listening")
        lab.emulate("ab", words)
        flood(sender, out, count, size=size)
        await_that(lambda: lab.emulation("ab")["counters"][side]["held"] == 0)
        found = lab.emulation("ab")["counters"][side]
        lab.emulate("ab", "")
        flood(sender, out, 1, word="last")
        collector.expect("done")
        lines = collector.output.split("listening\n", 1)[1].splitlines()
    assert found["received"] == count, found
    assert found["overrun"] == found["oversize"] == found["unfinished"] == found["dropped"] == 0, found
    assert found["lost"] + found["sent"] == count + found["duplicated"], found
    came = [(int(line.split()[0]), bytes.fromhex(line.split()[1])) for line in lines[1 : int(lines[0]) + 1]]
    assert len(came) == found["sent"]
    return came


def numbers(came: list[tuple[int, bytes]]) -> list[int]:
    return [int.from_bytes(octets[14:18], "big") for _, octets in came]


# ---------------------------------------------------------------- frames


@pytest.mark.parametrize("user_namespace", [False, True])
def test_frames_are_lost_and_doubled_as_the_seed_says(make_lab: MakeLab, user_namespace: bool) -> None:
    if os.geteuid() != 0 and not user_namespace:
        pytest.skip("only root makes a lab without a user namespace")
    lab = make_lab(pair(), user_namespace=user_namespace)
    be_quiet(lab.system("a"), lab.system("b"))
    for source, direction in (("a", 0), ("b", 1), ("a", 0)):
        words = "loss 5% duplicate 3% seed 7"
        came = numbers(passed(lab, words, 3000, source=source))
        wanted = [n for n in range(3000) for _ in fate(parse(words), n, direction=direction)]
        assert came == wanted  # in this order, and each as often
        assert 50 < 3000 - len(set(came)) < 250


def test_nothing_happens_to_frames_without_words(make_lab: MakeLab) -> None:
    lab = make_lab(pair())
    be_quiet(lab.system("a"), lab.system("b"))
    for size in (60, 400):
        assert [octets for _, octets in passed(lab, "", 2000, size=size)] == [
            frame(n, size) for n in range(2000)
        ]


def test_frames_overtake_that_the_seed_says(make_lab: MakeLab) -> None:
    lab = make_lab(pair())
    be_quiet(lab.system("a"), lab.system("b"))
    words = "delay 20ms reorder 10% seed 3"
    came = numbers(passed(lab, words, 2000))
    early = {n for n in range(2000) if fate(parse(words), n)[0].overtakes}
    assert sorted(came) == list(range(2000))
    assert came != sorted(came)
    # Among themselves neither those that overtake nor the others change their order.
    assert [n for n in came if n in early] == sorted(early)
    assert [n for n in came if n not in early] == [n for n in range(2000) if n not in early]


def test_one_bit_is_flipped_and_the_seed_says_which(make_lab: MakeLab) -> None:
    lab = make_lab(pair())
    be_quiet(lab.system("a"), lab.system("b"))
    words = "corrupt 50% seed 9"
    came = [octets for _, octets in passed(lab, words, 500)]
    for n, octets in enumerate(came):
        wanted = bytearray(frame(n))
        (copy,) = fate(parse(words), n)
        if copy.corrupt:
            bit = copy.spot % (len(wanted) * 8)
            wanted[bit // 8] ^= 1 << bit % 8
        assert octets == wanted, n


def test_rate_spaces_frames(make_lab: MakeLab) -> None:
    lab = make_lab(pair())
    be_quiet(lab.system("a"), lab.system("b"))
    came = passed(lab, "rate 10mbit", 500, size=400)
    assert numbers(came) == list(range(500))
    # The first was sent when it had been read; 499 take 0.32 ms each. A late frame does not make the next one earlier.
    assert came[-1][0] - came[0][0] >= 0.95 * 499 * 320


def test_limit_bounds_what_waits(make_lab: MakeLab) -> None:
    lab = make_lab(pair("rate 1mbit limit 10"))
    be_quiet(lab.system("a"), lab.system("b"))
    lab.emulate("ab", "rate 1mbit limit 10")
    flood(lab.system("a"), "eth1", 1000, size=400)
    await_that(lambda: lab.emulation("ab")["counters"][0]["held"] == 0)
    counters = lab.emulation("ab")["counters"][0]
    assert counters["received"] == 1000 and counters["full"] > 0
    assert counters["full"] + counters["sent"] == 1000


def test_vlan_tag_passes(make_lab: MakeLab) -> None:
    """The kernel takes it out of the frame, and hands it over beside."""
    receive = """
        import socket, struct
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sock:
            sock.setsockopt(263, 8, 1)  # PACKET_AUXDATA
            sock.bind(("eth0", 0x0003))
            print("listening", flush=True)
            while True:
                octets, ancillary, _, _ = sock.recvmsg(2000, 200)
                if b"tagged" in octets:
                    status, _, _, _, _, tci, tpid = struct.unpack("=IIIHHHH", ancillary[0][2])
                    print("got", hex(tci), hex(tpid), bool(status & 16), octets.hex(), flush=True)
                    break
    """
    transmit = """
import socket
with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sock:
    sock.bind(("eth1", 0))
    sock.send(b"\\xff" * 6 + b"\\x02ours!" + b"\\x88\\xa8\\x61\\x23" + b"\\xa0\\x00" + b"tagged" + bytes(50))
"""
    lab = make_lab(pair())
    with lab.system("b").python(receive) as receiver:
        receiver.expect("listening")
        lab.system("a").run(sys.executable, "-c", transmit)
        found = receiver.expect(r"got (\S+) (\S+) (\S+) (\S+)")
    assert found.groups()[:3] == ("0x6123", "0x88a8", "True")
    assert bytes.fromhex(found[4]) == b"\xff" * 6 + b"\x02ours!" + b"\xa0\x00" + b"tagged" + bytes(50)


# ---------------------------------------------------------------- what people send

TCP_SERVER = """
    import hashlib, socket
    with socket.create_server(("10.0.0.2", 4001)) as server:
        print("listening", flush=True)
        sock, _ = server.accept()
        with sock:
            digest, size = hashlib.sha256(), 0
            while octets := sock.recv(1 << 16):
                digest.update(octets)
                size += len(octets)
            print("got", size, digest.hexdigest(), flush=True)
"""
TCP_CLIENT = """
import random, socket, sys
octets = random.Random(1).randbytes(int(sys.argv[1]))
with socket.create_connection(("10.0.0.2", 4001)) as sock:
    sock.sendall(octets)
    sock.shutdown(socket.SHUT_WR)
    sock.recv(1)
"""


@pytest.mark.parametrize(
    ("words", "size"),
    [
        ("", 20_000_000),
        ("delay 5ms", 2_000_000),
        ("loss 2% delay 5ms duplicate 3% reorder 10% corrupt 1% seed 4", 500_000),
    ],
)
def test_tcp_delivers_over_real_segments(make_lab: MakeLab, words: str, size: int) -> None:
    """Offloads are off: else TCP would hand over frames of 64 KiB, and leave checksums to whoever comes next."""
    import random

    lab = make_lab(pair(words))
    with lab.system("b").python(TCP_SERVER) as server:
        server.expect("listening")
        lab.system("a").run(sys.executable, "-c", TCP_CLIENT, str(size))
        got = server.expect(r"got (\d+) (\w+)")
    assert int(got[1]) == size
    assert got[2] == hashlib.sha256(random.Random(1).randbytes(size)).hexdigest()
    there, back = lab.emulation("ab")["counters"]
    for counters in (there, back):
        assert counters["oversize"] == counters["unfinished"] == 0
    assert there["received_octets"] > size
    assert there["received"] >= size / 1460
    assert (there["lost"] > 0) is ("loss" in words)


def test_udp_and_icmp_are_delayed(make_lab: MakeLab) -> None:
    echo = """
        import socket
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(("10.0.0.2", 4002))
            print("listening", flush=True)
            while True:
                octets, who = sock.recvfrom(2000)
                sock.sendto(octets, who)
    """
    ask = """
import socket, struct, time
def took(sock, message, address):
    before = time.monotonic()
    sock.sendto(message, address)
    while sock.recv(2000)[-len(message) + 4:] != message[4:]:
        pass
    return time.monotonic() - before
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
    print(took(sock, b"some message", ("10.0.0.2", 4002)))
message = struct.pack(">BBHHH", 8, 0, 0, 7, 1) + b"some message"
total = sum(struct.unpack(">10H", message))
total = (total & 0xFFFF) + (total >> 16)
message = message[:2] + struct.pack(">H", ~total & 0xFFFF) + message[4:]
with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as sock:
    print(took(sock, message, ("10.0.0.2", 0)))
"""
    lab = make_lab(pair("delay 20ms"))
    with lab.system("b").python(echo) as server:
        server.expect("listening")
        times = [float(line) for line in lab.system("a").run(sys.executable, "-c", ask).stdout.split()]
    assert len(times) == 2 and all(one >= 0.04 for one in times)


def test_flow_of_an_ethernet_layer_loses_packets(make_lab: MakeLab) -> None:
    lab = make_lab("""
        [system.a]
        irm = ["ipcp bootstrap type eth-dix name eth layer ethernet dev eth1"]
        [system.b]
        irm = [
            "ipcp bootstrap type eth-dix name eth layer ethernet dev eth0",
            "bind program oping name oping auto -- --listen --quiet",
            "name register oping layer ethernet",
        ]
        [link.ab]
        between = ["a:eth1", "b:eth0"]
        emulate = "delay 2ms"
    """)
    a = lab.system("a")
    with a.start("oping", "-n", "oping", "-i", "5", "-c", "300") as ping:
        first = float(ping.expect(r"seq=0 time=([\d.]+) ms")[1])
        lab.emulate("ab", "loss 20% seed 1", source="a")
        assert ping.wait() == 0
        output = ping.output
    assert first >= 4
    counters = lab.emulation("ab")["counters"]
    assert counters[0]["lost"] > 10 and counters[1]["lost"] == 0
    received = int(output.partition(" packets transmitted, ")[2].split()[0])
    assert 150 < received < 300


# ---------------------------------------------------------------- the link


@pytest.mark.parametrize("silent", [True, False])
def test_emulated_link_can_be_cut(make_lab: MakeLab, silent: bool) -> None:
    lab = make_lab(pair("delay 1ms"))
    a, b = lab.system("a"), lab.system("b")
    with b.python(LISTEN, "10.0.0.2") as server:
        server.expect("listening")
        send(a, "10.0.0.2", "one")
        server.expect("got one")
        lab.cut("ab", silent=silent)
        assert (send(a, "10.0.0.2", "two", check=False) != 0) is not silent
        ends = devices(a)["eth1"], devices(b)["eth0"]
        assert ends == ((["up", "carrier"],) * 2 if silent else (["down", "-"], ["up", "-"]))
        lab.heal("ab")
        send(a, "10.0.0.2", "three")
        server.expect("got three")
        assert "got two" not in server.output
    assert lab.emulation("ab")["words"] == ["delay 1ms", "delay 1ms"]


def test_link_whose_emulator_is_killed_is_dead_until_it_is_healed(make_lab: MakeLab) -> None:
    lab = make_lab(pair("delay 1ms"))
    a, b = lab.system("a"), lab.system("b")
    lab.emulate("ab", "delay 2ms seed 3", source="b")
    a.kill(lab.emulation("ab")["pid"])
    await_that(lambda: lab.status()["cuts"] == {"ab": "dead"})
    assert (devices(a)["eth1"], devices(b)["eth0"]) == (["up", "-"], ["up", "-"])
    for ask in (lambda: lab.emulation("ab"), lambda: lab.emulate("ab", "loss 5%")):
        with pytest.raises(
            HolderError, match="emulator of link ab has ended; `olab heal ab` starts it again"
        ):
            ask()
    lab.heal("ab")
    assert lab.status()["cuts"] == {}
    assert lab.emulation("ab")["words"] == ["delay 1ms", "delay 2ms seed 3"]
    with b.python(LISTEN, "10.0.0.2") as server:
        server.expect("listening")
        send(a, "10.0.0.2", "hello")
        server.expect("got hello")


def test_killed_emulators_link_can_be_cut_and_the_lab_torn_down(make_lab: MakeLab) -> None:
    lab = make_lab(pair())
    lab.system("a").kill(lab.emulation("ab")["pid"])
    await_that(lambda: lab.status()["cuts"] == {"ab": "dead"})
    lab.cut("ab")
    assert lab.status()["cuts"] == {"ab": "carrier"}
    lab.heal("ab")
    lab.system("b").kill(lab.emulation("ab")["pid"])


def test_emulator_that_stands_still_is_killed(make_lab: MakeLab) -> None:
    """Requests to it get an error, and the lab continues."""
    lab = make_lab(pair())
    lab.system("a").kill(lab.emulation("ab")["pid"], signal.SIGSTOP)
    with pytest.raises(HolderError, match="link ab: the emulator .* does not answer, and was killed"):
        lab.emulation("ab")
    await_that(lambda: lab.status()["cuts"] == {"ab": "dead"})


def test_link_between_two_devices_of_one_system(make_lab: MakeLab) -> None:
    lab = make_lab("""
        [system.a]
        [link.self]
        between = ["a:eth0", "a:eth1"]
        emulate = ["loss 10%", "loss 20%"]
    """)
    lab.emulate("self", "loss 30%", source="a:eth1")
    assert lab.emulation("self")["words"] == ["loss 10%", "loss 30%"]
    lab.emulate("self", "", source="a")
    assert lab.emulation("self")["words"] == ["", ""]


# ---------------------------------------------------------------- the process


def test_process_names_what_it_lacks(namespaces: None) -> None:
    emulator = Emulator(("nowhere0", "nowhere1"))
    with pytest.raises(EmulatorError, match="there is no device nowhere0"):
        emulator.await_ready()
    with pytest.raises(EmulatorError, match="has ended"):
        emulator.show()


def test_process_answers_whatever_it_is_asked_and_ends_with_its_input(make_lab: MakeLab) -> None:
    lab = make_lab("""
        [system.a]
        [link.plain]
        between = ["a:eth0", "a:eth1"]
    """)
    command = (sys.executable, "-P", "-m", "ouroboros_tools.olab.emulator.process", "eth0", "eth1")
    with lab.system("a").start(*command, stdin=subprocess.PIPE) as process:
        assert isinstance(process, Program)
        process.expect('{"ready": true}')
        for wrong in (
            "nonsense",
            "[]",
            '{"do": "dance"}',
            '{"do": "set"}',
            '{"do": "set", "words": ["x", ""]}',
            '{"do": "set", "words": ["loss 5%"]}',
        ):
            process.send(f"{wrong}\n")
            process.expect('{"error": ')
        process.send('{"do": "show"}\n')
        assert json.loads(process.expect("^{.*words.*$")[0])["words"] == ["", ""]
        assert process.process.stdin is not None
        process.process.stdin.close()
        assert process.wait() == 0


def test_emulated_link_of_the_benchmark(namespaces: None) -> None:
    """Only two namespaces, with addresses: the network on which TCP is compared."""
    with ExitStack() as stack:
        link = EmulatedLink(stack, ("delay 5ms", "delay 5ms loss 1%"))
        link.set("delay 2ms")
        inside = [sys.executable, "-c"]
        server_source = textwrap.dedent(TCP_SERVER).replace("10.0.0.2", ADDRESSES[1])
        server = subprocess.Popen(
            [*inside, server_source], preexec_fn=link.ends[1].enter, stdout=subprocess.PIPE, text=True
        )
        stack.callback(server.kill)
        assert server.stdout is not None and server.stdout.readline() == "listening\n"
        client_source = TCP_CLIENT.replace("10.0.0.2", ADDRESSES[1])
        subprocess.run([*inside, client_source, "100000"], preexec_fn=link.ends[0].enter, check=True)
        assert server.communicate(timeout=PATIENCE)[0].startswith("got 100000 ")
        assert link.counters()[0]["received_octets"] > 100000
        assert link.counters()[1]["lost"] == 0
