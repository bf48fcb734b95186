"""irm pool: the packet pools of the system, and the processes that hold their blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..text import coloured, print_json, table
from .words import Arguments, Command, Group

if TYPE_CHECKING:
    from ouroboros.readout import PoolHolder, PoolInfo

_CLASSES = (("pool", 20), ("uid", 7), ("size", 7), ("free", 9), ("total", 9))
_HOLDERS = (("pool", 20), ("size", 7), ("blocks", 9), ("pid", 7), ("held by", 30))


def _show(arguments: Arguments) -> int:
    from ouroboros import irm

    pools = irm.list_pools()
    if arguments.json:
        print_json({"pools": [_record(pool) for pool in pools]})
        return 0
    if not pools:
        print("No pools in system.", end="\n\n")
        return 0
    print(table(_CLASSES, [(p.name, p.uid, c.size, c.free, c.total) for p in pools for c in p.classes]))
    held = [
        (pool.name, size.size, holder.blocks, holder.pid or "-", _holder(holder))
        for pool in pools
        for size in pool.classes
        for holder in size.holders
    ]
    if held:
        print(table(_HOLDERS, held))
    for pool in pools:
        print(f"Pool {pool.name} takes {pool.taken >> 10} KiB of its {pool.octets >> 10} KiB.")
        if pool.failures:
            print(coloured(f"Pool {pool.name} was exhausted {pool.failures} times.", "red"))
    print()
    return 0


def _holder(holder: PoolHolder) -> str:
    if holder.program:
        return holder.program
    return f"flow {holder.flow_id}" if holder.flow_id else "on its way"


def _record(pool: PoolInfo) -> dict[str, Any]:
    return {
        "name": pool.name,
        "uid": pool.uid,
        "octets": pool.octets,
        "taken": pool.taken,
        "failures": pool.failures,
        "classes": [
            {
                "size": size.size,
                "total": size.total,
                "free": size.free,
                "holders": [holder._asdict() for holder in size.holders],
            }
            for size in pool.classes
        ],
    }


GROUP = Group(
    "pool",
    "the packet pools of the system",
    (
        Command(
            "show",
            "show blocks free and in all, per size, and the processes that hold the others",
            _show,
            json=True,
        ),
    ),
)
