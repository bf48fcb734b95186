"""The networks of paper 5.10 in a lab of three systems, and a redundant one that loses links while a ping runs.

Each command is shown with the system on which it is typed, as it runs. The descriptions are in examples/olab.
"""

from __future__ import annotations

import contextlib
import re
import shlex
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from ouroboros_tools.olab import link_command
from ouroboros_tools.olab.control import HolderError
from ouroboros_tools.olab.lab import Lab, LabError
from ouroboros_tools.olab.picture import draw
from ouroboros_tools.olab.reading import read
from ouroboros_tools.olab.survey import survey
from stage import CHECKOUT, TIMEOUT, DemoFailure, Program, Stage

EXAMPLES = CHECKOUT / "examples" / "olab"
MESSAGE = "Hello multiple worlds"
INTERVAL = 50
"""Milliseconds between the packets of the ping that has to survive."""
PROMISES = {
    "raw": "each packet as it arrives; a lost packet is not sent again, an overtaken one arrives late",
    "voice": "in order; an overtaken packet is dropped as well",
    "data": "every packet, in order; a lost one is sent again, and later packets wait for it",
}
WANTED = 20
"""Replies that have to arrive after a link was cut."""


@contextlib.contextmanager
def network(
    stage: Stage, example: str, after: Callable[[Lab, str], None] = lambda lab, system: None
) -> Iterator[Lab]:
    """A lab as an example describes it; its commands are shown as they run. `after` is called when a system's last command has run."""
    path = EXAMPLES / f"{example}.toml"
    description = read(path)
    lab = Lab(replace(description, name=example), directory=stage.base)
    stage.note(f"by hand: olab up {path.relative_to(CHECKOUT)}")
    for system in description.systems:
        stage.logs[f"system {system.name}"] = lab.place.system(system.name) / "irmd.log"
    try:
        with lab.tearing_down():
            lab.hold()
            lab.make(lambda _: None)
            for link in description.links:
                stage.note(
                    f"link {link.name}: {' - '.join(map(str, link.ends))} {' '.join(map(str, link.addresses))}"
                )
            steps = description.steps
            for step, following in zip(steps, [*steps[1:], None], strict=True):
                run_step(stage, lab, step.system, step.commands())
                if following is None or following.system != step.system:
                    after(lab, step.system)
            yield lab
            stop(stage, lab)
    except (LabError, HolderError) as error:
        raise DemoFailure(error.strerror or str(error)) from None
    except DemoFailure:
        stage.show_logs()
        raise
    finally:
        lab.down()


def stop(stage: Stage, lab: Lab) -> None:
    """Stop every IRMd; fail unless each IRMd and each process it started exits cleanly. `Lab.down` removes the logs."""
    codes = lab.ask("stop", systems=[system.name for system in lab.systems])["codes"]
    bad = {name: code for name, code in codes.items() if code != 0}
    if bad:
        raise DemoFailure(f"not every irmd ended with exit code 0: {bad}")
    stage.check_logs()


def run_step(stage: Stage, lab: Lab, system: str, commands: Iterator[tuple[str, list[str]]]) -> None:
    for shown, argv in commands:
        run_in(stage, lab, system, shown, argv)


def run_in(stage: Stage, lab: Lab, system: str, shown: str, argv: list[str] | None = None) -> None:
    """Show a command and run it in a system."""
    one = lab.system(system)
    stage.run(shown, one.command(*(argv or shlex.split(shown))), system=system, env={**stage.env, **one.env})


def start_in(stage: Stage, lab: Lab, system: str, shown: str) -> Program:
    one = lab.system(system)
    env = {**stage.env, **one.env}
    return stage.start(shown, one.command(*shlex.split(shown)), system=system, env=env)


def picture(stage: Stage, lab: Lab, name: str, title: str) -> None:
    """Draw the network as it is now into a file."""
    stage.pictures.mkdir(exist_ok=True)
    path: Path = stage.pictures / f"{name}.svg"
    stage.show(f"olab graph -o {path.relative_to(CHECKOUT)}")
    path.write_text(draw(survey(lab), title=title))


# ---------------------------------------------------------------- scenes


def unicast(stage: Stage) -> None:
    """Listings 11 to 14."""
    stage.title(
        "The unicast network of paper 5.10: four IPCPs on three systems, over Ethernet, UDP and a local layer"
    )
    with network(stage, "paper-unicast") as lab:
        stage.title("Listing 14: ping from system a to the server behind uni3, which the IRMd of b starts")
        run_in(stage, lab, "a", "oping -n oping -c 4")
        run_in(stage, lab, "b", "irm ipcp neighbours name uni2")
        picture(stage, lab, "unicast", "The unicast network of paper 5.10")


def broadcast(stage: Stage) -> None:
    """Listings 15 to 17."""
    stage.title("The broadcast network of paper 5.10: readers on systems a and b, a writer on system c")
    readers: dict[str, Program] = {}

    def start_reader(lab: Lab, system: str) -> None:
        if system in ("a", "b"):
            readers[system] = start_in(stage, lab, system, "obc -l -n broadcast")
            readers[system].show_until("New flow.")

    with network(stage, "paper-broadcast", start_reader) as lab:
        run_in(stage, lab, "c", f'obc -n broadcast -m "{MESSAGE}"')
        for system, reader in readers.items():
            stage.note(f"the reader on system {system}:")
            reader.show_until(f"Message is {MESSAGE}.")
        picture(stage, lab, "broadcast", "The broadcast network of paper 5.10")
        for reader in readers.values():
            reader.stop()


def listing5(stage: Stage) -> None:
    """Listing 5: the QoS of the flow alone decides how many of ten thousand pings are answered, and in which order."""
    stage.title("A link that loses one frame in a thousand, and lets another one overtake those before it")
    with network(stage, "listing5") as lab:
        for qos, promise in PROMISES.items():
            stage.title(f"{qos}: {promise}")
            options = f"--interval 0 --count 10000 --quiet --qos {qos}"
            run_in(stage, lab, "a", f"oping --server-name oping {options}")
        stage.title("The frames that the link lost or reordered")
        stage.show("olab link wire")
        counted, _ = link_command.run(lab, ["wire"])
        print(link_command.show(counted, counters=True), flush=True)


def cut(stage: Stage) -> None:
    """A running ping loses the link that it uses twice: first by its carrier, then silently."""
    stage.title("The unicast network with two more ways from a to b; its links will be cut while a ping runs")
    with network(stage, "redundant") as lab:
        server = address_of(lab, "b", "uni3")
        ways = {address_of(lab, "b", "uni2"): "ethernet", address_of(lab, "c", "uni4"): "a-c"}
        ways[address_of(lab, "d", "uni5")] = "a-d"
        first = await_way(lab, server, ways, lambda way: way == "ethernet")
        stage.title(f"A ping, 20 times a second. It goes over link {first}, of which the carrier is taken")
        ping = Ping(start_in(stage, lab, "a", f"oping -n oping -i {INTERVAL}"))
        ping.replies(WANTED)
        cut_link(stage, lab, ping, first, silent=False)
        second = await_way(lab, server, ways, lambda way: way != first)
        stage.title(f"Now it goes over link {second}. The link will drop its packets silently")
        cut_link(stage, lab, ping, second, silent=True)
        third = await_way(lab, server, ways, lambda way: way not in (first, second))
        stage.note(f"now it goes over link {third}")
        picture(stage, lab, "redundant", "Two of three ways from a to b are cut")
        stage.title("The ping has survived both")
        ping.end()


def cut_link(stage: Stage, lab: Lab, ping: Ping, link: str, *, silent: bool) -> None:
    stage.show(f"olab cut {link}{' --silent' if silent else ''}")
    stage.note(lab.cut(link, silent=silent))
    ping.restart()
    pause = ping.replies(WANTED)
    stage.note(
        f"{WANTED} more replies have arrived; the longest pause between two of them was {pause * 1000:.0f} ms"
    )


def address_of(lab: Lab, system: str, ipcp: str) -> str:
    return str(lab.system(system).json(f"ipcp status name {ipcp}")["status"][0]["address"])


def await_way(lab: Lab, server: str, ways: dict[str, str], wanted: Callable[[str], bool]) -> str:
    """Wait until a's packets to the server leave over a link that `wanted` accepts; returns that link."""
    deadline = time.monotonic() + TIMEOUT
    while time.monotonic() < deadline:
        rows = lab.system("a").json("ipcp routes name uni1")["routes"]
        hops = next((row["next"] for row in rows if row["address"] == server), [])
        way = ways.get(hops[0]) if hops else None
        if way is not None and wanted(way):
            return way
        time.sleep(0.2)
    raise DemoFailure(f"system a found no other way to {server} within {TIMEOUT:.0f} s")


@dataclass(slots=True)
class Ping:
    """A ping that runs in the background."""

    program: Program
    last: float = 0.0

    def restart(self) -> None:
        """Discard the lines read so far and measure pauses from now on."""
        self.last = time.monotonic()
        while self.program.pending():
            self.program.line()

    def replies(self, count: int) -> float:
        """Wait for `count` replies; returns the longest time between two of them, in seconds."""
        longest = 0.0
        while count:
            when, line = self.program.line()
            if re.match(r"\d+ bytes from ", line):
                longest = max(longest, when - self.last) if self.last else 0.0
                self.last = when
                count -= 1
        return longest

    def end(self) -> None:
        """Stop the ping and print its statistics."""
        code = self.program.stop(signal.SIGINT)
        lines = [line for _, line in self.program.rest()]
        begin = next((number for number, line in enumerate(lines) if line.startswith("---")), len(lines))
        print("\n".join(lines[begin:]), flush=True)
        if begin == len(lines):
            raise DemoFailure(f"the ping printed no statistics; it ended with exit code {code}")
