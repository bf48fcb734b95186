"""`olab` at the command line: the output and exit status of each command, and that nothing remains after any failure."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ouroboros_tools.olab.place import Holder

from tests.system.conftest import CHECKOUT, PATIENCE, Program, installed

SMALL = """
[system.a]
irm = ["ipcp bootstrap type local name loc layer here"]
[system.b]
[link.cable]
between = ["a:eth1", "b:eth0"]
addresses = ["10.0.0.1/24", "10.0.0.2/24"]
"""


class User:
    """A user of `olab`, with a separate folder for labs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.labs = folder / "labs"
        self.env = {**os.environ, "OLAB_DIR": str(self.labs), "NO_COLOR": "1"}

    def olab(self, *words: str, code: int | None = 0, **options: Any) -> subprocess.CompletedProcess[str]:
        result = subprocess.run(
            [installed("olab"), *words],
            env=self.env,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=PATIENCE * 2,
            **{"stdin": subprocess.DEVNULL, **options} if "input" not in options else options,
        )
        if code is not None:
            assert result.returncode == code, f"{words}: {result.returncode}\n{result.stdout}{result.stderr}"
        return result

    def start(self, *words: str) -> Program:
        return Program([installed("olab"), *words], env=self.env, cwd=self.folder)

    def write(self, text: str, name: str = "small") -> str:
        (self.folder / f"{name}.toml").write_text(text)
        return f"{name}.toml"

    def holders(self) -> list[Holder]:
        """Processes that hold labs in this folder, by their command line."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    command = (entry / "cmdline").read_bytes()
                    if b"olab.holder" in command and str(self.labs).encode() in command:
                        found.append(Holder.of(int(entry.name)))
                except OSError:
                    continue
        return found

    def await_end(self, holder: Holder) -> None:
        """Wait until a process has ended."""
        try:
            pidfd = os.pidfd_open(holder.pid)
        except ProcessLookupError:
            return
        try:
            poll = select.poll()
            poll.register(pidfd, select.POLLIN)
            assert not holder.alive() or poll.poll(PATIENCE * 1000), "the lab is still there"
        finally:
            os.close(pidfd)

    def assert_nothing_left(self) -> None:
        assert not self.labs.exists(), sorted(self.labs.rglob("*"))
        assert self.holders() == []


@pytest.fixture
def user(namespaces: None, clean_world: None) -> Iterator[User]:
    folder = Path(tempfile.mkdtemp(prefix="olab-", dir="/tmp"))
    user = User(folder)
    try:
        yield user
        user.assert_nothing_left()
    finally:
        for holder in user.holders():
            os.kill(holder.pid, signal.SIGKILL)
            user.await_end(holder)
        shutil.rmtree(folder, ignore_errors=True)


# ---------------------------------------------------------------- a lab from beginning to end


def test_life_of_a_lab(user: User) -> None:
    up = user.olab("up", user.write(SMALL))
    assert up.stdout == ""
    assert "link cable\n" in up.stderr
    assert "a: irm ipcp bootstrap type local name loc layer here\n" in up.stderr
    assert up.stderr.endswith("lab small is up: 2 systems, 1 link\n")

    listing = user.olab("run", "a", "--", "irm", "ipcp", "list", "--json").stdout
    assert [one["name"] for one in json.loads(listing)["ipcps"]] == ["loc"]
    assert user.olab("exec", "b", "irm", "ipcp", "list").stdout == "No IPCPs in system.\n\n"
    assert user.olab("run", "a", "sh", "-c", "exit 9", code=9).stderr == ""

    status = json.loads(user.olab("status", "--json").stdout)
    assert [(one["name"], one["state"]) for one in status["systems"]] == [("a", "ready"), ("b", "ready")]
    assert status["links"][0]["between"] == ["a:eth1", "b:eth0"]
    assert status["links"][0]["cut"] is None
    assert "is cut: " in user.olab("cut", "a", "b", "--silent").stdout
    assert json.loads(user.olab("status", "--json").stdout)["links"][0]["cut"] == "silent"
    assert "silent" in user.olab("status").stdout
    for words in (("cut", "cable"), ("heal", "cable"), ("link", "cable", "clear"), ("down",)):
        refused = user.olab(*words, code=1, start_new_session=True).stderr
        assert "this session has made no lab" in refused and "small (by " in refused
    user.olab("cut", "--lab", "small", "cable", start_new_session=True)
    assert (
        json.loads(user.olab("status", "--json", start_new_session=True).stdout)["links"][0]["cut"]
        == "carrier"
    )
    assert user.olab("heal", "cable").stdout == "cable is whole (lab small)\n"
    assert json.loads(user.olab("status", "--json").stdout)["links"][0]["cut"] is None

    assert "IPCP loc is a member of layer here" in user.olab("log", "a").stdout
    typed = user.olab("shell", "a", input="irm ipcp list\nexit 4\n", code=4)
    assert "loc" in typed.stdout

    assert json.loads(user.olab("list", "--json").stdout)["labs"][0]["state"] == "running"
    down = user.olab("down")
    assert (down.stdout, down.stderr) == ("Lab small is down: 2 systems, 1 link.\n", "")
    assert json.loads(user.olab("list", "--json").stdout) == {"labs": []}


EMULATED = SMALL + 'emulate = "delay 1ms"\n[link.plain]\nbetween = ["a:eth2", "b:eth2"]\n'


def test_emulated_link(user: User) -> None:
    user.olab("up", "--quiet", user.write(EMULATED))
    assert "delay 1ms" in user.olab("status").stdout

    said = user.olab("link", "cable", "loss", "5%", "delay", "20ms", "2ms", "seed", "7").stdout
    assert said.splitlines() == [
        "link cable",
        "a:eth1 to b:eth0: loss 5% delay 20ms 2ms seed 7",
        "b:eth0 to a:eth1: loss 5% delay 20ms 2ms seed 7",
    ]
    user.olab("link", "cable", "from", "b", "rate", "10mbit", "limit", "50")
    found = json.loads(user.olab("link", "cable", "--json").stdout)
    assert (found["link"], found["cut"]) == ("cable", None)
    assert [(one["from"], one["to"], one["words"]) for one in found["directions"]] == [
        ("a:eth1", "b:eth0", "loss 5% delay 20ms 2ms seed 7"),
        ("b:eth0", "a:eth1", "rate 10mbit limit 50"),
    ]
    assert found["directions"][0]["lost"] >= 0
    shown = user.olab("link", "cable").stdout
    assert "b:eth0 to a:eth1: rate 10mbit limit 50\n" in shown
    assert "|        received |" in shown

    links = json.loads(user.olab("status", "--json").stdout)["links"]
    assert [link["emulated"] for link in links] == [
        ["loss 5% delay 20ms 2ms seed 7", "rate 10mbit limit 50"],
        None,
    ]
    drawn = "".join(ElementTree.fromstring(user.olab("graph").stdout).itertext())
    assert "from a: loss 5% delay 20ms 2ms seed 7; from b: rate 10mbit limit 50" in drawn
    user.olab("cut", "cable")
    assert user.olab("link", "cable", "clear").stdout.splitlines() == [
        "link cable, cut (carrier)",
        "a:eth1 to b:eth0: frames pass as they are",
        "b:eth0 to a:eth1: frames pass as they are",
    ]
    user.olab("heal", "cable")

    user.olab("run", "a", "--", "kill", "-9", str(found["emulator"]))
    while json.loads(user.olab("status", "--json").stdout)["links"][0]["cut"] != "dead":
        pass
    assert "The emulator of link cable has ended; `olab heal cable` starts it" in user.olab("status").stdout
    assert "cut (dead)" in user.olab("graph").stdout
    assert "`olab heal cable` starts it again" in user.olab("link", "cable", code=1).stderr
    user.olab("heal", "cable")
    user.olab("link", "cable")
    user.olab("down")


@pytest.mark.parametrize(
    ("words", "code", "complaint"),
    [
        ("cable lost 5%", 2, '"lost" is unknown behind a link; it must be one of: from, clear, loss, delay'),
        ("cable loss", 2, "loss needs a value, as in `loss 5%`"),
        ("cable loss 5", 2, '"5" is not a percentage, as in `loss 5%`'),
        ("cable reorder 5%", 2, "reorder needs a delay"),
        ("cable clear loss 5%", 2, '"clear" is unknown'),
        ("cable from", 2, "from needs a system"),
        ("cable from a", 2, "give the impairments of its frames, or `clear`"),
        ("cable from c loss 5%", 1, 'link cable has no end "c"; it joins a and b'),
        ("none loss 5%", 1, 'there is no link "none" in lab small; it has: cable, plain'),
        ("a b loss 5%", 1, "between a and b there are several links; name one of: cable, plain"),
        ("a:b loss 5%", 1, "between a and b there are several links; name one of: cable, plain"),
        ("a:c loss 5%", 1, "there is no link between a and c"),
        (
            "plain loss 5%",
            1,
            'write `emulate = ""` below [link.plain], or make the lab with `olab up --emulate`',
        ),
        ("plain", 1, "link plain is a plain cable"),
    ],
)
def test_wrong_words_for_a_link(small_lab: User, words: str, code: int, complaint: str) -> None:
    said = small_lab.olab("link", *words.split(), code=code)
    assert complaint in said.stderr and said.stderr.count("\n") == 1 and said.stdout == ""


@pytest.fixture(scope="module")
def small_lab(namespaces: None) -> Iterator[User]:
    """A lab with an emulated link, that several tests look at."""
    with tempfile.TemporaryDirectory(prefix="olab-", dir="/tmp") as folder:
        user = User(Path(folder))
        user.olab("up", "--quiet", user.write(EMULATED))
        yield user
        user.olab("down")


def test_emulators_in_all_links(user: User) -> None:
    text = (
        SMALL
        + '[link.short]\ntype = "loopback"\nbetween = ["a", "a"]\naddresses = ["127.0.0.1", "127.0.0.2"]\n'
    )
    user.olab("up", "--quiet", "--emulate", user.write(text))
    user.olab("link", "a", "b", "delay", "1ms")
    user.olab("link", "a:b", "clear")
    refused = user.olab("link", "short", "delay", "1ms", code=1).stderr
    assert "link short is the loopback device, in which no emulator can stand" in refused
    user.olab("down")


def test_graph_is_drawn_from_what_there_is(user: User) -> None:
    user.olab("up", "--quiet", user.write(SMALL))
    user.olab("cut", "cable")
    drawn = "".join(ElementTree.fromstring(user.olab("graph").stdout).itertext())
    for word in ("small", "system a", "system b", "loc", "here", "cable  ✕ cut (carrier)", "10.0.0.2/24"):
        assert word in drawn
    user.olab("graph", "--output", "picture.svg", "--title", "A title")
    assert "A title" in (user.folder / "picture.svg").read_text()
    facts = json.loads(user.olab("graph", "--json").stdout)
    assert [(one["system"], one["name"]) for one in facts["ipcps"]] == [("a", "loc")]
    assert "cannot write" in user.olab("graph", "-o", "/nowhere/x.svg", code=1).stderr
    user.olab("down")


def test_several_labs_are_told_apart(user: User) -> None:
    file = user.write("[system.a]")
    user.olab("up", "--quiet", file, "--name", "one")
    user.olab("up", "--quiet", file, "--name", "two")
    assert "there are several labs; name one with --lab: one, two" in user.olab("status", code=1).stderr
    assert json.loads(user.olab("status", "--lab", "two", "--json").stdout)["name"] == "two"
    assert "name one, or use --all: one, two" in user.olab("down", code=1).stderr
    user.olab("down", "one")
    user.olab("run", "a", "true")
    assert 'a lab "two" is there already' in user.olab("up", file, "--name", "two", code=1).stderr
    user.olab("run", "a", "true")
    user.olab("down", "--all")


def test_command_may_use_our_words(user: User) -> None:
    user.olab("up", "--quiet", user.write("[system.a]"))
    said = user.olab("run", "a", "--", "echo", "--lab", "--silent", "--", "-h").stdout
    assert said == "--lab --silent -- -h\n"
    user.olab("down")


def test_up_without_commands(user: User) -> None:
    user.olab("up", "--quiet", "--no-commands", user.write(SMALL))
    assert user.olab("run", "a", "irm", "ipcp", "list").stdout == "No IPCPs in system.\n\n"
    user.olab("down")


# ---------------------------------------------------------------- what goes wrong


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (SMALL.replace("b:eth0", "c:eth0"), 'small.toml:6: link.cable.between: there is no system "c"'),
        (SMALL.replace("here", "here colour red"), "small.toml:3: system.a.irm: "),
        ("[system.a", "small.toml: "),
    ],
)
def test_wrong_description_is_refused_before_anything_is_made(user: User, text: str, complaint: str) -> None:
    result = user.olab("up", user.write(text), code=2)
    assert complaint in result.stderr
    assert result.stderr.count("\n") == 1
    user.assert_nothing_left()
    assert user.olab("up", "--check", user.write(text), code=2).stderr == result.stderr


FAILING = (
    SMALL
    + """
[[step]]
system = "b"
irm = ["name create fine", "ipcp destroy name nobody", "name create never"]
"""
)


def test_failing_command_is_shown_and_all_is_torn_down(user: User) -> None:
    result = user.olab("up", user.write(FAILING), code=1)
    assert "olab: system b: `irm ipcp destroy name nobody` ended with exit code 1\n    " in result.stderr
    assert "nobody" in result.stderr.partition("exit code 1")[2]
    assert "name create never" not in result.stderr
    assert "`olab up --keep small.toml` leaves it" in result.stderr
    user.assert_nothing_left()


def test_failing_command_with_keep_leaves_the_lab(user: User) -> None:
    result = user.olab("up", "--keep", user.write(FAILING), code=1)
    assert "`olab down small` removes it" in result.stderr
    assert "is up" not in result.stderr
    assert "fine" in user.olab("run", "b", "irm", "name", "list").stdout
    user.olab("down")


def test_shell_command_that_fails(user: User) -> None:
    text = "[system.a]\nrun = ['echo to stdout; echo to stderr >&2; exit 5']"
    result = user.olab("up", user.write(text), code=1)
    assert "ended with exit code 5\n    to stderr\n" in result.stderr


SLOW = """
[system.a]
run = ["touch started", "echo waiting; exec sleep 1000"]
[system.b]
[link.cable]
between = ["a:eth1", "b:eth0"]
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupted_in_the_middle(user: User, number: int) -> None:
    with user.start("up", user.write(SLOW)) as up:
        up.expect("exec sleep")
        assert up.stop(number) == 130, up.output


def test_killed_in_the_middle(user: User) -> None:
    with user.start("up", user.write(SLOW)) as up:
        up.expect("exec sleep")
        (holder,) = user.holders()
        up.kill()
    user.await_end(holder)


def test_killed_holder_leaves_a_folder_that_down_removes(user: User) -> None:
    user.olab("up", "--quiet", user.write(SMALL))
    (holder,) = user.holders()
    os.kill(holder.pid, signal.SIGKILL)
    user.await_end(holder)
    assert json.loads(user.olab("list", "--json").stdout)["labs"][0]["state"] == "left behind"
    assert "`olab down small` removes its remains" in user.olab("status", code=1).stderr
    user.olab("down")


def test_killed_holder_does_not_keep_the_next_from_coming_up(user: User) -> None:
    user.olab("up", "--quiet", user.write(SMALL))
    (holder,) = user.holders()
    os.kill(holder.pid, signal.SIGKILL)
    user.await_end(holder)
    user.olab("up", "--quiet", user.write(SMALL))
    user.olab("down")


def test_terminated_holder_takes_the_lab_down(user: User) -> None:
    user.olab("up", "--quiet", user.write(SMALL))
    (holder,) = user.holders()
    os.kill(holder.pid, signal.SIGTERM)
    user.await_end(holder)


def test_programs_of_the_lab_end_with_it(user: User) -> None:
    user.olab("up", "--quiet", user.write(SMALL))
    with user.start(
        "run", "a", "--", "sh", "-c", "trap '' TERM; echo running; while :; do sleep 1; done"
    ) as program:
        program.expect("running")
        user.olab("down")
        program.may_die_of(signal.SIGKILL)
        assert program.wait() == -signal.SIGKILL


def test_irmd_that_cannot_start(user: User) -> None:
    """Something is in the place of its run directory."""
    fake = user.folder / "bin"
    fake.mkdir()
    # The programs of the environment come first on the PATH: only the interpreter's own failure is left to stage.
    user.env["PYTHONPATH"] = str(fake)
    (fake / "asyncio.py").write_text("raise SystemExit('no asyncio today')\n")
    result = user.olab("up", user.write("[system.a]"), code=None)
    assert result.returncode == 1
    assert "ended with 1 before it was ready: " in result.stderr, result.stderr


def test_nothing_to_do_is_said(user: User) -> None:
    assert "there is no lab in" in user.olab("down", code=1).stderr
    assert "there is no lab in" in user.olab("status", code=1).stderr
    assert 'there is no lab "x"' in user.olab("down", "x", code=1).stderr
    user.olab("down", "--all")
    assert user.olab("list").stdout.startswith("No labs in")
    assert "No such file" in user.olab("up", "none.toml", code=2).stderr


def test_wrong_words_are_named(user: User) -> None:
    user.olab("up", "--quiet", user.write(SMALL))
    assert 'there is no system "x" in lab small; it has: a, b' in user.olab("run", "x", "true", code=1).stderr
    assert 'there is no link "x" in lab small; it has: cable' in user.olab("cut", "x", code=1).stderr
    assert "there is no link between a and a" in user.olab("heal", "a", "a", code=1).stderr
    assert "has one name or joins two systems" in user.olab("cut", "a", "b", "c", code=1).stderr
    assert "there is no command" in user.olab("run", "a", code=2).stderr
    assert 'there is no lab "none"' in user.olab("run", "a", "--lab", "none", "--", "true", code=1).stderr
    assert 'there is no command "no-such"' in user.olab("run", "a", "no-such", code=127).stderr
    assert "invalid choice" in user.olab("cutt", code=2).stderr
    user.olab("down")


def test_long_folder_is_refused(user: User) -> None:
    user.env["OLAB_DIR"] = str(user.folder / ("x" * 100))
    assert "choose a shorter folder with OLAB_DIR" in user.olab("up", user.write(SMALL), code=1).stderr
    assert not Path(user.env["OLAB_DIR"]).exists()


# ---------------------------------------------------------------- the examples


LOSSY = "loss 5% delay 20ms duplicate 3% reorder 10% seed 1"


def test_lossy_example_loses(user: User) -> None:
    user.olab("up", "--quiet", str(CHECKOUT / "examples" / "olab" / "lossy.toml"))
    said = user.olab("run", "a", "--", "oping", "-n", "oping", "-c", "3", "-i", "20", code=None).stdout
    assert "3 packets transmitted" in said
    there, back = json.loads(user.olab("link", "a", "b", "--json").stdout)["directions"]
    assert there["received"] >= 3 and there["words"] == back["words"] == LOSSY
    user.olab("down")


@pytest.mark.parametrize("example", ["two-systems", "ring", "paper-unicast", "redundant"])
def test_examples_carry_a_ping(user: User, example: str) -> None:
    user.olab("up", "--quiet", str(CHECKOUT / "examples" / "olab" / f"{example}.toml"))
    said = user.olab("run", "a", "--", "oping", "-n", "oping", "-c", "3", "-i", "20").stdout
    assert "3 packets transmitted, 3 received, 0 out-of-order, 0% packet loss" in said
    user.olab("down")
