"""Python IPCPs that are killed: their neighbours, Python or prototypes, continue with the new instance and not with the old one."""

from __future__ import annotations

import pytest

from .lower import Config
from .world import Ours, World

STATUS = """
    import sys
    from ouroboros import irm
    print(next(ipcp.pid for ipcp in irm.list_ipcps() if ipcp.name == sys.argv[1]))
"""


def kill(ours: Ours, ipcp: str) -> None:
    """SIGKILL for an IPCP of a system."""
    program = ours.system.python(STATUS, ipcp)
    assert program.wait() == 0, program.output
    ours.system.kill(int(program.output))
    ours.system.irmd.expect(f"IPCP {ipcp} .*was killed by SIGKILL")


def address(ours: Ours) -> object:
    return ours.readout("status")[0]["address"]


@pytest.mark.parametrize("killed", ["udp", "b"])
def test_a_neighbour_whose_ipcp_was_killed_is_used_as_soon_as_it_is_back(world: World, killed: str) -> None:
    """Long before the keep-alive of the old adjacency runs out; a member has the address that it had."""
    a, b = world.ours("a"), world.ours("b")
    a.bootstrap()
    b.enroll("a")
    b.connect("a")
    before = address(b)
    server = b.serve("server")
    a.pings("server")
    kill(b, killed)
    if killed == "udp":
        b.system.irm(f"ipcp bootstrap type udp4 name udp layer udp ip {b.ip}")
        b.open()
    else:
        b.system.irm("name unregister b layer udp")
        b.enroll("a")
        b.connect("a")
        b.system.irm("name register server ipcp b")
    assert address(b) == before
    while "1 packets transmitted, 1 received" not in a.ping("server", 1, check=False):
        pass
    rows = a.readout("neighbours")
    assert len([row for row in rows if row["address"] == before]) == 2, rows  # management, and data transfer
    del server


def test_a_prototype_reaches_a_member_that_was_killed(world: World) -> None:
    proto, ours = world.prototype("proto"), world.ours("ours")
    world.now(proto.bootstrap, Config())
    ours.enroll("proto")
    ours.connect("proto")
    before = address(ours)
    kill(ours, "ours")
    ours.system.irm("name unregister ours layer udp")
    ours.enroll("proto")
    ours.connect("proto")
    assert address(ours) == before
    ours.serve("server")
    world.until(
        lambda: all(proto.routing.next_hops.get(at) is flow for at, flow in proto.routing.neighbours.items())
    )
    flow = world.call(proto.fa.allocate("server"))
    assert world.call(proto.ping(flow, 3, lossy=True)) == 3
