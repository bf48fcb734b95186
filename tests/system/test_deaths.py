"""A process that a signal killed makes its test fail, unless the test sent the signal; and the IRMd logs the ends of IPCPs."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.deaths import check_code, check_log, deaths
from tests.kernel_log import KernelLog, is_fault

from .conftest import MakeSystem, Program, System


def ipcp_pid(system: System) -> int:
    (ipcp,) = system.json("ipcp list")["ipcps"]
    return int(ipcp["pid"])


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL])
def test_ipcp_that_dies_of_a_signal_turns_the_test_red(clean_world: None, number: signal.Signals) -> None:
    system = System()
    system.local_layer()
    pid = ipcp_pid(system)
    os.kill(pid, number)
    system.irmd.expect(rf"\(EE\): IPCP local \(pid {pid}\) was killed by {number.name}")
    with pytest.raises(AssertionError, match=rf"IPCP local \(pid {pid}\) was killed by {number.name}"):
        system.stop()


def test_ipcp_that_the_test_kills_does_not(system: System) -> None:
    system.local_layer()
    pid = ipcp_pid(system)
    system.kill(pid)
    system.irmd.expect(rf"IPCP local \(pid {pid}\) was killed by SIGKILL")


def test_ipcp_that_was_killed_is_listed_until_it_is_created_again(system: System) -> None:
    system.local_layer()
    pid = ipcp_pid(system)
    system.kill(pid)
    for _ in range(2):  # in either order
        system.irmd.expect(rf"IPCP local \(pid {pid}\) (has ended|was killed by SIGKILL)")
    assert f"local: the IPCP with pid {pid} was killed by SIGKILL" in system.irm("ipcp list").stdout
    assert system.json("ipcp list") == {
        "ipcps": [],
        "ended": [{"name": "local", "pid": pid, "how": "was killed by SIGKILL"}],
    }
    system.irm("ipcp create name other type local")
    assert system.json("ipcp list")["ended"]
    system.irm("ipcp create name local type local")
    assert not system.json("ipcp list")["ended"]


def test_ipcp_that_dies_at_the_end_of_its_system_turns_the_test_red(clean_world: None) -> None:
    """The IRMd gets the exit status of its IPCPs also while it stops."""
    system = System()
    system.local_layer()
    pid = ipcp_pid(system)
    os.kill(pid, signal.SIGSTOP)
    system.irmd.signal(signal.SIGTERM)
    system.irmd.expect("IRMd shutting down")
    os.kill(pid, signal.SIGKILL)
    assert system.irmd.wait() == 0
    with pytest.raises(AssertionError, match=rf"IPCP local \(pid {pid}\) was killed by SIGKILL"):
        system.stop()


def test_ipcp_that_does_not_end_turns_the_test_red(clean_world: None, tmp_path: Path) -> None:
    """The IRMd kills it after the time of grace, and logs it."""
    config = tmp_path / "irmd.conf"
    config.write_text("[irmd]\ngrace = 0.2\n")
    system = System("--config", str(config))
    system.local_layer()
    pid = ipcp_pid(system)
    os.kill(pid, signal.SIGSTOP)
    with pytest.raises(AssertionError, match=rf"IPCP local \(pid {pid}\) was killed by SIGKILL"):
        system.stop()
    assert f"IPCP local (pid {pid}) still runs 0.2 s after SIGTERM, killing it" in system.irmd.output


def test_parent_of_ipcps_that_dies_is_named(make_system: MakeSystem) -> None:
    """Another one takes its place; IPCPs that the dead one had forked live on."""
    system = make_system()
    system.local_layer()
    children = Path(f"/proc/{system.irmd.pid}/task/{system.irmd.pid}/children").read_text().split()
    (parent,) = map(int, children)
    system.kill(parent)
    system.irmd.expect(rf"the parent process of IPCPs \(pid {parent}\) was killed by SIGKILL")
    assert ipcp_pid(system) not in system.killed


@pytest.mark.parametrize("end", ["os.abort()", "os.kill(os.getpid(), 11)", "os.kill(os.getpid(), 9)"])
def test_program_that_dies_of_a_signal_turns_the_test_red(clean_world: None, end: str) -> None:
    system = System()
    system.python(f"import os; {end}").wait()
    with pytest.raises(AssertionError, match="which the test did not send"):
        system.stop()


def test_child_of_a_program_that_faults_turns_the_test_red(clean_world: None) -> None:
    system = System()
    source = "import os, ctypes; os.fork() or ctypes.string_at(0); os.wait()"
    assert system.python(source).wait() == 0
    with pytest.raises(AssertionError, match="Fatal Python error: Segmentation fault"):
        system.stop()


def test_tool_that_dies_of_a_signal_turns_the_test_red() -> None:
    with pytest.raises(AssertionError, match="oping was killed by SIGSEGV, which the test did not send"):
        check_code(-signal.SIGSEGV, "oping", (), "")
    check_code(-signal.SIGSEGV, "oping", {signal.SIGSEGV}, "")
    check_code(1, "oping", (), "")


def test_program_may_die_of_what_the_test_sends(system: System) -> None:
    with Program(["sleep", "1000"], env=os.environ) as program:
        assert program.stop() == -signal.SIGTERM


def test_lines_that_tell_of_deaths() -> None:
    log = (
        "==1== irmd/spawn(EE): IPCP a (pid 7) was killed by SIGSEGV\n"
        "==1== irmd/spawn(EE): IPCP b (pid 8) was killed by signal 40\n"
        "==1== irmd/start(II): /bin/server (pid 9) was killed by SIGTERM\n"
        "==1== irmd/ipcp(EE): IPCP c (pid 10) has ended\n"
    )
    assert [line[22:28] for line in deaths(log)] == ["IPCP a", "IPCP b"]
    assert deaths(log, killed={7, 8}) == []
    for line in ("==3==ERROR: AddressSanitizer: heap-use-after-free", "ring.c:3:4: runtime error: shift"):
        with pytest.raises(AssertionError, match="died of a signal in x"):
            check_log(line, "in x")


@pytest.mark.parametrize(
    ("line", "ours"),
    [
        ("ipcpd-local[41]: segfault at 18 ip 00007f sp 00007f error 4 in _ipcp.abi3.so[1f,7f+1]", True),
        ("python3[41]: segfault at 0 ip 0000 sp 0000 error 4 in libc.so.6[1,2+3] likely on CPU 1", True),
        ("thread[41]: segfault at 0 ip 0000 sp 0000 error 4 in _dataplane.abi3.so[1,2+3]", True),
        ("traps: irmd[41] general protection fault ip:1 sp:2 error:0 in libpython3.13.so[1+2]", True),
        ("traps: oping[41] trap invalid opcode ip:1 sp:2 error:0 in python3.13[1+2]", True),
        ("Out of memory: Killed process 41 (ipcpd-unicast) total-vm:1kB, anon-rss:1kB", True),
        ("firefox[41]: segfault at 0 ip 0000 sp 0000 error 4 in libxul.so[1,2+3]", False),
        ("Memory cgroup out of memory: Killed process 41 (java) total-vm:1kB", False),
        ("veth0: renamed from python3", False),
    ],
)
def test_lines_of_the_kernel_that_tell_of_faults(line: str, ours: bool) -> None:
    assert is_fault(line) is ours


def test_kernel_log_is_shared_between_runs(tmp_path: Path) -> None:
    """Two runs on one machine cannot tell their faults apart, so each notices the other."""
    path = tmp_path / "kmsg"
    path.write_text("4,1,2,-;irmd[1]: segfault at 0\n")
    one = KernelLog(str(path))
    assert one.alone and one.faults() == []
    path.write_text(path.read_text() + "4,2,3,-;irmd[2]: segfault at 0\n")
    assert one.faults() == ["irmd[2]: segfault at 0"]
    other = KernelLog(str(path))
    assert not other.alone
    assert one.faults() == [] and not one.alone
    one.close()
    other.close()
