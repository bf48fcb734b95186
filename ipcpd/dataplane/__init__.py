"""The data plane of an IPCP as its control plane sees it: C threads that move packets, and the packets they pass to Python.

Runs in the IPCP's process; the threads never need the GIL.
"""

from .dt import Dt, DtCounters, FlowCounters
from .punt import Punt
from .relay import PortStats, Relay, flow_events

__all__ = ["Dt", "DtCounters", "FlowCounters", "PortStats", "Punt", "Relay", "flow_events"]
