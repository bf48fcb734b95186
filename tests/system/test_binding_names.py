"""The names and signatures of the existing Python binding (docs/reference/api.md): a program written for it runs unchanged.

Importing any of it needs no daemon; without one, the first call that needs it raises an error with the run directories that it tried.
"""

from __future__ import annotations

import importlib
import inspect
import os
import subprocess
import sys
from enum import Enum, IntFlag
from pathlib import Path

import pytest

DEV = {
    "Flow.alloc": "dst qos=None timeo=None",
    "Flow.accept": "timeo=None",
    "Flow.join": "dst timeo=None",
    "Flow.dealloc": "",
    "Flow.write": "buf count=None",
    "Flow.writeline": "line",
    "Flow.read": "count=2048",
    "Flow.readline": "",
    "Flow.set_snd_timeout": "timeo",
    "Flow.set_rcv_timeout": "timeo",
    "Flow.get_snd_timeout": "",
    "Flow.get_rcv_timeout": "",
    "Flow.get_qos": "",
    "Flow.get_rx_queue_len": "",
    "Flow.get_tx_queue_len": "",
    "Flow.set_flags": "flags",
    "Flow.get_flags": "",
    "Flow.set_frct_flags": "flags",
    "Flow.get_frct_flags": "",
    "Flow.__enter__": "",
    "flow_alloc": "dst qos=None timeo=None",
    "flow_accept": "timeo=None",
    "flow_join": "dst qos=None timeo=None",
}
EVENT = {
    "FEventQueue.next": "",
    "FlowSet.__init__": "flows=None",
    "FlowSet.add": "flow",
    "FlowSet.remove": "flow",
    "FlowSet.zero": "",
    "FlowSet.wait": "fq timeo=None",
    "FlowSet.destroy": "",
    "FlowSet.__enter__": "",
}
CLI = {
    "create_ipcp": "name ipcp_type",
    "destroy_ipcp": "name",
    "list_ipcps": "name=None layer=None ipcp_type=None",
    "bootstrap_ipcp": "name conf autobind=False",
    "enroll_ipcp": "name dst autobind=False",
    "connect_ipcp": "name dst comp=* qos=None",
    "disconnect_ipcp": "name dst comp=*",
    "bind_program": "prog name opts=0 argv=None",
    "unbind_program": "prog name",
    "bind_process": "pid name",
    "unbind_process": "pid name",
    "bind_ipcp": "ipcp name",
    "unbind_ipcp": "ipcp name",
    "create_name": "name pol_lb",
    "destroy_name": "name",
    "list_names": "name=None",
    "reg_name": "name ipcp=None ipcps=None layer=None layers=None",
    "unreg_name": "name ipcp=None ipcps=None layer=None layers=None",
    "autoboot": "name ipcp_type layer conf=None",
}
IRM = {
    "create_ipcp": "name ipcp_type",
    "destroy_ipcp": "pid",
    "list_ipcps": "",
    "bootstrap_ipcp": "pid conf",
    "enroll_ipcp": "pid dst",
    "connect_ipcp": "pid component dst qos=None",
    "disconnect_ipcp": "pid component dst",
    "bind_program": "prog name opts=0 argv=None",
    "unbind_program": "prog name",
    "bind_process": "pid name",
    "unbind_process": "pid name",
    "create_name": "info",
    "destroy_name": "name",
    "list_names": "",
    "reg_name": "name pid",
    "unreg_name": "name pid",
}
CLASSES = {
    "LinkStateConfig": "pol t_recalc=4 t_update=15 t_timeo=60",
    "RoutingConfig": "pol ls",
    "DtConfig": "addr_size=4 eid_size=8 max_ttl=60 routing",
    "DhtConfig": "alpha=3 k=8 t_expire=86400 t_refresh=900 t_replicate=900",
    "DirConfig": "pol dht",
    "UnicastConfig": "dt dir addr_auth cong_avoid",
    "EthConfig": "dev ethertype=40960",
    "Udp4Config": "ip_addr dns_addr port=3435",
    "Udp6Config": "ip_addr dns_addr port=3435",
    "IpcpConfig": "ipcp_type layer_name",
    "NameSecPaths": "enc key crt",
    "NameInfo": "name pol_lb",
}


def find(module: str, dotted: str) -> object:
    found: object = importlib.import_module(module)
    for part in dotted.split("."):
        found = getattr(found, part)
    return found


@pytest.mark.parametrize(
    "module,name,wanted",
    [("ouroboros.dev", *one) for one in DEV.items()]
    + [("ouroboros.event", *one) for one in EVENT.items()]
    + [("ouroboros.cli", *one) for one in CLI.items()]
    + [("ouroboros.irm", *one) for one in IRM.items()]
    + [("ouroboros.irm", *one) for one in CLASSES.items()],
)
def test_signature(module: str, name: str, wanted: str) -> None:
    """The parameters of the binding come first, under their names and with their defaults; ours may follow."""
    function = find(module, name)
    assert callable(function)
    parameters = [one for one in inspect.signature(function).parameters.values() if one.name != "self"]
    for at, one in enumerate(wanted.split()):
        word, _, default = one.partition("=")
        have = parameters[at]
        assert have.name == word, f"{name}: parameter {at + 1} is {have.name}, not {word}"
        assert have.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
        if default:
            assert str(have.default) == default
    for extra in parameters[len(wanted.split()) :]:
        if name not in CLASSES:
            assert extra.default is not inspect.Parameter.empty, f"{name}: {extra.name} must have a default"


@pytest.mark.parametrize(
    "name",
    [
        "FlowAllocatedException",
        "FlowNotAllocatedException",
        "FlowDownException",
        "FlowPermissionException",
        "FlowException",
        "FlowDeallocWarning",
    ],
)
def test_exceptions_of_dev(name: str) -> None:
    kind = find("ouroboros.dev", name)
    assert isinstance(kind, type) and issubclass(kind, Exception)
    assert issubclass(kind, Warning if name.endswith("Warning") else OSError)


def test_errors_are_also_what_python_calls_them() -> None:
    from ouroboros import errors

    for kind, python in (
        (errors.FlowTimeout, TimeoutError),
        (errors.FlowEventTimeout, TimeoutError),
        (errors.FlowValueError, ValueError),
        (errors.FlowWouldBlock, BlockingIOError),
        (errors.FlowPermissionException, PermissionError),
    ):
        assert issubclass(kind, python) and issubclass(kind, OSError)
    assert isinstance(errors.error(12), MemoryError)
    assert isinstance(errors.error(110), TimeoutError)


def test_enumerations() -> None:
    from ouroboros.dev import FRCT_LINGER, FRCT_RESCNTL, FRCT_RETRANSMIT, FlowProperties
    from ouroboros.event import FEventType

    assert issubclass(FlowProperties, IntFlag)
    assert {one.name: int(one) for one in FlowProperties.__members__.values()} | {"ReadOnly": 0} == {
        "ReadOnly": 0,
        "WriteOnly": 1,
        "ReadWrite": 2,
        "Down": 4,
        "NonBlockingRead": 0o1000,
        "NonBlockingWrite": 0o2000,
        "NonBlocking": 0o3000,
        "NoPartialRead": 0o10000,
        "NoPartialWrite": 0o20000,
    }
    assert (FRCT_RETRANSMIT, FRCT_RESCNTL, FRCT_LINGER) == (1, 2, 4)
    assert {one.name: int(one) for one in FEventType} == {
        "FlowPkt": 1,
        "FlowDown": 2,
        "FlowUp": 4,
        "FlowAlloc": 8,
        "FlowDealloc": 16,
        "FlowPeer": 32,
    }


def test_the_module_of_events_has_that_of_flows() -> None:
    """Programs import all they need from there, by name or by star; the numbers of nanoseconds and of losses too."""
    from ouroboros import dev, event

    assert set(dev.__all__) <= set(event.__all__)
    for name in dev.__all__:
        assert getattr(event, name) is getattr(dev, name)
    assert (event.MILLION, event.BILLION) == (10**6, 10**9)


def test_the_paths_of_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """By position and by name; and as a whole NameInfo."""
    from ouroboros import cli, irm

    assert irm.NameSecPaths("e", "k", "c") == irm.NameSecPaths(enc="e", key="k", crt="c")
    made: list[irm.NameInfo] = []
    monkeypatch.setattr(irm, "create_name", lambda info, **_given: made.append(info))
    info = irm.NameInfo("name", irm.LoadBalancePolicy.SPILL, irm.NameSecPaths("e", "k", "c"))
    cli.create_name("name", info=info)
    cli.create_name("name", irm.LoadBalancePolicy.SPILL, irm.NameSecPaths("e", "k", "c"))
    assert made == [info, info]
    with pytest.raises(ValueError, match="info"):
        cli.create_name("other", info=info)


def test_qos() -> None:
    from ouroboros.qos import QoSSpec

    names = "delay bandwidth availability loss ber in_order max_gap timeout".split()
    assert list(inspect.signature(QoSSpec).parameters) == names
    raw = QoSSpec()
    assert (raw.delay, raw.bandwidth, raw.availability, raw.loss) == (2**32 - 1, 0, 0, 1)
    assert (raw.ber, raw.in_order, raw.max_gap, raw.timeout) == (1, 0, 2**32 - 1, 120000)
    assert raw == QoSSpec() and raw != QoSSpec(delay=1) and "delay" in repr(raw)


@pytest.mark.parametrize(
    "name",
    """IpcpType AddressAuthPolicy LinkStatePolicy RoutingPolicy CongestionAvoidPolicy DirectoryPolicy
    DirectoryHashAlgo LoadBalancePolicy""".split(),
)
def test_enumerations_of_irm(name: str) -> None:
    kind = find("ouroboros.irm", name)
    assert isinstance(kind, type) and issubclass(kind, Enum) and len(kind) > 0


@pytest.mark.parametrize(
    "name",
    """LinkStateConfig RoutingConfig DtConfig DhtConfig DirConfig UnicastConfig EthConfig Udp4Config Udp6Config
    IpcpConfig NameSecPaths NameInfo IpcpInfo IrmError IpcpCreateError IpcpBootstrapError IpcpEnrollError
    IpcpConnectError NameError BindError""".split(),
)
def test_classes_of_irm(name: str) -> None:
    kind = find("ouroboros.irm", name)
    assert isinstance(kind, type)
    if name.endswith("Error"):
        assert issubclass(kind, OSError)


@pytest.mark.parametrize(
    "name",
    """create_ipcp destroy_ipcp list_ipcps bootstrap_ipcp enroll_ipcp connect_ipcp disconnect_ipcp bind_program
    unbind_program bind_process unbind_process create_name destroy_name list_names reg_name unreg_name""".split(),
)
def test_functions_of_irm(name: str) -> None:
    assert callable(find("ouroboros.irm", name))


def test_constants_of_irm() -> None:
    from ouroboros import irm

    assert irm.DT_COMP == "Data Transfer" and irm.MGMT_COMP == "Management"
    assert irm.BIND_AUTO


def test_the_calls_of_the_paper_are_in_the_package() -> None:
    import ouroboros

    for (
        name
    ) in """flow_alloc flow_accept flow_join flow_read flow_write flow_dealloc fccntl Flow FlowSet FEventQueue
        FEventType QoSSpec QOS_RAW QOS_RAW_NO_ERRORS QOS_BEST_EFFORT QOS_VIDEO QOS_VOICE QOS_DATA""".split():
        assert name in ouroboros.__all__
        assert getattr(ouroboros, name) is not None
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = ouroboros.no_such_name


def test_everything_can_be_imported_without_a_daemon(tmp_path: Path) -> None:
    """Making objects needs none either; the first call that does names the sockets that were tried."""
    program = """
import ouroboros, ouroboros.dev, ouroboros.event, ouroboros.qos, ouroboros.irm, ouroboros.cli, ouroboros.aio
from ouroboros import *
flow, flows, queue = Flow(), FlowSet(), FEventQueue()
print(repr(flow), repr(flows), repr(queue), flow.fd)
flows.destroy()
try:
    flow_alloc("nobody")
except OSError as error:
    print(error.errno, error)
try:
    ouroboros.irm.list_ipcps()
except OSError as error:
    print(error.errno, error)
"""
    env = {**os.environ, "OUROBOROS_RUNDIR": str(tmp_path / "none")}
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], env=env, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0] == "<Flow not allocated> <FlowSet of 0> <FEventQueue of 0> -1"
    for line in lines[1:3]:
        assert line.startswith("1002 ") and str(tmp_path / "none") in line and "irmd" in line
    assert result.stderr == ""
