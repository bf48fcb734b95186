"""ouroboros.irm and ouroboros.cli against a fake IRMd: the requests, their order, and their reversal."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from ouroboros import cli, irm
from ouroboros.errors import (
    EIPCP,
    EIPCPTYPE,
    EIRMD,
    BindError,
    IpcpBootstrapError,
    IpcpConnectError,
    IpcpCreateError,
    IpcpEnrollError,
    IrmdError,
    IrmError,
    IrmNameError,
)
from ouroboros.irm import IpcpConfig, IpcpType, LoadBalancePolicy, NameInfo
from ouroboros.qos import QOS_DATA, QOS_RAW, QoSSpec
from tests.unit.irm.fake_irmd import PERMISSION, FakeIrmd, a_flow, a_pool


def names_of(irmd: FakeIrmd) -> set[str]:
    return {info.name for info in irmd.ipcps.values()}


def test_everything_of_the_binding_is_there() -> None:
    for module in (irm, cli):
        for name in module.__all__:
            assert getattr(module, name) is not None
    for name in (
        "IpcpType AddressAuthPolicy LinkStatePolicy RoutingPolicy CongestionAvoidPolicy DirectoryPolicy "
        "DirectoryHashAlgo LoadBalancePolicy LinkStateConfig RoutingConfig DtConfig DhtConfig DirConfig "
        "UnicastConfig EthConfig Udp4Config Udp6Config IpcpConfig NameSecPaths NameInfo IpcpInfo IrmError "
        "IpcpCreateError IpcpBootstrapError IpcpEnrollError IpcpConnectError NameError BindError BIND_AUTO "
        "DT_COMP MGMT_COMP"
    ).split():
        assert hasattr(irm, name), name
    with pytest.raises(AttributeError):
        getattr(irm, "nonsense")  # noqa: B009


# ---------------------------------------------------------------- the connection


def test_no_irmd(rundir: str) -> None:
    with pytest.raises(IrmdError, match=f"no IRMd answers on {rundir}/irm.sock") as caught:
        irm.list_ipcps()
    assert caught.value.errno == EIRMD


def test_a_new_irmd_is_found(rundir: str) -> None:
    with FakeIrmd(rundir) as first:
        first.add_ipcp("a")
        assert [ipcp.name for ipcp in irm.list_ipcps()] == ["a"]
    with pytest.raises(IrmdError):
        irm.list_ipcps()
    with FakeIrmd(rundir) as second:
        second.add_ipcp("b")
        assert [ipcp.name for ipcp in irm.list_ipcps()] == ["b"]


def test_a_child_has_a_connection_of_its_own(irmd: FakeIrmd) -> None:
    irm.list_ipcps()
    child = os.fork()
    if child == 0:
        try:
            os._exit(len(irm.list_ipcps()) + 40)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 40
    assert irm.list_ipcps() == []


def test_refusals_keep_class_errno_and_text(irmd: FakeIrmd) -> None:
    irmd.refuse = dict.fromkeys(("ipcp_create", "ipcp_list", "bind_process", "name_create"), PERMISSION)
    for call, cls in (
        (lambda: irm.create_ipcp("x", IpcpType.LOCAL), IpcpCreateError),
        (irm.list_ipcps, IrmError),
        (lambda: irm.bind_process(1, "x"), BindError),
        (lambda: irm.create_name(NameInfo("x")), IrmNameError),
    ):
        with pytest.raises(cls, match="management needs root") as caught:
            call()
        assert caught.value.errno == errno.EPERM


# ---------------------------------------------------------------- IPCPs


def test_create_returns_the_pid_and_lists_are_read_to_the_end(irmd: FakeIrmd) -> None:
    pids = [irm.create_ipcp(f"i{number}", IpcpType.LOCAL) for number in range(8)]
    assert pids == list(irmd.ipcps)
    assert [ipcp.pid for ipcp in irm.list_ipcps()] == pids


def test_filters(irmd: FakeIrmd) -> None:
    irmd.add_ipcp("uni1", "UNICAST", "net")
    irmd.add_ipcp("uni2", "UNICAST")
    irmd.add_ipcp("loc[1]", "LOCAL", "local")
    for filters, wanted in (
        ({}, ["uni1", "uni2", "loc[1]"]),
        ({"name": "uni*"}, ["uni1", "uni2"]),
        ({"name": "loc[1]"}, ["loc[1]"]),
        ({"name": "loc.1.*"}, []),
        ({"layer": "*"}, ["uni1", "loc[1]"]),
        ({"layer": "net", "ipcp_type": IpcpType.UNICAST}, ["uni1"]),
        ({"ipcp_type": IpcpType.BROADCAST}, []),
    ):
        assert [ipcp.name for ipcp in cli.list_ipcps(**filters)] == wanted


def test_destroy(irmd: FakeIrmd) -> None:
    irmd.add_ipcp("a")
    irmd.add_ipcp("a")
    irmd.add_ipcp("b")
    cli.destroy_ipcp("a")
    assert names_of(irmd) == {"b"}
    with pytest.raises(IpcpCreateError, match="No IPCPs matching a found"):
        cli.destroy_ipcp("a")


def test_bootstrap_of_several(irmd: FakeIrmd) -> None:
    irmd.add_ipcp("a1")
    irmd.add_ipcp("a2")
    irmd.add_ipcp("b")
    cli.bootstrap_ipcp("a*", IpcpConfig(IpcpType.LOCAL, "net"))
    assert [info.layer for info in irmd.ipcps.values()] == ["net", "net", ""]
    config = irmd.requests[0].ipcp_bootstrap.config
    assert (config.layer, dict(config.options)) == ("net", {"hash": "SHA3_256"})


def test_bootstrap_without_an_ipcp(irmd: FakeIrmd) -> None:
    config = IpcpConfig(IpcpType.LOCAL, "net")
    with pytest.raises(IpcpBootstrapError, match="No IPCPs matching a found"):
        cli.bootstrap_ipcp("a", config)
    with pytest.raises(IpcpBootstrapError, match=r"No IPCPs matching a\* found"):
        cli.bootstrap_ipcp("a*", config, create=IpcpType.LOCAL)
    cli.bootstrap_ipcp("a", config, create=IpcpType.LOCAL)
    assert names_of(irmd) == {"a"}


def test_bootstrap_of_another_type(irmd: FakeIrmd) -> None:
    irmd.add_ipcp("a", "UNICAST")
    for create in (None, IpcpType.LOCAL):
        with pytest.raises(IpcpBootstrapError, match="Types do not match") as caught:
            cli.bootstrap_ipcp("a", IpcpConfig(IpcpType.LOCAL, "net"), create=create)
        assert caught.value.errno == EIPCPTYPE
    assert irmd.requests == []


def test_a_failed_bootstrap_leaves_nothing(irmd: FakeIrmd) -> None:
    irmd.refuse["ipcp_bootstrap"] = (EIPCP, "no such device")
    with pytest.raises(IpcpBootstrapError, match="no such device"):
        cli.bootstrap_ipcp("u", IpcpConfig(IpcpType.UNICAST, "net"), True, create=IpcpType.UNICAST)
    assert not irmd.ipcps
    assert not irmd.names
    assert irmd.asked()[:4] == ["ipcp_create", "bind_process", "bind_process", "ipcp_bootstrap"]


def test_a_failed_bootstrap_leaves_what_was_there(irmd: FakeIrmd) -> None:
    pid = irmd.add_ipcp("u", "UNICAST")
    irm.bind_process(pid, "u")
    irmd.refuse["ipcp_bootstrap"] = (EIPCP, "no")
    with pytest.raises(IpcpBootstrapError):
        cli.bootstrap_ipcp("u", IpcpConfig(IpcpType.UNICAST, "net"), True, create=IpcpType.UNICAST)
    assert names_of(irmd) == {"u"}
    assert {name: len(info.processes) for name, info in irmd.names.items()} == {"u": 1}


def test_autoboot(irmd: FakeIrmd) -> None:
    cli.autoboot("u", IpcpType.UNICAST, "net")
    assert set(irmd.names) == {"u", "net"}
    assert irmd.requests[-1].ipcp_bootstrap.config.options["routing"] == "link_state"
    cli.autoboot("l", IpcpType.LOCAL, "loc")
    assert set(irmd.names) == {"u", "net"}


def test_enroll(irmd: FakeIrmd) -> None:
    info = cli.enroll_ipcp("u", None, True, layer="learned", create=True)
    assert (info.name, info.layer, info.type) == ("u", "learned", IpcpType.UNICAST)
    assert irmd.requests[1].ipcp_enroll.dst == "learned"
    assert irmd.asked() == ["ipcp_create", "ipcp_enroll", "bind_process", "bind_process"]
    assert set(irmd.names) == {"u", "learned"}


def test_failed_enrolments_leave_nothing(irmd: FakeIrmd) -> None:
    with pytest.raises(IpcpEnrollError, match="does not match requested layer"):
        cli.enroll_ipcp("u", "dst", layer="other", create=True)
    assert not irmd.ipcps
    irmd.refuse["bind_process"] = PERMISSION
    with pytest.raises(BindError):
        cli.enroll_ipcp("u", "dst", True, create=True)
    assert not irmd.ipcps
    irmd.refuse["ipcp_enroll"] = (EIPCP, "nobody there")
    with pytest.raises(IpcpEnrollError, match="Failed to enroll IPCP u with dst: nobody there"):
        cli.enroll_ipcp("u", "dst", create=True)
    assert not irmd.ipcps
    with pytest.raises(IpcpEnrollError, match="No IPCPs matching u found"):
        cli.enroll_ipcp("u", "dst")
    with pytest.raises(IpcpEnrollError, match="destination or a layer"):
        cli.enroll_ipcp("u", create=True)


def test_enroll_retries_on_the_ipcp_that_is_there(irmd: FakeIrmd) -> None:
    pid = irmd.add_ipcp("u", "UNICAST")
    irmd.add_ipcp("u", "LOCAL")
    assert cli.enroll_ipcp("u", "dst", create=True).pid == pid
    assert irmd.asked() == ["ipcp_enroll"]


def test_connect_what_the_type_has(irmd: FakeIrmd) -> None:
    irmd.add_ipcp("u", "UNICAST", "net")
    irmd.add_ipcp("b", "BROADCAST", "bc")
    irmd.add_ipcp("l", "LOCAL", "loc")
    cli.connect_ipcp("u", "peer", qos=QOS_DATA)
    cli.connect_ipcp("b", "peer")
    cli.disconnect_ipcp("u", "peer")
    asked = [
        (request.WhichOneof("body"), getattr(request, str(request.WhichOneof("body"))).component)
        for request in irmd.requests
    ]
    assert asked == [
        ("ipcp_connect", irm.MGMT_COMP),
        ("ipcp_connect", irm.DT_COMP),
        ("ipcp_connect", irm.DT_COMP),
        ("ipcp_disconnect", irm.DT_COMP),
        ("ipcp_disconnect", irm.MGMT_COMP),
    ]
    qos = [QoSSpec.from_proto(request.ipcp_connect.qos) for request in irmd.requests[:3]]
    assert qos == [QOS_RAW, QOS_DATA, QOS_RAW]
    for name, component in (("l", "*"), ("b", "mgmt"), ("u", "x"), ("nobody", "*")):
        with pytest.raises(IpcpConnectError):
            cli.connect_ipcp(name, "peer", component)
    assert len(irmd.requests) == 5


def test_half_a_connection_is_undone(irmd: FakeIrmd) -> None:
    irmd.add_ipcp("u", "UNICAST", "net")
    irmd.refuse[irm.DT_COMP] = (EIPCP, "no data transfer")
    with pytest.raises(IpcpConnectError, match="no data transfer"):
        cli.connect_ipcp("u", "peer")
    assert irmd.asked() == ["ipcp_connect", "ipcp_connect", "ipcp_disconnect"]
    with pytest.raises(IpcpConnectError, match="no data transfer"):
        cli.disconnect_ipcp("u", "peer")
    assert irmd.requests[-1].ipcp_disconnect.component == irm.MGMT_COMP


def test_component_and_destination_in_either_order(irmd: FakeIrmd) -> None:
    pid = irmd.add_ipcp("u", "UNICAST", "net")
    irm.connect_ipcp(pid, irm.DT_COMP, "peer")
    irm.connect_ipcp(pid, "peer", irm.DT_COMP)
    for request in irmd.requests:
        assert (request.ipcp_connect.component, request.ipcp_connect.dst) == (irm.DT_COMP, "peer")


# ---------------------------------------------------------------- bindings


def executable(path: Path, mode: int = 0o755) -> Path:
    path.write_text("#!/bin/sh\n")
    path.chmod(mode)
    return path


def test_find_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = executable(tmp_path / "server")
    (tmp_path / "link").symlink_to(program)
    executable(tmp_path / "data", 0o644)
    (tmp_path / "folder").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.chdir("/")
    for word in ("server", "link", str(program), str(tmp_path / "link")):
        assert cli.find_program(word) == os.path.realpath(program)
    monkeypatch.chdir(tmp_path)
    assert cli.find_program("./link") == os.path.realpath(program)
    for word, text in (
        ("nothing", "nothing does not exist."),
        (str(tmp_path / "x"), "does not exist."),
        ("data", "Cannot execute data, please check permissions."),
        ("folder", "folder does not exist."),
        ("nul\0", "does not exist"),
    ):
        with pytest.raises(BindError, match=text):
            cli.find_program(word)
    assert os.environ["PATH"] == str(tmp_path)
    assert stat.S_IMODE(program.stat().st_mode) == 0o755


def test_bind_and_unbind_program(irmd: FakeIrmd, tmp_path: Path) -> None:
    program = executable(tmp_path / "server")
    cli.bind_program(str(program), "srv", irm.BIND_AUTO, ["-l", "x y"])
    body = irmd.requests[0].bind_program
    assert (body.path, body.name, body.auto, list(body.args)) == (
        os.path.realpath(program),
        "srv",
        True,
        ["-l", "x y"],
    )
    cli.unbind_program(str(program))
    assert irmd.requests[1].unbind_program.name == ""
    program.unlink()
    cli.unbind_program(str(program), "srv")
    assert irmd.requests[2].unbind_program.path == os.path.realpath(program)
    with pytest.raises(BindError, match="does not exist"):
        cli.unbind_program("no-such-program")


def test_bind_process_and_ipcp(irmd: FakeIrmd) -> None:
    cli.bind_process(os.getpid(), "me")
    cli.unbind_process(os.getpid())
    with pytest.raises(ValueError, match="pid takes"):
        cli.bind_process(-1, "me")
    for pid in (0, 1 << 30):
        with pytest.raises(BindError, match=f'"{pid}" is not a valid process id'):
            cli.bind_process(pid, "x")
    first, second = irmd.add_ipcp("a1"), irmd.add_ipcp("a2")
    cli.bind_ipcp("a*", "both")
    assert [process.pid for process in irmd.names["both"].processes] == [first, second]
    cli.unbind_ipcp("a1", "both")
    assert [process.pid for process in irmd.names["both"].processes] == [second]
    for action in (cli.bind_ipcp, cli.unbind_ipcp):
        with pytest.raises(BindError, match="No IPCPs matching b found"):
            action("b", "both")


# ---------------------------------------------------------------- names


def test_names(irmd: FakeIrmd) -> None:
    for number in range(7):
        cli.create_name(f"n{number}")
    cli.create_name("s", LoadBalancePolicy.SPILLOVER)
    assert [info.name for info in cli.list_names("n[12]")] == ["n1", "n2"]
    assert len(cli.list_names()) == 8
    assert cli.show_name("s").pol_lb is LoadBalancePolicy.SPILLOVER
    assert cli.show_name("n1").pol_lb is LoadBalancePolicy.ROUND_ROBIN
    cli.destroy_name("s")
    for action in (cli.destroy_name, cli.show_name):
        with pytest.raises(irm.NameError):
            action("s")


def test_register(irmd: FakeIrmd) -> None:
    one, two = irmd.add_ipcp("one", layer="net"), irmd.add_ipcp("two", layer="net")
    three = irmd.add_ipcp("three", layer="other")
    irmd.add_ipcp("loose")
    cli.reg_name("srv", layer="net", ipcps=["thr*", "one"])
    assert sorted(reg.pid for reg in irmd.names["srv"].registrations) == [one, two, three]
    assert int(irmd.names["srv"].lb) == LoadBalancePolicy.SPILLOVER
    assert cli.show_name("srv").registrations[0].hash == "abcd"
    cli.unreg_name("srv", ipcp="t*")
    assert [reg.pid for reg in irmd.names["srv"].registrations] == [one]
    cli.unreg_name("srv", layers=["*"])
    with pytest.raises(IrmNameError, match="srv is not registered with one, two"):
        cli.unreg_name("srv", layer="net")


def test_register_that_fails_leaves_nothing(irmd: FakeIrmd) -> None:
    irmd.add_ipcp("one", layer="net")
    irmd.add_ipcp("two", layer="net")
    irmd.refuse["two"] = (EIPCP, "it is ill")
    with pytest.raises(IrmNameError, match="Failed to register srv with two: it is ill"):
        cli.reg_name("srv", layer="net")
    assert not irmd.names
    irmd.add_name("srv")
    with pytest.raises(IrmNameError):
        cli.reg_name("srv", layer="net")
    assert list(irmd.names) == ["srv"]
    assert not irmd.names["srv"].registrations


def test_register_nowhere(irmd: FakeIrmd) -> None:
    irmd.add_ipcp("one", layer="net")
    for arguments, text in (
        ({}, "give a layer or an IPCP"),
        ({"layer": "nowhere"}, "No IPCPs in a layer matching nowhere found"),
        ({"layer": "net", "ipcp": "two"}, "No IPCPs matching two found"),
        ({"layers": ["net"] * 129}, "Too many layers"),
        ({"ipcps": ["one"] * 129}, "Too many IPCPs"),
    ):
        with pytest.raises(IrmNameError, match=text):
            cli.reg_name("srv", **arguments)
    assert not irmd.requests


# ---------------------------------------------------------------- read-outs


def test_flows_and_pools(irmd: FakeIrmd) -> None:
    irmd.flows = [a_flow(number) for number in range(10)]
    irmd.pools = [a_pool()] * 4
    flows = irm.list_flows()
    assert [flow.flow_id for flow in flows] == list(range(10))
    assert flows[0].ends[0] == (11, 64, "/bin/a", 3, 7, 2, 1)
    assert flows[0].qos == QOS_DATA
    pools = irm.list_pools()
    assert len(pools) == 4
    assert (pools[0].failures, pools[0].classes[0].free, pools[0].classes[0].holders[1].flow_id) == (2, 95, 5)
