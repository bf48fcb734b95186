"""Targets: the pure machines, tables and codecs, each with the tests that have to notice a defect in it; the smallest first."""

from __future__ import annotations

from .runner import Target

IPCPD, UNICAST, IRMD = "tests/unit/ipcpd/", "tests/unit/ipcpd/unicast/", "tests/unit/irmd/"

TARGETS = (
    # Tables.
    Target("ipcpd/common/life.py", (IPCPD + "test_life.py",)),
    Target("irmd/flow.py", (IRMD + "test_flow.py",)),
    Target("irmd/flow_table.py", (IRMD + "test_flow.py",)),
    Target("irmd/exit_status.py", (IRMD + "test_exit_status.py",)),
    # Machines of the IRMd.
    Target("irmd/allocation.py", (IRMD + "test_allocation.py",)),
    Target("irmd/retry.py", (IRMD + "test_retry.py",)),
    Target("irmd/oap/replay.py", (IRMD + "test_replay.py", IRMD + "test_oap.py")),
    Target("irmd/oap/offer.py", (IRMD + "test_offer.py",)),
    Target("irmd/oap/header.py", ("tests/unit/wire", IRMD + "test_oap.py", IRMD + "test_oap_tampering.py")),
    # Machines of IPCPs.
    Target("ipcpd/common/keepalive.py", (IPCPD + "test_keepalive.py",)),
    Target("ipcpd/common/connmgr.py", (IPCPD + "test_connmgr.py", IPCPD + "test_admission.py")),
    Target("ipcpd/common/enrol.py", (IPCPD + "test_enrol.py", IPCPD + "test_admission.py")),
    Target("ipcpd/link/endpoints.py", (IPCPD + "eth/test_endpoints.py",)),
    Target("ipcpd/link/fa.py", (IPCPD + "eth/test_fa.py", IPCPD + "udp/test_fa.py")),
    Target("ipcpd/link/fa_events.py", (IPCPD + "eth/test_fa.py", IPCPD + "udp/test_fa.py")),
    Target("ipcpd/eth/directory.py", (IPCPD + "eth/test_directory.py",)),
    Target("ipcpd/unicast/timers.py", (UNICAST + "test_timers.py",)),
    Target("ipcpd/unicast/contention.py", (UNICAST + "test_contention.py",)),
    Target("ipcpd/unicast/phantom.py", (UNICAST + "test_phantom.py",)),
    Target(
        "ipcpd/unicast/lsdb.py",
        (UNICAST + "test_lsdb.py", UNICAST + "test_link_state.py", UNICAST + "test_stale.py"),
    ),
    Target(
        "ipcpd/unicast/link_state.py",
        (UNICAST + "test_link_state.py", UNICAST + "test_stale.py", UNICAST + "test_neighbours.py"),
    ),
    Target(
        "ipcpd/unicast/fa.py",
        (
            UNICAST + "test_fa.py",
            UNICAST + "test_requester.py",
            UNICAST + "test_responder.py",
            UNICAST + "test_closed.py",
            UNICAST + "test_fa_moves.py",
        ),
    ),
    Target("ipcpd/unicast/fa_events.py", (UNICAST + "test_requester.py", UNICAST + "test_responder.py")),
    Target("ipcpd/unicast/routing/graph.py", (UNICAST + "test_routing.py", UNICAST + "test_lsdb.py")),
    Target("ipcpd/unicast/routing/shortest_path.py", (UNICAST + "test_routing.py",)),
    Target("ipcpd/unicast/routing/lfa.py", (UNICAST + "test_routing.py",)),
    Target("ipcpd/unicast/routing/ecmp.py", (UNICAST + "test_routing.py",)),
    *(
        Target(f"ipcpd/unicast/dht/{name}.py", (UNICAST + f"dht/test_{name}.py",))
        for name in ("values", "contacts", "lookup")
    ),
    *(
        Target(f"ipcpd/unicast/dht/{name}.py", (UNICAST + "dht",))
        for name in ("exchange", "keeper", "names", "node", "dht")
    ),
    # Codecs.
    *(
        Target(f"ipcpd/wire/{name}.py", ("tests/unit/wire", UNICAST + "test_link_state.py"))
        for name in ("dt", "fa", "link_state", "connmgr", "enrol", "dht")
    ),
    Target(
        "ipcpd/wire/lsm.py", (UNICAST + "test_lsdb.py", UNICAST + "test_link_state.py", "tests/unit/wire")
    ),
    Target("ipcpd/wire/mac.py", (IPCPD + "eth/test_directory.py",)),
    *(Target(f"ipcpd/wire/{name}.py", ("tests/unit/wire",)) for name in ("link", "udp", "eth", "dix", "llc")),
)
