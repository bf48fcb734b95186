"""olab: a laboratory: several systems on one machine, with links between them that can be cut.

`description` says what a lab is made of and `reading` reads it from TOML; `lab` is the lab as programs see it, `holder`
the process it lives in, `wire` its links; `commands` is the command line; `survey`, `layout` and `picture` draw what there
is.
"""

from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run olab with `argv` (the process's arguments when None); returns the exit code."""
    from .commands import main as run

    return run(argv)
