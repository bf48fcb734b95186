"""The word grammar: every command, abbreviations, help, and mistakes; and that no line makes a traceback."""

from __future__ import annotations

import io
from contextlib import redirect_stderr, redirect_stdout

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ouroboros_tools.irm.main import GROUPS, main, resolve, split
from ouroboros_tools.irm.words import (
    Arguments,
    Command,
    Group,
    HelpWanted,
    UsageError,
    WrongWord,
    find,
    parse,
)

from ouroboros.ipcp_types import IpcpType
from ouroboros.rpc import locate

COMMANDS = [
    (f"irm {group.word}{'' if isinstance(group, Command) else f' {command.word}'}", command)
    for group in GROUPS
    for command in ([group] if isinstance(group, Command) else group.commands)
]


def read(line: str) -> tuple[str, Arguments]:
    """The command that a line names and what it says to it."""
    parts = split(line.split())
    found = resolve(parts.words)
    assert isinstance(found.target, Command)
    return found.path.removeprefix("irm "), parse(found.path, found.target, found.words, parts.after)


def run(*words: str) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main(words)
    return code, out.getvalue(), err.getvalue()


@pytest.mark.parametrize(
    ("line", "path"),
    [
        ("i b name x layer y", "ipcp bootstrap"),
        ("i l", "ipcp list"),
        ("i c name x type local", "ipcp create"),
        ("ipcp co name x dst y", "ipcp connect"),
        ("ipcp de name x", "ipcp destroy"),
        ("ipcp dis name x dst y", "ipcp disconnect"),
        ("ipcp enrol name x dst y", "ipcp enroll"),
        ("ipcp e name x dst y", "ipcp enroll"),
        ("b p prog name x", "bind program"),
        ("b proc 1 name x", "bind process"),
        ("bind i i name x", "bind ipcp"),
        ("unb p prog", "unbind program"),
        ("n d x", "name destroy"),
        ("unbind proc 1", "unbind process"),
        ("n reg x layer y", "name register"),
        ("n r x layer y", "name register"),
        ("n unreg x layer y", "name unregister"),
        ("n c x", "name create"),
        ("n l", "name list"),
        ("n s", "name show"),
        ("name ha x", "name hash"),
        ("ipcp neigh name x", "ipcp neighbours"),
        ("ipcp dir name x", "ipcp directory"),
        ("ipcp cou name x", "ipcp counters"),
        ("register name x layer y", "register"),
        ("reg n x l y", "register"),
        ("unreg name x layer y", "unregister"),
        ("f l", "flow list"),
        ("p s", "pool show"),
    ],
)
def test_abbreviations(line: str, path: str) -> None:
    assert read(line)[0] == path


@pytest.mark.parametrize(
    ("line", "meanings"),
    [
        ("ipcp d name x", "destroy or disconnect or directory"),
        ("ipcp di name x dst y", "disconnect or directory"),
        ("u p prog", "unbind or unregister"),
        ("un name x layer y", "unbind or unregister"),
    ],
)
def test_a_destructive_word_is_never_the_first_of_several_meanings(line: str, meanings: str) -> None:
    code, out, err = run(*line.split())
    assert (code, out) == (2, "") and f"could be {meanings}; write it out" in err


def test_each_word_that_undoes_is_destructive() -> None:
    tables = [
        GROUPS,
        *(group.commands for group in GROUPS if isinstance(group, Group) and not group.destructive),
    ]
    for entry in (entry for table in tables for entry in table):
        assert entry.destructive == entry.word.startswith(("destroy", "un", "dis", "stop")), entry.word


def test_help_offers_no_value_that_is_refused() -> None:
    for ipcp_type in IpcpType:
        for option in ipcp_type.row.options:
            offered = option.legal.removeprefix("one of ")
            required = {
                one.key: "::1" if ipcp_type is IpcpType.UDP6 else "127.0.0.1"
                for one in ipcp_type.row.options
                if one.required
            }
            for word in offered.split() if offered.isupper() or "one of" in option.legal else ():
                ipcp_type.check(required | {option.key: word})


def test_an_empty_word_is_the_first() -> None:
    assert resolve(["", ""]).path == "irm ipcp create"


@pytest.mark.parametrize(
    ("typed", "key"),
    [
        ("a", "addr"),
        ("addr_", "addr_auth"),
        ("d", "dns"),
        ("de", "dev"),
        ("di", "directory"),
        ("dht_t_e", "dht_t_expire"),
        ("t", "type"),
        ("tt", "ttl"),
        ("e", "ethertype"),
        ("ei", "eid"),
        ("i", "ip"),
        ("h", "hash"),
        ("p", "port"),
        ("sport", "port"),
        ("r", "routing"),
        ("c", "congestion"),
        ("ls_t_u", "ls_t_update"),
    ],
)
def test_keys_of_bootstrap(typed: str, key: str) -> None:
    assert read(f"ipcp bootstrap {typed} v n x l y")[1].one(key) == "v"


def test_a_value_that_may_be_left_out() -> None:
    for line, value in (
        ("ipcp enrol name x retry layer y", None),
        ("ipcp enrol name x layer y retry", None),
        ("ipcp enrol name x retry 3 layer y", "3"),
        ("ipcp enrol name x r forever layer y", "forever"),
    ):
        arguments = read(line)[1]
        assert arguments.flag("retry") and arguments.one("retry") == value
        assert arguments.one("layer") == "y"


def test_flags() -> None:
    _, arguments = read("ipcp bootstrap au n x l y")
    assert arguments.flag("autobind")
    assert read("b p oping name x")[1].flag("auto") is False
    assert read("b p oping a name x")[1].flag("auto") is True


def test_pairs_in_any_order() -> None:
    for line in ("ipcp connect name a dst b component dt qos data", "ipcp connect q data c dt d b n a"):
        arguments = read(line)[1]
        assert {key: arguments.one(key) for key in ("name", "dst", "component", "qos")} == {
            "name": "a",
            "dst": "b",
            "component": "dt",
            "qos": "data",
        }


def test_repeated_keys_and_operands() -> None:
    arguments = read("name register srv layer a ipcp i layer b")[1]
    assert (arguments.operand(), arguments.all("layer"), arguments.all("ipcp")) == ("srv", ["a", "b"], ["i"])
    assert read("name register name srv layer a")[1].operand() == "srv"
    assert read("name register name layer a")[1].operand() == "name"
    assert read("name create name help")[1].operand() == "help"
    assert read("name create -- help")[1].operand() == "help"
    assert read("name show name")[1].operand() == "name"
    assert read("name show")[1].operand() is None
    assert read("ipcp create name help type help")[1].one("name") == "help"


def test_what_follows_two_dashes_belongs_to_the_program() -> None:
    _, arguments = read("bind program oping auto name x -- --json -h help -- x")
    assert list(arguments.rest) == ["--json", "-h", "help", "--", "x"]
    assert arguments.operand() == "oping"


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("lpcp", '"lpcp" is unknown, did you mean "ipcp"? Try "irm help".'),
        (
            "zzz",
            "it must be one of: ipcp, bind, unbind, name, register, unregister, flow, pool, rib, metrics, web, monitor, top, doctor, cert, start, stop, save, apply, diff, complete, completion, help.",
        ),
        ("ipcp lisst", '"lisst" is unknown, did you mean "list"? Try "irm ipcp help".'),
        ("name x", 'Try "irm name help".'),
        ("ipcp create naem x", 'did you mean "name"? Try "irm ipcp create help".'),
        ("ipcp create name x type local bogus 1", '"bogus" is unknown, it must be one of: name, type.'),
        ("ipcp enroll name x dst y bogus z", 'Try "irm ipcp enroll help".'),
        ("ipcp bootstrap name x layer y cport 3", '"cport" was removed: one UDP port serves both directions'),
        ("ipcp bootstrap name x layer y pff simple", '"pff" was removed'),
        ("name destroy x y", '"y" is too much: irm name destroy <name>'),
        ("bind process name x", '"name" is not a valid process id.'),
        ("ipcp connect a b", '"b" is unknown, it must be one of: name, dst, component'),
        ("flow list x", '"x" is too much'),
        ("name list lay x", '"x" is unknown, it must be one of: name.'),
        ("name list naem x", '"naem" is unknown, did you mean "name"?'),
    ],
)
def test_wrong_words(line: str, text: str) -> None:
    code, out, err = run(*line.split())
    assert (code, out) == (2, "")
    assert text in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("ipcp create", '"name <name>" is missing: irm ipcp create [name] <name> type <type>'),
        ("ipcp create name x", '"type <type>" is missing'),
        ("ipcp create name", '"name" needs a value: name <name>. Try "irm ipcp create help".'),
        ("ipcp bootstrap name x layer", '"layer" needs a value'),
        ("ipcp bootstrap name x layer y ttl", '"ttl" needs a value: ttl <a number from 1 to 255>'),
        ("ipcp bootstrap name x type local", '"layer <layer>" is missing'),
        ("ipcp connect name x", '"dst <name>" is missing'),
        ("ipcp create name x name y type local", '"name" is there twice: x and y.'),
        (
            "bind program",
            "<program> is missing: irm bind program <program> [name] <name> [auto] [user <user>] [-- <argument>...]",
        ),
        ("bind program x", '"name <name>" is missing'),
        ("register", '"name <name>" is missing'),
        ("name create", "<name> is missing"),
        ("name register x layer", '"layer" needs a value'),
        ("ipcp create name x type local --json", '"--json" is for commands that print a list'),
    ],
)
def test_incomplete_lines(line: str, text: str) -> None:
    code, out, err = run(*line.split())
    assert (code, out) == (2, "")
    assert text in err
    assert err.count("\n") == 1


def test_usage_without_a_command() -> None:
    for line in ((), ("ipcp",), ("bind",), ("name",), ("flow",), ("--json",)):
        code, out, err = run(*line)
        assert (code, out) == (2, "")
        assert err.startswith("usage: irm")


@pytest.mark.parametrize(("path", "command"), COMMANDS, ids=[path for path, _ in COMMANDS])
@pytest.mark.parametrize("ask", ["help", "-h", "--help"])
def test_help_of_every_command(path: str, command: Command, ask: str) -> None:
    code, out, err = run(*path.split()[1:], ask)
    assert (code, err) == (0, "")
    assert out.startswith(f"usage: {path}")
    assert out.lower().count(command.summary.lower()) == 1


@pytest.mark.parametrize(
    ("line", "begins"),
    [
        ("help", "usage: irm <command>"),
        ("h", "usage: irm <command>"),
        ("-h", "usage: irm <command>"),
        ("ipcp help", "usage: irm ipcp <command>"),
        ("ipcp h", "usage: irm ipcp <command>"),
        ("n h", "usage: irm name <command>"),
        ("help ipcp create", "usage: irm ipcp create"),
        ("ipcp help create", "usage: irm ipcp create"),
        ("ipcp bootstrap name x help", "usage: irm ipcp bootstrap"),
        ("ipcp bootstrap name x layer y --help", "usage: irm ipcp bootstrap"),
        ("name create help", "usage: irm name create"),
        ("name create x help", "usage: irm name create"),
        ("bind program help", "usage: irm bind program"),
        ("register help", "usage: irm register"),
    ],
)
def test_help_at_every_level(line: str, begins: str) -> None:
    code, out, err = run(*line.split())
    assert (code, err) == (0, "")
    assert out.startswith(begins)


def test_help_of_bootstrap_knows_every_option() -> None:
    _, out, _ = run("ipcp", "bootstrap", "help")
    for word in ("unicast", "dht_t_replicate", "1 to 20", "0xA000", "3435", "autobind", "required"):
        assert word in out


def test_version() -> None:
    from ouroboros.version import __version__

    assert run("--version") == (0, f"Ouroboros version {__version__}\n", "")


def test_prefixes_of_keys_are_never_shadowed_by_accident() -> None:
    """The word in full always means itself."""
    for _, command in COMMANDS:
        for key in command.keys:
            found = find(key.word, [other.word for other in command.keys])
            assert found == key.word


WORDS = sorted(
    {word for path, _ in COMMANDS for word in path.split()[1:]}
    | {key.word for _, command in COMMANDS for key in command.keys}
    | {
        "help",
        "--help",
        "-h",
        "--json",
        "--version",
        "--",
        "",
        "x",
        "unicast",
        "udp",
        "local",
        "1",
        "dt",
        "0xA000",
    }
)


@settings(max_examples=400, deadline=None)
@given(st.lists(st.one_of(st.sampled_from(WORDS), st.text(max_size=6)), max_size=9))
def test_no_line_makes_a_traceback(words: list[str]) -> None:
    """Reading a line ends with a command and its arguments, with help, or with one line that names the matter."""
    parts = split(words)
    try:
        found = resolve(parts.words)
        if isinstance(found.target, Command):
            arguments = parse(found.path, found.target, found.words, parts.after)
            assert len(arguments.operands) <= len(found.target.operands)
    except (UsageError, WrongWord) as error:
        assert len(str(error)) > 10
    except HelpWanted:
        pass


NEEDS_NO_IRMD = {"irm start", "irm doctor"}


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from([path.split()[1:] for path, _ in COMMANDS if path not in NEEDS_NO_IRMD]),
    st.lists(
        st.one_of(st.sampled_from(WORDS), st.text(max_size=6), st.text("\ud800\0\n\x1b", max_size=3)),
        max_size=8,
    ),
)
def test_no_command_makes_a_traceback_without_an_irmd(path: list[str], words: list[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OUROBOROS_RUNDIR", "/nonexistent")
        patch.setattr(locate, "CONNECT_TIMEOUT", 0.0)  # none is starting
        code, out, err = run(*path, *words)
    assert code in (0, 1, 2)
    assert "Traceback" not in err
    if code:
        assert out == "" and (err.count("\n") == 1 or err.startswith("usage: irm"))
