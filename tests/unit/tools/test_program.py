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


TELLING = """
import signal, sys
from ouroboros_tools.program import run

class Gone(OSError):
    def __str__(self):
        signal.raise_signal(signal.SIGINT)  # as the thread that accepts does, when it learns of the same
        return "the IRMd has gone"

def body(argv):
    raise Gone

code = run("tool", body, None)
signal.raise_signal(signal.SIGINT)
sys.exit(code)
"""


def test_a_signal_does_not_disturb_the_telling_of_a_failure() -> None:
    """Two threads of a server may learn at once that the IRMd has gone; the exit code stays 1, and the line is said."""
    done = subprocess.run([sys.executable, "-c", TELLING], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "tool: the IRMd has gone\n")
