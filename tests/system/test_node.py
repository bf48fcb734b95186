"""A node as a file: save, start from the file, apply, diff, SIGHUP (docs/reference/config.md)."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path

from .conftest import BIN, MakeSystem, System

NODE = """
irm ipcp bootstrap type local name loc layer here
irm name create pong lb round-robin
irm bind program oping name pong auto -- --listen --quiet
irm name register pong layer here
irm ipcp bootstrap type unicast name u1 layer net autobind ttl 9
irm name register net layer here
irm name register u1 layer here
irm ipcp create type unicast name u2
irm ipcp enroll name u2 dst u1 autobind
irm ipcp connect name u2 dst u1 comp dt qos voice timeout 900
irm ipcp bootstrap type broadcast name bc layer all autobind
irm name create free
"""


def irm(system: System, *words: str, code: int = 0) -> str:
    done = system.run("irm", *words, check=False)
    assert done.returncode == code, (words, done.stdout, done.stderr)
    return done.stdout


def settled(system: System, path: Path) -> None:
    """Wait until nothing of the file is outstanding."""
    end = time.monotonic() + 60
    while any(
        ipcp["state"] != "operational" for ipcp in json.loads(irm(system, "ipcp", "list", "--json"))["ipcps"]
    ):
        assert time.monotonic() < end, irm(system, "ipcp", "list")
        time.sleep(0.05)
    irm(system, "diff", str(path))


def test_save_start_save(make_system: MakeSystem, tmp_path: Path) -> None:
    """The system that is started from the file is the one that was saved, and its programs run."""
    system = make_system()
    for line in NODE.strip().splitlines():
        system.run(*line.split())
    path = tmp_path / "node.conf"
    irm(system, "save", str(path))
    assert irm(system, "save") == path.read_text()
    assert irm(system, "diff", str(path)) == "" and irm(system, "apply", str(path)) == "Nothing to change.\n"
    other = make_system("--config", str(path))
    settled(other, path)
    assert irm(other, "save") == path.read_text()
    other.run("oping", "-n", "pong", "-c", "1", "-i", "10ms")
    neighbours = json.loads(irm(other, "ipcp", "neighbours", "name", "u2", "--json"))
    assert "900" in json.dumps(neighbours)


def test_apply_brings_any_system_there(make_system: MakeSystem, tmp_path: Path) -> None:
    """From nothing, from another system, and when it was killed on its way again and again."""
    first = make_system()
    for line in NODE.strip().splitlines():
        first.run(*line.split())
    path, empty = tmp_path / "node.conf", tmp_path / "empty.conf"
    irm(first, "save", str(path))
    empty.write_text("")
    system = make_system()
    changes = irm(system, "apply", str(path), "--dry-run").splitlines()
    assert "bootstrap IPCP u1 in layer net" in changes
    assert irm(system, "diff", str(path), code=1).splitlines() == changes
    assert "No IPCPs" in irm(system, "ipcp", "list")
    for number in range(12):
        apply = subprocess.Popen(
            [f"{BIN}/irm", "apply", str(path)], env=system.env, stdout=subprocess.DEVNULL
        )
        time.sleep(0.03 * number)
        apply.kill()
        apply.wait()
    irm(system, "apply", str(path))
    settled(system, path)
    assert irm(system, "save") == path.read_text()
    # Apply creates a dead IPCP again, and destroys a name that the file does not have.
    (victim,) = (
        ipcp["pid"]
        for ipcp in json.loads(irm(system, "ipcp", "list", "--json"))["ipcps"]
        if ipcp["name"] == "u2"
    )
    system.kill(victim)
    irm(system, "name", "create", "more")
    while "u2" in {ipcp["name"] for ipcp in json.loads(irm(system, "ipcp", "list", "--json"))["ipcps"]}:
        time.sleep(0.01)
    done = irm(system, "apply", str(path))
    assert "create IPCP u2 (unicast)\n" in done and "destroy name more\n" in done
    settled(system, path)
    irm(system, "apply", str(empty))
    assert irm(system, "save") == ""


def test_a_mistake_changes_nothing(make_system: MakeSystem, tmp_path: Path) -> None:
    system = make_system()
    path = tmp_path / "node.conf"
    path.write_text('[local.l]\nbootstrap = "x"\n\n[eth-dix.e]\nbootstrap = "y"\ndevice = "lo"\n')
    done = system.run("irm", "apply", str(path), check=False)
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and not done.stdout
    assert f"{path}:6: [eth-dix.e]: key device is unknown" in done.stderr
    assert irm(system, "save") == ""
    # A mistake that only the system can find ends apply at that step; the earlier steps stay for the next attempt.
    path.write_text('[local.l]\nbootstrap = "x"\n\n[eth-dix.e]\nbootstrap = "y"\ndev = "nodev"\n')
    done = system.run("irm", "apply", str(path), check=False)
    assert done.returncode == 1 and 'no device "nodev"' in done.stderr
    path.write_text('[local.l]\nbootstrap = "x"\n')
    assert irm(system, "apply", str(path)) == "destroy IPCP e\n"


def test_a_file_without_end_is_refused(make_system: MakeSystem) -> None:
    system = make_system()
    done = system.run("irm", "apply", "/dev/zero", check=False)
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "is longer than" in done.stderr
    with open("/dev/zero", "rb") as endless:
        done = subprocess.run(
            [f"{BIN}/irm", "apply", "-"], env=system.env, stdin=endless, capture_output=True, text=True
        )
    assert done.returncode == 1 and "<standard input> is longer than" in done.stderr


def test_sighup_applies_the_file_again(make_system: MakeSystem, tmp_path: Path) -> None:
    path = tmp_path / "node.conf"
    path.write_text('[local.l]\nbootstrap = "x"\n')
    system = make_system("--config", str(path))
    path.write_text('[local.l]\nbootstrap = "x"\nreg = ["served"]\n[name.other]\n')
    system.irmd.signal(signal.SIGHUP)
    system.irmd.expect("configuration: register served with IPCP l")
    irm(system, "diff", str(path))
    path.write_text("[local.l")
    system.irmd.signal(signal.SIGHUP)
    system.irmd.expect("is not TOML")
    assert "served" in irm(system, "name", "list")
