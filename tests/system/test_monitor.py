"""irm monitor: events of a running system, as they happen."""

from __future__ import annotations

import signal

from .conftest import System


def test_events_of_a_system(system: System) -> None:
    with system.spawn("irm", "monitor", "--json", "interval", "0.1") as monitor:
        monitor.expect('"event": "monitor started", "ipcps": 0')
        system.irm("ipcp bootstrap type local name loc.0 layer office")
        monitor.expect('"event": "ipcp (created|changed)", "ipcp": "loc.0"')
        system.irm("name register pong ipcp loc.0")
        monitor.expect('"event": "registration added", "name": "pong", "ipcp": "loc.0", "layer": "office"')
        system.irm("ipcp destroy name loc.0")
        monitor.expect('"event": "ipcp ended"')
        monitor.signal(signal.SIGINT)
        assert monitor.wait() == 130
