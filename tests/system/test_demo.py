"""`make demo` as a user sees it: what it shows, how it ends, and that it leaves nothing."""

from __future__ import annotations

import os
import re
import signal
import sys
from pathlib import Path

from tests.system.conftest import CHECKOUT, Program, processes_of

DEMO = str(CHECKOUT / "demo" / "demo.py")


def start_demo() -> Program:
    return Program([sys.executable, "-u", DEMO], env=os.environ)


def rundir_of(demo: Program) -> Path:
    return Path(demo.expect(r"\$ export OUROBOROS_RUNDIR=(\S+)")[1])


def assert_nothing_left(rundir: Path) -> None:
    assert not processes_of(rundir)
    assert not rundir.parent.exists()


def test_demo_shows_everything_and_leaves_nothing(clean_world: None) -> None:
    with start_demo() as demo:
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
    with start_demo() as demo:
        rundir = rundir_of(demo)
        demo.expect(r"\$ oping ")
        assert demo.stop(signal.SIGINT) == 130, demo.output
    assert_nothing_left(rundir)


def test_demo_that_fails_says_so_and_shows_the_log(clean_world: None) -> None:
    failing = f"""
import sys
sys.path.insert(0, {str(CHECKOUT / "demo")!r})
from demo import Demo, main

def show(demo: Demo) -> None:
    demo.start_irmd()
    demo.run("irm ipcp bootstrap type carrier-pigeon name local layer local")

sys.exit(main(show))
"""
    with Program([sys.executable, "-u", "-c", failing], env=os.environ) as demo:
        rundir = rundir_of(demo)
        assert demo.wait() == 1, demo.output
    assert_nothing_left(rundir)
    assert "The demo failed: `irm ipcp bootstrap type carrier-pigeon name local layer local`" in demo.output
    assert "log of the irmd:" in demo.output
