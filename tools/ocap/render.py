"""Printing of dissected packets: one set of facts, as text for people and as JSON for programs. Runs in the tool."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import fields, is_dataclass
from enum import Enum, IntFlag
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from ipcpd.wire import address, connmgr, dht, dix, dt, enrol, fa, llc, mac
from ipcpd.wire.lsm import Lsm
from ouroboros.qos import QoSSpec

from . import host
from .layer import Layer, Packet, Verdict

_CUT = 24  # octets of a long value that the text shows

# How people write the values of some fields.
_MACS = {"source": mac.to_text, "destination": mac.to_text, "target": mac.to_text}
_FORMATS: dict[type, dict[str, Any]] = {
    dix.Frame: _MACS | {"ethertype": hex},
    llc.Frame: _MACS,
    host.Ethernet: _MACS | {"type": hex},
    host.Arp: _MACS,
    dt.Packet: {"destination": address.to_text, "eid": hex},
    fa.FlowRequest: {"source": address.to_text, "eid": hex},
    fa.FlowReply: {"to": hex, "eid": hex},
    fa.FlowUpdate: {"to": hex},
    Lsm: {"source": address.to_text, "target": address.to_text},
    connmgr.Record: {"address": address.to_text},
    dht.Contact: {"address": address.to_text},
    enrol.DhtConfig: {"peer": address.to_text},
}


def facts(layer: Layer) -> dict[str, Any]:
    """The fields of a layer, in values that JSON has; octets are hexadecimal."""
    return _fields(layer.value, layer.inner) if layer.value is not None else {}


def as_json(packet: Packet) -> dict[str, Any]:
    """A packet with all its layers and its verdict."""
    captured = packet.captured
    return {
        "number": captured.number,
        "segment": captured.segment or None,
        "time": f"{captured.time // 1_000_000_000}.{captured.time % 1_000_000_000:09d}",
        "length": captured.length,
        "verdict": packet.verdict.value,
        "reason": packet.reason,
        "ours": packet.ours,
        "guessed": packet.guessed,
        "layers": [{"name": layer.name, "fields": facts(layer)} for layer in packet.layers],
        "data": packet.data.hex(),
    }


def as_text(packet: Packet, start: int) -> Iterator[str]:
    """The lines for a packet; times are seconds since `start` (ns)."""
    captured = packet.captured
    seconds = (captured.time - start) / 1_000_000_000
    verdict = packet.verdict.value + (f" ({packet.reason})" if packet.reason else "")
    notes = (", content guessed" if packet.guessed else "") + ("" if packet.ours else ", not ours")
    number = f"{captured.number}.{captured.segment}" if captured.segment else str(captured.number)
    yield f"{number:>5} {seconds:12.6f}  {captured.length} octets, {verdict}{notes}"
    for layer in packet.layers:
        yield "      " + " ".join([f"{layer.name:<15}", *_words(facts(layer))]).rstrip()
    if packet.data:
        yield f"      {'data':<15} {_short(packet.data)}"


def counts(verdicts: Iterable[tuple[Verdict, bool]]) -> dict[str, int]:
    """How many packets there are, of each verdict, and of other protocols."""
    table = dict.fromkeys(("packets", *(verdict.value for verdict in Verdict), "not ours"), 0)
    for verdict, ours in verdicts:
        table["packets"] += 1
        table[verdict.value] += 1
        table["not ours"] += not ours
    return table


def summary(table: dict[str, int]) -> str:
    """The counts as one line."""
    same, differs, malformed = (table[verdict.value] for verdict in Verdict)
    others = f" ({table['not ours']} not ours)" if table["not ours"] else ""
    return f"{table['packets']} packets{others}: {same} same, {differs} differ, {malformed} malformed"


def _fields(value: Any, inner: str = "") -> dict[str, Any]:
    formats = _FORMATS.get(type(value), {})
    result: dict[str, Any] = {"message": _kebab(type(value).__name__)} if _shows_kind(value) else {}
    for item in fields(value):
        if item.name != inner:
            content = getattr(value, item.name)
            known = formats.get(item.name)
            result[item.name] = known(content) if known else _plain(content)
    return result


def _shows_kind(value: Any) -> bool:
    """Whether the type of a value is shown: where a protocol has several messages."""
    return isinstance(value, dht.Message | fa.Message) or type(value).__name__.startswith(("Flow", "Name"))


def _plain(value: Any) -> Any:
    match value:
        case bytes():
            return value.hex()
        case QoSSpec():
            return {name: getattr(value, name) for name in QoSSpec.__slots__}
        case IntFlag():
            return [flag.name for flag in type(value) if flag in value]
        case Enum():
            return value.name.lower().replace("_", "-")
        case IPv4Address() | IPv6Address():
            return str(value)
        case tuple() | list():
            return [_plain(item) for item in value]
    return _fields(value) if is_dataclass(value) else value


def _words(values: dict[str, Any]) -> Iterator[str]:
    for name, value in values.items():
        if value is not None and value is not False and value not in ("", []):
            yield f"{name}={_word(value)}"


def _word(value: Any) -> str:
    match value:
        case dict():
            return "{" + " ".join(_words(value)) + "}"
        case list():
            return "[" + " ".join(_word(item) for item in value) + "]"
        case str() if len(value) > 2 * _CUT and value.isalnum():
            return f"{value[: 2 * _CUT]}..({len(value) // 2} octets)"
        case str() if not value.isprintable() or " " in value:
            return ascii(value)
    return str(value)


def _short(octets: bytes) -> str:
    text = octets[:_CUT].decode("ascii", "replace")
    shown = "".join(character if " " <= character <= "~" else "." for character in text)
    more = f" ({len(octets)} octets)" if len(octets) > _CUT else ""
    return f"{octets[:_CUT].hex()} {shown}{more}"


def _kebab(name: str) -> str:
    return "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("-")
