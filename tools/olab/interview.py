"""Interview: all facts of one system that `survey` needs. `python -m ouroboros_tools.olab.interview`

A short-lived process in the system. It makes the queries of `irm ... --json`, in one process with one connection to the IRMd.
"""

from __future__ import annotations

import contextlib
import io
import json
from typing import Any


def main() -> int:
    """Print IPCPs, flows, and neighbours and status of each IPCP, by its pid, as one JSON object."""
    ipcps = _irm("ipcp", "list")["ipcps"]
    answers: dict[str, Any] = {
        "ipcps": ipcps,
        "flows": _irm("flow", "list")["flows"],
        "neighbours": {},
        "status": {},
    }
    for ipcp in ipcps:
        # Not every type has every readout.
        for what in ("neighbours", "status"):
            rows = _irm("ipcp", what, "name", ipcp["name"], needed=False).get(what, [])
            answers[what][str(ipcp["pid"])] = rows
    print(json.dumps(answers))
    return 0


def _irm(*words: str, needed: bool = True) -> dict[str, Any]:
    from ..irm.main import main as irm

    text, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.redirect_stderr(errors):
        code = irm([*words, "--json"])
    if code == 0:
        found: dict[str, Any] = json.loads(text.getvalue())
        return found
    if needed:
        raise SystemExit(f"irm {' '.join(words)}: {errors.getvalue().strip()}")
    return {}


if __name__ == "__main__":
    raise SystemExit(main())
