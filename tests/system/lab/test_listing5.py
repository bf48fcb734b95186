"""The three behaviours of paper Listing 5: raw, voice and data flows over a link that loses, doubles and reorders frames."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ouroboros_tools.olab.description import Description, SystemSpec, veth

from .conftest import LabOfTest, MakeLab

COUNT = 3000
SEED = 11


def ping(lab: LabOfTest, qos: str, words: str) -> dict[str, Any]:
    """Ping over the link with these words, which spare the thirty frames before the pings, by which the flow is allocated."""
    lab.emulate("a-b", f"{words} seed {SEED}")
    options = f"-i 0 -c {COUNT} --json -q {qos}"
    done = lab.system("a").run("oping", "-n", "oping", *options.split())
    statistics: dict[str, Any] = json.loads(done.stdout)
    assert statistics["transmitted"] == COUNT and "Invalid" not in done.stderr
    return statistics


@pytest.fixture
def lab(make_lab: MakeLab) -> LabOfTest:
    """Two systems, with a server on the second one."""
    pair = Description(
        name="pair",
        systems=(SystemSpec(name="a"), SystemSpec(name="b")),
        links=(veth("a", "b", emulate=""),),
    )
    lab = make_lab(pair)
    a, b = lab.system("a"), lab.system("b")
    a.irm("ipcp bootstrap name eth layer ethernet type eth-dix dev to-b")
    b.irm("ipcp bootstrap name eth layer ethernet type eth-dix dev to-a")
    b.irm("bind program oping name oping auto -- --listen --quiet")
    b.irm("name register oping layer ethernet")
    return lab


def test_what_each_promises(lab: LabOfTest) -> None:
    words = "loss 1% delay 500us reorder 1% duplicate 3%"
    raw = ping(lab, "raw", words)
    assert raw["received"] < COUNT, "what is lost is lost"
    assert raw["out_of_order"] > 0, "what was overtaken comes late"
    assert raw["duplicates"] > 0, "what was doubled comes twice"
    voice = ping(lab, "voice", words)
    assert voice["received"] < COUNT and not voice["out_of_order"] and not voice["duplicates"]
    data = ping(lab, "data", words)
    assert data["received"] == COUNT and not data["out_of_order"] and not data["duplicates"]
    assert data["resent"] > 0 and raw["resent"] is None
    counted = lab.emulation("a-b")["counters"]
    assert all(one["lost"] and one["duplicated"] and one["reordered"] for one in counted)


def test_what_is_spoiled_is_as_good_as_lost(lab: LabOfTest) -> None:
    """Bits are flipped, in the checks of flows too; a flow without bit errors gets none."""
    data = ping(lab, "data", "corrupt 2% delay 200us")
    assert data["received"] == COUNT and not data["out_of_order"] and not data["duplicates"]
    assert data["resent"] > 0
    assert all(one["corrupted"] for one in lab.emulation("a-b")["counters"])


def test_a_stream_over_a_bad_link(lab: LabOfTest, tmp_path: Path) -> None:
    """All of it, in order, once, and then its end; both ways at the same time.

    The link is good when the two leave: where it may lose the last acknowledgement of a process that then exits, the other one cannot know
    that all has arrived, and says so.
    """
    program = """
        import hashlib, os, sys, threading, time
        from random import Random
        from ouroboros import QOS_DATA, cli, flow_accept, flow_alloc, irm
        ours, theirs = (Random(seed).randbytes(3_000_000) for seed in sys.argv[1:3])
        if not sys.argv[4:]:
            irm.bind_process(os.getpid(), "peer")
            cli.reg_name("peer", layer="ethernet")
            print("ready", flush=True)
        with (flow_alloc("peer", QOS_DATA) if sys.argv[4:] else flow_accept()) as flow:
            def send():
                with flow.makefile("wb") as file:
                    file.write(ours)
                flow.write_end()
            sender = threading.Thread(target=send)
            sender.start()
            with flow.makefile("rb") as file:
                got = file.read()
            sender.join()
            assert got == theirs, (len(got), hashlib.sha256(got).hexdigest())
            print("whole", flow.frcp.resent > 0, flush=True)
            while not os.path.exists(sys.argv[3]):
                time.sleep(0.01)
        """
    a, b = lab.system("a"), lab.system("b")
    good = str(tmp_path / "good")
    server = b.python(program, "1", "2", good)
    server.expect("ready")
    lab.emulate("a-b", f"loss 2% delay 2ms reorder 2% duplicate 2% corrupt 0.5% seed {SEED}")
    client = a.python(program, "2", "1", good, "asks")
    for each in (client, server):
        each.expect("whole True")
    lab.emulate("a-b", "")
    Path(good).touch()
    assert client.wait() == 0, client.output
    assert server.wait() == 0, server.output
