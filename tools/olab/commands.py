"""Commands: the command line of olab. Runs as a short-lived process; entry point of `olab`.

Exit codes: 0 done; 1 failed; 2 wrong usage, or a wrong description; 130 interrupted. `olab run` ends as its command does.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from ouroboros.printable import printable

from ..text import USAGE, coloured, fail, guarded, print_json, reason, table
from .description import DescriptionError
from .lab import CommandFailed, Lab, LabError, clear_stale, find
from .place import VARIABLE, Place, PlaceError, folder, only, places
from .reading import FileError, read

_COLUMNS = (("system", 16), ("irmd", 9), ("pid", 7), ("devices", 30))
_LINKS = (("link", 16), ("type", 9), ("between", 34), ("state", 8))
_EMULATED = ("emulated", 34)


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(USAGE, f'{self.prog}: {message}; see "{self.prog} --help"\n')


def parser() -> argparse.ArgumentParser:
    """All commands and options; docs/reference/olab.md names them too."""
    from ouroboros.version import __version__

    top = Parser(
        prog="olab",
        description="Systems on one machine, with links between them that can be cut.",
        epilog=f"Labs are in {folder()}; ${VARIABLE} names another folder.",
    )
    top.add_argument("--version", action="version", version=f"olab {__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=Parser)

    def command(
        name: str, text: str, *, lab: bool = True, aliases: Sequence[str] = ()
    ) -> argparse.ArgumentParser:
        found = commands.add_parser(name, help=text, description=text, aliases=list(aliases))
        found.set_defaults(command=name)
        if lab:
            found.add_argument("--lab", metavar="NAME", help="which lab, when there are several")
        return found

    up = command("up", "Make the lab of a description in TOML.", lab=False)
    up.add_argument("file", metavar="FILE", type=Path)
    up.add_argument("--name", help="name of the lab (default: that in the file, or the name of the file)")
    up.add_argument(
        "--keep", action="store_true", help="keep the lab also when a command of the description fails"
    )
    up.add_argument("--check", action="store_true", help="only check the description")
    up.add_argument(
        "--no-commands", action="store_true", help="make systems and links, and run none of the commands"
    )
    up.add_argument(
        "--emulate", action="store_true", help="put an emulator into every link, for `olab link` to use"
    )
    up.add_argument("--user-namespace", action="store_true", help="use a user namespace also as root")
    up.add_argument("--quiet", action="store_true", help="print errors only")

    run = command("run", "Run a command in a system.", aliases=["exec"])
    run.add_argument("system", metavar="SYSTEM")
    run.add_argument("words", metavar="-- COMMAND", nargs=argparse.REMAINDER)

    shell = command("shell", "Start a shell in a system.")
    shell.add_argument("system", metavar="SYSTEM")

    cut = command("cut", "Cut a link: its devices lose their carrier.")
    cut.add_argument(
        "link", metavar="LINK | A B", nargs="+", help="the name of a link, or the two systems that it joins"
    )
    cut.add_argument("--silent", action="store_true", help="packets vanish, and neither end can see it")

    heal = command("heal", "Undo a cut.")
    heal.add_argument(
        "link", metavar="LINK | A B", nargs="+", help="the name of a link, or the two systems that it joins"
    )

    link = command("link", "Show or set the impairments of an emulated link.")
    # argparse's own usage fails for a metavar with brackets.
    link.usage = (
        "olab link [-h] [--lab NAME] [--json] LINK | A B  [from SYSTEM] [loss 5%% delay 20ms 2ms duplicate 3%% "
        "reorder 10%% corrupt 0.1%% rate 100mbit limit 1000 seed 7 | clear]"
    )
    link.add_argument(
        "words",
        metavar="LINK | A B",
        nargs="+",
        help="the link, and its impairments from now on; without those, show its impairments and counters",
    )
    link.add_argument("--json", action="store_true", help="print JSON")

    status = command("status", "Show the systems and links of a lab.")
    status.add_argument("--json", action="store_true", help="print JSON")

    labs = command("list", "List the labs.", lab=False)
    labs.add_argument("--json", action="store_true", help="print JSON")

    log = command("log", "Show the log of the IRMd and the IPCPs of a system.")
    log.add_argument("system", metavar="SYSTEM")

    graph = command("graph", "Draw the present systems, layers and adjacencies as SVG.")
    graph.add_argument("-o", "--output", metavar="FILE", type=Path, help="default: standard output")
    graph.add_argument("--title", help="title of the drawing (default: the name of the lab)")
    graph.add_argument("--json", action="store_true", help="print the facts of the drawing as JSON")

    down = command("down", "Tear a lab down, or remove the remains of one.", lab=False)
    down.add_argument("name", metavar="NAME", nargs="?", help="which lab, when there are several")
    down.add_argument("--lab", dest="name", default=argparse.SUPPRESS, metavar="NAME", help="the same")
    down.add_argument("--all", action="store_true", help="all labs")
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    return guarded(lambda: _run(words))


def _run(words: list[str]) -> int:
    # The words behind `--` are a command of its own, and no options of olab.
    options = parser().parse_args(words)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        return int(_COMMANDS[options.command](options))
    except FileError as error:
        return fail(f"olab: {error}", USAGE)
    except DescriptionError as error:
        return fail(f"olab: {error}", USAGE)
    except OSError as error:
        return fail(f"olab: {reason(error)}")


def _interrupt(number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt(signal.Signals(number).name)


# ---------------------------------------------------------------- up and down


def _up(options: argparse.Namespace) -> int:
    description = read(options.file)
    if options.name is not None:
        from dataclasses import replace

        from .description import check

        description = check(replace(description, name=options.name))
    if options.emulate:
        description = description.emulated()
    if options.check:
        return 0
    if options.no_commands:
        description = description.only_links()
    lab = Lab(description, user_namespace=True if options.user_namespace else None)
    progress = _Progress(quiet=options.quiet)
    try:
        with lab.tearing_down():
            lab.hold()
            lab.make(progress.step)
            if options.keep:
                lab.keep()
                code = _set_up_and_keep(lab, progress)
            else:
                lab.set_up(progress.step)
                lab.keep()
                code = 0
    except CommandFailed as failure:
        return _show_failure(
            failure, progress, f"the lab is torn down; `olab up --keep {options.file}` leaves it"
        )
    lab.close()
    if code == 0:
        systems, links = _count(description.systems, "system"), _count(description.links, "link")
        progress.done(f"lab {description.name} is up: {systems}, {links}")
    return code


def _count(things: Sequence[object], what: str) -> str:
    return f"{len(things)} {what}{'' if len(things) == 1 else 's'}"


def _set_up_and_keep(lab: Lab, progress: _Progress) -> int:
    try:
        lab.set_up(progress.step)
    except CommandFailed as failure:
        name = lab.description.name
        return _show_failure(failure, progress, f"the lab stays as it is; `olab down {name}` removes it")
    return 0


def _show_failure(failure: CommandFailed, progress: _Progress, after: str) -> int:
    progress.clear()
    for text in (
        f"olab: system {failure.system}: `{failure.command}` ended with exit code {failure.code}",
        *(f"    {line}" for line in failure.output.strip().splitlines()),
        f"olab: {after}",
    ):
        print(coloured(printable(text), "red", sys.stderr), file=sys.stderr)
    return 1


class _Progress:
    """The current step: each on a line of its own, or, on a terminal, on one line that is overwritten."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._live = sys.stderr.isatty() and os.environ.get("TERM") != "dumb" and "NO_COLOR" not in os.environ

    def step(self, text: str) -> None:
        if self._quiet:
            return
        if self._live:
            width = os.get_terminal_size(sys.stderr.fileno()).columns - 1
            print(f"\r\x1b[K{text[:width]}", end="", file=sys.stderr, flush=True)
        else:
            print(text, file=sys.stderr, flush=True)

    def clear(self) -> None:
        if self._live and not self._quiet:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)

    def done(self, text: str) -> None:
        self.clear()
        if not self._quiet:
            print(text, file=sys.stderr, flush=True)


def _down(options: argparse.Namespace) -> int:
    there = places()
    if options.all:
        wanted = there
    elif options.name is not None:
        wanted = [place for place in there if place.name == options.name]
        if not wanted:
            raise PlaceError(f'there is no lab "{options.name}" in {folder()}')
    else:
        place = only(there, "name one, or use --all")
        wanted = [] if place is None else [place]
    if not wanted and not options.all:
        raise PlaceError(f"there is no lab in {folder()}")
    code = 0
    for place in wanted:
        code = max(code, _down_one(place))
    return code


def _down_one(place: Place) -> int:
    try:
        lab = Lab.attach(place)
    except (PlaceError, DescriptionError):
        clear_stale(place)
        if place.path.exists():
            raise
        print(f"Removed the remains of lab {place.name}.")
        return 0
    facts = lab.description
    bad = {name: code for name, code in lab.down().items() if code != 0}
    print(f"Lab {place.name} is down: {_count(facts.systems, 'system')}, {_count(facts.links, 'link')}.")
    for name, code in bad.items():
        print(
            coloured(f"olab: the irmd of system {name} ended with exit code {code}", "red", sys.stderr),
            file=sys.stderr,
        )
    return 1 if bad else 0


# ---------------------------------------------------------------- in a lab


@contextlib.contextmanager
def _lab(options: argparse.Namespace, *, change: bool = False) -> Iterator[Lab]:
    lab = find(options.lab, change=change)
    try:
        yield lab
    finally:
        lab.close()


def _exec(options: argparse.Namespace) -> int:
    words = options.words
    if len(words) > 1 and words[0] == "--lab":  # behind SYSTEM, where the other commands take it too
        options.lab, words = words[1], words[2:]
    if words[:1] == ["--"]:
        words = words[1:]
    if not words:
        return fail("olab: there is no command; as in `olab run a -- irm ipcp list`", USAGE)
    with _lab(options) as lab:
        system = lab.system(options.system)
        command = system.command(*words)
        env = system.env
    os.execve(command[0], command, env)


def _shell(options: argparse.Namespace) -> int:
    with _lab(options) as lab:
        system = lab.system(options.system)
        shell = os.environ.get("SHELL", "/bin/sh")
        command = system.command(shell)
        # Debian's shells show this in front of their prompt.
        env = {**system.env, "debian_chroot": system.name, "PS1": f"({system.name}) \\w\\$ "}
    os.execve(command[0], command, env)


def _cut(options: argparse.Namespace) -> int:
    with _lab(options, change=True) as lab:
        means = lab.cut(_link(options.link), silent=options.silent)
    print(f"{' '.join(options.link)} is cut: {means} (lab {lab.description.name})")
    return 0


def _heal(options: argparse.Namespace) -> int:
    with _lab(options, change=True) as lab:
        lab.heal(_link(options.link))
    print(f"{' '.join(options.link)} is whole (lab {lab.description.name})")
    return 0


def _set_link(options: argparse.Namespace) -> int:
    from .link_command import LinkUsageError, run, show
    from .link_command import read as read_order

    with _lab(options) as lab:
        try:
            if options.lab is None and read_order(lab, options.words).impairment is not None:
                only([lab.place], "name one with --lab")
            found, fresh = run(lab, options.words)
        except LinkUsageError as error:
            return fail(f"olab: {error}", USAGE)
    if options.json:
        print_json(found)
    else:
        print(show(found, counters=not fresh))
    return 0


def _link(words: list[str]) -> str | list[str]:
    if len(words) == 1 and words[0].count(":") == 1:
        words = words[0].split(":")
    if len(words) > 2:
        raise LabError(
            0,
            f"a link has one name or joins two systems, but here are {len(words)} words: {shlex.join(words)}",
        )
    return words[0] if len(words) == 1 else words


def _status(options: argparse.Namespace) -> int:
    with _lab(options) as lab:
        status = lab.status()
        facts = _facts(lab, status)
    if options.json:
        print_json(facts)
        return 0
    print(f"lab {facts['name']}, in {facts['folder']}")
    rows = [
        (one["name"], one["state"], one["irmd"] or "-", " ".join(one["devices"])) for one in facts["systems"]
    ]
    print(table(_COLUMNS, rows))
    emulated = any(one["emulated"] is not None for one in facts["links"])
    links = [
        (one["name"], one["type"], " - ".join(one["between"]), one["cut"] or "whole")
        + ((_impairments(one["emulated"]),) if emulated else ())
        for one in facts["links"]
    ]
    if links:
        print(table((*_LINKS, *((_EMULATED,) if emulated else ())), links))
    for one in facts["links"]:
        if one["cut"] == "dead":
            print(f"The emulator of link {one['name']} has ended; `olab heal {one['name']}` starts it again.")
    return 0


def _impairments(words: list[str] | None) -> str:
    """The impairments of an emulated link, on one line; nothing for a plain cable."""
    if words is None:
        return ""
    one, other = (text or "-" for text in words)
    return one if one == other else f"{one} / {other}"


def _facts(lab: Lab, status: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": lab.description.name,
        "folder": str(lab.place.path),
        "holder": lab.holder.pid if lab.holder else None,
        "systems": [
            {
                "name": system.name,
                "rundir": str(system.rundir),
                "devices": sorted(lab.description.devices(system.name)),
                **status["systems"][system.name],
            }
            for system in lab.systems
        ],
        "links": [
            {
                "name": link.name,
                "type": link.kind.value,
                "between": [str(end) for end in link.ends],
                "addresses": [str(address) for address in link.addresses],
                "vlan": link.vlan,
                "mtu": link.mtu,
                "cut": status["cuts"].get(link.name),
                "emulated": status["emulated"].get(link.name),
            }
            for link in lab.description.links
        ],
    }


def _list(options: argparse.Namespace) -> int:
    rows = []
    for place in places():
        try:
            holder, _ = place.read()
            state, pid = ("running", holder.pid) if holder.alive() else ("left behind", None)
        except PlaceError:
            state, pid = "left behind", None
        rows.append({"name": place.name, "state": state, "holder": pid, "folder": str(place.path)})
    if options.json:
        print_json({"labs": rows})
    elif rows:
        columns = (("lab", 16), ("state", 11), ("folder", 36))
        print(table(columns, [(row["name"], row["state"], row["folder"]) for row in rows]))
    else:
        print(f"No labs in {folder()}.")
    return 0


def _log(options: argparse.Namespace) -> int:
    with _lab(options) as lab:
        for line in lab.system(options.system).log.splitlines():
            print(printable(line))  # programs that the IRMd starts write to the same file
    return 0


def _graph(options: argparse.Namespace) -> int:
    from .picture import draw
    from .survey import survey

    with _lab(options) as lab:
        found = survey(lab)
    if options.json:
        print_json(found.facts())
        return 0
    text = draw(found, title=options.title or lab.description.name)
    if options.output is None:
        print(text)
        return 0
    try:
        options.output.write_text(text)
    except OSError as error:
        return fail(f"olab: cannot write {options.output}: {error.strerror}")
    return 0


_COMMANDS = {
    "up": _up,
    "down": _down,
    "run": _exec,
    "shell": _shell,
    "cut": _cut,
    "heal": _heal,
    "link": _set_link,
    "status": _status,
    "list": _list,
    "log": _log,
    "graph": _graph,
}
