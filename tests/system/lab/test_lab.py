"""The lab itself: its processes and files are private to it, its links can be cut and healed, and nothing of it remains at its end."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest
from ouroboros_tools.olab.control import HolderError
from ouroboros_tools.olab.lab import CommandFailed
from ouroboros_tools.olab.place import Holder

from tests.system.lab.conftest import LabOfTest, MakeLab, SystemOfTest, line

LISTEN = """
    import socket, sys
    family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.bind((sys.argv[1], 4000))
        print("listening", flush=True)
        while True:
            print("got", sock.recv(100).decode(), flush=True)
"""
SEND = """
import socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
with socket.socket(family, socket.SOCK_DGRAM) as sock:
    sock.sendto(sys.argv[2].encode(), (sys.argv[1], 4000))
"""


def send(system: SystemOfTest, address: str, text: str, *, check: bool = True) -> int:
    return system.run(sys.executable, "-c", SEND, address, text, check=check).returncode


def devices(system: SystemOfTest) -> dict[str, list[str]]:
    """The flags of each device, from the system's own point of view."""
    source = """
import socket
from pyroute2 import IPRoute
with IPRoute() as netlink:
    for link in netlink.get_links():
        carrier = "carrier" if link.get("carrier") else "-"
        print(link.get("ifname"), link.get("operstate"), "up" if link["flags"] & 1 else "down", carrier)
"""
    lines = system.run(sys.executable, "-c", source).stdout.splitlines()
    return {words[0]: words[2:] for words in map(str.split, lines)}


@pytest.mark.parametrize("user_namespace", [False, True])
def test_systems_are_private_and_have_an_irmd_each(make_lab: MakeLab, user_namespace: bool) -> None:
    if os.geteuid() != 0 and not user_namespace:
        pytest.skip("only root makes a lab without a user namespace")
    lab = make_lab(line("a", "b"), user_namespace=user_namespace)
    a, b = lab.system("a"), lab.system("b")
    a.irm("ipcp bootstrap type local name loc layer here")
    assert [ipcp["name"] for ipcp in a.json("ipcp list")["ipcps"]] == ["loc"]
    assert b.json("ipcp list")["ipcps"] == []
    pid = lab.status()["systems"]["b"]["irmd"]
    assert b"OLAB_SYSTEM=b" in b.run("cat", f"/proc/{pid}/environ").stdout.encode().split(b"\0")
    a.irm("bind program oping name oping auto -- --listen --quiet")
    a.irm("name register oping layer here")
    result = a.run("oping", "-n", "oping", "-c", "3", "-i", "10", "--layer", "here")
    assert "3 packets transmitted, 3 received" in result.stdout
    assert set(devices(a)) == {"lo", "eth1"}
    assert set(devices(b)) == {"lo", "eth0"}


def test_hosts_file_is_private(make_lab: MakeLab) -> None:
    before = Path("/etc/hosts").read_bytes()
    lab = make_lab("""
        [system.a]
        hosts = { peer = "10.9.9.9" }
        names = { uni2 = "10.1.1.1" }
        [system.b]
    """)
    a, b = lab.system("a"), lab.system("b")
    assert "10.9.9.9\tpeer\n" in a.run("cat", "/etc/hosts").stdout
    assert "10.1.1.1\t6d4c827b2080bbc7c93ae45df8a3d0fb\n" in a.run("cat", "/etc/hosts").stdout
    a.run("sh", "-c", "echo 10.8.8.8 added | tee --append /etc/hosts")
    assert "10.8.8.8 added" in a.run("cat", "/etc/hosts").stdout
    assert "added" not in b.run("cat", "/etc/hosts").stdout
    assert Path("/etc/hosts").read_bytes() == before


@pytest.mark.parametrize("silent", [True, False])
def test_cut_and_heal(lab: LabOfTest, silent: bool) -> None:
    a, b = lab.system("a"), lab.system("b")
    with b.python(LISTEN, "10.0.0.2") as server:
        server.expect("listening")
        send(a, "10.0.0.2", "one")
        server.expect("got one")
        lab.cut("ab", silent=silent)
        assert lab.status()["cuts"] == {"ab": "silent" if silent else "carrier"}
        failed = send(a, "10.0.0.2", "two", check=False) != 0
        assert failed is not silent
        ends = devices(a)["eth1"], devices(b)["eth0"]
        assert ends == ((["up", "carrier"],) * 2 if silent else (["down", "-"], ["up", "-"]))
        lab.heal(("a", "b"))
        assert lab.status()["cuts"] == {}
        send(a, "10.0.0.2", "three")
        server.expect("got three")
        assert "got two" not in server.output


def test_silent_cut_stops_raw_frames_that_go_past_the_queue(lab: LabOfTest) -> None:
    """A packet socket may leave out the queue of its device (PACKET_QDISC_BYPASS)."""
    receive = """
        import socket
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0xA000)) as sock:
            sock.bind(("eth0", 0xA000))
            print("listening", flush=True)
            while True:
                print("got", sock.recv(100)[14:].decode(), flush=True)
    """
    transmit = """
import socket, sys
with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sock:
    sock.setsockopt(263, 20, 1)
    sock.bind(("eth1", 0))
    sock.send(b"\\xff" * 6 + bytes(6) + b"\\xa0\\x00" + sys.argv[1].encode())
"""
    a, b = lab.system("a"), lab.system("b")
    with b.python(receive) as server:
        server.expect("listening")
        for cut, text in ((False, "one"), (True, "two"), (False, "three")):
            lab.cut("ab", silent=True) if cut else lab.heal("ab")
            a.run(sys.executable, "-c", transmit, text)
        server.expect("got three")
        assert "got one" in server.output and "got two" not in server.output


@pytest.mark.parametrize("addresses", [("127.0.0.1", "127.0.0.2"), ("fd00::1", "fd00::2")])
def test_loopback_links_share_devices_and_are_cut_one_by_one(
    make_lab: MakeLab, addresses: tuple[str, str]
) -> None:
    one, two = addresses
    lab = make_lab(f"""
        [system.a]
        [system.b]
        [link.lo]
        type = "loopback"
        between = ["a", "b"]
        addresses = ["{one}", "{two}"]
    """)
    a, b = lab.system("a"), lab.system("b")
    with b.python(LISTEN, two) as server, a.python(LISTEN, one) as other:
        server.expect("listening")
        other.expect("listening")
        send(a, two, "one")
        lab.cut("lo", silent=True)
        send(a, one, "still")  # from the address to itself: not what was cut
        sender = SEND.replace("as sock:\n", f"as sock:\n    sock.bind(('{one}', 0))\n")
        a.run(sys.executable, "-c", sender, two, "two")
        lab.heal("lo")
        a.run(sys.executable, "-c", sender, two, "three")
        server.expect("got three")
        assert "got two" not in server.output
        other.expect("got still")


def test_exit_codes_and_signals_pass_through(lab: LabOfTest) -> None:
    a = lab.system("a")
    assert a.run("sh", "-c", "exit 7", check=False).returncode == 7
    assert a.run("no-such-command", check=False).returncode == 127
    assert a.run("sh", "-c", "kill -SEGV $$", check=False).returncode == -signal.SIGSEGV
    with a.start(
        "sh", "-c", "trap 'echo term; exit 3' TERM; echo ready; while :; do sleep 0.1; done"
    ) as program:
        program.expect("ready")
        assert program.stop(signal.SIGTERM) == 3
        assert "term" in program.output


def test_killed_entrance_takes_the_program_along(lab: LabOfTest) -> None:
    a = lab.system("a")
    with a.start("sh", "-c", "echo $$; exec sleep 1000") as program:
        pid = program.expect(r"^\d+$")[0]
        program.kill()
    wait = f"while kill -0 {pid} 2>/dev/null; do sleep 0.05; done"
    a.run("sh", "-c", wait)


def test_irmd_can_be_stopped_killed_and_started_again(lab: LabOfTest) -> None:
    a = lab.system("a")
    assert a.stop_irmd() == 0
    assert lab.status()["systems"]["a"]["state"] == "stopped"
    a.start_irmd()
    assert a.stop_irmd(signal.SIGKILL) == -signal.SIGKILL
    a.start_irmd()
    assert a.json("ipcp list")["ipcps"] == []


def test_failing_command_says_where_and_tears_down(make_lab: MakeLab) -> None:
    text = """
        [system.a]
        [system.b]
        irm = ["ipcp destroy name nobody"]
    """
    with pytest.raises(CommandFailed) as failure:
        make_lab(text)
    assert failure.value.system == "b"
    assert failure.value.command == "irm ipcp destroy name nobody"
    assert failure.value.code == 1
    assert "nobody" in failure.value.output


def test_killed_holder_takes_everything_along(make_lab: MakeLab) -> None:
    lab = make_lab(line("a", "b"))
    assert lab.holder is not None
    lab.may_fail |= {"a", "b"}
    outside = [Holder.of(pid) for pid in descendants(lab.holder.pid)]
    assert len(outside) >= 4  # two IRMds, and the parents of their IPCPs
    pidfd = os.pidfd_open(lab.holder.pid)
    os.kill(lab.holder.pid, signal.SIGKILL)
    os.close(pidfd)
    lab.down()
    assert not any(process.alive() for process in outside)


def descendants(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [found for child in map(int, children) for found in (child, *descendants(child))]


def test_vlan_and_mtu(make_lab: MakeLab) -> None:
    text = """
        [system.a]
        [system.b]
        [link.plain]
        between = ["a:eth0", "b:eth0"]
        mtu = 3000
        [link.tagged]
        between = ["a:eth1", "b:eth1"]
        vlan = 7
        addresses = ["10.0.0.1/24", "10.0.0.2/24"]
    """
    try:
        lab = make_lab(text)
    except HolderError as error:
        if "this kernel has no VLAN devices" in str(error):
            pytest.skip("this kernel has no VLAN devices (8021q)")
        raise
    a, b = lab.system("a"), lab.system("b")
    assert (
        a.run("cat", "/sys/class/net/eth0/mtu").stdout
        == b.run("cat", "/sys/class/net/eth0/mtu").stdout
        == "3000\n"
    )
    assert set(devices(a)) == {"lo", "eth0", "eth1", "eth1.7"}
    with b.python(LISTEN, "10.0.0.2") as server:
        server.expect("listening")
        send(a, "10.0.0.2", "over the VLAN")
        server.expect("got over the VLAN")


@pytest.mark.parametrize(
    ("kind", "one", "two"), [("udp4", "127.0.0.1", "127.0.0.2"), ("udp6", "fd00::1", "fd00::2")]
)
def test_udp_layer_over_the_loopback_device(make_lab: MakeLab, kind: str, one: str, two: str) -> None:
    """Two systems that share their devices; a cut that is healed leaves no trace."""
    lab = make_lab(f"""
        [system.a]
        names = {{ oping = "{two}" }}
        irm = ["ipcp bootstrap type {kind} name udp layer ip ip {one}"]
        [system.b]
        irm = [
            "ipcp bootstrap type {kind} name udp layer ip ip {two}",
            "bind program oping name oping auto -- --listen --quiet",
            "name register oping layer ip",
        ]
        [link.path]
        type = "loopback"
        between = ["a", "b"]
        addresses = ["{one}", "{two}"]
    """)
    a = lab.system("a")
    with a.start("oping", "-n", "oping", "-i", "20") as ping:
        ping.expect("seq=3 ")
        lab.cut("path", silent=True)
        lab.heal("path")
        ping.expect("time=")
        assert ping.stop(signal.SIGINT) in (0, 1)
        assert " received" in ping.output
