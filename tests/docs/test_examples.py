"""The examples of the documentation, executed as a reader would.

Fenced blocks of two languages in README.md and docs/ are run; others (`sh`, `text`, `toml`) are only read. A block of any
language with `file=NAME` behind it is written to that file, for the later blocks. All blocks of one document share one private
system, one shell, one empty folder and one folder for labs.

`console`   A session. Lines that begin with `$ ` (continued by `> ` after a backslash) are typed into the shell; each must
            end with exit code 0 unless the next one is `echo $?`. The lines below a command must appear, in this order;
            others may appear in between. Numbers and the width of spaces do not matter, and `...` stands for anything.
            `irmd ... &` and `irm start` start the private system of the document, with these arguments, and wait until it is
            ready.
`python`    A program that must end with exit code 0.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.system.conftest import BIN, CHECKOUT, MakeSystem, Program

MARK = "-- end of command --"


@dataclass(slots=True)
class Block:
    """A fenced block: its language, the words after it, its text and the line of the document where it begins."""

    language: str
    words: list[str]
    text: str
    line: int


@dataclass(slots=True)
class Command:
    """One command of a session, and the lines that the document shows below it."""

    text: str
    output: list[str]


def blocks(document: Path) -> Iterator[Block]:
    """The fenced blocks of a document, those that are indented in a list included."""
    fence: re.Match[str] | None = None
    begin, lines = 0, list[str]()
    for number, line in enumerate(document.read_text().splitlines(), start=1):
        if fence is None:
            if fence := re.match(r"( *)```(\w*) *(.*)$", line):
                begin, lines = number, []
        elif re.match(r" *```$", line):
            yield Block(fence[2], fence[3].split(), "\n".join(lines) + "\n", begin)
            fence = None
        else:
            lines.append(line.removeprefix(fence[1]))


def commands(session: str) -> list[Command]:
    found: list[Command] = []
    for line in session.splitlines():
        if line.startswith("$ "):
            found.append(Command(line[2:], []))
        elif found and line.startswith("> ") and found[-1].text.endswith("\\"):
            found[-1].text = found[-1].text[:-1] + line[2:]
        elif found and line.strip():
            found[-1].output.append(line)
    return found


def shape(line: str) -> str:
    """A line without what differs from run to run: numbers and the width of columns."""
    line = re.sub(r"\d+(\.\d+)?", "#", line.strip())
    return re.sub(r"-{2,}", "--", re.sub(r"\s+", " ", line))


def pattern(line: str) -> str:
    """A regular expression for the shape of a line as the document shows it."""
    return ".*".join(re.escape(part) for part in shape(line).split("..."))


class Reader:
    """A reader who follows a document: one shell on one system, in an empty folder."""

    def __init__(self, make_system: MakeSystem, folder: Path) -> None:
        self.make_system = make_system
        self.folder = folder
        self.env = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "PYTHONUNBUFFERED": "1"}
        # Not below `folder`: the path of a socket has to be short.
        self.labs = Path(tempfile.mkdtemp(prefix="olab-", dir="/tmp"))
        self.env["OLAB_DIR"] = str(self.labs)
        self.shell = Program(["bash"], env=self.env, cwd=folder, stdin=subprocess.PIPE)

    def start(self, *irmd_args: str) -> None:
        """Start the system of the document; shell and programs know it from now on."""
        assert "OUROBOROS_RUNDIR" not in self.env, "a document has one system"
        system = self.make_system(*irmd_args, cwd=self.folder)
        self.env = system.env
        self.shell.send(f"export OUROBOROS_RUNDIR={system.rundir}\n")

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        # Of this folder only: the system of the document has an environment of its own.
        env = {**os.environ, "OLAB_DIR": str(self.labs)}
        subprocess.run([BIN / "olab", "down", "--all"], env=env, check=True)
        self.shell.kill()
        shutil.rmtree(self.labs, ignore_errors=True)

    def follow(self, block: Block) -> None:
        names = [word.removeprefix("file=") for word in block.words if word.startswith("file=")]
        if names:
            (self.folder / names[0]).write_text(block.text)
        elif block.language == "python":
            self.execute(block)
        elif block.language == "console":
            todo = commands(block.text)
            for command, following in zip(todo, [*todo[1:], None], strict=True):
                self.type(command, may_fail=following is not None and following.text == "echo $?")

    def type(self, command: Command, *, may_fail: bool) -> None:
        background = command.text.endswith("&")
        if starts_irmd(command):
            words = shlex.split(command.text.removesuffix("&"))
            if words[0] == "irm":
                self.start(*[f"--{word}" if word == "config" else word for word in words[2:]])
            else:
                self.start(*[word for word in words[1:] if word != "--stdout"])
            return
        typed = command.text if background else f"{command.text} </dev/null"
        self.shell.send(f"{typed}\n__code=$?; echo; echo '{MARK}' $__code; (exit $__code)\n")
        printed: list[str] = []
        while not (end := re.fullmatch(f"{MARK} (\\d+)", line := self.next_line())):
            printed.append(line)
        text = "\n".join(printed)
        assert end[1] == "0" or may_fail, f"`{command.text}` ended with {end[1]}:\n{text}"
        self.assert_shown(command, printed)

    def next_line(self) -> str:
        return self.shell.expect("^.*$")[0]

    def assert_shown(self, command: Command, printed: list[str]) -> None:
        """Assert that the document's lines have appeared; wait for those of a server in the background."""
        rest = [line for line in command.output if line.strip() != "..."]
        for line in printed:
            if rest and re.fullmatch(pattern(rest[0]), shape(line)):
                rest.pop(0)
        while rest:
            try:
                line = self.next_line()
            except AssertionError:
                text = "\n".join(printed)
                raise AssertionError(f"`{command.text}` did not print {rest[0]!r} but:\n{text}") from None
            if re.fullmatch(pattern(rest[0]), shape(line)):
                rest.pop(0)

    def execute(self, block: Block) -> None:
        script = self.folder / f"line{block.line}.py"
        script.write_text(block.text)
        with Program([sys.executable, str(script)], env=self.env, cwd=self.folder) as program:
            assert program.wait() == 0, program.output


def starts_irmd(command: Command) -> bool:
    """Whether a command of a session starts an IRMd in the background."""
    return command.text.startswith("irm start") or (
        command.text.startswith("irmd ") and command.text.endswith("&")
    )


def is_run(block: Block) -> bool:
    return block.language in ("console", "python") or any(word.startswith("file=") for word in block.words)


def documents() -> list[Path]:
    found = [CHECKOUT / "README.md", *sorted((CHECKOUT / "docs").rglob("*.md"))]
    return [path for path in found if any(is_run(block) for block in blocks(path))]


@pytest.mark.parametrize("document", documents(), ids=lambda path: str(path.relative_to(CHECKOUT)))
def test_examples(
    document: Path, make_system: MakeSystem, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    everything = list(blocks(document))
    sessions = [
        command for block in everything if block.language == "console" for command in commands(block.text)
    ]
    if any(command.text.startswith("olab ") for command in sessions):
        request.getfixturevalue("namespaces")
    (tmp_path / "examples").symlink_to(CHECKOUT / "examples")  # the reader's folder is the checkout
    with Reader(make_system, tmp_path) as reader:
        if not any(starts_irmd(command) for command in sessions):
            reader.start()
        for block in everything:
            try:
                reader.follow(block)
            except AssertionError as failure:
                where = f"{document.relative_to(CHECKOUT)}:{block.line}"
                raise AssertionError(f"{where}: {failure}") from failure


def anchors(document: Path) -> set[str]:
    """The anchors that the headings of a document have where it is rendered."""
    prose = re.sub(r"^```.*?^```", "", document.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_links_lead_somewhere() -> None:
    """Every relative link of the documentation names a file that exists, and a heading that exists in it."""
    for document in [
        CHECKOUT / "README.md",
        CHECKOUT / "CONTRIBUTING.md",
        *(CHECKOUT / "docs").rglob("*.md"),
    ]:
        for target, anchor in re.findall(r"\]\(([^)#\s]*)#?([^)\s]*)[^)]*\)", document.read_text()):
            if "://" not in target:
                page = document.parent / target if target else document
                assert page.exists(), f"{document.relative_to(CHECKOUT)} links to {target}"
                assert not anchor or anchor in anchors(page), (
                    f"{document.relative_to(CHECKOUT)} links to {target}#{anchor}"
                )
