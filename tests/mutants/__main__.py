"""`make mutants`: inserts one small defect at a time into each pure machine, table and codec, and reports those that its tests do not detect.

    make mutants                               all modules (hours)
    make mutants ARGS='life flow lsdb'         those whose path has one of these words in it

Each survivor is printed with its name. A survivor without an observable effect belongs into `equivalent.txt`, with a reason;
every other one shows a missing test. Exit code 1 if there are any.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from .runner import Runner, preload
from .targets import TARGETS

EQUIVALENT = Path(__file__).with_name("equivalent.txt")


def equivalent() -> set[tuple[str, str]]:
    """Mutations that change nothing, by module and name: of each block in the file the line that is not indented, and those that are."""
    found, module = set(), ""
    for line in EQUIVALENT.read_text().splitlines():
        text = line.partition("  # ")[0].rstrip()
        if text and not text.startswith("#"):
            if text[0] == " ":
                found.add((module, text.strip()))
            else:
                module = text
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="make mutants", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("words", nargs="*", help="modules whose path has one of these in it")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="how many at a time")
    parser.add_argument("--list", action="store_true", help="show the mutations, and try none")
    options = parser.parse_args()
    chosen = [
        target for target in TARGETS if not options.words or any(w in target.path for w in options.words)
    ]
    if not chosen:
        parser.error(f"no module has one of {' '.join(options.words)} in its path")
    preload()
    known, total, missed = equivalent(), 0, 0
    for target in chosen:
        runner = Runner(target, jobs=options.jobs)
        if options.list:
            print(*(f"{target.path}:{one.line}  {one.name}" for one in runner.mutations), sep="\n")
            continue
        begin, survived, count = time.monotonic(), 0, len(runner.mutations)
        for mutation in runner.survivors():
            if (target.path, mutation.name) not in known:
                survived += 1
                print(f"{target.path}:{mutation.line}  {mutation.name}", flush=True)
        print(
            f"{target.path}: {count} mutations, {survived} survived, {time.monotonic() - begin:.0f} s",
            flush=True,
        )
        total, missed = total + count, missed + survived
    if not options.list:
        print(f"{total} mutations, {missed} survived")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
