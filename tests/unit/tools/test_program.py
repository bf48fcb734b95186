"""The end of a tool: the parts of `program.run` that all tools share."""

import subprocess
import sys
from typing import NamedTuple

import pytest
from ouroboros_tools import program
from ouroboros_tools.program import WARNINGS, ToolError, packet_size, warn, warn_of_peer

from ouroboros.limiter import PERIOD, Limiter


class Carrying(NamedTuple):
    """A flow, as far as its size goes."""

    max_packet: int


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


@pytest.mark.parametrize(
    ("asked", "limit", "size"),
    [(None, 9000, 1500), (None, 1444, 1444), (None, 64, 64), (100, 1444, 100), (1444, 1444, 1444)],
)
def test_a_default_size_adapts_to_the_flow(asked: int | None, limit: int, size: int) -> None:
    assert packet_size(asked, 1500, 64, Carrying(limit)) == size


@pytest.mark.parametrize(
    ("asked", "limit", "mend"), [(1500, 1444, "--size 1444 or less"), (None, 40, "another layer")]
)
def test_a_size_that_the_flow_does_not_carry_names_the_limit(
    asked: int | None, limit: int, mend: str
) -> None:
    with pytest.raises(ToolError, match=rf"\({limit}\); .*{mend}"):
        packet_size(asked, 1500, 64, Carrying(limit))


def test_what_is_warned_of_is_one_printable_line(capsys: pytest.CaptureFixture[str]) -> None:
    warn("layer a\x1b[2J\nb")
    assert capsys.readouterr().err == "layer a\\x1b[2J\\nb\n"


def test_what_the_other_end_causes_is_printed_so_many_times(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that sends nonsense does not fill a server's stderr."""
    now = 0.0
    monkeypatch.setattr(program, "_warned", Limiter(lambda: now))
    for number in range(3 * WARNINGS):
        warn_of_peer(f"Invalid message on fd {number}.")
    warn_of_peer("another line")
    lines = capsys.readouterr().err.splitlines()
    assert lines == [f"Invalid message on fd {number}." for number in range(WARNINGS)] + ["another line"]
    now += PERIOD
    for _ in range(2):
        warn_of_peer("Invalid message.")
    assert capsys.readouterr().err.splitlines() == ["Invalid message."] * 2, "another place in the code"
