"""Standard streams that are closed, full, or not read; and Ctrl-C in a tool's first milliseconds. Every tool, as a program."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from ouroboros_tools import stdio

TOOLS = ("irm", "oping", "oecho", "obc", "ocbr", "operf", "ocap", "olab")
BIN = Path(sys.executable).parent


def run(shell: str, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PATH": f"{BIN}:/usr/bin:/bin", **environment}
    return subprocess.run(["sh", "-c", shell], capture_output=True, text=True, env=env, check=False)


@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize(
    ("redirection", "reason"), [(">&-", "Bad file descriptor"), (">/dev/full", "No space left")]
)
def test_an_output_that_takes_nothing_is_one_line_and_1(tool: str, redirection: str, reason: str) -> None:
    done = run(f"{tool} --help {redirection}")
    assert done.returncode == 1
    assert "cannot write to standard output" in done.stderr and reason in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("tool", TOOLS)
def test_a_reader_that_goes_away_needs_no_words(tool: str) -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [BIN / tool, "--help"], stdout=write, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize("closed", ["2>&-", "2>/dev/full", "<&- >&- 2>&-"])
def test_errors_that_cannot_be_written_change_no_exit_code(tool: str, closed: str) -> None:
    assert run(f"{tool} --nonsense {closed}").returncode in (1, 2)


def test_a_command_without_output_needs_no_stdout(tmp_path: Path) -> None:
    """Above all no connection to the IRMd may get the number of a descriptor that is closed."""
    done = run("irm name create x <&- >&-", OUROBOROS_RUNDIR=str(tmp_path))
    assert done.returncode == 1 and "no IRMd answers" in done.stderr


def test_text_that_the_locale_lacks_is_escaped() -> None:
    done = run(
        "oping -q b\u00e9st -n x",
        LC_ALL="C",
        PYTHONUTF8="0",
        PYTHONCOERCECLOCALE="0",
        PYTHONIOENCODING="ascii",
    )
    assert done.returncode == 2 and "b\\udcc3" in done.stderr


WRITING = """
import os, threading
from ouroboros_tools import stdio
read, write = os.pipe()
os.dup2(write, 1)
os.set_blocking(1, False)
stdio.prepare()
threading.Thread(target=lambda: [os.read(read, 1 << 16) for _ in range(10_000)], daemon=True).start()
print("x" * 1_000_000, flush=True)
"""


def test_a_stdout_that_does_not_block_is_waited_for() -> None:
    done = subprocess.run([sys.executable, "-c", WRITING], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_streams_of_a_test_are_left_alone() -> None:
    before = sys.stdout, sys.stderr
    stdio.prepare()
    assert (sys.stdout, sys.stderr) == before


@pytest.mark.parametrize("tool", ["irm ipcp list", "oping -n x", "olab list"])
def test_ctrl_c_in_the_first_milliseconds_makes_no_traceback(tool: str, tmp_path: Path) -> None:
    first = (BIN / tool.split()[0]).read_text().splitlines()[0]
    if "--block-signal" not in first:
        pytest.skip("this machine's env cannot block signals")
    for delay in range(0, 60, 4):
        program = subprocess.Popen(
            [BIN / tool.split()[0], *tool.split()[1:]],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OUROBOROS_RUNDIR": str(tmp_path), "OLAB_DIR": str(tmp_path)},
        )
        try:
            program.wait(delay / 1000)
        except subprocess.TimeoutExpired:
            program.send_signal(signal.SIGINT)
        _, errors = program.communicate()
        assert "Traceback" not in errors and "KeyboardInterrupt" not in errors
