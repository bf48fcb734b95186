"""Texts of the files of the statistics tree: rows of read-outs as the paper prints them (paper 5.3, Listing 9)."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence

from ouroboros.facts import DT_CUBE, Row

_LABEL, _VALUE = 26, 20  # columns of dt.ADDRESS/N
_FLOW_LABEL = 33
_SHOWN = 16  # hexadecimal digits of a key or value


def moment(seconds: object) -> str:
    """A moment of Unix time."""
    return time.strftime("%Y-%m-%d %H:%M:%S (UTC)", time.gmtime(float(str(seconds or 0))))


def pairs(values: Mapping[str, object]) -> str:
    """One value a line, behind its name."""
    width = max(map(len, values), default=0) + 1
    return "".join(f"{name + ':':<{width}} {_shown(value)}\n" for name, value in values.items())


def _shown(value: object) -> str:
    return "-" if value is None or value == "" else str(value)


def _line(label: str, value: object, width: int = _LABEL) -> str:
    return f"{label:<{width}}{_shown(value):>{_VALUE}}\n"


def link(row: Row) -> str:
    """An entry of the link-state database."""
    updated = time.time() - float(str(row["age"]))
    return (
        f"src: {row['from']!s:>20}\ndst: {row['to']!s:>20}\nseqno: {row['sequence']!s:>18}\n"
        f"upd: {moment(updated)}\n"
    )


def endpoint(row: Row) -> str:
    """A component, or a flow to a neighbour."""
    head = f"{'Flow established at:':<{_LABEL}}{moment(row['since']):>{_VALUE}}\n"
    return (
        head
        + _line("Endpoint address:", str(row["endpoint"]).replace(" ", "-"))
        + _line("Queued packets (rx):", 0)
        + _line("Queued packets (tx):", row["queued"] or 0)
        + "\n"
        + _line(" sent (packets):", row["sent"] or 0)
        + _line(" rcvd (packets):", row["received"])
        + _line(" rcvd (bytes):", row["received_octets"])
        + _line(" failed writes (packets):", row["dropped"])
        + _line(" malformed (packets):", row["refused"] or 0)
    )


def cubes(counters: Iterable[Row]) -> Sequence[Mapping[str, object]]:
    """The counters of data transfer, cube by cube."""
    names = [fact.name for fact in DT_CUBE.facts]
    found: dict[str, dict[str, object]] = {}
    for row in counters:
        of = str(row["of"])
        if row["component"] == DT_CUBE.component and of and not of.startswith("flow "):
            found.setdefault(of, dict.fromkeys(names, 0))[str(row["counter"])] = row["value"]
    return list(found.values())


def cube(number: int, counters: Mapping[str, object]) -> str:
    """The packets of one QoS cube."""
    shown = {name.replace("_", " "): value for name, value in counters.items()}
    return f"Qos cube   {number}:\n" + "".join(
        _line(f" {name} (packets):", value) for name, value in shown.items()
    )


def flow(row: Row, counters: Mapping[str, object]) -> str:
    """A flow of the layer, with its congestion avoidance."""
    head = {
        "State:": row["state"],
        "Remote address:": row["address"],
        "Local endpoint ID:": row["eid"],
        "Remote endpoint ID:": row["peer_eid"],
        "QoS cube:": row["cube"],
    }
    lines = [_line(label, value, _FLOW_LABEL) for label, value in head.items()]
    if counters:
        body = {
            "Sent (packets):": counters["sent"],
            "Send failed (packets):": counters["no_route"],
            "Received (packets):": counters["received"],
            "Receive failed (packets):": counters["dropped"],
            "Received with a mark (packets):": counters["marked"],
            "Received flow updates (packets):": counters["updates"],
            "Upstream congestion level:": counters["level"],
            "Congestion window size (ns):": counters["slot"],
            "Max bytes in this window:": counters["limit"],
        }
        lines += [_line(label, value, _FLOW_LABEL) for label, value in body.items()]
    return "".join(lines)


def dht_stats(status: Row) -> str:
    """The directory's configuration and size."""
    values = {
        "Number of concurrent requests (alpha):": status["dht_alpha"],
        "Number of replicas (k):": status["dht_k"],
        "Expiry time for values (s):": status["dht_t_expire"],
        "Refresh time for contacts (s):": status["dht_t_refresh"],
        "Replication time for values (s):": status["dht_t_replicate"],
    }
    sizes = {
        "Number of local values:": status["names"],
        "Number of non-local values:": status["values"],
        "Number of contacts:": status["contacts"],
    }
    return (
        f"DHT: {str(status['dht_id'])[:_SHOWN]}\n"
        f"  Created: {moment(status['since'])}\n"
        f"  Address: {status['address']}\n"
        "  Kademlia parameters:\n"
        + "".join(f"     {label:<39}{value!s:>10}\n" for label, value in values.items())
        + "".join(f"  {label:<42}{value!s:>10}\n" for label, value in sizes.items())
    )


def dht_database(directory: Sequence[Row]) -> str:
    """The names of the directory, by hash: those of this member, and those that it keeps for others."""
    if not directory:
        return "DHT database:\n\n  No entries.\n"
    lines = ["DHT database:", ""]
    for key in sorted({str(row["hash"]) for row in directory}):
        lines.append(f"Key: K<{key[:_SHOWN]}>")
        for title, own in (("Local entries", True), ("Non-local entries", False)):
            lines.append(f"  {title}:")
            for row in directory:
                if row["hash"] == key and (row["kept"] == "own") is own:
                    expires = f", t_exp={moment(row['expires'])}" if row["expires"] else ""
                    lines.append(f"    V<{row['address']}>{expires}")
            lines.append("")
    return "\n".join(lines)


def pool(row: Row, classes: Iterable[Row]) -> str:
    """A packet pool, and its blocks by size."""
    return pairs(row) + "".join(
        f"blocks of {one['size']!s:>6} octets: {one['free']!s:>8} of {one['total']!s:>8} free\n"
        for one in classes
    )
