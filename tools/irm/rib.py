"""irm rib: the statistics tree, without and with a file system (paper 5.3; docs/howto/observe.md)."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING

from ouroboros.printable import printable

from ..text import print_json
from .intervals import INTERVAL, interval
from .words import Arguments, Command, Group

if TYPE_CHECKING:
    from ..observe.tree import Node


def _node(arguments: Arguments) -> Node:
    from ..observe.reader import Reader
    from ..observe.tree import find, root

    return find(root(Reader()), arguments.operand() or "/")


def _ls(arguments: Arguments) -> int:
    from ..observe.tree import Folder

    node = _node(arguments)
    entries = node.entries() if isinstance(node, Folder) else {arguments.operand() or "": node}
    names = [f"{name}/" if isinstance(entry, Folder) else name for name, entry in entries.items()]
    if arguments.json:
        print_json({"entries": names})
    else:
        for name in names:
            print(printable(name))
    return 0


def _cat(arguments: Arguments) -> int:
    print(_text(_node(arguments), arguments.operands[0]), end="")
    return 0


def _text(node: Node, path: str) -> str:
    from ..observe.tree import Folder

    if isinstance(node, Folder):
        raise IsADirectoryError(f'{path} is a folder of the tree; "irm rib ls {path}" lists it')
    return "".join(f"{printable(line)}\n" for line in node.text().splitlines())


def _watch(arguments: Arguments) -> int:
    from ..observe.reader import Reader
    from ..observe.tree import find, root

    path, pause = arguments.operands[0], interval(arguments)
    tree, shown = root(Reader(kept=0)), None
    while True:
        text = _text(find(tree, path), path)
        if text != shown:
            mark = "\x1b[H\x1b[2J" if sys.stdout.isatty() else ""
            print(f"{mark}{time.strftime('%H:%M:%S')} {printable(path)}\n{text}", flush=True)
            shown = text
        time.sleep(pause)


def _mount(arguments: Arguments) -> int:
    from ouroboros import rib, running

    pid, rundir = running.find()
    path = arguments.operand() or rib.tree_path(rundir)
    try:
        import mfusepy  # noqa: F401
    except (ImportError, OSError) as error:
        raise OSError(
            f'no FUSE on this machine ({error}): install the extra "fuse" and the package fuse3; "irm rib ls" needs neither'
        ) from None
    rib.prepare(path)
    command = [sys.executable, "-P", "-m", "ouroboros_tools.observe.mount", path, str(pid)]
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stderr is not None
    if process.stdout.readline() != "ready\n":
        why = process.stderr.read().strip().splitlines()
        rib.unmount(path)
        raise OSError(f"cannot mount the statistics tree at {path}: {why[-1] if why else 'FUSE has failed'}")
    arguments.say(f"The statistics tree is at {path} until the IRMd ends.")
    return 0


def _unmount(arguments: Arguments) -> int:
    from ouroboros import rib, running
    from ouroboros.rundir import default_rundir

    path = arguments.operand()
    if path is None:
        try:
            path = rib.tree_path(running.find()[1])
        except OSError:
            path = rib.tree_path(default_rundir())
    if not rib.unmount(path):
        raise OSError(f"nothing is mounted at {path}")
    arguments.say(f"Unmounted {path}.")
    return 0


GROUP = Group(
    "rib",
    "the statistics tree of the system",
    (
        Command("ls", "list a folder of the tree", _ls, operands=("path",), optional=1, json=True),
        Command("cat", "print a file of the tree", _cat, operands=("path",)),
        Command(
            "watch",
            "print a file of the tree whenever it changes, until Ctrl-C",
            _watch,
            operands=("path",),
            keys=(INTERVAL,),
        ),
        Command(
            "mount",
            "show the tree as a file system (FUSE), until the IRMd ends",
            _mount,
            operands=("path",),
            optional=1,
        ),
        Command(
            "unmount", "remove the file system", _unmount, operands=("path",), optional=1, destructive=True
        ),
    ),
)
