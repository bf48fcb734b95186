"""Run simulated layers.

python -m tests.sim --seed 17            one run, the same every time
python -m tests.sim --seeds 100          the runs 0 to 99
python -m tests.sim --seed 1 --members 300
"""

from __future__ import annotations

import argparse
import sys
from time import perf_counter

from .invariants import Violated
from .scenario import Scenario


def main(argv: list[str] | None = None) -> int:
    """0 when every invariant held in every run."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description="Run simulated unicast layers.")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--seed", type=int, help="this run only")
    which.add_argument("--seeds", type=int, default=100, help="runs 0 to N-1 (100)", metavar="N")
    parser.add_argument("--members", type=int, help="members at the start; otherwise the seed says")
    options = parser.parse_args(argv)
    failed = 0
    for seed in [options.seed] if options.seed is not None else range(options.seeds):
        begin = perf_counter()
        try:
            report = Scenario(seed, members=options.members).run()
        except Violated as violated:
            failed += 1
            again = f" --members {options.members}" if options.members else ""
            print(f"seed {seed}: {violated}\n    again: python -m tests.sim --seed {seed}{again}", flush=True)
        else:
            print(f"{report}; took {perf_counter() - begin:.2f} s", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
