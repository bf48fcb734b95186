"""The options of oping, with the limits and warnings of docs/reference/oping.md."""

from argparse import Namespace
from collections.abc import Sequence

from .. import units
from ..program import Parser, add_client_options, argument, warn
from .packet import MAX_SIZE, MIN_SIZE

_MAX_INTERVAL = 10.0
_PACKETS_PER_MS_AT_INTERVAL_0 = 10


class Options(Namespace):
    """The options as the client and the server use them; `interval` and `duration` are seconds."""

    name: str | None
    layer: str | None
    json: bool
    listen: bool
    poll: bool
    busy: bool
    count: int | None
    duration: float | None
    flood: bool
    flood_busy: bool
    interval: float
    qos: str
    size: int
    quiet: bool
    timeofday: bool


def parse(argv: Sequence[str] | None) -> Options:
    """Read the command line; ends the program on a wrong one."""
    parser = _parser()
    options = parser.parse_args(argv, Options())
    if not options.listen and not options.name:
        parser.no_server()
    _limit(options)
    return options


def _parser() -> Parser:
    parser = Parser("oping", "Measure round-trip times over a flow to an oping server.")
    parser.add_argument("-l", "--listen", action="store_true", help="be the server")
    parser.add_argument(
        "--poll", action="store_true", help="server: wait on one flow at a time, no event set"
    )
    parser.add_argument("--busy", action="store_true", help="server: as --poll, but never sleep")
    add_client_options(parser, name_flags=("-n", "--server-name"))
    parser.add_argument("-c", "--count", type=argument(units.count), help="number of packets (no end)")
    parser.add_argument(
        "-d", "--duration", type=argument(units.duration), help="length of the test; ms s m h d, bare ms"
    )
    parser.add_argument(
        "-f", "--flood", action="store_true", help="send the next packet as soon as the reply is there"
    )
    parser.add_argument("-F", "--flood-busy", action="store_true", help="as --flood, but never sleep")
    parser.add_argument(
        "-i", "--interval", type=argument(units.duration), default=1.0, help="time between packets (1000 ms)"
    )
    parser.add_argument("-q", "--qos", default="raw", help="raw (default), best, video, voice or data")
    parser.add_argument(
        "-s",
        "--size",
        type=argument(units.size),
        default=MIN_SIZE,
        help="bytes per packet, 64 (default) to 1500",
    )
    parser.add_argument("-Q", "--quiet", action="store_true", help="print the statistics only")
    parser.add_argument("-D", "--timeofday", action="store_true", help="print the time before each line")
    return parser


def _limit(options: Options) -> None:
    if options.interval > _MAX_INTERVAL:
        warn("Ping interval truncated to 10s.")
        options.interval = _MAX_INTERVAL
    if options.size < MIN_SIZE:
        warn(f"Packet size set to {MIN_SIZE} bytes.")
        options.size = MIN_SIZE
    if options.size > MAX_SIZE:
        warn(f"Packet size truncated to {MAX_SIZE} bytes.")
        options.size = MAX_SIZE
    if options.duration is not None and not (options.flood or options.flood_busy):
        packets = max(1, _packets_in(options.duration, options.interval))
        options.count = min(packets, options.count or packets)


def _packets_in(duration: float, interval: float) -> int:
    if interval == 0:
        return int(duration * 1e3 * _PACKETS_PER_MS_AT_INTERVAL_0)
    return int(duration / interval)
