"""oping, oecho, ocbr and operf as a user drives them, over a real system (docs/reference)."""

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.system.conftest import BIN, CHECKOUT, PATIENCE, Program, System, installed

TOOLS = ("oping", "oecho", "ocbr", "operf")
_MS = r"\d+\.\d{3}"


@pytest.fixture
def served(system: System) -> System:
    """A system that starts the server of each tool on demand, under the tool's own name."""
    binding = system.python(f"""
        from ouroboros import cli, irm
        for tool in {TOOLS}:
            cli.bind_program(tool, tool, irm.BIND_AUTO, ["-l"])
    """)
    assert binding.wait() == 0, binding.output
    return system


def listen(system: System, tool: str, *args: str) -> Program:
    """A server started by hand and bound to the name of the tool."""
    server = system.spawn(tool, "-l", *args)
    server.expect("erver")
    system.irm(f"bind process {server.pid} name {tool}")
    return server


# ---------------------------------------------------------------- oping


def test_oping_prints_what_the_paper_shows(served: System) -> None:
    lines = served.run("oping", "-n", "oping", "-c", "4", "-i", "20").stdout.splitlines()
    assert lines[:2] == ["Pinging oping with 64 bytes of data (4 packets):", ""]
    for number, line in enumerate(lines[2:6]):
        assert re.fullmatch(rf"64 bytes from oping: seq={number} time={_MS} ms", line)
    assert lines[6:8] == ["", "--- oping ping statistics ---"]
    assert re.fullmatch(
        rf"4 packets transmitted, 4 received, 0 out-of-order, 0% packet loss, time: {_MS} ms", lines[8]
    )
    assert re.fullmatch(rf"rtt min/avg/max/mdev = {_MS}/{_MS}/{_MS}/{_MS} ms", lines[9])
    assert len(lines) == 10


@pytest.mark.parametrize(
    "words", ["-c 2000 -i 0", "-c 2000 -f", "-c 2000 -F", "-d 200 -f", "-d 50 -i 0 -s 1500", "-d 100 -i 10"]
)
def test_oping_loses_nothing_on_one_system(served: System, words: str) -> None:
    result = json.loads(served.run("oping", "-n", "oping", "--json", *words.split()).stdout)
    assert result["received"] == result["transmitted"] > 0
    assert result["out_of_order"] == result["duplicates"] == 0


def test_oping_server_says_what_it_does(system: System) -> None:
    server = listen(system, "oping")
    system.run("oping", "-n", "oping", "-c", "2", "-i", "1", "-Q")
    fd = server.expect(r"^New flow (\d+)\.$")[1]
    server.expect(rf"^Received 64 bytes on fd {fd}\.$")
    server.expect(rf"^Received 64 bytes on fd {fd}\.$")
    assert server.stop() == 0


@pytest.mark.parametrize("mode", ["--poll", "--busy"])
def test_oping_server_of_one_flow_at_a_time(system: System, mode: str) -> None:
    listen(system, "oping", "-Q", mode)
    for _ in range(2):
        result = json.loads(system.run("oping", "-n", "oping", "-c", "100", "-f", "--json").stdout)
        assert result["received"] == 100


def test_oping_serves_many_at_once(served: System) -> None:
    clients = [served.spawn("oping", "-n", "oping", "-c", "20", "-i", "5", "--json") for _ in range(5)]
    for client in clients:
        assert client.wait() == 0
        assert json.loads(client.output)["received"] == 20


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_prints_the_statistics(served: System, number: signal.Signals) -> None:
    client = served.spawn("oping", "-n", "oping", "-i", "10")
    client.expect("seq=1 ")
    assert client.stop(number) == 0
    assert "--- oping ping statistics ---" in client.output
    counted = re.search(r"(\d+) packets transmitted, (\d+) received", client.output)
    assert counted is not None, client.output
    # The answer to the last ping may have been on its way when the signal came.
    assert int(counted[1]) - int(counted[2]) <= 1, client.output


def test_a_killed_server_ends_the_client_with_statistics(system: System) -> None:
    server = listen(system, "oping")
    client = system.spawn("oping", "-n", "oping", "-i", "10")
    client.expect("seq=1 ")
    server.kill()
    assert client.wait() == 0
    assert "oping: the flow to oping ended: " in client.output
    assert "--- oping ping statistics ---" in client.output


def test_a_signal_ends_an_idle_client_that_waits_for_a_reply(served: System) -> None:
    client = served.spawn("oping", "-n", "oping", "-i", "10s")
    client.expect("Pinging")
    assert client.stop(signal.SIGINT) == 0
    assert "0 packets transmitted, 0 received" in client.output


# ---------------------------------------------------------------- oecho


def test_oecho(system: System) -> None:
    system.irm("bind program oecho name oecho auto -- -l")
    assert system.run("oecho").stdout == "Server replied with Client says hi!\n"
    assert system.run("oecho", "-m", "h\u00e9").stdout == "Server replied with h\u00e9\n"


def test_oecho_server_says_what_it_does(system: System) -> None:
    server = listen(system, "oecho")
    system.run("oecho")
    server.expect(r"^New flow\.$")
    server.expect(r"^Message from client is Client says hi!\.$")
    assert server.stop(signal.SIGINT) == 0


# ---------------------------------------------------------------- ocbr


@pytest.mark.parametrize(
    "words", ["-d 0.3 -r 10M", "-d 0.3 -r 10M --spin", "-d 0.3 -f", "-d 0.3 -r 1M -s 64"]
)
def test_ocbr_counts_the_same_at_both_ends(system: System, words: str) -> None:
    server = listen(system, "ocbr", "-i", "100ms")
    output = system.run("ocbr", "-n", "ocbr", *words.split()).stdout
    sent = re.search(r"^sent statistics: +(\d+) packets, +(\d+) bytes in +\d+ ms, [\d.]+ Mb/s$", output, re.M)
    assert sent is not None and int(sent[1]) > 0
    fd = server.expect(r"^Test on flow (\d+) finished$")[1]
    reports = re.findall(
        rf"^Flow +{fd}: +(\d+) packets \( *(\d+) bytes\) in +\d+ ms => +[\d.]+ pps, +[\d.]+ Mbps$",
        server.output,
        re.M,
    )
    assert sum(int(packets) for packets, _ in reports) == int(sent[1])
    assert sum(int(octets) for _, octets in reports) == int(sent[2])


# ---------------------------------------------------------------- operf


@pytest.mark.parametrize(
    "words",
    [
        "-t uni -f",
        "-t uni -f --burst 1 -s 64",
        "-t uni -r 10M",
        "-t uni -r 10M --sleep",
        "-t bi -f",
        "-t bi -f --burst 1 -s 64",
        "-t bi -r 10M",
        "-t bi -r 10M --sleep",
    ],
)
def test_operf_measures_both_ends(served: System, words: str) -> None:
    result = json.loads(served.run("operf", "-n", "operf", "-d", "300", "--json", *words.split()).stdout)
    assert result["sender"]["packets"] == result["receiver"]["packets"] > 1
    assert result["receiver"]["packets_per_second"] > 0
    assert result["lost"] == result["receiver"]["out_of_order"] == result["receiver"]["duplicates"] == 0
    if "bi" in words:
        assert result["echoes"]["packets"] == result["sender"]["packets"]
        assert 0 < result["rtt_ms"]["p50"] <= result["rtt_ms"]["p99.9"] <= result["rtt_ms"]["max"]


def test_operf_prints_for_people(served: System) -> None:
    lines = served.run("operf", "-n", "operf", "-d", "100", "-f", "-t", "bi").stdout.splitlines()
    assert lines[:4] == [
        "Doing a bidirectional test.",
        "Flooding 1500 byte packets for 0.1 s to operf.",
        "Test finished.",
        "--- operf perf statistics ---",
    ]
    assert re.fullmatch(
        rf"\d+ packets transmitted, \d+ received, 0% packet loss, time: {_MS} ms, bandwidth: {_MS} Mb/s\.",
        lines[4],
    )
    assert [line.split(":")[0] for line in lines[5:8]] == ["sender", "receiver", "echoes"]
    assert re.fullmatch(rf"rtt p50/p90/p99/p99.9/max = {_MS}/{_MS}/{_MS}/{_MS}/{_MS} ms", lines[8])


def test_operf_serves_several_tests_at_once(served: System) -> None:
    clients = [served.spawn("operf", "-n", "operf", "-d", "200", "-r", "5M", "--json") for _ in range(3)]
    for client in clients:
        assert client.wait() == 0
        assert json.loads(client.output)["lost"] == 0


def test_an_interrupted_operf_still_fetches_the_report(served: System) -> None:
    client = served.spawn("operf", "-n", "operf", "-d", "1h", "--sleep")
    client.expect("Sending 1500 byte packets for 3600 s to operf at 1.000 Mb/s.")
    assert client.stop(signal.SIGINT) == 0
    assert "receiver: " in client.output


def test_operf_refuses_what_the_flow_cannot_carry(served: System) -> None:
    result = served.run("operf", "-n", "operf", "-d", "100", "-s", "1M", check=False)
    assert result.returncode == 1
    assert re.fullmatch(
        r"operf: a packet of 1048576 bytes is larger than this flow carries \((\d+)\); use --size \1 or less\n",
        result.stderr,
    )


def test_operf_names_a_server_that_is_none(served: System) -> None:
    result = served.run("operf", "-n", "oping", "-d", "100", check=False)
    assert result.returncode == 1
    assert '"oping" does not answer as an operf server' in result.stderr
    assert result.stderr.count("\n") == 1


# ---------------------------------------------------------------- all of them


def client_of(tool: str, name: str) -> list[str]:
    return [tool, "-n", name]


@pytest.mark.parametrize("tool", TOOLS)
def test_an_unknown_name_is_one_line(system: System, tool: str) -> None:
    result = system.run(*client_of(tool, "nowhere"), check=False)
    assert result.returncode == 1
    assert re.fullmatch(rf"{tool}: Failed to allocate flow: -1007\. .*nowhere.*\n", result.stderr)
    assert "Traceback" not in result.stdout


@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize("side", ["client", "server"])
def test_without_an_irmd_one_line_says_how_to_start_it(tool: str, side: str, tmp_path: Path) -> None:
    words = [installed(tool), "-l"] if side == "server" else [installed(tool), "-n", "x"]
    result = subprocess.run(
        words,
        env={"PATH": str(BIN), "OUROBOROS_RUNDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith(f"{tool}: ")
    assert str(tmp_path) in result.stderr and "irmd" in result.stderr


@pytest.mark.parametrize("tool", TOOLS)
def test_a_server_ends_when_the_irmd_does(system: System, tool: str) -> None:
    server = listen(system, tool)
    system.irmd.kill()
    assert server.wait() == 1
    assert f"{tool}: " in server.output.splitlines()[-1]
    system.start()


@pytest.mark.parametrize("tool", TOOLS)
def test_version_and_help(tool: str) -> None:
    for option in ("--version", "--help"):
        result = subprocess.run([installed(tool), option], capture_output=True, text=True, timeout=PATIENCE)
        assert result.returncode == 0
        assert tool in result.stdout


@pytest.mark.parametrize("tool", TOOLS)
def test_over_a_local_layer(served: System, tool: str) -> None:
    served.local_layer("local")
    served.irm(f"name register {tool} layer local")
    words = {"oping": "-c 3 -i 1", "oecho": "", "ocbr": "-d 0.2", "operf": "-d 200 -f"}[tool]
    served.run(*client_of(tool, tool), "--layer", "local", *words.split())


def test_a_closed_stdout_ends_the_client_quietly(served: System) -> None:
    with subprocess.Popen(
        [installed("oping"), "-n", "oping", "-i", "1"],
        env=served.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as client:
        assert client.stdout is not None and client.stderr is not None
        client.stdout.readline()
        client.stdout.close()
        assert client.stderr.read() == b""
        assert client.wait(PATIENCE) == 1


# ---------------------------------------------------------------- examples


def test_hello_world(system: System) -> None:
    hello = str(CHECKOUT / "examples" / "hello.py")
    server = system._spawn([sys.executable, hello, "--listen"])
    system.irm(f"bind process {server.pid} name helloworld-server")
    for _ in range(2):
        with system._spawn([sys.executable, hello]) as client:
            assert client.wait() == 0
        server.expect(r"^Message from client is Hello World!\.$")


def test_echo_with_an_event_set(system: System) -> None:
    example = str(CHECKOUT / "examples" / "oecho_set.py")
    server = system._spawn([sys.executable, example, "--listen"])
    system.irm(f"bind process {server.pid} name oecho")
    client = system._spawn([sys.executable, example])
    assert client.wait() == 0
    assert client.output == "Server replied with Client says hi!"
    assert system.run("oecho").stdout == "Server replied with Client says hi!\n"
    assert server.stop(signal.SIGINT) == 0


SILENT = """
    import sys
    from ouroboros import flow_alloc
    flow = flow_alloc(sys.argv[1])
    print("allocated", flush=True)
    flow.read()
"""

FULL = """
    import threading
    from ouroboros import QOS_DATA, flow_alloc
    from ouroboros.errors import FlowTimeout
    flow = flow_alloc("oecho", QOS_DATA)
    flow.snd_timeout = 0.5
    try:
        while True:  # until the server would take no more if it waited for this client to read
            flow.writev([bytes(1)] * 64)
            if flow.rx_queue_len >= 1000:
                break
    except FlowTimeout:
        pass
    print("full", flush=True)
    threading.Event().wait()
"""


def test_the_servers_of_the_examples_serve_beside_a_client_that_sends_or_reads_nothing(
    system: System,
) -> None:
    hello, echo = (str(CHECKOUT / "examples" / name) for name in ("hello.py", "oecho_set.py"))
    servers = []
    for example, name in ((hello, "helloworld-server"), (echo, "oecho")):
        servers.append(system._spawn([sys.executable, example, "--listen"]))
        system.irm(f"bind process {servers[-1].pid} name {name}")
    with system.python(SILENT, "helloworld-server") as silent:
        silent.expect("allocated")
        with system._spawn([sys.executable, hello]) as client:
            assert client.wait() == 0
        servers[0].expect(r"^Message from client is Hello World!\.$")
        silent.kill()
    with system.python(FULL) as full:
        full.expect("full")
        assert system.run("oecho").stdout == "Server replied with Client says hi!\n"
        full.kill()


def test_who_answers_and_leaves_at_once_is_heard(system: System) -> None:
    """A write that the peer has read has not failed, even if the peer has left by the time that it returns."""
    system.irm("bind program oecho name oecho auto -- -l")
    client = system.python("""
        from ouroboros import flow_alloc
        for _ in range(1000):
            with flow_alloc("oecho") as flow:
                flow.write(b"hi")
                assert flow.recv() == b"hi"
    """)
    assert client.wait() == 0, client.output
