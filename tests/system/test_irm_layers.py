"""The commands of `irm` on layers of one system, with real daemons: the paper's commands, retries, state after a failure."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from .conftest import MakeSystem, System


def ipcps(system: System) -> dict[str, str | None]:
    return {ipcp["name"]: ipcp["layer"] for ipcp in system.json("ipcp list")["ipcps"]}


def names(system: System) -> dict[str, list[str]]:
    return {
        name["name"]: [registration["layer"] for registration in name["registrations"]]
        for name in system.json("name list")["names"]
    }


def first_member(system: System) -> None:
    """Of a unicast layer `unicast`, over a local layer."""
    system.local_layer("local")
    system.irm("ipcp bootstrap name uni2 layer unicast type unicast autobind")
    system.irm("register name uni2 layer local")
    system.irm("register name unicast layer local")


def test_the_local_part_of_listing_12(system: System) -> None:
    first_member(system)
    system.irm("ipcp enrol name uni3 dst unicast")
    system.irm("ipcp connect name uni3 dst uni2")
    system.irm("bind program oping name oping auto -- -l")
    system.irm("register name oping ipcp uni3")
    system.run("oping", "-n", "oping", "-c", "3", "-i", "1")
    assert names(system) == {"uni2": ["local"], "unicast": ["local"], "oping": ["unicast"]}
    (neighbour, *more) = system.json("ipcp neighbours name uni3")["neighbours"]
    assert neighbour["name"] == "uni2" and {neighbour["component"], more[0]["component"]} == {"dt", "mgmt"}
    for what in ("routes", "directory", "counters", "status"):
        assert isinstance(system.json(f"ipcp {what} name uni3")[what], list)
        assert system.irm(f"ipcp {what} name uni3").stdout.strip()
    refused = system.irm("ipcp routes name local", check=False)
    assert refused.returncode == 1 and "local" in refused.stderr
    system.irm("ipcp disconnect name uni3 dst uni2")
    assert not [
        row for row in system.json("ipcp neighbours name uni3")["neighbours"] if row.get("state") == "up"
    ]


def test_a_newcomer_that_is_early(system: System) -> None:
    command = system.spawn("irm", "ipcp", "enrol", "name", "uni3", "layer", "unicast", "autobind", "retry")
    system.irmd.expect("IPCP uni3: attempt 1 to enroll with unicast failed, the next is in")
    (ipcp,) = system.json("ipcp list")["ipcps"]
    assert (ipcp["name"], ipcp["layer"]) == ("uni3", None)
    first_member(system)
    assert command.wait() == 0
    assert ipcps(system) == {"local": "local", "uni2": "unicast", "uni3": "unicast"}
    (shown,) = [one for one in system.json("ipcp list")["ipcps"] if one["name"] == "uni3"]
    assert not shown["progress"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_giving_up_leaves_nothing(system: System, number: int) -> None:
    command = system.spawn("irm", "ipcp", "enrol", "name", "uni3", "layer", "unicast", "autobind", "retry")
    system.irmd.expect("attempt 2 to enroll")
    command.process.send_signal(number)
    assert command.wait() == 130
    assert not ipcps(system) and not names(system)


def test_what_fails_leaves_nothing(system: System) -> None:
    first_member(system)
    before = (ipcps(system), names(system))
    for words in (
        "ipcp enrol name x dst nobody autobind",
        "ipcp enrol name x dst uni2 layer other autobind",
        "ipcp enrol name x layer unicast type broadcast autobind",
        "ipcp enrol name x dst nobody retry 1",
        "ipcp bootstrap name x layer y type unicast ttl 0 autobind",
        "ipcp connect name uni2 dst nobody",
        "register name new layer nowhere",
        "register name new layer local ipcp nobody",
    ):
        refused = system.irm(words, check=False)
        assert refused.returncode == (2 if "ttl 0" in words else 1), words
        assert refused.stderr.count("\n") == 1, (words, refused.stderr)
        assert (ipcps(system), names(system)) == before, words


def test_what_lies_in_the_working_directory_is_not_imported(make_system: MakeSystem, tmp_path: Path) -> None:
    for module in ("ipcpd", "logging", "socket"):
        (tmp_path / f"{module}.py").write_text("raise SystemExit('imported what is none of ours')\n")
    make_system(cwd=tmp_path).local_layer()


def test_a_configuration_that_says_it_in_the_wrong_order(make_system: MakeSystem, tmp_path: Path) -> None:
    """uni3 comes before what it needs: it tries again, and the rest of the file is not held up."""
    config = tmp_path / "irmd.conf"
    config.write_text(
        """
        [unicast.uni3]
        enrol = "unicast"
        layer = "unicast"
        autobind = true
        conn = [{ dst = "uni2", timeout = 5000 }]
        retry = true
        [local.local]
        bootstrap = "local"
        reg = ["unicast", "uni2"]
        [unicast.uni2]
        bootstrap = "unicast"
        autobind = true
        """
    )
    system = make_system("--config", str(config))
    system.irmd.expect("Data Transfer is connected to uni2")
    (row, *_) = system.json("ipcp neighbours name uni3")["neighbours"]
    assert row["name"] == "uni2" and row["timeout_ms"] == 5000
    assert ipcps(system) == {"local": "local", "uni2": "unicast", "uni3": "unicast"}
