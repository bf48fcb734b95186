"""The text for a flow that is down."""

from __future__ import annotations

from errno import ENOMEM
from types import SimpleNamespace

import pytest

from ouroboros import library
from ouroboros.errors import EFLOWDOWN, EFLOWPEER

REAL = library.lib


@pytest.mark.parametrize(
    ("why", "orphan", "text"),
    [
        (REAL.END_DOWN, False, "its peer has left"),
        (REAL.END_DOWN | REAL.END_LINK, False, "the link of its layer is down"),
        (REAL.END_DOWN | REAL.END_LINK, True, "start it with `irmd`"),
        (REAL.END_DOWN | REAL.END_LINK | REAL.END_PEER, False, "does not answer any more"),
        (REAL.END_DOWN, True, "start it with `irmd`"),
        # Flows learn that the IRMd has gone one after the other, and only then the process says so.
        (REAL.END_DOWN | REAL.DOWN_IRMD, False, "start it with `irmd`"),
        (REAL.END_DOWN | REAL.DOWN_UNACKNOWLEDGED, False, "has not acknowledged"),
        (REAL.END_DOWN | REAL.DOWN_PEER_CORRUPT, False, "invalid index"),
        (REAL.END_DECLARED, False, "declared it down"),
        (REAL.END_PEER, False, "does not answer any more"),
    ],
)
def test_why_a_flow_is_down(why: int, orphan: bool, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {name: getattr(REAL, name) for name in dir(REAL) if name.startswith(("END_", "DOWN_"))}
    fake = SimpleNamespace(
        process_is_orphan=lambda process: orphan, flow_down_cause=lambda handle: why, **names
    )
    monkeypatch.setattr(library, "lib", fake)
    of = SimpleNamespace(process=None)
    assert text in library.Library.explain(of, EFLOWPEER if why & REAL.END_PEER else EFLOWDOWN, 64, None)  # type: ignore[arg-type]
    assert library.Library.explain(of, ENOMEM, 64, None) == ""  # type: ignore[arg-type]
