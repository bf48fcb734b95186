"""`make demo`: the networks of the paper at work, as any user, and nothing left of them afterwards.

    make demo                          both networks of paper 5.10, and a ping that survives the loss of links
    make demo ARGS='unicast cut'       only these scenes; there are: unicast broadcast cut listing5 system

Every line with a `$` is a command; the word before the `$` names the system where it is typed. Three systems on one
machine need network namespaces; the scene `system` needs nothing. Pictures are drawn into demo/pictures. Exit code 0 when
everything worked; otherwise the logs are shown.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Sequence
from types import FrameType

from stage import DemoFailure, Stage

Scene = Callable[[Stage], None]
DEFAULT = ("unicast", "broadcast", "cut")


def scenes() -> dict[str, Scene]:
    from networks import broadcast, cut, listing5, unicast
    from one_system import one_system

    return {
        "unicast": unicast,
        "broadcast": broadcast,
        "cut": cut,
        "listing5": listing5,
        "system": one_system,
    }


def on_signal(number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt(signal.Signals(number).name)


def main(wanted: Sequence[Scene]) -> int:
    """Play the scenes; returns the exit code."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, on_signal)
    begin = time.monotonic()
    with Stage() as stage:
        try:
            for scene in wanted:
                scene(stage)
        except DemoFailure as failure:
            print(f"\nThe demo failed: {failure}.", file=sys.stderr)
            stage.show_logs()
            return 1
        except KeyboardInterrupt:
            print("\nStopped.", file=sys.stderr)
            return 130
    print(
        f"\nThe demo is done after {time.monotonic() - begin:.0f} s, and none of its programs runs any more."
    )
    pictures = sorted(stage.pictures.glob("*.svg"))
    if pictures:
        print(f"Pictures: {' '.join(str(path) for path in pictures)}")
    print("docs/howto/lab.md goes on from here; docs/tutorial.md begins at the beginning.")
    return 0


if __name__ == "__main__":
    known = scenes()
    names = sys.argv[1:] or DEFAULT
    unknown = [name for name in names if name not in known]
    if unknown:
        sys.exit(f'demo: there is no scene "{unknown[0]}"; there are: {" ".join(known)}')
    sys.exit(main([known[name] for name in names]))
