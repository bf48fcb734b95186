"""The doctor: each illness is found and has an advice, and a healthy system has none."""

from __future__ import annotations

import json
import os
import resource
from collections.abc import Callable
from typing import Any

import pytest
from ouroboros_tools.irm.main import main
from ouroboros_tools.observe import doctor
from ouroboros_tools.observe.doctor import Grade
from ouroboros_tools.observe.reader import Reader

from ouroboros import facts, irm
from ouroboros.ipcp_types import IpcpType
from ouroboros.name_info import BoundProgram, NameInfo, Registration
from ouroboros.readout import FlowEnd, FlowInfo, IpcpInfo, PoolClass, PoolInfo
from ouroboros.rpc import locate

ETH = IpcpInfo(1, "e", IpcpType.ETH_DIX, "link", state="operational", instance=1)
UNI = IpcpInfo(2, "u", IpcpType.UNICAST, "net", state="operational", instance=2)


class Patient:
    """A system that is well, until a test changes it."""

    def __init__(self) -> None:
        self.ipcps = [ETH, UNI]
        self.rows: dict[tuple[str, str], list[facts.Row]] = {
            ("e", "status"): [facts.ETH_STATUS.row(device="eth0", state="up", max_packet=1496)],
            ("u", "status"): [
                facts.UNICAST_STATUS.row(address="1.2.3.4", unreachable=0, contested=False, max_packet=1400)
            ],
            ("u", "neighbours"): [
                facts.UNICAST_NEIGHBOURS.row(name="v", component="dt", state="up", max_packet=1496)
            ],
        }
        self.names = [
            NameInfo(
                "n", programs=[BoundProgram("/p", False, [])], registrations=[Registration(2, "u", "net", "")]
            )
        ]
        self.pools = [PoolInfo("system", 0, 1 << 20, 0, [PoolClass(224, 10, 9, ())], 1 << 19)]
        self.flows: list[FlowInfo] = []
        self.ended: list[facts.Row] = []

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(irm, "list_ipcps", lambda: self.ipcps)
        monkeypatch.setattr(irm, "readout_ipcp", lambda ipcp, what: self.rows.get((ipcp.name, what), []))
        monkeypatch.setattr(irm, "readout_irmd", lambda what: self.ended if what == "ended" else [])
        monkeypatch.setattr(irm, "list_flows", lambda: self.flows)
        monkeypatch.setattr(irm, "list_names", lambda: self.names)
        monkeypatch.setattr(irm, "list_pools", lambda: self.pools)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> Patient:
    found = Patient()
    found.install(monkeypatch)
    monkeypatch.setattr(doctor, "MACHINE", ())
    return found


def bad(*, notes: bool = False) -> list[str]:
    return [
        f"{finding.subject}: {finding.text}"
        for finding in doctor.examine(Reader())
        if finding.grade is Grade.BAD or (notes and finding.grade is Grade.NOTE)
    ]


def test_a_system_that_is_well(patient: Patient) -> None:
    assert not bad(notes=True)
    assert [f.text for f in doctor.examine(Reader())] == ["answers; it has 2 IPCPs"]


def change(patient: Patient, name: str, what: str, **values: object) -> None:
    patient.rows[name, what][0].update(values)


def illness(words: str, **values: object) -> Callable[[Patient], None]:
    name, what = words.split()
    return lambda patient: change(patient, name, what, **values)


def _unbound(patient: Patient) -> None:
    patient.names[0].programs.clear()


def _unregistered(patient: Patient) -> None:
    patient.names[0].registrations.clear()


def _defect(patient: Patient) -> None:
    patient.rows["u", "counters"] = facts.MACHINES.rows({"defects": 2})


def _ended(patient: Patient) -> None:
    patient.ended = [facts.ENDED.row(name="x", pid=9, how="was killed by SIGKILL")]


def _exhausted(patient: Patient) -> None:
    patient.pools = [patient.pools[0]._replace(failures=3, classes=[PoolClass(224, 100, 1, ())])]


def _refusing(patient: Patient) -> None:
    patient.flows = [FlowInfo(7, "allocated", "n", "net", (FlowEnd(5, 64, "a", refused=4),), down=True)]


def _no_layer(patient: Patient) -> None:
    patient.ipcps = [ETH._replace(layer="", progress="retries in 3 s")]


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (illness("e status", state="down"), "eth0 is down"),
        (illness("u status", contested=True), "another member claims the address 1.2.3.4"),
        (illness("u status", unreachable=2), "2 members or neighbours do not answer"),
        (
            illness("u neighbours", state="connecting", trouble="no such name"),
            "with v (dt) is connecting: no such name",
        ),
        (
            illness("u neighbours", max_packet=1000),
            "takes packets of 1000 octets, the layer's have up to 1400",
        ),
        (_unbound, "name n: nothing is bound to it, although net has it"),
        (_unregistered, "only this system reaches it"),
        (_defect, "2 defects"),
        (_ended, "IPCP x: the process 9 was killed by SIGKILL"),
        (_exhausted, "was exhausted 3 times"),
        (_exhausted, "1 of 100 blocks"),
        (_refusing, "process 5 refused 4 packets"),
        (_refusing, "flows: 7: down"),
        (_no_layer, "IPCP e: is in no layer: retries in 3 s"),
    ],
)
def test_illnesses(patient: Patient, make: Callable[[Patient], None], text: str) -> None:
    make(patient)
    found = [finding for finding in doctor.examine(Reader()) if text in f"{finding.subject}: {finding.text}"]
    assert len(found) == 1 and found[0].advice


def test_an_ipcp_that_does_not_answer(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(ipcp: IpcpInfo, what: str) -> list[facts.Row]:
        raise OSError(110, "no answer in 5 s")

    monkeypatch.setattr(irm, "readout_ipcp", fail)
    assert bad() == ["IPCP e: does not answer: no answer in 5 s", "IPCP u: does not answer: no answer in 5 s"]


def test_without_an_irmd(
    rundir: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locate, "CONNECT_TIMEOUT", 0)
    assert main(["doctor", "--json"]) == 1
    findings = json.loads(capsys.readouterr().out)["findings"]
    assert findings[-1]["subject"] == "IRMd" and findings[-1]["grade"] == "bad"
    assert findings[0]["subject"] == "kernel"


def test_machines_that_are_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    old: Any = os.uname_result(("Linux", "h", "5.4.0-1", "v", "x86_64"))
    monkeypatch.setattr(os, "uname", lambda: old)
    assert [finding.grade for finding in doctor.kernel()] == [Grade.BAD]
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 1024))
    assert "at most 1024" in next(doctor.limits()).text
    assert all(finding.grade is not Grade.BAD for finding in doctor.clock())


@pytest.fixture
def rundir(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> str:
    monkeypatch.setenv("OUROBOROS_RUNDIR", str(tmp_path))
    return str(tmp_path)
