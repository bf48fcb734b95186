"""operf: the throughput of a flow, measured at both ends (paper 5.9, docs/reference/operf.md).

The client announces a test, sends numbered packets at a rate or as fast as the flow takes them, and at the end
fetches the server's report over the same flow. In a bidirectional test the server echoes every packet, which
gives round-trip percentiles under that load. `wire` is the layout on the wire, `tally` a receiver's counters,
`results` the printing (pure); `client` and `server` connect them to flows.
"""

from collections.abc import Sequence

from ..program import run


def main(argv: Sequence[str] | None = None) -> int:
    """Run operf with `argv` (the process's arguments when None); returns the exit code."""
    return run("operf", _body, argv)


def _body(argv: Sequence[str] | None) -> int:
    from .options import parse  # after the signals are set: importing takes a while

    options = parse(argv)
    if options.listen:
        from .server import serve

        return serve(options)
    from .client import measure

    return measure(options)
