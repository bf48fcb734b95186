"""IPCPs that failed stay in the lists, until one with their name is created."""

from __future__ import annotations

from types import SimpleNamespace

from irmd.descriptors import Late
from irmd.ipcp_table import MAX_ENDED, IpcpTable
from irmd.registry import Registry


def ipcp(name: str, pid: int) -> SimpleNamespace:
    return SimpleNamespace(name=name, pid=pid)


def test_the_list_of_failed_ipcps_is_bounded() -> None:
    table = IpcpTable(Registry(), Late())
    for pid in range(MAX_ENDED + 1):
        table.failed(f"a{pid}", pid, "exited with status 1")
    assert list(table.ended) == [f"a{pid}" for pid in range(1, MAX_ENDED + 1)]


def test_a_new_ipcp_of_the_name_takes_the_place_whichever_is_reported_first() -> None:
    table = IpcpTable(Registry(), Late())
    table.add(ipcp("a", 7))  # type: ignore[arg-type]
    table.failed("a", 7, "was killed by SIGSEGV")  # before its pidfd is seen
    assert dict(table.ended) == {"a": (7, "was killed by SIGSEGV")}
    table.add(ipcp("a", 8))  # type: ignore[arg-type]
    assert not table.ended
    table.failed("a", 6, "was killed by SIGSEGV")  # an earlier one
    assert not table.ended
