"""How a tool ends: what every tool has from `program.run`."""

import subprocess
import sys

ENDING = """
import atexit, os, signal, sys
from ouroboros_tools.program import run

def good_bye():
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(os.getpid(), number)
    print("the good-bye is said")

def body(argv):
    atexit.register(good_bye)  # as the library does, when it is used first
    signal.raise_signal(signal.SIGTERM)
    return 0

sys.exit(run("tool", body, None))
"""


def test_signals_do_not_disturb_the_end() -> None:
    """A thread that waits for flows sees the connection end, and interrupts a main thread that is at its end already."""
    done = subprocess.run([sys.executable, "-c", ENDING], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (1, "the good-bye is said\n", "")
