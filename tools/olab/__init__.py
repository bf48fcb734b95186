"""olab: a laboratory: several systems on one machine, with links between them that can be cut.

`description` has the systems and links of a lab and `reading` reads it from TOML; `lab` is the interface for programs,
`holder` the process that holds the lab, `wire` its links; `commands` is the command line; `survey`, `layout` and `picture`
draw its present state.
"""

from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run olab with `argv` (the process's arguments when None); returns the exit code."""
    from .commands import main as run

    return run(argv)
