"""What the package offers: its names, its modules, its page, and the protocol of flows."""

from __future__ import annotations

import errno
import subprocess
import sys

import pytest

import ouroboros
from ouroboros import dev
from ouroboros.errors import ENAME, FlowException, about, error
from ouroboros.flow import Flow, Peer, allocation
from ouroboros.protocols import AnyFlow
from ouroboros.testing import FakeClock, flow_pair


def test_dir_lists_what_there_is() -> None:
    names = dir(ouroboros)
    assert {"flow_alloc", "irm", "aio", "dev", "QOS_DATA"} <= set(names)
    assert all(getattr(ouroboros, name) is not None for name in names)


def test_a_module_is_an_attribute_of_the_package() -> None:
    code = "import ouroboros; print(ouroboros.irm.list_ipcps.__name__, ouroboros.testing.FakeClock.__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "list_ipcps FakeClock\n"
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        ouroboros.nothing  # noqa: B018


def talk(flow: AnyFlow) -> bytes:
    flow.write(b"hello")
    return flow.read()


def test_both_kinds_of_flow_are_flows() -> None:
    clock = FakeClock()
    one, other = flow_pair(clock)
    other.on_packet = other.write
    assert isinstance(one, AnyFlow) and talk(one) == b"hello"
    one.close()
    one.close()
    fields = set(dir(AnyFlow)) - set(dir(object))
    assert {name for name in fields if not name.startswith("_")} <= set(dir(Flow))


def test_a_flow_that_is_not_allocated_can_be_closed() -> None:
    Flow().close()


def test_errors_tell_programs_what_they_are_about() -> None:
    failure = error(ENAME, "no layer knows the name")
    about(failure, "printer", "")
    assert (failure.name, failure.layer, failure.reason) == ("printer", None, "no layer knows the name")
    about(failure, "other", "lan")
    assert (failure.name, failure.layer) == ("printer", "lan")
    about(KeyError(), "x")
    assert FlowException().name is None


@pytest.mark.parametrize(
    ("words", "number"),
    [("encryption", 1), (["authentication"], 2), (("encryption", "authentication"), 3), ((), 0)],
)
def test_requirements_of_a_request(words: str | list[str], number: int) -> None:
    assert allocation("x", None, None, words).require == number


@pytest.mark.parametrize("wrong", ["luck", ["encryption", "luck"], 3, [3], b"encryption"])
def test_requirements_that_cannot_be(wrong: object) -> None:
    with pytest.raises((TypeError, ValueError), match="require"):
        dev.flow_alloc("x", require=wrong)  # type: ignore[arg-type]


def test_a_peer_without_a_certificate() -> None:
    peer = Peer(None, None, "aes-256-gcm")
    assert peer.encrypted and not peer.authenticated
    assert not Peer("a", b"der", None).encrypted


def test_the_page_without_a_system(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("r")
    done = subprocess.run(
        [sys.executable, "-m", "ouroboros"],
        env={"OUROBOROS_RUNDIR": str(folder), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1 and not done.stderr
    assert f"Ouroboros {ouroboros.__version__}" in done.stdout and "irm start" in done.stdout


def test_errno_of_a_name() -> None:
    assert error(errno.EINVAL).reason
