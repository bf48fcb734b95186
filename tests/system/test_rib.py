"""The statistics tree through a real mount: what it shows, and that it goes with the system, however that ends."""

from __future__ import annotations

import os
import select
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ouroboros import rib

from .conftest import MakeSystem, System


def _without_fuse() -> str:
    try:
        import mfusepy  # noqa: F401
    except Exception as error:
        return f"no mfusepy: {error}"
    return "" if os.access("/dev/fuse", os.R_OK | os.W_OK) and os.geteuid() == 0 else "no FUSE for this user"


pytestmark = pytest.mark.skipif(bool(_without_fuse()), reason=_without_fuse())


@pytest.fixture
def system(make_system: MakeSystem) -> Iterator[System]:
    found = make_system()
    found.irm("ipcp bootstrap type local name loc.0 layer office")
    found.irm("ipcp bootstrap type unicast name uni1 layer net autobind")
    yield found


def tree_of(system: System) -> Path:
    return system.rundir / "rib"


@contextmanager
def mounted(system: System) -> Iterator[tuple[Path, int]]:
    """The tree of a system, and the process that serves it; it has ended afterwards."""
    path = tree_of(system)
    system.irm("rib mount")
    (server,) = processes(path)
    yield path, server
    system.irm("rib unmount", check=False)
    ended(server)


def processes(path: Path) -> list[int]:
    """The processes that serve a tree at this path."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"ouroboros_tools.observe.mount" in words and os.fsencode(path) in words:
                found.append(int(entry.name))
    return found


def ended(pid: int) -> None:
    """Wait until a process has ended."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    assert poll.poll(60_000)
    os.close(fd)


def test_the_tree_shows_the_system_and_ends_with_it(system: System) -> None:
    with mounted(system) as (path, server):
        assert (path / "uni1/info/_state").read_text() == "operational\n"
        assert (path / "uni1/info/_layer").read_text() == "net\n"
        (status,) = system.json("ipcp status name uni1")["status"]
        assert status["dht_id"][:16] in (path / "uni1/dht/stats").read_text()
        names = sorted(os.listdir(path / "uni1" / f"dt.{status['address']}"))
        assert names == ["0", "1", "cube.0", "cube.1", "cube.2"]
        assert sorted(os.listdir(path / "uni1")) == sorted(
            line.rstrip("/") for line in system.irm("rib ls uni1").stdout.splitlines()
        )
        shown = system.run("irm", "rib", "cat", "uni1/counters/link state").stdout
        assert shown == (path / "uni1/counters/link state").read_text()
        with pytest.raises(OSError):
            (path / "uni1/info/_state").write_text("null")
        again = system.irm("rib mount", check=False)
        assert again.returncode == 1 and "unmount" in again.stderr
        with open(path / "uni1/info/_state"):
            assert system.irmd.stop() == 0
            ended(server)
    assert not system.rundir.exists()


def test_it_is_unmounted_when_the_irmd_is_killed(system: System) -> None:
    with mounted(system) as (path, server):
        system.irmd.kill()
        ended(server)
        assert not rib.mounted(str(path)) and not path.exists()
    system.start()


def test_a_tree_whose_process_was_killed_is_replaced(system: System) -> None:
    with mounted(system) as (path, server):
        system.kill(server)
        ended(server)
        with pytest.raises(OSError):
            os.listdir(path)
        with mounted(system) as (path, server):
            assert "uni1" in os.listdir(path)
        assert not path.exists()
    assert system.irm("rib unmount", check=False).returncode == 1


def test_an_ipcp_that_ends_leaves_the_tree(system: System) -> None:
    with mounted(system) as (path, _):
        system.irm("ipcp destroy name uni1")
        while "uni1" in os.listdir(path):
            pass
        assert "loc.0" in os.listdir(path)


def test_a_place_that_is_taken(system: System, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")
    refused = system.run("irm", "rib", "mount", str(tmp_path), check=False)
    assert refused.returncode == 1 and "files" in refused.stderr
    link = tmp_path / "link"
    link.symlink_to("/etc")
    assert system.run("irm", "rib", "mount", str(link), check=False).returncode == 1
    assert not os.path.ismount("/etc") and (tmp_path / "file").read_text() == "precious"


def test_many_readers_of_a_tree(system: System) -> None:
    with mounted(system) as (path, _):
        script = f"for i in 1 2 3 4 5; do find {path} -type f -exec cat {{}} + >/dev/null || exit 1; done"
        readers = [subprocess.Popen(["sh", "-c", script]) for _ in range(4)]
        assert [reader.wait() for reader in readers] == [0] * 4
