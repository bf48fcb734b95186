"""`make demo` at the command line: its output, its exit status, and that only its pictures remain."""

from __future__ import annotations

import os
import re
import select
import signal
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from tests.system.conftest import CHECKOUT, PATIENCE, Program, processes_of

DEMO = str(CHECKOUT / "demo" / "demo.py")
PICTURES = CHECKOUT / "demo" / "pictures"


def start_demo(*scenes: str) -> Program:
    return Program([sys.executable, "-u", DEMO, *scenes], env=os.environ)


def rundir_of(demo: Program) -> Path:
    return Path(demo.expect(r"\$ export OUROBOROS_RUNDIR=(\S+)")[1])


def assert_nothing_left(rundir: Path) -> None:
    assert not processes_of(rundir)
    assert not rundir.parent.exists()


def stages() -> set[Path]:
    """The folders of demos that are there."""
    return set(Path("/tmp").glob("ouro-demo-*"))


def assert_nothing_new(before: set[Path]) -> None:
    assert not stages() - before
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                command = (process / "cmdline").read_bytes()
            except OSError:
                continue
            assert b"ouro-demo-" not in command or any(str(path).encode() in command for path in before), (
                command
            )


def texts(picture: str) -> str:
    """All text of a picture."""
    tree = ElementTree.parse(PICTURES / f"{picture}.svg")
    return " ".join("".join(one.itertext()) for one in tree.iter("{http://www.w3.org/2000/svg}text"))


# ---------------------------------------------------------------- the networks of the paper


@pytest.mark.usefixtures("namespaces")
def test_unicast_network_shows_listing_14(clean_world: None) -> None:
    before = stages()
    with start_demo("unicast") as demo:
        assert demo.wait() == 0, demo.output
    assert_nothing_new(before)
    shown = demo.output
    assert "a$ irm ipcp bootstrap name uni1 layer unicast type unicast autobind" in shown
    assert "c$ irm ipcp connect name uni4 dst uni2" in shown
    assert "Pinging oping with 64 bytes of data (4 packets):" in shown
    assert len(re.findall(r"^64 bytes from oping: seq=\d time=[\d.]+ ms", shown, re.MULTILINE)) == 4, shown
    assert "4 packets transmitted, 4 received, 0 out-of-order, 0% packet loss" in shown
    for name in ("uni1", "uni2", "uni3", "uni4", "ethernet", "ipnet"):
        assert name in texts("unicast")


@pytest.mark.usefixtures("namespaces")
def test_broadcast_network_reaches_both_readers(clean_world: None) -> None:
    before = stages()
    with start_demo("broadcast") as demo:
        assert demo.wait() == 0, demo.output
    assert_nothing_new(before)
    shown = demo.output
    for system in ("a", "b"):
        heard = rf"the reader on system {system}:\nMessage is Hello multiple worlds\."
        assert re.search(heard, shown), shown
    for name in ("bc1", "bc2", "bc3", "bc4"):
        assert name in texts("broadcast")


@pytest.mark.usefixtures("namespaces")
def test_listing_5_shows_three_behaviours(clean_world: None) -> None:
    before = stages()
    with start_demo("listing5") as demo:
        assert demo.wait() == 0, demo.output
    assert_nothing_new(before)
    found = re.findall(
        r"--qos (\w+)\n(?:.*\n)*?10000 packets transmitted, (\d+) received, (\d+) out-of-order", demo.output
    )
    raw, voice, data = [(int(received), int(late)) for _, received, late in found]
    assert [qos for qos, *_ in found] == ["raw", "voice", "data"], demo.output
    assert raw[0] < 10000 and raw[1] > 0, "some are lost, some are late"
    assert voice[0] < 10000 and voice[1] == 0, "what is late is lost as well"
    assert data == (10000, 0), "everything, in order"


@pytest.mark.usefixtures("namespaces")
def test_ping_survives_two_cuts(clean_world: None) -> None:
    before = stages()
    with start_demo("cut") as demo:
        assert demo.wait() == 0, demo.output
    assert_nothing_new(before)
    shown = demo.output
    first = re.search(r"\$ olab cut (\S+)\n", shown)
    second = re.search(r"\$ olab cut (\S+) --silent\n", shown)
    assert first and second and first[1] != second[1], shown
    assert shown.count("20 more replies have arrived") == 2, shown
    assert re.search(r"^\d+ packets transmitted, \d+ received", shown, re.MULTILINE), shown
    drawn = texts("redundant")
    assert f"{first[1]}  ✕ cut (carrier)" in drawn
    assert f"{second[1]}  ✕ cut (silent)" in drawn


@pytest.mark.usefixtures("namespaces")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_demo_that_is_stopped_in_the_middle_leaves_no_lab(clean_world: None, number: int) -> None:
    before = stages()
    with start_demo("unicast") as demo:
        demo.expect(r"^b\$ irm ipcp enrol")
        assert demo.stop(number) == (130 if number == signal.SIGINT else -number), demo.output
    if number == signal.SIGKILL:
        (folder,) = stages() - before
        await_end_of_lab(folder)
        folder.rmdir()
    assert_nothing_new(before)


def await_end_of_lab(folder: Path) -> None:
    """The process that holds the lab sees that the demo has gone, and takes everything down."""
    for process in Path("/proc").iterdir():
        try:
            command = (process / "cmdline").read_bytes()
            if str(folder).encode() in command and b"olab.holder" in command:
                pidfd = os.pidfd_open(int(process.name))
            else:
                continue
        except OSError:
            continue
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        assert poll.poll(PATIENCE * 1000), "the lab is still there"
        os.close(pidfd)


# ---------------------------------------------------------------- one system


def test_one_system_shows_everything_and_leaves_nothing(clean_world: None) -> None:
    with start_demo("system") as demo:
        rundir = rundir_of(demo)
        assert demo.wait() == 0, demo.output
    assert_nothing_left(rundir)
    shown = demo.output
    pings = re.findall(r"^64 bytes from oping: seq=\d+ time=[\d.]+ ms", shown, re.MULTILINE)
    assert len(pings) == 10, shown
    assert shown.count("5 packets transmitted, 5 received, 0 out-of-order, 0% packet loss") == 2, shown
    assert len(re.findall(r"[\d.]+ Mb/s", shown)) >= 2, shown
    assert "Message from client is Hello World!" in shown
    assert re.search(r"^\| +\d+ \| +local \| +local \| +local \|$", shown, re.MULTILINE), shown
    for name in ("oping", "operf", "helloworld-server"):
        assert re.search(rf"^\| +{name} \| +\S+ \|$", shown, re.MULTILINE), shown


def test_demo_interrupted_stops_what_it_started(clean_world: None) -> None:
    with start_demo("system") as demo:
        rundir = rundir_of(demo)
        demo.expect(r"\$ oping ")
        assert demo.stop(signal.SIGINT) == 130, demo.output
    assert_nothing_left(rundir)


def test_demo_that_fails_says_so_and_shows_the_log(clean_world: None) -> None:
    failing = f"""
import sys
sys.path.insert(0, {str(CHECKOUT / "demo")!r})
from demo import main
from one_system import System

def show(stage):
    with System(stage) as system:
        system.start_irmd()
        system.run("irm ipcp bootstrap type carrier-pigeon name local layer local")

sys.exit(main([show]))
"""
    with Program([sys.executable, "-u", "-c", failing], env=os.environ) as demo:
        rundir = rundir_of(demo)
        assert demo.wait() == 1, demo.output
    assert_nothing_left(rundir)
    assert "The demo failed: `irm ipcp bootstrap type carrier-pigeon name local layer local`" in demo.output
    assert "log of the irmd:" in demo.output


def test_demo_during_which_a_process_dies_fails(clean_world: None) -> None:
    """The log reports that a signal killed the IPCP, and the demo reads it, whatever its output was."""
    failing = f"""
import json, os, subprocess, sys
sys.path.insert(0, {str(CHECKOUT / "demo")!r})
from demo import main
from one_system import System

def show(stage):
    with System(stage) as system:
        system.start_irmd()
        system.run("irm ipcp bootstrap type local name local layer local")
        listed = subprocess.run(["irm", "ipcp", "list", "--json"], env=system.env, capture_output=True, check=True)
        os.kill(json.loads(listed.stdout)["ipcps"][0]["pid"], 11)
        system.stop_irmd()

sys.exit(main([show]))
"""
    demo = Program([sys.executable, "-u", "-c", failing], env=os.environ)
    rundir = rundir_of(demo)
    assert demo.wait() == 1, demo.output
    assert_nothing_left(rundir)
    assert "The demo failed: a process of the irmd died" in demo.output


def test_unknown_scene_is_refused() -> None:
    with start_demo("unicat") as demo:
        assert demo.wait() == 1
    assert 'there is no scene "unicat"; there are: unicast broadcast cut listing5 system' in demo.output
