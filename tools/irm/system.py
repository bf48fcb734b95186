"""irm start, irm stop: the IRMd of this user in the background, and its end (docs/reference/irm.md)."""

from __future__ import annotations

import subprocess
import sys

from .words import Arguments, Command, Key


def _start(arguments: Arguments) -> int:
    command = [sys.executable, "-P", "-m", "irmd", "--daemon"]
    for key in ("config", "log"):
        if arguments.flag(key):
            command += [f"--{key}", arguments.needed(key)]
    return subprocess.run(command, check=False).returncode


def _stop(_arguments: Arguments) -> int:
    from ouroboros.running import stop

    print(f"The IRMd (pid {stop()}) has ended.")
    return 0


START = Command(
    "start",
    "start the IRMd in the background, and wait until it is ready",
    _start,
    keys=(Key("config", "file"), Key("log", "file")),
)
STOP = Command("stop", "end the IRMd: all flows go down", _stop, destructive=True)
