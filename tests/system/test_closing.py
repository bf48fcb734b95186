"""Flows that end from both sides together, by deallocation and by a kill, under load: IPCPs live on, and new flows come.

Memory goes while messages about it are under way in every order. A longer run under a sanitiser finds more: `ROUNDS` in the
environment sets how many flows each client allocates.
"""

from __future__ import annotations

import os

from .conftest import MakeSystem, Program

ROUNDS = os.environ.get("ROUNDS", "60")

SERVER = """
    import threading
    from ouroboros import flow_accept
    def serve(flow):
        try:
            flow.rcv_timeout = 30
            flow.read()
            flow.write(bytes(500))
        except OSError:
            pass
        flow.dealloc()
    print("ready", flush=True)
    while True:
        threading.Thread(target=serve, args=(flow_accept(),), daemon=True).start()
"""
CLIENT = """
    import random, sys
    from ouroboros import flow_alloc
    rounds, layers, source = int(sys.argv[1]), sys.argv[2].split(","), random.Random(int(sys.argv[3]))
    good = 0
    for number in range(rounds):
        flow = flow_alloc("server", layer=source.choice(layers))
        try:
            for _ in range(source.choice((1, 1, 3, 200))):
                flow.write(bytes(source.choice((10, 1000))))
            if source.random() < 0.5:
                flow.rcv_timeout = 30
                flow.read()
        except OSError:
            pass  # the server was faster
        flow.dealloc()
        print("done", number, flush=True)
    print("all", flush=True)
"""
LAYERS = ("local", "unicast")


def test_flows_that_end_from_both_sides(make_system: MakeSystem) -> None:
    """One client is killed in the middle of its flows; the three others get all of theirs."""
    system = make_system()
    for kind in LAYERS:
        system.irm(f"ipcp bootstrap type {kind} name {kind} layer {kind}")
    before = {ipcp["pid"] for ipcp in system.json("ipcp list")["ipcps"]}
    server = system.python(SERVER)
    server.expect("ready")
    system.irm(f"bind process {server.pid} name server")
    for layer in LAYERS:
        system.irm(f"name register server layer {layer}")

    def client(seed: int) -> Program:
        return system.python(CLIENT, ROUNDS, ",".join(LAYERS), str(seed))

    victim, *others = [client(seed) for seed in range(4)]
    victim.expect("done 10")
    victim.kill()
    for one in others:
        one.expect("all")
        assert one.wait() == 0, one.output
    server.kill()
    assert {ipcp["pid"] for ipcp in system.json("ipcp list")["ipcps"]} == before
