"""The options of obc (docs/reference/obc.md)."""

from argparse import Namespace
from collections.abc import Sequence

from .. import units
from ..program import Parser, argument, name

DEFAULT_MESSAGE = "Ouroboros multicast rocks!"


class Options(Namespace):
    """The options as writer and reader use them; times are seconds."""

    name: str
    message: str
    listen: bool
    count: int | None
    interval: float
    timeout: float | None
    json: bool
    quiet: bool


def parse(argv: Sequence[str] | None) -> Options:
    """Read the command line; ends the program on a wrong one."""
    parser = Parser(
        "obc", "Send a message to all members of a broadcast layer, or print the messages of others."
    )
    parser.add_argument("-l", "--listen", action="store_true", help="be a reader")
    parser.add_argument("-n", "--name", metavar="LAYER", type=argument(name), help="the broadcast layer")
    parser.add_argument(
        "-m", "--message", default=DEFAULT_MESSAGE, help=f"writer: the message to send ({DEFAULT_MESSAGE})"
    )
    parser.add_argument(
        "-c",
        "--count",
        type=argument(units.count),
        help="writer: send the message so often (once); reader: end after so many messages (no end)",
    )
    parser.add_argument(
        "-i",
        "--interval",
        type=argument(units.duration),
        default=1.0,
        help="writer: time between messages; ms s m h d, bare ms (1000 ms)",
    )
    parser.add_argument(
        "-t",
        "--timeout",
        type=argument(units.duration),
        help="reader: give up when no message arrived for this time (never); both: when the layer cannot be joined",
    )
    parser.add_argument("--json", action="store_true", help="print each message as a line of JSON")
    parser.add_argument("-q", "--quiet", action="store_true", help="reader: print the messages only")
    options = parser.parse_args(argv, Options())
    if not options.name:
        parser.exit(2, f"Please specify a name.\n{parser.format_usage()}")
    if options.listen:
        parser.refuse(options, "message interval", "is for the writer, and --listen makes a reader")
    else:
        parser.refuse(options, "json quiet", "is for the reader; add --listen")
    return options
