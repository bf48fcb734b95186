"""Board: a Grafana dashboard of every metric, made from the declarations (docs/howto/observe.md)."""

from __future__ import annotations

from typing import Any

from ouroboros.facts import Group, Kind

from .metrics import Family, families

_WIDTH, _HEIGHT, _ACROSS = 8, 7, 3  # of a panel on the grid of 24 columns


def board() -> dict[str, Any]:
    """The dashboard, as Grafana imports it: a row for each component and list, a panel for each value."""
    panels: list[dict[str, Any]] = []
    seen: set[str] = set()
    row, column, top = "", 0, 0
    for declared, fact, family in families():
        if family.name in seen:
            continue
        seen.add(family.name)
        title = (
            f"{declared.component} {declared.scope}".strip() if isinstance(declared, Group) else declared.what
        )
        if title != row:
            top += _HEIGHT if column else 0
            row, column = title, 0
            panels.append(
                {
                    "id": len(panels) + 1,
                    "type": "row",
                    "title": title,
                    "gridPos": {"x": 0, "y": top, "w": 24, "h": 1},
                }
            )
            top += 1
        at = {"x": column * _WIDTH, "y": top, "w": _WIDTH, "h": _HEIGHT}
        panels.append(_panel(len(panels) + 1, family, rate=fact.kind is Kind.COUNTER, at=at))
        column = (column + 1) % _ACROSS
        top += 0 if column else _HEIGHT
    return {
        "title": "Ouroboros",
        "uid": "ouroboros",
        "schemaVersion": 39,
        "refresh": "5s",
        "time": {"from": "now-15m", "to": "now"},
        "templating": {
            "list": [
                {"name": "source", "type": "datasource", "query": "prometheus", "label": "Data source"},
                {
                    "name": "layer",
                    "type": "query",
                    "datasource": {"type": "prometheus", "uid": "${source}"},
                    "query": "label_values(ouroboros_ipcp_info, layer)",
                    "includeAll": True,
                    "multi": True,
                },
            ]
        },
        "panels": panels,
    }


def _panel(number: int, family: Family, *, rate: bool, at: dict[str, int]) -> dict[str, Any]:
    series = f'{family.name}{"_total" if rate else ""}{{layer=~"$layer|"}}'
    unit = {
        "octets": "Bps" if rate else "bytes",
        "packets": "pps" if rate else "short",
        "seconds": "s",
        "ms": "ms",
    }
    return {
        "id": number,
        "type": "timeseries",
        "title": family.name.removeprefix("ouroboros_"),
        "description": family.help,
        "datasource": {"type": "prometheus", "uid": "${source}"},
        "gridPos": at,
        "fieldConfig": {
            "defaults": {"unit": unit.get(family.unit, "ops" if rate else "short")},
            "overrides": [],
        },
        "targets": [{"refId": "A", "expr": f"rate({series}[1m])" if rate else series}],
    }
