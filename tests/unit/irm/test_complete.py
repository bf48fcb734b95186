"""Completion: the candidates at each place of a command line, and what real shells make of them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ouroboros_tools.irm import shells
from ouroboros_tools.irm.complete import FILES, complete
from ouroboros_tools.irm.main import GROUPS
from ouroboros_tools.irm.words import Command

from ouroboros.ipcp_types import IpcpType
from ouroboros.rpc.messages_pb2 import IpcpInfo, NameInfo
from tests.unit.irm.fake_irmd import FakeIrmd

HOSTILE = "$(touch pwned);`touch pwned`"


def words(*line: str) -> list[str]:
    return [candidate.word for candidate in complete(GROUPS, line)]


@pytest.fixture
def system(irmd: FakeIrmd) -> FakeIrmd:
    for pid, name, layer in ((1, "uni1", "net"), (2, "uni two", "lab"), (3, HOSTILE, "lab")):
        irmd.ipcps[pid] = IpcpInfo(pid=pid, name=name, type=IpcpType.UNICAST, layer=layer)
    irmd.names["pong"] = NameInfo(name="pong")
    return irmd


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (["ipcp", "boo"], ["bootstrap"]),
        (["ip"], ["ipcp"]),
        (["i", "b", "name", "x", "layer", "y", "rou"], ["routing"]),
        (["i", "b", "name", "x", "routing", ""], ["link_state", "lfa", "ecmp"]),
        (["ipcp", "connect", "qos", "v"], ["voice", "video"]),
        (["ipcp", "connect", "component", ""], ["dt", "mgmt"]),
        (["ipcp", "create", "type", "eth"], ["eth-dix", "eth-llc"]),
        (["ipcp", "list", "-"], ["--json"]),
        (["bind", "program", ""], [FILES, "help"]),
        (["bind", "program", "oping", "name", "x", "--", "-"], [FILES]),
        (["apply", ""], [FILES, "help"]),
        (["completion", "z"], ["zsh"]),
        (["nonsense", ""], []),
        (["ipcp", "destroy", "na"], ["name"]),
        (["ipcp", "d", ""], []),
    ],
)
def test_candidates(rundir: str, line: list[str], found: list[str]) -> None:
    assert words(*line) == found


def test_names_of_the_system(system: FakeIrmd) -> None:
    assert words("ipcp", "status", "name", "") == [HOSTILE, "uni two", "uni1"]
    assert words("ipcp", "list", "layer", "") == ["lab", "net"]
    assert words("name", "register", "p") == ["pong"]
    assert words("name", "register", "pong", "ipcp", "uni") == ["uni two", "uni1"]
    assert words("ipcp", "connect", "name", "x", "dst", "") == ["pong"]
    assert words("name", "register", "pong", "la") == ["layer"]


def test_a_key_is_offered_once(rundir: str) -> None:
    assert "name" not in words("ipcp", "destroy", "name", "x", "")
    assert "ipcp" in words("name", "register", "x", "ipcp", "y", "")


def test_every_command_has_candidates(rundir: str) -> None:
    for entry in GROUPS:
        for path in (
            [[entry.word]] if isinstance(entry, Command) else [[entry.word, c.word] for c in entry.commands]
        ):
            assert words(*path, "") or path in (["stop"],), path


@given(
    st.lists(
        st.one_of(
            st.sampled_from(["ipcp", "name", "bind", "bootstrap", "--", "help", "", "layer"]), st.text()
        )
    )
)
def test_no_line_makes_an_error(line: list[str]) -> None:
    with patch.dict(os.environ, OUROBOROS_RUNDIR="/nonexistent"):
        complete(GROUPS, line)


# ---------------------------------------------------------------- real shells


@pytest.fixture
def path(tmp_path: Path) -> dict[str, str]:
    """An environment in which `irm` is ours, and a folder that a name could write to."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in ("irm", "oping"):
        (folder / tool).symlink_to(Path(sys.executable).parent / tool)
    return {
        **os.environ,
        "PATH": f"{folder}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "IRM": str(folder / "irm"),
    }


def run(shell: str, text: str, env: dict[str, str]) -> list[str]:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    result = subprocess.run([shell], input=text, env=env, cwd=env["HOME"], capture_output=True, text=True)
    assert result.returncode == 0 and not result.stderr, result
    assert not (Path(env["HOME"]) / "pwned").exists()
    return result.stdout.splitlines()


BASH = """
. <(irm completion bash)
compopt() { echo "compopt $*"; }
reply() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); $F "$1" "${!#}" "${COMP_WORDS[COMP_CWORD-1]}"; printf '%s\\n' "${COMPREPLY[@]}"; }
"""


def test_bash(system: FakeIrmd, path: dict[str, str]) -> None:
    ask = f"{BASH}F=_ouroboros_irm\n"
    assert run("bash", f"{ask}reply irm ipcp boo", path) == ["bootstrap"]
    found = run("bash", f"{ask}reply irm ipcp status name ''", path)
    assert (
        "uni1" in found and "uni\\ two" in found and "\\$\\(touch\\ pwned\\)\\;\\`touch\\ pwned\\`" in found
    )
    assert run("bash", f"{ask}reply irm ipcp status name 'uni\\ t'", path) == ["uni\\ two"]
    assert run("bash", f"{ask}reply irm apply ''", path)[0] == "compopt -o default"
    tool = f"{BASH}F=_ouroboros_tool\n"
    assert run("bash", f"{tool}reply oping --lis", path) == ["--listen"]
    assert run("bash", f"{tool}reply oping -n ''", path) == ["pong", "help"]
    assert run("bash", f"{tool}reply oping --layer n", path) == ["net"]


def test_zsh(system: FakeIrmd, path: dict[str, str]) -> None:
    def ask(service: str, *line: str) -> list[str]:
        text = f"""
        compdef() {{ : }}
        source <(irm completion zsh)
        compadd() {{ print -l -- $found }}
        _files() {{ print files }}
        service={service} words=({" ".join(line)}) CURRENT={len(line)} PREFIX={line[-1]}
        _ouroboros
        """
        return run("zsh", text, path)

    assert ask("irm", "irm", "ipcp", "boo") == ["bootstrap"]
    found = ask("irm", "irm", "ipcp", "status", "name", "''")
    assert "uni two" in found and HOSTILE in found
    assert ask("irm", "irm", "apply", "''") == ["files"]
    assert ask("oping", "oping", "--lis") == sorted(ask("oping", "oping", "--lis"))
    assert "--listen" in ask("oping", "oping", "--lis")
    assert "pong" in ask("oping", "oping", "-n", "''")


def test_fish(system: FakeIrmd, path: dict[str, str]) -> None:
    def ask(line: str) -> list[str]:
        found = run("fish", f"irm completion fish | source\ncomplete -C '{line}'", path)
        return [one.partition("\t")[0] for one in found]

    assert ask("irm ipcp boo") == ["bootstrap"]
    assert {"uni1", "uni two", HOSTILE} <= {one.replace("\\", "") for one in ask("irm ipcp status name ")}
    assert "--listen" in ask("oping --lis")
    assert "pong" in ask("oping -n ")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_names_every_tool(shell: str) -> None:
    text = shells.script(shell)
    assert all(program in text for program in shells.PROGRAMS)


def test_a_shell_without_a_script() -> None:
    with pytest.raises(ValueError, match="bash, zsh, fish"):
        shells.script("tcsh")
