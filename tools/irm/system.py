"""irm start, stop, save, apply, diff: the IRMd of this user, and its system as a file (docs/reference/irm.md)."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from contextlib import nullcontext

from ouroboros.printable import printable

from ..text import print_json
from .words import Arguments, Command, Key


def _start(arguments: Arguments) -> int:
    command = [sys.executable, "-P", "-m", "irmd", "--daemon"]
    for key in ("config", "log"):
        if arguments.flag(key):
            command += [f"--{key}", arguments.needed(key)]
    return subprocess.run(command, check=False).returncode


def _stop(arguments: Arguments) -> int:
    from ouroboros.running import stop

    arguments.say(f"The IRMd (pid {stop()}) has ended.")
    return 0


def _save(arguments: Arguments) -> int:
    from ouroboros import irm

    text = irm.save_system()
    path = arguments.operand()
    if path is None or path == "-":
        print(text, end="")
        return 0
    # A save that fails half way leaves the file as it was.
    folder = os.path.dirname(os.path.abspath(path))
    with tempfile.NamedTemporaryFile("w", dir=folder, prefix=".irm-", delete=False) as file:
        try:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
            os.chmod(file.name, _mode(path))
            os.replace(file.name, path)
        except BaseException:
            os.unlink(file.name)
            raise
    return 0


def _mode(path: str) -> int:
    """The permissions of the file that is replaced; of a new one, readable by all and writable by its owner."""
    try:
        return os.stat(path).st_mode & 0o777
    except FileNotFoundError:
        return 0o644


def _changes(path: str, *, dry_run: bool) -> list[str]:
    from ouroboros import irm
    from ouroboros.rpc.limits import CONFIG_FILE

    shown = "<standard input>" if path == "-" else path
    with nullcontext(sys.stdin.buffer) if path == "-" else open(path, "rb") as file:
        octets = file.read(CONFIG_FILE + 1)
    if len(octets) > CONFIG_FILE:
        raise ValueError(f"{shown} is longer than {CONFIG_FILE} octets")
    try:
        text = octets.decode()
    except UnicodeDecodeError:
        raise ValueError(f"{shown} is not TOML: it is not UTF-8") from None
    return irm.apply_system(text, shown, dry_run=dry_run)


def _apply(arguments: Arguments) -> int:
    dry_run = arguments.flag("--dry-run")
    changes = _changes(arguments.operands[0], dry_run=dry_run)
    if arguments.json:
        print_json({"changes": changes, "dry_run": dry_run})
        return 0
    for change in changes or ["Nothing to change."]:
        arguments.say(change)
    return 0


def _diff(arguments: Arguments) -> int:
    changes = _changes(arguments.operands[0], dry_run=True)
    if arguments.json:
        print_json({"changes": changes})
    for change in () if arguments.json else changes:
        print(printable(change))
    return 1 if changes else 0


START = Command(
    "start",
    "start the IRMd in the background, and wait until it is ready",
    _start,
    keys=(Key("config", "file"), Key("log", "file")),
)
STOP = Command("stop", "end the IRMd: all flows go down", _stop, destructive=True)
SAVE = Command(
    "save",
    "write the running system as a configuration file, or print it",
    _save,
    operands=("file",),
    optional=1,
)
APPLY = Command(
    "apply",
    "bring the running system to the state of a configuration file; it may be repeated",
    _apply,
    operands=("file",),
    keys=(Key("--dry-run"), Key("dry-run", alias="--dry-run")),
    json=True,
)
DIFF = Command(
    "diff",
    "show what apply would change; exit status 1: something",
    _diff,
    operands=("file",),
    json=True,
)
