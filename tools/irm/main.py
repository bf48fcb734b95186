"""irm: the command line as a whole (docs/reference/irm.md). Runs as a short-lived process; entry point of `irm`.

Exit status: 0 done; 1 failed; 2 the command line is wrong: a word, a value, or something that is missing.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from textwrap import wrap
from typing import NamedTuple, TextIO

from ouroboros.ipcp_options import OptionError

from ..text import USAGE, fail, guarded, terminal_width
from . import bind, cert, complete, doctor, flow, ipcp, live, metrics, name, pool, rib, system
from .words import HELP, Command, Group, HelpWanted, UsageError, WrongWord, find_entry, parse, unknown, usage

# In the order in which a prefix is looked up.
GROUPS: tuple[Group | Command, ...] = (
    ipcp.GROUP,
    bind.BIND,
    bind.UNBIND,
    name.GROUP,
    name.REGISTER,
    name.UNREGISTER,
    flow.GROUP,
    pool.GROUP,
    rib.GROUP,
    metrics.METRICS,
    metrics.WEB,
    live.MONITOR,
    live.TOP,
    doctor.DOCTOR,
    cert.GROUP,
    system.START,
    system.STOP,
    system.SAVE,
    system.APPLY,
    system.DIFF,
    *complete.commands(lambda: GROUPS),
)
PROGRAM = "irm"
_OPTIONS = frozenset({"--json", "--quiet", "-q", "--help", "-h", "--version"})


class Line(NamedTuple):
    """A command line without the options that may stand anywhere on it."""

    words: list[str]
    after: list[str] | None  # the words behind `--`
    json: bool
    quiet: bool
    help: bool
    version: bool


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    return guarded(lambda: _run(split(words)))


def split(words: list[str]) -> Line:
    """Take out --json, --quiet, -q, --help, -h and --version, wherever they stand before `--`."""
    before, after = words, None
    if "--" in words:
        at = words.index("--")
        before, after = words[:at], words[at + 1 :]
    given = _OPTIONS.intersection(before)
    return Line(
        [word for word in before if word not in _OPTIONS],
        after,
        json="--json" in given,
        quiet=not given.isdisjoint(("--quiet", "-q")),
        help=not given.isdisjoint(("--help", "-h")),
        version="--version" in given,
    )


def _run(line: Line) -> int:
    if line.version:
        from ouroboros.version import __version__

        print(f"Ouroboros version {__version__}")
        return 0
    found = Found(PROGRAM, None, [], False)
    try:
        found = resolve(line.words)
        if line.help or found.help:
            raise HelpWanted
        if not isinstance(found.target, Command):
            print(_for_terminal(explain(found.path, found.target), sys.stderr), file=sys.stderr)
            return USAGE
        if line.json and not found.target.json:
            raise UsageError(f'"--json" is for commands that print a list, which "{found.path}" does not.')
        arguments = parse(found.path, found.target, found.words, line.after)
    except (UsageError, WrongWord) as error:
        return fail(str(error), USAGE)
    except HelpWanted:
        print(_for_terminal(explain(found.path, found.target), sys.stdout))
        return 0
    try:
        return found.target.run(arguments._replace(json=line.json, quiet=line.quiet))
    except (UsageError, OptionError) as error:
        return fail(str(error), USAGE)


class Found(NamedTuple):
    """The command, the group, or (None) the whole that the first words of a line name; and the remaining words."""

    path: str
    target: Command | Group | None
    words: list[str]
    help: bool


def resolve(words: list[str]) -> Found:
    """Find the command or group that words name. `irm help ipcp create` is `irm ipcp create help`. Raises WrongWord."""
    found = Found(PROGRAM, None, words, False)
    while found.words:
        path, target, (word, *left), helpful = found
        if isinstance(target, Command):
            break
        if word and HELP.startswith(word):
            found = Found(path, target, left, True)
            continue
        table: Sequence[Group | Command] = GROUPS if target is None else target.commands
        entry = find_entry(word, table, path)
        if entry is None:
            raise unknown(word, [*(known.word for known in table), HELP], path)
        found = Found(f"{path} {entry.word}", entry, left, helpful)
    return found


def _for_terminal(text: str, stream: TextIO) -> str:
    """The text with its long lines wrapped at the width of the terminal that it goes to, below their own indentation."""
    width = terminal_width(stream)
    if width is None:
        return text
    columns = max(width, 40)

    def wrapped(line: str) -> str:
        indent = " " * (len(line) - len(line.lstrip()) + 4)
        return "\n".join(wrap(line, columns, subsequent_indent=indent, break_on_hyphens=False)) or line

    return "\n".join(map(wrapped, text.split("\n")))


def explain(path: str, target: Command | Group | None) -> str:
    """Help, at any level."""
    if isinstance(target, Command):
        lines = [f"usage: {usage(path, target)}", "", f"{target.summary[0].upper()}{target.summary[1:]}."]
        if target.details is not None:
            lines += ["", target.details()]
        return "\n".join(lines)
    if isinstance(target, Group):
        lines = [f"usage: {path} <command>", "", f"{target.summary[0].upper()}{target.summary[1:]}.", ""]
        for command in target.commands:
            lines += [f"    {usage(f'{path} {command.word}', command)}", f"        {command.summary}"]
    else:
        lines = [f"usage: {path} <command>", "", "Manage the recursive network of this system.", ""]
        for entry in GROUPS:
            commands = (
                "" if isinstance(entry, Command) else " ".join(command.word for command in entry.commands)
            )
            lines.append(f"    {entry.word:<11} {entry.summary}{f': {commands}' if commands else ''}")
        lines += ["", "Words may be abbreviated. --json prints lists for programs, --version the version."]
    return "\n".join([*lines, "", f'"{path} ... {HELP}" explains more, at any level.'])


if __name__ == "__main__":
    sys.exit(main())
