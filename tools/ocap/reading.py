"""`ocap read`: from an open file to the printed lines and the exit code. Runs in the tool."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Iterator
from typing import BinaryIO

from ouroboros.ipcp_types import DirectoryHashAlgo
from ouroboros.printable import printable

from ..program import ToolError
from . import pcap, render
from .dissect import Dissector, Settings
from .layer import Packet, Verdict


def read(file: BinaryIO, options: Namespace) -> int:
    """Print the packets of a capture; 0 when all were decoded and encode to the same octets, else 1.

    Raises ToolError when the file is not a capture or ends in the middle of a packet; the packets before that are printed.
    """
    defaults = Settings()
    settings = Settings(
        tuple(options.ethertype or defaults.ethertypes),
        tuple(options.port or defaults.ports),
        DirectoryHashAlgo[options.hash],
    )
    dissector = Dissector(settings)
    packets = (
        dissector.dissect(one)
        for captured in pcap.read(file, options.file)
        for one in dissector.split(captured)
    )
    table = _print_json(packets, options.file) if options.json else _print_text(packets)
    return 0 if table["packets"] == table[Verdict.SAME.value] else 1


def _print_text(packets: Iterator[Packet]) -> dict[str, int]:
    seen, start = [], None
    for packet in packets:
        start = packet.captured.time if start is None else start
        for line in render.as_text(packet, start):
            print(printable(line))
        seen.append((packet.verdict, packet.ours))
    table = render.counts(seen)
    print(render.summary(table))
    return table


def _print_json(packets: Iterator[Packet], name: str) -> dict[str, int]:
    seen, documents, broken = [], [], None
    try:
        for packet in packets:
            documents.append(render.as_json(packet))
            seen.append((packet.verdict, packet.ours))
    except ToolError as error:
        broken = error
    table = render.counts(seen)
    print(json.dumps({"file": name, "packets": documents, "counts": table}, indent=2))
    if broken is not None:
        raise broken
    return table
