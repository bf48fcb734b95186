"""irm complete, irm completion: the words that may follow on a command line, for shells (docs/reference/irm.md).

From the table of commands that parses the line. Names of IPCPs, layers and names are the system's, asked only when one could stand at the
cursor; without an IRMd there are none. A shell gets one candidate a line and puts it on the line itself, quoted: nothing is evaluated.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from .words import HELP, Arguments, Command, Group, Key, find, find_entry

FILES = ":files"
"""In place of candidates: the shell completes names of files."""

Table = Sequence[Group | Command]
_OPTIONS = ("--help", "--version")


class Candidate(NamedTuple):
    """A word, and its purpose."""

    word: str
    summary: str = ""


def complete(table: Table, words: Sequence[str]) -> list[Candidate]:
    """The candidates for the last of `words`, the words behind `irm` up to the cursor."""
    *before, word = words or [""]
    found = [
        one for one in _candidates(table, before, word) if one.word.startswith(word) or one.word == FILES
    ]
    return list({one.word: one for one in found}.values())


def _candidates(table: Table, before: Sequence[str], word: str) -> Iterable[Candidate]:
    if "--" in before:
        return [Candidate(FILES)]
    path: list[str] = []
    entries: Table = table
    for at, given in enumerate(before):
        if given.startswith("--") or (given and HELP.startswith(given)):
            continue
        try:
            entry = find_entry(given, entries, "irm")
        except ValueError:
            return []
        if entry is None:
            return []
        path.append(entry.word)
        if isinstance(entry, Command):
            return _of_command(
                path, entry, [one for one in before[at + 1 :] if not one.startswith("--")], word
            )
        entries = entry.commands
    own = [Candidate(entry.word, entry.summary) for entry in entries]
    return [*own, Candidate(HELP, "explain"), *(Candidate(one) for one in _OPTIONS if word.startswith("-"))]


def _of_command(
    path: Sequence[str], command: Command, before: Sequence[str], word: str
) -> Iterable[Candidate]:
    expecting: Key | None = None
    used: set[str] = set()
    operands = 0
    for given in before:
        if expecting is not None:
            expecting = None
        elif operands < len(command.operands) and not used:
            operands += 1
        else:
            known = find(given, [key.word for key in command.keys])
            key = next((one for one in command.keys if one.word == known), None)
            if key is not None:
                used.add(key.alias or key.word)
                expecting = key if key.value else None
    if expecting is not None:
        found = values(path, expecting.word, expecting.value)
        return [*found, *_keys(command, used)] if expecting.takes else found
    found = []
    if operands < len(command.operands) and not used:
        found += values(path, command.operands[operands], command.operands[operands])
    if operands >= len(command.operands) - command.optional:
        found += _keys(command, used)
    found += [Candidate(option) for option in ("--json",) if command.json and word.startswith("-")]
    return [*found, Candidate(HELP, "explain")] if not used and not operands else found


def _keys(command: Command, used: set[str]) -> list[Candidate]:
    return [
        Candidate(key.word, key.value)
        for key in command.keys
        if not key.alias and (key.repeats or key.word not in used)
    ]


def values(path: Sequence[str], key: str, value: str) -> list[Candidate]:
    """The candidates for a value: `key` introduces it, `value` describes it."""
    choices = re.findall(r"[\w-]+", value.partition(" of ")[2]) if " of " in value else value.split("|")
    if len(choices) > 1 or " of " in value:
        return [Candidate(choice) for choice in choices if choice.isascii() and ":" not in choice]
    if value in ("file", "directory", "program") or (value == "path" and path[0] != "rib"):
        return [Candidate(FILES)]
    if key == "name":
        source = _SYSTEM["ipcp" if path[0] == "ipcp" else "name"]
    else:
        source = _SYSTEM.get(key, list)
    return [Candidate(word) for word in source()]


def _types() -> list[str]:
    from ouroboros.ipcp_types import TYPES

    return list(TYPES)


def _asked(ask: Callable[[], Iterable[str]]) -> list[str]:
    """Names from the system; none where no IRMd listens: a shell does not wait for one that starts."""
    from ouroboros.rpc.codec import SOCKET_NAME
    from ouroboros.rundir import rundir_candidates

    if not any(os.path.exists(os.path.join(rundir, SOCKET_NAME)) for rundir in rundir_candidates()):
        return []
    try:
        return sorted({word for word in ask() if word and word.isprintable()})
    except OSError:
        return []


def _ipcps() -> list[str]:
    from ouroboros import irm

    return _asked(lambda: (ipcp.name for ipcp in irm.list_ipcps()))


def _layers() -> list[str]:
    from ouroboros import irm

    return _asked(lambda: (ipcp.layer for ipcp in irm.list_ipcps()))


def _names() -> list[str]:
    from ouroboros import irm

    return _asked(lambda: (info.name for info in irm.list_names()))


_SYSTEM: Mapping[str, Callable[[], list[str]]] = {
    "type": _types,
    "ipcp": _ipcps,
    "layer": _layers,
    "name": _names,
    "dst": _names,
}


def _complete(table: Callable[[], Table]) -> Callable[[Arguments], int]:
    def run(arguments: Arguments) -> int:
        for candidate in complete(table(), arguments.rest):
            print(f"{candidate.word}\t{candidate.summary}" if candidate.summary else candidate.word)
        return 0

    return run


def _completion(arguments: Arguments) -> int:
    from . import shells

    print(shells.script(arguments.operands[0]), end="")
    return 0


def commands(table: Callable[[], Table]) -> tuple[Command, Command]:
    """The commands of this module, for a table that has them too."""
    return (
        Command(
            "complete",
            "print the words that can follow on a command line, for shells",
            _complete(table),
            rest="word",
        ),
        Command(
            "completion",
            "print the script that makes a shell complete the commands of all tools",
            _completion,
            operands=("bash|zsh|fish",),
        ),
    )
