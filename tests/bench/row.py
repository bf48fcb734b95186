"""Row: one figure of the benchmark, and the words that it may use."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class Mode(StrEnum):
    """How packets were handed over: one call each, or many in one call."""

    SINGLE = "single"
    BURST = "burst"


class What(StrEnum):
    """The quantity of a row; the value is its word, `UNITS` has the unit."""

    RTT_P50 = "rtt_p50"
    RTT_P99 = "rtt_p99"
    PACED_P50 = "paced_p50"
    PACED_P99 = "paced_p99"
    PPS = "pps"
    GBPS = "gbps"
    CORE_GBPS = "core_gbps"
    CPU = "cpu_per_mpkt"
    GOODPUT = "goodput"
    VOICE_P50 = "voice_p50"
    VOICE_P99 = "voice_p99"
    FLOW_KIB = "flow_kib"
    FLOW_PYTHON_KIB = "flow_python_kib"
    FIFO_KIB = "fifo_kib"
    UNREAD_US = "unread_us"
    ACTIVE_US = "active_us"
    FUTEX_WAKE = "futex_wake"
    ALLOC_RATE = "flow_alloc_rate"
    ALLOC_RATE_LOCAL = "flow_alloc_rate_local"
    LIST_MS = "ipcp_list_ms"
    CREATE_MS = "ipcp_create_ms"
    CREATE_TOOL_MS = "ipcp_create_tool_ms"
    IDLE_CPU = "idle_cpu_percent"
    PRIVATE_MIB = "ipcp_private_mib"
    PRIVATE_MIB_MAX = "ipcp_private_mib_max"
    ROUTES_MS = "routes_ms"
    ROUTES_LFA_MS = "routes_lfa_ms"
    ROUTES_ECMP_MS = "routes_ecmp_ms"
    STALL_MS = "stall_ms"
    ENROL_MS = "enrol_ms"
    ROUTES_TO_ALL_MS = "routes_to_all_ms"


UNITS: dict[What, str] = {
    What.RTT_P50: "us",
    What.RTT_P99: "us",
    What.PACED_P50: "us",
    What.PACED_P99: "us",
    What.PPS: "packet/s",
    What.GBPS: "Gbit/s",
    What.CORE_GBPS: "Gbit/s",
    What.CPU: "s",
    What.GOODPUT: "Mbit/s",
    What.VOICE_P50: "us",
    What.VOICE_P99: "us",
    What.FLOW_KIB: "KiB",
    What.FLOW_PYTHON_KIB: "KiB",
    What.FIFO_KIB: "KiB",
    What.UNREAD_US: "us",
    What.ACTIVE_US: "us",
    What.FUTEX_WAKE: "us",
    What.ALLOC_RATE: "flow/s",
    What.ALLOC_RATE_LOCAL: "flow/s",
    What.LIST_MS: "ms",
    What.CREATE_MS: "ms",
    What.CREATE_TOOL_MS: "ms",
    What.IDLE_CPU: "%",
    What.PRIVATE_MIB: "MiB",
    What.PRIVATE_MIB_MAX: "MiB",
    What.ROUTES_MS: "ms",
    What.ROUTES_LFA_MS: "ms",
    What.ROUTES_ECMP_MS: "ms",
    What.STALL_MS: "ms",
    What.ENROL_MS: "ms",
    What.ROUTES_TO_ALL_MS: "ms",
}

# The figures of one-way and round-trip transfers, in the order of the report; the others are figures of a system.
TRANSFER = (
    What.RTT_P50,
    What.RTT_P99,
    What.PACED_P50,
    What.PACED_P99,
    What.PPS,
    What.GBPS,
    What.CORE_GBPS,
    What.CPU,
)

Key = tuple[str, What, int, Mode, str]


@dataclass(slots=True, frozen=True)
class Row:
    """One figure: `value` in `unit`. `size` is the packet's, in bytes, 0 where there is no packet."""

    path: str
    what: What
    size: int
    mode: Mode
    subject: str
    value: float
    unit: str

    @property
    def key(self) -> Key:
        """All that identifies the figure within one run."""
        return (self.path, self.what, self.size, self.mode, self.subject)


def row(path: str, what: What, size: int, mode: Mode, subject: str, value: float) -> Row:
    """Row with the unit that belongs to `what`."""
    return Row(path, what, size, mode, subject, value, UNITS[what])


def significant(value: float) -> float:
    """`value` with five significant digits: more would only look exact."""
    return float(f"{value:.5g}")


def to_json(machine: dict[str, Any], rows: Iterable[Row]) -> str:
    """The one JSON object that `--json` prints."""
    plain = [asdict(r) | {"value": significant(r.value)} for r in rows]
    return json.dumps({"machine": machine, "rows": plain}, indent=1)
