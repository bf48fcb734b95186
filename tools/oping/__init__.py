"""oping: round-trip times between a client and a server over a flow (paper 5.9, docs/reference/oping.md).

`packet` is the layout on the wire, `schedule` determines when to send and when to give up, `statistics` keeps and
prints the results (these three are pure); `client` and `server` connect them to a flow. Runs as the user's
process; the server side usually as one that the IRMd starts on demand.
"""

from collections.abc import Sequence

from ..program import run


def main(argv: Sequence[str] | None = None) -> int:
    """Run oping with `argv` (the process's arguments when None); returns the exit code."""
    return run("oping", _body, argv)


def _body(argv: Sequence[str] | None) -> int:
    from .options import parse  # after the signals are set: importing takes a while

    options = parse(argv)
    if options.listen:
        from .server import serve

        return serve(options)
    from .client import ping

    return ping(options)
