"""The configuration file: its tables and keys, and the message for a mistake in it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import pytest

from irmd.config import Config, ConfigError, parse, read
from irmd.node import Adjacency, IpcpEntry, NameEntry
from irmd.settings import Applications
from ouroboros.ipcp_types import IpcpType
from ouroboros.rpc.messages_pb2 import ROUND_ROBIN, SPILLOVER, NameList

from .daemon import PATIENCE, Daemon

CHECKOUT = Path(__file__).resolve().parents[3]

MISTAKES = {
    "x = 1": "x = ... is not a table",
    "[nonsense.a]": "table [nonsense] is unknown",
    "[irmd]\nflow = 1": "[irmd]: key flow is unknown",
    "[irmd]\nflows = 'many'": "flows must be a whole number",
    "[irmd]\nflows = true": "flows must be a whole number",
    "[irmd]\ndescriptors = 99999": "descriptors = 99999 is not between 1 and 16384",
    "[irmd]\napplications = 'none'": 'applications = "none" is not one of any, managers',
    "[pool]\nclasses = [[100, 64, 0]]": "classes must have 4 rows",
    "[name]\na = 1": "name.a is not a table",
    "[name.a]\nprg = []": "[name.a]: key prg is unknown",
    "[name.a]\nlb = 'random'": 'lb = "random" is not one of spill, round-robin',
    "[name.a]\nprog = ['/nowhere']": "[name.a]: /nowhere does not exist.",
    "[name.a]\nprog = ['/etc/passwd']\nargs = ['']": "Cannot execute /etc/passwd",
    "[name.a]\nargs = ['']": "args has 1 elements, prog only 0",
    "[name.a]\nprog = '/bin/sh'": "prog must be a list",
    "[name.a]\nserver_crt_file = '/nowhere'": "server_crt_file = /nowhere does not exist",
    "[local.l]\nbootstrap = 'x'\nhash = 'MD5'": "[local.l]: Unknown parameter for hash",
    "[local.l]\nbootstrap = 'x'\nttl = 60": "[local.l]: key ttl is unknown",
    "[local.l]\nenrol = 'x'": "key enrol is for unicast and broadcast IPCPs only",
    "[local.l]\nreg = ['a']": "reg needs bootstrap or enrol",
    "[unicast.u]\nconn = ['y']": "conn needs bootstrap or enrol",
    "[unicast.u]\nautobind = true": "autobind needs bootstrap or enrol",
    "[name.a]\nprog = [1]": "an element of prog must be a path, or a table with path, args, user",
    "[name.a]\nprog = [{path = '/bin/sh', arg = []}]": "prog: key arg is unknown",
    "[name.a]\nprog = [{path = '/bin/sh', args = [1]}]": "the args of a program must be a list of strings",
    "[unicast.u]\nbootstrap = 'x'\nmax_ttl = 0": "Unknown parameter for ttl",
    "[eth-dix.e]\nbootstrap = 'x'": "needs the option dev",
    "[unicast.u]\nbootstrap = 'x'\nretry = true": "retry needs enrol",
    "[unicast.u]\nbootstrap = 'x'\nlayer = 'y'": "layer needs enrol",
    "[unicast.u]\nenrol = 'x'\nretry = 0": "retry must be true (for ever), false, or a number from 1",
    "[unicast.u]\nenrol = 'x'\nretry = 'often'": "retry must be true",
    "[unicast.u]\nenrol = 'x'\nconn = [1]": "an element of conn must be a name, or a table with dst, component",
    "[unicast.u]\nenrol = 'x'\nconn = [{qos = 'raw'}]": "dst must be a string",
    "[unicast.u]\nenrol = 'x'\nconn = [{dst = 'y', qos = 'gold'}]": 'conn y: qos = "gold" is not one of raw',
    "[unicast.u]\nenrol = 'x'\nconn = [{dst = 'y', time = 5}]": "conn: key time is unknown",
    "[unicast.u]\nenrol = 'x'\nconn = [{dst = 'y', timeout = -1}]": "timeout = -1 is not between 0",
    "[unicast.u]\nenrol = 'x'\nconn = [{dst = 'y', component = 'x'}]": "is not one of dt, mgmt",
    "[broadcast.b]\nenrol = 'x'\nconn = [{dst = 'y', component = 'mgmt'}]": "is not one of dt",
    "[unicast.u]\nbootstrap = 'x'\nrequire = ['luck']": "Unknown parameter for require",
    "[unicast.u]\nenrol = 'x'\nrequire = 'luck'": "Unknown parameter for require",
    "[unicast.u]\nbootstrap = 'x'\nadmit = ['m*']": 'it needs "require authentication"',
    "[unicast.u]\nbootstrap = 'x'\nrouting = ['lfa']": "routing must be a string",
    "[local.l]\nbootstrap = 'x'\nrequire = ['authentication']": "[local.l]: key require is unknown",
    "[local.l]\nconn = ['x']": "key conn is for unicast and broadcast IPCPs only",
    "[local.l]\n[unicast.l]": "[unicast.l]: there is another IPCP with that name",
    f"[name.{'x' * 256}]": "longer than 255 octets",
    "[name.'a*b']": "are for patterns",
    "[local.'a?']": "are for patterns",
    "[local.l]\nbootstrap = '[x]'": "are for patterns",
    "[local.l]\nbootstrap = 'x'\nreg = ['a*']": "are for patterns",
    "[raptor.r]": "table [raptor] is unknown",
}


@pytest.mark.parametrize("text", MISTAKES)
def test_a_mistake_is_named(text: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse(tomllib.loads(text))
    assert MISTAKES[text] in str(error.value) and "\n" not in str(error.value)


def test_what_a_file_can_say() -> None:
    config = parse(
        tomllib.loads("""
        [irmd]
        applications = "managers"
        [local.l]
        bootstrap = "layer"
        hash = "SHA3_512"
        reg = ["a", "b"]
        [name."a.b"]
        prog = ["/bin/sh", "/bin/cat"]
        args = ["-c true"]
        lb = "round-robin"
        user = "nobody"
        [name.c]
        [eth-dix.e]
        bootstrap = "ether"
        dev = "eth0"
        ethertype = 0xA001
        [unicast.u]
        enrol = "other"
        autobind = true
        layer = "net"
        conn = ["other", { dst = "third", component = "dt", qos = "voice", timeout = 500 }]
        retry = true
        routing = "link-state"
        [broadcast.b]
        enrol = "bc"
        conn = ["bc"]
        retry = 7
        [broadcast.c]
        bootstrap = "closed"
        require = ["authentication", "encryption"]
        admit = ["m?", "n"]
        """)
    )
    assert config.settings.applications is Applications.MANAGERS
    local, first, second, ether, unicast, broadcast, closed = config.entries
    assert (
        isinstance(local, IpcpEntry)
        and local.type == IpcpType.LOCAL
        and local.options == {"hash": "SHA3_512"}
    )
    assert local.register == ("a", "b")
    assert isinstance(first, NameEntry) and first.name == "a.b" and first.lb == ROUND_ROBIN
    assert [(one.args, one.user) for one in first.programs] == [(("-c", "true"), "nobody"), (None, "nobody")]
    assert isinstance(second, NameEntry) and second.lb == SPILLOVER
    assert isinstance(ether, IpcpEntry) and ether.options["ethertype"] == "0xA001"
    assert isinstance(unicast, IpcpEntry) and unicast.autobind and unicast.enroll == "other"
    assert (unicast.layer, unicast.retry) == ("net", 0)
    assert unicast.connect == (
        Adjacency("other", "Management"),
        Adjacency("other", "Data Transfer"),
        Adjacency("third", "Data Transfer", "voice", 500),
    )
    assert isinstance(broadcast, IpcpEntry) and broadcast.retry == 7
    assert broadcast.connect == (Adjacency("bc", "Data Transfer"),)
    assert isinstance(closed, IpcpEntry)
    assert closed.options == {"require": "encryption,authentication", "admit": "m?,n"}


def test_the_example_says_the_defaults() -> None:
    assert read(str(CHECKOUT / "packaging" / "irmd.conf.example")) == Config()


@pytest.mark.parametrize(
    "text", ["[name", "\x00", "a = ", f"a = {'9' * 5000}", f"a = {'[' * 5000}", "a = " + "{b = " * 5000]
)
def test_what_is_not_toml(tmp_path: Path, text: str) -> None:
    path = tmp_path / "conf"
    path.write_text(text)
    with pytest.raises(ConfigError, match="is not TOML"):
        read(str(path))


@pytest.mark.parametrize("text", MISTAKES)
def test_a_mistake_has_its_file_and_line(tmp_path: Path, text: str) -> None:
    """Of the key where that is one of the table, else of the table."""
    path = tmp_path / "conf"
    path.write_text(f"# a comment\n\n{text}\n")
    with pytest.raises(ConfigError) as error:
        read(str(path))
    assert str(error.value).startswith(f"{path}:") or "[" not in str(error.value).partition(": ")[2][:1]
    assert str(error.value).count("\n") == 0


def test_the_line_is_that_of_the_key(tmp_path: Path) -> None:
    path = tmp_path / "conf"
    path.write_text("[local.a]\nbootstrap = 'x'\n[local.'b c']\n\nbootstrap = 'y'\nttl = 1\n")
    with pytest.raises(ConfigError, match=rf"^{path}:6: \[local\.b c\]: key ttl"):
        read(str(path))


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
@pytest.mark.parametrize(("mode", "uid"), [(0o646, 0), (0o664, 0), (0o644, 65534)])
def test_root_reads_no_file_that_others_can_write(tmp_path: Path, mode: int, uid: int) -> None:
    """It names programs to start."""
    path = tmp_path / "conf"
    path.write_text("")
    assert read(str(path)) == Config()
    path.chmod(mode)
    os.chown(path, uid, 0)
    with pytest.raises(ConfigError, match="chmod go-w|chown root"):
        read(str(path))


def test_a_file_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        read(str(tmp_path / "missing"))


def test_what_the_file_says_is_there_when_the_irmd_is_ready() -> None:
    with Daemon("[local.l]\nbootstrap = 'layer'\nreg = ['a']\n[name.b]\nlb = 'round-robin'\n") as daemon:
        names = {info.name: info for info in daemon.tool().ask(name_list=NameList()).name_table.names}
        assert names["a"].registrations[0].layer == "layer" and names["b"].lb == ROUND_ROBIN


def test_what_cannot_be_done_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "conf"
    path.write_text("[local.l]\nbootstrap = 'layer'\n[udp4.u]\nbootstrap = 'far'\nip = '203.0.113.1'\n")
    run = Path(tempfile.mkdtemp(prefix="irmd-config-"))  # a path that is short enough for a socket
    run.rmdir()
    ended = subprocess.run(
        [sys.executable, "-m", "irmd", "--stdout", "--config", str(path)],
        env={"OUROBOROS_RUNDIR": str(run), "PATH": "/bin"},
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert ended.returncode == 1
    assert "203.0.113.1" in ended.stdout
    assert not run.exists()
