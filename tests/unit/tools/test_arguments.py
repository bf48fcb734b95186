"""Wrong, out-of-range and contradictory arguments of every traffic tool: one line that names them, and exit code 2."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

import pytest
from ouroboros_tools import obc, ocap, ocbr, oecho, operf, oping, program

LONG = "n" * 256
NOT_UTF8 = "\udcff"
DURATIONS = ("", "x", "-1", "1e3", "1x", "nan", "367d", "9" * 400)
SIZES = ("", "x", "-1", "0", "1.5", "1T", "9" * 400, "9" * 5000)
RATES = ("", "x", "-1", "0", "1Q", "inf")
COUNTS = ("", "x", "-1", "0", "1.5", "9" * 5000, str(1 << 63))
NAMES = (LONG, NOT_UTF8)

WRONG: dict[str, dict[str, Sequence[str]]] = {
    "oping": {
        "-n": NAMES,
        "--layer": ("", *NAMES),
        "-c": COUNTS,
        "-d": (*DURATIONS, "0"),
        "-i": (*DURATIONS, "10001", "11s"),
        "-q": ("", "foo", "RAW"),
        "-s": (*SIZES, "63", "1501", "64k"),
    },
    "oecho": {"-n": ("", *NAMES), "--layer": ("", *NAMES)},
    "obc": {"-n": NAMES, "-c": COUNTS, "-i": DURATIONS, "-t": DURATIONS},
    "ocbr": {
        "-n": NAMES,
        "--layer": ("", *NAMES),
        "-d": (*DURATIONS, "0"),
        "-s": (*SIZES, "524289"),
        "-r": RATES,
        "-i": (*DURATIONS, "0"),
        "-t": (*DURATIONS, "0"),
    },
    "operf": {
        "-n": NAMES,
        "--layer": ("", *NAMES),
        "-t": ("", "both"),
        "-d": (*DURATIONS, "0"),
        "-r": RATES,
        "-s": (*SIZES, "63", "2M"),
        "--burst": (*COUNTS, "1025"),
        "-q": ("", "foo"),
    },
    "ocap": {
        "--ethertype": ("", "x", "0", "FFFF", "10000"),
        "--port": ("", "x", "0", "65536", "-1"),
        "--hash": ("", "MD4"),
    },
}
UNBOUNDED = {"oecho": {"-m"}, "obc": {"-m"}}  # what fits is known with the layer
FIRST = {
    "oping": ["-n", "x"],
    "obc": ["-n", "x"],
    "ocbr": ["-n", "x"],
    "operf": ["-n", "x"],
    "ocap": ["read", "/dev/null"],
}
MAINS: dict[str, Callable[[Sequence[str]], int]] = {
    "oping": oping.main,
    "oecho": oecho.main,
    "obc": obc.main,
    "ocbr": ocbr.main,
    "operf": operf.main,
    "ocap": ocap.main,
}
CONTRADICTORY = {
    "oping": (
        "-f -F",
        "-l --poll --busy",
        "-l -n x",
        "-l -c 3",
        "-l -q data",
        "-l -s 100",
        "-l --json",
        "-n x --poll",
        "-n x --busy",
    ),
    "oecho": ("-l -m text", "-l -n x", "-l --layer x"),
    "obc": ("-n x -l -m text", "-n x -l -i 5", "-n x --json", "-n x -q"),
    "ocbr": (
        "-n x -f -r 5M",
        "-n x -f --spin",
        "-n x --sleep --spin",
        "-l -s 10",
        "-l -n x",
        "-n x -i 5",
        "-n x -t 5",
    ),
    "operf": (
        "-n x -f -r 5M",
        "-n x -f --spin",
        "-n x --burst 3",
        "-n x --sleep --spin",
        "-l -t bi",
        "-l -n x",
        "-l -q data",
    ),
}


@pytest.fixture(autouse=True)
def no_irmd(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    """A line that is taken for right ends with 1: there is no IRMd."""
    monkeypatch.setenv("OUROBOROS_RUNDIR", str(tmp_path))


def run(tool: str, words: Sequence[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    code = MAINS[tool](words)
    out, err = capsys.readouterr()
    assert out == ""
    return code, err


@pytest.mark.parametrize(
    ("tool", "option", "value"),
    [
        (tool, option, value)
        for tool, options in WRONG.items()
        for option, values in options.items()
        for value in values
    ],
    ids=lambda text: ascii(text)[:12],
)
def test_a_wrong_value(tool: str, option: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, err = run(
        tool,
        [
            *FIRST.get(tool, ()),
            f"{option}={value}" if option.startswith("--") else f"{option}{value}",
            *([] if value or option.startswith("--") else [""]),
        ],
        capsys,
    )
    assert code == 2
    assert err.startswith(f"{tool}: argument ") and option in err and err.count("\n") == 1


@pytest.mark.parametrize(
    ("tool", "line"), [(tool, line) for tool, lines in CONTRADICTORY.items() for line in lines]
)
def test_arguments_that_contradict_each_other(
    tool: str, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, err = run(tool, line.split(), capsys)
    assert code == 2 and err.startswith(f"{tool}: argument ") and err.count("\n") == 1


def test_the_table_has_every_option(monkeypatch: pytest.MonkeyPatch) -> None:
    parsers: list[program.Parser] = []

    class Noted(Exception):
        pass

    def note(self: program.Parser, *_: object) -> argparse.Namespace:
        parsers.append(self)
        raise Noted

    monkeypatch.setattr(program.Parser, "parse_args", note)
    for tool, main in MAINS.items():
        with pytest.raises(Noted):
            main([])
        for action in parsers[-1]._actions:
            if action.nargs == 0 or not action.option_strings:
                continue
            assert set(action.option_strings) & (set(WRONG[tool]) | UNBOUNDED.get(tool, set())), (
                tool,
                action.dest,
            )


@pytest.mark.parametrize("tool", ["oping", "obc", "ocbr", "operf"])
def test_a_client_needs_a_name(tool: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tool, [], capsys)[0] == 2
    assert run(tool, ["-n", ""], capsys)[0] == 2


def test_a_message_that_is_not_utf8_travels_as_it_is() -> None:
    from ouroboros_tools.obc.main import encode

    assert oecho.encode("\udcff") == encode("\udcff") == b"\xff\0"


def test_arguments_reach_the_terminal_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    assert "\x1b" not in run("oping", ["-n", "x", "-s", "\x1b[2J"], capsys)[1]
