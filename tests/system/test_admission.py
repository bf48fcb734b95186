"""Layers that admit only members with a certificate, on real daemons: systems over UDP on loopback addresses, each with a security
directory of its own, and an IPCP that wants to be a member of the first one's layer.
"""

from __future__ import annotations

import subprocess
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.authority import DAY, Authority

from .conftest import MakeSystem, System
from .test_udp import A, B, C, Net

EAUTH = 1009
HOUR = timedelta(hours=1)
KINDS = ("unicast", "broadcast")


class Lan:
    """A layer "lan" whose first member, m1, is on its own system."""

    def __init__(self, make_system: MakeSystem, folder: Path) -> None:
        self.net = Net(make_system, folder)
        self._make_system = make_system
        self._folder = folder
        self.ca = Authority("ca")
        self.systems: dict[str, System] = {}

    def security(self, name: str) -> Path:
        """The security directory of the system of member `name`, which trusts the authority."""
        path = self._folder / name
        if not path.exists():
            path.mkdir()
            self.ca.trust(path)
        return path

    def certify(self, name: str, *, ca: Authority | None = None, cn: str = "", **about: Any) -> None:
        """Give the system of this member a certificate: for flows to it, and to show when it asks others of the layer."""
        issued = (ca or self.ca).issue(cn or name, **about)
        issued.install(self.security(name), "server", name)
        issued.install(self.security(name), "client", "lan")

    def system(self, name: str, address: str) -> System:
        config = self._folder / f"{name}.conf"
        config.write_text(f'[irmd]\nsecurity = "{self.security(name)}"\n')
        system = self._make_system("--config", str(config), env={"OUROBOROS_HOSTS": str(self.net.hosts)})
        self.net.bootstrap(system, address)
        self.net.name(name, address)
        self.systems[name] = system
        return system

    def bootstrap(self, kind: str, *words: str) -> System:
        system = self.system("m1", A)
        system.irm(f"ipcp bootstrap name m1 type {kind} layer lan autobind", *words)
        system.irm("name register m1 ipcp udp")
        return system

    def enroll(
        self, system: System, kind: str, name: str = "m2", dst: str = "m1", *words: str
    ) -> subprocess.CompletedProcess[str]:
        return system.irm(
            f"ipcp enroll name {name} type {kind} layer lan dst {dst} autobind", *words, check=False
        )


@pytest.fixture
def lan(make_system: MakeSystem, tmp_path: Path) -> Lan:
    return Lan(make_system, tmp_path)


def said(result: subprocess.CompletedProcess[str]) -> str:
    return result.stdout + result.stderr


def neighbours(system: System, name: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = system.json(f"ipcp neighbours name {name}")["neighbours"]
    return rows


def counter(system: System, name: str, word: str) -> int:
    rows = system.json(f"ipcp counters name {name}")["counters"]
    return sum(int(row["value"]) for row in rows if row["counter"] == word)


def test_members_with_certificates(lan: Lan) -> None:
    """They enrol, connect, carry flows; the requirement is distributed; every member refuses an IPCP without a certificate."""
    for name in ("m1", "m2"):
        lan.certify(name)
    first = lan.bootstrap("unicast", "require", "authentication")
    second, third = lan.system("m2", B), lan.system("m3", C)
    assert lan.enroll(second, "unicast").returncode == 0
    second.irm("name register m2 ipcp udp")
    second.irm("ipcp connect name m2 dst m1")
    assert {row["certificate"] for row in neighbours(first, "m1")} == {"m2"}
    assert {row["certificate"] for row in neighbours(second, "m2")} == {"m1"}
    for system in (first, second):
        (ipcp,) = [one for one in system.json("ipcp list")["ipcps"] if one["layer"] == "lan"]
        assert (ipcp["require"], ipcp["admit"]) == (["authentication"], [])
        (status,) = system.json(f"ipcp status name {ipcp['name']}")["status"]
        assert (status["require"], status["admit"]) == (["authentication"], [])
    server = second.spawn("oping", "-l")
    server.expect("started")
    second.irm(f"bind process {server.pid} name server")
    second.irm("name register server ipcp m2")
    assert "2 received" in first.run("oping", "-n", "server", "-c", "2", "-i", "10").stdout
    for member in ("m1", "m2"):
        refused = lan.enroll(third, "unicast", "m3", member)
        assert refused.returncode == 1
        text = said(refused)
        assert "it admits only members with a certificate, and you have shown none" in text
        assert f"{lan.security('m3')}/client/{member} or {lan.security('m3')}/client/lan" in text
        lan.systems[member].irmd.expect('somebody, without a certificate, for "Enrollment"')
        assert counter(lan.systems[member], member, "unauthenticated") == 1
    assert third.json("flow list")["flows"] == []
    lan.certify("m3")
    assert lan.enroll(third, "unicast", "m3").returncode == 0, "a new certificate needs no restart"


@pytest.mark.parametrize("kind", KINDS)
def test_without_a_certificate(lan: Lan, kind: str) -> None:
    lan.certify("m1")
    first, second = lan.bootstrap(kind, "require", "authentication"), lan.system("m2", B)
    flows = len(first.json("flow list")["flows"])
    assert "it admits only members with a certificate" in said(lan.enroll(second, kind))
    assert first.json("ipcp list name m1")["ipcps"][0]["require"] == ["authentication"]
    assert second.json("ipcp list")["ipcps"][0]["layer"] == "net", "the IPCP that was made for it is gone"
    assert second.json("flow list")["flows"] == []
    assert len(first.json("flow list")["flows"]) == flows
    lan.certify("m2")
    assert lan.enroll(second, kind).returncode == 0
    second.irm("ipcp connect name m2 dst m1")
    assert {row["certificate"] for row in neighbours(first, "m1")} == {"m2"}


@pytest.mark.parametrize("kind", KINDS)
def test_connections_without_a_certificate(lan: Lan, kind: str) -> None:
    """A member whose certificate has gone gets no new connection, and none that was lost."""
    for name in ("m1", "m2"):
        lan.certify(name)
    lan.bootstrap(kind, "require", "authentication")
    second = lan.system("m2", B)
    assert lan.enroll(second, kind).returncode == 0
    (lan.security("m2") / "client" / "lan" / "crt.pem").unlink()
    (lan.security("m2") / "client" / "lan" / "key.pem").unlink()
    refused = second.irm("ipcp connect name m2 dst m1", check=False)
    assert refused.returncode == 1 and "it admits only members with a certificate" in said(refused)
    assert neighbours(second, "m2") == []


@pytest.mark.parametrize(
    ("about", "reason"),
    [
        ({"begin": -DAY, "end": -HOUR}, "its certificate has expired"),
        ({"begin": HOUR, "end": DAY}, "its certificate is not valid before"),
        ({"ca": Authority("ca")}, "has not issued a certificate that names it as issuer"),
        ({"ca": Authority("stranger")}, "no authority in cacert has issued its certificate"),
    ],
)
def test_certificates_that_are_not_good(lan: Lan, about: dict[str, Any], reason: str) -> None:
    lan.certify("m1")
    lan.certify("m2", **about)
    first, second = lan.bootstrap("unicast", "require", "authentication"), lan.system("m2", B)
    refused = lan.enroll(second, "unicast")
    assert refused.returncode == 1 and f"{lan.security('m2')}/cacert" in said(refused)
    first.irmd.expect(reason)
    assert second.json("flow list")["flows"] == []
    assert first.json("ipcp status name m1")["status"][0]["members"] == 1


def test_names_that_are_admitted(lan: Lan) -> None:
    for name in ("m1", "m2"):
        lan.certify(name)
    lan.certify("m3", cn="mallory")
    first = lan.bootstrap("unicast", "require", "authentication", "admit", "m?", "admit", "gateway*")
    assert first.json("ipcp list name m1")["ipcps"][0]["admit"] == ["m?", "gateway*"]
    second, third = lan.system("m2", B), lan.system("m3", C)
    assert lan.enroll(second, "unicast").returncode == 0
    assert second.json("ipcp list name m2")["ipcps"][0]["admit"] == ["m?", "gateway*"]
    refused = lan.enroll(third, "unicast", "m3")
    assert 'it admits no member with the name "mallory"' in said(refused)
    first.irmd.expect('with a certificate for "mallory"')


def test_who_asks_does_not_enroll_with_strangers(lan: Lan) -> None:
    """The member must show a certificate if the newcomer requires it, by `require` or by the name; and if its own layer does."""
    lan.certify("m2")
    first, second = lan.bootstrap("unicast"), lan.system("m2", B)
    refused = lan.enroll(second, "unicast", "m2", "m1", "require", "authentication")
    assert '"m1" is not to be trusted: it must show a certificate, and has shown none' in said(refused)
    second.irm("name create lan require authentication")
    refused = lan.enroll(second, "unicast")
    assert '"m1" must show a certificate, and has shown none' in said(refused)
    assert first.json("ipcp counters name m1")["counters"]
    lan.certify("m1", cn="other")
    refused = lan.enroll(second, "unicast", "m2", "m1", "require", "authentication")
    assert 'its certificate is for "other" and not for "m1"' in said(refused)
    lan.certify("m1")
    assert lan.enroll(second, "unicast", "m2", "m1", "require", "authentication").returncode == 0


def test_a_member_that_its_own_layer_would_not_admit(lan: Lan) -> None:
    lan.certify("m2")
    lan.bootstrap("unicast", "require", "authentication")
    second = lan.system("m2", B)
    refused = lan.enroll(second, "unicast")
    assert 'it cannot be a member of layer "lan": it must show a certificate' in said(refused)


def encrypt(lan: Lan, name: str) -> None:
    (lan.security(name) / "client" / "lan" / "enc.conf").write_text("kex=X25519\n")


@pytest.mark.parametrize("kind", KINDS)
def test_encryption_that_is_required(lan: Lan, kind: str) -> None:
    """Flows between members must be encrypted, whatever the certificates."""
    for name in ("m1", "m2"):
        lan.certify(name)
    first = lan.bootstrap(kind, "require", "authentication", "require", "encryption")
    second = lan.system("m2", B)
    refused = lan.enroll(second, kind)
    assert '"m1" refuses: flows between its members must be encrypted' in said(refused)
    refused = lan.enroll(second, kind, "m2", "m1", "require", "encryption")
    assert '"m1" is not to be trusted: the flow to it must be encrypted, and is not' in said(refused)
    encrypt(lan, "m2")
    assert lan.enroll(second, kind, "m2", "m1", "require", "encryption").returncode == 0
    second.irm("ipcp connect name m2 dst m1")
    assert {(row["certificate"], row["encrypted"]) for row in neighbours(first, "m1")} == {("m2", True)}
    if kind == "broadcast":
        return
    server = second.spawn("oping", "-l")
    server.expect("started")
    second.irm(f"bind process {server.pid} name server")
    second.irm("name register server ipcp m2")
    assert "3 received" in first.run("oping", "-n", "server", "-c", "3", "-i", "10").stdout


def test_a_member_that_comes_back(lan: Lan) -> None:
    """Connections that are made again after a crash are authenticated again."""
    for name in ("m1", "m2"):
        lan.certify(name)
    first = lan.bootstrap("unicast", "require", "authentication")
    second = lan.system("m2", B)
    assert lan.enroll(second, "unicast").returncode == 0
    second.irm("name register m2 ipcp udp")
    first.irm("ipcp connect name m1 dst m2 timeout 500")
    first.irmd.expect("Data Transfer is connected to m2")
    (ipcp,) = second.json("ipcp list name m2")["ipcps"]
    second.kill(ipcp["pid"])
    second.irmd.expect("IPCP m2 .* has ended")
    assert lan.enroll(second, "unicast").returncode == 0
    first.irmd.expect("Data Transfer is connected to m2 again")
    assert {row["certificate"] for row in neighbours(first, "m1") if row["state"] == "up"} == {"m2"}


def test_a_layer_without_requirements_is_open(lan: Lan) -> None:
    """An IPCP with a certificate shows it; one without, a prototype for example, is admitted too."""
    for name in ("m1", "m2"):
        lan.certify(name)
    first = lan.bootstrap("unicast")
    second, third = lan.system("m2", B), lan.system("m3", C)
    assert lan.enroll(second, "unicast").returncode == lan.enroll(third, "unicast", "m3").returncode == 0
    second.irm("ipcp connect name m2 dst m1")
    third.irm("ipcp connect name m3 dst m1")
    assert {row["certificate"] for row in neighbours(first, "m1")} == {"m2", None}
    assert counter(first, "m1", "unauthenticated") == 0


STRANGER = """
    import hashlib, sys, time
    from ipcpd.wire import connmgr, dht, dt, fa, link_state
    from ipcpd.wire.connmgr import ENROLMENT
    from ipcpd.wire.lsm import Lsm
    from ouroboros import flow_alloc

    member, own = int.from_bytes(bytes.fromhex(sys.argv[1].replace(".", "")), "little"), 0x01020304
    name = hashlib.sha3_256(b"server").digest()
    contact = dht.Contact(b"i" * 32, own)
    request = fa.encode(fa.FlowRequest(own, 77, name, data=bytes(16) + time.time_ns().to_bytes(8, "big") + bytes(12)))
    store = dht.encode(dht.Store(contact, name, dht.value_of(own), 2**31))
    update = link_state.encode(Lsm(own, member, 1))
    packets = [dt.encode(dt.Packet(member, 0, request)), dt.encode(dt.Packet(member, 1, store))]

    def say(*what, wait=20):
        with flow_alloc("m1") as flow:
            flow.rcv_timeout = wait
            for packet in what:
                flow.write(packet)
            try:
                return flow.read()
            except OSError as error:
                return error

    for record in (connmgr.data_transfer(own), connmgr.management(own), ENROLMENT):
        answer = connmgr.decode(say(connmgr.encode(record), *packets, update))
        print("answer", repr(answer.component), answer.reason, flush=True)
    print("nothing" if isinstance(say(*packets, wait=1), OSError) else "something", flush=True)
"""


@pytest.mark.parametrize("closed", [True, False])
def test_strangers_that_speak_the_protocols(lan: Lan, closed: bool) -> None:
    """A stranger allocates a flow to a member's name and sends a member's packets: a request for a flow, an entry of the directory, a link.
    Where the layer is closed nothing of it is looked at; where it is open, all of it arrives."""
    lan.certify("m1")
    first = lan.bootstrap("unicast", *(("require", "authentication") if closed else ()))
    second = lan.system("m2", B)
    server = first.spawn("oping", "-l")
    server.expect("started")
    first.irm(f"bind process {server.pid} name server")
    first.irm("name register server ipcp m1")
    (status,) = first.json("ipcp status name m1")["status"]
    stranger = second.python(STRANGER, status["address"])
    assert stranger.wait() == 0, stranger.output
    answers = [line for line in stranger.output.splitlines() if line.startswith("answer")]
    if closed:
        assert len(answers) == 3 and all("answer '' it admits only members" in line for line in answers)
        assert counter(first, "m1", "unauthenticated") == 3
        assert neighbours(first, "m1") == []
    else:
        assert ["'Data Transfer'" in line for line in answers] == [True, False, False]
    assert stranger.output.endswith("nothing")
    rows = {
        (row["component"], row["counter"]): row["value"]
        for row in first.json("ipcp counters name m1")["counters"]
        if row["of"] == ""
    }
    (after,) = first.json("ipcp status name m1")["status"]
    if closed:
        assert (after["members"], after["links"], after["contacts"], after["values"]) == (1, 0, 0, 0)
        assert (after["flows"], after["waiting"]) == (0, 0), after
        assert rows["flow allocator", "requests"] == 0
    else:
        assert rows["flow allocator", "requests"] == 1


def test_a_prototype(make_system: MakeSystem, tmp_path: Path) -> None:
    """Without a certificate it gets the record of refusal that it knows; with one it is a member as any other."""
    ca = Authority("ca")
    ca.trust(tmp_path)
    ca.issue("m1").install(tmp_path, "server", "m1")
    config = tmp_path / "irmd.conf"
    config.write_text(f'[irmd]\nsecurity = "{tmp_path}"\n')
    system = make_system("--config", str(config))
    system.local_layer()
    system.irm("ipcp bootstrap name m1 type unicast layer lan autobind require authentication")
    system.irm("name register m1 ipcp local")
    refused = system.prototype("newcomer", "m1")
    assert refused.wait() != 0 and "it is refused" in refused.output
    assert counter(system, "m1", "unauthenticated") == 1
    ca.issue("of old").install(tmp_path, "client", "m1")
    with_one = system.prototype("newcomer", "m1")
    for said_so in ("enrolled lan", "connected"):
        with_one.expect(said_so)
    assert {row["certificate"] for row in neighbours(system, "m1")} == {"of old"}
