"""The statistics tree: the facts of a system as folders and files (paper 5.3, Listing 9; docs/howto/observe.md).

    IPCP/info/_state _type _layer         every IPCP
         counters/COMPONENT[ OBJECT]      every counter
         lsdb/FROM--TO, .dt A, .mgmt A    unicast: the link-state database, and the neighbours
         dht/stats, database              unicast: the directory
         dt.ADDRESS/N, cube.N             unicast: components and flows to neighbours, and QoS cubes
         flow-allocator/FD                unicast: the flows of the layer
    proc.PID/FD/flow                      every flow end of a process
    irmd/counters/COMPONENT, pools/NAME   the IRMd

`irm rib` and the file system (`mount.py`) show the same tree. A folder asks for its entries, and a file for its text, when it is read.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from ouroboros.facts import Row

from . import listing
from .reader import Reader

if TYPE_CHECKING:
    from ouroboros.readout import IpcpInfo


class File(NamedTuple):
    """A text, made when it is read. Raises OSError."""

    text: Callable[[], str]


class Folder(NamedTuple):
    """Entries by name, found when it is read. Raises OSError."""

    entries: Callable[[], Mapping[str, Node]]


Node: TypeAlias = File | Folder


def root(reader: Reader) -> Folder:
    """The tree of a system."""
    return Folder(lambda: dict(_systems(reader)))


def find(node: Node, path: str) -> Node:
    """The node at a path below a folder. Raises FileNotFoundError, NotADirectoryError, IrmError."""
    for word in path.split("/"):
        if word in ("", "."):
            continue
        if isinstance(node, File):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
        entries = node.entries()
        if word not in entries:
            raise FileNotFoundError(
                errno.ENOENT, f'the statistics tree has no "{word}" there; "irm rib ls" shows it', None
            )
        node = entries[word]
    return node


def entry_name(name: str) -> str:
    """A name as that of an entry: no slash, and not that of a folder itself or the one above it."""
    if name in (".", ".."):
        return name.replace(".", "%2E")
    return name.replace("%", "%25").replace("/", "%2F").replace("\0", "%00") or "%"


def _systems(reader: Reader) -> Iterator[tuple[str, Node]]:
    taken = {"irmd"}
    for ipcp in reader.ipcps():
        name = entry_name(ipcp.name)
        if name in taken or name.startswith("proc."):
            name = f"{name}.{ipcp.pid}"
        taken.add(name)
        yield name, Folder(partial(_ipcp, reader, ipcp))
    processes: dict[str, dict[str, Node]] = {}
    for end in reader.flow_ends():
        flow = File(partial(_flow, reader, end["flow_id"], end["pid"], end["fd"]))
        processes.setdefault(f"proc.{end['pid']}", {})[str(end["fd"])] = _folder({"flow": flow})
    for process, flows in processes.items():
        yield process, _folder(flows)
    yield "irmd", Folder(partial(_irmd, reader))


def _folder(entries: Mapping[str, Node]) -> Folder:
    return Folder(lambda: entries)


def _row(rows: Iterable[Row], gone: str, **key: object) -> Row:
    """The row with these values. Raises FileNotFoundError with the text `gone`: it was there when its folder was read."""
    for row in rows:
        if all(row[name] == value for name, value in key.items()):
            return row
    raise FileNotFoundError(errno.ENOENT, gone)


def _flow(reader: Reader, flow_id: object, pid: object, fd: object) -> str:
    gone = f"flow {fd} of process {pid} was deallocated"
    end = _row(reader.flow_ends(), gone, flow_id=flow_id, pid=pid, fd=fd)
    return listing.pairs({key: value for key, value in end.items() if key not in ("pid", "fd")})


def _irmd(reader: Reader) -> dict[str, Node]:
    def pools() -> dict[str, Node]:
        rows, classes = reader.pools()
        return {
            entry_name(str(row["name"])): File(
                partial(listing.pool, row, [one for one in classes if one["name"] == row["name"]])
            )
            for row in rows
        }

    return {
        "counters": Folder(lambda: _counters(lambda: reader.irmd("counters"))),
        "pools": Folder(pools),
    }


def _counters(read: Callable[[], list[Row]]) -> dict[str, Node]:
    def text(name: str) -> str:
        return listing.pairs({str(row["counter"]): row["value"] for row in read() if _component(row) == name})

    return {name: File(partial(text, name)) for name in dict.fromkeys(_component(row) for row in read())}


def _component(row: Row) -> str:
    return entry_name(f"{row['component']} {row['of']}".strip())


def _ipcp(reader: Reader, ipcp: IpcpInfo) -> dict[str, Node]:
    info = {"_state": ipcp.state, "_type": ipcp.type.type_name, "_layer": ipcp.layer or "(null)"}
    found: dict[str, Node] = {
        "info": _folder({name: File(partial("{}\n".format, text)) for name, text in info.items()})
    }
    words = reader.words(ipcp)
    read = partial(reader.rows, ipcp)
    if "counters" in words:
        found["counters"] = Folder(lambda: _counters(lambda: read("counters")))
    if "links" in words:
        (status,) = read("status")
        found["lsdb"] = Folder(partial(_links, read))
        found["dht"] = _folder(
            {
                "stats": File(lambda: listing.dht_stats(read("status")[0])),
                "database": File(lambda: listing.dht_database(read("directory"))),
            }
        )
        found[f"dt.{status['address']}"] = Folder(partial(_data_transfer, read))
        found["flow-allocator"] = Folder(partial(_flows, read))
    return found


Read: TypeAlias = Callable[[str], list[Row]]


def _links(read: Read) -> dict[str, Node]:
    found: dict[str, Node] = {}
    for row in read("neighbours"):
        if row["address"] is not None:
            found[f".{row['component']} {row['address']}"] = File(str)
    for row in read("links"):
        found[f"{row['from']}--{row['to']}"] = File(partial(_link, read, row["from"], row["to"]))
    return found


def _link(read: Read, source: object, target: object) -> str:
    gone = f"the link from {source} to {target} was removed"
    return listing.link(_row(read("links"), gone, **{"from": source, "to": target}))


def _data_transfer(read: Read) -> dict[str, Node]:
    found: dict[str, Node] = {}
    for row in read("endpoints"):
        found[str(row["id"])] = File(partial(_endpoint, read, row["id"]))
    for cube in range(len(listing.cubes(read("counters")))):
        found[f"cube.{cube}"] = File(partial(_cube, read, cube))
    return found


def _endpoint(read: Read, number: object) -> str:
    return listing.endpoint(_row(read("endpoints"), f"flow {number} was deallocated", id=number))


def _cube(read: Read, cube: int) -> str:
    return listing.cube(cube, listing.cubes(read("counters"))[cube])


def _flows(read: Read) -> dict[str, Node]:
    return {str(row["fd"]): File(partial(_flow_of_layer, read, row["fd"])) for row in read("flows")}


def _flow_of_layer(read: Read, fd: object) -> str:
    row = _row(read("flows"), f"flow {fd} was deallocated", fd=fd)
    counters = [one for one in read("counters") if one["of"] == f"flow {fd}"]
    return listing.flow(row, {str(one["counter"]): one["value"] for one in counters})
