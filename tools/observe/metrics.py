"""Metrics: all counters, gauges and states of a system in the OpenMetrics text format (docs/howto/observe.md).

From the declarations in `ouroboros.facts`: a family is the component or the list, the name, and the unit. Pure but for `collect`, which reads.
A time series is an object of the system; a system with a thousand flows has some ten thousand.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from ouroboros.facts import (
    FLOW_ENDS,
    GROUPS,
    IPCPS,
    IRM,
    IRMD,
    POOL_CLASSES,
    POOLS,
    TABLES,
    Fact,
    Group,
    Kind,
    Row,
    Table,
    group_of,
    tables_of,
)

from .reader import Reader

if TYPE_CHECKING:
    from ouroboros.readout import IpcpInfo

CONTENT_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"
PREFIX = "ouroboros"
_NUMBERS = (Kind.COUNTER, Kind.GAUGE)
_SHOWN = (*_NUMBERS, Kind.STATE)

Labels = Mapping[str, str]


class Family(NamedTuple):
    """Series with one name."""

    name: str
    kind: str
    unit: str
    help: str


class Sample(NamedTuple):
    """One value of a family. `state`: the state that it is about, in a stateset."""

    labels: Labels
    value: float | int
    state: str = ""


class Samples:
    """Families and their values, by name: components of different types that count the same share a family."""

    def __init__(self) -> None:
        self.families: dict[str, tuple[Family, list[Sample]]] = {}

    def of(self, family: Family) -> list[Sample]:
        """The values of a family, to be added to."""
        return self.families.setdefault(family.name, (family, []))[1]


def family_of(declared: Group | Table, fact: Fact) -> Family:
    """The family of a declared value."""
    if isinstance(declared, Group):
        scope = declared.scope if declared.scope == "flow" else ""
        subject = f"{declared.component} {scope}".strip()
    else:
        subject = declared.what
    words = [PREFIX, *subject.split(), fact.name]
    if fact.unit and not fact.name.endswith(fact.unit):
        words.append(fact.unit)
    kind = {Kind.COUNTER: "counter", Kind.STATE: "stateset" if fact.states else "gauge"}.get(
        fact.kind, "gauge"
    )
    return Family("_".join(words), kind, fact.unit, f"{declared.help}: {fact.help}")


def families() -> Iterator[tuple[Group | Table, Fact, Family]]:
    """Every family that a system can have, in the order of the declarations."""
    for group in GROUPS:
        for fact in group.facts:
            yield group, fact, family_of(group, fact)
    for table in TABLES:
        for fact, family in _families(table):
            yield table, fact, family


def _families(table: Table) -> list[tuple[Fact, Family]]:
    """The values of a list that are metrics, each with its family."""
    return [
        (fact, family_of(table, fact))
        for fact in table.facts
        if fact.kind in _SHOWN and fact.name not in table.key
    ]


def collect(reader: Reader, own: Sequence[Row] = ()) -> Samples:
    """The values of a system now. An IPCP that does not answer is left out, and `ouroboros_ipcp_unreadable` counts it.

    own  counters of this process

    Raises IrmError."""
    found = Samples()
    unreadable = 0
    for ipcp in reader.ipcps():
        labels = {"ipcp": ipcp.name, "type": ipcp.type.type_name, "layer": ipcp.layer}
        of_ipcp = IPCPS.row(
            name=ipcp.name, pid=ipcp.pid, type=ipcp.type.type_name, layer=ipcp.layer, state=ipcp.state
        )
        _info(found, "ipcp", of_ipcp)
        try:
            _ipcp(found, reader, ipcp, labels)
        except OSError:
            unreadable += 1
    _counters(found, IRMD, reader.irmd("counters"), {"ipcp": "", "type": IRMD, "layer": ""})
    _counters(found, IRM, own, {})
    _table(found, FLOW_ENDS, reader.flow_ends(), {})
    pools, classes = reader.pools()
    _table(found, POOLS, pools, {})
    _table(found, POOL_CLASSES, classes, {})
    name = f"{PREFIX}_ipcp_unreadable"
    found.of(Family(name, "gauge", "", "IPCPs that did not answer when they were read")).append(
        Sample({}, unreadable)
    )
    return found


def _ipcp(found: Samples, reader: Reader, ipcp: IpcpInfo, labels: Labels) -> None:
    words = reader.words(ipcp)
    if "counters" in words:
        _counters(found, ipcp.type.type_name, reader.rows(ipcp, "counters"), labels)
    for what, table in tables_of(ipcp.type.type_name).items():
        if what in words and _families(table):
            _table(found, table, reader.rows(ipcp, what), labels)


def _info(found: Samples, name: str, row: Row) -> None:
    family = Family(f"{PREFIX}_{name}", "info", "", "IPCPs")
    labels = {key: str(value) for key, value in row.items() if value is not None}
    found.of(family).append(Sample(labels, 1))


def _counters(found: Samples, type_name: str, rows: Iterable[Row], labels: Labels) -> None:
    for row in rows:
        of, counter = str(row["of"]), str(row["counter"])
        group = group_of(type_name, str(row["component"]), of, counter)
        value = row["value"]
        if group is None or not isinstance(value, int):
            continue
        more = {group.scope: of.removeprefix(f"{group.scope} ")} if group.scope else {}
        if group.open:
            fact, more = group.facts[0], {group.facts[0].name: counter}
        else:
            fact = next(fact for fact in group.facts if fact.name == counter)
        found.of(family_of(group, fact)).append(Sample({**labels, **more}, value))


def _table(found: Samples, table: Table, rows: Sequence[Row], labels: Labels) -> None:
    families = _families(table)
    seen: set[tuple[str, ...]] = set()
    for row in rows:
        key = tuple(_label(row[name]) for name in table.key)
        if key in seen:
            continue  # a process of another version, or a connection that is being replaced
        seen.add(key)
        own = {**labels, **dict(zip(table.key, key, strict=True))}
        for fact, family in families:
            value = row.get(fact.name)
            if value is None:
                continue
            samples = found.of(family)
            if fact.kind is Kind.STATE and fact.states:
                samples += [Sample(own, int(value == state), state) for state in fact.states]
            elif isinstance(value, int | float):
                samples.append(Sample(own, int(value) if isinstance(value, bool) else value))


def _label(value: object) -> str:
    return "" if value is None else str(value)


def text(samples: Samples) -> str:
    """The exposition: families in order, each with its kind, unit and help, and the end mark."""
    lines = []
    for family, values in samples.families.values():
        lines.append(f"# TYPE {family.name} {family.kind}")
        if family.unit:
            lines.append(f"# UNIT {family.name} {family.unit}")
        lines.append(f"# HELP {family.name} {_escaped(family.help)}")
        suffix = {"counter": "_total", "info": "_info"}.get(family.kind, "")
        for sample in values:
            labels = [f'{key}="{_escaped(value)}"' for key, value in sample.labels.items()]
            if family.kind == "stateset":
                labels.append(f'{family.name}="{_escaped(sample.state)}"')
            shown = f"{{{','.join(labels)}}}" if labels else ""
            lines.append(f"{family.name}{suffix}{shown} {sample.value}")
    return "\n".join([*lines, "# EOF", ""])


def _escaped(value: str) -> str:
    valid = value.encode(errors="replace").decode()
    return valid.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
