"""obc's work: join the layer, then write or read. Runs as the user's process, in one thread."""

import json
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..program import ToolError, print_lines_immediately, reason, run
from .options import Options, parse

if TYPE_CHECKING:
    from ouroboros.dev import Flow

LARGEST = 1399
"""Octets of a packet that every member of a broadcast layer can take (spec/broadcast 3)."""

_BUFFER = 2048


def main(argv: Sequence[str] | None = None) -> int:
    """Run obc with `argv` (the process's arguments when None); returns the exit code."""
    return run("obc", _body, argv)


def encode(message: str) -> bytes:
    """The message as it travels: UTF-8 with a NUL at the end. Raises ToolError when it does not fit."""
    data = message.encode(errors="surrogateescape") + b"\0"
    if len(data) > LARGEST:
        raise ToolError(
            f"the message has {len(data) - 1} bytes; a broadcast layer carries {LARGEST - 1}: shorten it"
        )
    return data


def decode(data: bytes) -> str:
    """The text up to the first NUL, without the control characters that a sender could aim at the terminal."""
    text = data.split(b"\0", 1)[0].decode(errors="replace")
    return "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text
    )


def _body(argv: Sequence[str] | None) -> int:
    options = parse(argv)
    return _listen(options) if options.listen else _send(options)


def _join(options: Options) -> "Flow":
    from ouroboros.dev import flow_join

    try:
        return flow_join(options.name, timeo=options.timeout)
    except OSError as error:
        raise ToolError(f"Failed to join broadcast. {reason(error)}") from None


# ---------------------------------------------------------------- writer


def _send(options: Options) -> int:
    data = encode(options.message)
    with _join(options) as flow:
        for number in range(options.count or 1):
            if number:
                time.sleep(options.interval)
            try:
                flow.write(data)
            except OSError as error:
                raise ToolError(f'cannot write to "{options.name}": {reason(error)}') from None
    return 0


# ---------------------------------------------------------------- reader


def _listen(options: Options) -> int:
    print_lines_immediately()
    chatty = not (options.json or options.quiet)
    if chatty:
        print("Starting a reader.")
    flow = _join(options)
    try:
        with flow:
            if chatty:
                print("New flow.")
            if options.timeout is not None:
                flow.rcv_timeout = options.timeout
            return _read(flow, options)
    except KeyboardInterrupt:
        return 0 if options.count is None else 1


def _read(flow: "Flow", options: Options) -> int:
    received = 0
    while options.count is None or received < options.count:
        try:
            data = flow.read(_BUFFER)
        except TimeoutError:
            raise ToolError(
                f'no message arrived from "{options.name}" for {options.timeout:g} s ({received} messages so far)'
            ) from None
        except OSError as error:
            raise ToolError(f'the flow to "{options.name}" ended: {reason(error)}') from None
        received += 1
        _show(data, received, as_json=options.json)
    sys.stdout.flush()
    return 0


def _show(data: bytes, number: int, *, as_json: bool) -> None:
    if not as_json:
        print(f"Message is {decode(data)}.")
        return
    text = data.split(b"\0", 1)[0].decode(errors="replace")
    print(json.dumps({"number": number, "time": time.time(), "length": len(data), "message": text}))
