"""Peer: one of the two processes of a pair, or the one that manages. Runs as `python -m tests.bench.peer`.

Arguments: subject, role (server, client, manager), and the subject's arguments as JSON. It then reads one command per
line from standard input and answers each with one line, both JSON. It ends when standard input does.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

from tests.bench import delivery, measure
from tests.bench.subjects import SUBJECTS
from tests.bench.subjects.subject import Endpoint

Command = dict[str, Any]
QUIET = 0.02  # seconds without a packet after round trips: each has had its answer


def say(**answer: Any) -> None:
    """One line to the benchmark."""
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def commands() -> Iterator[Command]:
    """Commands until the benchmark closes our input; read line by line, as the next one follows our answer."""
    while line := sys.stdin.readline():
        yield json.loads(line)


def transfer(end: Endpoint, command: Command) -> dict[str, Any]:
    """Carry out one command on an endpoint."""
    size, count, burst = command.get("size", 0), command["count"], command.get("burst", False)
    end.settle(0)
    if (found := end.does(command, lambda: say(armed=True))) is not None:
        return found
    match command["do"]:
        case "echo":
            calls = end.calls(size)
            say(armed=True)
            return measure.echo(calls, size, count)
        case "ping":
            found = measure.ping(end.calls(size), size, count, command["warm"])
            return found | {"left": end.settle(QUIET)}
        case "pace":
            found = measure.pace(end.calls(size), size, count, command["seconds"])
            return found | {"left": end.settle(QUIET)}
        case "sink":
            return measure.sink(end.calls(size), size, count, burst, lambda: say(armed=True))
        case "flood":
            return measure.flood(end.calls(size), size, count, burst)
        case "deliver":
            writev = end.calls(size).writev
            assert writev is not None, "the subject has no burst calls"
            return delivery.deliver(writev, size, count, command["seed"])
        case "verify":
            packets = end.packets(size)
            say(armed=True)
            found = delivery.verify(packets, size, count, command["seed"])
            return found | {"left": end.more(delivery.QUIET)}
        case "drain":
            say(armed=True)
            return measure.drain(end.calls(size), size)
        case "soak":
            say(armed=True)
            return measure.soak(end.calls(size), size)
        case "sleep":
            say(armed=True)
            return {"samples": end.sleep(count)}  # type: ignore[attr-defined]  # the floor's only
        case "wake":
            end.wake(count, command["pause_ns"])  # type: ignore[attr-defined]
            return {}
        case other:
            raise ValueError(f"unknown command {other!r}")


def serve(handle: Callable[[Command], dict[str, Any]]) -> None:
    """Answer commands until there are no more; an error is an answer too, and the end."""
    for command in commands():
        say(done=handle(command))


def main(argv: list[str]) -> int:
    """Run the peer that the arguments select."""
    name, role, text = argv
    args = json.loads(text)
    try:
        if role == "manager":
            from tests.bench.manager import handle

            say(ready=True)
            serve(handle)
            return 0
        subject = SUBJECTS[name]()
        if role == "server":
            say(hello=subject.listen(args))
            end = subject.accept()
        else:
            end = subject.connect(args, args["hello"])
        say(ready=True)
        serve(lambda command: transfer(end, command))
        end.close()
    except Exception as e:  # whatever it is, the benchmark must know why there are no figures
        say(error=f"{type(e).__name__}: {e}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
