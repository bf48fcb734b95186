"""oecho: a client sends a message, the server sends it back (paper 5.9, docs/reference/oecho.md).

The client waits for one reply; the server serves each flow in a thread of its own. Runs as the user's
process; the server also as one that the IRMd starts on demand.
"""

from argparse import Namespace
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .program import (
    Parser,
    ToolError,
    add_layer_option,
    allocation_error,
    argument,
    name,
    print_lines_immediately,
    reason,
    run,
)
from .server import FlowServer

if TYPE_CHECKING:
    from ouroboros.dev import Flow

BUFFER_SIZE = 256
DEFAULT_NAME = "oecho"
DEFAULT_MESSAGE = "Client says hi!"
_REPLY_TIMEOUT_S = 10.0
_MAX_FLOWS = 64


def main(argv: Sequence[str] | None = None) -> int:
    """Run oecho with `argv` (the process's arguments when None); returns the exit code."""
    return run("oecho", _body, argv)


def encode(message: str) -> bytes:
    """The message as it travels: UTF-8 with a NUL at the end; raises ToolError when it does not fit."""
    data = message.encode(errors="surrogateescape") + b"\0"
    if len(data) > BUFFER_SIZE:
        raise ToolError(
            f"the message has {len(data) - 1} bytes, the server takes {BUFFER_SIZE - 1}; shorten it"
        )
    return data


def decode(data: bytes) -> str:
    """The text up to the first NUL, without the control characters that a sender could aim at the terminal."""
    text = data.split(b"\0", 1)[0].decode(errors="replace")
    return "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text
    )


def _body(argv: Sequence[str] | None) -> int:
    options = _parse(argv)
    if options.listen:
        return _serve()
    return _echo(options)


def _parse(argv: Sequence[str] | None) -> Namespace:
    parser = Parser("oecho", "Send a message to an oecho server and print the reply.")
    parser.add_argument("-l", "--listen", action="store_true", help="be the server")
    parser.add_argument(
        "-n", "--name", default=DEFAULT_NAME, type=argument(name), help=f"name of the server ({DEFAULT_NAME})"
    )
    parser.add_argument(
        "-m", "--message", default=DEFAULT_MESSAGE, help=f"the message to send ({DEFAULT_MESSAGE})"
    )
    add_layer_option(parser)
    options = parser.parse_args(argv)
    parser.check_side(options, client="name message layer")
    return options


def _echo(options: Namespace) -> int:
    data = encode(options.message)
    from ouroboros.dev import flow_alloc

    try:
        flow = flow_alloc(options.name, layer=options.layer)
    except OSError as error:
        raise allocation_error(error) from None
    with flow:
        flow.rcv_timeout = _REPLY_TIMEOUT_S
        try:
            flow.write(data)
            reply = flow.read(BUFFER_SIZE)
        except TimeoutError:
            raise ToolError(
                f'"{options.name}" did not reply within {_REPLY_TIMEOUT_S:g} s; is it an oecho server?'
            ) from None
        except OSError as error:
            raise ToolError(f'the flow to "{options.name}" ended before the reply: {reason(error)}') from None
    print(f"Server replied with {decode(reply)}")
    return 0


def _serve() -> int:
    print_lines_immediately()
    print("Starting the server.")
    try:
        FlowServer(serve_flow, limit=_MAX_FLOWS).run()
    except KeyboardInterrupt:
        pass
    return 0


def serve_flow(flow: "Flow") -> None:
    """Send back the one message of `flow`; raises OSError when the flow goes down or stays silent."""
    print("New flow.")
    flow.rcv_timeout = _REPLY_TIMEOUT_S
    flow.snd_timeout = _REPLY_TIMEOUT_S
    message = flow.read(BUFFER_SIZE)
    print(f"Message from client is {decode(message)}.")
    flow.write(message)
