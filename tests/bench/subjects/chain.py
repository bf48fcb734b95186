"""Chain: the floor of a round trip through processes: a token goes to the last of them and back (`chain.c`)."""

from __future__ import annotations

import os
from pathlib import Path

from tests.bench.subjects.compiled import build

_INTERFACE = "\nint chain_run(int processes, int count, int64_t pause, int64_t *latencies);\n"


def latencies(processes: int, count: int, *, pause: float = 0.0) -> list[int]:
    """Round trips over so many processes, the first of them ours, with a pause (s) before each; ns.

    Raises OSError.
    """
    module = build(Path(__file__).with_name("chain.c"), _INTERFACE)
    samples = module.ffi.new("int64_t[]", count)
    error = module.lib.chain_run(processes, count, int(pause * 1e9), samples)
    if error < 0:
        raise OSError(-error, os.strerror(-error))
    return list(samples)
