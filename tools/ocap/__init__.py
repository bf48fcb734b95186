"""ocap: shows the packets of a capture of Ouroboros traffic, layer by layer; a witness of wire compatibility.

Reads a capture file, decodes each packet with the codecs of the daemons, encodes the decoded packet again, and reports
whether the octets are the same. `pcap` and `pcapng` read the file, `dissect` and `content` take packets apart, `flows` remembers
the content of flows, `render` prints.
"""

from argparse import Namespace
from collections.abc import Sequence

from ..program import Parser, ToolError, argument, run


def main(argv: Sequence[str] | None = None) -> int:
    """Run ocap with `argv` (the process's arguments when None); returns the exit code."""
    return run("ocap", _body, argv)


def _parse(argv: Sequence[str] | None) -> Namespace:
    parser = Parser("ocap", "Decode every layer of captured Ouroboros traffic, and check the encoding.")
    parser.add_argument("action", choices=["read"], help="the action")
    parser.add_argument("file", metavar="FILE", help="a capture in pcap or pcapng format, link type Ethernet")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--ethertype", type=argument(_ethertype), action="append", help="of an eth-dix layer (0xA000)"
    )
    parser.add_argument("--port", type=argument(_port), action="append", help="of a UDP layer (3435)")
    parser.add_argument(
        "--hash", default="SHA3_256", metavar="HASH", type=argument(_hash), help="of the layers (SHA3_256)"
    )
    return parser.parse_args(argv)


def _body(argv: Sequence[str] | None) -> int:
    options = _parse(argv)
    try:
        file = open(options.file, "rb")
    except OSError as error:
        raise ToolError(f'cannot read "{options.file}": {error.strerror}') from None
    from .reading import read

    with file:
        return read(file, options)


def _ethertype(word: str) -> int:
    try:
        number = int(word, 16)
    except ValueError:
        number = 0
    if not 0x0600 <= number < 0xFFFF:
        raise ValueError(
            f'"{word}" is not an ethertype; it must be a hexadecimal number from 0x0600 to 0xFFFE'
        )
    return number


def _port(word: str) -> int:
    if not (word.isascii() and word.isdigit() and 0 < int(word[:9]) < 65536):
        raise ValueError(f'"{word}" is not a UDP port; it must be a number from 1 to 65535')
    return int(word)


def _hash(word: str) -> str:
    from ouroboros.ipcp_options import OptionError, check_value

    try:
        return check_value("hash", word)
    except OptionError as error:
        raise ValueError(str(error)) from None
