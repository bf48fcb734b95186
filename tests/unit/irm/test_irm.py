"""The `irm` command from end to end, against a fake IRMd: output, exit codes, and requests to the IRMd."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from ouroboros_tools.irm.main import main

from ouroboros.qos import QOS_DATA, QoSSpec
from tests.unit.irm.fake_irmd import PERMISSION, FakeIrmd, a_flow, a_pool

IPCP_TABLE = """\
+---------+----------------------+------------+----------------------+
|     pid |                 name |       type |                layer |
+---------+----------------------+------------+----------------------+
|    1001 |                local |      local |                local |
|    1002 | a-name-that-is-longer-than-its-column |    unicast |        Not enrolled. |
+---------+----------------------+------------+----------------------+

"""

NAME_TABLE = """\
+----------------------------------------------------+----------------------+
|                                               name |  load-balance policy |
+----------------------------------------------------+----------------------+
|                                              oping |            spillover |
+----------------------------------------------------+----------------------+
"""


class Ran:
    """How a command ended."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code = code
        self.out = out
        self.err = err


@pytest.fixture
def irm(capsys: pytest.CaptureFixture[str]) -> object:
    def run(line: str, *more: str) -> Ran:
        code = main([*line.split(), *more])
        return Ran(code, *capsys.readouterr())

    return run


def test_ipcp_list(irmd: FakeIrmd, irm) -> None:  # type: ignore[no-untyped-def]
    assert irm("ipcp list").out == "No IPCPs in system.\n\n"
    irmd.add_ipcp("local", "LOCAL", "local")
    irmd.add_ipcp("a-name-that-is-longer-than-its-column", "UNICAST")
    ran = irm("i l")
    assert (ran.code, ran.out, ran.err) == (0, IPCP_TABLE, "")
    assert json.loads(irm("ipcp list --json").out) == {
        "ipcps": [
            {
                "pid": 1001,
                "name": "local",
                "type": "local",
                "layer": "local",
                "hash": "SHA3_256",
                "state": "operational",
                "progress": None,
                "require": [],
                "admit": [],
            },
            {
                "pid": 1002,
                "name": "a-name-that-is-longer-than-its-column",
                "type": "unicast",
                "layer": None,
                "hash": None,
                "state": "boot",
                "progress": None,
                "require": [],
                "admit": [],
            },
        ],
        "ended": [],
    }


def test_ipcp_list_filters(irmd: FakeIrmd, irm) -> None:  # type: ignore[no-untyped-def]
    irmd.add_ipcp("one", "LOCAL", "net")
    irmd.add_ipcp("two", "UDP4", "net")
    for line, names in (
        ("name one", ["one"]),
        ("name *", ["one", "two"]),
        ("type udp", ["two"]),
        ("layer net type local", ["one"]),
        ("layer other", []),
    ):
        assert [
            record["name"] for record in json.loads(irm(f"--json ipcp list {line}").out)["ipcps"]
        ] == names
    assert irm("ipcp list layer other").out == "No IPCPs match.\n\n"
    ran = irm("ipcp list type pigeon")
    assert ran.code == 2
    assert ran.err == (
        'IPCP type "pigeon" is unknown; it must be one of unicast broadcast udp4 udp6 eth-dix eth-llc local.\n'
    )


def test_a_name_cannot_forge_output(irmd: FakeIrmd, irm) -> None:  # type: ignore[no-untyped-def]
    irmd.add_ipcp("a\x1b[2J\nb", "LOCAL", "net")
    out = irm("ipcp list").out
    assert "\x1b" not in out and out.count("\n") == 6
    assert r"a\x1b[2J\nb" in out


def test_create_and_destroy(irmd: FakeIrmd, irm) -> None:  # type: ignore[no-untyped-def]
    assert irm("ipcp create name a type udp").code == 0
    assert [(info.name, info.type) for info in irmd.ipcps.values()] == [("a", 5)]
    assert irm("ipcp destroy name a").out == f"Destroyed IPCP a, pid {1001}.\n"
    ran = irm("ipcp destroy name a")
    assert (ran.code, ran.err) == (1, "No IPCPs matching a found.\n")
    ran = irm("ipcp create name a type eth")
    assert ran.code == 2 and 'IPCP type "eth" is unknown' in ran.err
    irmd.refuse["ipcp_create"] = (errno.ENOTSUP, "this version has no IPCPs of that type")
    ran = irm("ipcp create name a type local")
    assert (ran.code, ran.err) == (1, "this version has no IPCPs of that type\n")


def test_what_destroys_names_each_it_destroyed(irmd: FakeIrmd, irm) -> None:  # type: ignore[no-untyped-def]
    for name in ("a b", "a/b", "c"):
        irmd.add_ipcp(name, "LOCAL", "net")
    assert (
        irm("ipcp destroy name a?b").out == "Destroyed IPCP a b, pid 1001.\nDestroyed IPCP a/b, pid 1002.\n"
    )
    irm("bind ipcp c name x")
    irm("bind ipcp c name y")
    assert irm("unbind ipcp c").out == "Unbound c from x, y.\n"
    irm("bind process 1 name x")
    assert irm("unbind process 1 name x").out == "Unbound process 1 from x.\n"
    irm("bind program sh name x")
    assert irm("unbind program sh").out == "Unbound sh from x.\n"
    irm("name register x layer net")
    assert irm("name unregister x layer net").out == "Unregistered x with c.\n"
    assert irm("ipcp create name u type unicast").code == 0
    assert irm("ipcp disconnect name u dst v component dt").out == "Disconnected u from v (dt).\n"
    assert irm("name destroy x").out == "Destroyed name x.\n"


def test_one_that_cannot_be_destroyed_spares_no_other(irmd: FakeIrmd, irm) -> None:  # type: ignore[no-untyped-def]
    irmd.add_ipcp("a1")
    irmd.add_ipcp("a2")
    irmd.undestroyable.add(1001)
    ran = irm("ipcp destroy name a?")
    assert (ran.code, ran.out) == (1, "Destroyed IPCP a2, pid 1002.\n")
    assert "a1" in ran.err


@pytest.mark.parametrize("name", ["a*b", "a?", "[ab]", "*"])
def test_a_pattern_is_no_name(irmd: FakeIrmd, irm, name: str) -> None:  # type: ignore[no-untyped-def]
    irmd.add_ipcp("i", "LOCAL", "net")
    for line in (
        f"ipcp create name {name} type local",
        f"ipcp bootstrap name i layer {name}",
        f"ipcp bootstrap name {name}x layer l type local",
        f"ipcp enroll name {name}x layer l",
        f"name create {name}",
        f"name register {name} layer net",
        f"bind program sh name {name}",
        f"bind process 1 name {name}",
        f"bind ipcp i name {name}",
    ):
        ran = irm(line)
        assert ran.code in (1, 2) and name in ran.err, line  # 1: no IPCP fits the pattern
    assert irmd.asked() == []


def test_a_name_that_looks_like_a_pattern_selects_itself_alone(irmd: FakeIrmd, irm) -> None:  # type: ignore[no-untyped-def]
    irmd.add_ipcp("a*b", "UNICAST", "l*")  # of a system that permits it
    irmd.add_ipcp("a/b", "UNICAST", "lo")
    assert irm("ipcp list layer l*").out.count("UNICAST".lower()) == 1
    assert irm("ipcp destroy name a*b").out == "Destroyed IPCP a*b, pid 1001.\n"


def test_the_qos_of_a_waiting_accept_is_null(irmd: FakeIrmd, irm) -> None:  # type: ignore[no-untyped-def]
    waiting = a_flow()
    waiting.ClearField("qos")
    irmd.flows = [waiting]
    assert json.loads(irm("flow list --json").out)["flows"][0]["qos"] is None
    assert irm("flow list").code == 0


def test_bootstrap(irmd: FakeIrmd, irm) -> None:  # type: ignore[no-untyped-def]
    assert irm("ipcp boot ty uni n u l net ttl 10 routing lfa dht_k 20 autobind").code == 0
    assert irmd.asked() == ["ipcp_create", "bind_process", "bind_process", "ipcp_bootstrap"]
    config = irmd.requests[-1].ipcp_bootstrap.config
    assert config.layer == "net"
    assert {key: config.options[key] for key in ("ttl", "routing", "dht_k", "congestion", "hash")} == {
        "ttl": "10",
        "routing": "lfa",
        "dht_k": "20",
        "congestion": "mb-ecn",
        "hash": "SHA3_256",
    }
    assert set(irmd.names) == {"u", "net"}


def test_bootstrap_of_a_layer_that_is_not_open(irmd: FakeIrmd, irm) -> None:  # type: ignore[no-untyped-def]
    line = "ipcp bootstrap type broadcast name b layer net require authentication require encryption"
    assert irm(line, "admit", "m?", "admit", "gate way").code == 0
    assert dict(irmd.requests[-1].ipcp_bootstrap.config.options) == {
        "require": "encryption,authentication",
        "admit": "m?,gate way",
    }


def test_enroll_with_who_shows_a_certificate(irmd: FakeIrmd, irm) -> None:  # type: ignore[no-untyped-def]
    assert irm("ipcp enroll name u dst there retry require authentication").code == 0
    assert irmd.requests[-1].ipcp_enroll.require == 2
    ran = irm("ipcp enroll name v dst there require luck")
    assert ran.code == 1 and '"luck" is not one of encryption, authentication' in ran.err


def test_bootstrap_of_an_ipcp_that_is_there(irmd: FakeIrmd, irm) -> None:  # type: ignore[no-untyped-def]
    irmd.add_ipcp("e", "ETH_DIX")
    assert irm("ipcp bootstrap name e layer net ttl 3").code == 2
    ran = irm("ipcp bootstrap name e layer net dev eth0 ethertype a001")
    assert ran.code == 0, ran.err
    assert dict(irmd.requests[-1].ipcp_bootstrap.config.options) == {
        "dev": "eth0",
        "ethertype": "0xA001",
        "hash": "SHA3_256",
        "rate": "none",
    }
    assert "Types do not match" in irm("ipcp bootstrap name e layer net type local").err
    assert irm("ipcp bootstrap name e layer net dev eth0").code == 1  # a member already


def test_autobind_of_another_type(irmd: FakeIrmd, irm) -> None:  # type: ignore[no-untyped-def]
    ran = irm("ipcp bootstrap name l layer net type local autobind")
    assert (ran.code, ran.err) == (0, "Can not bind this IPCP type, autobind disabled.\n")
    assert irmd.asked() == ["ipcp_create", "ipcp_bootstrap"]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ("type unicast addr 8", 'Unknown parameter for addr: "8"; it must be 4 (octets).'),
        ("type unicast ttl 0", 'Unknown parameter for ttl: "0"'),
        ("type unicast ttl 256", "a number from 1 to 255"),
        ("type unicast ttl -1", "Unknown parameter for ttl"),
        ("type unicast dht_alpha 11", "1 to 10"),
        ("type unicast dht_k 21", "1 to 20"),
        ("type unicast dht_t_expire 9", "10 to 86400"),
        ("type unicast dht_t_refresh 3601", "3 to 3600"),
        ("type unicast dht_t_replicate 2", "3 to 3600"),
        ("type unicast routing rip", "one of link_state lfa ecmp"),
        ("type unicast congestion red", "one of none mb-ecn"),
        (
            "type unicast require luck",
            'Unknown parameter for require: "luck"; it must be one or both of encryption',
        ),
        ("type broadcast require authentication admit ,", "it must be patterns of common names"),
        ("type broadcast admit m*", 'it needs "require authentication"'),
        ("type unicast admit m* require encryption", 'it needs "require authentication"'),
        ("type local require authentication", "Option require is not for an IPCP of type local"),
        ("type unicast hash MD5", "SHA3_512"),
        (
            "type unicast dev eth0",
            "Option dev is not for an IPCP of type unicast; its options are: hash addr",
        ),
        ("type local ttl 3", "its options are: hash"),
        ("type broadcast hash SHA3_512", "A broadcast layer has the hash SHA3_256"),
        ("type eth-dix", "An IPCP of type eth-dix needs the option dev"),
        (
            "type eth dev eth0 ethertype 0x05FF",
            'Invalid Ethertype: "0x05FF". Recommended range: 0xA000-0xEFFF.',
        ),
        ("type eth dev eth0 ethertype FFFF", "Invalid Ethertype"),
        ("type eth dev eth0 ethertype xyz", "Invalid Ethertype"),
        ("type udp", "needs the option ip"),
        ("type udp ip 0.0.0.0", "Cannot use IPv4 address"),
        ("type udp ip 1.2.3", 'Invalid IPv4 address: "1.2.3".'),
        ("type udp ip ::1", 'Invalid IPv4 address: "::1".'),
        ("type udp6 ip 1.2.3.4", 'Invalid IPv6 address: "1.2.3.4".'),
        ("type udp6 ip ::", "Cannot use IPv6 address"),
        ("type udp ip 1.2.3.4 dns x", 'Invalid DNS IPv4 address: "x".'),
        ("type udp ip 1.2.3.4 port 0", "a UDP port from 1 to 65535"),
        ("type udp ip 1.2.3.4 port 99999999999999999999999", "a UDP port from 1 to 65535"),
        ("type pigeon", 'IPCP type "pigeon" is unknown'),
        ("ttl 300", "a number from 1 to 255"),
        ("", "No IPCPs matching x found; give a type to create one."),
    ],
)
def test_bad_values_of_bootstrap(irmd: FakeIrmd, irm, options: str, text: str) -> None:  # type: ignore[no-untyped-def]
    ran = irm(f"ipcp bootstrap name x layer y {options}")
    assert (ran.code, ran.out) == (2 if options else 1, "")
    assert text in ran.err and ran.err.count("\n") == 1
    assert not irmd.requests


def test_names_that_cannot_be(irmd: FakeIrmd, irm) -> None:  # type: ignore[no-untyped-def]
    long = "é" * 128
    assert "Layer name too long" in irm("ipcp bootstrap type local name x layer", long).err
    assert "IPCP name too long" in irm("ipcp create type local name", long).err
    assert irm("ipcp create type local name", "").code == 2
    assert "not valid UTF-8" in irm("name create", "\udc80").err
    assert irm("bind process 1 name", "x" * 256).code == 2
    assert not irmd.requests


def test_enroll(irmd: FakeIrmd, irm) -> None:  # type: ignore[no-untyped-def]
    assert irm("ipcp enrol name u layer learned autobind").code == 0
    assert irmd.asked() == ["ipcp_create", "ipcp_enroll", "bind_process", "bind_process"]
    irmd.requests.clear()
    ran = irm("ipcp enroll name v dst u layer other type broadcast")
    assert ran.code == 1 and "Enrollment destination does not match requested layer" in ran.err
    assert irmd.asked() == ["ipcp_create", "ipcp_enroll", "ipcp_destroy"]
    irmd.requests.clear()
    for line, text in (
        ("name v", 'give the layer or a destination: "layer <layer>" or "dst <dst>"'),
        ("name v dst u type local", "type must be unicast or broadcast"),
        ("name v dst u type x", "is unknown"),
    ):
        ran = irm(f"ipcp enroll {line}")
        assert ran.code == 2 and text in ran.err
    assert not irmd.requests


def test_connect(irmd: FakeIrmd, irm) -> None:  # type: ignore[no-untyped-def]
    irmd.add_ipcp("u", "UNICAST", "net")
    irmd.add_ipcp("bc", "BROADCAST", "net")
    assert irm("ipcp connect name u dst v component dt qos data").code == 0
    assert QoSSpec.from_proto(irmd.requests[0].ipcp_connect.qos) == QOS_DATA
    assert irm("ipcp connect name bc dst v").code == 0
    assert irm("ipcp disconnect name u dst v").code == 0
    assert irmd.asked() == ["ipcp_connect", "ipcp_connect", "ipcp_disconnect", "ipcp_disconnect"]
    for line, text in (
        ("connect name u dst v qos gold", "QoS cube 'gold' is unknown; it must be one of raw, best"),
        ("connect name u dst v component x", 'Component "x" is unknown; it must be dt or mgmt.'),
    ):
        ran = irm(f"ipcp {line}")
        assert ran.code == 2 and text in ran.err, line
    for line, text in (
        ("connect name bc dst v component mgmt", "which has no component mgmt"),
        ("connect name nobody dst v", "No IPCPs matching nobody found."),
        ("disconnect name nobody dst v", "No IPCPs matching nobody found."),
    ):
        ran = irm(f"ipcp {line}")
        assert ran.code == 1 and text in ran.err, line
    assert len(irmd.requests) == 4


@pytest.mark.parametrize("times", ["0", "-1", "5x", "1000001"])
def test_retry_that_is_no_number_of_times(irmd: FakeIrmd, irm, times: str) -> None:  # type: ignore[no-untyped-def]
    done = irm(f"ipcp enrol name u retry {times} layer learned")
    assert done.code == 2 and f'"retry {times}" must be "forever" or a number' in done.err
    assert not irmd.requests


def test_retry(irmd: FakeIrmd, irm) -> None:  # type: ignore[no-untyped-def]
    for number, (words, times) in enumerate([("retry 5", 5), ("retry forever", 0), ("retry", 0), ("", None)]):
        assert irm(f"ipcp enrol name u{number} {words} layer learned").code == 0
        body = irmd.requests[-1].ipcp_enroll
        assert (body.retry.times if body.HasField("retry") else None) == times
        assert (body.dst, body.layer) == ("learned", "learned")
    assert irm("ipcp connect name u0 dst v component mgmt timeout 500 retry").code == 0
    body = irmd.requests[-1].ipcp_connect
    assert body.HasField("retry") and body.retry.times == 0 and body.qos.timeout == 500
    assert irm("ipcp connect name u0 dst v component dt timeout 0 qos voice").code == 0
    body = irmd.requests[-1].ipcp_connect
    assert not body.HasField("retry") and (body.qos.timeout, body.qos.delay) == (0, 50)
    irmd.requests.clear()
    for line, text in (
        ("enrol name x layer y retry 0", '"retry 0" must be "forever" or a number'),
        ("enrol name x layer y retry 99999999999999999999999999", "from 1 to 1000000"),
        ("connect name u0 dst v timeout soon", 'Unknown parameter for timeout: "soon"'),
        ("connect name u0 dst v timeout 4294967296", "milliseconds up to 4294967295"),
    ):
        ran = irm(f"ipcp {line}")
        assert ran.code == 2 and text in ran.err, line
    assert not irmd.requests


def test_what_is_tried_again_is_shown(irmd: FakeIrmd, irm) -> None:  # type: ignore[no-untyped-def]
    pid = irmd.add_ipcp("u", "UNICAST")
    irmd.ipcps[pid].progress = "attempt 2 to enroll with net failed"
    lines = irm("ipcp list").out.splitlines()
    assert "Not enrolled." in lines[3] and lines[-1] == "u: attempt 2 to enroll with net failed"
    (record,) = json.loads(irm("ipcp list --json").out)["ipcps"]
    assert record["progress"] == "attempt 2 to enroll with net failed"


def test_readouts(irmd: FakeIrmd, irm) -> None:  # type: ignore[no-untyped-def]
    irmd.add_ipcp("u", "UNICAST", "net")
    rows: list[dict[str, object]] = [
        {"dst": f"u{n}", "components": ["dt", "mgmt"], "up": n != 2, "address": None, "qos": {"delay": n}}
        for n in range(5)
    ]
    irmd.shown["u", "neighbours"] = rows
    assert json.loads(irm("ipcp neighbours name u --json").out) == {"neighbours": rows}
    lines = irm("ipcp neigh name u").out.splitlines()
    assert lines[1] == "| dst | components |  up | address |     qos |"
    assert lines[5] == "|  u2 |    dt mgmt |  no |       - | delay=2 |"
    for what in ("routes", "directory", "counters", "status"):
        assert irm(f"ipcp {what} name u").out == f"No {dict(directory='names').get(what, what)}.\n\n"
    irmd.shown["u", "status"] = [{f"key{n}": n for n in range(9)}]
    assert irm("ipcp status name u").out.splitlines()[3] == "| key0 |     0 |"
    irmd.add_ipcp("v", "UNICAST", "net")
    assert json.loads(irm("ipcp neighbours name * --json").out)["neighbours"][0]["ipcp"] == "u"
    assert "No IPCPs matching x found." in irm("ipcp routes name x").err
    irmd.refuse["readout"] = PERMISSION
    assert irm("ipcp routes name u").code == 1


def test_bind_and_unbind(irmd: FakeIrmd, irm, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    program = tmp_path / "server"
    program.write_text("#!/bin/sh\n")
    ran = irm(f"bind program {program} name srv")
    assert (ran.code, ran.err) == (1, f"Cannot execute {program}, please check permissions.\n")
    program.chmod(0o755)
    assert irm(f"bind program {program} name srv auto -- -l --json help").code == 0
    body = irmd.requests[0].bind_program
    assert (body.path, body.auto, list(body.args)) == (
        os.path.realpath(program),
        True,
        ["-l", "--json", "help"],
    )
    assert irm(f"unbind program {program}").code == 0
    assert irm(f"bind process {os.getpid()} name srv").code == 0
    assert irm(f"unbind process {os.getpid()} name srv").code == 0
    irmd.add_ipcp("a")
    assert irm("bind ipcp a name srv").code == 0
    assert irm("unbind ipcp a").code == 0
    assert irmd.requests[-1].unbind_process.name == ""
    count = len(irmd.requests)
    for line, text in (
        (f"bind program {program} name srv -- -l", 'add "auto"'),
        ("bind process x name srv", '"x" is not a valid process id.'),
        ("bind process -1 name srv", '"-1" is not a valid process id.'),
        ("bind process 0 name srv", '"0" is not a valid process id.'),
        ("unbind process 99999999999", '"99999999999" is not a valid process id.'),
    ):
        ran = irm(line)
        assert ran.code == 2 and text in ran.err, line
    for line, text in (
        ("bind program /nowhere name srv", "/nowhere does not exist."),
        ("bind process 999999999 name srv", '"999999999" is not a valid process id.'),
        ("bind ipcp nobody name srv", "No IPCPs matching nobody found."),
        ("unbind ipcp nobody", "No IPCPs matching nobody found."),
    ):
        ran = irm(line)
        assert ran.code == 1 and text in ran.err, line
    assert len(irmd.requests) == count


def test_names(irmd: FakeIrmd, irm, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    assert irm("name list").out == "No names in system.\n\n"
    key = tmp_path / "key.pem"
    key.touch()
    assert irm(f"name create oping lb spillover skeypath {key}").code == 0
    assert irmd.names["oping"].server.key == str(key)
    assert irm("name list").out == NAME_TABLE
    assert irm("name list name other").out == "No names match.\n\n"
    for line, text in (
        ("create x lb fair", 'Unknown load-balance policy "fair"; it must be round-robin or spillover.'),
        ("register x", "give a layer or an IPCP"),
        ("set x", "Nothing to change"),
        ("set x require luck", '"luck" is not one of encryption, authentication'),
    ):
        ran = irm(f"name {line}")
        assert ran.code == 2 and text in ran.err, line
    for line, text in (
        ("create x scrtpath /nowhere", "Failed to check path /nowhere: No such file or directory."),
        ("destroy x", "name x is unknown"),
        ("show x", "name x is unknown"),
        ("set x lb spillover", "name x is unknown"),
        ("register x layer nowhere", "No IPCPs in a layer matching nowhere found."),
    ):
        ran = irm(f"name {line}")
        assert ran.code == 1 and text in ran.err, line
    assert irm("name destroy oping").code == 0
    assert not irmd.names


def test_both_spellings_of_register(irmd: FakeIrmd, irm) -> None:  # type: ignore[no-untyped-def]
    irmd.add_ipcp("one", "LOCAL", "net")
    for register, unregister in (
        ("name register srv layer net", "name unregister srv layer net"),
        ("register name srv layer net", "unregister name srv layer net"),
        ("name reg srv ipcp o*", "name unreg srv ipcp o*"),
    ):
        assert irm(register).code == 0
        assert len(irmd.names["srv"].registrations) == 1
        assert irm(unregister).code == 0
        assert len(irmd.names["srv"].registrations) == 0
    ran = irm("name unregister srv layer net")
    assert (ran.code, ran.err) == (1, "Name srv is not registered with one.\n")


def test_name_show(irmd: FakeIrmd, irm, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    pid = irmd.add_ipcp("one", "LOCAL", "net")
    irm("name register srv layer net")
    irm(f"bind program {sys.executable} name srv auto -- -l")
    irm("bind ipcp one name srv")
    irm("name create lonely")
    python = os.path.realpath(sys.executable)
    assert irm("name show").out == (
        f"srv (spillover)\n"
        f"    registered in layer net by IPCP one (pid {pid}) as abcd\n"
        f"    bound program {python} -l (started on demand)\n"
        f"    bound process {pid} (/bin/x), accepting 2\n"
        f"lonely (round-robin)\n"
        f"    not registered, nothing bound\n"
    )
    assert irm("name show lonely").out.startswith("lonely")
    nothing = {"enc": "", "crt": "", "key": ""}
    assert json.loads(irm("name show srv --json").out) == {
        "names": [
            {
                "name": "srv",
                "lb": "spillover",
                "server": nothing,
                "client": nothing,
                "require": [],
                "programs": [{"path": python, "auto": True, "args": ["-l"]}],
                "processes": [{"pid": pid, "program": "/bin/x", "accepting": 2}],
                "registrations": [{"pid": pid, "ipcp": "one", "layer": "net", "hash": "abcd"}],
            }
        ]
    }
    assert len(json.loads(irm("name list --json").out)["names"]) == 2


def test_name_hash(irm) -> None:  # type: ignore[no-untyped-def]
    """The hash that the paper's listing 13 has for /etc/hosts (docs/reference/irm.md)."""
    assert irm("name hash unicast algo MD5").out == "eebe0851cda7f85aeef4229567441a2d\n"
    assert "SHA3_256 " in irm("name hash unicast").out
    assert json.loads(irm("name hash unicast --json algo md5").out) == {
        "name": "unicast",
        "hashes": {"MD5": "eebe0851cda7f85aeef4229567441a2d"},
    }
    assert irm("name hash unicast algo crc").code == 2


def test_flow_list(irmd: FakeIrmd, irm) -> None:  # type: ignore[no-untyped-def]
    assert irm("flow list").out == "No flows in system.\n\n"
    irmd.flows = [a_flow()]
    assert "|       5 |       allocated |                oping |     (direct) |" in irm("flow list").out
    assert "11/64 12/65 |         3 0 |" in irm("flow list").out
    (record,) = json.loads(irm("flow list --json").out)["flows"]
    assert record["ends"][0] == {
        "pid": 11,
        "fd": 64,
        "program": "/bin/a",
        "queued": 3,
        "packets": 7,
        "dropped": 2,
        "refused": 1,
    }
    assert (record["flow_id"], record["layer"], record["down"]) == (5, None, False)
    assert record["cipher"] == "aes-256-gcm"
    assert record["qos"]["max_gap"] == 2000


def test_pool_show(irmd: FakeIrmd, irm) -> None:  # type: ignore[no-untyped-def]
    irmd.pools = [a_pool()]
    out = irm("pool show").out
    assert "|               system |       0 |    1760 |        95 |       100 |" in out
    assert "/bin/a" in out and "flow 5" in out and "exhausted 2 times" in out
    assert json.loads(irm("pool show --json").out) == {
        "pools": [
            {
                "name": "system",
                "uid": 0,
                "octets": 1 << 20,
                "taken": 1 << 19,
                "failures": 2,
                "classes": [
                    {
                        "size": 1760,
                        "total": 100,
                        "free": 95,
                        "holders": [
                            {"pid": 11, "flow_id": 0, "program": "/bin/a", "blocks": 4},
                            {"pid": 0, "flow_id": 5, "program": "", "blocks": 1},
                        ],
                    },
                    {"size": 67296, "total": 8, "free": 8, "holders": []},
                ],
            }
        ]
    }


def test_refused_and_absent(rundir: str, irm) -> None:  # type: ignore[no-untyped-def]
    ran = irm("ipcp list")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == f"no IRMd answers on {rundir}/irm.sock; start one with `irmd`\n"
    with FakeIrmd(rundir) as irmd:
        irmd.refuse["ipcp_list"] = PERMISSION
        ran = irm("ipcp list")
        assert (ran.code, ran.err) == (1, "management needs root\n")


def command(*words: str, **environment: str) -> subprocess.Popen[str]:
    source = "import sys; from ouroboros_tools.irm.main import main; sys.exit(main())"
    return subprocess.Popen(
        [sys.executable, "-c", source, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )


def test_as_a_process(irmd: FakeIrmd) -> None:
    irmd.add_ipcp("ä\u2028", "LOCAL", "net")
    with command("ipcp", "list", LC_ALL="C", PYTHONIOENCODING="ascii") as process:
        out, err = process.communicate()
    assert (process.returncode, err) == (0, "")
    assert r"\xe4" in out


def test_a_reader_that_went_away(irmd: FakeIrmd) -> None:
    for number in range(50):
        irmd.add_ipcp(f"ipcp{number}", "LOCAL", "net")
    process = command("ipcp", "list")
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait() == 1


def test_a_list_does_not_load_what_it_does_not_need(irmd: FakeIrmd) -> None:
    """Start-up time is a feature (docs/design/overview.md)."""
    source = (
        "import sys; from ouroboros_tools.irm.main import main; main(['ipcp', 'list']);"
        "print([m for m in ('asyncio', 'dataclasses', 'inspect', 'argparse', 'json', '_cffi_backend') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True).stdout
    assert out.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("ipcp create l type local", "Created IPCP l, pid 1002."),
        ("ipcp bootstrap l layer net type local", "Bootstrapped IPCP l in layer net."),
        ("ipcp enroll u dst there", "Enrolled IPCP u in layer learned."),
        ("ipcp connect m dst v", "Connected m to v."),
        ("ipcp disconnect m dst v component dt", "Disconnected m from v (dt)."),
        ("ipcp destroy m", "Destroyed IPCP m, pid 1001."),
        ("name create n lb spillover", "Created name n."),
        ("name set n require encryption", "Changed name n."),
        ("register n layer net", "Registered n with m."),
        ("name register n ipcp m", "Registered n with m."),
        ("name register name n ipcp m", "Registered n with m."),
        ("register name n ipcp m", "Registered n with m."),
        ("bind process 1 n", "Bound process 1 to n."),
        ("bind process pid 1 name n", "Bound process 1 to n."),
        ("bind ipcp m n", "Bound IPCP m to n."),
        ("name destroy n", "Destroyed name n."),
    ],
)
def test_what_is_made_or_removed_is_told_in_one_line(irmd: FakeIrmd, irm, line: str, said: str) -> None:  # type: ignore[no-untyped-def]
    for quiet in (False, True):
        irmd.ipcps.clear()
        irmd.names.clear()
        irmd.add_ipcp("m", "UNICAST", "net")
        irmd.add_name("n")
        ran = irm(f"{line} --quiet" if quiet else line)
        assert (ran.code, ran.out, ran.err) == (0, "" if quiet else f"{said}\n", ""), line


def test_the_policies_of_a_name_are_changed(irmd: FakeIrmd, irm, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    for word in ("a", "b"):
        (tmp_path / word).touch()
    a, b = tmp_path / "a", tmp_path / "b"
    irm(f"name create n scrtpath {a} skeypath {a} require encryption")
    assert irm(f"name set n lb spillover skeypath {b} ccrtpath {b}").code == 0
    (name,) = json.loads(irm("name show n --json").out)["names"]
    assert (name["lb"], name["require"]) == ("spillover", ["encryption"])
    assert name["server"] == {"enc": "", "crt": str(a), "key": str(b)}
    assert name["client"] == {"enc": "", "crt": str(b), "key": ""}
    assert irm("name set n require none scrtpath default").code == 0
    (name,) = json.loads(irm("name show n --json").out)["names"]
    assert (name["lb"], name["require"], name["server"]["crt"]) == ("spillover", [], "")
    assert name["server"]["key"] == str(b)


def test_create_tells_what_an_existing_name_must_have(irmd: FakeIrmd, irm) -> None:  # type: ignore[no-untyped-def]
    irm("name create n")
    irm("name create n lb round-robin require encryption")
    assert [list(request.name_create.given) for request in irmd.requests[-2:]] == [[], ["lb"]]


def test_enroll_of_a_type_that_does_not_enrol_says_so(irmd: FakeIrmd, irm) -> None:  # type: ignore[no-untyped-def]
    irmd.add_ipcp("e", "ETH_DIX", "")
    ran = irm("ipcp enroll e layer net")
    assert ran.code == 1 and "of type eth-dix, which is bootstrapped, never enrolled" in ran.err
    irmd.add_ipcp("b", "BROADCAST", "")
    ran = irm("ipcp enroll b layer net type unicast")
    assert ran.code == 1 and "Types do not match: IPCP b is of type broadcast, not unicast." in ran.err
    assert "ipcp_create" not in irmd.asked()
